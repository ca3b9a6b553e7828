"""A register with compare-and-set.

Theory of operation
-------------------
To ``register`` this adds ``("cas", (old, new))``: set to ``new`` if the value is ``old``. Its output says what
happened: ``MISMATCH`` means that the value was certainly another one and nothing changed, ``UNKNOWN`` that either may
be true, everything else that the value was set. (A ``fail`` in a history is not a mismatch: it says that the operation
did not happen at all, so that it tells nothing about the value.)

A compare-and-set that reported a mismatch only reads, but its request alone does not tell. So ``partition`` rewrites
it to the request ``("mismatch", old)``, which is read-only in every state in which it is legal.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from linearizability.history import UNKNOWN, HistoryError, Operation
from linearizability.model import WHOLE
from linearizability.models.register import Register, as_value, request

MISMATCH = "mismatch"
"""The output of a compare-and-set that found another value."""


class CasRegister(Register):
    name = "cas-register"

    def operations(self) -> tuple[str, ...]:
        return ("read", "write", "cas", "mismatch")

    def partition(self, operations: Sequence[Operation]) -> Mapping[Hashable, Sequence[Operation]]:
        return {WHOLE: [self._rewritten(op) for op in operations]}

    def _rewritten(self, op: Operation) -> Operation:
        f, value = request(op.input, self.operations(), op.index)
        if f != "cas":
            return op
        old, _ = pair(value, op.index)
        return replace(op, input=("mismatch", old), output=None) if op.output == MISMATCH else op

    def step(self, state: Hashable, input: Any, output: Any) -> Iterable[Hashable]:
        f, value = request(input, self.operations())
        if f == "mismatch":
            return (state,) if as_value(value) != state else ()
        if f != "cas":
            return super().step(state, input, output)
        old, new = pair(value)
        matches = as_value(old) == state
        if output == MISMATCH:
            return () if matches else (state,)
        if output is UNKNOWN:
            return (as_value(new),) if matches else (state,)
        return (as_value(new),) if matches else ()

    def is_read_only(self, input: Any) -> bool:
        return input[0] in ("read", "mismatch")

    def describe_operation(self, operation: Operation) -> str:
        f, value = request(operation.input, self.operations())
        if f == "mismatch":
            return f"compare-and-set found another value than {value!r}"
        if f != "cas":
            return super().describe_operation(operation)
        old, new = pair(value)
        if operation.output == MISMATCH:
            return f"compare-and-set found another value than {old!r}"
        return f"set {old!r} to {new!r}" + (", perhaps" if operation.output is UNKNOWN else "")


def pair(value: Any, index: int | None = None) -> tuple[Any, Any]:
    """The (old, new) of a compare-and-set. Raises ``HistoryError`` if it is no pair."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        where = "" if index is None else f"operation {index}: "
        raise HistoryError(f"{where}a cas has the value {value!r}", advice="Give it the pair [old, new]")
    old, new = value
    return old, new
