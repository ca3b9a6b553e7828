"""What may follow what."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impl.raft.messages import Entry, HardState
from impl.storage.continuity import Discontinuity, LogEnd


def end_after(*records: tuple[HardState | None, list[tuple[int, int]]]) -> LogEnd:
    end = LogEnd()
    for hard_state, entries in records:
        new = [Entry(index, term, b"") for index, term in entries]
        end.check(hard_state, new)
        end.follow(hard_state, new)
    return end


@pytest.mark.parametrize(
    ("hard_state", "entries"),
    [
        (HardState(5, 2), []),
        (HardState(6, 0), []),
        (HardState(6, 3), [(4, 6)]),
        (None, [(4, 3), (5, 3), (6, 4)]),
        (None, [(3, 1)]),  # lower than the term it replaces
        (None, [(1, 1)]),
    ],
)
def test_what_may_follow(hard_state: HardState | None, entries: list[tuple[int, int]]) -> None:
    end_after((HardState(5, 2), [(1, 1), (2, 1), (3, 3)]), (hard_state, entries))


@pytest.mark.parametrize(
    ("hard_state", "entries", "problem"),
    [
        (HardState(4, 2), [], "the term goes back from 5 to 4"),
        (HardState(5, 3), [], "the vote of term 5 changes from node 2 to 3"),
        (HardState(5, 0), [], "the vote of term 5 changes from node 2 to 0"),
        (None, [(5, 3)], "entry 5 cannot follow entry 3"),
        (None, [(0, 3)], "entry 0 cannot follow"),
        (None, [(4, 2)], "entry 4 is of term 2, the one before it of term 3"),
        (None, [(4, 4), (5, 3)], "entry 5 is of term 3, the one before it of term 4"),
        (None, [(4, 4), (6, 4)], "entry 6 stands where entry 5 must"),
        (None, [(4, 4), (4, 4)], "entry 4 stands where entry 5 must"),
        (None, [(1, 0)], "entry 1 is of term 0"),
    ],
)
def test_what_may_not_follow(hard_state: HardState | None, entries: list[tuple[int, int]], problem: str) -> None:
    end = end_after((HardState(5, 2), [(1, 1), (2, 1), (3, 3)]))
    with pytest.raises(Discontinuity, match=problem):
        end.check(hard_state, [Entry(index, term, b"") for index, term in entries])
    assert (end.last_index, end.hard_state) == (3, HardState(5, 2))


def test_a_vote_may_be_given_later_in_the_same_term() -> None:
    end_after((HardState(5, 0), []), (HardState(5, 2), []), (HardState(5, 2), []))


@settings(derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 2), min_size=1, max_size=4))))
def test_terms_are_those_of_a_plain_list(steps: list[tuple[int, list[int]]]) -> None:
    end, terms = LogEnd(), [0]
    for back, rises in steps:
        del terms[max(1, len(terms) - back) :]
        first = len(terms)
        for rise in rises:
            terms.append(max(1, terms[-1] + rise))
        new = [Entry(index, terms[index], b"") for index in range(first, len(terms))]
        end.check(None, new)
        end.follow(None, new)
        assert [end.term_at(index) for index in range(len(terms))] == terms
        assert end.last_index == len(terms) - 1
