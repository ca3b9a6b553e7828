"""The drawing of the contradiction, as SVG and as text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.report import contradiction_text, write_report
from harness.report.contradiction import Precedence, draw, precedences, ticks_ns
from harness.report.data import Run, read_run
from harness.report.tests.fixtures import MS, History
from harness.report.tests.synthetic import write_run
from harness.report.words import Names

REASON = "Message 2 was acknowledged before the read was asked for, yet the read ends at 1."


def stale_read(folder: Path) -> Run:
    history = History()
    history.send(90, 100, 0, "first", 1)
    sent = history.send(110, 120, 0, "second <&> one", 2)
    read = history.read(867, 871, 1, ["first"], 1)
    history.fault(500, "start", "partition", [2], kind="isolate-one")
    history.add(50, "cluster", "info", "leader", {"node": 3, "term": 4})
    history.write(folder, verdict="invalid", core=[read, sent], reason=REASON, **{"class": "stale-read"})
    return read_run(folder)


def test_every_named_operation_and_the_reason_are_on_the_page(tmp_path: Path) -> None:
    run = stale_read(tmp_path)
    page = write_report(tmp_path).read_text()
    drawing = page[page.index('<svg class="core"') : page.index("</svg>", page.index('<svg class="core"'))]
    for op in run.core:
        assert f'id="core-{op.index}"' in drawing
        assert f"#{op.index} · {run.lanes[op.lane]} · {op.kind}" in drawing
    assert "“second &lt;&amp;&gt; one”" in drawing
    assert "→ message 2" in drawing
    assert "→ message 1 (log at 1)" in drawing
    assert drawing.count('marker-end="url(#head)"') == 1
    assert "747 ms later" in drawing
    assert "partition: partition of [2]" in drawing
    assert "leader: node 3, term 4" in drawing
    assert f'<p class="reason"><span class="class">Stale read.</span> {REASON}</p>' in page


def test_other_operations_are_not_drawn(tmp_path: Path) -> None:
    run = stale_read(tmp_path)
    assert "first" not in draw(run, Names(run.operations))


def test_bars_stand_to_scale(tmp_path: Path) -> None:
    run = stale_read(tmp_path)
    bars = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="20"', draw(run, Names(run.operations)))
    (x0, wide0), (x1, wide1) = ((float(x), float(wide)) for x, wide in bars)
    per_ms = (x1 - x0) / (867 - 110)
    assert wide0 == pytest.approx(10 * per_ms, abs=0.2)
    assert wide1 == pytest.approx(max(4 * per_ms, 3.0), abs=0.2)


def test_the_same_as_plain_text(tmp_path: Path) -> None:
    stale_read(tmp_path)
    lines = contradiction_text(tmp_path).splitlines()
    assert lines[1].startswith("#2 client 0")
    assert lines[2].startswith("#4 client 1")
    assert lines[1].index("|") < lines[2].index("|")
    assert "#2 had ended 747 ms before #4 was asked." in lines
    assert lines[-1] == REASON


def test_arrows_leave_out_what_follows_from_others(tmp_path: Path) -> None:
    history = History()
    core = [history.send(at, at + 5, 0, "x", n) for n, at in enumerate((10, 20, 30), 1)]
    run = read_run(history.write(tmp_path, verdict="invalid", core=core))
    assert precedences(run.core) == [Precedence(0, 1, 5 * MS), Precedence(1, 2, 5 * MS)]


def test_operations_that_overlap_have_a_bracket_instead_of_an_arrow(tmp_path: Path) -> None:
    history = History()
    first, second = history.send(10, 50, 0, "x", 4), history.send(20, 60, 1, "y", 4)
    run = read_run(history.write(tmp_path, verdict="invalid", core=[first, second]))
    drawing = draw(run, Names(run.operations))
    assert "marker-end" not in drawing
    assert "at the same time, and not both true" in drawing
    assert "All of them overlap in time" in contradiction_text(tmp_path)


def test_an_unknown_operation_is_open_and_precedes_nothing(tmp_path: Path) -> None:
    history = History()
    unknown = history.add(10, 0, "invoke", "send", {"actor": "1", "chat": "2", "text": "x"})
    history.add(30, 0, "info", "send", {"error": "timeout"})
    read = history.read(100, 110, 1, ["x"], 1)
    run = read_run(history.write(tmp_path, verdict="invalid", core=[unknown, read]))
    assert precedences(run.core) == []
    drawing = draw(run, Names(run.operations))
    assert 'class="bar open"' in drawing
    assert "may happen at any later time" in drawing
    assert ">\n" in contradiction_text(tmp_path), "open to the right"


def test_instants_at_the_same_time_are_drawn(tmp_path: Path) -> None:
    history = History()
    only = history.send(10, 10, 0, "x", 1)
    run = read_run(history.write(tmp_path, verdict="invalid", core=[only]))
    assert f'id="core-{only}"' in draw(run, Names(run.operations))


def test_nothing_is_drawn_without_a_core(tmp_path: Path) -> None:
    history = History()
    history.send(1, 2, 0, "x", 1)
    history.write(tmp_path, verdict="invalid", reason="two leaders in term 4")
    page = write_report(tmp_path).read_text()
    assert '<svg class="core"' not in page
    assert "Two leaders in term 4." in page
    assert contradiction_text(tmp_path) == ""


@pytest.mark.parametrize(("start", "until"), [(0, 1000), (13_196_000_000, 14_098_000_000), (5, 6), (7, 70_000_000_000)])
def test_ticks_are_round_few_and_inside(start: int, until: int) -> None:
    ticks, step = ticks_ns(start, until, 5)
    assert all(start <= tick <= until and tick % step == 0 for tick in ticks)
    assert len(ticks) <= 6
    assert str(step).rstrip("0") in {"1", "2", "5"}


@pytest.mark.parametrize("violation", ["stale-read", "divergence"])
def test_planted_violations_are_drawn(tmp_path: Path, violation: str) -> None:
    made = write_run(tmp_path, seed=7, violation=violation)
    page = write_report(tmp_path).read_text()
    assert all(f'id="core-{index}"' in page for index in made.core)
