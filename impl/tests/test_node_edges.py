"""The node where something does not fit: large pages, odd replies, a foreign database, elections that come late."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
import trio

from impl.chat.commands import CreateUser, Messages, ReadMessages, Send, UserCreated
from impl.chat.service import OutcomeUnknown
from impl.http.limits import PAGE_MAX_ITEMS, TEXT_MAX_CHARACTERS
from impl.network.wire import MAX_FRAME_BYTES, Forward, ForwardReply, WireMessage, encode
from impl.node import Node
from impl.node.forwarding import Forwarding
from impl.node.requests import LEADER_WAIT_S, RETRY_PAUSE_S
from impl.node.slots import Tokens
from impl.tests.memory_cluster import MemoryCluster, ask
from impl.tests.scenarios import make_chat

LONGEST_TEXT = "\U0001f600" * TEXT_MAX_CHARACTERS


async def test_the_largest_page_passes_through_a_follower(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with MemoryCluster(tmp_path, 3, seed=1).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        for number in range(PAGE_MAX_ITEMS):
            await ask(leader, Send(user, chat, f"t{number}", LONGEST_TEXT), timeout_s=30.0)
        follower = next(node for node in cluster.nodes.values() if node is not leader)
        page = await ask(follower, ReadMessages(user, chat, 1, PAGE_MAX_ITEMS), timeout_s=30.0)
        assert isinstance(page, Messages)
        assert len(page.items) == PAGE_MAX_ITEMS


async def test_a_reply_that_fits_no_frame_leaves_the_outcome_unknown() -> None:
    sent: list[WireMessage] = []

    def send(message: WireMessage) -> bool:
        encode(message)
        sent.append(message)
        return True

    async def enormous(body: bytes, deadline: float) -> bytes:
        return bytes(MAX_FRAME_BYTES)

    leader = Forwarding(1, "run", Tokens(), send)
    await leader.serve(Forward(0, 2, 1, "other", 7, 0, b"", 1000), {0: enormous})
    (reply,) = sent
    assert isinstance(reply, ForwardReply)
    assert (reply.request, reply.outcome) == (7, "unknown")


async def test_a_reply_of_another_release_leaves_the_outcome_unknown(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with MemoryCluster(tmp_path, 3, seed=2).running() as cluster:
        leader = await cluster.leader()
        follower = next(node for node in cluster.nodes.values() if node is not leader)
        cluster.cuts |= {(leader.config.node_id, follower.config.node_id)}
        outcome: list[Exception] = []

        async def create() -> None:
            with pytest.raises(OutcomeUnknown) as caught:
                await ask(follower, CreateUser("t", "ann"), timeout_s=0.2)
            outcome.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(create)
            await trio.testing.wait_all_tasks_blocked()
            (token,) = follower._forwarding._asked
            odd = msgspec.msgpack.encode([99, "a reply that this release does not know"])
            ids = leader.config.node_id, follower.config.node_id
            await follower.deliver(ForwardReply(0, *ids, follower.run_id, token, "ok", odd))
        assert "another release" in str(outcome[0])


async def test_a_request_that_waits_for_a_leader_goes_on_as_soon_as_there_is_one(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Elections that fail in between, from no leader in one term to none in the next, must not orphan it."""
    for seed in range(6):
        folder = tmp_path / str(seed)
        folder.mkdir()
        async with MemoryCluster(folder, 3, seed=seed).running() as cluster:
            await cluster.leader()
            for node_id in (2, 3):
                await cluster.stop(node_id)
            await trio.sleep(2)
            waiting = cluster.nodes[1]
            done: list[float] = []

            async def create(waiting: Node = waiting, done: list[float] = done) -> None:
                assert isinstance(await ask(waiting, CreateUser("t", "ann"), timeout_s=10.0), UserCreated)
                done.append(trio.current_time())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(create)
                await cluster.start(2)
                await cluster.leader()
                elected = trio.current_time()
            assert done[0] - elected < LEADER_WAIT_S / 3


async def test_no_attempt_begins_after_the_deadline(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with MemoryCluster(tmp_path, 3, seed=3).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        follower = next(node for node in cluster.nodes.values() if node is not leader)
        cluster.cuts |= {(leader.config.node_id, follower.config.node_id)}
        started = trio.current_time()

        async def lose_the_link() -> None:
            await trio.sleep(0.2 - RETRY_PAUSE_S / 2)
            follower.on_loss(leader.config.node_id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lose_the_link)
            with pytest.raises(OutcomeUnknown):
                await ask(follower, Send(user, chat, "t", "x"), timeout_s=0.2)
            assert trio.current_time() - started <= 0.2
        assert follower.statistics().forwarding.forwarded == 1


async def test_a_database_of_another_log_is_set_aside_and_made_anew(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    async with MemoryCluster(tmp_path / "other", 1, seed=4).running() as other:
        await ask(await other.leader(), CreateUser("t", "mallory"))
        await other.stop(1)
        await other.start(1)  # a second term
        await ask(await other.leader(), CreateUser("u", "eve"))
        await other.stop(1)
    async with MemoryCluster(tmp_path / "one", 1, seed=5).running() as one:
        node = await one.leader()
        for number in range(10):
            await ask(node, CreateUser(f"t{number}", f"user-{number}"))
        before = one.digests()
        await one.stop(1)
        shutil.copy(tmp_path / "other" / "node-1.db", tmp_path / "one" / "node-1.db")
        await one.start(1)
        await one.leader()
        await one.settled()
        assert (tmp_path / "one" / "node-1.db.set-aside").exists()
        assert isinstance(await ask(one.nodes[1], CreateUser("t0", "user-0")), UserCreated)
        assert before.keys() == one.digests().keys()


async def test_a_long_replay_is_applied_in_pieces(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with MemoryCluster(tmp_path, 1, seed=6).running() as cluster:
        node = await cluster.leader()
        async with trio.open_nursery() as nursery:
            for number in range(1500):
                nursery.start_soon(ask, node, CreateUser(f"t{number}", f"user-{number}"), 30.0)
        await cluster.stop(1)
        (tmp_path / "node-1.db").unlink()
        node = await cluster.start(1)
        with trio.fail_after(10):
            while node.status().applied_index < 1501:
                await trio.sleep(0.05)
        assert node._applying.machine.statistics().batches >= 3
