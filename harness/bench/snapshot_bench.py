"""What a snapshot of the chat state costs: exporting and importing a large one, and what writers feel meanwhile.

Theory of operation
-------------------
A database is filled with messages until its logical state has about ``state_bytes``. *Export*: the state is opened and
read to a file in a thread, while this thread goes on applying batches; how long batches take then is compared with
batches when nothing is exported. *Import*: the file is read into a new database, which is put into place. Peak memory
is that of the process after the import beyond what it was before the export, as the system counts it (so it is a bound
on what export and import held, page caches of SQLite included).

Everything is in the system's cache: what is compared is the work, not the disk.
"""

from __future__ import annotations

import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from impl.chat.commands import CreateChat, CreateUser, Send, Write, encode_command
from impl.chat.snapshot import prepare_state
from impl.chat.snowflake import TIME_SHIFT
from impl.chat.state_machine import ChatStateMachine
from impl.raft.messages import Entry

STATE_BYTES: Final = 200_000_000
TEXT: Final = "m" * 200
"""A longish chat message."""

BYTES_PER_MESSAGE: Final = 340
"""Of logical state: the message with its ids, and its first answer."""

FILLING_BATCH: Final = 4096
BATCH: Final = 16
"""Entries per batch while times are taken: what a busy node applies at once."""

QUIET_BATCHES: Final = 200
PIECE_BYTES: Final = 1024 * 1024

MEMORY_UNIT: Final = 1 if sys.platform == "darwin" else 1024


class SnapshotFigures(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds; ``apply_*`` are times of one batch of ``BATCH`` entries."""

    state_bytes: int  # of the snapshot
    database_bytes: int
    entries: int
    open_s: float  # how long the worker is held up when a snapshot begins
    export_s: float  # alone
    export_busy_s: float  # while batches are applied without a pause
    import_s: float  # up to a new database, checked and durable
    install_s: float  # how long the worker is held up when it is put into place
    peak_bytes: int  # memory of the process beyond what it was before
    apply_quiet_s: float  # median
    apply_busy_s: float  # median, while a snapshot is exported
    apply_quiet_p99_s: float
    apply_busy_p99_s: float
    apply_busy_max_s: float
    wal_bytes: int  # of the -wal file when the export was done

    @property
    def export_mb_per_s(self) -> float:
        return self.state_bytes / 1e6 / self.export_s

    @property
    def import_mb_per_s(self) -> float:
        return self.state_bytes / 1e6 / self.import_s


def snapshot_figures(directory: Path, *, state_bytes: int = STATE_BYTES) -> SnapshotFigures:
    """Measure in ``directory``, which needs about five times ``state_bytes`` of room. Takes a minute or so."""
    machine = ChatStateMachine.open(directory / "chat.db")
    entries = _entries()
    count = max(state_bytes // BYTES_PER_MESSAGE, 10 * BATCH)
    while machine.applied_index < count:
        machine.apply([next(entries) for _ in range(FILLING_BATCH)])

    quiet = [_timed(machine, entries) for _ in range(QUIET_BATCHES)]
    before = _peak_bytes()
    alone = directory / "alone.snapshot"
    export_s = _export(machine, alone)[1]

    busy: list[float] = []
    finished: list[tuple[float, float]] = []
    started = time.perf_counter()
    snapshot = machine.open_snapshot()
    open_s = time.perf_counter() - started
    target = directory / "busy.snapshot"

    def export() -> None:
        began = time.perf_counter()
        with target.open("wb") as file:
            snapshot.write_to(file.write)
        finished.append((began, time.perf_counter()))

    thread = threading.Thread(target=export)
    thread.start()
    while thread.is_alive():
        busy.append(_timed(machine, entries))
    thread.join()
    ((began, ended),) = finished
    wal_bytes = machine.statistics().wal_bytes

    other = ChatStateMachine.open(directory / "other.db")
    started = time.perf_counter()
    prepared = prepare_state(directory / "other.db", _pieces(target), other.origin)
    import_s = time.perf_counter() - started
    started = time.perf_counter()
    other.install(prepared)
    install_s = time.perf_counter() - started
    database_bytes = machine.statistics().database_bytes
    other.close()
    machine.close()
    return SnapshotFigures(
        state_bytes=target.stat().st_size,
        database_bytes=database_bytes,
        entries=snapshot.applied_index,
        open_s=open_s,
        export_s=export_s,
        export_busy_s=ended - began,
        import_s=import_s,
        install_s=install_s,
        peak_bytes=_peak_bytes() - before,
        apply_quiet_s=statistics.median(quiet),
        apply_busy_s=statistics.median(busy),
        apply_quiet_p99_s=_p99(quiet),
        apply_busy_p99_s=_p99(busy),
        apply_busy_max_s=max(busy),
        wal_bytes=wal_bytes,
    )


def _export(machine: ChatStateMachine, target: Path) -> tuple[int, float]:
    started = time.perf_counter()
    with target.open("wb") as file:
        index = machine.export_snapshot(file.write)
    return index, time.perf_counter() - started


def _timed(machine: ChatStateMachine, entries: Iterator[Entry]) -> float:
    batch = [next(entries) for _ in range(BATCH)]
    started = time.perf_counter()
    machine.apply(batch)
    return time.perf_counter() - started


def _entries() -> Iterator[Entry]:
    """A user, a chat, and messages without end, a hundred of them in each millisecond."""
    user, chat = 1 << TIME_SHIFT, 2 << TIME_SHIFT
    first: tuple[Write, ...] = (CreateUser("t", "ann", user), CreateChat(user, "t", "chat", chat))
    for index, command in enumerate(first, start=1):
        yield Entry(index, 1, encode_command(command))
    index = len(first)
    while True:
        index += 1
        stamp = (3 + index // 100) << TIME_SHIFT | index % 100
        yield Entry(index, 1, encode_command(Send(user, chat, f"txn-{index:012}", TEXT, stamp)))


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        read: Callable[[], bytes] = lambda: source.read(PIECE_BYTES)  # noqa: E731 - iter wants a function
        yield from iter(read, b"")


def _p99(times: list[float]) -> float:
    return sorted(times)[len(times) * 99 // 100]


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MEMORY_UNIT
