"""Streams between nodes on loopback: delivery in order, refusal of strangers, loss said out loud, reconnection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest
import trio

from impl.network.tcp import MAX_QUEUED_BYTES, AddressInUse, Identity, TcpNetwork
from impl.network.wire import WIRE_VERSION, Hello, WireMessage, encode
from impl.raft.messages import AppendEntries, AppendEntriesResponse, Entry


async def free_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        return int(listener.socket.getsockname()[1])


def reply(number: int, source: int = 1, target: int = 2) -> AppendEntriesResponse:
    return AppendEntriesResponse(0, source, target, 1, True, number, 0, 0, number)


class End:
    """One side of a pair of nodes, with what it received and lost."""

    def __init__(self, node_id: int, port: int, peers: dict[int, int], cluster: str = "tea") -> None:
        self.sink, self.received = trio.open_memory_channel[WireMessage](1000)
        self.lost: list[int] = []
        self.network = TcpNetwork(
            Identity(cluster, node_id, f"incarnation-{node_id}"),
            ("127.0.0.1", port),
            {peer: ("127.0.0.1", at) for peer, at in peers.items()},
            self.sink.send,
            self.lost.append,
            Random(node_id),
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
        (Hello(WIRE_VERSION, "tea", 7, 2, "x"), "no member"),
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
