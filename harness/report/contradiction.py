"""The few operations that cannot all be true, drawn to true time scale, and the same as plain text.

Theory of operation
-------------------
A violation is understood from two to four operations and the order in which they happened, so nothing else is drawn.
Each operation has a row: on the left who asked what and was answered what, on the right its interval. All rows share
one time axis and nothing is stretched: a gap that looks long was long. An operation too short to be seen keeps a
visible minimum width, and its true length is written beside it.

*Arrows* state real-time order, which is what the contradiction rests on: an arrow runs from the end of one operation
to the start of another that was asked for only afterwards, with the time between them. Arrows that follow from two
others are left out (transitive reduction). Where all operations overlap, their answers contradict each other without
any order, and a bracket says so instead.

The drawing is made here, as SVG inside the page: it needs no script, it prints, and it is the same bytes every time.
Text is never measured: labels live in a column of their own, wrapped by counted columns, so they cannot collide
with intervals whatever the font.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10

from harness.report.data import Leadership, Operation, Outcome, Run
from harness.report.palette import family_slots, node_slots
from harness.report.text import columns, duration, escaped, instant, shortened, wrapped
from harness.report.words import Names, answered, asked

WIDTH = 1080
"""Units of the drawing; the page scales it, and lets it scroll on narrow screens."""

PLOT_LEFT = 412
"""Where the time axis begins: the labels stand to the left of it."""

MARGIN_LEFT = 78
MARGIN_RIGHT = 146
"""Room inside the plot on both sides, for the times written beside the first and the last interval."""

LABEL_COLUMNS = 56
"""How much label fits into one line left of the plot, in columns of the page's fixed-width font."""

LABEL_LINES = 2
"""Lines for the question and lines for the answer: a longer text is cut, and complete in the tooltip."""

LINE = 18
BAR = 20
STRIP = 18
CHAR = 7.2
"""Width of one fixed-width character at the size of labels: 0.6 of 12 units, as in every common monospaced font."""

BEND_APART = 19
"""Between the arrows that leave one operation: a line of text fits."""

MIN_BAR = 3.0
"""An operation shorter than the drawing can show is still there."""

PADDING_SHARE = 0.03
"""Share of the window shown before the first and after the last moment."""

ROWS_MAX = 12
"""A contradiction has at most four operations where the checker can find one; one that it could not shrink is cut."""

TEXT_WIDTH = 60
"""Columns of the time axis in the plain-text drawing: with its labels it fits a terminal of 100 columns."""


@dataclass(frozen=True, slots=True)
class Precedence:
    """``before`` had ended when ``after`` was asked for. Positions in the list of drawn operations."""

    before: int
    after: int
    gap_ns: int


def end_ns(op: Operation) -> int | None:
    """When the operation had certainly happened; None for an unknown outcome, which may happen at any later time."""
    return None if op.outcome is Outcome.UNKNOWN else op.ret_ns


def precedences(core: tuple[Operation, ...]) -> list[Precedence]:
    """The real-time order among the operations, without what follows from the rest."""
    order = {
        (i, j): later.call_ns - ended
        for i, earlier in enumerate(core)
        for j, later in enumerate(core)
        if (ended := end_ns(earlier)) is not None and ended < later.call_ns
    }
    return [
        Precedence(i, j, gap_ns)
        for (i, j), gap_ns in sorted(order.items())
        if not any((i, k) in order and (k, j) in order for k in range(len(core)))
    ]


def window_ns(core: tuple[Operation, ...]) -> tuple[int, int]:
    """The stretch of time that is drawn: all operations, and a little on both sides."""
    start = min(op.call_ns for op in core)
    end = max(max(op.call_ns, op.ret_ns or 0) for op in core)
    padding = max(int((end - start) * PADDING_SHARE), 1000)
    return start - padding, end + padding


