"""Messages between nodes over TCP.

Theory of operation
-------------------
Each node dials every peer and sends on the streams that it dialled; it listens and receives on the streams that others
dialled. A link therefore has one stream per direction, and one direction can fail while the other works.

``send`` never waits: it queues, or drops where the queue is full or no stream is up. Raft expects loss. What it cannot
see for itself is *that* something was lost; so the sender says so (``on_loss``) when a stream breaks or a queue
overflows, and Raft goes back to probing. Streams that do not move for ``SEND_TIMEOUT_S`` are closed: a peer that is
stopped, or a link that swallows everything, must not hold messages that nobody needs any more.

The receiving side waits for its consumer before it reads on, so that a slow node pushes back to its peers' queues.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random

import structlog
import trio

from impl.network.wire import WIRE_VERSION, BadFrame, FrameReader, Hello, WireMessage, encode
from impl.raft.messages import NodeId

CONNECT_TIMEOUT_S = 1.0
SEND_TIMEOUT_S = 2.0
HELLO_TIMEOUT_S = 5.0

RECONNECT_MIN_S = 0.02
RECONNECT_MAX_S = 0.5
"""Short enough that a healed link is used again well within an election timeout of its healing."""

MAX_QUEUED_BYTES = 8 * 1024 * 1024
"""Per peer: more than a full window of appends; beyond it a message is better lost than late."""

RECEIVE_BYTES = 64 * 1024

log = structlog.get_logger()


class AddressInUse(OSError):
    """Another process listens on an address that this one was told to use."""


@dataclass(frozen=True)
class Identity:
    """Who this node is to its peers."""

    cluster: str
    node_id: NodeId
    incarnation: str


class _Link:
    """The sending side of one direction: a bounded queue and the task that empties it."""

    def __init__(self, identity: Identity, peer: NodeId, host: str, port: int, on_loss: Callable[[NodeId], None]):
        self._hello = encode(Hello(WIRE_VERSION, identity.cluster, identity.node_id, peer, identity.incarnation))
        self._peer = peer
        self._host = host
        self._port = port
        self._on_loss = on_loss
        self._frames: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = trio.Event()
        self._up = False

    def send(self, message: WireMessage) -> bool:
        """Queue a message. False if it was dropped, certainly unsent."""
        if not self._up:
            return False
        frame = encode(message)
        if self._queued_bytes + len(frame) > MAX_QUEUED_BYTES:
            self._on_loss(self._peer)
            return False
        self._frames.append(frame)
        self._queued_bytes += len(frame)
        self._wake.set()
        return True

    async def run(self, random: Random) -> None:
        pause_s = RECONNECT_MIN_S
        while True:
            try:
                with trio.fail_after(CONNECT_TIMEOUT_S):
                    stream = await trio.open_tcp_stream(self._host, self._port)
            except (OSError, trio.TooSlowError):
                await trio.sleep(pause_s * (0.5 + random.random()))
                pause_s = min(pause_s * 2, RECONNECT_MAX_S)
                continue
            started = trio.current_time()
            await self._use(stream)
            if trio.current_time() - started > RECONNECT_MAX_S:
                pause_s = RECONNECT_MIN_S
            await trio.sleep(pause_s * (0.5 + random.random()))
            pause_s = min(pause_s * 2, RECONNECT_MAX_S)

    async def _use(self, stream: trio.SocketStream) -> None:
        """Send on one stream until it breaks."""
        async with stream, trio.open_nursery() as nursery:
            stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
            self._up = True
            self._frames.append(self._hello)
            self._wake.set()
            nursery.start_soon(self._notice_close, stream, nursery.cancel_scope)
            try:
                await self._pump(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                nursery.cancel_scope.cancel()
        self._up = False
        self._frames.clear()
        self._queued_bytes = 0
        self._on_loss(self._peer)

    async def _pump(self, stream: trio.SocketStream) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            data = b"".join(self._frames)
            self._frames.clear()
            self._queued_bytes = 0
            if data:
                with trio.fail_after(SEND_TIMEOUT_S):
                    await stream.send_all(data)

    async def _notice_close(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        """Nothing is ever received on a dialled stream but its end."""
        try:
            while await stream.receive_some(RECEIVE_BYTES):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


class TcpNetwork:
    """Streams to and from every peer. ``deliver`` is awaited for each message that comes in, in the order of its
    stream; ``on_loss`` is called when something sent to a peer may have been lost."""

    def __init__(
        self,
        identity: Identity,
        listen: tuple[str, int],
        peers: Mapping[NodeId, tuple[str, int]],
        deliver: Callable[[WireMessage], Awaitable[None]],
        on_loss: Callable[[NodeId], None],
        random: Random,
    ) -> None:
        self._identity = identity
        self._listen = listen
        self._deliver = deliver
        self._random = random
        self._links = {peer: _Link(identity, peer, host, port, on_loss) for peer, (host, port) in peers.items()}

    def send(self, message: WireMessage) -> bool:
        """Send to ``message.target`` without waiting. False if the message is certainly not on its way."""
        link = self._links.get(message.target)
        return link is not None and link.send(message)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises ``AddressInUse`` if the address cannot be listened on."""
        host, port = self._listen
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise AddressInUse(
                f"peer address {host}:{port} is in use by another process: stop it, or choose another `peer` address"
            ) from error
        async with trio.open_nursery() as nursery:
            for link in self._links.values():
                nursery.start_soon(link.run, self._random)
            await nursery.start(trio.serve_listeners, self._receive, listeners)
            task_status.started()

    async def _receive(self, stream: trio.SocketStream) -> None:
        async with stream:
            reader = FrameReader()
            source: NodeId | None = None
            try:
                with trio.CancelScope(deadline=trio.current_time() + HELLO_TIMEOUT_S) as until_hello:
                    async for data in stream:
                        for message in reader.feed(data):
                            if source is None:
                                source = self._accept(message)
                                until_hello.deadline = float("inf")
                            elif isinstance(message, Hello) or message.source != source:
                                raise BadFrame(f"node {source} speaks for another: {message}")
                            else:
                                await self._deliver(message)
            except BadFrame as error:
                log.warning("peer stream refused", error=str(error), source=source)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    def _accept(self, message: WireMessage | Hello) -> NodeId:
        if not isinstance(message, Hello):
            raise BadFrame("the first frame of a stream must be a Hello")
        expected = (WIRE_VERSION, self._identity.cluster, self._identity.node_id)
        if (message.version, message.cluster, message.target) != expected:
            raise BadFrame(
                f"this is node {self._identity.node_id} of cluster {self._identity.cluster!r}, version {WIRE_VERSION}; "
                f"the stream is for node {message.target} of {message.cluster!r}, version {message.version}"
            )
        if message.source not in self._links:
            raise BadFrame(f"node {message.source} is not a member of cluster {message.cluster!r} as configured here")
        return message.source
