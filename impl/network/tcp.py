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

*Who is dialled* is said by ``set_peers`` and changes as the group does. Streams are received from every node of the
cluster, whatever is known of it here: whoever is new to the group, or has been away while it changed, hears of the
others by their streams. To answer such a *stranger* its address is needed: the one configured for it, or else the one
that it names in its ``Hello``; the link back lasts as long as its stream.

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

MAX_STRANGERS = 16
"""Links back to nodes that are not among the peers: more than ever join or have left at one time."""

MAX_QUEUED_BYTES = 8 * 1024 * 1024
"""Per peer: more than a full window of appends; beyond it a message is better lost than late."""

RECEIVE_BYTES = 64 * 1024

MAX_NODE_ID = 1023
"""As the configuration allows; bounds what is kept for each node that ever turns up."""

log = structlog.get_logger()


class AddressInUse(OSError):
    """Another process listens on an address that this one was told to use."""


@dataclass(frozen=True)
class Identity:
    """Who this node is to its peers."""

    cluster: str
    node_id: NodeId
    run_id: str
    reply_to: str = ""
    """host:port at which it receives; nodes that know it by no configuration answer there."""


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """One peer; counters since the link was made."""

    connected: bool
    connections: int  # streams that were up
    sent_messages: int
    sent_bytes: int
    dropped_messages: int  # no stream was up, or the queue was full
    queued_bytes: int  # now


@dataclass(frozen=True, slots=True)
class NetworkStatistics:
    """All links, and what came in since the start of the process."""

    links: dict[NodeId, LinkStatistics]
    received_bytes: dict[NodeId, int]
    refused_streams: int


class _Link:
    """The sending side of one direction: a bounded queue and the task that empties it."""

    def __init__(self, identity: Identity, peer: NodeId, host: str, port: int, on_loss: Callable[[NodeId], None]):
        self.address = host, port
        self.life = trio.CancelScope()
        self._hello = encode(
            Hello(WIRE_VERSION, identity.cluster, identity.node_id, peer, identity.run_id, identity.reply_to)
        )
        self._peer = peer
        self._host = host
        self._port = port
        self._on_loss = on_loss
        self._frames: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = trio.Event()
        self._up = False
        self._lookup = trio.CapacityLimiter(1)
        self._connections = self._sent = self._sent_bytes = self._dropped = 0

    def send(self, message: WireMessage) -> bool:
        """Queue a message. False if it was dropped, certainly unsent."""
        if not self._up:
            self._dropped += 1
            return False
        frame = encode(message)
        if self._queued_bytes + len(frame) > MAX_QUEUED_BYTES:
            self._dropped += 1
            self._on_loss(self._peer)
            return False
        self._frames.append(frame)
        self._queued_bytes += len(frame)
        self._sent += 1
        self._sent_bytes += len(frame)
        self._wake.set()
        return True

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(
            self._up, self._connections, self._sent, self._sent_bytes, self._dropped, self._queued_bytes
        )

    async def run(self, random: Random) -> None:
        """Connect, send, connect again, until ``life`` is cancelled."""
        with self.life:
            try:
                await self._run(random)
            finally:
                self._up = False

    async def _run(self, random: Random) -> None:
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
            self._connections += 1
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
        known: Mapping[NodeId, tuple[str, int]] | None = None,
    ) -> None:
        """``peers`` are dialled until ``set_peers`` says otherwise; ``known`` are addresses of nodes that may turn up
        as strangers, and go before what those say themselves."""
        self._identity = identity
        self._listen = listen
        self._deliver = deliver
        self._on_loss = on_loss
        self._random = random
        self._known = dict(known or {})
        self._links: dict[NodeId, _Link] = {}
        self._strangers: dict[NodeId, _Link] = {}  # links back, the longest there first
        self._inbound: dict[NodeId, trio.CancelScope] = {}  # of each peer's latest stream, which may have ended
        self._received_bytes: dict[NodeId, int] = {}
        self._refused = 0
        self._nursery: trio.Nursery | None = None
        self.set_peers(peers)

    def set_peers(self, peers: Mapping[NodeId, tuple[str, int]]) -> None:
        """From now on, keep a stream to each of these and to nobody else."""
        for peer, link in list(self._links.items()):
            if peers.get(peer) != link.address:
                self._links.pop(peer).life.cancel()
        for peer, address in peers.items():
            if peer not in self._links:
                self._forget(peer)
                self._links[peer] = self._new_link(peer, address)

    def _new_link(self, peer: NodeId, address: tuple[str, int]) -> _Link:
        link = _Link(self._identity, peer, *address, self._on_loss)
        if self._nursery is not None:
            self._nursery.start_soon(link.run, self._random)
        return link

    def _meet(self, hello: Hello) -> None:
        """Make a link back to a stranger. Raises ``BadFrame`` where no address of it is known."""
        peer = hello.source
        address = self._known.get(peer) or _parse_address(hello.reply_to)
        self._forget(peer)
        while len(self._strangers) >= MAX_STRANGERS:
            self._forget(next(iter(self._strangers)))
        self._strangers[peer] = self._new_link(peer, address)

    def _forget(self, peer: NodeId) -> None:
        link = self._strangers.pop(peer, None)
        if link is not None:
            link.life.cancel()

    def send(self, message: WireMessage) -> bool:
        """Send to ``message.target`` without waiting. False if the message is certainly not on its way."""
        link = self._links.get(message.target) or self._strangers.get(message.target)
        return link is not None and link.send(message)

    def statistics(self) -> NetworkStatistics:
        links = {**self._strangers, **self._links}
        return NetworkStatistics(
            {peer: link.statistics() for peer, link in sorted(links.items())},
            dict(sorted(self._received_bytes.items())),
            self._refused,
        )

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
            self._nursery = nursery
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
                try:
                    while data := await _read(stream):
                        try:
                            messages = reader.feed(data)
                            if source is None and messages:
                                source = self._accept(messages.pop(0))
                                life.deadline = float("inf")
                                self._retire_earlier(source, life)
                        except BadFrame as error:
                            self._refuse(str(error), source)
                            return
                        if source is not None:
                            self._received_bytes[source] = self._received_bytes.get(source, 0) + len(data)
                        for message in messages:
                            if isinstance(message, Hello) or message.source != source:
                                self._refuse(f"speaks for another: {type(message).__name__}", source)
                                return
                            await self._deliver(message)
                finally:
                    if source is not None and self._inbound.get(source) is life:
                        del self._inbound[source]
                        self._forget(source)

    def _refuse(self, error: str, source: NodeId | None) -> None:
        self._refused += 1
        log.warning("peer stream refused", error=error, source=source)

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
        if not 0 < message.source <= MAX_NODE_ID or message.source == self._identity.node_id:
            raise BadFrame(f"there can be no node {message.source} besides this, node {self._identity.node_id}")
        if message.source not in self._links:
            self._meet(message)
        return message.source


def _parse_address(text: str) -> tuple[str, int]:
    """host:port out of a ``Hello``. Raises ``BadFrame``."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise BadFrame(f"a node that is not configured here says that it is to be answered at {text[:64]!r}")
    return host.strip("[]"), int(port)