def ticks_ns(start_ns: int, until_ns: int, wanted: int) -> tuple[list[int], int]:
    """Round instants inside the window, and the distance between them."""
    rough = max((until_ns - start_ns) / max(wanted, 1), 1)
    power = 10 ** floor(log10(rough))
    step = next(int(power * factor) for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = ceil(start_ns / step) * step
    return list(range(first, until_ns + 1, step)), step


# --- SVG ------------------------------------------------------------------------------------------------------


class _Drawing:
    def __init__(self, run: Run, names: Names) -> None:
        self.run = run
        self.core = run.core[:ROWS_MAX]
        self.names = names
        self.start_ns, self.until_ns = window_ns(self.core)
        self.parts: list[str] = []

    def x(self, ns: int) -> float:
        inside = WIDTH - PLOT_LEFT - MARGIN_LEFT - MARGIN_RIGHT
        share = (ns - self.start_ns) / (self.until_ns - self.start_ns)
        return PLOT_LEFT + MARGIN_LEFT + inside * min(max(share, 0.0), 1.0)

    def text(self, x: float, y: float, words: str, kind: str, anchor: str = "start") -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escaped(words)}</text>'
        )

    def svg(self) -> str:
        strips = self.strips()
        top = 8 + STRIP * len(strips)
        labels = [self.label(op) for op in self.core]
        heights = [max(4, 1 + len(question) + len(answer)) * LINE + 26 for question, answer in labels]
        rows = [top + 6 + sum(heights[:i]) for i in range(len(heights))]
        bottom = rows[-1] + heights[-1]
        height = bottom + 40
        described = f"{len(self.core)} operations that cannot all be true, drawn to time scale"
        self.shades(top, bottom)
        self.axis(top, bottom)
        for position, (slot_class, words, from_ns, to_ns) in enumerate(strips):
            self.strip(8 + STRIP * position, slot_class, words, from_ns, to_ns)
        middles = [row + heights[i] / 2 for i, row in enumerate(rows)]
        for y in rows[1:]:
            self.parts.append(f'<line x1="0" y1="{y:.1f}" x2="{WIDTH}" y2="{y:.1f}" class="rule"/>')
        self.arrows(middles)  # beneath the bars and the times: an arrow may have to pass them
        for i, op in enumerate(self.core):
            self.row(op, middles[i], *labels[i])
        return (
            f'<svg class="core" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escaped(described)}">'
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto-start-reverse"><path d="M0 0.5 L10 5 L0 9.5 z" class="head"/></marker>'
            '<pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
            '<line x1="0" y1="0" x2="0" y2="7" class="hatch"/></pattern></defs>' + "".join(self.parts) + "</svg>"
        )

    def label(self, op: Operation) -> tuple[list[str], list[str]]:
        question = wrapped(asked(op, self.names), LABEL_COLUMNS, LABEL_LINES)
        answer = wrapped("→ " + answered(op, self.names), LABEL_COLUMNS, LABEL_LINES)
        return question, answer

    def row(self, op: Operation, middle: float, question: list[str], answer: list[str]) -> None:
        lane = self.run.lanes[op.lane]
        lines = 1 + len(question) + len(answer)
        y = middle - lines * LINE / 2 + 13
        full = f"#{op.index} {lane}: {asked(op, self.names)} → {answered(op, self.names)}"
        self.parts.append(
            f'<g class="operation {op.outcome.value}" id="core-{op.index}"><title>{escaped(full)}</title>'
        )
        where = f" · node {op.node}" if op.node is not None else ""
        self.text(0, y, f"#{op.index} · {lane} · {op.kind}{where}", "who")
        for line in question:
            y += LINE
            self.text(0, y, line, "asked")
        for line in answer:
            y += LINE
            self.text(0, y, line, "answered")
        self.bar(op, middle)
        self.parts.append("</g>")

    def bar(self, op: Operation, middle: float) -> None:
        x0, y = self.x(op.call_ns), middle - BAR / 2
        self.text(x0 - 7, middle + 4, instant(op.call_ns), "time", "end")
        if op.outcome is Outcome.UNKNOWN:
            x1 = WIDTH - 22
            gave_up = self.x(op.ret_ns) if op.ret_ns is not None else x1
            self.parts.append(
                f'<path d="M{x1} {y:.1f} H{x0:.1f} V{y + BAR:.1f} H{x1}" class="bar open"/>'
                f'<path d="M{x1} {y - 2:.1f} l14 {BAR / 2 + 2:.1f} l-14 {BAR / 2 + 2:.1f}" class="bar open"/>'
            )
            if op.ret_ns is not None:
                self.parts.append(
                    f'<line x1="{gave_up:.1f}" x2="{gave_up:.1f}" y1="{y:.1f}" y2="{y + BAR:.1f}" class="mark"/>'
                )
            self.text(x1, y - 6, "may happen at any later time", "time over", "end")
            return
        assert op.ret_ns is not None  # only unknown operations have no end
        width = max(self.x(op.ret_ns) - x0, MIN_BAR)
        self.parts.append(f'<rect x="{x0:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" rx="2" class="bar"/>')
        if op.outcome is Outcome.FAIL:
            self.parts.append(
                f'<rect x="{x0:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" rx="2" class="hatched"/>'
            )
        lasted = duration(op.ret_ns - op.call_ns)
        self.text(x0 + width + 7, middle + 4, f"{instant(op.ret_ns)} ({lasted})", "time")

    def arrows(self, middles: list[float]) -> None:
        order = precedences(self.core)
        if not order and len(self.core) > 1:
            x = WIDTH - 10
            first, last = middles[0] - BAR / 2, middles[-1] + BAR / 2
            self.parts.append(f'<path d="M{x - 8} {first:.1f} H{x} V{last:.1f} H{x - 8}" class="arrow"/>')
            self.text(x - 8, (first + last) / 2, "at the same time, and not both true", "gap", "end")
        leaving = dict.fromkeys(range(len(self.core)), 0)
        for arrow in order:
            before, after = self.core[arrow.before], self.core[arrow.after]
            assert before.ret_ns is not None
            bar_end = max(self.x(before.ret_ns), self.x(before.call_ns) + MIN_BAR)
            x0, x1 = bar_end - 1.5, self.x(after.call_ns) + 1.5
            y0, y1 = middles[arrow.before] + BAR / 2, middles[arrow.after] - BAR / 2
            bend = y0 + 22 + BEND_APART * leaving[arrow.before]
            leaving[arrow.before] += 1
            self.parts.append(
                f'<path d="M{x0:.1f} {y0:.1f} V{bend:.1f} H{x1:.1f} V{y1 - 1:.1f}" '
                'class="arrow" marker-end="url(#head)"/>'
            )
            words = f"{duration(arrow.gap_ns)} later"
            needs = columns(words) * CHAR + 12
            if x1 - x0 > needs:
                self.text((x0 + x1) / 2, bend - 5, words, "gap", "middle")
            elif max(x0, x1) + needs < WIDTH:
                self.text(max(x0, x1) + 8, bend + 12, words, "gap")
            else:
                self.text(min(x0, x1) - 8, bend + 12, words, "gap", "end")

    # What was going on meanwhile: faults and the leader, as strips above and shades behind.

    def strips(self) -> list[tuple[str, str, int, int]]:
        slots = family_slots(fault.family for fault in self.run.faults)
        found = []
        for fault in self.run.faults:
            until = fault.until_ns(self.run.end_ns)
            if fault.start_ns <= self.until_ns and until >= self.start_ns:
                words = f"{fault.family}: {fault.description or fault.kind + ' ' + ', '.join(fault.nodes)}"
                found.append((f"fault-{slots[fault.family]}", words, fault.start_ns, until))
        return [*self.leader_strips(), *found]

    def leader_strips(self) -> list[tuple[str, str, int, int]]:
        slots = node_slots(leader.node for leader in self.run.leaders)
        return [
            (f"node-{slots[leader.node]}", leader_words(leader), leader.start_ns, leader.end_ns)
            for leader in self.run.leaders
            if leader.start_ns <= self.until_ns and leader.end_ns >= self.start_ns
        ]

    def strip(self, y: float, slot_class: str, words: str, from_ns: int, to_ns: int) -> None:
        x0, x1 = self.band(from_ns, to_ns)
        self.parts.append(
            f'<g class="strip {slot_class}"><title>{escaped(words)}</title>'
            f'<rect x="{x0:.1f}" y="{y + 3}" width="{max(x1 - x0, MIN_BAR):.1f}" height="{STRIP - 4}" rx="2"/></g>'
        )
        self.text(PLOT_LEFT - 10, y + 14, shortened(words, LABEL_COLUMNS), "strip-name", "end")

    def shades(self, top: float, bottom: float) -> None:
        for slot_class, _, from_ns, to_ns in self.strips():
            if slot_class.startswith("fault-"):
                x0, x1 = self.band(from_ns, to_ns)
                self.parts.append(
                    f'<rect x="{x0:.1f}" y="{top}" width="{max(x1 - x0, 1):.1f}" height="{bottom - top:.1f}" '
                    f'class="shade {slot_class}"/>'
                )

    def band(self, from_ns: int, to_ns: int) -> tuple[float, float]:
        """A band that goes on beyond the window runs through the margin to the edge of the plot."""
        x0 = self.x(from_ns) if from_ns > self.start_ns else float(PLOT_LEFT)
        x1 = self.x(to_ns) if to_ns < self.until_ns else float(WIDTH)
        return x0, x1

    def axis(self, top: float, bottom: float) -> None:
        self.parts.append(f'<line x1="{PLOT_LEFT}" y1="{bottom:.1f}" x2="{WIDTH}" y2="{bottom:.1f}" class="axis"/>')
        instants, step = ticks_ns(self.start_ns, self.until_ns, 5)
        for tick in instants:
            x = self.x(tick)
            self.parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom + 5:.1f}" class="grid"/>')
            decimals = max(0, 9 - floor(log10(step)))
            self.text(x, bottom + 20, f"{tick / 1e9:.{decimals}f} s", "tick", "middle")
        self.text(0, bottom + 20, "time of the run, to scale", "tick")


