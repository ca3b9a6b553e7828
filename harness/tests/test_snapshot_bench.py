"""The benchmark of snapshots: what it measures really happens, on a state that is small."""

from __future__ import annotations

from pathlib import Path

from harness.bench.snapshot_bench import BATCH, snapshot_figures
from impl.chat.state_machine import ChatStateMachine


def test_a_state_is_exported_under_load_and_imported(tmp_path: Path) -> None:
    figures = snapshot_figures(tmp_path, state_bytes=400_000)
    assert figures.state_bytes == (tmp_path / "busy.snapshot").stat().st_size > 400_000
    assert min(figures.export_s, figures.import_s, figures.apply_busy_s, figures.wal_bytes) > 0
    source, copy = (ChatStateMachine.open(tmp_path / name) for name in ("chat.db", "other.db"))
    assert copy.applied_index == figures.entries
    assert source.applied_index >= copy.applied_index + BATCH
    source.close()
    copy.close()
