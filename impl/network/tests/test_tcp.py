"""Streams between nodes on loopback: delivery in order, refusal of strangers, loss said out loud, reconnection, and
no peer, link or resolver that can hold a node up."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from impl.network.tcp import HELLO_TIMEOUT_S, MAX_QUEUED_BYTES, WATCHES, AddressInUse, Identity, TcpNetwork
from impl.network.wire import WIRE_VERSION, BadFrame, Hello, WireMessage, encode
from impl.raft.messages import AppendEntries, AppendEntriesResponse, Entry


async def free_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        return int(listener.socket.getsockname()[1])


def reply(number: int, source: int = 1, target: int = 2) -> AppendEntriesResponse:
    return AppendEntriesResponse(0, source, target, 1, True, number, 0, 0, number)


HELLO = encode(Hello(WIRE_VERSION, "tea", 1, 2, "x"))


async def dial(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


async def ended(stream: trio.SocketStream) -> bool:
    """Waits until the other side has closed or reset the stream."""
    with trio.fail_after(5), suppress(trio.BrokenResourceError):
        assert await stream.receive_some(1) == b""
    return True


class End:
    """One side of a pair of nodes, with what it received and lost."""

    def __init__(
        self,
        node_id: int,
        port: int,
        peers: dict[int, int],
        host: str = "127.0.0.1",
        deliver: Callable[[WireMessage], Awaitable[None]] | None = None,
        known: dict[int, tuple[str, int]] | None = None,
    ) -> None:
        self.sink, self.received = trio.open_memory_channel[WireMessage](1000)
        self.lost: list[int] = []
        self.network = TcpNetwork(
            Identity("tea", node_id, f"run-{node_id}", f"127.0.0.1:{port}"),
            ("127.0.0.1", port),
            {peer: (host, at) for peer, at in peers.items()},
            deliver or self.sink.send,
            self.lost.append,
            Random(node_id),
            known,
        )

    async def send_when_up(self, message: WireMessage) -> None:
        with trio.fail_after(5):
            while not self.network.send(message):
                await trio.sleep(0.005)


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[End, End]]:
    ports = {1: await free_port(), 2: await free_port()}
    one, two = End(1, ports[1], {2: ports[2]}), End(2, ports[2], {1: ports[1]})
    async with trio.open_nursery() as nursery:
        await nursery.start(one.network.run)
        await nursery.start(two.network.run)
        yield one, two
        nursery.cancel_scope.cancel()


async def test_messages_arrive_in_order() -> None:
    async with pair() as (one, two):
        await one.send_when_up(reply(0))
        for number in range(1, 500):
            assert one.network.send(reply(number))
        with trio.fail_after(5):
            for number in range(500):
                assert await two.received.receive() == reply(number)


async def test_a_message_without_a_stream_is_certainly_unsent() -> None:
    end = End(1, await free_port(), {2: await free_port()})
    assert end.network.send(reply(1)) is False
    assert end.network.send(reply(1, target=9)) is False


async def test_loss_is_reported_when_a_stream_breaks_and_the_link_comes_back() -> None:
    ports = {1: await free_port(), 2: await free_port()}
    one = End(1, ports[1], {2: ports[2]})
    async with trio.open_nursery() as nursery:
        await nursery.start(one.network.run)
        for life in range(2):
            two = End(2, ports[2], {1: ports[1]})
            async with trio.open_nursery() as mortal:
                await mortal.start(two.network.run)
                await one.send_when_up(reply(life))
                with trio.fail_after(5):
                    assert await two.received.receive() == reply(life)
                mortal.cancel_scope.cancel()
            with trio.fail_after(5):
                while len(one.lost) <= life:
                    await trio.sleep(0.005)
        assert set(one.lost) == {2}
        nursery.cancel_scope.cancel()


async def test_a_queue_that_overflows_drops_and_says_so() -> None:
    async with pair() as (one, _):
        await one.send_when_up(reply(0))
        large = AppendEntries(0, 1, 2, 1, 0, 0, (Entry(1, 1, bytes(MAX_QUEUED_BYTES // 2)),), 0, 1)
        outcomes = [one.network.send(large) for _ in range(3)]  # no checkpoint in between: nothing leaves the queue
        assert outcomes == [True, False, False]
        assert one.lost == [2, 2]


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (Hello(WIRE_VERSION, "coffee", 1, 2, "x"), "another cluster"),
        (Hello(WIRE_VERSION, "tea", 1, 3, "x"), "another target"),
        (Hello(WIRE_VERSION + 1, "tea", 1, 2, "x"), "another version"),
        (Hello(WIRE_VERSION, "tea", 7, 2, "x"), "no address to answer at"),
        (Hello(WIRE_VERSION, "tea", 7, 2, "x", "nowhere"), "no address that can be"),
        (Hello(WIRE_VERSION, "tea", 2, 2, "x", "127.0.0.1:1"), "this very node"),
        (Hello(WIRE_VERSION, "tea", 5000, 2, "x", "127.0.0.1:1"), "an id that no node can have"),
        (reply(1), "no hello"),
    ],
)
async def test_strangers_are_turned_away(first: WireMessage | Hello, why: str) -> None:
    port = await free_port()
    two = End(2, port, {1: await free_port()})
    async with trio.open_nursery() as nursery:
        await nursery.start(two.network.run)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(encode(first) + encode(reply(5)))
            with trio.fail_after(5):
                with suppress(trio.BrokenResourceError):  # reset rather than closed: turned away as well
                    assert await stream.receive_some(1) == b""
        assert two.received.statistics().current_buffer_used == 0, why
        nursery.cancel_scope.cancel()


async def test_a_stranger_is_heard_and_answered_for_as_long_as_its_stream_lasts() -> None:
    ports = {1: await free_port(), 2: await free_port()}
    one, two = End(1, ports[1], {2: ports[2]}), End(2, ports[2], {})  # 2 has never heard of 1
    async with trio.open_nursery() as nursery:
        await nursery.start(two.network.run)
        assert two.network.send(reply(0, 2, 1)) is False
        async with trio.open_nursery() as mortal:
            await mortal.start(one.network.run)
            await one.send_when_up(reply(1))
            with trio.fail_after(5):
                assert await two.received.receive() == reply(1)
                await two.send_when_up(reply(2, 2, 1))
                assert await one.received.receive() == reply(2, 2, 1)
            mortal.cancel_scope.cancel()
        with trio.fail_after(5):
            while two.network.statistics().links:
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()


async def test_a_configured_address_goes_before_what_a_stranger_says() -> None:
    ports = {1: await free_port(), 2: await free_port(), 3: await free_port()}
    two = End(2, ports[2], {}, known={1: ("127.0.0.1", ports[3])})
    one = End(1, ports[1], {2: ports[2]})
    one_behind_a_proxy = End(1, ports[3], {2: await free_port()})  # hears 2, and has no way to it
    async with trio.open_nursery() as nursery:
        for end in (one, two, one_behind_a_proxy):
            await nursery.start(end.network.run)
        await one.send_when_up(reply(1))
        with trio.fail_after(5):
            await two.received.receive()
            await two.send_when_up(reply(2, 2, 1))
            assert await one_behind_a_proxy.received.receive() == reply(2, 2, 1)
        nursery.cancel_scope.cancel()


async def test_strangers_beyond_the_bound_push_out_the_earliest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impl.network.tcp.MAX_STRANGERS", 2)
    port = await free_port()
    two = End(2, port, {1: await free_port()})
    async with trio.open_nursery() as nursery, AsyncExitStack() as streams:
        await nursery.start(two.network.run)
        for source in (5, 6, 7):
            stream = await streams.enter_async_context(await dial(port))
            await stream.send_all(encode(Hello(WIRE_VERSION, "tea", source, 2, "x", "127.0.0.1:1")))
            with trio.fail_after(5):
                while source not in two.network.statistics().links:
                    await trio.sleep(0.005)
        assert set(two.network.statistics().links) == {1, 6, 7}
        nursery.cancel_scope.cancel()


async def test_peers_come_go_and_move() -> None:
    ports = {number: await free_port() for number in (1, 2, 3)}
    one, two, moved = End(1, ports[1], {2: ports[2]}), End(2, ports[2], {1: ports[1]}), End(2, ports[3], {1: ports[1]})
    async with trio.open_nursery() as nursery:
        for end in (one, two, moved):
            await nursery.start(end.network.run)
        await one.send_when_up(reply(1))
        with trio.fail_after(5):
            assert await two.received.receive() == reply(1)
        one.network.set_peers({2: ("127.0.0.1", ports[3])})
        await one.send_when_up(reply(2))
        with trio.fail_after(5):
            assert await moved.received.receive() == reply(2)
        statistics = one.network.statistics().links[2]
        assert (statistics.connections, statistics.sent_messages) == (1, 1)
        two.network.set_peers({})
        moved.network.set_peers({})
        one.network.set_peers({})
        with trio.fail_after(5):
            while any(end.network.statistics().links for end in (one, two, moved)):
                await trio.sleep(0.005)
        assert one.network.send(reply(3)) is False
        nursery.cancel_scope.cancel()


async def test_a_stream_without_a_hello_ends_and_one_with_it_may_be_silent(mock_clock: MockClock) -> None:
    mock_clock.rate = 1
    port = await free_port()
    two = End(2, port, {1: await free_port()})
    async with trio.open_nursery() as nursery:
        await nursery.start(two.network.run)
        async with await dial(port) as stranger, await dial(port) as peer:
            await peer.send_all(HELLO + encode(reply(1)))
            with trio.fail_after(5):
                assert await two.received.receive() == reply(1)
            await wait_all_tasks_blocked()
            mock_clock.jump(HELLO_TIMEOUT_S)
            assert await ended(stranger)
            await peer.send_all(encode(reply(2)))
            with trio.fail_after(5):
                assert await two.received.receive() == reply(2)
        nursery.cancel_scope.cancel()


async def test_nobody_speaks_for_another() -> None:
    port = await free_port()
    two = End(2, port, {1: await free_port(), 3: await free_port()})
    async with trio.open_nursery() as nursery:
        await nursery.start(two.network.run)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(
                encode(Hello(WIRE_VERSION, "tea", 1, 2, "x")) + encode(reply(1)) + encode(reply(2, 3))
            )
            with trio.fail_after(5):
                assert await two.received.receive() == reply(1)
                with suppress(trio.BrokenResourceError):
                    assert await stream.receive_some(1) == b""
        assert two.received.statistics().current_buffer_used == 0
        nursery.cancel_scope.cancel()


async def test_an_address_in_use_is_named() -> None:
    async with pair() as (one, _):
        port = one.network._listen[1]
        with pytest.raises(AddressInUse, match=f"127.0.0.1:{port} is in use"):
            await End(1, port, {}).network.run()


async def test_a_new_stream_of_a_node_retires_its_earlier_one() -> None:
    port = await free_port()
    two = End(2, port, {1: await free_port()})
    async with trio.open_nursery() as nursery:
        await nursery.start(two.network.run)
        earlier = await dial(port)
        await earlier.send_all(HELLO + encode(reply(0)))
        assert await two.received.receive() == reply(0)
        for number in range(1, 10):
            latest = await dial(port)
            await latest.send_all(HELLO + encode(reply(number)))
            with trio.fail_after(5):
                assert await two.received.receive() == reply(number)
            async with earlier:
                assert await ended(earlier)
            earlier = latest
        async with latest:
            await latest.send_all(encode(reply(10)))
            with trio.fail_after(5):
                assert await two.received.receive() == reply(10)
        nursery.cancel_scope.cancel()


async def test_a_stream_whose_messages_wait_is_retired_too() -> None:
    """A node that is behind holds streams that wait to deliver: those must not pile up either."""
    waiting: list[WireMessage] = []

    async def deliver(message: WireMessage) -> None:
        waiting.append(message)
        try:
            await trio.sleep_forever()
        finally:
            waiting.remove(message)

    port = await free_port()
    two = End(2, port, {1: await free_port()}, deliver=deliver)
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        await nursery.start(two.network.run)
        for number in range(5):
            stream = await stack.enter_async_context(await dial(port))
            await stream.send_all(HELLO + encode(reply(number)))
            with trio.fail_after(5):
                while waiting != [reply(number)]:
                    await trio.sleep(0.005)
        nursery.cancel_scope.cancel()


async def test_both_ends_of_a_stream_are_watched_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[trio.SocketStream] = []
    original = trio.SocketStream.__init__

    def remember(stream: trio.SocketStream, sock: trio.socket.SocketType) -> None:
        original(stream, sock)
        streams.append(stream)

    monkeypatch.setattr(trio.SocketStream, "__init__", remember)
    async with pair() as (one, two):
        await one.send_when_up(reply(1))
        await two.send_when_up(reply(1, 2, 1))
        with trio.fail_after(5):
            await two.received.receive()
            await one.received.receive()
        assert len(streams) == 4
        for stream in streams:
            for level, name, value in WATCHES:
                if hasattr(socket, name):
                    assert stream.getsockopt(level, getattr(socket, name)) == value, name
            assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


if sys.platform == "linux":  # elsewhere a socket cannot be made deaf, nor the kernel told to notice it

    def swallow_everything(stream: trio.SocketStream) -> None:
        """From now on no packet reaches this socket, so none is acknowledged: as on a link that drops all."""
        so_attach_filter, drop_all = 26, struct.pack("HBBI", 0x06, 0, 0, 0)  # <asm/socket.h>; BPF_RET of 0 bytes
        program = ctypes.create_string_buffer(drop_all)
        stream.setsockopt(socket.SOL_SOCKET, so_attach_filter, struct.pack("HP", 1, ctypes.addressof(program)))

    async def test_a_link_that_swallows_everything_is_given_up_in_seconds_busy_or_idle() -> None:
        """The time is the kernel's, so it is real; both links are watched at once."""
        async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
            listeners = [
                await stack.enter_async_context((await trio.open_tcp_listeners(0, host="127.0.0.1"))[0])
                for _ in range(2)
            ]
            busy_port, idle_port = (int(listener.socket.getsockname()[1]) for listener in listeners)
            one = End(1, await free_port(), {2: busy_port, 3: idle_port})
            await nursery.start(one.network.run)
            for listener in listeners:
                stream = await stack.enter_async_context(await listener.accept())
                await stream.receive_some()  # the Hello
                swallow_everything(stream)
            with trio.fail_after(6):
                while set(one.lost) != {2, 3}:
                    if 2 not in one.lost:
                        one.network.send(reply(1))  # heartbeats, far from filling a buffer
                    await trio.sleep(0.05)
            nursery.cancel_scope.cancel()


