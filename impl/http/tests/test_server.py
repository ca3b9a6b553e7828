"""The real server in virtual time: connections, bounds, and the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import h11
import pytest
import trio
from starlette.types import ASGIApp, Receive, Scope, Send
from trio.testing import MockClock

from impl.http import connection, limits
from impl.http.app import create_app
from impl.http.server import ServerLimits, serve_on
from impl.http.tests.fake_service import FakeService
from impl.http.tests.memory_net import MemoryListener, PlainClient, ServerSide, request_bytes

LIMITS = ServerLimits(send_timeout_s=7.0, graceful_timeout_s=3.0, lifespan_timeout_s=2.0, keep_alive_timeout_s=20.0)

SEND = "/v1/chats/9/messages/t"


class Running:
    """A server under test."""

    def __init__(self, listener: MemoryListener, shutdown: trio.Event) -> None:
        self.listener = listener
        self.shutdown = shutdown
        self.stopped_at: float | None = None

    def connect(self) -> PlainClient:
        return PlainClient(self.listener.connect()[0])

    async def stall(self, nursery: trio.Nursery) -> ServerSide:
        """A client that asks and never reads the answer. Returns the server's end once the answer is being written."""
        client, side = self.listener.connect_lockstep()
        nursery.start_soon(client.send_all, request_bytes("GET", "/v1/status"))
        await trio.testing.wait_all_tasks_blocked()
        return side


@asynccontextmanager
async def serving(app: ASGIApp | None = None, server_limits: ServerLimits = LIMITS) -> AsyncIterator[Running]:
    running = Running(MemoryListener(), trio.Event())
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[str]) -> None:
            await serve_on(
                app or create_app(FakeService()),
                [running.listener],
                shutdown=running.shutdown,
                limits=server_limits,
                task_status=task_status,
            )
            running.stopped_at = trio.current_time()

        await nursery.start(run)
        yield running
        running.shutdown.set()


async def answer_at_length(scope: Scope, receive: Receive, send: Send) -> None:
    """An application with an answer of 100 pieces, however the client reads."""
    if scope["type"] == "lifespan":
        await starlette_like_lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6553600")]})
    for n in range(100):
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": n < 99})


async def starlette_like_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


# --- requests ----------------------------------------------------------------------------------------------------


async def test_requests_follow_each_other_on_one_connection(autojump_clock: MockClock) -> None:
    async with serving() as server:
        client = server.connect()
        for _ in range(3):
            answer = await client.ask(request_bytes("PUT", SEND, b'{"text":"hello"}'))
            assert (answer.status, answer.json["seq"]) == (201, 5)
            assert answer.headers["telegraft-node"] == "2"
            assert "server" not in answer.headers


async def test_a_percent_encoded_transaction_id_arrives_decoded(autojump_clock: MockClock) -> None:
    service = FakeService()
    async with serving(create_app(service)) as server:
        await server.connect().ask(request_bytes("PUT", "/v1/chats/9/messages/a%2Fb%25%3F", b'{"text":"hello"}'))
    assert [getattr(command, "txn_id", None) for command in service.commands] == ["a/b%?"]


async def test_a_long_request_takes_no_real_time(autojump_clock: MockClock) -> None:
    async with serving(create_app(FakeService(takes_s=1000.0))) as server:
        started = trio.current_time()
        assert (await server.connect().ask(request_bytes("PUT", SEND, b'{"text":"hello"}'))).status == 201
        assert trio.current_time() - started == pytest.approx(1000.0)


async def test_a_bug_in_the_application_ends_its_connection_only(autojump_clock: MockClock) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await starlette_like_lifespan(receive, send)
        else:
            raise RuntimeError("a bug")

    async with serving(broken) as server:
        for _ in range(2):
            assert (await server.connect().ask(request_bytes("GET", "/"))).status == 500


