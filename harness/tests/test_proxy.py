"""A link over memory streams: what passes, what is held, what a heal does, and what bounds it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MemoryReceiveStream, MemorySendStream

from harness import proxy
from harness.proxy import Direction, Link

MORE_THAN_THE_KERNEL_KEEPS = 64 * 1024 * 1024
"""Bytes; the buffers of two loopback connections hold some megabytes."""

End = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


class MemoryLink(Link):
    """Dials memory streams instead of sockets; ``far_ends`` are the target's sides of its connections."""

    def __init__(self) -> None:
        super().__init__("memory", ("nowhere", 0))
        self.far_ends: list[End] = []

    async def dial(self) -> trio.abc.HalfCloseableStream:
        near, far = trio.testing.memory_stream_pair()
        self.far_ends.append(far)
        return near


@asynccontextmanager
async def connection(link: MemoryLink) -> AsyncIterator[End]:
    """The dialling side of one connection through the link."""
    mine, accepted = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.carry, accepted)
        await trio.testing.wait_all_tasks_blocked()
        yield mine
        nursery.cancel_scope.cancel()


async def arrived(stream: End) -> bytes:
    """What has reached this end by now."""
    received = bytearray()

    async def receive() -> None:
        received.extend(await stream.receive_some(1_000_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return bytes(received)


async def ended(stream: End) -> bool:
    """Whether the other side of this end is closed."""
    try:
        return await stream.receive_some(1) == b""
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return True


async def test_carries_both_directions_and_counts() -> None:
    link = MemoryLink()
    async with connection(link) as near:
        (far,) = link.far_ends
        await near.send_all(b"ping")
        assert await arrived(far) == b"ping"
        await far.send_all(b"pong!")
        assert await arrived(near) == b"pong!"
        statistics = link.statistics()
        assert (statistics.forward_bytes, statistics.backward_bytes, statistics.connections_open) == (4, 5, 1)
    assert link.statistics().connections_open == 0


async def test_half_close_passes_and_the_other_direction_goes_on() -> None:
    link = MemoryLink()
    async with connection(link) as near:
        (far,) = link.far_ends
        await near.send_all(b"last words")
        await near.send_eof()
        assert await arrived(far) == b"last words"
        assert await far.receive_some(1) == b""
        await far.send_all(b"still here")
        assert await arrived(near) == b"still here"


async def test_a_cut_holds_bytes_and_a_heal_without_reset_delivers_them() -> None:
    link = MemoryLink()
    async with connection(link) as near:
        (far,) = link.far_ends
        link.close("fault")
        await near.send_all(b"held")
        assert await arrived(far) == b""
        link.release("fault", reset=False)
        assert await arrived(far) == b"held"
        assert link.statistics().chunks_held == 1


async def test_a_heal_with_reset_ends_connections_and_lets_new_ones_through() -> None:
    link = MemoryLink()
    async with connection(link) as near:
        (far,) = link.far_ends
        link.close("fault")
        await near.send_all(b"lost")
        await trio.testing.wait_all_tasks_blocked()
        link.release("fault", reset=True)
        await trio.testing.wait_all_tasks_blocked()
        assert await ended(near)
        assert await ended(far)
        assert link.statistics().connections_reset == 1
    async with connection(link) as near:
        await near.send_all(b"again")
        assert await arrived(link.far_ends[-1]) == b"again"


async def test_a_one_way_cut_lets_the_other_direction_through() -> None:
    link = MemoryLink()
    async with connection(link) as near:
        (far,) = link.far_ends
        link.close("fault", (Direction.BACKWARD,))
        await near.send_all(b"request")
        assert await arrived(far) == b"request"
        await far.send_all(b"reply")
        assert await arrived(near) == b""
        link.release("fault", reset=False)
        assert await arrived(near) == b"reply"


@pytest.mark.parametrize("direction", list(Direction))
async def test_no_connection_opens_across_a_cut(direction: Direction) -> None:
    link = MemoryLink()
    link.close("fault", (direction,))
    async with connection(link) as near:
        await near.send_all(b"hello")
        assert link.far_ends == []
        link.release("fault", reset=False)
        await trio.testing.wait_all_tasks_blocked()
        assert await arrived(link.far_ends[0]) == b"hello"


async def test_a_valve_opens_when_the_last_holder_lets_go() -> None:
    link = MemoryLink()
    async with connection(link) as near:
        (far,) = link.far_ends
        link.close("one")
        link.close("other")
        await near.send_all(b"x")
        link.release("one", reset=False)
        assert await arrived(far) == b""
        link.release("other", reset=False)
        assert await arrived(far) == b"x"


async def test_an_unreachable_target_is_a_reset() -> None:
    class Unreachable(MemoryLink):
        async def dial(self) -> trio.abc.HalfCloseableStream:
            raise ConnectionRefusedError

    link = Unreachable()
    async with connection(link) as near:
        assert await ended(near)
    assert link.statistics().connections_reset == 1


async def test_connections_beyond_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MAX_CONNECTIONS", 1)
    link = MemoryLink()
    async with connection(link), connection(link) as second:
        assert await ended(second)
        assert link.statistics().connections_refused == 1
        assert link.statistics().connections_open == 1


async def test_a_delay_holds_each_chunk(autojump_clock: trio.testing.MockClock) -> None:
    link = MemoryLink()
    link.delay_s = 2.0
    async with connection(link) as near:
        (far,) = link.far_ends
        began = trio.current_time()
        await near.send_all(b"slow")
        assert await far.receive_some(10) == b"slow"
        assert trio.current_time() - began == pytest.approx(2.0)


async def test_over_sockets_a_cut_pushes_back_on_the_sender_and_a_reset_is_seen_as_one() -> None:
    received = bytearray()
    first_bytes = trio.Event()

    async def swallow(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async for chunk in stream:
                received.extend(chunk)
                first_bytes.set()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, swallow, 0)
        link = Link("sockets", ("127.0.0.1", listeners[0].socket.getsockname()[1]))
        address = await link.open()
        nursery.start_soon(link.serve)
        async with await trio.open_tcp_stream(*address) as client:
            await client.send_all(b"before")
            await first_bytes.wait()
            link.close("fault")
            with trio.move_on_after(0.5) as patience:
                await client.send_all(bytes(MORE_THAN_THE_KERNEL_KEEPS))
            assert patience.cancelled_caught  # the kernel's buffers filled, and then the sender had to wait
            assert received == b"before"
            link.release("fault", reset=True)
            with pytest.raises(trio.BrokenResourceError):
                await client.send_all(bytes(MORE_THAN_THE_KERNEL_KEEPS))
        nursery.cancel_scope.cancel()
