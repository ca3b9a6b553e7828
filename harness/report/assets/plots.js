// The overview above everything, latency over time, and throughput over time.

// --- operations that ended, per bin and outcome ---

function endsPerBin(from, to, bins) {
  const counts = data.outcomes.map(() => new Float64Array(bins));
  const perBin = (to - from) / bins;
  for (let i = 0; i < total; i++) {
    if (!shown[i] || !ended[i] || end[i] < from || end[i] > to) continue;
    counts[outcome[i]][Math.min(Math.floor((end[i] - from) / perBin), bins - 1)]++;
  }
  return counts;
}

// --- overview: the whole run, with a window on what is shown below ---

const overview = { tall: 44, key: "", counts: null, bins: 0 };
const overviewX = (t) => GUTTER + ((t - runStart) / runSpan) * timeWidth;
const overviewTime = (x) => runStart + Math.min(Math.max((x - GUTTER) / timeWidth, 0), 1) * runSpan;

addChart("overview", {
  x: overviewX,
  time: overviewTime,
  tall: () => overview.tall,
  paint({ ctx, height }) {
    const bins = Math.max(Math.floor(timeWidth / 3), 10), key = `${bins} ${version}`;
    if (overview.key !== key) {
      overview.key = key;
      overview.counts = endsPerBin(runStart, runEnd, bins);
    }
    const { counts } = overview;
    let top = 1;
    for (let b = 0; b < bins; b++) top = Math.max(top, counts[OK][b] + counts[REJECTED][b] + counts[FAIL][b] + counts[UNKNOWN][b]);
    ctx.fillStyle = colours.soft;
    ctx.fillText("whole run", 0, height / 2 + 3);
    ctx.globalAlpha = colours.shade * 1.6;
    for (const fault of data.faults) {
      ctx.fillStyle = colours.fault[fault.slot];
      ctx.fillRect(overviewX(fault.start), 0, Math.max(overviewX(fault.end ?? runEnd) - overviewX(fault.start), 1), height);
    }
    ctx.globalAlpha = 1;
    const wide = timeWidth / bins, room = height - 8;
    for (let b = 0; b < bins; b++) {
      const good = ((counts[OK][b] + counts[REJECTED][b]) / top) * room, bad = ((counts[FAIL][b] + counts[UNKNOWN][b]) / top) * room;
      ctx.fillStyle = colours.faint;
      ctx.fillRect(GUTTER + b * wide, height - good, Math.max(wide - 0.6, 0.6), good);
      if (bad > 0) {
        ctx.fillStyle = colours.outcome[UNKNOWN];
        ctx.fillRect(GUTTER + b * wide, height - good - Math.max(bad, 1.5), Math.max(wide - 0.6, 1), Math.max(bad, 1.5));
      }
    }
    for (const i of data.core) {
      const x = overviewX(call[i]);
      ctx.fillStyle = colours.arrow;
      ctx.beginPath();
      ctx.moveTo(x - 5, 0);
      ctx.lineTo(x + 5, 0);
      ctx.lineTo(x, 8);
      ctx.fill();
      ctx.fillRect(x - 0.5, 0, 1, height);
    }
    const x0 = overviewX(view.from), x1 = overviewX(view.to);
    ctx.globalAlpha = 0.72;
    ctx.fillStyle = colours.paper;
    ctx.fillRect(GUTTER, 0, x0 - GUTTER, height);
    ctx.fillRect(x1, 0, GUTTER + timeWidth - x1, height);
    ctx.globalAlpha = 1;
    ctx.strokeStyle = colours.soft;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(x0 + 0.75, 0.75, Math.max(x1 - x0 - 1.5, 2), height - 1.5);
  },
  hit: () => null,
});

// --- latency ---

const LATENCY_TALL = 320;
const BIN_PIXELS = 16; // width of a bin of the quantile lines, when there are enough operations
const BIN_OPERATIONS = 20; // fewer than this on average and the bins get wider: a quantile of three is noise
const QUANTILES = [ // as in page.py
  { share: 0.5, width: 2.2, dash: [] },
  { share: 0.95, width: 1.8, dash: [7, 3] },
  { share: 0.99, width: 1.5, dash: [2, 3] },
  { share: 1, width: 0.9, dash: [] },
];

const decades = (() => { // the scale is that of the whole run, so that zooming does not move the points
  let low = Infinity, high = 0;
  for (let i = 0; i < total; i++) {
    if (!ended[i]) continue;
    low = Math.min(low, Math.max(end[i] - call[i], 1));
    high = Math.max(high, end[i] - call[i]);
  }
  if (!high) return { low: 2, high: 6 };
  const from = Math.floor(Math.log10(low)), to = Math.ceil(Math.log10(high));
  return { low: from, high: Math.max(to, from + 1) };
})();
const latencyY = (us) => {
  const inside = LATENCY_TALL - AXIS - 12;
  return 6 + inside * (1 - (Math.log10(Math.max(us, 1)) - decades.low) / (decades.high - decades.low));
};
const byCall = Uint32Array.from({ length: total }, (_, i) => i); // operations are in the order of their calls

