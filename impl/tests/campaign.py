"""Random runs of a cluster of real nodes: clients at work, a nemesis at theirs, and an oracle that believes nobody.

Theory of operation
-------------------
A seed decides everything: what clients ask, of which node, how long they wait; which links are cut or slow, which nodes
lose their power and when it comes back, whose disk is slow or full, when the machine pauses; who joins, who is demoted
and promoted again, to whom leadership is handed over, how often snapshots are taken. Clients repeat some requests under
their transaction id, at any node. What they are told goes into a ``Ledger``. What nodes say to each other is looked at
as well: who voted for whom, and who leads in a term, must not change, and a node that comes back from a power cut knows
the terms in which it has made promises.

At the end everything is mended. The cluster must come to rest, serve a write and a read through every node, hold the
same state everywhere, and the ledger must agree with its log.

``Campaign(seed).run(folder)`` raises ``Violation`` with the line that replays it. By hand::

    python -m impl.tests.campaign SEED [COUNT]
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import structlog
import trio
import trio.testing

from impl.chat.commands import ChatCreated, CreateChat, CreateUser, Messages, ReadMessages, Send, UserCreated
from impl.chat.service import NotDone, OutcomeUnknown
from impl.network.wire import WireMessage
from impl.node import Node
from impl.raft.messages import AppendEntries, AppendEntriesResponse, Member, RequestVote, RequestVoteResponse
from impl.tests.ledger import Ledger, Violation
from impl.tests.memory_cluster import MemoryCluster, Weather, ask, virtually

CHAOS_S = 5.0
"""Virtual seconds under faults: several elections."""

CLIENTS = 6
"""Enough that some wait in every state a node can be in."""

TIMEOUTS_S = (0.01, 0.1, 0.4, 1.0, 2.0)
"""Shorter than a slow disk's write up to longer than an election."""

WHOLE_LOG = 1_000_000
"""A page that no run fills."""

REST_S = 2.5
"""After the repair: longer than any request may still be on its way."""

WEATHERS = (
    Weather(),
    Weather(latency_s=(0.0005, 0.02), duplicated=0.02, noticed_s=(0.02, 0.3)),
    Weather(latency_s=(0.001, 0.005), duplicated=0.1, noticed_s=(0.001, 1.0)),
)


SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"snapshot_entries": 25, "keep_entries": 3},
    {"snapshot_entries": 60, "keep_entries": 0},
    {"snapshot_bytes": 3000, "keep_entries": 10},
)
"""How often nodes take snapshots, and how little of the log they keep."""

ADMIN_TIMEOUT_S = 1.0
JOINS = 2
"""How many nodes may join in one run."""


class Promises:
    """What nodes have said to each other that binds them."""

    def __init__(self) -> None:
        self.terms: dict[int, int] = {}  # node -> the last term in which it has bound itself
        self._votes: dict[tuple[int, int], int] = {}  # (node, term) -> candidate
        self._leaders: dict[int, int] = {}  # term -> node

    def hear(self, source: int, message: WireMessage) -> None:
        match message:
            case AppendEntries():
                if self._leaders.setdefault(message.term, source) != source:
                    raise Violation(f"two leaders: {self._leaders[message.term]} and {source} in term {message.term}")
                return
            case RequestVote(pre_vote=False):
                self._vote(source, message.term, source)
            case RequestVoteResponse(pre_vote=False, granted=True):
                self._vote(source, message.term, message.target)
            case AppendEntriesResponse(success=True):
                pass
            case _:
                return
        self.terms[source] = max(self.terms.get(source, 0), message.term)

    def _vote(self, voter: int, term: int, candidate: int) -> None:
        if self._votes.setdefault((voter, term), candidate) != candidate:
            raise Violation(f"two votes: {voter} for {self._votes[voter, term]} and {candidate} in term {term}")


