"""A key-value store of strings: get, put and append, key by key.

Theory of operation
-------------------
Inputs are ``("get", key)``, ``("put", (key, value))`` and ``("append", (key, value))``; a get's output is the value,
the outputs of the others are not looked at. A key that was never written holds the empty string. JSON may also spell
the value as an object: ``{"key": ..., "value": ...}``. Keys are independent of each other, so each is a partition, and
the operations in it are rewritten to ``("get", None)``, ``("put", value)`` and ``("append", value)``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from linearizability.history import UNKNOWN, HistoryError, Operation, Outcome
from linearizability.interning import class_key
from linearizability.model import Model
from linearizability.models.register import request

KNOWN = ("get", "put", "append")

SHOWN_CHARACTERS = 40
"""Longer values are shown by their end, where appends differ."""


class KeyValue(Model[str]):
    name = "kv"

    def init(self) -> str:
        return ""

    def step(self, state: str, input: Any, output: Any) -> Iterable[str]:
        f, value = input
        if f == "get":
            return (state,) if output is UNKNOWN or output == state else ()
        return (state + value,) if f == "append" else (value,)

    def partition(self, operations: Sequence[Operation]) -> Mapping[Hashable, Sequence[Operation]]:
        parts: dict[Hashable, list[Operation]] = {}
        keys: dict[Hashable, Any] = {}
        for op in operations:
            f, value = request(op.input, KNOWN, op.index)
            key, value = _key_and_value(f, value, op.index)
            if f == "get" and op.output is not UNKNOWN and not isinstance(op.output, str):
                raise HistoryError(
                    f"operation {op.index} got {op.output!r}", advice="Values are strings, empty for a missing key"
                )
            same = class_key(key)
            label = keys.setdefault(same, key if isinstance(key, str | int) else same)
            parts.setdefault(label, []).append(replace(op, input=(f, value)))
        return parts

    def is_read_only(self, input: Any) -> bool:
        return bool(input[0] == "get")

    def describe_operation(self, operation: Operation) -> str:
        f, value = operation.input
        if f == "get":
            return "get, reply unknown" if operation.output is UNKNOWN else f"get {_shown(operation.output)}"
        return f"{f} {_shown(value)}" + (", perhaps" if operation.outcome is Outcome.UNKNOWN else "")

    def describe_state(self, state: str) -> str:
        return _shown(state)

    def describe_partition(self, label: Hashable) -> str:
        return f"key {label!r}"


def _key_and_value(f: str, value: Any, index: int) -> tuple[Any, str | None]:
    if isinstance(value, dict) and "key" in value:
        key, written = value["key"], value.get("value")
    elif f == "get":
        key, written = value, None
    elif isinstance(value, tuple | list) and len(value) == 2:
        key, written = value
    else:
        raise HistoryError(f"operation {index}: {f} has the value {value!r}", advice='Give {"key": ..., "value": ...}')
    if f == "get":
        return key, None
    if not isinstance(written, str):
        raise HistoryError(f"operation {index}: {f} of key {key!r} writes {written!r}", advice="Values are strings")
    return key, written


def _shown(value: str) -> str:
    return repr(value) if len(value) <= SHOWN_CHARACTERS else "..." + repr(value[-SHOWN_CHARACTERS:])
