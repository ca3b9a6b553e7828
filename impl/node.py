"""One node: the trio driver of one Raft core, and the chat service on top of it.

Theory of operation
-------------------
One task (``_drive``) owns the core. Everything else reaches it through inboxes: messages from peers, ticks, reports
of the disk, proposals and reads of clients. The task empties the inboxes, steps the core through each event and carries
out the effects; there is no ``await`` between reading the core's state and acting on it. Two more tasks do what
blocks, in worker threads, one call at a time, and to its end whatever is cancelled meanwhile: ``_persist`` writes
batches to the log and syncs them, as many as have piled up at once (group commit); ``_apply`` applies committed entries
to the state machine and answers queries.

*Requests.* A write is stamped, proposed, and waits until the entry at its index has been applied: if that entry has its
term, the state machine's reply is the answer; if it has another, the write is certainly lost. A read waits for
the core to confirm leadership and for the state machine to reach the read index. A node that does not lead forwards
commands to the one that does, over the peers' own links.

*Changes of leader.* A command that a change of leader has overtaken is tried again, here or at the new leader, until
its time is up: every write carries a transaction id, so the state machine carries it out once however often it
arrives.

*Outcomes.* A request that was refused, or never reached the log, is *not done*. A write that may be in some log when
its time is up is *unknown*. Queries have no effect and are never unknown.

*Failure.* A failed write or sync, a broken invariant or an entry that cannot be applied ends the node: the exception
leaves ``run``. Nothing is repaired by carrying on.

Variants of a node (in tests of the checkers, say) override ``read_index`` or name other parts in the class attributes
``core_class``, ``wal_class`` and ``state_machine_class``.
"""

from __future__ import annotations

import heapq
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec
import structlog
import trio

from impl.chat.commands import (
    Command,
    CreateChat,
    CreateUser,
    Join,
    Leave,
    Query,
    Reply,
    Send,
    Write,
    decode_command,
    decode_reply,
    encode_command,
    encode_reply,
)
from impl.chat.service import NodeStatus, NotDone, OutcomeUnknown
from impl.chat.snowflake import Snowflakes
from impl.chat.state_machine import ChatStateMachine
from impl.config import NodeConfig
from impl.network.wire import BadFrame, Forward, ForwardReply, WireMessage
from impl.raft import CheckedCore, Core, ProtocolViolation, Settings
from impl.raft.events import Effects, Event, Persist, Persisted, Propose, Read, Receive, Tick, Unreachable
from impl.raft.messages import NOBODY, Entry, NodeId
from impl.storage.disk import Disk
from impl.storage.identity import Identity
from impl.storage.wal import Wal

MAX_INBOX = 4096
"""Messages from peers that wait for the core: more than all windows of a small group; beyond it their streams wait."""

MAX_OPEN_REQUESTS = 4096
"""Client requests in progress on one node: each holds a task and a few hundred bytes. More are refused, not done."""

LEADER_WAIT_S = 1.5
"""How long a request waits for a leader to be known: about two election timeouts with the default ticks."""

MAX_GROUP_BYTES = 2 * 1024 * 1024
"""Payload of the proposals handed to the core at once, and of the batches written as one frame: large enough that a
sync is shared by all who wait, well below what one frame of the log may hold."""

MAX_APPLY_ENTRIES = 512
"""Applied in one transaction: a node that replays a long log keeps what it has done, and answers queries in between."""

MAX_CATCH_UP_TICKS = 2
"""After a pause of the process, time is not made up for: a burst of ticks would start an election on old news."""

T = TypeVar("T")
log = structlog.get_logger()

RETRIED = frozenset({"no-leader", "not-leader", "lost-leadership"})
"""Why a command was not done that may be done by the next leader."""

RETRY_PAUSE_S = 0.02
"""Between attempts: a tick's length, within which a node may learn who leads."""

WRITES = (CreateUser, CreateChat, Join, Leave, Send)


class _Overtaken(Exception):
    """The node that was to carry out a command has lost its leadership, or the link to it broke, before it answered."""


class Network(Protocol):
    """What a node needs of its network; real and simulated ones fit."""

    def send(self, message: WireMessage) -> bool: ...


