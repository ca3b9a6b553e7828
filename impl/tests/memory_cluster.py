"""Nodes in one process, in virtual time: real ``Node`` objects over links in memory and simulated disks.

Everything below the node is replaced by its simulated twin, everything in it is what runs in production. Time is trio's
mock clock, so a test of an election takes milliseconds; disk work runs in place, because threads know nothing of
virtual time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import trio

from impl.chat.commands import Command, Reply
from impl.config import NodeConfig
from impl.network.wire import FrameReader, Hello, WireMessage, encode
from impl.node import Node
from impl.storage.simulated_disk import SimulatedDisk

LATENCY_S = 0.001

T = TypeVar("T")


class InPlace:
    """Runs blocking work in the calling task, after a delay in virtual time: a disk as slow as wanted."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s

    async def __call__(self, function: Callable[..., T], /, *arguments: Any) -> T:
        await trio.sleep(self.delay_s)
        return function(*arguments)


class Port:
    """One node's way out: what it sends is encoded, delayed and decoded like on a real wire."""

    def __init__(self, cluster: MemoryCluster, node_id: int) -> None:
        self._cluster = cluster
        self._node_id = node_id

    def send(self, message: WireMessage) -> bool:
        if message.target not in self._cluster.nodes:
            return False  # nobody listens there: a real link would be down
        self._cluster.outbox.send_nowait((self._node_id, message.target, encode(message)))
        return True


class MemoryCluster:
    """Up to nine nodes, their links and their disks. Links are cut by adding ``(source, target)`` to ``cuts``."""

    def __init__(self, folder: Path, count: int, seed: int, node_class: type[Node] = Node) -> None:
        self.folder = folder
        self.count = count
        self.random = Random(seed)
        self.node_class = node_class
        self.nodes: dict[int, Node] = {}
        self.disks = {node_id: SimulatedDisk() for node_id in range(1, count + 1)}
        self.disk_speeds = {node_id: InPlace() for node_id in range(1, count + 1)}
        self.cuts: set[tuple[int, int]] = set()
        self.outbox, self._to_deliver = trio.open_memory_channel[tuple[int, int, bytes]](100_000)
        self._scopes: dict[int, trio.CancelScope] = {}
        self._ended: dict[int, trio.Event] = {}
        self._nursery: trio.Nursery | None = None

    def config(self, node_id: int) -> NodeConfig:
        members = range(1, self.count + 1)
        return NodeConfig(
            cluster="memory",
            node_id=node_id,
            data_dir=Path(f"/node-{node_id}"),
            http="127.0.0.1:1",
            peer="127.0.0.1:2",
            peers=dict.fromkeys(members, "127.0.0.1:2"),
            peer_urls={member: f"http://node-{member}" for member in members},
            check_invariants=True,
        )

    async def start(self, node_id: int) -> Node:
        assert self._nursery is not None
        node = self.node_class(
            self.config(node_id),
            self.disks[node_id],
            Random(self.random.getrandbits(32)),
            clock_ms=lambda: 1_800_000_000_000 + int(trio.current_time() * 1000),
            database=self.folder / f"node-{node_id}.db",
            run_blocking=self.disk_speeds[node_id],
        )
        scope = trio.CancelScope()
        ended = trio.Event()

        async def life(task_status: trio.TaskStatus[None]) -> None:
            try:
                with scope:
                    await node.run(Port(self, node_id), task_status=task_status)
            finally:
                ended.set()

        await self._nursery.start(life)
        self.nodes[node_id], self._scopes[node_id], self._ended[node_id] = node, scope, ended
        return node

    async def stop(self, node_id: int) -> None:
        """End a node as a kill does: what it holds in memory is gone, what it wrote stays."""
        node = self.nodes.pop(node_id)
        self._scopes[node_id].cancel()
        await self._ended[node_id].wait()
        for other in list(self.nodes.values()):
            other.on_loss(node.config.node_id)

    async def leader(self, *, among: set[int] | None = None, within_s: float = 5.0) -> Node:
        """A node that takes itself for the leader, once there is one (of those among which it is wanted)."""
        with trio.fail_after(within_s):
            while True:
                for node_id, node in self.nodes.items():
                    if node.status().role == "leader" and (among is None or node_id in among):
                        return node
                await trio.sleep(0.01)

    def isolate(self, node_id: int) -> None:
        for other in range(1, self.count + 1):
            self.cuts |= {(node_id, other), (other, node_id)}

    async def _deliver(self) -> None:
        async for source, target, frame in self._to_deliver:
            if (source, target) in self.cuts:
                continue
            await trio.sleep(LATENCY_S / 100)
            node = self.nodes.get(target)
            if node is not None:
                for message in FrameReader().feed(frame):
                    assert not isinstance(message, Hello)
                    await node.deliver(message)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[MemoryCluster]:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._deliver)
            for node_id in range(1, self.count + 1):
                await self.start(node_id)
            yield self
            nursery.cancel_scope.cancel()


async def ask(node: Node, command: Command, timeout_s: float = 3.0) -> Reply:
    """One command through one node."""
    return await node.execute(command, timeout_s=timeout_s)
