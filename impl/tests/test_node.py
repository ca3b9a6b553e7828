"""The node in virtual time: requests through leaders and followers, changes of leader, restarts, the three outcomes."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from impl.chat.commands import (
    CreateUser,
    Posted,
    Rejected,
    Send,
)
from impl.chat.service import NotDone, OutcomeUnknown
from impl.node.requests import MAX_OPEN_REQUESTS
from impl.storage.errors import StorageFailed
from impl.tests.memory_cluster import MemoryCluster, ask, virtually
from impl.tests.scenarios import make_chat, texts


@pytest.mark.parametrize("count", [1, 2, 3, 5])
async def test_any_node_serves_writes_and_linearizable_reads(
    count: int, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with MemoryCluster(tmp_path, count, seed=count).running() as cluster:
        user, chat = await make_chat(await cluster.leader())
        for number in range(20):
            writer = cluster.nodes[1 + number % count]
            reader = cluster.nodes[1 + (number + 1) % count]
            posted = await ask(writer, Send(user, chat, f"t{number}", f"message {number}"))
            assert isinstance(posted, Posted)
            assert posted.seq == number + 2
            assert (await texts(reader, user, chat))[-1] == f"message {number}"


async def test_a_retry_through_another_node_gets_the_first_answer(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with MemoryCluster(tmp_path, 3, seed=1).running() as cluster:
        user, chat = await make_chat(await cluster.leader())
        replies = [await ask(node, Send(user, chat, "once", "hello")) for node in cluster.nodes.values()]
        assert len(set(replies)) == 1
        assert await texts(cluster.nodes[1], user, chat) == ["hello"]


async def test_a_rejection_is_a_reply(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with MemoryCluster(tmp_path, 3, seed=1).running() as cluster:
        user, _ = await make_chat(await cluster.leader())
        assert await ask(cluster.nodes[2], Send(user, 12345, "t", "x")) == Rejected("unknown-chat", 0)


@pytest.mark.parametrize("seed", range(5))
async def test_a_follower_carries_a_write_across_the_death_of_the_leader(
    seed: int, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with MemoryCluster(tmp_path, 3, seed=seed).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        await cluster.stop(leader.config.node_id)
        survivor = next(iter(cluster.nodes.values()))
        started = trio.current_time()
        assert isinstance(await ask(survivor, Send(user, chat, "t", "still here")), Posted)
        assert trio.current_time() - started < 2.0
        assert await texts(survivor, user, chat) == ["still here"]


@pytest.mark.parametrize("seed", range(3))
async def test_everything_acknowledged_survives_the_end_of_all_nodes(
    seed: int, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with MemoryCluster(tmp_path, 3, seed=seed).running() as cluster:
        user, chat = await make_chat(await cluster.leader())
        for number in range(30):
            await ask(cluster.nodes[1 + number % 3], Send(user, chat, f"t{number}", str(number)))
        for node_id in (1, 2, 3):
            await cluster.crash(node_id)
        for node_id in (1, 2, 3):
            await cluster.start(node_id)
        await cluster.leader()
        for node in cluster.nodes.values():
            assert await texts(node, user, chat) == [str(number) for number in range(30)]


async def test_an_isolated_leader_neither_reads_nor_writes_and_steps_down(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with MemoryCluster(tmp_path, 3, seed=4).running() as cluster:
        old = await cluster.leader()
        user, chat = await make_chat(old)
        cluster.isolate(old.config.node_id)
        new = await cluster.leader(among={1, 2, 3} - {old.config.node_id})
        await ask(new, Send(user, chat, "new", "written elsewhere"))
        with pytest.raises(NotDone):
            await texts(old, user, chat)
        assert old.status().role != "leader"
        cluster.cuts.clear()
        await trio.sleep(1)
        assert await texts(old, user, chat) == ["written elsewhere"]


async def test_a_write_at_a_leader_that_is_cut_off_is_unknown_and_may_not_be_called_not_done(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with MemoryCluster(tmp_path, 3, seed=5).running() as cluster:
        old = await cluster.leader()
        user, chat = await make_chat(old)
        cluster.isolate(old.config.node_id)
        with pytest.raises(OutcomeUnknown):
            await ask(old, Send(user, chat, "lost?", "perhaps"), timeout_s=1.0)


async def test_without_a_majority_requests_end_as_not_done(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with MemoryCluster(tmp_path, 3, seed=6).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        for node_id in {1, 2, 3} - {leader.config.node_id}:
            await cluster.stop(node_id)
        await trio.sleep(2)
        started = trio.current_time()
        with pytest.raises(NotDone) as caught:
            await ask(leader, Send(user, chat, "t", "x"))
        assert caught.value.reason == "no-leader"
        assert trio.current_time() - started <= 3.0


async def test_no_request_outlives_its_timeout(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with MemoryCluster(tmp_path, 3, seed=7).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        follower = next(node for node_id, node in cluster.nodes.items() if node is not leader)
        cluster.cuts |= {(leader.config.node_id, follower.config.node_id)}  # requests arrive, replies do not
        started = trio.current_time()
        with pytest.raises((OutcomeUnknown, NotDone)):
            await ask(follower, Send(user, chat, "t", "x"), timeout_s=0.2)
        assert trio.current_time() - started <= 0.2 + 1e-6
        assert follower.statistics().open_requests == 0


async def test_too_many_open_requests_are_refused_as_not_done(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with MemoryCluster(tmp_path, 1, seed=8).running() as cluster:
        node = await cluster.leader()
        node._requests._open = MAX_OPEN_REQUESTS
        with pytest.raises(NotDone, match="in progress"):
            await ask(node, CreateUser("t", "ann"))


async def test_a_failed_sync_ends_the_node(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    with pytest.RaisesGroup(StorageFailed, flatten_subgroups=True):
        async with MemoryCluster(tmp_path, 1, seed=9).running() as cluster:
            node = await cluster.leader()
            cluster.disks[1].fail_nth_sync(1)
            await ask(node, CreateUser("t", "ann"))


def test_two_runs_of_a_seed_are_the_same(tmp_path: Path) -> None:
    """Every message, byte by byte and to the instant, and the states that come of them."""

    def run(name: str, seed: int) -> tuple[list[tuple[float, int, bytes]], dict[int, str]]:
        folder = tmp_path / name
        folder.mkdir()
        trace: list[tuple[float, int, bytes]] = []

        async def scene(_: trio.testing.MockClock) -> dict[int, str]:
            cluster = MemoryCluster(folder, 3, seed)
            cluster.observe_send = lambda source, _, frame: trace.append((trio.current_time(), source, frame))
            async with cluster.running():
                user, chat = await make_chat(await cluster.leader())
                async with trio.open_nursery() as nursery:
                    for number in range(30):
                        node = cluster.nodes[1 + number % 3]
                        nursery.start_soon(ask, node, Send(user, chat, f"t{number}", "x"))
                await cluster.crash(1)
                await cluster.start(1)
                await cluster.settled()
                return cluster.digests()

        return trace, virtually(scene, seed)

    first, again, other = run("first", 10), run("again", 10), run("other", 11)
    assert first == again
    assert len(first[0]) > 100
    assert first[0] != other[0]


@pytest.mark.parametrize("seed", range(5))
async def test_a_forwarded_write_survives_the_leader_losing_its_office(
    seed: int, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The leader takes the command into its log, is cut off before it can commit it, and steps down."""
    async with MemoryCluster(tmp_path, 3, seed=seed).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        follower, third = (node for node in cluster.nodes.values() if node is not leader)
        ids = leader.config.node_id, follower.config.node_id, third.config.node_id
        # The forwarded command still reaches the leader, but nothing that the leader says reaches anybody.
        cluster.cuts |= {(ids[0], ids[1]), (ids[0], ids[2]), (ids[2], ids[0])}
        replies = []
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                replies.append(await ask(follower, Send(user, chat, "t", "carried over"), timeout_s=10.0))

            nursery.start_soon(send)
            await trio.sleep(0.2)
            assert leader.status().last_index > follower.status().last_index
            await trio.sleep(3)
            cluster.cuts.clear()
        assert isinstance(replies[0], Posted)
        await trio.sleep(1)
        for node in cluster.nodes.values():
            assert await texts(node, user, chat) == ["carried over"]


async def test_a_node_that_was_away_catches_up_on_more_than_one_frame_may_hold(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with MemoryCluster(tmp_path, 3, seed=11).running() as cluster:
        user, chat = await make_chat(await cluster.leader())
        away = next(node_id for node_id, node in cluster.nodes.items() if node.status().role != "leader")
        await cluster.stop(away)
        text = "x" * 60_000
        for start in range(0, 320, 64):  # about 19 MB; a frame holds 16 MiB
            leader = await cluster.leader()
            async with trio.open_nursery() as nursery:
                for number in range(start, start + 64):
                    nursery.start_soon(ask, leader, Send(user, chat, f"t{number}", text))
        cluster.disk_speeds[away].delay_s = 0.5  # so that batches pile up behind the first
        node = await cluster.start(away)
        await trio.sleep(20)
        assert node.status().applied_index == (await cluster.leader()).status().commit_index
        assert node.status().applied_index > 320