async def test_an_error_in_the_protocol_ends_its_connection_only(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as server:
        with monkeypatch.context() as patched:

            async def fail(self: object, request: object) -> None:
                raise RuntimeError("a bug")

            patched.setattr(connection.Http1Protocol, "_create_stream", fail)
            client = server.connect()
            await client.stream.send_all(request_bytes("GET", "/v1/status"))
            assert await client.is_closed()
        assert (await server.connect().ask(request_bytes("GET", "/v1/status"))).status == 200


# --- what is not HTTP/1.1 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status", "type_"),
    [
        (b"GARBAGE\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed-request"),  # no Host
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000, 431, "headers-too-large"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed-request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS \r\n\r\n", 400, "malformed-request"),
    ],
    ids=["garbage", "no host", "bad path", "two lengths", "headers", "HTTP/2", "TLS"],
)
async def test_what_is_not_http_is_answered_with_a_problem(
    sent: bytes, status: int, type_: str, autojump_clock: MockClock
) -> None:
    async with serving() as server:
        client = server.connect()
        answer = await client.ask(sent)
        assert answer.status == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["type"] == f"urn:telegraft:problem:{type_}"
        assert await client.is_closed()


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
async def test_an_offer_to_upgrade_is_ignored(upgrade: str, autojump_clock: MockClock) -> None:
    async with serving() as server:
        asked = request_bytes("GET", "/v1/status", Upgrade=upgrade, Connection="Upgrade", HTTP2_Settings="AAMAAABk")
        assert (await server.connect().ask(asked)).status == 200


# --- bodies ------------------------------------------------------------------------------------------------------


def chunked(pieces: int, size: int) -> bytes:
    return (b"%x\r\n" % size + b" " * size + b"\r\n") * pieces + b"0\r\n\r\n"


@pytest.mark.parametrize("method", ["PUT", "GET"])
async def test_a_body_in_a_thousand_pieces_does_not_hang_the_connection(method: str, autojump_clock: MockClock) -> None:
    """Nobody reads the body of a GET: the pieces must not fill a queue."""
    service = FakeService(takes_s=5.0)
    async with serving(create_app(service)) as server:
        client = server.connect()
        path = SEND if method == "PUT" else "/v1/chats/9/members"
        answer = await client.ask(request_bytes(method, path, chunked(1000, 1), Transfer_Encoding="chunked"))
        assert answer.status == (400 if method == "PUT" else 200)
        assert (await client.ask(request_bytes("GET", "/v1/status"))).status == 200


