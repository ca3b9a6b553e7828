"""The models in the box, how others are found, and what the checker holds a model to."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any, NamedTuple

import pytest

from linearizability import HistoryError, Model, ModelError, Operation, Outcome, Verdict, check, models
from linearizability.history import UNKNOWN
from linearizability.interning import class_key
from linearizability.models import find


def sequence(*calls: tuple[Any, Any]) -> list[Operation]:
    """One call after the other."""
    return [Operation(n, 0, 2 * n, 2 * n + 1, input, output) for n, (input, output) in enumerate(calls)]


def verdict(model: str, *calls: tuple[Any, Any]) -> Verdict:
    return check(find(model), sequence(*calls)).verdict


def test_register() -> None:
    assert verdict("register", (("read", None), None), (("write", 3), 3), (("read", None), 3)) is Verdict.VALID
    assert verdict("register", (("write", [1]), None), (("read", None), [1])) is Verdict.VALID
    assert verdict("register", (("write", 3), 3), (("read", None), None)) is Verdict.INVALID
    assert verdict("register", (("write", 1), 1), (("read", None), True)) is Verdict.INVALID


def test_compare_and_set() -> None:
    cas = ("cas", [None, 1])
    assert verdict("cas-register", (cas, [None, 1]), (("read", None), 1)) is Verdict.VALID
    assert verdict("cas-register", (cas, "mismatch"), (("read", None), None)) is Verdict.INVALID
    assert verdict("cas-register", (cas, [None, 1]), (cas, "mismatch"), (("read", None), 1)) is Verdict.VALID
    assert verdict("cas-register", (cas, [None, 1]), (cas, [None, 1])) is Verdict.INVALID
    for seen in (None, 1):
        perhaps = Operation(9, 9, 0, None, cas, UNKNOWN, Outcome.UNKNOWN)
        reads = sequence((("read", None), seen))
        assert check(find("cas-register"), [perhaps, *reads]).verdict is Verdict.VALID


def test_key_value() -> None:
    put, more = ("put", {"key": "k", "value": "a"}), ("append", ("k", "b"))
    assert verdict("kv", (put, None), (more, None), (("get", "k"), "ab"), (("get", "other"), "")) is Verdict.VALID
    assert verdict("kv", (put, None), (more, None), (("get", {"key": "k"}), "ba")) is Verdict.INVALID


@pytest.mark.parametrize(
    ("model", "input", "output"),
    [
        ("register", ("cas", (1, 2)), None),
        ("register", "read", None),
        ("cas-register", ("cas", 5), None),
        ("kv", ("put", 5), None),
        ("kv", ("put", ("k", 5)), None),
        ("kv", ("get", "k"), None),
    ],
)
def test_operations_of_another_model_are_refused(model: str, input: Any, output: Any) -> None:
    with pytest.raises(HistoryError, match="operation 0"):
        check(find(model), sequence((input, output)))


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'nonesuch'. Known models: .*cas-register.*kv.*register"):
        find("nonesuch")


@pytest.mark.parametrize(
    ("value", "said"),
    [("linearizability.nowhere:model", "could not be made"), ("builtins:dict", "which is not a Model")],
)
def test_package_that_brings_no_model(monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    points = [EntryPoint("mine", value, models.GROUP)]
    monkeypatch.setattr(models, "entry_points", lambda group: points)
    assert "mine" in models.names()
    with pytest.raises(ModelError, match=said):
        find("mine")


def test_package_that_brings_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("mine", f"{__name__}:Tagged", models.GROUP)]
    monkeypatch.setattr(models, "entry_points", lambda group: points)
    assert type(find("mine")).__name__ == "Tagged"


class Join(NamedTuple):
    member: int


class Leave(NamedTuple):
    member: int


class Tagged(Model[bool]):
    """Its requests are equal for Python, and opposite in meaning."""

    def init(self) -> bool:
        return False

    def step(self, state: bool, input: Any, output: Any) -> Iterable[bool]:
        return (isinstance(input, Join),) if state != isinstance(input, Join) else ()


def test_requests_of_different_types_are_different() -> None:
    assert Join(1) == Leave(1)  # type: ignore[comparison-overlap]
    assert check(Tagged(), sequence((Join(1), None), (Leave(1), None), (Join(1), None))).verdict is Verdict.VALID
    assert check(Tagged(), sequence((Join(1), None), (Join(1), None))).verdict is Verdict.INVALID


def test_class_keys() -> None:
    different: list[Any] = [1, True, 1.0, "1", (1,), [1], {"a": 1}, {"a": True}, {1}, frozenset({1}), None, Join(1)]
    assert len({class_key(value) for value in different}) == len(different)
    assert class_key({"a": [1, {"b": 2}], "c": 3}) == class_key({"c": 3, "a": [1, {"b": 2}]})


class Liar(Model[int]):
    """Calls an update read-only."""

    name = "liar"

    def init(self) -> int:
        return 0

    def step(self, state: int, input: Any, output: Any) -> Iterable[int]:
        return (state + 1,)

    def is_read_only(self, input: Any) -> bool:
        return True


def test_read_only_operations_are_held_to_it() -> None:
    with pytest.raises(ModelError, match="declares 'go' read-only"):
        check(Liar(), sequence(("go", None)))


class BadPartition(Liar):
    def __init__(self, projected: list[Operation]) -> None:
        self.projected = projected

    def partition(self, operations: Sequence[Operation]) -> Mapping[Hashable, Sequence[Operation]]:
        return {"p": self.projected}


def test_partitions_are_held_to_the_indices() -> None:
    operations = sequence(("go", None))
    with pytest.raises(ModelError, match="the index 0"):
        check(BadPartition(operations * 2), operations)
    with pytest.raises(ModelError, match="operation 7 into partition 'p'"):
        check(BadPartition([replace(operations[0], index=7)]), operations)


class TwoCells(Model[Any]):
    """One operation in several partitions: a swap of two cells, seen by each as what it was and what it becomes."""

    def init(self) -> int:
        return 0

    def partition(self, operations: Sequence[Operation]) -> Mapping[Hashable, Sequence[Operation]]:
        parts: dict[Hashable, list[Operation]] = {}
        for op in operations:
            for cell, (old, new) in op.input.items():
                parts.setdefault(cell, []).append(replace(op, input=(old, new)))
        return parts

    def step(self, state: int, input: Any, output: Any) -> Iterable[int]:
        old, new = input
        return (new,) if old == state else ()


def test_one_operation_in_several_partitions() -> None:
    good = sequence(({"a": (0, 1), "b": (0, 2)}, None), ({"a": (1, 2), "b": (2, 1)}, None))
    assert check(TwoCells(), good).verdict is Verdict.VALID
    bad = sequence(({"a": (0, 1), "b": (0, 2)}, None), ({"a": (1, 2), "b": (1, 2)}, None))
    result = check(TwoCells(), bad)
    assert result.verdict is Verdict.INVALID
    assert {op.index for op in result.core} <= {0, 1}


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        ([Operation(4, 0, 0, 1, "x"), Operation(4, 1, 0, 1, "x")], "two operations have the index 4"),
        ([Operation(4, 3, 9, 8, "x")], "operation 4 of process 3 returns at 8, before its call at 9"),
        ([Operation(4, 3, 9, None, "x")], "operation 4 of process 3 is ok but has no return"),
    ],
)
def test_operations_that_cannot_be(operations: list[Operation], said: str) -> None:
    with pytest.raises(HistoryError, match=said):
        check(Tagged(), operations)
