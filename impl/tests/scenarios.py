"""Scripts that lead a cluster into one corner each; ``mutants.py`` names the bug that each must see.

A scenario gets a folder, the class of the nodes and the clock, and fails with ``AssertionError`` or whatever a node
raises when it ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from impl.chat.commands import ChatCreated, CreateChat, CreateUser, Messages, Posted, ReadMessages, Send, UserCreated
from impl.chat.service import NotDone, OutcomeUnknown
from impl.chat.snapshot_format import decode_header, read_blocks
from impl.node import Node
from impl.node.applying import MAX_APPLY_ENTRIES
from impl.node.driver import MAX_INBOX
from impl.node.requests import MAX_OPEN_REQUESTS
from impl.raft.events import Accepted
from impl.raft.messages import Entry, Member, RequestVoteResponse
from impl.tests.memory_cluster import MemoryCluster, ask, virtually

Scenario = Callable[[Path, type[Node], trio.testing.MockClock], Awaitable[None]]

SCENARIOS: dict[str, Scenario] = {}


def scenario(script: Scenario) -> Scenario:
    SCENARIOS[script.__name__] = script
    return script


def play(name: str, folder: Path, node_class: type[Node] = Node) -> None:
    """Run a scenario in virtual time; it raises what it finds wrong."""
    virtually(lambda clock: SCENARIOS[name](folder, node_class, clock))


async def make_chat(node: Node) -> tuple[int, int]:
    """A user and a chat of his, made through this node."""
    user = await ask(node, CreateUser("t-user", "ann"))
    assert isinstance(user, UserCreated)
    chat = await ask(node, CreateChat(user.user_id, "t-chat", "tea"))
    assert isinstance(chat, ChatCreated)
    return user.user_id, chat.chat_id


async def texts(node: Node, user: int, chat: int, timeout_s: float = 3.0) -> list[str]:
    """All texts of a chat, as this node reads them."""
    reply = await ask(node, ReadMessages(user, chat, after=1, limit=100_000), timeout_s)
    assert isinstance(reply, Messages)
    return [message.text for message in reply.items]


def roles(cluster: MemoryCluster, leader: Node) -> tuple[int, list[int]]:
    """The leader's id, and those of the others."""
    leader_id = leader.config.node_id
    return leader_id, [node_id for node_id in cluster.nodes if node_id != leader_id]