def leader_words(leader: Leadership) -> str:
    return f"leader: node {leader.node}, term {leader.term}"


def draw(run: Run, names: Names) -> str:
    """The SVG of ``run.core``; empty when the verdict names no operations."""
    return _Drawing(run, names).svg() if run.core else ""


# --- plain text -----------------------------------------------------------------------------------------------


def as_text(run: Run, names: Names) -> str:
    """The contradiction for a terminal or a log, lines of at most about 100 columns; empty without operations."""
    if not run.core:
        return ""
    core = run.core[:ROWS_MAX]
    start, until = window_ns(core)
    lanes = [run.lanes[op.lane] for op in core]
    margin = max(len(f"#{op.index} {lane}") for op, lane in zip(core, lanes, strict=True)) + 2

    def column(ns: int) -> int:
        return min(int((ns - start) / (until - start) * TEXT_WIDTH), TEXT_WIDTH - 1)

    out = [" " * margin + instant(start).ljust(TEXT_WIDTH - len(instant(until))) + instant(until)]
    for op, lane in zip(core, lanes, strict=True):
        first, ended = column(op.call_ns), end_ns(op)
        last = TEXT_WIDTH - 1 if ended is None else column(ended)
        inner = "=" * max(last - first - 1, 0)
        bar = "|" if last == first else "|" + inner + (">" if ended is None else "|")
        out.append(f"#{op.index} {lane}".ljust(margin) + " " * first + bar)
    out.append("")
    for op, lane in zip(core, lanes, strict=True):
        ended = end_ns(op)
        until_words = "open" if ended is None else f"{instant(ended)} ({duration(ended - op.call_ns)})"
        out.append(f"#{op.index} {lane}, {instant(op.call_ns)} to {until_words}")
        out.append(f"    {asked(op, names)}")
        out.append(f"    → {answered(op, names)}")
    order = precedences(core)
    out.extend(
        f"#{core[arrow.before].index} had ended {duration(arrow.gap_ns)} before #{core[arrow.after].index} was asked."
        for arrow in order
    )
    if not order and len(core) > 1:
        out.append("All of them overlap in time: their answers contradict each other in any order.")
    if len(run.core) > ROWS_MAX:
        out.append(f"... and {len(run.core) - ROWS_MAX} more operations that verdict.json names.")
    if run.verdict.reason:
        out.extend(["", names.put_into(run.verdict.reason)])
    return "\n".join(out) + "\n"
