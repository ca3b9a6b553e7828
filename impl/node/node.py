"""One member of a group: its parts, put together."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar, Protocol

import structlog
import trio

from impl.chat.commands import (
    Command,
    CreateChat,
    CreateUser,
    Join,
    Leave,
    Reply,
    Send,
    Write,
    decode_command,
    decode_reply,
    encode_command,
    encode_reply,
)
from impl.chat.service import Consistency, NodeStatus, NotDone, OutcomeUnknown
from impl.chat.state_machine import ChatStateMachine
from impl.cluster_service import BackupReader, BackupView, ClusterView
from impl.config import NodeConfig
from impl.network.wire import Forward, ForwardReply, WireMessage
from impl.node.addresses import Address, peers_of, urls_of
from impl.node.applying import Applying, ApplyingStatistics
from impl.node.blocking import InThread, RunBlocking
from impl.node.disk_room import DiskRoom
from impl.node.driver import Carriers, Driver, DriverStatistics
from impl.node.forwarding import Forwarding, ForwardingStatistics, Serve, readable
from impl.node.membership import (
    Change,
    Membership,
    decode_number,
    decode_view,
    encode_change,
    encode_number,
    standing_of,
)
from impl.node.opening import DATABASE, Opened, open_directory, restore
from impl.node.persistence import Persistence, PersistenceStatistics
from impl.node.reads import Reads
from impl.node.requests import Requests
from impl.node.slots import Tokens
from impl.node.snapshotting import SnapshotPolicy, SnapshotStatistics, Snapshotting
from impl.node.writes import Writes
from impl.raft import CheckedCore, Core, Settings, Statistics
from impl.raft.events import Receive, Refused, Unreachable
from impl.raft.messages import Base, Configuration, Entry, Member, NodeId
from impl.storage.disk import Disk
from impl.storage.snapshots import Snapshot
from impl.storage.wal import Wal

WRITES = (CreateUser, CreateChat, Join, Leave, Send)

COMMAND, VIEW, CHANGE, TRANSFER = range(4)
"""The kinds of forwarded requests: a write of the chat service, a look at the group, a change of it, of its leader."""

BLOCKING_THREADS = 5
"""The log, the state machine, a snapshot being taken, one being sent, one being received."""

RUN_ID_BITS = 63

log = structlog.get_logger()


class Network(Protocol):
    """What a node needs of its network; real and simulated ones fit."""

    def send(self, message: WireMessage) -> bool:
        """Send without waiting. False if the message is certainly not on its way."""
        ...

    def set_peers(self, peers: Mapping[NodeId, Address]) -> None:
        """From now on, keep a stream to each of these and to nobody else."""
        ...


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """All parts of a node at one instant; counters since the start of the process."""

    open_requests: int
    failed_requests: int  # that ended as not done or unknown
    raft: Statistics
    driver: DriverStatistics
    persistence: PersistenceStatistics
    applying: ApplyingStatistics
    snapshots: SnapshotStatistics
    forwarding: ForwardingStatistics


def monotonic_ms() -> int:
    """A clock for leases: it goes on while the machine is suspended, where the system has such a one."""
    clock = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC
    return time.clock_gettime_ns(clock) // 1_000_000


class Node:
    """A member of the group, and the chat service as seen from it."""

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
        run_id: int | None = None,
        monotonic_ms: Callable[[], int] = monotonic_ms,
    ) -> None:
        """Open the data directory and recover what it holds.

        ``clock_ms`` gives Unix milliseconds, for stamps only; ``monotonic_ms`` is for leases. ``database`` is the state
        machine's file, in the data directory unless named. ``run_blocking`` runs what waits for a disk; a simulation,
        whose disk does not wait, runs it in place, because threads know nothing of virtual time. By default it runs in
        threads that nothing else can use up. ``run_id`` names this start of the process, at random unless given.

        Raises ``StorageError`` if the directory is not formatted, damaged, in use, or another node's, and
        ``StateUnusable`` if an operator must look at the state machine's file.
        """
        self.config = config
        run_id = secrets.randbits(RUN_ID_BITS) if run_id is None else run_id
        self.run_id = f"{run_id:016x}"
        at = database or config.data_dir / DATABASE
        opened = open_directory(disk, config, at, self.wal_class, self.state_machine_class)
        self.identity = opened.identity
        try:
            core = self._make_core(opened, run_id)
        except BaseException:
            opened.close()
            raise
        log.info(
            "recovered",
            base=core.log.base.index,
            entries=len(opened.entries),
            applied=core.commit_index,
            term=core.term,
        )

        self._network: Network | None = None
        self._nursery: trio.Nursery | None = None
        blocking = InThread(BLOCKING_THREADS) if run_blocking is None else run_blocking
        tokens = Tokens()
        self._driver = Driver(core, random, config.tick_ms, monotonic_ms)
        room = DiskRoom(self._driver.post)
        self._persistence = Persistence(opened.wal, blocking, room, self._driver.post)
        self._writes = Writes(self._driver, tokens, clock_ms, self.identity.group)
        self._applying = Applying(
            opened.machine,
            lambda machine, base: restore(machine, at, opened.snapshots, base),
            blocking,
            room,
            tokens,
            self._applied,
            self._restored,
        )
        self._reads = Reads(self._driver, self._applying, tokens)
        policy = SnapshotPolicy(config.snapshot_entries, config.snapshot_bytes, config.keep_entries)
        self._snapshotting = Snapshotting(
            opened.snapshots, policy, self._driver, self._applying, blocking, self._send, opened.newest
        )
        self._membership = Membership(config.cluster, self._driver, tokens, self._url_of)
        self._forwarding = Forwarding(config.node_id, self.run_id, tokens, self._send, self.identity.group)
        self._requests = Requests(config.node_id, self._driver)
        self._handlers: dict[int, Serve] = {
            COMMAND: self._serve_write,
            VIEW: self._membership.serve_view,
            CHANGE: self._membership.serve_change,
            TRANSFER: self._membership.serve_transfer,
        }

    def _make_core(self, opened: Opened, run_id: int) -> Core:
        config = self.config
        core_class = CheckedCore if config.check_invariants and self.core_class is Core else self.core_class
        return core_class(
            Settings(
                node_id=config.node_id,
                group=opened.identity.group,
                incarnation=opened.identity.incarnation,
                run_id=run_id,
                priority=config.priority,
                election_ticks=config.election_ticks,
                heartbeat_ticks=config.heartbeat_ticks,
                lease_ms=config.lease_ms,
            ),
            opened.hard_state,
            opened.entries,
            opened.machine.applied_index,
            opened.base or Base(),
            opened.newest.base if opened.newest is not None else None,
        )

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self, network: Network, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drive the core until cancelled, then close log and state machine. Raises what made the node stop."""
        self._network = network
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._driver.tick)
                nursery.start_soon(self._persistence.run)
                nursery.start_soon(self._applying.run)
                nursery.start_soon(self._snapshotting.take_when_due)
                nursery.start_soon(self._snapshotting.send_pieces)
                nursery.start_soon(self._snapshotting.store_pieces)
                nursery.start_soon(self._driver.run, self._carriers())
                task_status.started()
        finally:
            self._applying.close()
            self._persistence.close()

    async def hand_over(self, timeout_s: float) -> None:
        """Give leadership away, if this node has it and somebody can take it; for an orderly end, and bounded."""
        if self._driver.core.role != "leader":
            return
        with trio.move_on_after(timeout_s):
            try:
                await self._membership.transfer(0, trio.current_time() + timeout_s)
                await self._driver.leader_known.wait()
            except (NotDone, OutcomeUnknown) as error:
                log.info("leadership could not be handed over", why=str(error))

    def _carriers(self) -> Carriers:
        """Who carries out the core's effects. A variant of a node (in tests of the checkers, say) puts in others."""
        return Carriers(
            send=self._send,
            persist=self._persistence.take,
            accepted=self._writes.accepted,
            refused=self._refused,
            read_ready=self._reads.ready,
            completed=self._membership.completed,
            restore=self._applying.take_snapshot,
            apply=self._applying.take,
            send_chunk=self._snapshotting.send_chunk,
            store_chunk=self._snapshotting.store_chunk,
            configured=self._configured,
            new_reign=self._new_reign,
        )

    def _send(self, message: WireMessage) -> bool:
        assert self._network is not None
        return self._network.send(message)

    def _refused(self, refused: Refused) -> None:
        _ = self._writes.refused(refused) or self._reads.refused(refused) or self._membership.refused(refused)

    def _configured(self, configuration: Configuration) -> None:
        assert self._network is not None
        self._network.set_peers(peers_of(configuration, self.config))

    def _new_reign(self) -> None:
        self._writes.overtake()
        self._forwarding.overtake()

    def _applied(self, entries: Sequence[Entry], replies: Sequence[Reply | None]) -> None:
        self._writes.applied(entries, replies)
        self._snapshotting.applied(entries)

    def _restored(self, base: Base) -> None:
        assert self._nursery is not None
        self._writes.restored(base)
        self._nursery.start_soon(self._snapshotting.keep_only_newest)

    # --- from the network --------------------------------------------------------------------------------------------

    async def deliver(self, message: WireMessage) -> None:
        """Take a message from a peer; waits while the core has more than it can do."""
        await self._driver.room()
        if isinstance(message, Forward):
            self._serve(message)
        elif isinstance(message, ForwardReply):
            self._forwarding.finish(message)
        else:
            self._driver.post(Receive(message))

    def on_loss(self, peer: NodeId) -> None:
        """Something sent to this peer may have been lost."""
        self._driver.post(Unreachable(peer))
        self._forwarding.lost(peer)

    def _serve(self, message: Forward) -> None:
        assert self._nursery is not None
        if self._driver.core.role != "leader":
            self._forwarding.refuse(message, NotDone("not-leader", "the forwarded request found no leader"))
        else:
            self._nursery.start_soon(self._serve_counted, message)

    async def _serve_counted(self, message: Forward) -> None:
        try:
            with self._requests.counted():
                await self._forwarding.serve(message, self._handlers)
        except NotDone as error:
            self._forwarding.refuse(message, error)

    # --- requests of clients -----------------------------------------------------------------------------------------

    async def execute(self, command: Command, *, timeout_s: float, consistency: Consistency = "linearizable") -> Reply:
        """Carry out a client's command; see ``impl.chat.service.ChatService``."""
        deadline = trio.current_time() + timeout_s

        async def attempt() -> Reply:
            if not isinstance(command, WRITES):
                return await self._reads.query(command, consistency, deadline)
            leader = await self._requests.leader(deadline)
            if leader == self.config.node_id:
                return await self._write_here(command, deadline)
            reply = await self._forwarding.ask(leader, COMMAND, encode_command(command), deadline)
            with readable(leader):
                return decode_reply(reply)

        with self._requests.counted():
            return await self._requests.until_done(attempt, deadline, has_effect=isinstance(command, WRITES))

    async def _write_here(self, command: Write, deadline: float) -> Reply:
        if self._applying.is_behind:
            raise NotDone("overloaded", "the leader's state machine is far behind its log")
        return await self._writes.write(command, deadline)

    async def _serve_write(self, body: bytes, deadline: float) -> bytes:
        command = decode_command(body)
        if not isinstance(command, WRITES):
            raise ValueError("queries are answered by the node that is asked")
        return encode_reply(await self._write_here(command, deadline))

    # --- requests about the group ------------------------------------------------------------------------------------

    async def cluster(self, *, timeout_s: float) -> ClusterView:
        """Who belongs to the group, as the leader sees it; see ``impl.cluster_service.ClusterService``."""
        deadline = trio.current_time() + timeout_s

        async def attempt() -> ClusterView:
            leader = await self._requests.leader(deadline)
            if leader == self.config.node_id:
                return self._membership.view()
            reply = await self._forwarding.ask(leader, VIEW, b"", deadline)
            with readable(leader):
                return decode_view(reply)

        with self._requests.counted():
            return await self._requests.until_done(attempt, deadline, has_effect=False)

    async def reconfigure(
        self, expected_index: int, members: tuple[Member, ...], voters: tuple[NodeId, ...], *, timeout_s: float
    ) -> int:
        """Change the group; see ``impl.cluster_service.ClusterService``."""
        deadline = trio.current_time() + timeout_s
        change = Change(expected_index, members, voters)

        async def attempt() -> int:
            leader = await self._requests.leader(deadline)
            if leader == self.config.node_id:
                return await self._membership.change(change, deadline)
            reply = await self._forwarding.ask(leader, CHANGE, encode_change(change), deadline)
            with readable(leader):
                return decode_number(reply)

        with self._requests.counted():
            return await self._requests.until_done(attempt, deadline, has_effect=True)

    async def transfer(self, target: NodeId, *, timeout_s: float) -> None:
        """Hand leadership over; see ``impl.cluster_service.ClusterService``."""
        deadline = trio.current_time() + timeout_s
        asked: list[NodeId] = []

        async def attempt() -> None:
            leader = await self._requests.leader(deadline)
            if asked and leader != asked[0] and target in (0, leader):
                return  # an earlier attempt was overtaken by what it had asked for
            asked.append(leader)
            if leader == self.config.node_id:
                await self._membership.transfer(target, deadline)
            else:
                await self._forwarding.ask(leader, TRANSFER, encode_number(target), deadline)

        with self._requests.counted():
            await self._requests.until_done(attempt, deadline, has_effect=False)

    @asynccontextmanager
    async def backup(self, *, fresh: bool, timeout_s: float) -> AsyncIterator[BackupReader]:
        """This node's newest snapshot; see ``impl.cluster_service.ClusterService``."""
        snapshot = self._snapshotting.newest
        if fresh or snapshot is None:
            with trio.move_on_after(timeout_s):
                snapshot = await self._snapshotting.take()
        if snapshot is None:
            raise NotDone("no-snapshot", f"node {self.config.node_id} has no snapshot and could not take one in time")
        with self._snapshotting.held(snapshot):
            yield _Backup(self.config.cluster, snapshot, self._snapshotting)

    # --- what there is to know ---------------------------------------------------------------------------------------

    def _url_of(self, member: Member) -> str:
        return urls_of(Configuration(members=(member,)), self.config).get(member.node_id, "")

    def status(self) -> NodeStatus:
        """What this node knows now; touches neither disk nor network."""
        core, config = self._driver.core, self.config
        urls = urls_of(core.configuration, config)
        return NodeStatus(
            cluster=config.cluster,
            node_id=config.node_id,
            run_id=self.run_id,
            incarnation=self.identity.incarnation,
            membership=standing_of(
                core.configuration, config.node_id, self.identity.incarnation, has_log=core.log.last_index > 0
            ),
            role=core.role,
            term=core.term,
            leader_id=core.leader_id,
            leader_url=urls.get(core.leader_id, ""),
            commit_index=core.commit_index,
            applied_index=self._applying.applied_index,
            last_index=core.log.last_index,
            configuration_index=core.configuration_index,
            peer=config.reply_to,
            url=config.url,
            peers=urls,
        )

    def statistics(self) -> NodeStatistics:
        """All there is to count."""
        return NodeStatistics(
            self._requests.open,
            self._requests.failed,
            self._driver.core.statistics(),
            self._driver.statistics(),
            self._persistence.statistics(),
            self._applying.statistics(),
            self._snapshotting.statistics(),
            self._forwarding.statistics(),
        )


class _Backup:
    """A snapshot that is being read."""

    def __init__(self, cluster: str, snapshot: Snapshot, snapshotting: Snapshotting) -> None:
        self.view = BackupView(cluster, snapshot.base.index, snapshot.size_bytes)
        self._snapshot = snapshot
        self._snapshotting = snapshotting

    async def read(self, offset: int, limit_bytes: int) -> bytes:
        return await self._snapshotting.read(self._snapshot, offset, limit_bytes)
