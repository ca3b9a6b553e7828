"""The server on real sockets of the loopback: addresses, ports in use, a client that stops reading."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from starlette.types import Receive, Scope, Send

from impl.http.app import create_app
from impl.http.server import AddressInUse, CannotListen, ServerLimits, parse_bind, serve
from impl.http.tests.fake_service import FakeService
from impl.http.tests.memory_net import PlainClient, request_bytes

WATCHDOG_S = 30.0
"""Only ever waited for by a test that fails."""


async def connect(address: str) -> trio.SocketStream:
    host, port = parse_bind(address)
    return await trio.open_tcp_stream(host, port)


async def test_port_0_takes_a_free_port_and_reports_it() -> None:
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        app = create_app(FakeService())
        address = await nursery.start(partial(serve, app, "127.0.0.1:0", shutdown=shutdown))
        host, port = parse_bind(address)
        assert (host, port > 0) == ("127.0.0.1", True)
        async with await connect(address) as stream:
            client = PlainClient(stream)
            assert (await client.ask(request_bytes("GET", "/livez"))).json == {"status": "alive"}
            shutdown.set()
            assert await client.is_closed()


async def test_a_port_in_use_is_a_clear_error() -> None:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(serve, create_app(FakeService()), "127.0.0.1:0"))
        _, port = parse_bind(address)
        with pytest.raises(AddressInUse) as caught:
            await serve(create_app(FakeService()), address)
        assert (caught.value.host, caught.value.port) == ("127.0.0.1", port)
        assert f"127.0.0.1:{port} is in use" in str(caught.value)
        assert "choose another port" in str(caught.value)
        nursery.cancel_scope.cancel()


async def test_the_port_is_free_again_at_once() -> None:
    app = create_app(FakeService())
    address = "127.0.0.1:0"
    for _ in range(2):
        shutdown = trio.Event()
        async with trio.open_nursery() as nursery:
            address = await nursery.start(partial(serve, app, address, shutdown=shutdown))
            async with await connect(address) as stream:
                await PlainClient(stream).ask(request_bytes("GET", "/livez"))
            shutdown.set()


@pytest.mark.parametrize("bind", ["", "8101", "127.0.0.1", "127.0.0.1:", ":8101", "127.0.0.1:http", "127.0.0.1:70000"])
async def test_what_is_no_address_is_a_clear_error(bind: str) -> None:
    with pytest.raises(CannotListen, match="write host:port"):
        await serve(create_app(FakeService()), bind)


async def test_an_address_of_another_machine_is_a_clear_error() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.1:0.*address of this machine") as caught:
        await serve(create_app(FakeService()), "192.0.2.1:0")
    assert not isinstance(caught.value, AddressInUse)


@pytest.mark.parametrize(("bind", "expected"), [("[::1]:80", ("::1", 80)), ("localhost:0", ("localhost", 0))])
def test_addresses_are_parsed(bind: str, expected: tuple[str, int]) -> None:
    assert parse_bind(bind) == expected


async def read_to_the_end(stream: trio.SocketStream) -> None:
    while await stream.receive_some(65_536):
        pass


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers for ever."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan here")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})


async def test_a_client_that_stops_reading_does_not_keep_the_server_from_stopping() -> None:
    """Kernel buffers and all. The grace is nothing, so that the test takes no time."""
    shutdown = trio.Event()
    limits = ServerLimits(graceful_timeout_s=0.0, send_timeout_s=3600.0)
    clients: list[trio.SocketStream] = []

    async def watchdog(task_status: trio.TaskStatus[None]) -> None:
        """Fails instead of hanging: with the client gone, the server can stop whatever it does."""
        task_status.started()
        await trio.sleep(WATCHDOG_S)
        await trio.aclose_forcefully(clients[0])
        pytest.fail("the server did not stop")

    async with trio.open_nursery() as watching:
        await watching.start(watchdog)
        async with trio.open_nursery() as nursery:
            address = await nursery.start(partial(serve, flood, "127.0.0.1:0", shutdown=shutdown, limits=limits))
            clients.append(await connect(address))
            await clients[0].send_all(request_bytes("GET", "/"))
            await clients[0].receive_some(1)
            shutdown.set()
        watching.cancel_scope.cancel()
    with pytest.raises(trio.BrokenResourceError):  # a reset: the server threw away what it had not sent
        await read_to_the_end(clients[0])
    await clients[0].aclose()
