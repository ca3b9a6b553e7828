"""A register: one value that can be read and written.

Theory of operation
-------------------
Inputs are ``("read", anything)`` and ``("write", value)``; a read's output is the value, a write's output is not
looked at. The register starts as None ("nil"). Values are whatever JSON has; numbers are compared by value, lists
and objects by content, and true is not 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from linearizability.history import UNKNOWN, HistoryError, Operation, Outcome
from linearizability.interning import class_key
from linearizability.model import WHOLE, Model


def as_value(value: Any) -> Hashable:
    """A register's value as a state: itself, or a stand-in where Python cannot hash it or equates too much."""
    return class_key(value) if isinstance(value, list | dict | bool) else value


class Register(Model[Hashable]):
    name = "register"

    def init(self) -> Hashable:
        return None

    def partition(self, operations: Sequence[Operation]) -> Mapping[Hashable, Sequence[Operation]]:
        for op in operations:
            request(op.input, self.operations(), op.index)
        return {WHOLE: operations}

    def step(self, state: Hashable, input: Any, output: Any) -> Iterable[Hashable]:
        f, value = request(input, self.operations())
        if f == "write":
            return (as_value(value),)
        return (state,) if output is UNKNOWN or as_value(output) == state else ()

    def operations(self) -> tuple[str, ...]:
        """The operations that this model knows by name."""
        return ("read", "write")

    def is_read_only(self, input: Any) -> bool:
        return bool(input[0] == "read")

    def describe_operation(self, operation: Operation) -> str:
        f, value = request(operation.input, self.operations())
        unknown = operation.output is UNKNOWN
        if f == "read":
            return "read, reply unknown" if unknown else f"read {operation.output!r}"
        return f"write {value!r}" + (", perhaps" if operation.outcome is Outcome.UNKNOWN else "")


def request(input: Any, known: tuple[str, ...], index: int | None = None) -> tuple[str, Any]:
    """An input taken apart. Raises ``HistoryError`` for one that is none of the known operations."""
    if not isinstance(input, tuple) or len(input) != 2 or input[0] not in known:
        shown = input[0] if isinstance(input, tuple) and input else input
        where = "" if index is None else f"operation {index}: "
        raise HistoryError(
            f"{where}{shown!r} means nothing to this model",
            advice=f"It knows {', '.join(known)}. If the history was recorded for another model, name that one",
        )
    return input
