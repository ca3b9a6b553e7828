"""Random runs of a whole cluster, each a pure function of its seed; then healing, and the demand for progress.

Theory of operation
-------------------
A seed first draws a *climate*: how often messages are lost, repeated and reordered, how slow the disks are, how often
nodes crash and links are cut, how fast clocks run. Climates differ a lot between seeds (swarm testing): a run without
any loss builds long logs, a run of nothing but elections finds what long logs hide. Then it draws a few hundred
actions. At the end everything is healed, and the cluster has a bounded number of ticks to elect a leader and to bring
all members to the same log with every request answered.

To replay a seed, with every action and the state of all members after it::

    .venv/bin/python -m impl.raft.tests.campaign SEED --nodes 5 --kind faults

A failing run says this line by itself.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass, replace

from impl.raft.configuration import configuration_of
from impl.raft.core import Core
from impl.raft.messages import AppendEntries, Configuration
from impl.raft.tests.world import DRIFT, LEASE_SHARE, TICK_MS, Violation, World

STEPS = 700
"""Actions per run: several elections, crashes and cuts at the rates below."""

LEADER_ELECTION_TIMEOUTS = 12
"""A leader must be there within so many election timeouts of healing: one for the followers to give up, and a few for
votes that split or go to members with shorter logs. The worst of 8,000 runs took two, in groups of two three."""

PROGRESS_ELECTION_TIMEOUTS = 2
"""After a leader is there, logs must be equal within so many: replication needs heartbeats, not elections."""


@dataclass(frozen=True, slots=True)
class Climate:
    """The weights of the actions of one run; relative to each other."""

    tick: float
    deliver: float
    stream: float  # all that is in flight on a link, in order
    reorder: float  # a message from the middle of a link
    duplicate: float
    drop: float
    repeat: float  # a message from long ago
    rush: float  # one member's clock is an election timeout ahead
    depose: float  # the leader is cut off, and the clocks of a majority of the others run out
    calm: float  # everything arrives and is written, among a majority, for a while
    flush: float
    flush_one: float  # one batch only
    propose: float
    read: float
    unreachable: float
    crash: float
    restart: float
    cut_link: float
    cut_node: float
    halve: float
    heal: float
    lose_all: float  # everything in flight on all links
    store: float  # the driver puts a received piece of a snapshot away
    compact: float
    transfer: float
    full: float  # a disk is full, or has room again
    damage: float  # of a snapshot that is being received
    change: float  # of the group: whatever is possible and sensible
    mend: float  # of the group: who lost its memory goes, who is missing comes back
    join: float
    wipe: float
    pause: float  # a member's disk hangs, or goes on


def draw_climate(chance: random.Random) -> Climate:
    def sometimes(weight: float, probability: float = 0.5) -> float:
        return weight * chance.random() if chance.random() < probability else 0.0

    crash = sometimes(1.5, 0.7)
    return Climate(
        tick=chance.choice([10, 25, 50]),
        rush=chance.choice([0.5, 2, 4]),
        depose=chance.choice([0, 1, 3]),
        calm=chance.choice([0.2, 2, 4]),
        deliver=chance.choice([20, 40]),
        stream=chance.choice([0, 20, 40]),
        reorder=sometimes(25),
        duplicate=sometimes(8),
        drop=sometimes(12),
        repeat=sometimes(12),
        flush=chance.choice([2, 10, 30, 60]),
        flush_one=sometimes(20),
        propose=chance.choice([2, 5, 10]),
        read=chance.choice([2, 5, 10]),
        unreachable=sometimes(2, 0.3),
        crash=crash,
        restart=3.0 if crash else 0.0,
        cut_link=sometimes(2),
        cut_node=sometimes(2),
        halve=sometimes(1),
        heal=chance.choice([0.5, 1, 3]),
        lose_all=sometimes(1, 0.3),
        store=chance.choice([5, 20, 40]),
        compact=sometimes(3),
        transfer=sometimes(2, 0.4),
        full=sometimes(0.6, 0.3),
        damage=sometimes(1, 0.3),
        change=0.0,
        mend=0.0,
        join=0.0,
        wipe=0.0,
        pause=sometimes(0.6, 0.3),
    )


class Campaign:
    """One run. ``run()`` raises ``Violation`` with the replay in its notes."""

    kind = "faults"
    steps = STEPS

    def __init__(self, seed: int, nodes: int, core_class: type[Core] = Core, verbose: bool = False) -> None:
        self.seed = seed
        self.chance = random.Random(seed * 8 + nodes)
        self.verbose = verbose
        self.climate = draw_climate(self.chance)
        self.world = World(
            nodes,
            core_class,
            election_ticks=self.election_ticks(),
            heartbeat_ticks=1,
            max_entries_per_append=self.chance.choice([1, 2, 5, 256]),
            max_append_bytes=self.chance.choice([40, 512 * 1024]),
            max_in_flight_appends=self.chance.choice([1, 3, 64]),
            max_uncommitted_entries=self.chance.choice([6, 4096]),
            max_in_flight_bytes=self.chance.choice([40, 8 * 1024 * 1024]),
            snapshot_chunk_bytes=self.chance.choice([10, 30, 1024]),
            lease_ms=self.lease_ms(),
            priorities=tuple(self.chance.choice([1, 2, 2]) for _ in range(nodes)),
        )
        self.leader_ticks = 0

    def election_ticks(self) -> int:
        return self.chance.choice([3, 4, 6])

    def lease_ms(self) -> int:
        return 0

    def run(self) -> World:
        world, climate = self.world, self.climate
        names = [name for name in Climate.__slots__ if getattr(climate, name) > 0]
        weights = [getattr(climate, name) for name in names]
        try:
            for name in self.chance.choices(names, weights, k=self.steps):
                getattr(self, f"_{name}")()
                self._narrate()
            self.demand_progress()
        except Violation as violation:
            self._narrate()
            violation.add_note(
                f"replay: .venv/bin/python -m impl.raft.tests.campaign {self.seed} "
                f"--nodes {world.size} --kind {self.kind}"
            )
            violation.add_note("last actions:" + "".join(f"\n    {action}" for action in world.journal[-12:]))
            raise
        return world

    def demand_progress(self) -> None:
        timeout = self.world.election_ticks * 2
        self.leader_ticks = self.world.converge(
            self.chance, LEADER_ELECTION_TIMEOUTS * timeout, PROGRESS_ELECTION_TIMEOUTS * timeout
        )

    def _narrate(self) -> None:
        if self.verbose:
            for action in self.world.journal:
                print(*action)
            if self.world.journal:
                print(self.world.describe().lstrip("\n"))
            self.world.journal.clear()

    # --- actions, named as in Climate ------------------------------------------------------------------------------

    def _up(self) -> int | None:
        up = [node_id for node_id, member in self.world.members.items() if member.up]
        return self.chance.choice(up) if up else None

    def _link(self) -> tuple[int, int] | None:
        world = self.world
        links = [
            pair for pair, link in world.links.items() if link and pair not in world.cuts and world.members[pair[1]].up
        ]
        return self.chance.choice(links) if links else None

    def _tick(self) -> None:
        if node := self._up():
            self.world.tick(node, entropy=self.chance.randrange(1 << 16))

    def _rush(self) -> None:
        if node := self._up():
            for _ in range(2 * self.world.election_ticks):
                self.world.tick(node)

    def _depose(self) -> None:
        world = self.world
        leader = world.leader()
        others = [node_id for node_id, member in world.members.items() if member.up and node_id != leader]
        quorum = len(world.members) // 2 + 1
        if len(others) < quorum:
            return
        if leader and self.chance.random() < 0.7:
            world.isolate(leader)
        nodes = self.chance.sample(others, quorum)
        for _ in range(2 * world.election_ticks):
            for node in nodes:
                world.tick(node, entropy=self.chance.randrange(1 << 16))
            if self.chance.random() < 0.7:
                world.settle(nodes)

    def _calm(self) -> None:
        nodes = list(self.world.members)
        self.world.settle(sorted(self.chance.sample(nodes, len(nodes) // 2 + 1)))

    def _deliver(self) -> None:
        if link := self._link():
            self.world.deliver(*link)

    def _reorder(self) -> None:
        if link := self._link():
            self.world.deliver(*link, self.chance.randrange(len(self.world.links[link])))

    def _duplicate(self) -> None:
        if link := self._link():
            self.world.deliver(*link, self.chance.randrange(len(self.world.links[link])), keep=True)

    def _stream(self) -> None:
        if link := self._link():
            self.world.deliver_all(*link)

    def _drop(self) -> None:
        if link := self._link():
            self.world.drop(*link, self.chance.randrange(len(self.world.links[link])))

    def _repeat(self) -> None:
        if self.world.history:
            self.world.repeat(self.chance.choice(self.world.history))

    def _flush(self) -> None:
        if node := self._up():
            self.world.flush(node)

    def _flush_one(self) -> None:
        if node := self._up():
            self.world.flush(node, 1)

    def _leader_mostly(self) -> int | None:
        leaders = [i for i, member in self.world.members.items() if member.up and member.core.role == "leader"]
        return self.chance.choice(leaders) if leaders and self.chance.random() < 0.95 else self._up()

    def _propose(self) -> None:
        if node := self._leader_mostly():
            self.world.propose(node, self.chance.choice([1, 1, 1, 2, 5]), self.chance.choice([0, 0, 30]))

    def _read(self) -> None:
        if node := self._leader_mostly():
            self.world.read(node, self.chance.choice([1, 1, 2]))

    def _unreachable(self) -> None:
        if node := self._up():
            self.world.unreachable(node, self.chance.choice([i for i in self.world.members if i != node] or [node]))

    def _crash(self) -> None:
        if node := self._up():
            member = self.world.members[node]
            survive = self.chance.randrange(len(member.pending) + 1)
            self.world.crash(
                node, survive, self.chance.choice([member.applied, self.chance.randint(0, member.applied)])
            )

    def _restart(self) -> None:
        down = [node_id for node_id, member in self.world.members.items() if not member.up]
        if down:
            self.world.restart(self.chance.choice(down))

    def _cut_link(self) -> None:
        if len(self.world.members) > 1:
            self.world.cut(*self.chance.sample(list(self.world.members), 2))

    def _cut_node(self) -> None:
        leader = self.world.leader()
        anyone = self.chance.choice(list(self.world.members))
        self.world.isolate(leader if leader and self.chance.random() < 0.6 else anyone)

    def _halve(self) -> None:
        nodes = list(self.world.members)
        self.world.isolate(*self.chance.sample(nodes, len(nodes) // 2))

    def _heal(self) -> None:
        self.world.heal()

    def _lose_all(self) -> None:
        for pair in self.world.links:
            self.world.drop_all(*pair)

    def _store(self) -> None:
        waiting = [node_id for node_id, member in self.world.members.items() if member.up and member.to_store]
        if waiting:
            self.world.store(self.chance.choice(waiting))

    def _damage(self) -> None:
        if node := self._up():
            self.world.damage(node)

    def _compact(self) -> None:
        node = self._up()
        if not node:
            return
        member = self.world.members[node]
        first = max(member.core.log.base.index, 1)
        if member.applied >= first:
            index = self.chance.choice([member.applied, self.chance.randint(first, member.applied)])
            self.world.compact(node, index, self.chance.choice([0, 0, 1, 5]))

    def _transfer(self) -> None:
        if node := self._leader_mostly():
            self.world.transfer(node, self.chance.choice([0, *self.world.members]))

    def _full(self) -> None:
        full = [node_id for node_id, member in self.world.members.items() if member.full]
        if full and self.chance.random() < 0.7:
            self.world.disk_space(self.chance.choice(full), full=False)
        elif node := self._up():
            self.world.disk_space(node, full=True)

    def _pause(self) -> None:
        hung = [node_id for node_id, member in self.world.members.items() if member.hung]
        if hung and self.chance.random() < 0.7:
            self.world.hang(self.chance.choice(hung), hung=False)
        elif node := self._up():
            self.world.hang(node)


SETTLE_ELECTION_TIMEOUTS = 12
"""With links cut, the cluster has so many election timeouts to come to rest ..."""

STEADY_ELECTION_TIMEOUTS = 6
"""... and then the same leader must serve, without a change of term, for so many."""


class PartialConnectivity(Campaign):
    """A short random past, and then links cut for good: some majority stays fully connected, everything else is up to
    chance, direction by direction, and members outside of it may be down. No healing: progress is demanded with the
    cuts in place, and the leader must not change any more."""

    kind = "partial"
    steps = 150

    def demand_progress(self) -> None:
        world, chance = self.world, self.chance
        world.heal()
        world.repair_disks()
        nodes = list(world.members)
        connected = chance.sample(nodes, len(nodes) // 2 + 1)
        mode = chance.choice(["one-way", "both", "isolate", "down"])
        for a in nodes:
            for b in nodes:
                if a == b or (a in connected and b in connected):
                    continue
                if mode in ("isolate", "down") or chance.random() < 0.5:
                    world.cut(a, b)
                    if mode == "both":
                        world.cut(b, a)
        for node, member in world.members.items():
            if mode == "down" and node not in connected:
                if member.up:
                    world.crash(node)
            elif not member.up:
                world.restart(node)
        world.settle()
        timeout = 2 * world.election_ticks
        world.demand_steady_leader(chance, SETTLE_ELECTION_TIMEOUTS * timeout, STEADY_ELECTION_TIMEOUTS * timeout)


MAX_MEMBERS = 7
"""Nodes that are there at a time, members or not."""


class Membership(Campaign):
    """The group changes while everything else happens, too: learners join and become voters, voters are removed and
    replaced, disks are lost and their nodes come back as new ones.

    Two things are never asked for, since no group survives them: that a majority of some configuration loses its
    memory, and that the group shrinks to one that could not decide without those who lost theirs.
    """

    kind = "membership"
    steps = 900

    def __init__(self, seed: int, nodes: int, core_class: type[Core] = Core, verbose: bool = False) -> None:
        super().__init__(seed, nodes, core_class, verbose)
        chance = self.chance
        self.climate = replace(
            self.climate,
            change=chance.choice([2, 6, 12]),
            mend=chance.choice([1, 4]),
            join=chance.choice([0.3, 1]),
            wipe=chance.choice([0, 0.3, 0.6]),
            calm=chance.choice([2, 6, 12]),
            compact=chance.choice([0, 1, 4]),
            transfer=chance.choice([0, 1, 3]),
        )

    def _groups(self) -> list[Configuration]:
        """Whatever configuration some member goes by, or will when it starts again, or when it hears what is on its way
        or was said long ago."""
        world = self.world
        groups = [world.configuration_at(len(world.committed)), world.deciding]
        for member in world.members.values():
            groups.append(member.core.configuration)
            groups.extend(found for e in member.written_entries if (found := configuration_of(e)) is not None)
        for message in [*world.history, *(message for link in world.links.values() for message in link)]:
            if isinstance(message, AppendEntries):
                groups.extend(found for e in message.entries if (found := configuration_of(e)) is not None)
        return [group for group in groups if group.voters]

    def _may_decide(self, group: Configuration, lost: set[int]) -> bool:
        """Whether those who still know what the group takes them to know can decide for it."""
        world = self.world
        alive = {
            named.node_id
            for named in group.members
            if named.node_id not in lost and world.members[named.node_id].incarnation == named.incarnation
        }
        return all(2 * len(alive & set(voters)) > len(voters) for voters in (group.voters, group.outgoing) if voters)

    def _change(self) -> None:
        world, chance = self.world, self.chance
        node = self._leader_mostly()
        if not node:
            return
        core = world.core(node)
        group = core.configuration
        lives = {
            named.node_id for named in group.members if world.members[named.node_id].incarnation == named.incarnation
        }
        voters, learners = set(group.voters), set(group.learners)
        strangers = set(world.members) - voters - learners
        ready = sorted(learners & lives)
        what = chance.choice(["add", "promote", "promote", "remove", "replace", "demote", "any"])
        if what == "add" and strangers:
            learners.add(chance.choice(sorted(strangers)))
        elif what == "promote" and ready:
            voters.add(chance.choice(ready))
        elif what == "remove":
            gone = chance.choice(sorted(voters | learners) or [0])
            voters.discard(gone)
            learners.discard(gone)
        elif what == "replace" and ready and voters:
            voters.discard(chance.choice(sorted(voters)))
            voters.add(chance.choice(ready))
        elif what == "demote" and voters:
            gone = chance.choice(sorted(voters))
            voters.discard(gone)
            learners.add(gone)
        elif what == "any":
            voters = {i for i in voters | set(ready) if chance.random() < 0.7}
        learners -= voters
        if 2 * len(voters & lives) > len(voters) and len(voters) >= 1:
            world.reconfigure(
                node, voters, learners, chance.choice([None, None, None, None, 0, core.configuration_index - 1])
            )

    def _mend(self) -> None:
        world = self.world
        node = world.leader()
        if not node:
            return
        group = world.core(node).configuration
        lost = [n.node_id for n in group.members if world.members[n.node_id].incarnation != n.incarnation]
        strangers = sorted(set(world.members) - {n.node_id for n in group.members})
        if lost:
            world.remove(node, lost[0])
        elif group.learners:
            world.promote(node, self.chance.choice(group.learners))
        elif strangers:
            world.add_learner(node, self.chance.choice(strangers))

    def _join(self) -> None:
        if len(self.world.members) < MAX_MEMBERS:
            self.world.join(len(self.world.members) + 1)

    def _wipe(self) -> None:
        node = self.chance.choice(list(self.world.members))
        if all(self._may_decide(group, {node}) for group in self._groups()):
            self.world.wipe(node)


LEASE_ELECTION_TICKS = 6
"""Of the campaign with leases: a lease is then as long as half of that, less the drift of clocks."""


class Leases(Membership):
    """The same where time passes for all at nearly the same pace, and leaders may answer reads by their clocks."""

    kind = "leases"

    def __init__(self, seed: int, nodes: int, core_class: type[Core] = Core, verbose: bool = False) -> None:
        super().__init__(seed, nodes, core_class, verbose)
        for member in self.world.members.values():
            member.rate = 1 + DRIFT * self.chance.uniform(-1, 1)

    def election_ticks(self) -> int:
        return LEASE_ELECTION_TICKS

    def lease_ms(self) -> int:
        return int((LEASE_ELECTION_TICKS - 3) * TICK_MS * LEASE_SHARE)

    def _tick(self) -> None:
        self.world.elapse(self.chance, self.chance.choice([1, 2, 4]))

    def _rush(self) -> None:
        """A member's process stands still while its clock runs; ticks that it missed are gone."""
        if node := self._up():
            member = self.world.members[node]
            member.ticked_ms += 3 * TICK_MS
            member.clock_ms += 3 * TICK_MS

    def _depose(self) -> None:
        world, chance = self.world, self.chance
        leader = world.leader()
        if leader and chance.random() < 0.7:
            world.isolate(leader)
        for _ in range(chance.choice([1, 2, 3]) * world.election_ticks):
            world.elapse(chance)
            if chance.random() < 0.7:
                world.settle([node for node in world.members if node != leader])
            if leader and world.members[leader].up and chance.random() < 0.3:
                world.read(leader, lease=True)

    def _read(self) -> None:
        if node := self._leader_mostly():
            self.world.read(node, self.chance.choice([1, 1, 2]), lease=self.chance.random() < 0.8)


CAMPAIGNS: dict[str, type[Campaign]] = {
    campaign.kind: campaign for campaign in (Campaign, PartialConnectivity, Membership, Leases)
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Replay one seed of the campaign, every action and state printed.")
    parser.add_argument("seed", type=int)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--kind", choices=CAMPAIGNS, default="faults")
    options = parser.parse_args()
    world = CAMPAIGNS[options.kind](options.seed, options.nodes, verbose=True).run()
    print(f"all invariants hold; reached: {dict(world.reached)}")


if __name__ == "__main__":
    main()
