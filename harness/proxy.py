"""A TCP proxy for one link, with a valve in each direction: the network that the nemesis can break.

Theory of operation
-------------------
A *link* listens on loopback and carries each connection it accepts to one target. Two pumps per connection copy bytes,
*forward* from the one who dialled to the target and *backward* to the one who dialled. Each direction of the link has
a valve. While a valve is closed its pumps hold what they have: bytes are neither lost nor delivered, as on a network
that drops packets while TCP keeps sending them again. A pump holds one chunk; behind it the kernel's socket buffers
fill, and then the sender's writes block: back-pressure, and a bound on what a cut can keep.

Neither can a connection be opened across a cut: a link with a closed valve accepts (the kernel does it anyway) but
dials its target only when both directions are open again.

When a cut heals, connections that it held either *resume*, which delivers old bytes late, or are *reset*, as when a TCP
connection gave up meanwhile. Both happen on real networks and both find bugs; the fault chooses when it starts.

Several faults may close the same valve; it opens when the last one lets go. A direction whose sender is done is closed
alone (half-close); a broken connection on one side becomes a reset on the other.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeAlias

import trio

CHUNK_BYTES = 64 * 1024
"""What one pump holds at most: a read's worth, so that a pump never needs a queue."""

MAX_CONNECTIONS = 512
"""Per link. Clients that reconnect during a long cut would otherwise pile up; further ones are reset at once."""

DIAL_TIMEOUT_S = 5.0
"""Loopback answers at once; only a stopped process with a full backlog does not."""

LISTEN_BACKLOG = 128

Address: TypeAlias = tuple[str, int]


class Direction(enum.Enum):
    FORWARD = "forward"
    BACKWARD = "backward"


BOTH = (Direction.FORWARD, Direction.BACKWARD)


class Valve:
    """Open unless somebody holds it closed."""

    def __init__(self) -> None:
        self._holders: set[Hashable] = set()
        self._opened = trio.Event()
        self._opened.set()

    @property
    def is_open(self) -> bool:
        return not self._holders

    def is_held_by(self, holder: Hashable) -> bool:
        return holder in self._holders

    def close(self, holder: Hashable) -> None:
        if not self._holders:
            self._opened = trio.Event()
        self._holders.add(holder)

    def release(self, holder: Hashable) -> None:
        self._holders.discard(holder)
        if not self._holders:
            self._opened.set()

    async def wait_open(self) -> None:
        while self._holders:
            await self._opened.wait()


@dataclass(frozen=True)
class LinkStatistics:
    """What a link carried so far."""

    connections_accepted: int
    connections_open: int
    connections_reset: int
    connections_refused: int
    forward_bytes: int
    backward_bytes: int
    chunks_held: int  # chunks that had to wait at a closed valve


class Connection:
    """One accepted connection: both of its streams, and whether it must end with a reset."""

    def __init__(self, near: trio.abc.HalfCloseableStream) -> None:
        self.near = near
        self.far: trio.abc.HalfCloseableStream | None = None
        self.scope = trio.CancelScope()
        self.reset = False

    def abort(self) -> None:
        """End both sides with a reset, now."""
        self.reset = True
        self.scope.cancel()


class Link:
    """One direction of dialling: whoever connects to ``address`` reaches ``target`` through the two valves."""

    def __init__(self, name: str, target: Address, *, delay_s: float = 0.0) -> None:
        self.name = name
        self.target = target
        self.delay_s = delay_s
        self.valves = {direction: Valve() for direction in BOTH}
        self._connections: set[Connection] = set()
        self._listeners: list[trio.SocketListener] = []
        self._accepted = self._reset = self._refused = self._held = 0
        self._carried_bytes = dict.fromkeys(BOTH, 0)

    async def open(self) -> Address:
        """Bind to a free port on loopback and return the address; ``serve`` then accepts."""
        self._listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=LISTEN_BACKLOG)
        host, port = self._listeners[0].socket.getsockname()[:2]
        return str(host), int(port)

    async def serve(self) -> None:
        """Accept and carry connections until cancelled."""
        await trio.serve_listeners(self.carry, self._listeners)

    def close(self, holder: Hashable, directions: tuple[Direction, ...] = BOTH) -> None:
        """Close the valves of these directions on behalf of ``holder``."""
        for direction in directions:
            self.valves[direction].close(holder)

    def is_held_by(self, holder: Hashable) -> bool:
        return any(valve.is_held_by(holder) for valve in self.valves.values())

    def release(self, holder: Hashable, *, reset: bool) -> None:
        """Let go of every valve; with ``reset``, end the connections that are open now."""
        if reset:
            self.reset_connections()
        for valve in self.valves.values():
            valve.release(holder)

    def reset_connections(self) -> int:
        """End every open connection with a reset; returns how many there were."""
        for connection in self._connections:
            connection.abort()
        return len(self._connections)

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(
            connections_accepted=self._accepted,
            connections_open=len(self._connections),
            connections_reset=self._reset,
            connections_refused=self._refused,
            forward_bytes=self._carried_bytes[Direction.FORWARD],
            backward_bytes=self._carried_bytes[Direction.BACKWARD],
            chunks_held=self._held,
        )

    async def carry(self, near: trio.abc.HalfCloseableStream) -> None:
        """Carry one accepted connection until both directions ended. Never raises for what the peers do."""
        if len(self._connections) >= MAX_CONNECTIONS:
            self._refused += 1
            await close_with_reset(near)
            return
        connection = Connection(near)
        self._connections.add(connection)
        self._accepted += 1
        try:
            with connection.scope:
                await self._connect_and_pump(connection)
        finally:
            self._connections.discard(connection)
            self._reset += connection.reset
            with trio.CancelScope(shield=True):  # closing waits for nothing; cut short, it would leave the second open
                for stream in filter(None, (connection.near, connection.far)):
                    if connection.reset:
                        await close_with_reset(stream)
                    else:
                        await trio.aclose_forcefully(stream)

    async def _connect_and_pump(self, connection: Connection) -> None:
        while not all(valve.is_open for valve in self.valves.values()):
            for valve in self.valves.values():
                await valve.wait_open()
        try:
            with trio.fail_after(DIAL_TIMEOUT_S):
                connection.far = await self.dial()
        except (OSError, trio.TooSlowError):
            connection.reset = True
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, connection, connection.near, connection.far, Direction.FORWARD)
            nursery.start_soon(self._pump, connection, connection.far, connection.near, Direction.BACKWARD)

    async def dial(self) -> trio.abc.HalfCloseableStream:
        """Connect to the target. Raises OSError."""
        return await trio.open_tcp_stream(*self.target)

    async def _pump(
        self,
        connection: Connection,
        source: trio.abc.HalfCloseableStream,
        sink: trio.abc.HalfCloseableStream,
        direction: Direction,
    ) -> None:
        valve = self.valves[direction]
        try:
            while True:
                chunk = await source.receive_some(CHUNK_BYTES)
                if not valve.is_open:
                    self._held += 1
                    await valve.wait_open()
                if self.delay_s:
                    await trio.sleep(self.delay_s)
                if not chunk:
                    await sink.send_eof()
                    return
                await sink.send_all(chunk)
                self._carried_bytes[direction] += len(chunk)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            connection.abort()


async def close_with_reset(stream: trio.abc.AsyncResource) -> None:
    """Close so that the peer sees a reset instead of an orderly end."""
    if isinstance(stream, trio.SocketStream):
        with contextlib.suppress(OSError):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)
