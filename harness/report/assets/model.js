// The run as typed arrays, the stretch of time in view, and what the filters and the search leave.
// All times are microseconds from the start of the run. The columns are described in payload.py.

const data = JSON.parse(document.getElementById("run-data").textContent);
const columns = data.operations;
const total = columns.index.length;
if (total === 0) return; // nothing to draw: the page says so itself

const OK = 0, REJECTED = 1, FAIL = 2, UNKNOWN = 3; // the order of data.outcomes

const runStart = data.start_us; // of the first record: starting a cluster takes seconds in which nothing is asked
const runEnd = Math.max(data.end_us, runStart + 1);
const runSpan = runEnd - runStart;
const call = new Float64Array(total);
const end = new Float64Array(total); // of an operation without an end: where its lane goes on, or the end of the run
const ended = new Uint8Array(total);
const lane = Uint16Array.from(columns.lane);
const kind = Uint8Array.from(columns.kind);
const outcome = Uint8Array.from(columns.outcome);
const chat = Int32Array.from(columns.chat);
const laneOperations = data.lanes.map(() => []);
for (let i = 0, at = 0; i < total; i++) {
  at += columns.call[i];
  call[i] = at;
  ended[i] = columns.dur[i] >= 0 ? 1 : 0;
  end[i] = ended[i] ? at + columns.dur[i] : runEnd;
  laneOperations[lane[i]].push(i);
}
for (const list of laneOperations) list.forEach((i, n) => { if (!ended[i] && n + 1 < list.length) end[i] = call[list[n + 1]]; });
const isCore = new Uint8Array(total);
for (const i of data.core) isCore[i] = 1;

const answer = (i) => data.answers[columns.answer[i]];

// --- the stretch of time in view ---

const SPAN_MIN = 20; // microseconds: below the resolution of what was recorded nothing new appears
const view = { from: runStart, to: runEnd };

function setView(from, to) {
  const span = Math.min(Math.max(to - from, SPAN_MIN), runSpan);
  const start = Math.min(Math.max(from + (to - from - span) / 2, runStart), runEnd - span);
  view.from = start;
  view.to = start + span;
  repaint();
}

function zoom(factor, around) {
  const at = around ?? (view.from + view.to) / 2;
  setView(at - (at - view.from) * factor, at + (view.to - at) * factor);
}

function move(share) {
  const by = (view.to - view.from) * share;
  const bounded = Math.min(Math.max(by, runStart - view.from), runEnd - view.to);
  setView(view.from + bounded, view.to + bounded);
}

// --- filters and search ---

const filters = { kind: new Set(data.kinds.keys()), outcome: new Set(data.outcomes.keys()), chat: -1, lane: -1 };
const shown = new Uint8Array(total).fill(1); // passes the filters
let found = null; // Uint8Array while a search is on: matches the words
let foundList = []; // positions that pass the filters and match
let version = 0; // counts changes of the filters, for what is computed once per change

function applyFilters() {
  for (let i = 0; i < total; i++) {
    shown[i] = filters.kind.has(kind[i]) && filters.outcome.has(outcome[i]) &&
      (filters.chat < 0 || chat[i] === filters.chat) && (filters.lane < 0 || lane[i] === filters.lane) ? 1 : 0;
  }
  version++;
  listFound();
  repaint();
}

let haystacks = null; // one lower-case text per operation, made at the first search

function haystack(i) {
  return `#${columns.index[i]} ${columns.asked[i]} ${answer(i)} ${columns.txn[i]}`.toLowerCase();
}

function search(words) {
  const needle = words.trim().toLowerCase();
  if (needle === "") {
    found = null;
  } else {
    haystacks ??= Array.from({ length: total }, (_, i) => haystack(i));
    found = new Uint8Array(total);
    if (/^#\d+$/.test(needle)) {
      const index = Number(needle.slice(1));
      for (let i = 0; i < total; i++) found[i] = columns.index[i] === index ? 1 : 0;
    } else {
      for (let i = 0; i < total; i++) found[i] = haystacks[i].includes(needle) ? 1 : 0;
      findReaders(needle);
    }
  }
  listFound();
  repaint();
}

// Reads that returned a message with these words, or with this transaction or message id.
function findReaders(needle) {
  const hit = new Uint32Array(data.messages.length + 1); // running count of hits, so that a range is one subtraction
  data.messages.forEach(([, , id, , , txn, text], m) => {
    const hits = id === needle || txn.toLowerCase().includes(needle) || text.toLowerCase().includes(needle);
    hit[m + 1] = hit[m] + (hits ? 1 : 0);
  });
  for (const [i, runs] of Object.entries(data.saw)) {
    if (runs.some(([first, count]) => hit[first + count] > hit[first])) found[i] = 1;
  }
}

function listFound() {
  foundList = [];
  if (found) for (let i = 0; i < total; i++) if (found[i] && shown[i]) foundList.push(i);
}

const dimmed = (i) => found !== null && !found[i];

// --- words for times ---

function duration(us) {
  if (us < 1e3) return `${Math.round(us)} µs`;
  if (us < 1e4) return `${(us / 1e3).toFixed(2)} ms`;
  if (us < 1e5) return `${(us / 1e3).toFixed(1)} ms`;
  if (us < 1e6) return `${(us / 1e3).toFixed(0)} ms`;
  return `${(us / 1e6).toFixed(2)} s`;
}

function instant(us, step = 1e3) {
  const decimals = Math.max(0, Math.min(6, 6 - Math.floor(Math.log10(step))));
  return `${(us / 1e6).toFixed(decimals)} s`;
}

function roundStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999);
}
