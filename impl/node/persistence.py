"""What the core wants durable, written and synced by one task: group commit.

Theory of operation
-------------------
Batches that pile up while the disk is busy are merged and written as one frame with one sync; the core is told of the
last of them, which stands for all. A batch that brings a base replaces what came before it where the log does not hold
the base's entry, so it is never merged behind entries: it begins a frame of its own.

A failed write or sync raises and ends the node. A *full* disk does not: the log is as it was, the frame is kept, and is
tried again until there is room.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from impl.node.blocking import RunBlocking
from impl.node.disk_room import DiskRoom
from impl.node.driver import MAX_GROUP_BYTES, within_bytes
from impl.raft.events import Event, Persist, Persisted
from impl.raft.messages import Base, Entry, HardState
from impl.storage.errors import DiskFull
from impl.storage.wal import Wal, WalStatistics

SYNC_BUCKETS_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096)
"""Upper bounds of the histogram of durations: from a fast disk with a cache of its own to one that hangs."""


@dataclass(frozen=True, slots=True)
class PersistenceStatistics:
    """Counters since the start of the process."""

    syncs: int  # frames made durable
    written_bytes: int  # payload of entries in them
    sync_seconds: float  # spent on writing and syncing, in all
    sync_counts: tuple[int, ...]  # by ``SYNC_BUCKETS_S``; the last: above all of them
    waiting_batches: int  # now
    log: WalStatistics


class Persistence:
    """The log and the batches that wait for it."""

    def __init__(
        self,
        wal: Wal,
        run_blocking: RunBlocking,
        room: DiskRoom,
        post: Callable[[Event], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wal = wal
        self._run_blocking = run_blocking
        self._disk_room = room
        self._post = post
        self._clock_s = clock_s
        self._waiting: list[Persist] = []
        self._wake = trio.Event()
        self._syncs = self._written_bytes = 0
        self._seconds = 0.0
        self._counts = [0] * (len(SYNC_BUCKETS_S) + 1)

    def take(self, batch: Persist) -> None:
        """Make a batch durable, after all before it; the core is told when."""
        self._waiting.append(batch)
        self._wake.set()

    async def run(self) -> None:
        """Write what waits, for ever. Raises ``StorageError``."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._waiting:
                count = within_bytes((_payload_bytes(batch.entries) for batch in self._waiting), MAX_GROUP_BYTES)
                count = next((n for n in range(1, count) if self._waiting[n].base is not None), count)
                batches, self._waiting = self._waiting[:count], self._waiting[count:]
                await self._write_when_there_is_room(batches)
                self._post(Persisted(batches[-1].sequence))

    async def _write_when_there_is_room(self, batches: Sequence[Persist]) -> None:
        hard_state, entries, base = merged(batches)
        while True:
            try:
                await self._run_blocking(self._write, hard_state, entries, base)
            except DiskFull as error:
                await self._disk_room.wait_for("log", error)
            else:
                self._disk_room.found("log")
                return

    def _write(self, hard_state: HardState | None, entries: Sequence[Entry], base: Base | None) -> None:
        """Write one frame, and make it durable."""
        started = self._clock_s()
        self._wal.append(hard_state, entries, base)
        self._wal.sync()
        taken_s = self._clock_s() - started
        self._syncs += 1
        self._written_bytes += _payload_bytes(entries)
        self._seconds += taken_s
        self._counts[bisect_left(SYNC_BUCKETS_S, taken_s)] += 1

    def close(self) -> None:
        self._wal.close()

    def statistics(self) -> PersistenceStatistics:
        return PersistenceStatistics(
            self._syncs,
            self._written_bytes,
            self._seconds,
            tuple(self._counts),
            len(self._waiting),
            self._wal.statistics(),
        )


def merged(batches: Sequence[Persist]) -> tuple[HardState | None, list[Entry], Base | None]:
    """What one frame has to hold to stand for these batches; only the first may bring a base."""
    hard_state = None
    entries: list[Entry] = []
    for batch in batches:
        hard_state = batch.hard_state or hard_state
        if batch.entries:
            while entries and entries[-1].index >= batch.entries[0].index:
                entries.pop()  # replaced before it ever reached the disk
            entries.extend(batch.entries)
    return hard_state, entries, batches[0].base


def _payload_bytes(entries: Sequence[Entry]) -> int:
    return sum(len(entry.payload) for entry in entries)
