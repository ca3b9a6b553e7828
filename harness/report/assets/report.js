// Wiring: pointer, wheel, keys, filters, search, the tooltip and the pinned operation.

// --- tooltip and pinned operation ---

const tip = byId("tip"), panel = byId("pinned");

function element(name, kindOf, words) {
  const made = document.createElement(name);
  if (kindOf) made.className = kindOf;
  if (words !== undefined) made.textContent = words; // never markup: texts in a history come from anywhere
  return made;
}

function describe(i) {
  const facts = [`from ${instant(call[i])}`, ended[i] ? duration(end[i] - call[i]) : "no end in this history"];
  if (outcome[i] === UNKNOWN) facts.push("may take effect at any later time");
  if (columns.node[i]) facts.push(`node ${columns.node[i]}`);
  if (columns.attempts[i] > 1) facts.push(`${columns.attempts[i]} attempts`);
  facts.push(`process ${columns.process[i]}`);
  if (columns.txn[i]) facts.push(`transaction ${columns.txn[i]}`);
  const core = isCore[i] ? " · part of the contradiction" : "";
  return [
    element("div", "head", `#${columns.index[i]} · ${data.lanes[lane[i]]} · ${data.kinds[kind[i]]} · ${data.outcomes[outcome[i]]}${core}`),
    element("div", "", columns.asked[i]),
    element("div", "", `→ ${answer(i)}`),
    element("div", "soft", facts.join(", ")),
  ];
}

