"""Nodes in one process, in virtual time: real ``Node`` objects over links in memory and simulated disks.

Theory of operation
-------------------
Everything below the node is replaced by its simulated twin, everything in it is what runs in production. Time is trio's
mock clock, so a test of an election takes milliseconds; disk work runs in place, because threads know nothing of
virtual time.

*Links.* Each pair of nodes has a link in each direction, with a queue and a task of its own: frames on one link arrive
in the order in which they were sent, as on a stream, each after a delay of its own; between links there is no order.
A node that takes nothing more holds up the links that lead to it and no others. A link may be cut (``cuts``), slowed
down, or made to deliver a frame twice.

*The end of a node.* ``stop`` is an orderly end: log and database are closed, which syncs them. ``crash`` is a power
cut: the disk keeps what was synced and a random part of the rest, and the database the transactions that a torn end of
its journal leaves; both are taken before anything is closed. Requests in progress at the node end with it.

*Determinism.* Chance comes from the seed. ``virtually`` runs a scene with trio's scheduler seeded as well, and then a
seed gives the same messages at the same times, byte by byte.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import trio
import trio._core._run as scheduler
import trio.testing

from impl.chat.commands import Command, Reply
from impl.chat.service import OutcomeUnknown
from impl.config import NodeConfig
from impl.network.wire import FrameReader, Hello, WireMessage, encode
from impl.node import Node
from impl.node.node import RUN_ID_BITS
from impl.raft.configuration import founding
from impl.raft.messages import Base, Member
from impl.storage.formatting import format_directory
from impl.storage.identity import Identity
from impl.storage.simulated_disk import SimulatedDisk

MAX_NODES = 9

SEGMENT_BYTES = 64 * 1024
"""Of the first segment; small, because simulated disks copy what is written."""

TEARABLE_JOURNAL_BYTES = 4_000_000
"""SQLite copies its journal into the database when it holds 1000 pages of 4 KiB; a shorter one was never copied, so a
power cut may take back any end of it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Weather:
    """What the links are like."""

    latency_s: tuple[float, float] = (0.0002, 0.001)
    duplicated: float = 0.0
    """The share of frames that arrive twice."""
    noticed_s: tuple[float, float] | None = None
    """How long it takes the sender to notice that a frame was lost; None if it never does."""


CALM = Weather()


class InPlace:
    """Runs blocking work in the calling task, in the middle of a delay in virtual time: a disk as slow as wanted."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s

    async def __call__(self, function: Callable[..., T], /, *arguments: Any) -> T:
        delay_s = self.delay_s
        await trio.sleep(delay_s / 2)
        result = function(*arguments)
        await trio.sleep(delay_s / 2)
        return result


class Link:
    """From one node to one other: first in, first out."""

    def __init__(self, cluster: MemoryCluster, source: int, target: int, random: Random) -> None:
        self.extra_s = 0.0  # on top of the latency of all links
        self._cluster = cluster
        self._ends = (source, target)
        self._random = random
        self._put, self._frames = trio.open_memory_channel[tuple[float, Node, bytes]](math.inf)
        self._delivery = trio.CancelScope()
        self._loss_pending = False

    def send(self, receiver: Node, frame: bytes) -> None:
        due = trio.current_time() + self.extra_s + self._random.uniform(*self._cluster.weather.latency_s)
        for _ in range(1 + (self._random.random() < self._cluster.weather.duplicated)):
            self._put.send_nowait((due, receiver, frame))

    def give_up(self) -> None:
        """The receiver is gone: do not wait for it to take the frame under way."""
        self._delivery.cancel()

    async def run(self) -> None:
        async for due, receiver, frame in self._frames:
            await trio.sleep_until(due)
            if self._ends in self._cluster.cuts or self._cluster.nodes.get(self._ends[1]) is not receiver:
                self._lose()
                continue
            self._delivery = trio.CancelScope()
            with self._delivery:
                for message in FrameReader().feed(frame):
                    assert not isinstance(message, Hello)
                    await receiver.deliver(message)

    def _lose(self) -> None:
        sender = self._cluster.nodes.get(self._ends[0])
        if self._cluster.weather.noticed_s is not None and sender is not None and not self._loss_pending:
            self._loss_pending = True
            self._cluster.nursery.start_soon(
                self._notice, sender, self._random.uniform(*self._cluster.weather.noticed_s)
            )

    async def _notice(self, sender: Node, after_s: float) -> None:
        await trio.sleep(after_s)
        self._loss_pending = False
        if self._cluster.nodes.get(self._ends[0]) is sender:
            sender.on_loss(self._ends[1])


class Port:
    """One node's way out: what it sends is encoded, delayed and decoded like on a real wire."""

    def __init__(self, cluster: MemoryCluster, node_id: int) -> None:
        self._cluster = cluster
        self._node_id = node_id

    def set_peers(self, peers: Mapping[int, tuple[str, int]]) -> None:
        self._cluster.peers[self._node_id] = set(peers)

    def send(self, message: WireMessage) -> bool:
        frame = encode(message)
        self._cluster.frames.append(frame)
        if self._cluster.observe_send is not None:
            self._cluster.observe_send(self._node_id, message, frame)
        receiver = self._cluster.nodes.get(message.target)
        if receiver is None or not self._cluster.knows(self._node_id, message.target):
            return False  # nobody listens there, or nobody knows where: a real link would be down
        self._cluster.links[self._node_id, message.target].send(receiver, frame)
        return True


