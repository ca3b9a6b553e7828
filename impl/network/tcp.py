"""Messages between nodes over TCP.

Theory of operation
-------------------
Each node dials every peer and sends on the streams that it dialled; it listens and receives on the streams that others
dialled. A link therefore has one stream per direction, and one direction can fail while the other works.

``send`` never waits: it queues, or drops where the queue is full or no stream is up. Raft expects loss. What it cannot
see for itself is *that* something was lost; so the sender says so (``on_loss``) when a stream breaks or a queue
overflows, and Raft goes back to probing. Three watches close a stream that has gone silent, each for what the others
cannot see: the kernel's limit on unacknowledged bytes, for a peer or link that swallows what is sent; its keepalive,
for one that is gone while nothing is sent; ``SEND_TIMEOUT_S``, for a peer whose kernel acknowledges but whose process
no longer reads, which shows only once the buffers between them are full.

The receiving side waits for its consumer before it reads on, so that a slow node pushes back to its peers' queues. It
holds one stream per peer: a node that dials anew has given up its earlier stream, whether or not its end arrived.

Names are looked up at every connection, because addresses move. A lookup can neither be cancelled nor trusted to
return, so each link has a thread of its own for it, and starts no lookup before the last one has returned.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random

import structlog
import trio

from impl.network.wire import WIRE_VERSION, BadFrame, FrameReader, Hello, WireMessage, encode
from impl.raft.messages import NodeId

CONNECT_TIMEOUT_S = 1.0
"""For each address of a peer."""

SEND_TIMEOUT_S = 2.0
HELLO_TIMEOUT_S = 5.0

ACKNOWLEDGE_TIMEOUT_MS = 2500
"""For bytes that the kernel has taken: left alone, it sends them again for a quarter of an hour. A few retransmissions
fit, so a lost packet does not cost the stream. Linux ends its keepalive by this limit too: it lies past the second
probe, so a lost probe does not cost an idle stream either."""

KEEPALIVE_IDLE_S = 1
KEEPALIVE_INTERVAL_S = 1
KEEPALIVE_PROBES = 2
"""A peer that has vanished is noticed within about three seconds, in the whole seconds that the kernel counts. Its own
defaults take two hours."""

WATCHES = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", KEEPALIVE_PROBES),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", ACKNOWLEDGE_TIMEOUT_MS),
)
"""By name, because not every system has them all. (trio itself sets ``TCP_NODELAY`` and ``TCP_NOTSENT_LOWAT``.)"""

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
        self._lookup = trio.CapacityLimiter(1)

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
            stream = await self._connect()
            if stream is None:
                await trio.sleep(pause_s * (0.5 + random.random()))
                pause_s = min(pause_s * 2, RECONNECT_MAX_S)
                continue
            started = trio.current_time()
            await self._use(stream)
            if trio.current_time() - started > RECONNECT_MAX_S:
                pause_s = RECONNECT_MIN_S
            await trio.sleep(pause_s * (0.5 + random.random()))
            pause_s = min(pause_s * 2, RECONNECT_MAX_S)

    async def _connect(self) -> trio.SocketStream | None:
        """A stream to the first of the peer's addresses that answers, or None."""
        for address in await self._addresses():
            with suppress(OSError), trio.move_on_after(CONNECT_TIMEOUT_S):
                return await trio.open_tcp_stream(address, self._port)
        return None

    async def _addresses(self) -> list[str]:
        """The peer's numeric addresses; none if its name is unknown. Takes as long as the resolver does."""
        with suppress(ValueError):
            ipaddress.ip_address(self._host)
            return [self._host]
        try:
            found = await trio.to_thread.run_sync(
                partial(socket.getaddrinfo, self._host, self._port, type=socket.SOCK_STREAM),
                abandon_on_cancel=True,  # only the end of the node cancels: it does not wait for a resolver
                limiter=self._lookup,
            )
        except (OSError, UnicodeError):
            return []
        return [str(address[0]) for *_, address in found]

    async def _use(self, stream: trio.SocketStream) -> None:
        """Send on one stream until it breaks."""
        async with stream, trio.open_nursery() as nursery:
            _watch(stream)
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
        while await _read(stream):
            pass
        scope.cancel()


def _watch(stream: trio.SocketStream) -> None:
    """Have the kernel notice a silent peer. A socket that takes no options is dying: whoever uses it will see that."""
    for level, name, value in WATCHES:
        option = getattr(socket, name, None)
        if option is not None:
            with suppress(OSError):
                stream.setsockopt(level, option, value)


async def _read(stream: trio.SocketStream) -> bytes | bytearray:
    """What has come in; nothing once the stream has ended, in whatever way."""
    try:
        return await stream.receive_some(RECEIVE_BYTES)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return b""


class TcpNetwork:
    """Streams to and from every peer. ``deliver`` is awaited for each message that comes in, in the order of its
    stream; ``on_loss`` is called when something sent to a peer may have been lost.

    What ``deliver`` raises leaves ``run`` and so ends the node, whatever it is: to it falls the decision which contents
    of a well-formed message are a peer's mistake, to be dropped, and which prove that the node cannot go on."""

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
        self._inbound: dict[NodeId, trio.CancelScope] = {}  # of each peer's latest stream, which may have ended

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
        """Deliver the messages of one stream.

        The *stream* ends when the peer closes it or its connection breaks; when no ``Hello`` comes in time, or a later
        one of the same peer, on another stream, takes its place; and with a warning at the first frame that is damaged,
        not a message of this version, or not for this node from that peer. Messages before that frame may be lost.

        The *node* ends on what ``deliver`` raises, and on nothing that a peer can put on a stream by itself.
        """
        reader = FrameReader()
        source: NodeId | None = None
        async with stream:
            _watch(stream)
            with trio.CancelScope(deadline=trio.current_time() + HELLO_TIMEOUT_S) as life:
                while data := await _read(stream):
                    try:
                        messages = reader.feed(data)
                        if source is None and messages:
                            source = self._accept(messages.pop(0))
                            life.deadline = float("inf")
                            self._retire_earlier(source, life)
                    except BadFrame as error:
                        log.warning("peer stream refused", error=str(error), source=source)
                        return
                    for message in messages:
                        if isinstance(message, Hello) or message.source != source:
                            log.warning("peer stream refused", error=f"speaks for another: {message}", source=source)
                            return
                        await self._deliver(message)

    def _retire_earlier(self, source: NodeId, life: trio.CancelScope) -> None:
        if source in self._inbound:
            self._inbound[source].cancel()
        self._inbound[source] = life

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
