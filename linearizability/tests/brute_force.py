"""The definition of linearizability, tried out: the oracle of the tests.

Every subset of the operations that need not have happened, every order of what is left that respects the clock, every
choice of the model. No cleverness, so that it can be read against the definition; for a handful of operations only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from linearizability.history import Operation, Outcome
from linearizability.model import Model


def explainable(model: Model[Any], operations: Sequence[Operation]) -> bool:
    """Whether some order of the certain and some of the uncertain operations is allowed by the model and the clock."""
    certain = [op for op in operations if op.outcome is Outcome.OK]
    uncertain = [op for op in operations if op.outcome is Outcome.UNKNOWN]
    for count in range(len(uncertain) + 1):
        for happened in combinations(uncertain, count):
            if _some_order(model, model.init(), [*certain, *happened]):
                return True
    return False


def _some_order(model: Model[Any], state: Any, left: list[Operation]) -> bool:
    if not left:
        return True
    for op in left:
        if any(other.ret is not None and other.ret < op.call for other in left):
            continue
        rest = [other for other in left if other is not op]
        if any(_some_order(model, after, rest) for after in model.step(state, op.input, op.output)):
            return True
    return False


def all_partitions_explainable(model: Model[Any], operations: Sequence[Operation]) -> bool:
    return all(explainable(model, part) for part in model.partition(operations).values())