function paintPoint(ctx, i, x, y, r) {
  switch (outcome[i]) {
    case OK:
      ctx.fillRect(x - r * 0.85, y - r * 0.85, r * 1.7, r * 1.7);
      return;
    case REJECTED:
      ctx.beginPath();
      ctx.moveTo(x, y - r - 1.5);
      ctx.lineTo(x + r + 1.5, y);
      ctx.lineTo(x, y + r + 1.5);
      ctx.lineTo(x - r - 1.5, y);
      ctx.closePath();
      break;
    case FAIL:
      ctx.beginPath();
      ctx.moveTo(x - r - 1, y - r - 1);
      ctx.lineTo(x + r + 1, y + r + 1);
      ctx.moveTo(x + r + 1, y - r - 1);
      ctx.lineTo(x - r - 1, y + r + 1);
      break;
    default:
      ctx.beginPath();
      ctx.moveTo(x, y - r - 2);
      ctx.lineTo(x + r + 2, y + r + 1);
      ctx.lineTo(x - r - 2, y + r + 1);
      ctx.closePath();
  }
  ctx.stroke();
}

function paintRing(ctx, i, colour) {
  if (!ended[i] || call[i] < view.from || call[i] > view.to) return;
  ctx.strokeStyle = colour;
  ctx.lineWidth = 2;
  ctx.beginPath();
  ctx.arc(xOf(call[i]), latencyY(end[i] - call[i]), 7, 0, 7);
  ctx.stroke();
}

addChart("latency", {
  tall: () => LATENCY_TALL,
  paint({ ctx, height }) {
    const bottom = height - AXIS;
    paintBands(ctx, 0, bottom);
    paintGrid(ctx, 0, bottom);
    ctx.textAlign = "right";
    for (let d = decades.low; d <= decades.high; d++) {
      const y = Math.round(latencyY(10 ** d)) + 0.5;
      ctx.strokeStyle = colours.strong;
      ctx.beginPath();
      ctx.moveTo(GUTTER, y);
      ctx.lineTo(GUTTER + timeWidth, y);
      ctx.stroke();
      ctx.fillStyle = colours.soft;
      const words = d < 3 ? `${10 ** d} µs` : d < 6 ? `${10 ** (d - 3)} ms` : `${10 ** (d - 6)} s`;
      ctx.fillText(words, GUTTER - 8, Math.min(Math.max(y, 7), bottom - 6));
    }
    ctx.textAlign = "left";
    ctx.save();
    clipTime(ctx, bottom);
    paintPoints(ctx, bottom);
    paintQuantiles(ctx);
    ctx.restore();
    paintTimes(ctx, bottom);
  },
  marks({ front: ctx, height }) {
    ctx.save();
    clipTime(ctx, height - AXIS);
    for (const i of data.core) paintRing(ctx, i, colours.arrow);
    if (hovered >= 0) paintRing(ctx, hovered, colours.soft);
    if (pinned >= 0) paintRing(ctx, pinned, colours.ink);
    ctx.restore();
  },
  hit(chart, x, y) {
    if (x < GUTTER) return null;
    const reach = 7 * perPixel(), t = timeAt(x);
    let best = -1, bestAway = 7;
    for (let i = firstFrom(byCall, t - reach); i < total && call[i] <= t + reach; i++) {
      if (!shown[i] || !ended[i]) continue;
      const away = Math.hypot(xOf(call[i]) - x, latencyY(end[i] - call[i]) - y) - (isCore[i] ? 3 : 0);
      if (away < bestAway) { best = i; bestAway = away; }
    }
    return best < 0 ? null : { operation: best, others: 0 };
  },
});

// At most one point per outcome and two-by-two pixels; plain answers first, trouble on top. Colours are set only when
// they change: setting them costs more than drawing.
function paintPoints(ctx, bottom) {
  const first = firstFrom(byCall, view.from), last = firstFrom(byCall, view.to);
  const r = last - first < 3000 ? 2.6 : last - first < 30000 ? 1.9 : 1.3;
  const cells = Math.ceil(timeWidth / 2) + 1, rows = Math.ceil(bottom / 2) + 1;
  const taken = new Uint8Array(cells * rows);
  ctx.lineWidth = 1.4;
  for (const troubled of [false, true]) {
    let colour = -1, bright = null;
    for (let i = first; i < last; i++) {
      if (!shown[i] || !ended[i] || (outcome[i] !== OK) !== troubled) continue;
      const x = xOf(call[i]), y = latencyY(end[i] - call[i]);
      const cell = (Math.max(y, 0) >> 1) * cells + ((x - GUTTER) >> 1);
      const lit = !dimmed(i), mark = 1 << (outcome[i] + (lit ? 0 : 4));
      if (taken[cell] & mark) continue;
      taken[cell] |= mark;
      if (lit !== bright) {
        bright = lit;
        ctx.globalAlpha = lit ? (troubled ? 0.95 : 0.7) : 0.18;
      }
      if (kind[i] !== colour) {
        colour = kind[i];
        ctx.fillStyle = ctx.strokeStyle = colours.kind[colour % 8];
      }
      paintPoint(ctx, i, x, y, r);
    }
  }
  ctx.globalAlpha = 1;
}

