"""The network between nodes and clients: one proxy per directed peer link, one in front of each node for its clients.

Theory of operation
-------------------
Node i dials node j through the link (i, j), and so does nobody else. Whether the implementation uses that connection
for both directions or opens one per direction is its own affair: what node i says to node j travels either forward on
(i, j) or backward on (j, i). Cutting "from i to j" therefore closes those two valves, and a one-way cut is just one
ordered pair. Clients reach node j through its client link, which faults between nodes leave alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import trio

from harness.proxy import BOTH, Address, Direction, Link


class Links:
    """All links of a cluster. ``peer_addresses`` and ``http_addresses`` say where each node really listens."""

    def __init__(self, peer_addresses: dict[int, Address], http_addresses: dict[int, Address]) -> None:
        self.nodes = tuple(sorted(peer_addresses))
        self.peer = {(i, j): Link(f"{i}->{j}", peer_addresses[j]) for i in self.nodes for j in self.nodes if i != j}
        self.client = {j: Link(f"clients->{j}", http_addresses[j]) for j in self.nodes}
        self.peer_address: dict[tuple[int, int], Address] = {}
        self.client_address: dict[int, Address] = {}

    async def open(self) -> None:
        """Bind every proxy; their addresses are known afterwards."""
        for pair, link in self.peer.items():
            self.peer_address[pair] = await link.open()
        for node, link in self.client.items():
            self.client_address[node] = await link.open()

    @property
    def every(self) -> tuple[Link, ...]:
        return (*self.peer.values(), *self.client.values())

    async def serve(self) -> None:
        """Carry traffic until cancelled, then close every proxy."""
        async with trio.open_nursery() as nursery:
            for link in self.every:
                nursery.start_soon(link.serve)

    def cut(self, holder: Hashable, pairs: Iterable[tuple[int, int]]) -> None:
        """Let nothing through from i to j, for each ordered pair (i, j), until ``holder`` heals."""
        for i, j in pairs:
            self.peer[i, j].close(holder, (Direction.FORWARD,))
            self.peer[j, i].close(holder, (Direction.BACKWARD,))

    def cut_clients(self, holder: Hashable, nodes: Iterable[int], directions: tuple[Direction, ...] = BOTH) -> None:
        """Let nothing through between clients and these nodes in these directions, until ``holder`` heals."""
        for node in nodes:
            self.client[node].close(holder, directions)

    def heal(self, holder: Hashable, *, reset: bool) -> None:
        """Undo the cuts of ``holder``; connections on the links it had cut resume, or are reset."""
        for link in self.every:
            if link.is_held_by(holder):
                link.release(holder, reset=reset)
