"""The state machine and its task: committed entries in order, queries in between, whole states from snapshots.

Theory of operation
-------------------
One task does all that touches the state machine, in a worker thread, one call at a time and each to its end: a batch
of entries in one transaction, then the queries that the state has become recent enough for, then what others want done
between two batches (``between_batches``). A received snapshot takes its place in the order of the entries: what came
before it is dropped if it has not been applied yet, because the snapshot holds it.

A query waits for an index. It is answered from the first state that has applied it, never from an earlier one.

A full disk fails the transaction as a whole; it is tried again until there is room.
"""

from __future__ import annotations

import errno
import heapq
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import structlog
import trio

from impl.chat.commands import Query, Reply
from impl.chat.state_machine import ChatStateMachine, StateMachineStatistics
from impl.node.blocking import RunBlocking
from impl.node.disk_room import DiskRoom
from impl.node.slots import Slot, Slots, Tokens
from impl.raft.events import Token
from impl.raft.messages import Base, Entry

MAX_APPLY_ENTRIES = 512
"""Applied in one transaction: a node that replays a long log keeps what it has done, and answers queries in between."""

MAX_BACKLOG_ENTRIES = 16_384
"""Committed entries that wait for the state machine before a node takes no more writes: seconds of its work."""

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ApplyingStatistics:
    """Counters since the start of the process."""

    applied: int  # entries
    queries: int  # answered
    restored: int  # states that were replaced by a received snapshot
    backlog: int  # committed entries that wait now
    waiting_queries: int  # now
    machine: StateMachineStatistics


@dataclass(frozen=True, slots=True)
class _WaitingQuery:
    index: int
    token: Token
    query: Query
    slot: Slot[Reply]

    def __lt__(self, other: _WaitingQuery) -> bool:
        return (self.index, self.token) < (other.index, other.token)


class Applying:
    """The state machine, what waits for it, and whom to tell."""

    def __init__(
        self,
        machine: ChatStateMachine,
        restore: Callable[[ChatStateMachine, Base], None],
        run_blocking: RunBlocking,
        room: DiskRoom,
        tokens: Tokens,
        applied: Callable[[Sequence[Entry], Sequence[Reply | None]], None],
        restored: Callable[[Base], None],
    ) -> None:
        """``restore`` replaces the machine's state by that of a snapshot; ``applied`` and ``restored`` are told of what
        was done."""
        self.machine = machine
        """To be asked for its applied index by all, used by none but this."""
        self._restore = restore
        self._run_blocking = run_blocking
        self._disk_room = room
        self._slots: Slots[Reply] = Slots(tokens)
        self._tell_applied = applied
        self._tell_restored = restored
        self._entries: deque[Entry] = deque()
        self._snapshot: Base | None = None  # to be restored before the entries
        self._queries: list[_WaitingQuery] = []  # a heap by read index
        self._jobs: deque[tuple[Callable[[ChatStateMachine], Any], Slot[tuple[Any]]]] = deque()
        self._job_slots: Slots[tuple[Any]] = Slots(tokens)
        self._wake = trio.Event()
        self._applied = self._answered = self._restored = 0

    @property
    def applied_index(self) -> int:
        return self.machine.applied_index

    @property
    def is_behind(self) -> bool:
        """So many entries wait that no more should be taken on."""
        return len(self._entries) >= MAX_BACKLOG_ENTRIES

    def take(self, entries: Iterable[Entry]) -> None:
        """Apply committed entries, after all before them."""
        self._entries.extend(entries)
        self._wake.set()

    def take_snapshot(self, base: Base) -> None:
        """Replace the state by the received snapshot that ends at ``base``; entries that come later go on from it."""
        self._entries.clear()
        self._snapshot = base
        self._wake.set()

    async def query(self, query: Query, index: int) -> Reply:
        """Answer from the first state that has applied ``index``; 0 for the state as it is."""
        with self._slots.open() as slot:
            heapq.heappush(self._queries, _WaitingQuery(index, slot.token, query, slot))
            self._wake.set()
            try:
                return await slot.wait()
            finally:
                if slot.is_open:  # given up while it waits for its index, perhaps for ever
                    self._queries = [waiting for waiting in self._queries if waiting.token != slot.token]
                    heapq.heapify(self._queries)

    async def between_batches(self, job: Callable[[ChatStateMachine], T]) -> T:
        """Run a short job on the state machine, in its worker, while nothing else uses it."""
        with self._job_slots.open() as slot:
            self._jobs.append((job, slot))
            self._wake.set()
            (result,) = await slot.wait()
            return cast("T", result)

    async def run(self) -> None:
        """Apply and answer, for ever. Raises what makes the state machine unusable."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            if self._snapshot is not None:
                base, self._snapshot = self._snapshot, None
                self._wake.set()
                await self._replace(base)
                continue
            entries = [self._entries.popleft() for _ in range(min(len(self._entries), MAX_APPLY_ENTRIES))]
            if self._entries:
                self._wake.set()
            reachable = entries[-1].index if entries else self.machine.applied_index
            queries = []
            while self._queries and self._queries[0].index <= reachable:
                queries.append(heapq.heappop(self._queries))
            if entries or queries:
                replies, answers = await self._when_there_is_room(self._apply_and_query, entries, queries)
                self._applied += len(entries)
                self._answered += len(queries)
                self._tell_applied(entries, replies)
                for waiting, answer in zip(queries, answers, strict=True):
                    waiting.slot.put(answer)
            while self._jobs:
                job, slot = self._jobs.popleft()
                slot.put((await self._run_blocking(job, self.machine),))

    async def _replace(self, base: Base) -> None:
        if base.index <= self.machine.applied_index:
            return  # what it holds has been applied already
        await self._when_there_is_room(self._restore, self.machine, base)
        self._restored += 1
        log.info("state replaced by a snapshot", index=base.index)
        self._tell_restored(base)

    async def _when_there_is_room(self, function: Callable[..., T], *arguments: Any) -> T:
        while True:
            try:
                result = await self._run_blocking(function, *arguments)
            except (sqlite3.OperationalError, OSError) as error:
                if not _is_full(error):
                    raise
                await self._disk_room.wait_for("state machine", error)
            else:
                self._disk_room.found("state machine")
                return result

    def _apply_and_query(
        self, entries: Sequence[Entry], queries: Iterable[_WaitingQuery]
    ) -> tuple[Sequence[Reply | None], list[Reply]]:
        replies = self.machine.apply(entries) if entries else []
        return replies, [self.machine.query(waiting.query) for waiting in queries]

    def close(self) -> None:
        """Everything applied is in the file."""
        self.machine.close()

    def statistics(self) -> ApplyingStatistics:
        return ApplyingStatistics(
            self._applied,
            self._answered,
            self._restored,
            len(self._entries),
            len(self._queries),
            self.machine.statistics(),
        )


def _is_full(error: sqlite3.OperationalError | OSError) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
