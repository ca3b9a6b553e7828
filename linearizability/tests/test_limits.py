"""Deadlines, caps and turns: counted on a clock that the test advances, never on the wall."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import pytest

from linearizability import Model, Operation, Verdict, check
from linearizability.history import Outcome
from linearizability.limits import CONFIGURATIONS_PER_CLOCK_READING
from linearizability.models import find


class CountingClock:
    """Every reading takes one second."""

    def __init__(self) -> None:
        self.readings = 0

    def __call__(self) -> float:
        self.readings += 1
        return float(self.readings)


def hard(key: str, writers: int, first_index: int = 0) -> list[Operation]:
    """So many concurrent appends to one key, and then a reply that none of their orders explains."""
    operations = [
        Operation(first_index + n, n, 0, 10, ("append", (key, chr(ord("a") + n))), None) for n in range(writers)
    ]
    return [*operations, Operation(first_index + writers, 0, 20, 30, ("get", key), "?")]


DEADLINE_S = 500


def test_deadline_is_kept_in_the_search() -> None:
    clock = CountingClock()
    result = check(find("kv"), hard("x", 12), deadline_s=DEADLINE_S, clock=clock)
    assert result.verdict is Verdict.UNKNOWN
    assert clock.readings <= DEADLINE_S + 3
    assert result.partitions[0].configurations <= (DEADLINE_S + 1) * CONFIGURATIONS_PER_CLOCK_READING
    assert "deadline of 500 s" in result.progress
    assert "explained up to return 12 of 13 in key 'x'" in result.progress


def test_without_the_deadline_that_history_is_invalid() -> None:
    assert check(find("kv"), hard("x", 5)).verdict is Verdict.INVALID


class Endless(Model[int]):
    """One step of this model yields states for ever."""

    def init(self) -> int:
        return 0

    def step(self, state: int, input: Any, output: Any) -> Iterable[int]:
        while True:
            state += 1
            yield state


def test_deadline_is_kept_inside_a_step_that_yields_for_ever() -> None:
    clock = CountingClock()
    result = check(Endless(), [Operation(0, 0, 0, 1, "go", None)], deadline_s=DEADLINE_S, clock=clock)
    assert result.verdict is Verdict.UNKNOWN
    assert clock.readings <= DEADLINE_S + 3


def test_deadline_is_kept_in_the_explanation_and_the_verdict_stands() -> None:
    easy_to_refute = [
        Operation(0, 0, 0, 1, ("write", 1), None),
        Operation(1, 0, 2, 3, ("write", 2), None),
        Operation(2, 0, 4, 5, ("read", None), 1),
    ]
    before = CountingClock()
    found = check(find("register"), easy_to_refute, clock=before, deadline_s=DEADLINE_S, explain=False)
    assert found.verdict is Verdict.INVALID
    deadline_s = before.readings + 4
    clock = CountingClock()
    result = check(find("register"), easy_to_refute, clock=clock, deadline_s=deadline_s)
    assert result.verdict is Verdict.INVALID
    assert not result.core_is_minimal
    assert {op.index for op in result.core} == {0, 1, 2}
    assert clock.readings <= deadline_s + 6


def test_cap_on_configurations_is_kept() -> None:
    result = check(find("kv"), hard("x", 12), max_configurations=1_000)
    assert result.verdict is Verdict.UNKNOWN
    assert sum(p.configurations for p in result.partitions) <= 1_001
    assert "the cap of 1000 configurations" in result.progress


def test_one_bad_partition_ends_the_whole_however_hard_the_others_are() -> None:
    bad = [
        Operation(100, 0, 0, 1, ("put", ("y", "a")), None),
        Operation(101, 0, 2, 3, ("get", "y"), ""),
    ]
    result = check(find("kv"), [*hard("x", 12), *bad], max_configurations=10_000, explain=False)
    assert result.verdict is Verdict.INVALID
    assert [p.verdict for p in result.partitions] == [Verdict.UNKNOWN, Verdict.INVALID]
    assert "key 'y'" in result.reason


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [Operation(0, 0, 0, None, ("write", 1), None, Outcome.UNKNOWN)],
        [Operation(0, 0, 0, 1, ("write", 1), None, Outcome.FAIL)],
    ],
    ids=["empty", "only unknown", "only failed"],
)
def test_nothing_to_check_is_unknown(operations: list[Operation]) -> None:
    result = check(find("register"), operations)
    assert result.verdict is Verdict.UNKNOWN
    assert result.progress.startswith("nothing to check")


class Dropping(Model[int]):
    """A model that looks at nothing."""

    def init(self) -> int:
        return 0

    def step(self, state: int, input: Any, output: Any) -> Iterable[int]:
        return (state,)

    def partition(self, operations: Sequence[Operation]) -> Mapping[Hashable, Sequence[Operation]]:
        return {}


def test_a_model_that_drops_everything_is_never_valid() -> None:
    assert check(Dropping(), [Operation(0, 0, 0, 1, "x", None)]).verdict is Verdict.UNKNOWN


def test_deep_histories_need_no_recursion() -> None:
    operations = [Operation(n, 0, 2 * n, 2 * n + 1, ("write", n), None) for n in range(20_000)]
    result = check(find("register"), operations, witness=True)
    assert result.verdict is Verdict.VALID
    witness = result.partitions[0].witness
    assert witness is not None
    assert [op.index for op in witness] == list(range(20_000))
