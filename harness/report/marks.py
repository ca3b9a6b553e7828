"""The small signs of the legend: one shape per outcome, as a bar of the lanes and as a point of the latency plot.

The shapes carry the meaning; the colours repeat it. ok is solid, rejected is hollow, fail is cut by strokes, unknown
is open to the right because it may still happen.
"""

from __future__ import annotations

from harness.report.data import Outcome

OUTCOME_WORDS = {
    Outcome.OK: "done and answered",
    Outcome.REJECTED: "answered by the service: no, with a reason",
    Outcome.FAIL: "certainly not done",
    Outcome.UNKNOWN: "may have been done, or may still be",
}

_BARS = {
    Outcome.OK: '<rect x="0" y="1" width="22" height="11" class="ok-fill"/>',
    Outcome.REJECTED: '<rect x="1" y="2" width="20" height="9" class="rejected-line"/>',
    Outcome.FAIL: (
        '<rect x="0" y="1" width="22" height="11" class="fail-fill"/><path d="M4 13 L10 0 M11 13 L17 0" class="cut"/>'
    ),
    Outcome.UNKNOWN: '<path d="M15 2 H1 V11 H15 M15 0.5 L21 6.5 L15 12.5" class="unknown-line"/>',
}

_POINTS = {
    Outcome.OK: '<circle cx="5.5" cy="5.5" r="3.2" class="ink-fill"/>',
    Outcome.REJECTED: '<path d="M5.5 1 L10 5.5 L5.5 10 L1 5.5 z" class="ink-line"/>',
    Outcome.FAIL: '<path d="M1.5 1.5 L9.5 9.5 M9.5 1.5 L1.5 9.5" class="ink-line"/>',
    Outcome.UNKNOWN: '<path d="M5.5 1 L10.3 9.8 H0.7 z" class="ink-line"/>',
}


def bar(outcome: Outcome) -> str:
    return f'<svg class="swatch" viewBox="0 0 22 13" aria-hidden="true">{_BARS[outcome]}</svg>'


def point(outcome: Outcome) -> str:
    return f'<svg class="dot" viewBox="0 0 11 11" aria-hidden="true">{_POINTS[outcome]}</svg>'


def colour(slot_class: str) -> str:
    """A plain sample of a palette colour: ``fault-2``, ``kind-4``, ``node-0``."""
    sample = f'<rect width="11" height="11" class="{slot_class}"/>'
    return f'<svg class="dot" viewBox="0 0 11 11" aria-hidden="true">{sample}</svg>'


def line(width: float, dashes: str) -> str:
    """A sample of a line in the latency plot."""
    return (
        '<svg class="swatch" viewBox="0 0 22 13" aria-hidden="true">'
        f'<path d="M0 6.5 H22" class="ink-line" style="stroke-width:{width};stroke-dasharray:{dashes}"/></svg>'
    )