let quantileKey = "", quantileBins = [];

function quantiles() {
  const key = `${view.from} ${view.to} ${timeWidth} ${version}`;
  if (key === quantileKey) return quantileBins;
  quantileKey = key;
  const first = firstFrom(byCall, view.from);
  const inView = [];
  for (let i = first; i < total && call[i] <= view.to; i++) {
    if (shown[i] && (outcome[i] === OK || outcome[i] === REJECTED)) inView.push(i);
  }
  const bins = Math.max(1, Math.min(Math.floor(timeWidth / BIN_PIXELS), Math.floor(inView.length / BIN_OPERATIONS)));
  const wide = (view.to - view.from) / bins;
  const groups = Array.from({ length: bins }, () => []);
  for (const i of inView) groups[Math.min(Math.floor((call[i] - view.from) / wide), bins - 1)].push(end[i] - call[i]);
  quantileBins = groups.map((group, b) => {
    const sorted = Float64Array.from(group).sort();
    return {
      from: view.from + b * wide, to: view.from + (b + 1) * wide,
      values: sorted.length ? QUANTILES.map(({ share }) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]) : null,
    };
  });
  return quantileBins;
}

function paintQuantiles(ctx) {
  const bins = quantiles();
  ctx.lineJoin = "round";
  QUANTILES.forEach(({ width, dash }, q) => {
    for (const [colour, extra, dashes] of [[colours.paper, 2.4, []], [colours.ink, 0, dash]]) {
      ctx.strokeStyle = colour;
      ctx.globalAlpha = extra ? 0.6 : 0.9;
      ctx.lineWidth = width + extra;
      ctx.setLineDash(dashes);
      ctx.beginPath();
      let drawing = false;
      for (const bin of bins) {
        if (!bin.values) { drawing = false; continue; }
        const y = latencyY(bin.values[q]), x = xOf((bin.from + bin.to) / 2);
        if (drawing) ctx.lineTo(x, y);
        else if (bins.length === 1) { ctx.moveTo(xOf(bin.from), y); ctx.lineTo(xOf(bin.to), y); }
        else ctx.moveTo(x, y);
        drawing = true;
      }
      ctx.stroke();
    }
  });
  ctx.setLineDash([]);
  ctx.globalAlpha = 1;
}

// --- throughput ---

const RATE_TALL = 190;

addChart("rate", {
  tall: () => RATE_TALL,
  paint(chart) {
    const { ctx, height } = chart;
    const bottom = height - AXIS, room = bottom - 10;
    const step = roundStep(((view.to - view.from) / timeWidth) * 7);
    const first = Math.floor(view.from / step), last = Math.ceil(view.to / step);
    const bins = Math.max(last - first, 1);
    const counts = endsPerBin(first * step, last * step, bins);
    let top = 0;
    for (let b = 0; b < bins; b++) {
      let sum = 0;
      for (const column of counts) sum += column[b];
      top = Math.max(top, sum);
    }
    const perSecond = 1e6 / step, most = Math.max(top * perSecond, 1), grid = roundStep(most / 4);
    const y = (rate) => bottom - (rate / most) * room;
    paintBands(ctx, 0, bottom);
    paintGrid(ctx, 0, bottom);
    for (let rate = 0; rate <= most; rate += grid) {
      const at = Math.round(y(rate)) + 0.5;
      ctx.strokeStyle = rate ? colours.line : colours.strong;
      ctx.beginPath();
      ctx.moveTo(GUTTER, at);
      ctx.lineTo(GUTTER + timeWidth, at);
      ctx.stroke();
      ctx.fillStyle = colours.soft;
      ctx.textAlign = "right";
      ctx.fillText(`${rate.toLocaleString("en")} /s`, GUTTER - 8, Math.min(at, bottom - 6));
    }
    ctx.textAlign = "left";
    ctx.save();
    clipTime(ctx, bottom);
    for (let b = 0; b < bins; b++) {
      const x0 = xOf((first + b) * step), x1 = xOf((first + b + 1) * step);
      let from = 0;
      for (const which of [OK, REJECTED, FAIL, UNKNOWN]) {
        if (!counts[which][b]) continue;
        const to = from + counts[which][b] * perSecond;
        ctx.fillStyle = fillFor(ctx, which);
        ctx.fillRect(x0 + 0.5, y(to), Math.max(x1 - x0 - 1, 1), Math.max(y(from) - y(to), which === OK ? 0 : 1.5));
        from = to;
      }
    }
    ctx.restore();
    paintTimes(ctx, bottom);
    chart.bins = { step, first, counts, perSecond };
  },
  hit(chart, x) {
    if (x < GUTTER || !chart.bins) return null;
    const { step, first, counts } = chart.bins;
    const b = Math.floor(timeAt(x) / step) - first;
    if (!(b >= 0 && b < counts[0].length)) return null;
    const parts = data.outcomes.map((name, o) => `${name} ${counts[o][b]}`).join(", ");
    return { words: [`${instant((first + b) * step, step)} to ${instant((first + b + 1) * step, step)}`, `ended: ${parts}`] };
  },
});
