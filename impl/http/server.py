"""An ASGI application on a TCP port, on trio, until it is told to stop; and then stopping within a known time.

Theory of operation
-------------------
``serve`` binds the port and hands the listeners to ``serve_on``, which knows nothing of sockets: a simulation or a
test gives it listeners over streams in memory, and runs the real server in virtual time.

Connections are tracked. Beyond ``connections_max`` a new one is answered 503 (certainly not done: nothing of it was
read) and closed. Requests of one connection are handled one after the other, so the cap bounds the requests in
progress, too.

*Stopping.* When the event ``shutdown`` is set: no more connections are accepted and the idle ones are closed; requests
in progress get ``graceful_timeout_s`` to finish; whatever is left is then aborted and cancelled. Aborting matters: a
write to a client that has stopped reading is shielded from cancellation, and ends only when its stream is closed. The
whole takes at most ``graceful_timeout_s + lifespan_timeout_s``. Cancelling ``serve`` from outside skips the grace.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from starlette.types import ASGIApp

from impl.chat.service import NotDone
from impl.http import problems, wire
from impl.http.connection import BoundStream, Http1Connection, HypercornLog

log = structlog.get_logger("telegraft.http")

AnyStream = TypeVar("AnyStream", bound=trio.abc.Stream)

CONNECTIONS_MAX = 512
"""Each takes a file descriptor, of which a process commonly gets 1,024; half is left for peers, log and database."""

REFUSALS_MAX = 64
"""Connections beyond the cap that are being told so at one time; further ones are closed without a word."""

REFUSAL_TIMEOUT_S = 1.0
"""For a refused client to send its request and go: closing while it sends would reset what we told it."""

REFUSAL_READ_BYTES = 64 * 1024
"""How much of a refused request is read, in one piece, and thrown away."""

BACKLOG = 1024
"""Connections that the kernel holds while the node is busy; a cluster's clients all reconnect at once."""

HEAD_MAX_BYTES = 16 * 1024
"""Of a request's line and headers: what common servers take."""

KEEP_ALIVE_TIMEOUT_S = 30.0
"""An idle connection, or one that has not finished the head of its request; longer than clients keep connections idle,
so that it is they who close and no request is lost in between."""

KEEP_ALIVE_MAX_REQUESTS = 100_000
"""Of one connection, before it is asked to reconnect, so that a balancer in between gets to move clients."""

SEND_TIMEOUT_S = 10.0
"""For a client to take ``SEND_PIECE_BYTES`` of an answer."""

GRACEFUL_TIMEOUT_S = 5.0
"""For requests in progress at a stop: longer than the chat service takes to answer one."""

LIFESPAN_TIMEOUT_S = 5.0
"""For the application's own start and its own end, each."""


@dataclass(frozen=True)
class ServerLimits:
    """The bounds of one server; the defaults carry their reasons."""

    connections_max: int = CONNECTIONS_MAX
    backlog: int = BACKLOG
    head_max_bytes: int = HEAD_MAX_BYTES
    keep_alive_timeout_s: float = KEEP_ALIVE_TIMEOUT_S
    send_timeout_s: float = SEND_TIMEOUT_S
    graceful_timeout_s: float = GRACEFUL_TIMEOUT_S
    lifespan_timeout_s: float = LIFESPAN_TIMEOUT_S


DEFAULT_LIMITS = ServerLimits()


class CannotListen(Exception):
    """The address cannot be listened on; the message says why and what to do."""

    def __init__(self, host: str, port: int, message: str) -> None:
        super().__init__(message)
        self.host = host
        self.port = port


class AddressInUse(CannotListen):
    """Another process listens on the address."""