class MemoryCluster:
    """``count`` founding members and whoever joins them, their links and their disks. Links are cut by adding
    ``(source, target)`` to ``cuts``. ``settings`` go into every node's configuration."""

    nursery: trio.Nursery

    def __init__(
        self,
        folder: Path,
        count: int,
        seed: int,
        node_class: type[Node] = Node,
        weather: Weather = CALM,
        **settings: Any,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.count = count
        self.random = Random(seed)
        self.node_class = node_class
        self.weather = weather
        self.nodes: dict[int, Node] = {}
        self.disks = {node_id: SimulatedDisk(node_id) for node_id in range(1, MAX_NODES + 1)}
        self.disk_speeds = {node_id: InPlace() for node_id in range(1, MAX_NODES + 1)}
        self.cuts: set[tuple[int, int]] = set()
        self.links = {
            (source, target): Link(self, source, target, Random(f"{seed} {source} {target}"))
            for source in range(1, MAX_NODES + 1)
            for target in range(1, MAX_NODES + 1)
            if source != target
        }
        self.peers: dict[int, set[int]] = {}
        """Whom each node keeps a stream to."""
        self.frames: list[bytes] = []
        """All that was sent."""
        self.observe_send: Callable[[int, WireMessage, bytes], None] | None = None
        self.observe_stamp: Callable[[int], None] | None = None
        """Called with the node's id when it stamps a write, between its arrival and its proposal."""
        self._scopes: dict[int, trio.CancelScope] = {}
        self._ended: dict[int, trio.Event] = {}
        self._requests: dict[int, set[trio.CancelScope]] = {}

    def config(self, node_id: int) -> NodeConfig:
        members = range(1, self.count + 1)
        return NodeConfig(
            cluster="memory",
            node_id=node_id,
            data_dir=Path(f"/node-{node_id}"),
            http="127.0.0.1:1",
            peer="127.0.0.1:2",
            peers=dict.fromkeys(members, "127.0.0.1:2") if node_id <= self.count else {},
            advertise_url=f"http://node-{node_id}",
            peer_urls={member: f"http://node-{member}" for member in members},
            check_invariants=True,
            **self.settings,
        )

    def knows(self, source: int, target: int) -> bool:
        """Whether a node has a stream to another: as a peer, or back to one that has a stream to it."""
        return target in self.peers.get(source, ()) or source in self.peers.get(target, ())

    def format(self, node_id: int) -> None:
        """Make a node's disk ready: that of a founding member, or of one that is to be added."""
        founding_base = Base(configuration=founding(tuple(range(1, self.count + 1))))
        joins = node_id > self.count
        incarnation = self.random.getrandbits(62) + 2 if joins else 1
        identity = Identity("memory", node_id, incarnation=incarnation)
        format_directory(
            self.disks[node_id],
            self.config(node_id).data_dir,
            identity,
            Base() if joins else founding_base,
            segment_bytes=SEGMENT_BYTES,
        )

    def wipe(self, node_id: int) -> None:
        """A node that is down loses its disk."""
        self.disks[node_id] = SimulatedDisk(self.random.getrandbits(32))
        for file in self.folder.glob(f"node-{node_id}.db*"):
            file.unlink()

    def member(self, node_id: int) -> Member:
        """A node that runs, as a change of the group names it."""
        status = self.nodes[node_id].status()
        return Member(node_id, status.incarnation, "127.0.0.1:2", status.url)

    async def start(self, node_id: int) -> Node:
        def clock_ms() -> int:
            if self.observe_stamp is not None:
                self.observe_stamp(node_id)
            return 1_800_000_000_000 + int(trio.current_time() * 1000)

        node = self.node_class(
            self.config(node_id),
            self.disks[node_id],
            Random(self.random.getrandbits(32)),
            clock_ms=clock_ms,
            database=self._database(node_id),
            run_blocking=self.disk_speeds[node_id],
            run_id=self.random.getrandbits(RUN_ID_BITS),  # it travels with forwarded commands
            monotonic_ms=lambda: int(trio.current_time() * 1000),
        )
        scope = trio.CancelScope()
        ended = trio.Event()

        async def life(task_status: trio.TaskStatus[None]) -> None:
            try:
                with scope:
                    await node.run(Port(self, node_id), task_status=task_status)
            finally:
                ended.set()

        await self.nursery.start(life)
        self.nodes[node_id], self._scopes[node_id], self._ended[node_id] = node, scope, ended
        self._requests[node_id] = set()
        return node

    async def stop(self, node_id: int) -> None:
        """End a node in good order: what waits for the disk is synced, the files are closed."""
        self.nodes.pop(node_id)
        for request in self._requests.pop(node_id):
            request.cancel()
        for (_, target), link in self.links.items():
            if target == node_id:
                link.give_up()
        self._scopes[node_id].cancel()
        await self._ended[node_id].wait()
        for other in list(self.nodes.values()):
            other.on_loss(node_id)

    async def crash(self, node_id: int) -> None:
        """Cut the power of a node: its memory is gone, and what was not synced is in doubt."""
        disk = self.disks[node_id].crash(self.random)
        database, journal = self._database(node_id), self._database(node_id).with_suffix(".db-wal")
        pages = database.read_bytes()
        changes = self._torn(journal.read_bytes()) if journal.exists() else b""
        await self.stop(node_id)
        self.disks[node_id] = disk
        database.write_bytes(pages)
        journal.write_bytes(changes)

    def _torn(self, journal: bytes) -> bytes:
        if len(journal) >= TEARABLE_JOURNAL_BYTES or self.random.random() < 0.5:
            return journal
        return journal[: self.random.randrange(len(journal) + 1)]

    def _database(self, node_id: int) -> Path:
        return self.folder / f"node-{node_id}.db"

    async def request(self, node_id: int, command: Command, timeout_s: float) -> Reply:
        """One command through one node, as a client sees it: when the node ends, the outcome is unknown."""
        return await self.while_up(node_id, lambda: self.nodes[node_id].execute(command, timeout_s=timeout_s))

    async def while_up(self, node_id: int, work: Callable[[], Awaitable[T]]) -> T:
        """Ask a node for something; when it ends meanwhile, the outcome is unknown."""
        scope = trio.CancelScope()
        requests = self._requests[node_id]
        requests.add(scope)
        try:
            with scope:
                return await work()
        finally:
            requests.discard(scope)
        raise OutcomeUnknown("the node has ended")

    async def leader(self, *, among: set[int] | None = None, within_s: float = 5.0) -> Node:
        """A node that takes itself for the leader, once there is one (of those among which it is wanted)."""
        with trio.fail_after(within_s):
            while True:
                for node_id, node in self.nodes.items():
                    if node.status().role == "leader" and (among is None or node_id in among):
                        return node
                await trio.sleep(0.01)

    async def settled(self, within_s: float = 10.0) -> None:
        """Wait until one leads, and all have applied all that it has committed. Raises ``trio.TooSlowError``."""
        with trio.fail_after(within_s):
            while True:
                status = [node.status() for node in self.nodes.values()]
                leads = [one for one in status if one.role == "leader" and one.commit_index == one.last_index]
                if len(leads) == 1 and {one.applied_index for one in status} == {leads[0].last_index}:
                    return
                await trio.sleep(0.02)

    def digests(self) -> dict[int, str]:
        """What each node's state machine holds, in 64 hex digits."""
        return {node_id: node._applying.machine.digest() for node_id, node in sorted(self.nodes.items())}

    def isolate(self, node_id: int) -> None:
        self.part({node_id})

    def part(self, group: set[int]) -> None:
        """Cut the links between this group and all others, in both directions."""
        self.cuts |= {ends for ends in self.links if (ends[0] in group) != (ends[1] in group)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[MemoryCluster]:
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            for link in self.links.values():
                nursery.start_soon(link.run)
            for node_id in range(1, self.count + 1):
                self.format(node_id)
                await self.start(node_id)
            yield self
            nursery.cancel_scope.cancel()


async def ask(node: Node, command: Command, timeout_s: float = 3.0) -> Reply:
    """One command through one node."""
    return await node.execute(command, timeout_s=timeout_s)


def virtually(scene: Callable[[trio.testing.MockClock], Awaitable[T]], seed: int = 0) -> T:
    """Run a scene in virtual time, with trio's choice among runnable tasks drawn from the seed."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    was_deterministic = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduler._r.seed(seed)
    try:
        return trio.run(scene, clock, clock=clock)
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = was_deterministic  # type: ignore[misc]
        scheduler._r.seed()