@scenario
async def power_cut_of_all(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """Everything acknowledged survives it, whatever the disks lose of what was not synced.

    Only the last frame of a log is ever at risk, because an append syncs the one before: so there are many power cuts.
    """
    for count, rounds in ((1, 12), (3, 6)):
        (folder / str(count)).mkdir()
        async with MemoryCluster(folder / str(count), count, 1, node_class).running() as cluster:
            user, chat = await make_chat(await cluster.leader())
            sent = []
            for round_number in range(rounds):
                for node_id in cluster.nodes:
                    sent.append(f"{round_number}-{node_id}")
                    await ask(cluster.nodes[node_id], Send(user, chat, sent[-1], sent[-1]))
                for node_id in list(cluster.nodes):
                    await cluster.crash(node_id)
                for node_id in range(1, count + 1):
                    await cluster.start(node_id)
                await cluster.leader()
                for node in cluster.nodes.values():
                    assert await texts(node, user, chat) == sent
            assert len(set(cluster.digests().values())) == 1


@scenario
async def group_commit(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """While a follower's disk writes, entries pile up behind it, and a new leader replaces some of them.

    The group that is written then holds two entries for one index, and a new term before entries of that term.
    """
    async with MemoryCluster(folder, 5, 2, node_class).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        leader_id, (slow_id, *rest) = roles(cluster, leader)
        await cluster.settled()
        cluster.part({leader_id, slow_id})
        cluster.disk_speeds[slow_id].delay_s = 4.0
        for number in range(3):
            with pytest.raises(OutcomeUnknown):
                await ask(leader, Send(user, chat, f"gone-{number}", f"gone {number}"), timeout_s=0.03)
        assert cluster.nodes[slow_id].status().last_index == leader.status().last_index
        cluster.cuts.clear()
        cluster.isolate(leader_id)
        new = await cluster.leader(among=set(rest))
        term = new.status().term
        assert isinstance(await ask(new, Send(user, chat, "t", "kept")), Posted)
        cluster.disk_speeds[slow_id].delay_s = 0.001
        await trio.sleep(4.0)
        assert (await cluster.leader(among=set(rest))).status().term == term
        cluster.cuts.clear()
        await cluster.settled()
        assert len(set(cluster.digests().values())) == 1
        await cluster.crash(slow_id)
        assert (await cluster.start(slow_id)).status().term >= term
        assert await texts(cluster.nodes[slow_id], user, chat) == ["kept"]


@scenario
async def reply_of_another_entry(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """Whoever waits for an entry of one term is not given the reply to an entry of another."""
    async with MemoryCluster(folder, 1, 3, node_class).running() as cluster:
        node = await cluster.leader()
        writes = node._writes
        for term, outcome in ((4, NotDone), (5, UserCreated)):
            with writes._slots.open() as slot:
                writes.accepted(Accepted(slot.token, 99, 5))
                writes.applied([Entry(99, term, b"payload")], [UserCreated(1, 1)])
                if outcome is NotDone:
                    with pytest.raises(NotDone):
                        await slot.wait()
                else:
                    assert await slot.wait() == UserCreated(1, 1)


@scenario
async def read_during_replay(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A node that has to apply a long log again answers from its end, not from where it is."""
    async with MemoryCluster(folder, 1, 4, node_class).running() as cluster:
        node = await cluster.leader()
        user, chat = await make_chat(node)
        count = 2 * MAX_APPLY_ENTRIES + 100
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(ask, node, Send(user, chat, f"t{number}", "x"), 30.0)
        await cluster.stop(1)
        (folder / "node-1.db").unlink()
        cluster.disk_speeds[1].delay_s = 0.05  # so that the query comes while entries are still being applied
        node = await cluster.start(1)
        assert len(await texts(node, user, chat, timeout_s=10.0)) == count


@scenario
async def deaf_leader(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """What it says is heard, what it is told is not: its writes are carried out, and it cannot know."""
    for timeout_s in (0.1, 1.0):  # before and after it gives up its office
        (folder / str(timeout_s)).mkdir()
        async with MemoryCluster(folder / str(timeout_s), 3, 5, node_class).running() as cluster:
            leader = await cluster.leader()
            user, chat = await make_chat(leader)
            leader_id, others = roles(cluster, leader)
            cluster.cuts |= {(other, leader_id) for other in others}
            with pytest.raises(NotDone):
                await texts(leader, user, chat, timeout_s=0.1)
            with pytest.raises(OutcomeUnknown):
                await ask(leader, Send(user, chat, "t", "done all the same"), timeout_s)
            cluster.cuts.clear()
            await cluster.settled()
            assert await texts(leader, user, chat) == ["done all the same"]


@scenario
async def hung_disk(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A leader whose disk hangs gives up its office, and the write that waits for it goes to the next leader."""
    async with MemoryCluster(folder, 3, 6, node_class).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        await cluster.settled()
        cluster.disk_speeds[leader.config.node_id].delay_s = 60.0
        started = trio.current_time()
        assert isinstance(await ask(leader, Send(user, chat, "t", "carried over"), timeout_s=30.0), Posted)
        assert trio.current_time() - started < 10.0


@scenario
async def leader_falls_silent(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A forwarded write to a leader that vanishes without a trace goes to the next one as soon as there is one."""
    async with MemoryCluster(folder, 3, 7, node_class).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        leader_id, (follower_id, _) = roles(cluster, leader)
        cluster.isolate(leader_id)
        started = trio.current_time()
        reply = await ask(cluster.nodes[follower_id], Send(user, chat, "t", "carried over"), timeout_s=30.0)
        assert isinstance(reply, Posted)
        assert trio.current_time() - started < 5.0


@scenario
async def link_lost(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A reply is lost with its link: the follower asks again at once and gets the same answer."""
    async with MemoryCluster(folder, 3, 8, node_class).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        leader_id, (follower_id, _) = roles(cluster, leader)
        replies = []

        async def send() -> None:
            replies.append(await ask(cluster.nodes[follower_id], Send(user, chat, "t", "once"), timeout_s=30.0))

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            cluster.cuts |= {(leader_id, follower_id)}
            nursery.start_soon(send)
            await trio.sleep(0.05)
            cluster.cuts.clear()
            cluster.nodes[follower_id].on_loss(leader_id)
        assert trio.current_time() - started < 1.0
        assert isinstance(replies[0], Posted)
        assert await texts(leader, user, chat) == ["once"]


@scenario
async def leader_answers_too_late(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A forwarded write whose answer does not come in time may have been carried out."""
    async with MemoryCluster(folder, 3, 9, node_class).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        leader_id, (follower_id, _) = roles(cluster, leader)
        cluster.links[leader_id, follower_id].extra_s = 0.15
        with pytest.raises(OutcomeUnknown):
            await ask(cluster.nodes[follower_id], Send(user, chat, "t", "done all the same"), timeout_s=0.1)
        assert await texts(leader, user, chat) == ["done all the same"]


@scenario
async def pause_before_the_proposal(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """The machine pauses between the arrival of a write and its proposal, until the write's time is up.

    Then the write may be withdrawn, and is not done, or proposed all the same, and is unknown: which of the two comes
    first is trio's choice. What was called not done must stay so.
    """
    async with MemoryCluster(folder, 3, 10, node_class).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        cluster.observe_stamp = lambda _: clock.jump(0.06)
        not_done = set()
        for number in range(20):
            try:
                await ask(leader, Send(user, chat, f"t{number}", f"text {number}"), timeout_s=0.05)
            except NotDone:
                not_done.add(f"text {number}")
            except OutcomeUnknown:
                pass
            await trio.sleep(0.05)
        cluster.observe_stamp = None
        await cluster.settled()
        assert not_done
        assert not_done.isdisjoint(await texts(await cluster.leader(), user, chat))


@scenario
async def forward_in_a_minority(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A leader takes a follower's write into its log, cut off together with him, and gives up its office."""
    async with MemoryCluster(folder, 5, 11, node_class).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        leader_id, (follower_id, *_) = roles(cluster, leader)
        cluster.part({leader_id, follower_id})
        with pytest.raises(OutcomeUnknown):
            await ask(cluster.nodes[follower_id], Send(user, chat, "t", "perhaps"), timeout_s=3.0)
        assert leader.status().role != "leader"


@scenario
async def reply_to_an_earlier_life(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A follower forwards a write, loses its power and comes back: the reply that then arrives is to nobody."""
    async with MemoryCluster(folder, 3, 12, node_class).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        leader_id, (follower_id, _) = roles(cluster, leader)
        await cluster.settled()
        cluster.disk_speeds[leader_id].delay_s = 0.4
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(OutcomeUnknown):
                    await cluster.request(follower_id, Send(user, chat, "earlier", "earlier"), 5.0)

            nursery.start_soon(send)
            await trio.sleep(0.1)
            await cluster.crash(follower_id)
            follower = await cluster.start(follower_id)
            reply = await ask(follower, Send(user, chat, "later", "later"), timeout_s=5.0)
        assert isinstance(reply, Posted)
        assert (await texts(follower, user, chat))[reply.seq - 2] == "later"


@scenario
async def flood(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A peer that says more than a node can take is held up."""
    async with MemoryCluster(folder, 3, 13, node_class).running() as cluster:
        leader_id, (follower_id, _) = roles(cluster, await cluster.leader())
        follower = cluster.nodes[follower_id]
        stale = RequestVoteResponse(0, leader_id, follower_id, 0, 0, False)
        for _ in range(MAX_INBOX + 200):
            await follower.deliver(stale)
            assert follower.statistics().driver.inbox <= MAX_INBOX
        user, chat = await make_chat(follower)
        assert await texts(follower, user, chat) == []


@scenario
async def pause_of_the_machine(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """Time that has passed while nobody could run is nobody's fault: the leader stays."""
    async with MemoryCluster(folder, 3, 14, node_class).running() as cluster:
        leader = await cluster.leader()
        await cluster.settled()
        term = leader.status().term
        for pause_s in (0.5, 2.0, 60.0):
            clock.jump(pause_s)
            await trio.sleep(1.0)
            assert (leader.status().role, leader.status().term) == ("leader", term)
        assert {node.status().leader_id for node in cluster.nodes.values()} == {leader.config.node_id}


@scenario
async def too_many_requests(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """Beyond its bound a node refuses at once, and serves again when requests have ended."""
    async with MemoryCluster(folder, 1, 15, node_class).running() as cluster:
        node = await cluster.leader()
        user, chat = await make_chat(node)
        cluster.disk_speeds[1].delay_s = 1.0
        refused = []
        most = 0

        async def send(number: int) -> None:
            nonlocal most
            most = max(most, node.statistics().open_requests)
            try:
                await ask(node, Send(user, chat, f"t{number}", "x"), timeout_s=0.5)
            except NotDone as error:
                refused.append(error.reason)
            except OutcomeUnknown:
                pass

        async with trio.open_nursery() as nursery:
            for number in range(MAX_OPEN_REQUESTS + 10):
                nursery.start_soon(send, number)
        assert refused.count("overloaded") == 10
        assert most == MAX_OPEN_REQUESTS
        assert node.statistics().open_requests == 0


# --- snapshots, the group, the disk ----------------------------------------------------------------------------------

OFTEN: dict[str, Any] = {"snapshot_entries": 40, "keep_entries": 5}
"""Settings under which a node takes snapshots all the time, and keeps next to nothing of its log."""


async def send_many(node: Node, user: int, chat: int, prefix: str, count: int) -> None:
    for number in range(count):
        assert isinstance(await ask(node, Send(user, chat, f"{prefix}{number}", f"{prefix}{number}")), Posted)


async def add(cluster: MemoryCluster, node_id: int, *, voter: bool = True) -> Node:
    """Start a node and add it to the group, as an operator would."""
    cluster.format(node_id)
    node = await cluster.start(node_id)
    leader = await cluster.leader()
    await change(cluster, lambda members: {**members, node_id: cluster.member(node_id)}, lambda voters: voters)
    if voter:
        with trio.fail_after(20):
            while (await leader.cluster(timeout_s=2.0)).members[-1].behind > 5:
                await trio.sleep(0.05)
        await change(cluster, lambda members: members, lambda voters: voters | {node_id})
    return node


async def change(
    cluster: MemoryCluster,
    members: Callable[[dict[int, Member]], dict[int, Member]],
    voters: Callable[[set[int]], set[int]],
    through: Node | None = None,
) -> int:
    """Change the group, asking any node."""
    node = through or await cluster.leader()
    view = await node.cluster(timeout_s=3.0)
    was = {one.node_id: Member(one.node_id, one.incarnation, one.peer, one.url) for one in view.members}
    voted = {one.node_id for one in view.members if one.role == "voter"}
    wanted = members(was)
    return await node.reconfigure(
        view.configuration_index,
        tuple(wanted[node_id] for node_id in sorted(wanted)),
        tuple(sorted(voters(voted))),
        timeout_s=5.0,
    )


def without(gone: int, members: dict[int, Member]) -> dict[int, Member]:
    return {node_id: member for node_id, member in members.items() if node_id != gone}


def others(gone: int, voters: set[int]) -> set[int]:
    return voters - {gone}


@scenario
async def snapshots_shorten_the_log(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """Under load, snapshots are taken, logs get short, nothing is lost; also not through a power cut of all."""
    async with MemoryCluster(folder, 3, 20, node_class, **OFTEN).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        await send_many(leader, user, chat, "a", 200)
        await cluster.settled()
        for node in cluster.nodes.values():
            statistics = node.statistics()
            assert statistics.snapshots.taken >= 3
            assert statistics.raft.first_index > 150
        for _ in range(4):
            for node_id in list(cluster.nodes):
                await cluster.crash(node_id)
            for node_id in (1, 2, 3):
                await cluster.start(node_id)
            await cluster.leader()
        for node in cluster.nodes.values():
            assert await texts(node, user, chat) == [f"a{number}" for number in range(200)]
        assert len(set(cluster.digests().values())) == 1


@scenario
async def a_snapshot_is_of_its_moment(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """It says where it ends, and holds exactly what was applied up to there, also while entries wait to be applied."""
    async with MemoryCluster(folder, 1, 29, node_class, **OFTEN).running() as cluster:
        node = await cluster.leader()
        user, chat = await make_chat(node)
        cluster.disk_speeds[1].delay_s = 0.02
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(ask, node, Send(user, chat, f"t{number}", f"t{number}"), 30.0)
                await trio.sleep(0.003)
        store = node._snapshotting
        newest = store.newest
        assert newest is not None
        header = decode_header(next(iter(read_blocks(store._store.open(newest.base)))))
        assert (header.applied_index, header.applied_term) == (newest.base.index, newest.base.term)


@scenario
async def state_behind_the_log(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A node whose chat.db is gone, and whose log is short, makes the state anew from its newest snapshot."""
    async with MemoryCluster(folder, 1, 21, node_class, **OFTEN).running() as cluster:
        node = await cluster.leader()
        user, chat = await make_chat(node)
        await send_many(node, user, chat, "a", 100)
        assert node.statistics().raft.first_index > 50
        await cluster.stop(1)
        for file in folder.glob("node-1.db*"):
            file.unlink()
        await cluster.start(1)
        node = await cluster.leader()
        assert await texts(node, user, chat) == [f"a{number}" for number in range(100)]


@scenario
async def a_node_that_was_away_gets_a_snapshot(
    folder: Path, node_class: type[Node], clock: trio.testing.MockClock
) -> None:
    """The log in front of it is gone: it is served a snapshot, goes on from it, and keeps it through a power cut."""
    async with MemoryCluster(folder, 3, 22, node_class, **OFTEN).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        _, (away, _) = roles(cluster, leader)
        await cluster.settled()
        await cluster.stop(away)
        await send_many(leader, user, chat, "a", 200)
        node = await cluster.start(away)
        await cluster.settled()
        assert node.statistics().applying.restored == 1
        assert len(set(cluster.digests().values())) == 1
        await cluster.crash(away)
        await cluster.start(away)
        await cluster.settled()
        assert len(set(cluster.digests().values())) == 1
        assert await texts(cluster.nodes[away], user, chat) == [f"a{number}" for number in range(200)]


@scenario
async def three_to_five_to_three(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A group grows by two that know nobody, and shrinks by two that founded it; all of it while clients write."""
    async with MemoryCluster(folder, 3, 23, node_class, **OFTEN).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        await send_many(leader, user, chat, "a", 100)
        assert (await add(cluster, 4)).status().membership == "voter"
        await send_many(await cluster.leader(), user, chat, "b", 50)
        assert (await add(cluster, 5)).status().membership == "voter"
        for gone in (1, 2):
            await change(
                cluster,
                partial(without, gone),
                partial(others, gone),
                cluster.nodes[5],
            )
            with trio.fail_after(5):
                while cluster.nodes[gone].status().membership != "removed":
                    await trio.sleep(0.02)
            await cluster.stop(gone)
        await send_many(cluster.nodes[4], user, chat, "c", 50)
        await cluster.settled()
        assert await texts(cluster.nodes[5], user, chat) == [
            *(f"a{number}" for number in range(100)),
            *(f"b{number}" for number in range(50)),
            *(f"c{number}" for number in range(50)),
        ]
        assert len(set(cluster.digests().values())) == 1
        # Where 3, a founder, is reached, its own streams tell the others.
        assert {node_id: cluster.peers[node_id] for node_id in (3, 4, 5)} == {3: {4, 5}, 4: {5}, 5: {4}}


@scenario
async def wiped_node(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A node that lost its disk is not counted under its old name; removed and added again it is a member once more."""
    async with MemoryCluster(folder, 3, 24, node_class).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        _, (wiped, other) = roles(cluster, leader)
        await cluster.stop(wiped)
        cluster.wipe(wiped)
        cluster.count, founders = 0, cluster.count  # formatted as one that joins
        cluster.format(wiped)
        cluster.count = founders
        node = await cluster.start(wiped)
        await trio.sleep(2.0)
        assert node.status().membership in ("waiting", "removed")
        await cluster.stop(other)
        with pytest.raises((NotDone, OutcomeUnknown)):  # the leader and a node without a memory are no majority
            await ask(leader, Send(user, chat, "t", "not yet"), timeout_s=1.5)
        await cluster.start(other)
        await cluster.leader()
        await change(
            cluster,
            lambda members: {key: value for key, value in members.items() if key != wiped},
            lambda voters: voters - {wiped},
        )
        await change(cluster, lambda members: {**members, wiped: cluster.member(wiped)}, lambda voters: voters)
        await trio.sleep(1.0)
        await change(cluster, lambda members: members, lambda voters: voters | {wiped})
        await cluster.settled()
        assert node.status().membership == "voter"
        assert len(set(cluster.digests().values())) == 1


@scenario
async def leadership_is_handed_over(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """Asked of any node; and at an orderly end the next leader is there before the old one is gone."""
    async with MemoryCluster(folder, 3, 25, node_class).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        await cluster.settled()
        _, (first, second) = roles(cluster, leader)
        await cluster.nodes[second].transfer(first, timeout_s=3.0)
        with trio.fail_after(1):
            while cluster.nodes[first].status().role != "leader":
                await trio.sleep(0.01)
        await cluster.settled()
        started = trio.current_time()
        await cluster.nodes[first].hand_over(2.0)
        assert trio.current_time() - started < 0.5
        assert cluster.nodes[first].status().leader_id not in (0, first)
        await send_many(cluster.nodes[first], user, chat, "a", 3)


@scenario
async def follower_reads(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A follower answers from its own state, up to date; cut off it answers only who wants no more than it has."""
    async with MemoryCluster(folder, 3, 26, node_class).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        _, (follower_id, _) = roles(cluster, leader)
        follower = cluster.nodes[follower_id]
        for number in range(20):
            await ask(leader, Send(user, chat, f"t{number}", f"t{number}"))
            assert (await texts(follower, user, chat))[-1] == f"t{number}"
        assert follower.statistics().applying.queries >= 20
        await cluster.settled()
        cluster.isolate(follower_id)
        await ask(leader, Send(user, chat, "late", "late"))
        query = ReadMessages(user, chat, after=1, limit=1000)
        for consistency in ("linearizable", "lease"):
            with pytest.raises(NotDone):
                await follower.execute(query, timeout_s=1.5, consistency=consistency)
        started = trio.current_time()
        reply = await follower.execute(query, timeout_s=1.5, consistency="stale")
        assert trio.current_time() == started
        assert isinstance(reply, Messages)
        assert [message.text for message in reply.items] == [f"t{number}" for number in range(20)]
        assert reply.as_of == 21


@scenario
async def lease_after_a_pause(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """A leader that stands still while another is elected answers nothing by its lease when it goes on."""
    async with MemoryCluster(folder, 3, 27, node_class, lease_ms=200).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        await cluster.settled()
        query = ReadMessages(user, chat, after=1, limit=1000)
        sent = len(cluster.frames)
        reply = await leader.execute(query, timeout_s=1.0, consistency="lease")
        assert isinstance(reply, Messages)
        assert len(cluster.frames) == sent  # nobody was asked
        clock.jump(0.25)  # the machine pauses, and the read is the first thing that happens afterwards
        sent = len(cluster.frames)
        await leader.execute(query, timeout_s=1.0, consistency="lease")
        assert len(cluster.frames) > sent


@scenario
async def full_disk(folder: Path, node_class: type[Node], clock: trio.testing.MockClock) -> None:
    """On full disks writes are refused or wait, reads go on; with room again everything goes on by itself."""
    async with MemoryCluster(folder, 1, 28, node_class).running() as cluster:
        node = await cluster.leader()
        user, chat = await make_chat(node)
        cluster.disks[1].capacity_bytes = 0
        refused = 0
        text = "x" * 3000
        acknowledged = []
        for number in range(60):
            try:
                await ask(node, Send(user, chat, f"t{number}", f"{number} {text}"), timeout_s=0.5)
                acknowledged.append(number)
            except (NotDone, OutcomeUnknown):
                refused += 1
        assert refused > 0
        assert len(await texts(node, user, chat)) >= len(acknowledged)
        cluster.disks[1].capacity_bytes = None
        await trio.sleep(2.0)
        await ask(node, Send(user, chat, "after", "room again"))
        read = await texts(node, user, chat)
        assert read[-1] == "room again"
        assert {f"{number} {text}" for number in acknowledged} <= set(read)
        await cluster.crash(1)
        await cluster.start(1)
        assert await texts(await cluster.leader(), user, chat) == read
