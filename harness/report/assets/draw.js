// Canvases that share one time axis, and what every chart has in common: grid, fault bands, leader changes.
// A chart is painted only when something has changed, at most once per frame, and only what is in view. Each has a
// ground (everything that depends on the view and the filters), kept on a canvas of its own, and a thin layer of marks
// (hover, pin, selection) above it: moving the pointer over 100,000 operations copies one picture.

const GUTTER = 96; // room for names and scales left of the time axis
const RIGHT = 12;
const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";

const charts = [];
const byId = (id) => document.getElementById(id);

// --- colours come from the style sheet, so that the page and the canvases agree, light, dark and on paper ---

let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(`--${name}`).trim();
  const palette = (name) => Array.from({ length: 8 }, (_, i) => get(`${name}-${i}`));
  colours = {
    ink: get("ink"), soft: get("soft"), faint: get("faint"), line: get("line"), strong: get("line-strong"),
    paper: get("paper"), card: get("card"), arrow: get("arrow"), focus: get("focus"), shade: Number(get("shade")),
    outcome: [get("ok"), get("rejected"), get("fail"), get("unknown")],
    fault: palette("fault"), node: palette("node"), kind: palette("kind"),
  };
  hatches = new Map();
}

let hatches = new Map();

// Patterns that tell the outcomes apart without colour: rejected dotted, fail cut, unknown striped upright.
function fillFor(ctx, which) {
  if (which === OK) return colours.outcome[OK];
  if (!hatches.has(which)) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const t = tile.getContext("2d");
    t.fillStyle = which === REJECTED ? colours.card : colours.outcome[which];
    t.fillRect(0, 0, 6, 6);
    t.strokeStyle = t.fillStyle = which === REJECTED ? colours.outcome[REJECTED] : colours.card;
    t.lineWidth = 1.4;
    if (which === REJECTED) {
      t.fillRect(0, 0, 3, 3);
      t.fillRect(3, 3, 3, 3);
    } else {
      t.beginPath();
      if (which === FAIL) { t.moveTo(-1, 7); t.lineTo(7, -1); } else { t.moveTo(3, 0); t.lineTo(3, 6); }
      t.stroke();
    }
    hatches.set(which, ctx.createPattern(tile, "repeat"));
  }
  return hatches.get(which);
}

// --- charts ---

// tall() in pixels; paint(chart) draws the ground on chart.ctx, marks(chart) what lies above it on chart.front;
// hit(chart, x, y) -> {operation, others} or {words: [...]} or null
function addChart(id, parts) {
  const canvas = byId(id), ground = document.createElement("canvas");
  const chart = {
    id, canvas, ground, ctx: ground.getContext("2d"), front: canvas.getContext("2d"), width: 0, height: 0,
    x: xOf, time: timeAt, ...parts,
  };
  charts.push(chart);
  return chart;
}

let timeWidth = 600; // pixels of the time axis: the narrowest chart's, so that all axes line up

function fit() {
  const scale = window.devicePixelRatio || 1;
  for (const chart of charts) {
    chart.height = chart.tall();
    chart.canvas.style.height = `${chart.height}px`;
  }
  for (const chart of charts) {
    chart.width = chart.canvas.clientWidth;
    chart.canvas.width = chart.ground.width = Math.round(chart.width * scale);
    chart.canvas.height = chart.ground.height = Math.round(chart.height * scale);
    chart.scale = scale;
  }
  timeWidth = Math.max(Math.min(...charts.map((chart) => chart.width)) - GUTTER - RIGHT, 50);
}

let waiting = false, groundOld = true;

function repaint() {
  groundOld = true;
  repaintMarks();
}

function repaintMarks() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(paintNow);
}

function paintNow() {
  waiting = false;
  for (const chart of charts) {
    if (!chart.width) continue;
    if (groundOld) {
      clear(chart.ctx, chart);
      chart.paint(chart);
    }
    clear(chart.front, chart);
    chart.front.drawImage(chart.ground, 0, 0, chart.width, chart.height);
    chart.marks?.(chart);
    paintSelection(chart.front, chart);
  }
  groundOld = false;
}

