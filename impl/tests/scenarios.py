"""Scripts that lead a cluster into one corner each; ``mutants.py`` names the bug that each must see.

A scenario gets a folder, the class of the nodes and the clock, and fails with ``AssertionError`` or whatever a node
raises when it ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from impl.chat.commands import ChatCreated, CreateChat, CreateUser, Messages, Posted, ReadMessages, Send, UserCreated
from impl.chat.service import NotDone, OutcomeUnknown
from impl.node import MAX_APPLY_ENTRIES, MAX_INBOX, MAX_OPEN_REQUESTS, Node
from impl.raft.messages import Entry, RequestVoteResponse
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
        for term, outcome in ((4, NotDone), (5, UserCreated)):
            token, slot = node._new_slot()
            node._by_index[99] = (5, token)
            node._resolve(Entry(99, term, b"payload"), UserCreated(1, 1))
            if outcome is NotDone:
                with pytest.raises(NotDone):
                    await slot.wait()
            else:
                assert await slot.wait() == UserCreated(1, 1)
            del node._slots[token]


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
        node = await cluster.start(1)
        assert len(await texts(node, user, chat)) == count


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
            assert len(follower._inbox) <= MAX_INBOX
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
