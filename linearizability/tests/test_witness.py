"""An order that explains nothing is refused, whoever found it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from linearizability import Model, Operation, Outcome, Verdict, check
from linearizability.history import UNKNOWN
from linearizability.models import find
from linearizability.witness import objection

WRITE = Operation(0, 0, 0, 5, ("write", 1), None)
READ = Operation(1, 1, 6, 7, ("read", None), 1)
PERHAPS = Operation(2, 2, 8, None, ("write", 2), UNKNOWN, Outcome.UNKNOWN)
HISTORY = [WRITE, READ, PERHAPS]


def said(order: list[Operation]) -> str | None:
    return objection(find("register"), HISTORY, order, lambda: None)


def test_right_orders() -> None:
    assert said([WRITE, READ]) is None
    assert said([WRITE, READ, PERHAPS]) is None


def test_wrong_orders() -> None:
    assert said([WRITE, READ, READ]) == "an operation takes effect twice"
    assert said([WRITE, READ, Operation(9, 0, 0, 1, ("read", None), 1)]) == (
        "an operation takes effect that is not in the history"
    )
    assert said([WRITE]) == "operation 1 is ok but never takes effect"
    assert said([READ, WRITE]) == "operation 1 takes effect before one that had returned when it was called"
    assert said([WRITE, PERHAPS, READ]) == "operation 2 takes effect before one that had returned when it was called"


def test_order_that_the_model_does_not_allow() -> None:
    wrong = Operation(1, 1, 6, 7, ("read", None), 2)
    assert objection(find("register"), [WRITE, wrong], [WRITE, wrong], lambda: None) == (
        "the model does not allow operation 1 in its place"
    )


class Moody(Model[int]):
    """Not a function: says yes to the search and no to the replay."""

    def __init__(self) -> None:
        self.calls = count()

    def init(self) -> int:
        return 0

    def step(self, state: int, input: Any, output: Any) -> Iterable[int]:
        return (state,) if next(self.calls) == 0 else ()


def test_no_valid_verdict_without_a_replay_that_succeeds() -> None:
    result = check(Moody(), [WRITE])
    assert result.verdict is Verdict.UNKNOWN
    assert "did not stand up to its replay" in result.progress