async def test_a_socket_that_takes_no_options_does_not_end_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(22, "Invalid argument")  # what some systems say of a connection that was reset

    monkeypatch.setattr(trio.SocketStream, "setsockopt", refuse)
    async with pair() as (one, two):
        await one.send_when_up(reply(1))
        with trio.fail_after(5):
            assert await two.received.receive() == reply(1)


async def test_a_name_is_looked_up() -> None:
    port = await free_port()
    two = End(2, port, {1: await free_port()})
    one = End(1, await free_port(), {2: port}, host="localhost")
    async with trio.open_nursery() as nursery:
        await nursery.start(one.network.run)
        await nursery.start(two.network.run)
        await one.send_when_up(reply(1))
        with trio.fail_after(5):
            assert await two.received.receive() == reply(1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("error", [socket.gaierror(-2, "not known"), UnicodeError("label too long")])
async def test_a_name_that_is_not_found_is_asked_for_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    one, asked = End(1, await free_port(), {2: 1}, host="two.invalid"), []
    resolve = socket.getaddrinfo

    def not_found(host: Any, *arguments: Any, **options: Any) -> Any:
        if host != "two.invalid":
            return resolve(host, *arguments, **options)
        asked.append(host)
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", not_found)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.network.run)
        with trio.fail_after(5):
            while len(asked) < 3:
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()


async def test_a_resolver_that_hangs_costs_one_thread_of_its_own_per_link(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    one = End(1, 0, {2: 1, 3: 1}, host="peer.invalid")
    hanging, asked, answer, resolve = [], threading.Semaphore(0), threading.Event(), socket.getaddrinfo
    returned = []

    def hang(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
        if flags or "peer.invalid" not in str(host):  # numeric: never hangs
            return resolve(host, port, family, type, proto, flags)
        hanging.append(host)
        asked.release()
        returned.append(answer.wait(10))
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(one.network.run)
            for _ in range(2):
                assert await trio.to_thread.run_sync(asked.acquire, True, 5)
            await trio.sleep(600)
            assert len(hanging) == 2
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            nursery.cancel_scope.cancel()
        assert returned == []  # the end of a node does not wait for the resolver
    finally:
        answer.set()


@pytest.mark.parametrize("kind", [BadFrame, trio.BrokenResourceError, trio.ClosedResourceError, RuntimeError])
async def test_what_deliver_raises_ends_the_node(kind: type[Exception]) -> None:
    async def deliver(message: WireMessage) -> None:
        raise kind("the consumer's own")

    port = await free_port()
    two = End(2, port, {1: await free_port()}, deliver=deliver)
    with trio.fail_after(5), pytest.RaisesGroup(kind, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(two.network.run)
            async with await dial(port) as stream:
                await stream.send_all(HELLO + encode(reply(1)))
                await trio.sleep_forever()


async def test_what_a_peer_puts_on_a_stream_ends_the_stream_alone() -> None:
    port = await free_port()
    two = End(2, port, {1: await free_port()})
    async with trio.open_nursery() as nursery:
        await nursery.start(two.network.run)
        for bad in (HELLO, encode(reply(1, source=3)), b"\0\0\0\1" + bytes(5), bytes(100)):
            async with await dial(port) as stream:
                await stream.send_all(HELLO + encode(reply(1)))
                with trio.fail_after(5):
                    assert await two.received.receive() == reply(1)
                await stream.send_all(bad)
                assert await ended(stream)
        nursery.cancel_scope.cancel()
