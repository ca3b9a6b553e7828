"""Hypothesis drives a cluster of one to seven cores, action by action, and shrinks what breaks it.

The seeded campaign has the volume; this has the small counterexamples: choices are local (an index into what is
possible now), the boring choice is 0, and every case ends with healing and the demand for progress. A failure prints
the shrunk program as the calls of its rules: paste it into a test and it replays.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from impl.raft.configuration import configuration_of as named
from impl.raft.core import Core
from impl.raft.tests.mutants import MUTANTS, build
from impl.raft.tests.world import Violation, World

SMALL = st.integers(0, 63)


class ClusterMachine(RuleBasedStateMachine):
    """Every rule is one action of the world, which checks all its invariants itself after every step."""

    core_class: type[Core] = Core
    world: World

    @initialize(size=st.integers(1, 5), entries=st.sampled_from([256, 1]), window=st.sampled_from([64, 2]), chunk=SMALL)
    def begin(self, size: int, entries: int, window: int, chunk: int) -> None:
        self.world = World(
            size,
            self.core_class,
            election_ticks=3,
            heartbeat_ticks=1,
            max_entries_per_append=entries,
            max_in_flight_appends=window,
            max_uncommitted_entries=8,
            snapshot_chunk_bytes=64 - chunk,
        )

    def pick_up(self, index: int) -> int:
        up = [node for node, member in self.world.members.items() if member.up]
        return up[index % len(up)]

    def any_up(self) -> bool:
        return any(member.up for member in self.world.members.values())

    def pick_link(self, index: int) -> tuple[int, int]:
        links = self.open_links()
        return links[index % len(links)]

    def open_links(self) -> list[tuple[int, int]]:
        world = self.world
        return [pair for pair, link in world.links.items() if link and pair not in world.cuts]

    def in_flight(self) -> bool:
        return bool(self.open_links())

    @precondition(any_up)
    @rule(index=SMALL, ticks=st.integers(1, 6), entropy=st.integers(0, 5))
    def tick(self, index: int, ticks: int, entropy: int) -> None:
        self.world.tick(self.pick_up(index), ticks, entropy)

    @precondition(any_up)
    @rule(index=SMALL, batches=st.sampled_from([None, 1]))
    def flush(self, index: int, batches: int | None) -> None:
        self.world.flush(self.pick_up(index), batches)

    @precondition(in_flight)
    @rule(index=SMALL, position=SMALL, keep=st.booleans())
    def deliver(self, index: int, position: int, keep: bool) -> None:
        pair = self.pick_link(index)
        self.world.deliver(*pair, position % len(self.world.links[pair]), keep=keep)

    @precondition(in_flight)
    @rule(index=SMALL)
    def deliver_link(self, index: int) -> None:
        self.world.deliver_all(*self.pick_link(index))

    @precondition(in_flight)
    @rule(index=SMALL, position=SMALL)
    def drop(self, index: int, position: int) -> None:
        pair = self.pick_link(index)
        self.world.drop(*pair, position % len(self.world.links[pair]))

    @precondition(lambda self: bool(self.world.history))
    @rule(index=SMALL)
    def repeat(self, index: int) -> None:
        history = self.world.history
        self.world.repeat(history[-1 - index % len(history)])

    @rule(leave_out=st.integers(0, 5))
    def settle(self, leave_out: int) -> None:
        """All but one member (0: all) get everything that is under way."""
        self.world.settle([node for node in self.world.members if node != leave_out])

    @rule(index=SMALL)
    def elect(self, index: int) -> None:
        """Whoever is up and can be heard by a majority of members may try: the outcome is the cluster's."""
        nodes = [node for node, member in self.world.members.items() if member.up]
        for _ in range(6):
            for position, node in enumerate(nodes):
                self.world.tick(node, entropy=0 if position == index % len(nodes) else 2)
            self.world.settle()

    @precondition(any_up)
    @rule(index=SMALL, count=st.integers(1, 3))
    def propose(self, index: int, count: int) -> None:
        self.world.propose(self.world.leader() or self.pick_up(index), count)

    @precondition(any_up)
    @rule(index=SMALL, at_leader=st.booleans())
    def read(self, index: int, at_leader: bool) -> None:
        leader = self.world.leader()
        self.world.read(leader if leader and at_leader else self.pick_up(index))

    @precondition(any_up)
    @rule(index=SMALL, survive=st.integers(0, 3), forget=st.integers(0, 3))
    def crash(self, index: int, survive: int, forget: int) -> None:
        node = self.pick_up(index)
        self.world.crash(node, survive, max(0, self.world.members[node].applied - forget))

    @precondition(lambda self: any(not member.up for member in self.world.members.values()))
    @rule(index=SMALL)
    def restart(self, index: int) -> None:
        down = [node for node, member in self.world.members.items() if not member.up]
        self.world.restart(down[index % len(down)])

    # --- the group: three nodes of a few, and nothing that no group survives ------------------------------------------

    def lost(self) -> bool:
        return bool(self.world.forgetful())

    @precondition(any_up)
    @rule(index=SMALL, who=st.integers(1, 7), promote=st.booleans())
    def add(self, index: int, who: int, promote: bool) -> None:
        """A learner, or a vote for one that there is."""
        world = self.world
        node = world.leader() or self.pick_up(index)
        if who > len(world.members):
            who = len(world.members) + 1
            world.join(who)
        if not promote:
            world.add_learner(node, who)
        elif who not in world.forgetful():
            world.promote(node, who)

    @precondition(lambda self: self.any_up() and not self.lost())
    @rule(index=SMALL, who=st.integers(1, 7), keep=st.booleans())
    def remove(self, index: int, who: int, keep: bool) -> None:
        world = self.world
        node = world.leader() or self.pick_up(index)
        if keep and who in world.core(node).configuration.voters:
            world.demote(node, who)
        else:
            world.remove(node, who)

    @precondition(lambda self: not self.lost())
    @rule(index=SMALL)
    def wipe(self, index: int) -> None:
        """One at a time, out of three at least in every configuration that there is."""
        world = self.world
        groups = [member.core.configuration for member in world.members.values()]
        groups += [found for member in world.members.values() for e in member.written_entries if (found := named(e))]
        sizes = [len(voters) for group in groups for voters in (group.voters, group.outgoing) if voters]
        if min(sizes) >= 3:
            world.wipe(1 + index % len(world.members))

    @precondition(any_up)
    @rule(index=SMALL, who=st.integers(0, 7))
    def transfer(self, index: int, who: int) -> None:
        self.world.transfer(self.world.leader() or self.pick_up(index), who)

    # --- snapshots and disks -----------------------------------------------------------------------------------------

    @precondition(any_up)
    @rule(index=SMALL, keep=st.integers(0, 3))
    def compact(self, index: int, keep: int) -> None:
        self.world.compact(self.pick_up(index), keep=keep)

    @rule(index=SMALL, report=st.booleans())
    def store(self, index: int, report: bool) -> None:
        """A piece is put away; not reported, where the node crashes right after it."""
        waiting = [node for node, member in self.world.members.items() if member.up and member.to_store]
        if waiting:
            node = waiting[index % len(waiting)]
            self.world.store(node, report=report)
            if not report:
                self.world.crash(node)

    @precondition(any_up)
    @rule(index=SMALL, full=st.booleans())
    def disk_space(self, index: int, full: bool) -> None:
        self.world.disk_space(self.pick_up(index), full=full)

    @precondition(lambda self: len(self.world.members) > 1)
    @rule(index=SMALL)
    def cut(self, index: int) -> None:
        links = list(self.world.links)
        self.world.cut(*links[index % len(links)])

    @rule(index=SMALL)
    def isolate(self, index: int) -> None:
        self.world.isolate(self.world.leader() or 1 + index % len(self.world.members))

    @precondition(lambda self: bool(self.world.cuts))
    @rule()
    def heal(self) -> None:
        self.world.heal()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.converge(random.Random(1), leader_ticks=100, progress_ticks=12)


def profile(examples: int, steps: int, *, shrink: bool) -> settings:
    return settings(
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        report_multiple_bugs=False,
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def run(machine: type[ClusterMachine], examples: int, steps: int, *, shrink: bool = True) -> None:
    run_state_machine_as_test(machine, settings=profile(examples, steps, shrink=shrink))


def test_cluster() -> None:
    run(ClusterMachine, examples=150, steps=50)


@pytest.mark.slow
def test_cluster_longer() -> None:
    run(ClusterMachine, examples=1500, steps=100)


def test_planted_bug_is_found() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "reads-without-confirmation")
    attributes: dict[str, Any] = {"core_class": build(mutant)}
    machine = type("MutatedMachine", (ClusterMachine,), attributes)
    with pytest.raises(Violation, match="confirmed_reads"):
        run(machine, examples=60, steps=40, shrink=False)