function showTip(hit, x, y) {
  if (!hit) { tip.hidden = true; return; }
  const lines = hit.words
    ? hit.words.map((words, n) => element("div", n ? "soft" : "head", words))
    : describe(hit.operation);
  if (hit.others > 0) lines.push(element("div", "soft", `and ${hit.others} more here: zoom in`));
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 12))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(8, y - box.height - 12) : y + 18}px`;
}

const MESSAGES_LISTED = 200; // of one read; a longer list is not read by anybody

function pin(i) {
  pinned = i;
  panel.hidden = i < 0;
  if (i >= 0) {
    const close = element("button", "", "close");
    close.type = "button";
    close.addEventListener("click", () => pin(-1));
    panel.replaceChildren(close, ...describe(i));
    const runs = data.saw[i] ?? [];
    const rows = runs.flatMap(([first, count]) => data.messages.slice(first, first + count));
    if (rows.length) {
      const table = element("table");
      const head = table.insertRow();
      for (const name of ["position", "kind", "author", "text", "transaction", "message id"]) head.append(element("th", "", name));
      for (const [, seq, id, what, author, txn, text] of rows.slice(0, MESSAGES_LISTED)) {
        const row = table.insertRow();
        for (const words of [seq, what, author, text, txn, id]) row.append(element("td", "", String(words)));
      }
      const scroll = element("div", "scroll");
      scroll.append(table);
      if (rows.length > MESSAGES_LISTED) scroll.append(element("p", "soft", `and ${rows.length - MESSAGES_LISTED} more`));
      panel.append(scroll);
    }
    panel.append(element("div", "soft", `In history.jsonl: the record with "index": ${columns.index[i]}.`));
  }
  repaintMarks();
}

function goTo(i) {
  const wide = Math.min(view.to - view.from, Math.max((end[i] - call[i]) * 12, runSpan / 60));
  const middle = (call[i] + Math.min(end[i], call[i] + wide)) / 2;
  const y = lane[i] * ROW;
  if (y < lanesScroll.scrollTop || y + ROW > lanesScroll.scrollTop + lanesChart.height) {
    lanesScroll.scrollTop = y - lanesChart.height / 2;
  }
  setView(middle - wide / 2, middle + wide / 2);
  pin(i);
}

function step(by) {
  if (!foundList.length) return;
  const at = foundList.indexOf(pinned);
  const n = at < 0 ? (by > 0 ? 0 : foundList.length - 1) : (at + by + foundList.length) % foundList.length;
  goTo(foundList[n]);
  showMatches();
}

function showMatches() {
  const at = foundList.indexOf(pinned);
  const place = at < 0 ? "" : `${at + 1} of `;
  byId("matches").textContent = found ? `${place}${foundList.length.toLocaleString("en")} found` : "";
  byId("previous").hidden = byId("next").hidden = !foundList.length;
}

// --- pointer ---

const DRAG_MIN = 4; // pixels: below, it was a click

for (const chart of charts) {
  const { canvas } = chart;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  let drag = null; // {x, time, moving, from, to}

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const { x } = place(event);
    if (x < GUTTER) return;
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const time = chart.time(x);
    const whole = view.to - view.from >= runSpan;
    const grabbed = chart.id === "overview" && !whole && time > view.from && time < view.to;
    drag = { x, time, moving: event.shiftKey || grabbed, from: view.from, to: view.to };
    showTip(null);
  });
  canvas.addEventListener("pointermove", (event) => {
    const { x, y } = place(event);
    if (drag) {
      if (drag.moving) {
        const pixels = (x - drag.x) / timeWidth;
        const by = chart.id === "overview" ? pixels * runSpan : -pixels * (drag.to - drag.from);
        const bounded = Math.min(Math.max(by, runStart - drag.from), runEnd - drag.to);
        setView(drag.from + bounded, drag.to + bounded);
      } else if (Math.abs(x - drag.x) >= DRAG_MIN) {
        const inside = (t) => Math.min(Math.max(t, runStart), runEnd);
        selection.from = inside(drag.time);
        selection.to = inside(chart.time(x));
        repaintMarks();
      }
      return;
    }
    const hit = chart.hit(chart, x, y);
    const over = hit?.operation ?? -1;
    if (over !== hovered) { hovered = over; repaintMarks(); }
    canvas.style.cursor = over >= 0 ? "pointer" : "";
    showTip(hit, event.clientX, event.clientY);
  });
  const release = (event, cancelled) => {
    if (!drag) return;
    const { x, y } = place(event);
    const chosen = selection.from !== null;
    const from = Math.min(selection.from, selection.to), to = Math.max(selection.from, selection.to);
    const { moving } = drag;
    drag = null;
    selection.from = selection.to = null;
    if (chosen && !cancelled) setView(from, to);
    else if (!moving && !cancelled) {
      const hit = chart.hit(chart, x, y);
      if (hit?.operation !== undefined) pin(hit.operation === pinned ? -1 : hit.operation);
    }
    repaintMarks();
  };
  canvas.addEventListener("pointerup", (event) => release(event, false));
  canvas.addEventListener("pointercancel", (event) => release(event, true));
  canvas.addEventListener("pointerleave", () => {
    showTip(null);
    if (hovered >= 0) { hovered = -1; repaintMarks(); }
  });
  canvas.addEventListener("dblclick", () => setView(runStart, runEnd));
  canvas.addEventListener("wheel", (event) => {
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (sideways) {
      event.preventDefault();
      move(event.deltaX / timeWidth);
    } else if (event.ctrlKey || document.activeElement === canvas) {
      event.preventDefault(); // the page scrolls otherwise: a reader who only passes by is not held up
      const { x } = place(event);
      zoom(Math.exp(Math.min(Math.max(event.deltaY, -200), 200) * 0.003), chart.id === "overview" ? undefined : timeAt(Math.max(x, GUTTER)));
    }
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), "+": () => zoom(0.6), "=": () => zoom(0.6),
      "-": () => zoom(1 / 0.6), 0: () => setView(runStart, runEnd), Home: () => setView(runStart, runStart + view.to - view.from),
      End: () => setView(runEnd - (view.to - view.from), runEnd), n: () => step(1), p: () => step(-1), Escape: () => pin(-1),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

// --- controls ---

for (const group of document.querySelectorAll("[data-filter]")) {
  const chosen = filters[group.dataset.filter];
  group.addEventListener("change", (event) => {
    const number = Number(event.target.value);
    if (event.target.checked) chosen.add(number); else chosen.delete(number);
    applyFilters();
    showMatches();
  });
}
for (const name of ["chat", "lane"]) {
  byId(`filter-${name}`).addEventListener("change", (event) => {
    filters[name] = event.target.value === "" ? -1 : Number(event.target.value);
    applyFilters();
    showMatches();
  });
}

const SEARCH_AFTER_MS = 150; // after the last key: typing stays fluent with 100,000 texts
let typed = 0;
byId("search").addEventListener("input", (event) => {
  clearTimeout(typed);
  typed = setTimeout(() => { search(event.target.value); showMatches(); }, SEARCH_AFTER_MS);
});
byId("search").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  clearTimeout(typed);
  if (!found) search(event.target.value);
  step(event.shiftKey ? -1 : 1);
  showMatches();
});
byId("next").addEventListener("click", () => step(1));
byId("previous").addEventListener("click", () => step(-1));
byId("zoom-in").addEventListener("click", () => zoom(0.5));
byId("zoom-out").addEventListener("click", () => zoom(2));
byId("zoom-all").addEventListener("click", () => setView(runStart, runEnd));
byId("to-core")?.addEventListener("click", () => {
  const from = Math.min(...data.core.map((i) => call[i])), to = Math.max(...data.core.map((i) => end[i]));
  const padding = Math.max((to - from) * 0.25, 1000);
  setView(from - padding, to + padding);
});

// --- size, colours, paper ---

byId("lanes-full").style.height = `${lanesTall}px`;
lanesScroll.addEventListener("scroll", repaint);

function refresh() {
  readColours();
  fit();
  repaint();
}

addEventListener("resize", refresh);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
addEventListener("beforeprint", () => {
  document.documentElement.classList.add("printing");
  readColours();
  fit();
  groundOld = true;
  paintNow();
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("printing");
  refresh();
});
refresh();
