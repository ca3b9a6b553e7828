"""The owner of the core: the only task that steps it.

Theory of operation
-------------------
Everything else reaches the core through inboxes: messages from peers, ticks, reports of the disk, proposals and reads
of clients. The task empties the inboxes, steps the core through each event and hands each effect to the part that
carries it out (``Carriers``); there is no ``await`` between reading the core's state and acting on it, and no carrier
waits.

Proposals and reads have inboxes of their own, so that those that have piled up go to the core together: one frame of
the log and one round of heartbeats then serve them all.

*Time.* Ticks that were missed while the machine paused are not made up for. The clock of leases is read when the reads
go to the core, never earlier: a lease is only worth what the clock says after the request has arrived.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

import structlog
import trio

from impl.raft import Core
from impl.raft.events import (
    Accepted,
    Completed,
    Effects,
    Event,
    Persist,
    Propose,
    Read,
    ReadReady,
    Refused,
    SendChunk,
    StoreChunk,
    Tick,
    Token,
)
from impl.raft.messages import NOBODY, Base, Configuration, Entry, Message

MAX_INBOX = 4096
"""Messages from peers that wait for the core: more than all windows of a small group; beyond it their streams wait."""

MAX_GROUP_BYTES = 2 * 1024 * 1024
"""Payload of the proposals handed to the core at once, and of the batches written as one frame: large enough that a
sync is shared by all who wait, well below what one frame of the log may hold."""

MAX_CATCH_UP_TICKS = 2
"""After a pause of the process, time is not made up for: a burst of ticks would start an election on old news."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Carriers:
    """Who carries out which effect. None of them waits, and none steps the core."""

    send: Callable[[Message], object]
    persist: Callable[[Persist], None]
    accepted: Callable[[Accepted], None]
    refused: Callable[[Refused], None]
    read_ready: Callable[[ReadReady], None]
    completed: Callable[[Completed], None]
    restore: Callable[[Base], None]
    apply: Callable[[Sequence[Entry]], None]
    send_chunk: Callable[[SendChunk], None]
    store_chunk: Callable[[StoreChunk], None]
    configured: Callable[[Configuration], None]
    new_reign: Callable[[], None]
    """There is another leader, another term, or no leader any more: whoever waits for the old one must look again."""


@dataclass(frozen=True, slots=True)
class DriverStatistics:
    """Counters since the start of the process."""

    proposals: int  # writes handed to the core
    reads: int  # reads handed to the core
    leader_changes: int  # leaders that this node has come to know of
    inbox: int  # events that wait now


class Driver:
    """One core and its inboxes."""

    def __init__(self, core: Core, random: Random, tick_ms: int, monotonic_ms: Callable[[], int]) -> None:
        self.core = core
        """To be looked at by all, stepped by none but this."""
        self.leader_known = trio.Event()
        self._random = random
        self._tick_s = tick_ms / 1000
        self._monotonic_ms = monotonic_ms
        self._inbox: deque[Event] = deque()
        self._proposals: deque[tuple[Token, bytes]] = deque()
        self._reads: dict[bool, list[Token]] = {False: [], True: []}  # by whether a lease will do
        self._wake = trio.Event()
        self._room = trio.Event()
        self._reign = (0, NOBODY)  # term and leader as the requests in progress know them
        self._proposed = self._asked = self._leader_changes = 0

    # --- inboxes -----------------------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Have the core step through an event, soon. For messages of peers, wait for ``room`` first."""
        self._inbox.append(event)
        self._wake.set()

    async def room(self) -> None:
        """Wait while the core has more than it can do."""
        while len(self._inbox) >= MAX_INBOX:
            await self._room.wait()

    def propose(self, token: Token, payload: bytes) -> None:
        self._proposals.append((token, payload))
        self._wake.set()

    def withdraw(self, token: Token) -> None:
        """Take back a proposal that the core has not accepted; without effect if it has refused it."""
        self._proposals = deque(waiting for waiting in self._proposals if waiting[0] != token)

    def read(self, token: Token, *, lease: bool = False) -> None:
        self._reads[lease].append(token)
        self._wake.set()

    # --- tasks -------------------------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Tell the core of time, for ever."""
        period_s = self._tick_s
        due = trio.current_time() + period_s
        while True:
            await trio.sleep_until(due)
            late = int((trio.current_time() - due) / period_s)
            for _ in range(min(1 + late, MAX_CATCH_UP_TICKS)):
                self.post(Tick(self._random.getrandbits(32), self._monotonic_ms()))
            due = trio.current_time() + period_s if late else due + period_s

    async def run(self, carriers: Carriers) -> None:
        """Step the core, for ever. Raises ``ProtocolViolation``."""
        carriers.configured(self.core.configuration)
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._inbox:
                self._step(self._inbox.popleft(), carriers)
            while self._proposals:
                count = within_bytes((len(payload) for _, payload in self._proposals), MAX_GROUP_BYTES)
                proposals = tuple(self._proposals.popleft() for _ in range(count))
                self._proposed += count
                self._step(Propose(proposals), carriers)
            for lease, waiting in self._reads.items():
                if waiting:
                    tokens, self._reads[lease] = tuple(waiting), []
                    self._asked += len(tokens)
                    self._step(Read(tokens, lease, self._monotonic_ms()), carriers)
            self._room.set()
            self._room = trio.Event()
            if self._reign != (self.core.term, self.core.leader_id):
                self._change_reign()
                carriers.new_reign()

    def _step(self, event: Event, carriers: Carriers) -> None:
        carry_out(self.core.step(event), carriers)

    def _change_reign(self) -> None:
        self._reign = (self.core.term, self.core.leader_id)
        log.info("leader", term=self.core.term, leader=self.core.leader_id, role=self.core.role)
        if self.core.leader_id == NOBODY:
            if self.leader_known.is_set():  # else somebody may be waiting for it
                self.leader_known = trio.Event()
        else:
            self._leader_changes += 1
            self.leader_known.set()

    def statistics(self) -> DriverStatistics:
        return DriverStatistics(self._proposed, self._asked, self._leader_changes, len(self._inbox))


def carry_out(effects: Effects, carriers: Carriers) -> None:
    """Hand each effect to its part, in the order that ``impl.raft.events`` wants."""
    for message in effects.send:
        carriers.send(message)
    if effects.persist is not None:
        carriers.persist(effects.persist)
    for accepted in effects.accepted:
        carriers.accepted(accepted)
    for refused in effects.refused:
        carriers.refused(refused)
    for ready in effects.reads:
        carriers.read_ready(ready)
    if effects.restore is not None:
        carriers.restore(effects.restore)
    if effects.apply:
        carriers.apply(effects.apply)
    for completed in effects.completed:
        carriers.completed(completed)
    for chunk in effects.store:
        carriers.store_chunk(chunk)
    for wanted in effects.chunks:
        carriers.send_chunk(wanted)
    if effects.configuration is not None:
        carriers.configured(effects.configuration)


def within_bytes(sizes_bytes: Iterable[int], limit_bytes: int) -> int:
    """How many of these fit the limit together; at least the first."""
    total = count = 0
    for size_bytes in sizes_bytes:
        total += size_bytes
        if count and total > limit_bytes:
            break
        count += 1
    return count