async def serve(
    app: ASGIApp,
    bind: str,
    *,
    shutdown: trio.Event | None = None,
    limits: ServerLimits = DEFAULT_LIMITS,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``shutdown`` is set, then stop within the bounds of ``limits``; or until cancelled, then at once.

    ``bind`` is "host:port" ("[::1]:8101" for IPv6; port 0 takes a free one). Reports the bound address, in the same
    form, through ``task_status`` once connections are accepted. Raises ``AddressInUse`` or ``CannotListen``.
    """
    host, port = parse_bind(bind)
    listeners = await open_listeners(host, port, backlog=limits.backlog)
    bound_host, bound_port = listeners[0].socket.getsockname()[:2]
    address = f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"
    await serve_on(app, listeners, address=address, shutdown=shutdown, limits=limits, task_status=task_status)


def parse_bind(bind: str) -> tuple[str, int]:
    """("127.0.0.1", 8101) from "127.0.0.1:8101". Raises ``CannotListen`` for anything that is no host and port."""
    host, colon, port = bind.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise CannotListen(host, 0, f"{bind!r} is no address to listen on: write host:port, like 127.0.0.1:8101")
    return host, int(port)


async def open_listeners(host: str, port: int, *, backlog: int = BACKLOG) -> list[trio.SocketListener]:
    """Listening sockets, one for each address of the host. Raises ``AddressInUse`` or ``CannotListen``."""
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                host,
                port,
                f"{host}:{port} is in use by another process: stop it (`ss -ltnp 'sport = :{port}'` shows which it is) "
                "or choose another port for http in the node's configuration",
            ) from error
        raise CannotListen(
            host,
            port,
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose an address of this machine and a port "
            "that this user may bind (1024 or above, as a rule)",
        ) from error


async def serve_on(
    app: ASGIApp,
    listeners: Sequence[trio.abc.Listener[AnyStream]],
    *,
    address: str = "",
    shutdown: trio.Event | None = None,
    limits: ServerLimits = DEFAULT_LIMITS,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """As ``serve``, on listeners that are already open; they are closed at the end. Reports ``address``."""
    shutdown = trio.Event() if shutdown is None else shutdown  # then never set: the server runs until cancelled
    config = _config(limits)
    untyped: Any = app  # Starlette and Hypercorn describe the same calls by different types
    wrapped = ASGIWrapper(untyped)
    state: dict[str, Any] = {}
    lifespan = Lifespan(wrapped, config, state)
    async with trio.open_nursery() as lifespan_nursery:
        await lifespan_nursery.start(lifespan.handle_lifespan)
        try:
            await lifespan.wait_for_startup()
            connections = Connections(wrapped, config, state, limits)
            await connections.accept_until(shutdown, listeners, address, task_status)
            await lifespan.wait_for_shutdown()
        finally:
            for listener in listeners:
                await trio.aclose_forcefully(listener)
            lifespan_nursery.cancel_scope.cancel()


def _config(limits: ServerLimits) -> Config:
    config = Config()
    config.logger_class = HypercornLog
    config.accesslog = None
    config.errorlog = None
    config.alpn_protocols = ["http/1.1"]
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.head_max_bytes
    config.keep_alive_timeout = limits.keep_alive_timeout_s
    config.keep_alive_max_requests = KEEP_ALIVE_MAX_REQUESTS
    config.startup_timeout = limits.lifespan_timeout_s
    config.shutdown_timeout = limits.lifespan_timeout_s
    return config


def _refusal(connections_max: int) -> bytes:
    """The whole answer to a connection beyond the cap."""
    reason = NotDone("overloaded", f"The node has {connections_max:,} connections open: close idle ones, or try later.")
    problem = problems.not_done(reason)
    body = problem.body()
    head = {
        "Content-Type": wire.PROBLEM_MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        **problem.headers,
    }
    lines = [f"HTTP/1.1 {problem.kind.status} Service Unavailable", *(f"{n}: {v}" for n, v in head.items()), "", ""]
    return "\r\n".join(lines).encode("ascii") + body


class Connections:
    """The open connections of one server."""

    def __init__(self, app: Any, config: Config, state: dict[str, Any], limits: ServerLimits) -> None:
        self._app = app
        self._config = config
        self._state = state
        self._limits = limits
        self._context = WorkerContext(None)
        self._open: set[BoundStream] = set()
        self._refusals = 0
        self._none_open = trio.Event()

    async def accept_until(
        self,
        shutdown: trio.Event,
        listeners: Sequence[trio.abc.Listener[AnyStream]],
        address: str,
        task_status: trio.TaskStatus[str],
    ) -> None:
        """Accept connections until ``shutdown``, let those with a request finish, end all others."""
        async with trio.open_nursery() as handlers:
            try:
                async with trio.open_nursery() as accepting:
                    accept = partial(trio.serve_listeners, self._handle, list(listeners), handler_nursery=handlers)
                    await accepting.start(accept)
                    task_status.started(address)
                    await shutdown.wait()
                    accepting.cancel_scope.cancel()
                await self._context.terminated.set()
                with trio.move_on_after(self._limits.graceful_timeout_s):
                    while self._open:
                        self._none_open = trio.Event()
                        await self._none_open.wait()
                if self._open:
                    log.warning("requests aborted at shutdown", connections=len(self._open))
            finally:
                for stream in list(self._open):
                    await stream.abort()
                handlers.cancel_scope.cancel()

    async def _handle(self, accepted: trio.abc.Stream) -> None:
        """One connection, whatever happens to it: an error of one never reaches the others."""
        if len(self._open) >= self._limits.connections_max:
            await self._refuse(accepted)
            return
        stream: Any = BoundStream(accepted, send_timeout_s=self._limits.send_timeout_s)
        self._open.add(stream)
        try:
            await Http1Connection(self._app, self._config, self._context, self._state.copy(), stream).run()
        except* Exception:  # a cancellation among them goes its way
            log.exception("connection failed")
        finally:
            await stream.abort()  # after a proper close, nothing is left to abort
            self._open.discard(stream)
            if not self._open:
                self._none_open.set()

    async def _refuse(self, accepted: trio.abc.Stream) -> None:
        """Tell a client that there are too many: without reading its request, so it is certainly not done."""
        if self._refusals >= REFUSALS_MAX:
            await trio.aclose_forcefully(accepted)
            return
        self._refusals += 1
        try:
            with trio.move_on_after(REFUSAL_TIMEOUT_S):
                await accepted.send_all(_refusal(self._limits.connections_max))
                if isinstance(accepted, trio.abc.HalfCloseableStream):
                    await accepted.send_eof()
                while await accepted.receive_some(REFUSAL_READ_BYTES):
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it left without listening
        finally:
            self._refusals -= 1
            await trio.aclose_forcefully(accepted)
