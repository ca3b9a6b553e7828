"""Majorities against a definition too naive to be wrong, for every group of up to seven members."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from impl.raft.quorum import has_majority, majority, majority_index

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
