"""Who checks the checker? Plausible mistakes are planted in the search, and the comparison with brute force finds each.

Every fault below is one that a checker has had, or could easily have. A fault that no history of the comparison shows
would mean that the comparison is blind there.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import pytest

from linearizability.history import Operation, Outcome
from linearizability.interning import Steps, class_key
from linearizability.limits import Limits
from linearizability.model import Model
from linearizability.search import Search
from linearizability.tests.brute_force import explainable
from linearizability.tests.histories import SUBJECTS, draw
from linearizability.timeline import CALL, RETURN, Move, Rules, Timeline
from linearizability.verdict import Verdict

HISTORIES = 3_000
"""Per model. Most faults show within a few dozen."""

ENOUGH_MOVES = 1 << 40


class TiesPrecede(Rules):
    """An operation that returns at the instant at which another is called is held to precede it."""

    def event_order(self, time: int, kind: int) -> tuple[int, int]:
        return (time, CALL if kind == RETURN else RETURN)


class NeighboursAreConcurrent(Rules):
    """An operation that returned just before another was called is held to be concurrent with it."""

    def event_order(self, time: int, kind: int) -> tuple[int, int]:
        return (time + 1 if kind == RETURN else time, kind)


class UnknownMustHappen(Rules):
    def must_happen(self, op: Operation) -> bool:
        return True


class UnknownNeverHappens(Rules):
    def may_be_dropped(self, model: Model[Any], op: Operation) -> bool:
        return True


class NothingExpires(Rules):
    """An operation that took effect by some instant or never is held to be possible later too."""

    def expires(self, op: Operation) -> bool:
        return False


class EverythingIsReadOnly(Rules):
    def is_eager(self, model: Model[Any], op: Operation) -> bool:
        return True


class DominanceReversed(Rules):
    def dominates(self, used: int, other: int) -> bool:
        return used & other == other


class EverythingDominates(Rules):
    """The used unknown operations are left out of the memory."""

    def dominates(self, used: int, other: int) -> bool:
        return True


class AllUnknownAreAlike(Rules):
    def symmetry(self, class_number: int) -> int:
        return 0


class SlotsAreGivenTwice(Rules):
    def release(self, free: list[int], slot: int) -> None:
        heapq.heappush(free, slot)
        heapq.heappush(free, slot)


class EagerWhereNothingChangesHere(Timeline):
    """Every operation is offered for eager linearisation; see the search of the same fault."""

    def __init__(self, model: Model[Any], operations: Sequence[Operation], steps: Steps, rules: Rules) -> None:
        super().__init__(model, operations, steps, rules)
        self.open_eager = [(*e, *m) for e, m in zip(self.open_eager, self.open_moves, strict=True)]


class SearchEagerWhereNothingChangesHere(Search):
    """Operations that change nothing *in this state* are linearised at once, though they might elsewhere."""

    timeline_type = EagerWhereNothingChangesHere

    def _legal_eager(self, position: int, state: int) -> int:
        legal = 0
        for move in self.timeline.open_eager[position]:
            if self.steps.compute(move.class_number, state) == (state,):
                legal |= move.slot_bit
        self._legal[position][state] = legal
        return legal


class ForgetsTheState(Search):
    """Configurations are remembered without their state."""

    def _is_seen(self, position: int, key: int, used: int) -> bool:
        return super()._is_seen(position, key & (1 << self.timeline.width) - 1, used)


class ForgetsTheMask(Search):
    """Configurations are remembered without what has taken effect."""

    def _is_seen(self, position: int, key: int, used: int) -> bool:
        return super()._is_seen(position, key >> self.timeline.width, used)


class StepsThatIgnoreReplies(Steps):
    def key_of(self, op: Operation) -> Hashable:
        return class_key(op.input)


class OneClassPerRequest(Search):
    """Operations with the same request and different replies are taken for the same."""

    steps_type = StepsThatIgnoreReplies


class StepsThatChoose(Steps):
    def compute(self, class_number: int, state_number: int) -> tuple[int, ...]:
        answer = self.table[class_number][state_number] = super().compute(class_number, state_number)[:1]
        return answer


class OneSuccessorOnly(Search):
    """Of several states that the model allows only the first is followed."""

    steps_type = StepsThatChoose


class EverythingIsCallable(Timeline):
    def __init__(self, model: Model[Any], operations: Sequence[Operation], steps: Steps, rules: Rules) -> None:
        super().__init__(model, operations, steps, rules)
        self.callable = [(1 << len(self.unknown)) - 1 for _ in self.callable]


class UnknownBeforeTheirCall(Search):
    """Unknown operations may take effect before they are called."""

    timeline_type = EverythingIsCallable


class EverythingIsExpiring(Timeline):
    def __init__(self, model: Model[Any], operations: Sequence[Operation], steps: Steps, rules: Rules) -> None:
        super().__init__(model, operations, steps, rules)
        self.expiring = [True for _ in self.expiring]


class CertainMayBePassedOver(Search):
    """An operation that certainly happened may be left out."""

    timeline_type = EverythingIsExpiring


class NothingIsExpiring(Timeline):
    def __init__(self, model: Model[Any], operations: Sequence[Operation], steps: Steps, rules: Rules) -> None:
        super().__init__(model, operations, steps, rules)
        self.expiring = [False for _ in self.expiring]


class ExpiringMustHappen(Search):
    """An operation of unknown outcome with a return must have happened by then."""

    timeline_type = NothingIsExpiring


class OnlyTheReturning(Timeline):
    def __init__(self, model: Model[Any], operations: Sequence[Operation], steps: Steps, rules: Rules) -> None:
        super().__init__(model, operations, steps, rules)
        self.open_moves = [
            tuple(m for m in moves if m.slot_bit == bit)
            for moves, bit in zip(self.open_moves, self.return_bit, strict=True)
        ]


class OrderOfReturns(Search):
    """Operations take effect in the order of their returns."""

    timeline_type = OnlyTheReturning


class NewestUnknownOnly(Search):
    """Of unknown operations that are alike the last is tried and then all are held to be spent."""

    def _canonical(self, spare: int, used: int) -> list[Move]:
        return [] if used else super()._canonical(spare, used)


class Fault(NamedTuple):
    search: type[Search] = Search
    rules: Rules = Rules()


FAULTS: dict[str, Fault] = {
    "ties precede": Fault(rules=TiesPrecede()),
    "neighbours are concurrent": Fault(rules=NeighboursAreConcurrent()),
    "unknown operations must happen": Fault(rules=UnknownMustHappen()),
    "unknown operations never happen": Fault(rules=UnknownNeverHappens()),
    "nothing expires": Fault(rules=NothingExpires()),
    "what expires must happen": Fault(ExpiringMustHappen),
    "everything is read-only": Fault(rules=EverythingIsReadOnly()),
    "eager where nothing changes here": Fault(SearchEagerWhereNothingChangesHere),
    "dominance reversed": Fault(rules=DominanceReversed()),
    "everything dominates": Fault(rules=EverythingDominates()),
    "all unknown operations are alike": Fault(rules=AllUnknownAreAlike()),
    "one unknown operation at most": Fault(NewestUnknownOnly),
    "unknown operations before their call": Fault(UnknownBeforeTheirCall),
    "slots are given twice": Fault(rules=SlotsAreGivenTwice()),
    "the memory forgets the state": Fault(ForgetsTheState),
    "the memory forgets the mask": Fault(ForgetsTheMask),
    "replies are ignored": Fault(OneClassPerRequest),
    "one successor only": Fault(OneSuccessorOnly),
    "certain operations may be passed over": Fault(CertainMayBePassedOver),
    "effects in the order of returns": Fault(OrderOfReturns),
}


def disagreements(fault: Fault, most: int) -> Iterable[str]:
    """Histories on which the search with this fault and brute force differ. Where it breaks down, nothing is learnt."""
    for seed in range(most):
        for name, subject in SUBJECTS.items():
            model = subject.model()
            for label, part in model.partition(draw(random.Random(f"{name} {seed}"), subject)).items():
                if not any(op.outcome is Outcome.OK for op in part):
                    continue
                try:
                    search = fault.search(model, part, Limits(time.monotonic), fault.rules)
                    search.run(ENOUGH_MOVES)
                    found = search.verdict is Verdict.VALID
                except (KeyError, IndexError):
                    continue
                if found != explainable(model, part):
                    yield f"{name} {seed} {label}: says {search.verdict}"


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(fault: str) -> None:
    assert next(iter(disagreements(FAULTS[fault], HISTORIES)), None) is not None


def test_without_a_fault_nothing_is_found() -> None:
    assert next(iter(disagreements(Fault(), 300)), None) is None