class Campaign:
    """One run."""

    def __init__(self, seed: int, node_class: type[Node] = Node) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.count = self.random.choice((3, 3, 3, 5))
        self.ids = list(range(1, self.count + 1))
        """Whoever has ever been started: founders, and those that joined."""
        self.node_class = node_class
        self.ledger = Ledger()
        self.promises = Promises()
        self.events: Counter[str] = Counter()
        self.journal: list[str] = []
        self.trace: list[tuple[float, int, bytes]] = []
        """What was sent: when, by which node, and the frame."""
        self.digest = ""
        """Of the state that all nodes held at the end."""
        self._user = self._chat = 0
        self._clock: trio.testing.MockClock
        self._cluster: MemoryCluster
        self._paused_s = 0.0
        self._ends_at = 0.0

    def run(self, folder: Path) -> None:
        """Raises ``Violation``, also for whatever ends a node."""
        try:
            virtually(lambda clock: self._run(clock, folder), self.seed)
        except Exception as error:
            first: BaseException = error
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            violation = first if isinstance(first, Violation) else Violation(f"a node ended: {first!r}")
            violation.add_note(f"replay: .venv/bin/python -m impl.tests.campaign {self.seed}")
            violation.add_note("last actions:\n  " + "\n  ".join(self.journal[-12:]))
            raise violation from error

    async def _run(self, clock: trio.testing.MockClock, folder: Path) -> None:
        self._clock = clock
        weather, settings = self.random.choice(WEATHERS), self.random.choice(SETTINGS)
        memory = MemoryCluster(folder, self.count, self.seed, self.node_class, weather, **settings)
        async with memory.running() as cluster:
            self._cluster = cluster
            cluster.observe_send = self._overhear
            await self._open_chat()
            cluster.observe_stamp = self._pause_at_stamp
            self._ends_at = trio.current_time() + CHAOS_S
            async with trio.open_nursery() as nursery:
                for number in range(CLIENTS):
                    nursery.start_soon(self._client, number)
                await self._nemesis()
            await self._mend()
            await self._judge()

    def _overhear(self, source: int, message: WireMessage, frame: bytes) -> None:
        self.trace.append((trio.current_time(), source, frame))
        self.promises.hear(source, message)

    async def _open_chat(self) -> None:
        leader = await self._cluster.leader()
        user = await ask(leader, CreateUser("t-user", "ann"))
        assert isinstance(user, UserCreated)
        chat = await ask(leader, CreateChat(user.user_id, "t-chat", "tea"))
        assert isinstance(chat, ChatCreated)
        self._user, self._chat = user.user_id, chat.chat_id

    # --- clients -----------------------------------------------------------------------------------------------------

    async def _client(self, number: int) -> None:
        random = Random(f"client {number} of {self.seed}")
        sends = 0
        while trio.current_time() < self._ends_at:
            await trio.sleep(random.uniform(0.0, 0.04))
            if random.random() < 0.4:
                await self._read(self._some_node(random), random.choice(TIMEOUTS_S))
                continue
            sends += 1
            again = True
            while again:
                done = await self._send(self._some_node(random), f"{number}-{sends}", random.choice(TIMEOUTS_S))
                again = random.random() < (0.1 if done else 0.6)

    def _some_node(self, random: Random) -> int:
        return random.choice(self.ids)

    async def _send(self, node_id: int, txn_id: str, timeout_s: float) -> bool:
        """One attempt; whether it was answered."""
        if node_id not in self._cluster.nodes:
            return False
        text = f"text of {txn_id}"
        self.ledger.begin_send(txn_id, text)
        started, paused_s = trio.current_time(), self._paused_s
        try:
            reply = await self._cluster.request(node_id, Send(self._user, self._chat, txn_id, text), timeout_s)
        except NotDone as error:
            self.events[f"send not done: {error.reason}"] += 1
            return False
        except OutcomeUnknown:
            self.events["send unknown"] += 1
            self.ledger.end_unknown(txn_id)
            return False
        finally:
            self._look_at_the_time(started + timeout_s, paused_s)
        self.events["send posted"] += 1
        self.ledger.end_send(txn_id, reply)
        return True

    async def _read(self, node_id: int, timeout_s: float) -> None:
        if node_id not in self._cluster.nodes:
            return
        floor = self.ledger.begin_read()
        started, paused_s = trio.current_time(), self._paused_s
        query = ReadMessages(self._user, self._chat, after=0, limit=WHOLE_LOG)
        try:
            reply = await self._cluster.request(node_id, query, timeout_s)
        except NotDone as error:
            self.events[f"read not done: {error.reason}"] += 1
        except OutcomeUnknown as error:
            if "has ended" not in error.detail:
                raise Violation(f"unknown query: a read ended with {error.detail!r}") from error
        else:
            self.events["read answered"] += 1
            self.ledger.end_read(floor, reply)
        finally:
            self._look_at_the_time(started + timeout_s, paused_s)

    def _look_at_the_time(self, deadline: float, paused_s: float) -> None:
        late_s = trio.current_time() - deadline - (self._paused_s - paused_s)
        if late_s > 1e-6:
            raise Violation(f"late: a request ended {late_s:.6f} s after its deadline")

    # --- the nemesis -------------------------------------------------------------------------------------------------

    def _pause_at_stamp(self, node_id: int) -> None:
        """Sometimes the machine pauses just when a write has arrived: its time may be up before it is proposed."""
        if self.random.random() < 0.02:
            self._pause(self.random.choice((0.02, 0.2, 1.0)))

    def _pause(self, pause_s: float) -> None:
        self._note(f"the machine pauses for {pause_s} s")
        self._paused_s += pause_s
        self._clock.jump(pause_s)

    def _note(self, words: str) -> None:
        self.journal.append(f"{trio.current_time():.3f} {words}")

    def _victim(self) -> int:
        leaders = [node_id for node_id, node in self._cluster.nodes.items() if node.status().role == "leader"]
        if leaders and self.random.random() < 0.5:
            return self.random.choice(leaders)
        return self.random.choice(self.ids)

    async def _nemesis(self) -> None:
        actions = (
            *(self._cut_off, self._cut_group, self._cut_one_way, self._slow_link, self._slow_disk, self._lose_link),
            *(self._power_cut, self._power_cut, self._power_blink, self._stop, self._power_cut_of_all),
            *(self._full_disk, self._transfer, self._join, self._demote, self._promote, self._promote),
            *(self._heal, self._heal, self._start, self._start),
        )
        while trio.current_time() < self._ends_at:
            await trio.sleep(self.random.uniform(0.02, 0.4))
            action = self.random.choice(actions)
            victim = self._victim()
            self._note(f"{action.__name__[1:]} {victim}")
            self.events[action.__name__[1:]] += 1
            await action(victim)

    async def _cut_off(self, victim: int) -> None:
        self._cluster.isolate(victim)

    async def _cut_group(self, victim: int) -> None:
        others = [node_id for node_id in self.ids if node_id != victim]
        self._cluster.part({victim, *self.random.sample(others, self.count // 2 - 1)})

    async def _cut_one_way(self, victim: int) -> None:
        outward = self.random.random() < 0.5
        self._cluster.cuts |= {
            ends for ends in self._cluster.links if ends[not outward] == victim and self.random.random() < 0.7
        }

    async def _slow_link(self, victim: int) -> None:
        for ends, link in self._cluster.links.items():
            if victim in ends:
                link.extra_s = self.random.choice((0.0, 0.05, 0.2))

    async def _slow_disk(self, victim: int) -> None:
        self._cluster.disk_speeds[victim].delay_s = self.random.choice((0.005, 0.03, 0.15, 0.8))

    async def _full_disk(self, victim: int) -> None:
        self._cluster.disks[victim].capacity_bytes = 0

    async def _transfer(self, victim: int) -> None:
        self._operate(lambda node: node.transfer(victim, timeout_s=ADMIN_TIMEOUT_S))

    async def _join(self, _: int) -> None:
        if len(self.ids) < self.count + JOINS:
            node_id = self.ids[-1] + 1
            self._cluster.format(node_id)
            self.ids.append(node_id)
            await self._start(node_id)
            self._operate(lambda node: self._change(node, node_id, votes=False))

    async def _demote(self, victim: int) -> None:
        self._operate(lambda node: self._change(node, victim, votes=False))

    async def _promote(self, victim: int) -> None:
        self._operate(lambda node: self._change(node, victim, votes=True))

    def _operate(self, work: Callable[[Node], Awaitable[None]]) -> None:
        """An operator asks some node for something, and is content with whatever comes of it."""
        node_id = self.random.choice(self.ids)

        async def operate() -> None:
            if node_id in self._cluster.nodes:
                try:
                    await self._cluster.while_up(node_id, lambda: work(self._cluster.nodes[node_id]))
                    self.events["change done"] += 1
                except (NotDone, OutcomeUnknown) as error:
                    self.events[f"change not done: {getattr(error, 'reason', 'unknown')}"] += 1

        self._cluster.nursery.start_soon(operate)

    async def _change(self, node: Node, node_id: int, *, votes: bool) -> None:
        """Make a node a voter, or a learner, whether it is a member already or not."""
        view = await node.cluster(timeout_s=ADMIN_TIMEOUT_S)
        members = {one.node_id: Member(one.node_id, one.incarnation, one.peer, one.url) for one in view.members}
        voters = {one.node_id for one in view.members if one.role == "voter"}
        if node_id not in members:
            if node_id not in self._cluster.nodes:
                return
            members[node_id] = self._cluster.member(node_id)
            votes = False  # only somebody who has caught up
        wanted = (voters | {node_id}) if votes else (voters - {node_id})
        if len(wanted) < 2 or (wanted == voters and len(members) == len(view.members)):
            return
        await node.reconfigure(
            view.configuration_index,
            tuple(members[one] for one in sorted(members)),
            tuple(sorted(wanted)),
            timeout_s=ADMIN_TIMEOUT_S,
        )

    async def _lose_link(self, victim: int) -> None:
        for node_id, node in self._cluster.nodes.items():
            if node_id != victim:
                node.on_loss(victim)

    async def _power_cut(self, victim: int) -> None:
        if victim in self._cluster.nodes:
            await self._cluster.crash(victim)

    async def _power_blink(self, victim: int) -> None:
        await self._power_cut(victim)
        await self._start(victim)

    async def _power_cut_of_all(self, _: int) -> None:
        for victim in self.ids:
            await self._power_cut(victim)
        for victim in self.ids:
            await self._start(victim)

    async def _stop(self, victim: int) -> None:
        if victim in self._cluster.nodes:
            await self._cluster.stop(victim)

    async def _start(self, _: int) -> None:
        for node_id in self.ids:
            if node_id not in self._cluster.nodes:
                self._cluster.disk_speeds[node_id].delay_s = 0.0
                self._cluster.disks[node_id].capacity_bytes = None
                node = await self._cluster.start(node_id)
                if node.status().term < self.promises.terms.get(node_id, 0):
                    raise Violation(
                        f"promise forgotten: node {node_id} comes back in term {node.status().term}, "
                        f"after promises in term {self.promises.terms[node_id]}"
                    )

    async def _heal(self, _: int) -> None:
        self._cluster.cuts.clear()
        for link in self._cluster.links.values():
            link.extra_s = 0.0
        for speed in self._cluster.disk_speeds.values():
            speed.delay_s = 0.0
        for disk in self._cluster.disks.values():
            disk.capacity_bytes = None

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _mend(self) -> None:
        self._note("everything is mended")
        self._cluster.observe_stamp = None
        await self._heal(0)
        await self._start(0)
        await trio.sleep(REST_S)
        try:
            await self._make_all_voters()
            await self._cluster.settled()
        except trio.TooSlowError as error:
            status = [node.status() for node in self._cluster.nodes.values()]
            raise Violation(f"no recovery: the cluster does not come to rest: {status}") from error

    async def _make_all_voters(self) -> None:
        """Whoever has joined, or was demoted, is a voter in the end: every change of the group can be undone."""
        with trio.fail_after(30):
            while True:
                try:
                    leader = await self._cluster.leader()
                    view = await leader.cluster(timeout_s=ADMIN_TIMEOUT_S)
                    voters = [one.node_id for one in view.members if one.role == "voter"]
                    if voters == sorted(self.ids):
                        return
                    missing = next(node_id for node_id in self.ids if node_id not in voters)
                    await self._change(leader, missing, votes=True)
                except (NotDone, OutcomeUnknown):
                    await trio.sleep(0.1)

    async def _judge(self) -> None:
        for node_id in self._cluster.nodes:
            if not await self._send(node_id, f"last-{node_id}", 2.0):
                raise Violation(f"no recovery: node {node_id} serves no write")
            await self._read(node_id, 2.0)
        await self._cluster.settled()
        reply = await self._cluster.request(1, ReadMessages(self._user, self._chat, 0, WHOLE_LOG), 2.0)
        assert isinstance(reply, Messages)
        self.ledger.close(reply.items)
        digests = self._cluster.digests()
        if len(set(digests.values())) != 1:
            raise Violation(f"replicas differ: {digests}")
        self.digest = digests[1]


def run(seed: int, node_class: type[Node] = Node) -> Campaign:
    """One run in a folder of its own. Raises ``Violation``."""
    campaign = Campaign(seed, node_class)
    with tempfile.TemporaryDirectory() as folder:
        campaign.run(Path(folder))
    return campaign


def main(first: int, count: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    for seed in range(first, first + count):
        campaign = run(seed)
        print(seed, campaign.count, len(campaign.ledger.sent), dict(campaign.events))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