async def test_a_body_in_pieces_hangs_a_connection_without_whole_body(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: shows that the test above can fail."""
    monkeypatch.setattr(connection, "WholeBody", lambda inner: inner)
    async with serving(create_app(FakeService(takes_s=5.0))) as server:
        client = server.connect()
        body = chunked(1000, 1)
        await client.ask(request_bytes("GET", "/v1/chats/9/members", body, Transfer_Encoding="chunked"))
        with trio.move_on_after(10_000) as waiting:
            await client.ask(request_bytes("GET", "/v1/status"))
        assert waiting.cancelled_caught


async def test_a_body_somewhat_too_large_is_read_to_its_end_and_refused(autojump_clock: MockClock) -> None:
    async with serving() as server:
        client = server.connect()
        body = b" " * (limits.BODY_MAX_BYTES + 1)
        answer = await client.ask(request_bytes("PUT", SEND, body))
        assert (answer.status, answer.json["type"]) == (413, "urn:telegraft:problem:body-too-large")
        assert await client.is_closed()


async def test_a_body_without_end_is_refused(autojump_clock: MockClock) -> None:
    async with serving() as server:
        client = server.connect()
        body = chunked(limits.BODY_DRAIN_MAX_BYTES // 65_536 + 2, 65_536).removesuffix(b"0\r\n\r\n")
        answer = await client.ask(request_bytes("PUT", SEND, body, Transfer_Encoding="chunked"))
        assert answer.status == 413
        assert await client.is_closed()


async def test_a_body_that_trickles_is_given_up(autojump_clock: MockClock) -> None:
    async with serving() as server, trio.open_nursery() as nursery:
        client = server.connect()
        await client.stream.send_all(request_bytes("PUT", SEND, Content_Length="1000"))
        started = trio.current_time()

        async def trickle() -> None:
            while True:
                await client.stream.send_all(b" ")
                await trio.sleep(1)

        nursery.start_soon(trickle)
        answer = await client.answer()
        assert answer.status == 408
        assert trio.current_time() - started == pytest.approx(limits.BODY_TIMEOUT_S)
        nursery.cancel_scope.cancel()


# --- time --------------------------------------------------------------------------------------------------------


async def test_an_idle_connection_is_closed(autojump_clock: MockClock) -> None:
    async with serving() as server:
        client = server.connect()
        await client.ask(request_bytes("GET", "/v1/status"))
        started = trio.current_time()
        assert await client.is_closed()
        assert trio.current_time() - started == pytest.approx(LIMITS.keep_alive_timeout_s)


async def test_a_client_that_leaves_takes_no_place_any_longer(autojump_clock: MockClock) -> None:
    async with serving() as server:
        stream, side = server.listener.connect()
        await PlainClient(stream).ask(request_bytes("GET", "/v1/status"))
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert side.closed_at == pytest.approx(0.0)


async def test_a_head_that_trickles_is_given_up(autojump_clock: MockClock) -> None:
    async with serving() as server, trio.open_nursery() as nursery:
        client = server.connect()

        async def trickle() -> None:
            for byte in request_bytes("GET", "/v1/status"):
                await client.stream.send_all(bytes([byte]))
                await trio.sleep(1)

        nursery.start_soon(trickle)
        assert await client.is_closed()
        assert trio.current_time() == pytest.approx(LIMITS.keep_alive_timeout_s)
        nursery.cancel_scope.cancel()


async def test_a_reader_that_stalls_is_dropped_at_the_deadline(autojump_clock: MockClock) -> None:
    async with serving() as server, trio.open_nursery() as nursery:
        started = trio.current_time()
        side = await server.stall(nursery)
        await trio.sleep(LIMITS.send_timeout_s * 2)
        assert side.closed_at is not None
        assert side.closed_at - started == pytest.approx(LIMITS.send_timeout_s)
        assert (await server.connect().ask(request_bytes("GET", "/v1/status"))).status == 200


async def test_a_slow_reader_of_a_long_answer_is_not_dropped(autojump_clock: MockClock) -> None:
    """The deadline is for one piece, not for the whole."""
    async with serving(answer_at_length) as server, trio.open_nursery() as nursery:
        client, _ = server.listener.connect_lockstep()
        nursery.start_soon(client.send_all, request_bytes("GET", "/"))
        received = 0
        while received < 6_553_600:
            received += len(bytes(await client.receive_some(65_536)))
            await trio.sleep(LIMITS.send_timeout_s * 0.9)
        assert trio.current_time() > 50 * LIMITS.send_timeout_s


# --- the connection cap ------------------------------------------------------------------------------------------


async def test_a_connection_beyond_the_cap_is_told_so(autojump_clock: MockClock) -> None:
    async with serving(server_limits=ServerLimits(connections_max=2)) as server:
        clients = [server.connect() for _ in range(2)]
        for client in clients:
            await client.ask(request_bytes("GET", "/v1/status"))
        refused = server.connect()
        answer = await refused.ask(request_bytes("PUT", SEND, b'{"text":"a"}'))
        assert (answer.status, answer.json["type"]) == (503, "urn:telegraft:problem:not-done")
        assert (answer.json["reason"], answer.headers["retry-after"]) == ("overloaded", "1")
        assert await refused.is_closed()

        await clients[0].stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (await server.connect().ask(request_bytes("GET", "/v1/status"))).status == 200


async def test_refused_connections_do_not_pile_up(autojump_clock: MockClock) -> None:
    """Hundreds of clients that neither read nor leave: each is gone after a second, or at once."""
    async with serving(server_limits=ServerLimits(connections_max=1)) as server:
        client = server.connect()
        await client.ask(request_bytes("GET", "/v1/status"))
        refused = [server.listener.connect_lockstep()[1] for _ in range(200)]
        await trio.sleep(1.5)
        assert all(side.closed_at is not None for side in refused)
        assert (await client.ask(request_bytes("GET", "/v1/status"))).status == 200


# --- the end -----------------------------------------------------------------------------------------------------


async def test_shutdown_lets_a_request_in_progress_finish(autojump_clock: MockClock) -> None:
    async with serving(create_app(FakeService(takes_s=2.0))) as server, trio.open_nursery() as nursery:
        busy, idle = server.connect(), server.connect()
        await idle.ask(request_bytes("GET", "/v1/status"))

        async def stop() -> None:
            await trio.sleep(1.0)
            server.shutdown.set()
            assert await idle.is_closed()
            assert trio.current_time() == pytest.approx(1.0)

        nursery.start_soon(stop)
        assert (await busy.ask(request_bytes("PUT", SEND, b'{"text":"hello"}'))).status == 201
    assert server.stopped_at == pytest.approx(2.0)


async def test_shutdown_without_connections_is_immediate(autojump_clock: MockClock) -> None:
    async with serving() as server:
        pass
    assert server.stopped_at == pytest.approx(0.0)


async def test_shutdown_ends_in_time_with_a_reader_that_stalls(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with serving(server_limits=ServerLimits(send_timeout_s=1e6, graceful_timeout_s=3.0)) as server:
            stalled = [await server.stall(nursery) for _ in range(3)]
            server.shutdown.set()
        assert server.stopped_at == pytest.approx(3.0)
        assert all(side.closed_at == pytest.approx(3.0) for side in stalled)
        nursery.cancel_scope.cancel()


async def test_shutdown_would_not_end_without_the_abort(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: no deadline, no abort, as in Hypercorn itself. Shows that the test above can fail."""

    async def nothing(self: object) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(connection.BoundStream, "abort", nothing)
    async with trio.open_nursery() as nursery:
        async with serving(server_limits=ServerLimits(send_timeout_s=1e6, graceful_timeout_s=3.0)) as server:
            side = await server.stall(nursery)
            server.shutdown.set()
            await trio.sleep(10_000)
            assert server.stopped_at is None
            await trio.aclose_forcefully(side)
        nursery.cancel_scope.cancel()


async def test_shutdown_cuts_a_request_that_takes_too_long(autojump_clock: MockClock) -> None:
    async with serving(create_app(FakeService(takes_s=1000.0))) as server, trio.open_nursery() as nursery:
        client = server.connect()
        nursery.start_soon(client.stream.send_all, request_bytes("PUT", SEND, b'{"text":"hello"}'))
        await trio.testing.wait_all_tasks_blocked()
        server.shutdown.set()
        with pytest.raises(h11.RemoteProtocolError):
            await client.answer()
    assert server.stopped_at == pytest.approx(LIMITS.graceful_timeout_s)


async def test_cancelling_ends_at_once_also_with_a_reader_that_stalls(autojump_clock: MockClock) -> None:
    listener = MemoryListener()
    running = Running(listener, trio.Event())
    async with trio.open_nursery() as clients:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_on, create_app(FakeService()), [listener], limits=LIMITS))
            side = await running.stall(clients)
            nursery.cancel_scope.cancel()
        assert trio.current_time() == pytest.approx(0.0)
        assert side.closed_at == pytest.approx(0.0)
        clients.cancel_scope.cancel()


# --- the application's own start and end -------------------------------------------------------------------------


def application_with(lifespan: Callable[[Receive, Send], Awaitable[None]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": json.dumps([]).encode(), "more_body": False})

    return app


async def test_the_application_is_started_before_and_stopped_after_its_requests(autojump_clock: MockClock) -> None:
    happened: list[str] = []

    async def lifespan(receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            happened.append(message["type"])
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async with serving(application_with(lifespan)) as server:
        happened.append("serving")
        assert (await server.connect().ask(request_bytes("GET", "/"))).status == 200
    assert happened == ["lifespan.startup", "serving", "lifespan.shutdown"]


async def test_an_application_that_fails_to_start_is_not_served(autojump_clock: MockClock) -> None:
    async def lifespan(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no disk"})

    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="no disk"), flatten_subgroups=True):
        await serve_on(application_with(lifespan), [MemoryListener()], limits=LIMITS)


async def test_an_application_that_does_not_end_is_left_in_time(autojump_clock: MockClock) -> None:
    async def lifespan(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep_forever()

    with pytest.RaisesGroup(Exception, flatten_subgroups=True):
        async with serving(application_with(lifespan)):
            pass
    assert trio.current_time() == pytest.approx(LIMITS.lifespan_timeout_s)
