// The strips of leaders and faults, and a lane of operations per client.

// --- strips ---

const STRIP = 18;
const stripRows = []; // {name, blocks: [{start, end, colour(), words, tip, open}]}

(function planStrips() {
  if (data.leaders.length) {
    stripRows.push({
      name: "leader",
      blocks: data.leaders.map((leader) => ({
        start: leader.start, end: leader.end, open: false,
        colour: () => colours.node[leader.slot],
        words: `node ${leader.node} · term ${leader.term}`,
        tip: [`Leader: node ${leader.node}, term ${leader.term}`, `seen from ${instant(leader.start)} to ${instant(leader.end)}`],
      })),
    });
  }
  const families = new Map();
  for (const fault of data.faults) {
    // Faults of one family that overlap stand below each other.
    const rows = families.get(fault.family) ?? families.set(fault.family, []).get(fault.family);
    let row = rows.find((candidate) => candidate.at(-1).end <= fault.start);
    if (!row) rows.push((row = []));
    const until = fault.end === null ? "never ended" : `until ${instant(fault.end)} (${duration(fault.end - fault.start)})`;
    row.push({
      start: fault.start, end: fault.end ?? Infinity, open: fault.end === null,
      colour: () => colours.fault[fault.slot],
      words: fault.words || `${fault.kind} ${fault.nodes.join(", ")}`,
      tip: [`${fault.family}: ${fault.words || fault.kind}`, `${fault.kind}, nodes ${fault.nodes.join(", ") || "–"}`, `from ${instant(fault.start)}, ${until}`],
    });
  }
  for (const [name, rows] of families) rows.forEach((blocks, n) => stripRows.push({ name: n ? "" : name, blocks }));
})();

addChart("strips", {
  tall: () => stripRows.length * STRIP + AXIS,
  paint({ ctx, width, height }) {
    const bottom = stripRows.length * STRIP;
    paintGrid(ctx, 0, bottom);
    stripRows.forEach((row, n) => {
      const y = n * STRIP;
      ctx.fillStyle = colours.soft;
      ctx.fillText(row.name, 0, y + STRIP / 2);
      ctx.save();
      clipTime(ctx, height);
      for (const block of row.blocks) {
        if (block.start > view.to || block.end < view.from) continue;
        const x0 = Math.max(xOf(block.start), GUTTER - 4), x1 = Math.min(xOf(Math.min(block.end, runEnd)), GUTTER + timeWidth);
        const wide = Math.max(x1 - x0, 2);
        let fill = block.colour();
        if (block.open) {
          fill = ctx.createLinearGradient(x1 - 46, 0, x1, 0);
          fill.addColorStop(0, block.colour());
          fill.addColorStop(1, "transparent");
        }
        ctx.fillStyle = fill;
        ctx.beginPath();
        ctx.roundRect(x0 + 0.5, y + 1.5, Math.max(wide - 1, 1.5), STRIP - 4, 2.5);
        ctx.fill();
        if (wide > 40) {
          ctx.fillStyle = colours.paper;
          ctx.fillText(fitted(ctx, block.words, wide - 12), Math.max(x0, GUTTER) + 6, y + STRIP / 2);
        }
      }
      ctx.restore();
    });
    paintTimes(ctx, bottom);
  },
  hit(chart, x, y) {
    const row = stripRows[Math.floor(y / STRIP)];
    const t = timeAt(x), slack = perPixel() * 3;
    const block = row?.blocks.find((candidate) => candidate.start - slack <= t && t <= candidate.end + slack);
    return block ? { words: block.tip } : null;
  },
});

// --- lanes ---

const ROW = 24;
const LANES_TALL = 620; // as in the style sheet: above it the lanes scroll
const HEIGHTS = [13, 13, 17, 17]; // trouble is taller than success
const WORST = [0, 1, 2, 3]; // which outcome a crowded column of pixels shows: the one to look at first

const lanesScroll = byId("lanes-scroll");
const lanesTall = data.lanes.length * ROW;

function paintOperation(ctx, i, y, x0, x1) {
  const tall = HEIGHTS[outcome[i]], top = y + (ROW - tall) / 2, wide = x1 - x0;
  const colour = colours.outcome[outcome[i]];
  if (outcome[i] === UNKNOWN) {
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.6;
    const tip = Math.min(5, wide / 2);
    ctx.beginPath();
    ctx.moveTo(x1 - tip, top + 1.5);
    ctx.lineTo(x0 + 1, top + 1.5);
    ctx.lineTo(x0 + 1, top + tall - 1.5);
    ctx.lineTo(x1 - tip, top + tall - 1.5);
    if (wide > 7) {
      ctx.moveTo(x1 - tip, top - 0.5);
      ctx.lineTo(x1, top + tall / 2);
      ctx.lineTo(x1 - tip, top + tall + 0.5);
    }
    ctx.stroke();
  } else if (outcome[i] === REJECTED) {
    ctx.fillStyle = colours.paper;
    ctx.fillRect(x0, top, wide, tall);
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(x0 + 0.75, top + 0.75, Math.max(wide - 1.5, 0.5), tall - 1.5);
  } else {
    ctx.fillStyle = colour;
    ctx.fillRect(x0, top, wide, tall);
    if (outcome[i] === FAIL && wide > 5) {
      ctx.strokeStyle = colours.paper;
      ctx.lineWidth = 1.5;
      ctx.beginPath();
      for (let x = x0 + 3; x < Math.min(x1, x0 + 30) - 1; x += 7) {
        ctx.moveTo(x - 2, top + tall);
        ctx.lineTo(x + 3, top);
      }
      ctx.stroke();
    }
  }
  if (wide > 44) {
    const from = Math.max(x0, GUTTER) + (outcome[i] === FAIL ? 34 : 5);
    const solid = outcome[i] === OK || outcome[i] === FAIL;
    ctx.fillStyle = solid ? colours.paper : colours.ink;
    const room = Math.min(x1, GUTTER + timeWidth) - from - 8;
    const words = room > 150 ? `${columns.asked[i]} → ${answer(i)}` : data.kinds[kind[i]];
    if (room > 24) ctx.fillText(fitted(ctx, words, room), from, y + ROW / 2 + 0.5);
  }
}

