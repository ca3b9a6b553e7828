"""Majorities against a definition too naive to be wrong, for every group of up to seven members."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from impl.raft.messages import Configuration, Member
from impl.raft.quorum import has_majority, has_quorum, majority, majority_index, quorum_index

SIZES = range(1, 8)


def naive_is_majority(size: int, agreeing: int) -> bool:
    return agreeing > size - agreeing


@pytest.mark.parametrize("size", SIZES)
def test_majority_is_the_least_that_outnumbers_the_rest(size: int) -> None:
    assert majority(range(size)) == min(n for n in range(size + 1) if naive_is_majority(size, n))


@pytest.mark.parametrize("size", SIZES)
def test_has_majority_of_every_subset(size: int) -> None:
    voters = tuple(range(1, size + 1))
    for count in range(size + 1):
        for agreeing in combinations(voters, count):
            assert has_majority(voters, agreeing) == naive_is_majority(size, count)
            assert has_majority(voters, [*agreeing, *agreeing, 98, 99]) == naive_is_majority(size, count)


@pytest.mark.parametrize("size", SIZES)
def test_any_two_majorities_share_a_member(size: int) -> None:
    voters = tuple(range(1, size + 1))
    quorums = [set(q) for n in range(size + 1) for q in combinations(voters, n) if has_majority(voters, q)]
    assert all(a & b for a in quorums for b in quorums)


@pytest.mark.parametrize("size", SIZES)
def test_majority_index_against_the_definition(size: int) -> None:
    voters = tuple(range(1, size + 1))
    for reached in product(range(4), repeat=size):
        by_voter = dict(zip(voters, reached, strict=True))
        naive = max(n for n in range(4) if naive_is_majority(size, sum(r >= n for r in reached)))
        assert majority_index(voters, by_voter) == naive


def test_a_voter_without_a_report_stands_at_zero_and_strangers_do_not_count() -> None:
    assert majority_index((1, 2, 3), {1: 5}) == 0
    assert majority_index((1, 2, 3), {1: 5, 2: 4}) == 4
    assert majority_index((1, 2, 3), {1: 5, 8: 9, 9: 9}) == 0


# --- joint configurations ---------------------------------------------------------------------------------------------


def pairs(most: int = 7) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All pairs of voters in groups of up to seven, up to renaming: so many in both sets, so many in either alone."""
    return [
        (tuple(range(1, both + old + 1)), (*range(1, both + 1), *range(both + old + 1, both + old + new + 1)))
        for both in range(most + 1)
        for old in range(most + 1 - both)
        for new in range(most + 1 - both - old)
        if both + old and both + new
    ]


def majorities(voters: tuple[int, ...]) -> list[frozenset[int]]:
    """By enumeration: every set of voters that outnumbers the rest."""
    return [
        frozenset(some)
        for count in range(len(voters) + 1)
        for some in combinations(voters, count)
        if naive_is_majority(len(voters), count)
    ]


def joint_of(outgoing: tuple[int, ...], voters: tuple[int, ...]) -> Configuration:
    everybody = sorted({*outgoing, *voters})
    return Configuration(tuple(Member(node_id) for node_id in everybody), voters, outgoing)


def test_joint_quorums_of_every_pair_of_groups_and_every_subset() -> None:
    checked = 0
    for outgoing, voters in pairs():
        joint = joint_of(outgoing, voters)
        everybody = tuple(sorted({*outgoing, *voters}))
        old, new = majorities(outgoing), majorities(voters)
        for count in range(len(everybody) + 1):
            for agreeing in combinations(everybody, count):
                said = set(agreeing)
                naive = any(some <= said for some in old) and any(some <= said for some in new)
                assert has_quorum(joint, [*agreeing, 98, 99]) == naive
                checked += 1
    assert checked > 5000


def test_joint_quorum_index_of_every_pair_of_groups() -> None:
    """The greatest index such that those who have reached it hold a majority of either set, by enumeration."""
    checked = 0
    for outgoing, voters in pairs(6):
        joint = joint_of(outgoing, voters)
        everybody = tuple(sorted({*outgoing, *voters}))
        old, new = majorities(outgoing), majorities(voters)
        holds = {
            said: any(some <= said for some in old) and any(some <= said for some in new)
            for count in range(len(everybody) + 1)
            for said in map(frozenset, combinations(everybody, count))
        }
        for reached in product(range(3), repeat=len(everybody)):
            by_voter = dict(zip(everybody, reached, strict=True))
            naive = max(n for n in range(3) if holds[frozenset(v for v in everybody if by_voter[v] >= n)])
            assert quorum_index(joint, by_voter) == naive
            checked += 1
    assert checked > 20_000


@pytest.mark.parametrize("size", SIZES)
def test_without_outgoing_voters_a_quorum_is_a_majority(size: int) -> None:
    voters = tuple(range(1, size + 1))
    alone = joint_of((), voters)
    for count in range(size + 1):
        for agreeing in combinations(voters, count):
            assert has_quorum(alone, agreeing) == naive_is_majority(size, count)
    assert quorum_index(alone, dict.fromkeys(voters, 5)) == 5


def test_a_group_of_nobody_decides_nothing() -> None:
    assert not has_quorum(Configuration(), (1, 2, 3))
    assert quorum_index(Configuration(), {1: 5}) == 0
    assert majority_index((), {1: 5}) == 0