class RunBlocking(Protocol):
    """Runs a function that may block, and waits for it to its end whatever is cancelled meanwhile."""

    async def __call__(self, function: Callable[..., T], /, *arguments: Any) -> T: ...


class _InThread:
    """Worker threads of the node's own: one for the log, one for the state machine. Others, name resolution say, may
    hang in the common pool."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(2)

    async def __call__(self, function: Callable[..., T], /, *arguments: Any) -> T:
        return await trio.to_thread.run_sync(function, *arguments, limiter=self._limiter)


class _Slot:
    """Where the outcome of one request arrives."""

    __slots__ = ("_arrived", "_outcome", "in_log")

    def __init__(self) -> None:
        self._arrived = trio.Event()
        self._outcome: Reply | Exception | int | None = None
        self.in_log = False  # from here on a write may be carried out whatever becomes of this node

    @property
    def is_open(self) -> bool:
        return self._outcome is None

    def put(self, outcome: Reply | Exception | int) -> None:
        if self._outcome is None:
            self._outcome = outcome
            self._arrived.set()

    async def wait(self) -> Reply | int:
        await self._arrived.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome


@dataclass(frozen=True, slots=True)
class _WaitingQuery:
    index: int
    token: int
    query: Query
    slot: _Slot

    def __lt__(self, other: _WaitingQuery) -> bool:
        return (self.index, self.token) < (other.index, other.token)


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """Counters since the start of the process."""

    proposals: int  # writes handed to the core
    applied: int  # entries applied
    queries: int  # queries answered from this node's state machine
    forwarded: int  # commands sent on to the leader
    syncs: int  # groups of batches made durable
    open_requests: int


class Node:
    """A member of the cluster, and the chat service as seen from it."""

    core_class: ClassVar[type[Core]] = Core
    wal_class: ClassVar[type[Wal]] = Wal
    state_machine_class: ClassVar[type[ChatStateMachine]] = ChatStateMachine

    def __init__(
        self,
        config: NodeConfig,
        disk: Disk,
        random: Random,
        clock_ms: Callable[[], int],
        *,
        database: Path | str | None = None,
        run_blocking: RunBlocking | None = None,
    ) -> None:
        """Open the data directory and recover what it holds.

        ``clock_ms`` gives Unix milliseconds, for stamps only. ``database`` is the state machine's file, in the data
        directory unless named. ``run_blocking`` runs what waits for a disk; a simulation, whose disk does not wait,
        runs it in place, because threads know nothing of virtual time. By default it runs in threads that nothing else
        can use up.

        Raises ``StorageError`` if the directory is damaged, in use, or another node's.
        """
        self.config = config
        self.incarnation = secrets.token_hex(8)
        self._random = random
        self._run_blocking = _InThread() if run_blocking is None else run_blocking
        self._wal, recovered = self.wal_class.open(
            disk, config.data_dir, Identity(cluster=config.cluster, node_id=config.node_id)
        )
        machine = None
        try:
            machine = self._machine = self.state_machine_class.open(database or config.data_dir / "chat.db")
            core_class = CheckedCore if config.check_invariants and self.core_class is Core else self.core_class
            self._core = core_class(
                Settings(
                    node_id=config.node_id,
                    voters=config.voters,
                    election_ticks=config.election_ticks,
                    heartbeat_ticks=config.heartbeat_ticks,
                ),
                recovered.hard_state,
                recovered.entries,
                self._machine.applied_index,
            )
            if self._core.log.term_at(machine.applied_index) != machine.applied_term:
                raise ProtocolViolation(
                    f"{config.data_dir} holds a state of term {machine.applied_term} at entry {machine.applied_index} "
                    "that its log does not lead to: chat.db comes from another node or cluster; move it away, and the "
                    "node makes it anew from its log"
                )
        except BaseException:
            if machine is not None:
                machine.close()
            self._wal.close()
            raise
        if recovered.cut_bytes:
            log.warning("torn tail cut from the log: a write was under way at the crash", bytes=recovered.cut_bytes)
        log.info("recovered", entries=len(recovered.entries), applied=self._machine.applied_index, term=self._core.term)

        self._network: Network | None = None
        self._snowflakes = Snowflakes(clock_ms, group=0)
        self._inbox: deque[Event] = deque()
        self._proposals: deque[tuple[int, bytes]] = deque()
        self._reads: list[int] = []
        self._wake = trio.Event()
        self._room = trio.Event()
        self._to_persist: list[Persist] = []
        self._persist_wake = trio.Event()
        self._to_apply: list[Entry] = []
        self._queries: list[_WaitingQuery] = []  # a heap by read index
        self._apply_wake = trio.Event()
        self._leader_known = trio.Event()
        self._next_token = 1
        self._slots: dict[int, _Slot] = {}  # by token: reads and proposals in the core, forwarded commands
        self._by_index: dict[int, tuple[int, int]] = {}  # log index -> (term, token) of a proposal of this node
        self._forwarded_to: dict[int, NodeId] = {}  # token -> the node that was asked
        self._reign = (0, NOBODY)  # term and leader as the requests in progress know them
        self._open_requests = 0
        self._counts = {"proposals": 0, "applied": 0, "queries": 0, "forwarded": 0, "syncs": 0}
        self._nursery: trio.Nursery | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self, network: Network, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drive the core until cancelled, then close log and state machine. Raises what made the node stop."""
        self._network = network
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._tick)
                nursery.start_soon(self._persist)
                nursery.start_soon(self._apply)
                nursery.start_soon(self._drive)
                task_status.started()
        finally:
            self._machine.close()
            self._wal.close()

    async def deliver(self, message: WireMessage) -> None:
        """Take a message from a peer; waits while the core has more than it can do."""
        while len(self._inbox) >= MAX_INBOX:
            await self._room.wait()
        if isinstance(message, Forward):
            self._serve_forward(message)
        elif isinstance(message, ForwardReply):
            self._finish_forward(message)
        else:
            self._post(Receive(message))

    def on_loss(self, peer: NodeId) -> None:
        """Something sent to this peer may have been lost."""
        self._post(Unreachable(peer))
        for token, asked in self._forwarded_to.items():
            if asked == peer:
                self._slots[token].put(_Overtaken())

    def statistics(self) -> NodeStatistics:
        return NodeStatistics(**self._counts, open_requests=self._open_requests)

    def status(self) -> NodeStatus:
        core = self._core
        return NodeStatus(
            cluster=self.config.cluster,
            node_id=self.config.node_id,
            incarnation=self.incarnation,
            role=core.role,
            term=core.term,
            leader_id=core.leader_id,
            leader_url=self.config.peer_urls.get(core.leader_id, ""),
            commit_index=core.commit_index,
            applied_index=self._machine.applied_index,
            last_index=core.log.last_index,
            peers=dict(self.config.peer_urls),
        )

    # --- the owner of the core ---------------------------------------------------------------------------------------

    def _post(self, event: Event) -> None:
        self._inbox.append(event)
        self._wake.set()

    async def _tick(self) -> None:
        period_s = self.config.tick_ms / 1000
        due = trio.current_time() + period_s
        while True:
            await trio.sleep_until(due)
            late = int((trio.current_time() - due) / period_s)
            for _ in range(min(1 + late, MAX_CATCH_UP_TICKS)):
                self._post(Tick(self._random.getrandbits(32)))
            due = trio.current_time() + period_s if late else due + period_s

    async def _drive(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._inbox:
                self._carry_out(self._core.step(self._inbox.popleft()))
            while self._proposals:
                count = _within_bytes((len(payload) for _, payload in self._proposals), MAX_GROUP_BYTES)
                proposals = tuple(self._proposals.popleft() for _ in range(count))
                self._counts["proposals"] += count
                self._carry_out(self._core.step(Propose(proposals)))
            if self._reads:
                tokens, self._reads = tuple(self._reads), []
                self._carry_out(self._core.step(Read(tokens)))
            self._room.set()
            self._room = trio.Event()
            if self._reign != (self._core.term, self._core.leader_id):
                self._change_reign()

    def _change_reign(self) -> None:
        """There is a new leader, or none: whoever waits for the old one must look again."""
        self._reign = (self._core.term, self._core.leader_id)
        log.info("leader", term=self._core.term, leader=self._core.leader_id, role=self._core.role)
        if self._core.leader_id == NOBODY:
            if self._leader_known.is_set():  # else somebody may be waiting for it
                self._leader_known = trio.Event()
        else:
            self._leader_known.set()
        for token, slot in self._slots.items():
            if slot.in_log or token in self._forwarded_to:
                slot.put(_Overtaken())

    def _carry_out(self, effects: Effects) -> None:
        assert self._network is not None
        for message in effects.send:
            self._network.send(message)
        if effects.persist is not None:
            self._to_persist.append(effects.persist)
            self._persist_wake.set()
        for accepted in effects.accepted:
            slot = self._slots.get(accepted.token)
            if slot is not None:
                slot.in_log = True
                self._by_index[accepted.index] = (accepted.term, accepted.token)
        for refused in effects.refused:
            slot = self._slots.get(refused.token)
            if slot is not None:
                slot.put(NotDone(refused.reason, f"node {self.config.node_id} refused the request: {refused.reason}"))
        for ready in effects.reads:
            slot = self._slots.get(ready.token)
            if slot is not None:
                slot.put(ready.index)
        if effects.apply:
            self._to_apply.extend(effects.apply)
            self._apply_wake.set()

    # --- the disk ----------------------------------------------------------------------------------------------------

    async def _persist(self) -> None:
        while True:
            await self._persist_wake.wait()
            self._persist_wake = trio.Event()
            while self._to_persist:
                count = _within_bytes((_payload_bytes(batch.entries) for batch in self._to_persist), MAX_GROUP_BYTES)
                batches, self._to_persist = self._to_persist[:count], self._to_persist[count:]
                await self._run_blocking(self._write, batches)
                self._counts["syncs"] += 1
                self._post(Persisted(batches[-1].sequence))

    def _write(self, batches: Sequence[Persist]) -> None:
        """Write a group of batches as one frame, and make it durable."""
        hard_state = None
        entries: list[Entry] = []
        for batch in batches:
            hard_state = batch.hard_state or hard_state
            if batch.entries:
                while entries and entries[-1].index >= batch.entries[0].index:
                    entries.pop()  # replaced before it ever reached the disk
                entries.extend(batch.entries)
        self._wal.append(hard_state, entries)
        self._wal.sync()

    # --- the state machine -------------------------------------------------------------------------------------------

    async def _apply(self) -> None:
        while True:
            await self._apply_wake.wait()
            self._apply_wake = trio.Event()
            entries, self._to_apply = self._to_apply[:MAX_APPLY_ENTRIES], self._to_apply[MAX_APPLY_ENTRIES:]
            if self._to_apply:
                self._apply_wake.set()
            reachable = entries[-1].index if entries else self._machine.applied_index
            queries = []
            while self._queries and self._queries[0].index <= reachable:
                queries.append(heapq.heappop(self._queries))
            if not entries and not queries:
                continue
            replies, answers = await self._run_blocking(self._apply_and_query, entries, queries)
            self._counts["applied"] += len(entries)
            self._counts["queries"] += len(queries)
            for entry, reply in zip(entries, replies, strict=True):
                self._resolve(entry, reply)
            for waiting, answer in zip(queries, answers, strict=True):
                waiting.slot.put(answer)

    def _apply_and_query(
        self, entries: Sequence[Entry], queries: Iterable[_WaitingQuery]
    ) -> tuple[list[Reply | None], list[Reply]]:
        replies = self._machine.apply(entries) if entries else []
        return replies, [self._machine.query(waiting.query) for waiting in queries]

    def _resolve(self, entry: Entry, reply: Reply | None) -> None:
        """Answer whoever waits for the entry at this index."""
        term, token = self._by_index.pop(entry.index, (0, 0))
        slot = self._slots.get(token)
        if slot is None:
            return
        if term == entry.term and reply is not None:
            slot.put(reply)
        else:
            slot.put(NotDone("lost-leadership", "another leader's entry took this one's place in the log"))

    # --- requests ----------------------------------------------------------------------------------------------------

    async def execute(self, command: Command, *, timeout_s: float) -> Reply:
        """Carry out a client's command, here or at the leader; see ``impl.chat.service.ChatService``."""
        if self._open_requests >= MAX_OPEN_REQUESTS:
            raise NotDone("overloaded", f"node {self.config.node_id} has {MAX_OPEN_REQUESTS} requests in progress")
        self._open_requests += 1
        deadline = trio.current_time() + timeout_s
        maybe_done = False
        try:
            while True:
                try:
                    leader_id = await self._leader(deadline)
                    if leader_id == self.config.node_id:
                        return await self._execute_here(command, deadline)
                    return await self._forward(command, leader_id, deadline)
                except _Overtaken:
                    maybe_done = maybe_done or isinstance(command, WRITES)
                    problem = NotDone("lost-leadership", "the leader lost its office before it answered")
                except NotDone as error:
                    problem = error
                if problem.reason not in RETRIED or trio.current_time() + RETRY_PAUSE_S >= deadline:
                    if maybe_done:
                        raise OutcomeUnknown(f"an earlier attempt may have succeeded; the last: {problem.detail}")
                    raise problem
                await trio.sleep(RETRY_PAUSE_S)
        finally:
            self._open_requests -= 1

    async def _leader(self, deadline: float) -> NodeId:
        """The leader as this node knows it; waits for one to be known, but not for long."""
        with trio.move_on_at(min(deadline, trio.current_time() + LEADER_WAIT_S)):
            await self._leader_known.wait()
        if self._core.leader_id == NOBODY:
            raise NotDone("no-leader", f"node {self.config.node_id} knows of no leader: an election may be under way")
        return self._core.leader_id

    async def _execute_here(self, command: Command, deadline: float) -> Reply:
        if isinstance(command, WRITES):
            return await self._write_here(command, deadline)
        return await self._query_here(command, deadline)

    async def _write_here(self, command: Write, deadline: float) -> Reply:
        stamped = msgspec.structs.replace(command, proposed_id=self._snowflakes.next())
        token, slot = self._new_slot()
        self._proposals.append((token, encode_command(stamped)))
        self._wake.set()
        try:
            with trio.move_on_at(deadline):
                reply = await slot.wait()
                assert not isinstance(reply, int)
                return reply
        finally:
            del self._slots[token]
            if not slot.in_log:
                self._proposals = deque(waiting for waiting in self._proposals if waiting[0] != token)
        if slot.in_log:
            raise OutcomeUnknown("the write is in the leader's log and was not committed in time: it may be, later")
        raise NotDone("overloaded", "the write did not reach the leader's log in time")

    async def _query_here(self, query: Query, deadline: float) -> Reply:
        with trio.move_on_at(deadline):
            index = await self.read_index()
            token, slot = self._new_slot()
            heapq.heappush(self._queries, _WaitingQuery(index, token, query, slot))
            self._apply_wake.set()
            try:
                reply = await slot.wait()
                assert not isinstance(reply, int)
                return reply
            finally:
                del self._slots[token]
                if slot.is_open:  # given up while it waits for its index, perhaps for ever
                    self._queries = [waiting for waiting in self._queries if waiting.token != token]
                    heapq.heapify(self._queries)
        raise NotDone("read-timeout", "leadership could not be confirmed in time: this node may be cut off")

    async def read_index(self) -> int:
        """An index such that a state which has applied it is recent enough for a read that begins now.

        Raises ``NotDone`` if this node does not lead, or loses its leadership before it is confirmed.
        """
        token, slot = self._new_slot()
        self._reads.append(token)
        self._wake.set()
        try:
            index = await slot.wait()
            assert isinstance(index, int)
            return index
        finally:
            del self._slots[token]

    def _new_slot(self) -> tuple[int, _Slot]:
        token = self._next_token
        self._next_token += 1
        slot = _Slot()
        self._slots[token] = slot
        return token, slot

    # --- forwarding --------------------------------------------------------------------------------------------------

    async def _forward(self, command: Command, leader: NodeId, deadline: float) -> Reply:
        assert self._network is not None
        self._counts["forwarded"] += 1
        token, slot = self._new_slot()
        self._forwarded_to[token] = leader
        message = Forward(
            group=0,
            source=self.config.node_id,
            target=leader,
            incarnation=self.incarnation,
            request=token,
            command=encode_command(command),
            timeout_ms=max(int((deadline - trio.current_time()) * 1000), 1),
        )
        try:
            if not self._network.send(message):
                raise NotDone("no-leader", f"node {self.config.node_id} has no connection to the leader, node {leader}")
            with trio.move_on_at(deadline):
                reply = await slot.wait()
                assert not isinstance(reply, int)
                return reply
        except OutcomeUnknown as error:
            if isinstance(command, WRITES):
                raise
            raise NotDone("read-timeout", error.detail) from error  # a query has no effect to be unsure of
        finally:
            del self._slots[token], self._forwarded_to[token]
        if isinstance(command, WRITES):
            raise OutcomeUnknown(f"the leader, node {leader}, has not answered in time")
        raise NotDone("read-timeout", f"the leader, node {leader}, has not answered in time")

    def _serve_forward(self, message: Forward) -> None:
        assert self._nursery is not None
        if self._open_requests >= MAX_OPEN_REQUESTS:
            self._reply_forward(message, "not-done", reason="overloaded", detail="the leader is overloaded")
        elif self._core.role != "leader":
            self._reply_forward(
                message, "not-done", reason="not-leader", detail="the forwarded request found no leader"
            )
        else:
            self._open_requests += 1
            self._nursery.start_soon(self._execute_forward, message)

    async def _execute_forward(self, message: Forward) -> None:
        try:
            command = decode_command(message.command)
            deadline = trio.current_time() + message.timeout_ms / 1000
            reply = await self._execute_here(command, deadline)
        except NotDone as error:
            self._reply_forward(message, "not-done", reason=error.reason, detail=error.detail)
        except OutcomeUnknown as error:
            self._reply_forward(message, "unknown", detail=error.detail)
        except _Overtaken:
            self._reply_forward(message, "overtaken")
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            self._reply_forward(message, "not-done", reason="bad-request", detail=str(error))
        else:
            self._reply_forward(message, "ok", reply=encode_reply(reply))
        finally:
            self._open_requests -= 1

    def _reply_forward(
        self, message: Forward, outcome: str, *, reply: bytes = b"", reason: str = "", detail: str = ""
    ) -> None:
        assert self._network is not None
        answer = ForwardReply(
            group=message.group,
            source=self.config.node_id,
            target=message.source,
            incarnation=message.incarnation,
            request=message.request,
            outcome=outcome,
            reply=reply,
            reason=reason,
            detail=detail,
        )
        try:
            self._network.send(answer)
        except BadFrame as error:  # one reply that does not fit a frame must not end the node
            self._network.send(
                msgspec.structs.replace(
                    answer, outcome="unknown", reply=b"", detail=f"the reply cannot be sent: {error}"
                )
            )

    def _finish_forward(self, message: ForwardReply) -> None:
        slot = self._slots.get(message.request)
        if slot is None or message.incarnation != self.incarnation:
            return
        match message.outcome:
            case "ok":
                try:
                    slot.put(decode_reply(message.reply))
                except (msgspec.DecodeError, RecursionError) as error:
                    slot.put(OutcomeUnknown(f"the reply of node {message.source} is of another release: {error}"))
            case "not-done":
                slot.put(NotDone(message.reason, message.detail))
            case "overtaken":
                slot.put(_Overtaken())
            case _:
                slot.put(OutcomeUnknown(message.detail))


def _payload_bytes(entries: Sequence[Entry]) -> int:
    return sum(len(entry.payload) for entry in entries)


def _within_bytes(sizes_bytes: Iterable[int], limit_bytes: int) -> int:
    """How many of these fit the limit together; at least the first."""
    total = count = 0
    for size_bytes in sizes_bytes:
        total += size_bytes
        if count and total > limit_bytes:
            break
        count += 1
    return count
