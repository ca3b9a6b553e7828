"""What is reported as a contradiction is one, and nothing of it can be left out."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from linearizability import Model, Operation, Outcome, Verdict, check
from linearizability.history import UNKNOWN
from linearizability.models import find
from linearizability.tests.brute_force import explainable
from linearizability.tests.histories import SUBJECTS, draw

HISTORIES_PER_MODEL = 400


def contradict_each_other(model: Model[Any], part: Sequence[Operation], core: Sequence[Operation]) -> bool:
    """By brute force: nothing explains the core, whether or not the rest took effect, with whatever replies."""
    held = {op.index for op in core}
    rest = [
        replace(op, output=UNKNOWN, outcome=Outcome.UNKNOWN)
        for op in part
        if op.index not in held and not model.is_read_only(op.input)
    ]
    return not explainable(model, [*core, *rest])


@pytest.mark.parametrize("name", SUBJECTS)
def test_core_is_a_contradiction_and_irreducible(name: str) -> None:
    subject = SUBJECTS[name]
    model = subject.model()
    seen = 0
    for seed in range(HISTORIES_PER_MODEL):
        operations = draw(random.Random(f"core {name} {seed}"), subject)
        result = check(model, operations)
        if result.verdict is not Verdict.INVALID:
            assert result.core == ()
            continue
        seen += 1
        (label,) = [p.label for p in result.partitions if p.verdict is Verdict.INVALID]
        part = model.partition(sorted(operations, key=lambda op: (op.call, op.index)))[label]
        assert result.core_is_minimal
        assert set(result.core) <= set(part)
        assert contradict_each_other(model, part, result.core), seed
        offending = result.offending
        assert offending is not None
        end = offending.ret
        assert end is not None
        past = [replace(op, outcome=Outcome.UNKNOWN) if (op.ret or 0) > end else op for op in part if op.call <= end]
        for op in result.core:
            others = [o for o in past if o in result.core and o.index != op.index]
            assert not contradict_each_other(model, past, others), (seed, op)
    assert seen > HISTORIES_PER_MODEL // 8


@pytest.mark.parametrize("name", SUBJECTS)
def test_offending_return_is_the_earliest_that_cannot_be_explained(name: str) -> None:
    subject = SUBJECTS[name]
    model = subject.model()
    for seed in range(HISTORIES_PER_MODEL):
        for part in model.partition(draw(random.Random(f"earliest {name} {seed}"), subject)).values():
            result = check(SoleObject(model), part, explain=False)
            offending = result.offending
            if offending is None:
                continue
            end = offending.ret
            assert end is not None
            before = [
                replace(op, outcome=Outcome.UNKNOWN) if op.ret is None or op.ret >= end else op
                for op in part
                if op.call < end
            ]
            assert explainable(model, before), seed


class SoleObject(Model[Any]):
    """A model of which only ``step`` is used: for operations that it has partitioned already."""

    def __init__(self, model: Model[Any]) -> None:
        self.model = model

    def init(self) -> Any:
        return self.model.init()

    def step(self, state: Any, input: Any, output: Any) -> Iterable[Any]:
        return self.model.step(state, input, output)

    def is_read_only(self, input: Any) -> bool:
        return self.model.is_read_only(input)


class Log(Model[int]):
    """Appends that are told their position, and reads that are told the length."""

    name = "log"

    def init(self) -> int:
        return 0

    def step(self, state: int, input: Any, output: Any) -> Iterable[int]:
        if input == "append":
            return (state + 1,) if output in (UNKNOWN, state + 1) else ()
        return (state,) if output in (UNKNOWN, state) else ()

    def is_read_only(self, input: Any) -> bool:
        return bool(input == "read")

    def explanation_model(self) -> Model[int]:
        return OpenLog()

    def explain(self, core: Sequence[Operation]) -> str | None:
        return "length went back" if core[-1].input == "read" else None

    def classify(self, core: Sequence[Operation]) -> str | None:
        return "stale-read" if core[-1].input == "read" else None


class OpenLog(Log):
    """A log to which others append too: all that is known is that it has at least this length."""

    def step(self, state: int, input: Any, output: Any) -> Iterable[int]:
        if output is UNKNOWN:
            return (state + (input == "append"),)
        return (output,) if output >= state + (input == "append") else ()

    def is_read_only(self, input: Any) -> bool:
        return False


def log_history(length: int) -> list[Operation]:
    """Two clients in turns: one appends, one reads what there is."""
    operations = []
    for n in range(length):
        operations.append(Operation(2 * n, 0, 10 * n, 10 * n + 3, "append", n + 1))
        operations.append(Operation(2 * n + 1, 1, 10 * n + 4, 10 * n + 7, "read", n + 1))
    return operations


def test_open_world_core_of_a_long_history_is_a_pair() -> None:
    operations = log_history(400)
    assert check(Log(), operations).verdict is Verdict.VALID
    stale = replace(operations[601], output=298)
    result = check(Log(), [*operations[:601], stale, *operations[602:]])
    assert result.verdict is Verdict.INVALID
    assert len(result.core) == 2
    assert result.core[1] == stale
    assert result.core_is_minimal
    assert (result.reason, result.anomaly) == ("length went back", "stale-read")


def test_general_sentence_names_the_operations() -> None:
    operations = [
        Operation(3, 0, 0, 1, ("write", 7), None),
        Operation(5, 1, 2, 3, ("read", None), 8),
        Operation(9, 1, 4, 5, ("read", None), 7),
    ]
    result = check(find("register"), operations)
    assert [op.index for op in result.core] == [5]
    assert result.reason == (
        "this cannot be true in whole history, whether or not the others took effect: operation 5 of process 1: read 8"
    )


class Speechless(Log):
    def explain(self, core: Sequence[Operation]) -> str | None:
        raise RuntimeError("no words")


def test_a_failing_explanation_does_not_hide_the_violation() -> None:
    result = check(Speechless(), [Operation(0, 0, 0, 1, "read", 5)])
    assert result.verdict is Verdict.INVALID
    assert "looking for the reason failed: RuntimeError: no words" in result.reason
