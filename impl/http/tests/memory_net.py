"""The real server over streams in memory: a listener to connect to, and a client that speaks plain HTTP/1.1."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import h11
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

StreamPair = Callable[[], tuple["trio.StapledStream[Any, Any]", "trio.StapledStream[Any, Any]"]]

READ_BYTES = 64 * 1024


class ServerSide(trio.abc.HalfCloseableStream):
    """The server's end of a connection, which remembers when the server closed it."""

    def __init__(self, inner: trio.StapledStream[Any, Any]) -> None:
        self._inner = inner
        self.closed_at: float | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._inner.receive_some(max_bytes))

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    async def aclose(self) -> None:
        if self.closed_at is None:
            self.closed_at = trio.current_time()
        await self._inner.aclose()


class MemoryListener(trio.abc.Listener[ServerSide]):
    """Connections in memory. ``connect`` is the client's part."""

    def __init__(self) -> None:
        self._offer, self._take = trio.open_memory_channel[ServerSide](math.inf)

    async def accept(self) -> ServerSide:
        return await self._take.receive()

    async def aclose(self) -> None:
        self._take.close()
        await trio.lowlevel.checkpoint()

    def connect(self, pair: StreamPair = memory_stream_pair) -> tuple[trio.StapledStream[Any, Any], ServerSide]:
        """(the client's end, the server's end). With ``lockstep_stream_pair`` a write waits until it is read."""
        client, server = pair()
        side = ServerSide(server)
        self._offer.send_nowait(side)
        return client, side

    def connect_lockstep(self) -> tuple[trio.StapledStream[Any, Any], ServerSide]:
        return self.connect(lockstep_stream_pair)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request_bytes(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole request. Header names are given with underscores."""
    named = {"Host": "test", "Telegraft-User": "7"} | {k.replace("_", "-"): v for k, v in headers.items()}
    if body and "Transfer-Encoding" not in named:
        named.setdefault("Content-Length", str(len(body)))
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items()), "", ""]
    return "\r\n".join(head).encode("latin-1") + body


class PlainClient:
    """Reads responses off one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.CLIENT)
        self._fresh = True

    async def ask(self, request: bytes) -> Answer:
        await self.stream.send_all(request)
        return await self.answer()

    async def answer(self) -> Answer:
        """The next response; raises ``h11.RemoteProtocolError`` when the connection ends before it is complete."""
        if not self._fresh:
            self._h11.start_next_cycle()
        self._fresh = False
        # The request was written by hand; tell the parser that there was one.
        self._h11.send(h11.Request(method="GET", target="/", headers=[("Host", "test")]))
        self._h11.send(h11.EndOfMessage())
        status, headers, body = 0, {}, b""
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(bytes(await self.stream.receive_some(READ_BYTES)))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, headers, body)

    async def is_closed(self) -> bool:
        """Waits until the server ends the connection; False when it says something instead."""
        try:
            return bytes(await self.stream.receive_some(READ_BYTES)) == b""
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return True