function clear(ctx, chart) {
  ctx.setTransform(chart.scale, 0, 0, chart.scale, 0, 0);
  ctx.clearRect(0, 0, chart.width, chart.height);
  ctx.font = FONT;
  ctx.textBaseline = "middle";
  ctx.globalAlpha = 1;
}

const xOf = (t) => GUTTER + ((t - view.from) / (view.to - view.from)) * timeWidth;
const timeAt = (x) => view.from + ((x - GUTTER) / timeWidth) * (view.to - view.from);
const perPixel = () => (view.to - view.from) / timeWidth;

function clipTime(ctx, height) {
  ctx.beginPath();
  ctx.rect(GUTTER, 0, timeWidth, height);
  ctx.clip();
}

// Fault bands, every other term, and a dotted line where the leader changes.
function paintBands(ctx, top, bottom) {
  ctx.save();
  clipTime(ctx, bottom);
  data.leaders.forEach((leader, position) => {
    const x = xOf(leader.start);
    if (position % 2) {
      ctx.globalAlpha = 0.035;
      ctx.fillStyle = colours.ink;
      ctx.fillRect(x, top, xOf(leader.end) - x, bottom - top);
    }
  });
  ctx.globalAlpha = colours.shade;
  for (const fault of data.faults) {
    const x0 = xOf(fault.start);
    ctx.fillStyle = colours.fault[fault.slot];
    ctx.fillRect(x0, top, Math.max(xOf(fault.end ?? runEnd) - x0, 1), bottom - top);
  }
  ctx.globalAlpha = 0.75;
  ctx.strokeStyle = colours.soft;
  ctx.setLineDash([2, 3]);
  ctx.lineWidth = 1;
  for (const leader of data.leaders) {
    const x = Math.round(xOf(leader.start)) + 0.5;
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, bottom);
    ctx.stroke();
  }
  ctx.restore();
}

function timeTicks() {
  const step = roundStep((view.to - view.from) / Math.max(timeWidth / 110, 2));
  const ticks = [];
  for (let n = Math.ceil(view.from / step); n * step <= view.to; n++) ticks.push(n * step);
  return { ticks, step };
}

function paintGrid(ctx, top, bottom) {
  ctx.strokeStyle = colours.line;
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (const tick of timeTicks().ticks) {
    const x = Math.round(xOf(tick)) + 0.5;
    ctx.moveTo(x, top);
    ctx.lineTo(x, bottom);
  }
  ctx.stroke();
}

const AXIS = 22; // height of the row of times

function paintTimes(ctx, top) {
  const { ticks, step } = timeTicks();
  ctx.fillStyle = colours.soft;
  ctx.textAlign = "center";
  for (const tick of ticks) {
    const words = instant(tick, step);
    const half = ctx.measureText(words).width / 2;
    const x = Math.min(Math.max(xOf(tick), GUTTER + half), GUTTER + timeWidth + RIGHT - half);
    ctx.fillText(words, x, top + AXIS / 2 + 1);
  }
  ctx.textAlign = "left";
}

// The stretch that is being chosen with the pointer.
const selection = { from: null, to: null };

function paintSelection(ctx, { x, height }) {
  if (selection.from === null) return;
  const x0 = x(Math.min(selection.from, selection.to)), x1 = x(Math.max(selection.from, selection.to));
  ctx.save();
  clipTime(ctx, height);
  ctx.fillStyle = colours.focus;
  ctx.globalAlpha = 0.16;
  ctx.fillRect(x0, 0, x1 - x0, height);
  ctx.restore();
}

// As much of the words as fits, by measured width.
function fitted(ctx, words, width) {
  if (ctx.measureText(words).width <= width) return words;
  let low = 0, high = words.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (ctx.measureText(`${words.slice(0, middle)}…`).width <= width) low = middle; else high = middle - 1;
  }
  return low > 1 ? `${words.slice(0, low)}…` : "";
}

// First position in the ascending list (of operations, by call) whose call is not before t.
function firstFrom(list, t) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (call[list[middle]] < t) low = middle + 1; else high = middle;
  }
  return low;
}
