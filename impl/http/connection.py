"""One HTTP/1.1 connection: Hypercorn's state machine, between a stream that never stalls it and a body that never
floods it.

Theory of operation
-------------------
Hypercorn's ``TCPServer`` runs one connection over any stream that quacks like trio's ``SocketStream``. Four of its
habits are unsafe for a node that must stay up and must be able to stop, and each is closed here at a seam:

*A reader that stalls.* ``TCPServer`` writes inside a shielded scope, so that no cancellation, no timeout and no
shutdown frees a write to a client that has stopped reading. A deadline *inside* the shield still fires: ``BoundStream``
writes in pieces, gives each piece its own deadline, and aborts the connection when one passes.

*A body that nobody reads.* Pieces of a body wait in a bounded queue for the application. If the application answers
without reading them, the reader fills the queue, the end of the request cannot be queued, and the connection hangs.
``WholeBody`` collects a body, up to one byte more than the application accepts, and hands it over in one piece.

*A client that has left.* The end of an idle connection is noticed, but its timer runs on, and the connection with it,
until ``keep_alive_timeout_s``. ``Http1Connection`` stops the timer.

*More protocols than we speak.* An ``Upgrade: h2c`` header or the HTTP/2 preface would switch the connection to
HTTP/2, where a client can stall a stream by other means. ``Http1Protocol`` ignores the first and refuses the second;
its own errors (a malformed head, headers too large) are problems like all others.

``TCPServer`` and the protocol classes are semi-private, hence the upper bound on Hypercorn's version; ``test_seam``
fails with an explanation when they move.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import h11
import structlog
import trio
from hypercorn.events import Closed
from hypercorn.logging import Logger
from hypercorn.protocol.events import Body, EndBody, Event
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.trio.tcp_server import TCPServer

from impl.http import problems, wire
from impl.http.limits import BODY_DRAIN_MAX_BYTES, BODY_MAX_BYTES
from impl.http.problems import Problem

log = structlog.get_logger("telegraft.http")

SEND_PIECE_BYTES = 64 * 1024
"""What one send deadline covers: a reader of a long answer needs a minimum rate, not a minimum total time."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 s


class _Unaddressed:
    """Stands in for the socket of a stream without one (a stream in memory): a peer without an address."""

    family = socket.AF_UNSPEC

    def getpeername(self) -> tuple[()]:
        return ()

    def getsockname(self) -> tuple[()]:
        return ()


class BoundStream:
    """A stream whose writes end within a deadline, and that can be aborted at any moment.

    Everything else is the inner stream's, TLS included.
    """

    def __init__(self, inner: trio.abc.Stream, *, send_timeout_s: float) -> None:
        self._inner = inner
        self._send_timeout_s = send_timeout_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def socket(self) -> Any:
        return getattr(self._inner, "socket", None) or _Unaddressed()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Raises ``trio.BrokenResourceError`` when the reader takes no piece for ``send_timeout_s`` seconds."""
        view = memoryview(data)
        if not view:  # the end of most answers: no bytes, no deadline
            await trio.lowlevel.checkpoint()
        for start in range(0, len(view), SEND_PIECE_BYTES):
            try:
                with trio.fail_after(self._send_timeout_s):
                    await self._inner.send_all(view[start : start + SEND_PIECE_BYTES])
            except trio.TooSlowError:
                log.warning("client stopped reading, connection dropped", after_s=self._send_timeout_s)
                await self.abort()
                raise trio.BrokenResourceError("the client stopped reading") from None

    async def abort(self) -> None:
        """Close at once, whoever is reading or writing; what the kernel has not yet sent is thrown away."""
        with trio.CancelScope(shield=True):
            if isinstance(self._inner, trio.SocketStream) and self._inner.socket.fileno() != -1:
                self._inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            await trio.aclose_forcefully(self._inner)


class WholeBody:
    """Hypercorn's stream of one request, with the body handed over in one piece."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._kept = bytearray()
        self._seen_bytes = 0
        self._handed_over = False

    async def handle(self, event: Event) -> None:
        if isinstance(event, Body):
            self._seen_bytes += len(event.data)
            self._kept += event.data[: BODY_MAX_BYTES + 1 - len(self._kept)]
            if self._seen_bytes > BODY_DRAIN_MAX_BYTES:
                await self._hand_over()
            return
        if isinstance(event, EndBody):
            await self._hand_over()
        await self._inner.handle(event)

    async def _hand_over(self) -> None:
        if not self._handed_over:
            self._handed_over = True
            await self._inner.handle(Body(stream_id=STREAM_ID, data=bytes(self._kept)))
            self._kept.clear()


class Http1Protocol(H11Protocol):
    """HTTP/1.1 and nothing else."""

    async def _create_stream(self, request: h11.Request) -> None:
        if not request.http_version.startswith(b"1."):  # the preface of HTTP/2 reads like a request
            await self._send_error_response(problems.MALFORMED_REQUEST.status)
            await self.send(Closed())
            return
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        plain = h11.Request(
            method=request.method, target=request.target, headers=headers, http_version=request.http_version
        )
        await super()._create_stream(plain)
        whole: Any = WholeBody(self.stream)
        self.stream = whole

    async def _check_protocol(self, event: h11.Request) -> None:
        """In the original, where a request switches the connection to HTTP/2."""

    async def _send_error_response(self, status_code: int) -> None:
        """In the original, the answer to a request that h11 cannot read; without a body."""
        if status_code == problems.HEADERS_TOO_LARGE.status:
            limit_bytes = self.config.h11_max_incomplete_size
            problem = Problem(problems.HEADERS_TOO_LARGE, f"The head of a request may have {limit_bytes:,} bytes.")
        else:
            problem = Problem(
                problems.MALFORMED_REQUEST, "The node speaks HTTP/1.1 (RFC 9112) and could not read this."
            )
        body = problem.body()
        headers = [
            (b"content-type", wire.PROBLEM_MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=problem.kind.status, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class Http1Connection(TCPServer):
    """``TCPServer`` with our protocol in the place of the one that negotiates."""

    async def _read_data(self) -> None:
        negotiating = self.protocol
        plain: Any = Http1Protocol(
            negotiating.app,
            negotiating.config,
            negotiating.context,
            negotiating.task_group,
            negotiating.state,
            negotiating.ssl,
            negotiating.client,
            negotiating.server,
            negotiating.send,
        )
        self.protocol = plain
        await super()._read_data()
        await self.idle_task.stop()


class HypercornLog(Logger):
    """What Hypercorn has to say goes to the node's log; requests are not its business."""

    async def access(self, *args: Any) -> None:
        """Hypercorn's access log is not used."""

    async def critical(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.critical(message, *args)

    async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.error(message, *args)

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.warning(message, *args)

    async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.info(message, *args)

    async def debug(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.debug(message, *args)

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.exception(message, *args)

    async def log(self, level: int, message: str, *args: Any, **kwargs: Any) -> None:
        log.log(level, message, *args)