function paintLane(ctx, list, y) {
  let column = -1, worst = -1, clear = false; // the crowded column being gathered
  const flush = () => {
    if (column < 0) return;
    const tall = HEIGHTS[worst];
    ctx.globalAlpha = clear ? 1 : 0.16;
    ctx.fillStyle = colours.outcome[worst];
    const top = y + (ROW - tall) / 2;
    if (worst === REJECTED) { // hollow, as far as one pixel can be
      ctx.fillRect(column, top, 1, 3.5);
      ctx.fillRect(column, top + tall - 3.5, 1, 3.5);
    } else {
      ctx.fillRect(column, top, 1, tall);
    }
    column = -1;
  };
  let n = firstFrom(list, view.from);
  while (n > 0 && end[list[n - 1]] >= view.from) n--;
  for (; n < list.length && call[list[n]] <= view.to; n++) {
    const i = list[n];
    if (!shown[i]) continue;
    const x0 = xOf(call[i]), x1 = xOf(end[i]);
    const lit = !dimmed(i);
    if (x1 - x0 < 2) {
      const at = Math.floor(x0);
      if (at !== column) {
        flush();
        column = at;
        worst = outcome[i];
        clear = lit;
      } else if (lit && !clear) {
        worst = outcome[i];
        clear = true;
      } else if (lit === clear && WORST[outcome[i]] > WORST[worst]) {
        worst = outcome[i];
      }
      continue;
    }
    flush();
    ctx.globalAlpha = lit ? 1 : 0.16;
    paintOperation(ctx, i, y, Math.max(x0, GUTTER - 6), Math.min(x1, GUTTER + timeWidth + 8));
  }
  flush();
  ctx.globalAlpha = 1;
}

function frame(ctx, i, y, colour, flag) {
  if (end[i] < view.from || call[i] > view.to) return;
  const x0 = Math.max(xOf(call[i]), GUTTER - 9) - 2.5, x1 = Math.min(xOf(end[i]), GUTTER + timeWidth + 9) + 2.5;
  ctx.strokeStyle = ctx.fillStyle = colour;
  ctx.lineWidth = 2;
  ctx.strokeRect(x0, y + 1.5, Math.max(x1 - x0, 7), ROW - 3);
  if (flag) {
    ctx.beginPath();
    ctx.moveTo(x0 - 1, y + 0.5);
    ctx.lineTo(x0 + 11, y + 0.5);
    ctx.lineTo(x0 - 1, y + 10.5);
    ctx.fill();
  }
}

let pinned = -1, hovered = -1;

const lanesChart = addChart("lanes", {
  tall: () => Math.min(lanesTall, LANES_TALL),
  paint({ ctx, height }) {
    const offset = lanesScroll.scrollTop;
    paintBands(ctx, 0, height);
    paintGrid(ctx, 0, height);
    const first = Math.floor(offset / ROW), last = Math.min(Math.ceil((offset + height) / ROW), data.lanes.length);
    for (let n = first; n < last; n++) {
      const y = n * ROW - offset;
      ctx.fillStyle = filters.lane >= 0 && filters.lane !== n ? colours.faint : colours.soft;
      ctx.fillText(data.lanes[n], 0, y + ROW / 2);
      ctx.strokeStyle = colours.line;
      ctx.lineWidth = 1;
      ctx.beginPath();
      ctx.moveTo(0, Math.round(y + ROW) - 0.5);
      ctx.lineTo(GUTTER + timeWidth, Math.round(y + ROW) - 0.5);
      ctx.stroke();
      ctx.save();
      clipTime(ctx, height);
      paintLane(ctx, laneOperations[n], y);
      ctx.restore();
    }
  },
  marks({ front: ctx, height }) {
    const offset = lanesScroll.scrollTop;
    ctx.save();
    clipTime(ctx, height);
    for (const i of data.core) frame(ctx, i, lane[i] * ROW - offset, colours.arrow, true);
    if (hovered >= 0) frame(ctx, hovered, lane[hovered] * ROW - offset, colours.soft, false);
    if (pinned >= 0) frame(ctx, pinned, lane[pinned] * ROW - offset, colours.ink, false);
    ctx.restore();
  },
  // The operation under the pointer; where several are, the most remarkable one, and how many others.
  hit(chart, x, y) {
    const list = laneOperations[Math.floor((y + lanesScroll.scrollTop) / ROW)];
    if (!list || x < GUTTER) return null;
    const reach = 4 * perPixel(), t = timeAt(x);
    let best = -1, bestScore = Infinity, others = -1;
    let n = firstFrom(list, t - reach);
    while (n > 0 && end[list[n - 1]] >= t - reach) n--;
    for (; n < list.length && call[list[n]] <= t + reach; n++) {
      const i = list[n];
      if (!shown[i]) continue;
      others++;
      const away = Math.max(call[i] - t, t - end[i], 0) / perPixel();
      const score = away - 1.5 * WORST[outcome[i]] - (isCore[i] ? 20 : 0) - (found && found[i] ? 10 : 0);
      if (score < bestScore) { best = i; bestScore = score; }
    }
    return best < 0 ? null : { operation: best, others };
  },
});
