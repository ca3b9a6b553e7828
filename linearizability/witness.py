"""Replay of an order: the proof that a history is valid, checked by other means than the search that found it.

Theory of operation
-------------------
A search that has a mistake may report an order that is none. So no order is believed: it is replayed, with the
model's own ``step`` and with the operations' own instants, without slots, numbers, memory or eagerness. What is
checked is the definition of linearizability: every operation that is ok is there once, no other twice, no
operation comes after one that was called only after it had returned, and the model allows every reply in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from linearizability.history import Operation, Outcome
from linearizability.model import Model


def objection(
    model: Model[Any], operations: Sequence[Operation], order: Sequence[Operation], tick: Callable[[], None]
) -> str | None:
    """What is wrong with ``order`` as an explanation of ``operations``, in words; None if nothing is.

    ``tick`` is called before each step and may raise to end the replay.
    """
    placed = {op.index for op in order}
    if len(placed) != len(order):
        return "an operation takes effect twice"
    known = {op.index for op in operations}
    if not placed <= known:
        return "an operation takes effect that is not in the history"
    for op in operations:
        if op.outcome is Outcome.OK and op.index not in placed:
            return f"operation {op.index} is ok but never takes effect"

    earliest_return_after: int | None = None
    for op in reversed(order):
        if earliest_return_after is not None and earliest_return_after < op.call:
            return f"operation {op.index} takes effect before one that had returned when it was called"
        if op.ret is not None and (earliest_return_after is None or op.ret < earliest_return_after):
            earliest_return_after = op.ret

    states = [model.init()]
    for op in order:
        tick()
        states = list(dict.fromkeys(after for state in states for after in model.step(state, op.input, op.output)))
        if not states:
            return f"the model does not allow operation {op.index} in its place"
    return None
