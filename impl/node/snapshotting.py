"""Snapshots: taken while writes go on, sent piece by piece, received piece by piece.

Theory of operation
-------------------
*Taking.* When enough has been applied since the last one, the state of that moment is opened between two batches, which
takes a millisecond, and another thread writes it out while entries go on being applied. Once it is durable the core may
forget the log before it (``Compact``), but for the last ``keep_entries``, so that members that are a little behind are
served from the log. No snapshot is taken while one is being sent: the one under way must stay the newest to be of use.

*Sending.* The core asks for one piece at a time for each member and waits for the answer, so at most one read per
member waits here; a later request takes the place of an earlier one. A snapshot that is gone is said to be lost
(``Unreachable``), and the core begins again with the newest.

*Receiving.* Pieces are stored in the order in which they came, each answered with how far the snapshot has got. What
does not fit the queue is dropped like a lost message; the leader sends it again. When all is there and verified, the
core makes it the beginning of its log and has the state machine replaced (``applying``). Only then older snapshots are
removed: until the log begins at the new one, the old one may still be needed.

A disk without room costs snapshots, never the node: what was begun is dropped, and tried again later.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
import trio

from impl.chat.service import NotDone
from impl.chat.snapshot import SnapshotAbandoned, StateSnapshot
from impl.node.applying import Applying
from impl.node.blocking import RunBlocking
from impl.node.driver import Driver
from impl.raft.events import ChunkStored, Compact, SendChunk, StoreChunk, Unreachable
from impl.raft.messages import Base, Entry, InstallSnapshot, Message, NodeId
from impl.storage.errors import DiskFull, SnapshotMissing
from impl.storage.snapshots import Snapshot, SnapshotStore

MAX_RECEIVED_PIECES = 8
"""Pieces that wait to be stored: the leader sends one at a time, and repeats one only after an election timeout."""

SENDING_S = 5.0
"""A snapshot counts as being sent for so long after its last piece was asked for: longer than a piece may be lost."""

PAUSE_S = 10.0
"""After a snapshot that could not be taken, before the next attempt."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """When a snapshot is taken, and how much of the log stays in front of it."""

    entries: int  # applied since the last one
    bytes: int  # of their payload
    keep_entries: int


@dataclass(frozen=True, slots=True)
class SnapshotStatistics:
    """Counters since the start of the process."""

    newest_index: int  # 0: there is none
    newest_bytes: int
    taken: int
    failed: int  # attempts that were given up
    last_seconds: float  # that the last one took
    sent_pieces: int
    sent_bytes: int
    received_pieces: int
    received_bytes: int
    entries_since: int  # applied since the newest


class Snapshotting:
    """The snapshots of one node."""

    def __init__(
        self,
        store: SnapshotStore,
        policy: SnapshotPolicy,
        driver: Driver,
        applying: Applying,
        run_blocking: RunBlocking,
        send: Callable[[Message], object],
        newest: Snapshot | None,
    ) -> None:
        self._store = store
        self._policy = policy
        self._driver = driver
        self._applying = applying
        self._run_blocking = run_blocking
        self._send = send
        self.newest = newest
        """The newest that is complete here."""
        self._entries_since = applying.applied_index - (newest.base.index if newest is not None else 0)
        self._bytes_since = 0
        self._due = trio.Event()
        self._taking = trio.Lock()
        self._readers: Counter[int] = Counter()  # backups that are read now, by the index of the snapshot
        self._wanted: dict[NodeId, SendChunk] = {}
        self._last_asked_s = float("-inf")
        self._send_wake = trio.Event()
        self._received: deque[StoreChunk] = deque()
        self._store_wake = trio.Event()
        self._taken = self._failed = 0
        self._last_seconds = 0.0
        self._sent_pieces = self._sent_bytes = self._received_pieces = self._received_bytes = 0

    # --- taking ------------------------------------------------------------------------------------------------------

    def applied(self, entries: Sequence[Entry]) -> None:
        """Entries have been applied."""
        self._entries_since += len(entries)
        self._bytes_since += sum(len(entry.payload) for entry in entries)
        if self._is_due():
            self._due.set()

    def _is_due(self) -> bool:
        return self._entries_since >= self._policy.entries or self._bytes_since >= self._policy.bytes

    async def take_when_due(self) -> None:
        """Take snapshots, for ever. Raises ``StorageError``."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            while self._is_being_sent():  # noqa: ASYNC110 (it is time itself that is waited for)
                await trio.sleep_until(self._last_asked_s + SENDING_S)
            if self._is_due() and await self.take() is None:
                await trio.sleep(PAUSE_S)
            if self._is_due():
                self._due.set()

    def _is_being_sent(self) -> bool:
        return trio.current_time() < self._last_asked_s + SENDING_S

    async def take(self) -> Snapshot | None:
        """Take a snapshot of the state as it is now, and shorten the log. None if that could not be done now."""
        async with self._taking:
            started = trio.current_time()
            state = await self._applying.between_batches(lambda machine: machine.open_snapshot())
            try:
                base = self._base_at(state.applied_index)
                if base is None:
                    return self.newest
                snapshot = await self._run_blocking(self._write, base, state)
            except (DiskFull, SnapshotAbandoned) as error:
                self._failed += 1
                log.warning("snapshot given up, to be tried again", error=str(error))
                return None
            finally:
                state.close()
            self._taken += 1
            self._last_seconds = trio.current_time() - started
            self._has_newest(snapshot)
            self._driver.post(Compact(base, max(base.index - self._policy.keep_entries, 0)))
            await self._retain()
            log.info("snapshot taken", index=base.index, bytes=snapshot.size_bytes, seconds=self._last_seconds)
            return snapshot

    def _base_at(self, index: int) -> Base | None:
        """What a snapshot at this index stands for; None if there is one already that is as new."""
        core = self._driver.core
        if index <= (self.newest.base.index if self.newest is not None else 0) or index < core.log.base.index:
            return None
        base = core.base_at(index)
        return base if base.configuration.voters else None  # it is not part of a group yet

    def _write(self, base: Base, state: StateSnapshot) -> Snapshot:
        writer = self._store.create(base)
        try:
            state.write_to(writer.write)
            return writer.finish()
        except BaseException:
            writer.abort()
            raise

    def _has_newest(self, snapshot: Snapshot) -> None:
        self.newest = snapshot
        self._entries_since = max(self._applying.applied_index - snapshot.base.index, 0)
        self._bytes_since = 0

    async def _retain(self) -> None:
        """Remove what is older than the newest, unless it is being read."""
        if self.newest is not None:
            oldest = min([self.newest.base.index, *self._readers])
            await self._run_blocking(self._store.retain, oldest)

    @contextmanager
    def held(self, snapshot: Snapshot) -> Iterator[None]:
        """Keep a snapshot while it is read from outside."""
        index = snapshot.base.index
        self._readers[index] += 1
        try:
            yield
        finally:
            self._readers[index] -= 1
            self._readers += Counter()  # drops what has come to zero

    async def read(self, snapshot: Snapshot, offset: int, limit_bytes: int) -> bytes:
        """A piece of a snapshot as it is on disk. Raises ``NotDone`` if it is gone."""
        try:
            data, _ = await self._run_blocking(self._store.read, snapshot.base, offset, limit_bytes)
        except SnapshotMissing as error:
            raise NotDone("snapshot-gone", str(error)) from error
        return data

    # --- sending -----------------------------------------------------------------------------------------------------

    def send_chunk(self, wanted: SendChunk) -> None:
        """Read and send a piece, soon."""
        self._wanted[wanted.target] = wanted
        self._last_asked_s = trio.current_time()
        self._send_wake.set()

    async def send_pieces(self) -> None:
        """Send what is asked for, for ever. Raises ``StorageError``."""
        while True:
            await self._send_wake.wait()
            self._send_wake = trio.Event()
            while self._wanted:
                wanted = self._wanted.pop(next(iter(self._wanted)))
                try:
                    data, total_bytes = await self._run_blocking(
                        self._store.read, wanted.base, wanted.offset, wanted.limit_bytes
                    )
                except SnapshotMissing:
                    self._driver.post(Unreachable(wanted.target))
                    continue
                self._sent_pieces += 1
                self._sent_bytes += len(data)
                self._send(self._piece(wanted, data, total_bytes))

    def _piece(self, wanted: SendChunk, data: bytes, total_bytes: int) -> InstallSnapshot:
        settings = self._driver.core.settings
        return InstallSnapshot(
            group=settings.group,
            source=settings.node_id,
            target=wanted.target,
            term=wanted.term,
            base=wanted.base,
            offset=wanted.offset,
            data=data,
            total_bytes=total_bytes,
            round=wanted.round,
        )

    # --- receiving ---------------------------------------------------------------------------------------------------

    def store_chunk(self, piece: StoreChunk) -> None:
        """Put a piece away, soon; dropped if too many wait."""
        if len(self._received) < MAX_RECEIVED_PIECES:
            self._received.append(piece)
            self._store_wake.set()

    async def store_pieces(self) -> None:
        """Store what comes in, for ever. Raises ``StorageError``."""
        while True:
            await self._store_wake.wait()
            self._store_wake = trio.Event()
            while self._received:
                piece = self._received.popleft()
                try:
                    so_far = await self._run_blocking(
                        self._store.store, piece.base, piece.offset, piece.data, piece.total_bytes
                    )
                except DiskFull as error:
                    log.warning("no room for a snapshot: the leader will send it again", error=str(error))
                    continue
                self._received_pieces += 1
                self._received_bytes += len(piece.data)
                self._driver.post(ChunkStored(piece.base, so_far.bytes, so_far.complete))

    async def keep_only_newest(self) -> None:
        """After a restored snapshot: it is the newest now, and older ones are of no more use."""
        newest = await self._run_blocking(self._store.newest)
        if newest is not None:
            self._has_newest(newest)
            await self._retain()

    def statistics(self) -> SnapshotStatistics:
        newest = self.newest
        return SnapshotStatistics(
            newest.base.index if newest is not None else 0,
            newest.size_bytes if newest is not None else 0,
            self._taken,
            self._failed,
            self._last_seconds,
            self._sent_pieces,
            self._sent_bytes,
            self._received_pieces,
            self._received_bytes,
            self._entries_since,
        )
