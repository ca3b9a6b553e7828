"""Changes of the group as arithmetic: every change between small groups, against a model too naive to be wrong."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from impl.raft.configuration import (
    BadChange,
    all_voters,
    changed,
    configuration_of,
    encode_configuration,
    final,
    founding,
)
from impl.raft.messages import CONFIGURATION, Configuration, Entry, Member
from impl.raft.quorum import has_quorum
from impl.raft.tests.single import members

NODES = (1, 2, 3, 4)


def subsets(ids: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(chain.from_iterable(combinations(ids, count) for count in range(len(ids) + 1)))


GROUPS = [(ids, voters) for ids in subsets(NODES) for voters in subsets(ids) if voters]
"""Every group of some of four nodes: who belongs, who votes."""


def test_every_change_between_groups_of_four_nodes() -> None:
    """In two steps for other voters and in one otherwise, it ends where it was to end, and forgets nobody between."""
    for ids, voters in GROUPS:
        current = Configuration(members(*ids), voters)
        for wanted, new_voters in GROUPS:
            step = changed(current, tuple(reversed(members(*wanted))), tuple(reversed(new_voters)))
            if voters == new_voters:
                assert step == Configuration(members(*wanted), voters)
                continue
            assert step.joint
            assert (step.voters, step.outgoing) == (new_voters, voters)
            assert {m.node_id for m in step.members} == {*ids, *wanted}, "who leaves is a member until the end"
            assert set(step.leaving) == set(ids) - set(wanted)
            assert all_voters(step) == {*voters, *new_voters}
            assert set(step.learners) == {*ids, *wanted} - {*voters, *new_voters}
            assert final(step) == Configuration(members(*wanted), new_voters)


def test_any_two_quorums_of_adjacent_configurations_share_a_member() -> None:
    """Old and joint, joint and new: what one decided, the other cannot contradict (section 6)."""
    everybody = subsets(NODES)
    for ids, voters in GROUPS:
        current = Configuration(members(*ids), voters)
        for wanted, new_voters in GROUPS:
            joint = changed(current, members(*wanted), new_voters)
            if not joint.joint:
                continue
            quorums = [set(q) for q in everybody if has_quorum(joint, q)]
            assert quorums
            for neighbour in (current, final(joint), joint):
                assert all(set(q) & other for q in everybody if has_quorum(neighbour, q) for other in quorums)


def test_the_old_and_the_new_voters_alone_could_decide_apart() -> None:
    """Why there is a joint configuration at all: without it, two disjoint majorities exist."""
    old, new = founding((1, 2, 3)), founding((3, 4, 5))
    assert has_quorum(old, (1, 2))
    assert has_quorum(new, (4, 5))
    joint = changed(old, members(3, 4, 5), (3, 4, 5))
    assert not has_quorum(joint, (1, 2))
    assert not has_quorum(joint, (4, 5))
    assert has_quorum(joint, (1, 3, 4))


@pytest.mark.parametrize(
    ("wanted", "voters", "complaint"),
    [
        (members(1, 1, 2), (1,), "distinct"),
        (members(1, 2), (1, 1), "distinct"),
        ((Member(0), Member(1)), (1,), "positive"),
        (members(1, 2), (), "needs a voter"),
        (members(1, 2), (1, 3), r"\[3\] are not"),
        ((Member(1), Member(2, 9), Member(3)), (1, 3), "node 2 has a vote as incarnation 1"),
    ],
)
def test_wishes_that_make_no_sense(wanted: tuple[Member, ...], voters: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(BadChange, match=complaint):
        changed(founding((1, 2, 3)), wanted, voters)


def test_a_learner_may_come_back_as_another_incarnation_and_addresses_may_change() -> None:
    current = Configuration(members(1, 2, 3), (1, 2))
    again = (Member(1), Member(2, 1, "peer", "url"), Member(3, 9))
    assert changed(current, again, (1, 2)) == Configuration(again, (1, 2))
    assert changed(current, again, (2, 1)).members == again


def test_configurations_travel_in_entries() -> None:
    configuration = Configuration((Member(1, 2, "p", "u"), Member(3)), (1,), (3,), (3,))
    entry = Entry(5, 2, encode_configuration(configuration), CONFIGURATION)
    assert configuration_of(entry) == configuration
    assert configuration_of(Entry(5, 2, entry.payload)) is None
    assert configuration.member(3) == Member(3)
    assert configuration.member(2) is None
