"""What must not change a verdict, and what may change it in one direction only."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from linearizability import Operation, Outcome, Verdict, check
from linearizability.history import UNKNOWN
from linearizability.tests.histories import SUBJECTS, Subject, draw

HISTORIES_PER_MODEL = 250

MOST_OPERATIONS = 12
"""More than brute force could do: here the checker is compared with itself."""


def samples() -> Iterator[tuple[random.Random, Subject, list[Operation]]]:
    for name, subject in SUBJECTS.items():
        for seed in range(HISTORIES_PER_MODEL):
            rng = random.Random(f"metamorphic {name} {seed}")
            yield rng, subject, draw(rng, subject, MOST_OPERATIONS)


def verdict(subject: Subject, operations: list[Operation]) -> Verdict:
    return check(subject.model(), operations, explain=False).verdict


def at_other_times(operations: list[Operation], moved: Callable[[int], int]) -> list[Operation]:
    return [replace(op, call=moved(op.call), ret=None if op.ret is None else moved(op.ret)) for op in operations]


@pytest.mark.parametrize(
    "moved", [lambda t: t + 10**15, lambda t: t * 1000, lambda t: t - 10**6], ids=["later", "slower", "earlier"]
)
def test_shifting_or_stretching_time_changes_nothing(moved: Callable[[int], int]) -> None:
    for _, subject, operations in samples():
        assert verdict(subject, at_other_times(operations, moved)) is verdict(subject, operations)


def test_names_of_processes_and_order_of_the_list_change_nothing() -> None:
    for rng, subject, operations in samples():
        renamed = [replace(op, index=100 - op.index, process=f"client {op.process}") for op in operations]
        rng.shuffle(renamed)
        assert verdict(subject, renamed) is verdict(subject, operations)


def test_less_knowledge_never_turns_valid_into_invalid() -> None:
    """Wider intervals, forgotten replies and outcomes, and leaving out what only reads."""
    seen = 0
    for rng, subject, operations in samples():
        if verdict(subject, operations) is not Verdict.VALID:
            continue
        seen += 1
        wider = [
            replace(op, call=op.call - rng.randint(0, 3), ret=None if op.ret is None else op.ret + rng.randint(0, 3))
            for op in operations
        ]
        assert verdict(subject, wider) is Verdict.VALID
        forgetful = [op if rng.random() < 0.7 else replace(op, output=UNKNOWN) for op in operations]
        assert verdict(subject, forgetful) is Verdict.VALID
        model = subject.model()
        updates = [op for op in operations if not model.is_read_only(op.input)]
        certain = any(op.outcome is Outcome.OK for op in updates)
        assert verdict(subject, updates) is (Verdict.VALID if certain else Verdict.UNKNOWN)
    assert seen > HISTORIES_PER_MODEL // 2


def test_what_happens_after_a_violation_never_heals_it() -> None:
    seen = 0
    for rng, subject, operations in samples():
        if verdict(subject, operations) is not Verdict.INVALID:
            continue
        seen += 1
        end = max(op.ret or op.call for op in operations) + 1
        later = [replace(op, index=op.index + 100) for op in draw(rng, subject, MOST_OPERATIONS)]
        later = at_other_times(later, lambda t, end=end: t + end)  # type: ignore[misc]
        assert verdict(subject, [*operations, *later]) is Verdict.INVALID
    assert seen > HISTORIES_PER_MODEL // 2
