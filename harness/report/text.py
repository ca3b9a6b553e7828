"""Words and numbers as the page shows them: hostile text made harmless, times and counts made readable.

Theory of operation
-------------------
Texts in a history come from clients and may hold anything. ``visible`` writes every character that could hide,
reorder or break text (controls, direction marks, lone surrogates) as an escape, once, before any other step sees it;
``escaped`` makes the result safe inside HTML and SVG, text and attributes alike. ``script_json`` is the third door:
JSON inside a ``<script>`` element, where the only danger is a ``<`` that ends the element, and every ``<``, ``>`` and
``&`` leaves as an escape that JSON undoes.

Widths are counted in columns, not characters: wide characters of East Asian scripts and emoji take two.
"""

from __future__ import annotations

import html
import json
import unicodedata
from typing import Any

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are shown as escapes: controls, direction marks, surrogates, unassigned, line ends."""

JOINER = "\u200d"
"""Zero-width joiner: a format character that emoji are built with; it reorders nothing."""


def visible(text: str) -> str:
    """``text`` with each character that hides, reorders or cannot be encoded written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char == JOINER or unicodedata.category(char) not in HIDDEN else char.encode("unicode_escape").decode()
        for char in text
    )


def escaped(text: str) -> str:
    """``text`` safe as HTML or SVG text and as a quoted attribute."""
    return html.escape(visible(text), quote=True)


def script_json(value: Any) -> str:
    """``value`` as compact JSON that can stand inside a script element: no ``<``, ``>`` or ``&``, ASCII only."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def columns(text: str) -> int:
    """How many columns of a fixed-width font ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def prefix(text: str, limit: int) -> str:
    """The longest beginning of ``text`` that takes at most ``limit`` columns."""
    used = 0
    for position, char in enumerate(text):
        used += columns(char)
        if used > limit:
            return text[:position]
    return text


def shortened(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` columns, cut with an ellipsis."""
    if columns(text) <= limit:
        return text
    return prefix(text, limit - 1).rstrip() + "…"


def wrapped(text: str, limit: int, lines: int) -> list[str]:
    """``text`` broken at spaces into at most ``lines`` lines of ``limit`` columns; the last is cut if need be."""
    rows: list[str] = []
    rest = text.strip()
    while rest and len(rows) < lines - 1 and columns(rest) > limit:
        head = prefix(rest, limit)
        space = (head + rest[len(head)]).rfind(" ")
        # A word longer than the line is broken inside; a short first word is not worth a line of its own.
        at = space if space > limit // 3 else max(len(head), 1)
        rows.append(rest[:at].rstrip())
        rest = rest[at:].lstrip()
    if rest:
        rows.append(shortened(rest, limit))
    return rows


def duration(ns: float) -> str:
    """A length of time in the unit that reads best: ``380 µs``, ``12.4 ms``, ``1.24 s``, ``2 min 05 s``."""
    if ns < 1e6:
        return f"{ns / 1e3:.0f} µs"
    if ns < 1e7:
        return f"{ns / 1e6:.2f} ms"
    if ns < 1e8:
        return f"{ns / 1e6:.1f} ms"
    if ns < 1e9:
        return f"{ns / 1e6:.0f} ms"
    if ns < 120e9:
        return f"{ns / 1e9:.2f} s"
    whole_s = round(ns / 1e9)
    return f"{whole_s // 60} min {whole_s % 60:02d} s"


def instant(ns: int) -> str:
    """A time of the run, to the millisecond: ``12.203 s``."""
    return f"{ns / 1e9:.3f} s"


def count(number: int) -> str:
    return f"{number:,}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """``1 fault``, ``2 faults``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
