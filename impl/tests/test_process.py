"""What a process adds to a node: its clock, and the words for its end."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from impl.config import ConfigError
from impl.process import EXIT_STOPPED, EXIT_USAGE, SteadyClock, explain
from impl.raft import ProtocolViolation
from impl.storage.errors import LogDamaged, StorageFailed


def test_a_clock_that_is_set_while_the_node_runs_changes_nothing() -> None:
    wall_ns, monotonic_ns = [1_800_000_000_000_000_000], [5_000_000_000]
    clock = SteadyClock(lambda: wall_ns[0], lambda: monotonic_ns[0])
    assert clock() == 1_800_000_000_000
    wall_ns[0] += 25 * 3600 * 10**9
    monotonic_ns[0] += 3_000_000
    assert clock() == 1_800_000_000_003


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("node.toml: key 'http' is missing"), EXIT_USAGE),
        (LogDamaged(Path("log"), 104, "a frame does not match its checksum"), EXIT_USAGE),
        (StorageFailed("sync", Path("log"), OSError(5, "Input/output error")), EXIT_STOPPED),
        (ProtocolViolation("nodes 1 and 2 both lead term 3"), EXIT_STOPPED),
        (sqlite3.OperationalError("database or disk is full"), EXIT_STOPPED),
    ],
)
def test_an_end_is_explained_in_words(error: Exception, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(BaseExceptionGroup("nursery", [BaseExceptionGroup("inner", [error])])) == status
    assert str(error) in capsys.readouterr().err


def test_what_nobody_planned_for_is_not_explained_away() -> None:
    with pytest.raises(ExceptionGroup):
        explain(ExceptionGroup("nursery", [ZeroDivisionError(), ConfigError("x")]))
