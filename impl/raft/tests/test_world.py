"""The world's own checks, each shown to fail where the state of a member or what it says is tampered with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from impl.raft.core import Core
from impl.raft.events import Completed, Effects, Event, Read, ReadReady, Receive, Reconfigure, Refused, Tick
from impl.raft.invariants import view
from impl.raft.messages import AppendEntries, AppendEntriesResponse, RequestVoteResponse
from impl.raft.tests.world import LINK_CAPACITY, Violation, World


class Tampered(Core):
    """Does what it should, and then one thing more."""

    def step(self, event: Event) -> Effects:
        effects = super().step(event)
        self.tamper(event, effects)
        return effects

    def tamper(self, event: Event, effects: Effects) -> None:
        raise NotImplementedError


class SaysTooMuch(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        for position, message in enumerate(effects.send):
            if isinstance(message, AppendEntriesResponse) and message.success:
                effects.send[position] = AppendEntriesResponse(
                    0, message.source, message.target, message.term, True, message.index + 1, 0, 0, message.round
                )


class VotesUnsaved(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        if isinstance(event, Tick) and self.node_id == 2:
            effects.send.append(RequestVoteResponse(0, 2, 1, 9, 9, True))


class SkipsAnEntry(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        del effects.apply[:1]


class KeepsAWriteToItself(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        if effects.persist and effects.persist.entries:
            effects.persist = None


class RefusesWhatItTook(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        effects.refused += [Refused(accepted.token, "overloaded") for accepted in effects.accepted]


class ReadsTheMoon(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        effects.reads = [ReadReady(ready.token, ready.index + 9) for ready in effects.reads]


class AnswersForEver(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        if isinstance(event, Receive) and isinstance(event.message, AppendEntries | AppendEntriesResponse):
            effects.send.append(
                AppendEntriesResponse(0, self.node_id, event.message.source, self.term, False, 0, 0, 0, 0)
            )


def ordinary_life(world: World) -> None:
    world.elect(1)
    world.propose(1)
    world.read(1)
    world.settle()
    world.tick_all(3)


def test_ordinary_life_breaks_nothing() -> None:
    ordinary_life(World(3))


@pytest.mark.parametrize(
    ("core_class", "invariant"),
    [
        (SaysTooMuch, "durable_before_said"),
        (VotesUnsaved, "durable_before_said"),
        (SkipsAnEntry, "state_machine_safety"),
        (KeepsAWriteToItself, "all_is_written"),
        (RefusesWhatItTook, "honest_outcomes"),
        (ReadsTheMoon, "linearizable_reads"),
        (AnswersForEver, "quiescence"),
    ],
)
def test_tampering_is_seen(core_class: type[Core], invariant: str) -> None:
    with pytest.raises(Violation) as caught:
        ordinary_life(World(3, core_class))
    assert caught.value.invariant == invariant


class HidesItsBase(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        if effects.persist and effects.persist.base:
            effects.persist = None


class RestoresTheWrongState(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        if effects.restore:
            effects.restore = None


class ForgetsTheGroup(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        if self.node_id == 2 and effects.persist and any(entry.kind for entry in effects.persist.entries):
            self.log._configurations.pop()


class SaysNothingOfTheGroup(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        effects.configuration = None


class SaysItIsDone(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        if isinstance(event, Reconfigure) and effects.persist:
            effects.completed.append(Completed(event.token, self.configuration_index))


class ReadsByAnOldLease(Tampered):
    def tamper(self, event: Event, effects: Effects) -> None:
        if isinstance(event, Read) and event.lease:
            effects.reads += [ReadReady(token, 1) for token in event.tokens]


def life_of_a_group(world: World) -> None:
    world.elect(1)
    world.tick_all(2)
    world.isolate(3)
    world.propose(1, 3)
    world.settle()
    world.compact(1)
    world.heal()
    world.tick_all(6)
    world.read(1, lease=True)
    world.settle()
    world.join(4)
    world.add_learner(1, 4)
    world.tick_all(4)
    world.promote(1, 4)
    world.tick_all(4)


def test_life_of_a_group_breaks_nothing() -> None:
    world = World(3)
    life_of_a_group(world)
    assert world.core(4).configuration.voters == (1, 2, 3, 4)
    assert world.reached["restore"] == 2


@pytest.mark.parametrize(
    ("core_class", "invariant"),
    [
        (HidesItsBase, "all_is_written"),
        (RestoresTheWrongState, "state_machine_safety"),
        (ForgetsTheGroup, "configuration_in_force"),
        (SaysNothingOfTheGroup, "configuration_in_force"),
        (SaysItIsDone, "honest_outcomes"),
        (ReadsByAnOldLease, "leases_are_true"),
    ],
)
def test_tampering_with_groups_and_snapshots_is_seen(core_class: type[Core], invariant: str) -> None:
    with pytest.raises(Violation) as caught:
        life_of_a_group(World(3, core_class))
    assert caught.value.invariant == invariant


def test_snapshot_of_another_state_is_seen() -> None:
    world = World(3)
    world.elect(1)
    world.tick_all(2)
    world.states[1] = b"another state..."
    world.compact(1)
    snapshot = world.members[1].snapshots[1]
    world.states[1] = world.members[1].state
    world.members[2].snapshots[1] = snapshot
    world.members[2].applied = 0
    with pytest.raises(Violation, match="state_machine_safety"):
        world._restore(world.members[2], snapshot.base)


def test_vote_of_a_forgotten_life_is_seen() -> None:
    """Were the members to count whom they should not, the judge would say so: it counts for itself."""
    world = World(3)
    world.wipe(2)
    world.wipe(3)
    for node in (2, 3):
        world.ballots[1, node, world.members[node].incarnation] = 1
    core = world.core(1)
    core.role, core.term, core.voted_for = "leader", 1, 1
    before = view(core)
    world._before = core.configuration
    with pytest.raises(Violation, match="no_vote_of_the_forgetful"):
        world._check_role(world.members[1], replace(before, role="candidate"))


def test_second_leader_is_seen() -> None:
    world = World(3)
    world.elect(1)
    world.members[2].core.role = "leader"
    world.members[2].core.term = world.members[2].core.voted_for = 1
    with pytest.raises(Violation, match=r"election_safety|leader_and_candidate"):
        world.tick(2)


def test_lost_disk_is_seen() -> None:
    """A disk that forgets what it reported takes committed entries below a majority: the next commitment shows it."""
    world = World(3)
    world.elect(1)
    world.members[2].disk_entries.clear()
    world.members[3].disk_entries.clear()
    with pytest.raises(Violation, match=r"match_is_true|committed_is_durable"):
        world.propose(1)


def test_a_crash_loses_what_was_not_reported_and_may_leave_a_prefix() -> None:
    for survive, length in ((0, 1), (1, 2), (2, 3)):
        world = World(3)
        world.elect(1)
        world.propose(1)
        world.propose(1)
        world.crash(1, survive=survive)
        world.restart(1)
        assert world.core(1).log.last_index == length
    world.crash(2)
    with pytest.raises(ValueError, match="is down"):
        world.tick(2)


def test_cuts_are_one_way_and_links_are_bounded() -> None:
    world = World(3)
    world.elect(1)
    world.cut(1, 2)
    for _ in range(LINK_CAPACITY + 50):
        world.tick(1)
        world.deliver_all(2, 1)
        world.read(1)
        if world.core(1).role != "leader":
            break
        world.settle([1, 3])
    assert not world.links[1, 2]
    world.heal()
    for _ in range(400):
        world.propose(1)
    assert len(world.links[1, 2]) <= LINK_CAPACITY
