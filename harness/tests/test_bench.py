"""Benchmarks: what they measure really happens, and figures are judged as their bounds say."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bench import core_bench, storage_bench
from harness.bench.core_bench import NotCommitted, Pump, seconds_per_entry
from harness.bench.failover_bench import election_timeout_ms
from harness.bench.figures import Figure, Sense, judged


def test_the_pump_commits_what_is_proposed() -> None:
    pump = Pump()
    before = pump.committed
    assert seconds_per_entry(pump, 8, batches=5) > 0
    assert pump.committed - before == 40


def test_a_figure_about_entries_that_were_not_committed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pump = Pump()
    monkeypatch.setattr(Pump, "_run", lambda self: self._under_way.clear())  # nobody hears anybody
    with pytest.raises(NotCommitted, match="0 of 10"):
        seconds_per_entry(pump, 2, batches=5)


def test_every_cell_is_measured() -> None:
    assert core_bench.by_batch((1, 8), runs=1).keys() == {1, 8}
    assert core_bench.by_log_length((10, 100), runs=1).keys() == {10, 100}


def test_the_log_is_measured_on_what_it_really_writes(tmp_path: Path) -> None:
    appended = storage_bench.append_ratio(tmp_path, appends=3)
    assert appended["ratio"] == appended["append_s"] / appended["bare_s"] > 0
    assert appended["bytes"] > storage_bench.BATCH * len(storage_bench.APPEND_PAYLOAD)
    opened = storage_bench.recovery_ratio(tmp_path, 1_000_000, openings=1)
    assert opened["entries"] == 1_000_000 // (storage_bench.BATCH * 1024) * storage_bench.BATCH
    assert opened["bytes"] >= 900_000


@pytest.mark.parametrize(
    ("sense", "value", "met"),
    [("at least", 5, True), ("at least", 4, False), ("at most", 5, True), ("at most", 6, False), ("below", 5, False)],
)
def test_figures_are_judged_as_their_bounds_say(sense: Sense, value: float, met: bool) -> None:
    figure = Figure("x", value, "", sense, 5.0)
    assert figure.met is met
    assert ("NOT MET: x" in judged([figure])) is not met
    assert Figure("x", value, "").met is None


def test_the_bound_of_a_failover_is_that_of_the_default_configuration() -> None:
    assert election_timeout_ms() == 590
