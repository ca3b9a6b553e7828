"""Hostile texts made harmless, and numbers made readable."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.text import columns, duration, escaped, script_json, shortened, visible, wrapped

ANYTHING = st.text(alphabet=st.characters(), max_size=80)


@given(ANYTHING)
def test_escaped_text_has_no_markup_and_can_be_encoded(text: str) -> None:
    shown = escaped(text)
    assert not set(shown) & set("<>\"'")
    assert not {unicodedata.category(char) for char in shown.replace("\u200d", "")} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode("utf-8")


@given(st.recursive(ANYTHING, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANYTHING, inner, max_size=3)))
def test_json_in_a_script_element_survives_and_cannot_end_it(value: object) -> None:
    text = script_json(value)
    assert text.isascii()
    assert not set(text) & set("<>&")
    assert json.loads(text) == value


@given(ANYTHING, st.integers(2, 40))
def test_a_shortened_text_fits(text: str, limit: int) -> None:
    short = shortened(visible(text), limit)
    assert columns(short) <= limit
    assert short == visible(text) or short.endswith("…")


@given(st.text(alphabet="ab 早é", max_size=120), st.integers(6, 30), st.integers(1, 3))
def test_wrapped_lines_fit_and_lose_nothing_but_the_tail(text: str, limit: int, lines: int) -> None:
    rows = wrapped(text, limit, lines)
    assert len(rows) <= lines
    assert all(columns(row) <= limit for row in rows)
    kept = "".join("".join(rows).removesuffix("…").split())
    assert "".join(text.split()).startswith(kept)
    if columns(text.strip()) <= limit and text.strip():
        assert rows == [text.strip()]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("早上好 🚀 é", "早上好 🚀 é"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("\x00\n\x1b[31m", "\\x00\\n\\x1b[31m"),
        ("\ud800", "\\ud800"),
        ("\u2028", "\\u2028"),
    ],
)
def test_what_hides_or_reorders_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("ns", "words"),
    [
        (0, "0 µs"),
        (380_000, "380 µs"),
        (1_240_000, "1.24 ms"),
        (12_400_000, "12.4 ms"),
        (747_000_000, "747 ms"),
        (1_240_000_000, "1.24 s"),
        (125_000_000_000, "2 min 05 s"),
    ],
)
def test_durations_in_the_unit_that_reads_best(ns: int, words: str) -> None:
    assert duration(ns) == words
