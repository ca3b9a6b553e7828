"""The definition of linearizability, tried in every order: slow, and with nothing clever in it.

One state of the whole service, ``spec.chat.apply`` for every step, no projections and no evidence. An operation of
unknown outcome is tried with every id that occurs anywhere in the history, and with none in particular; it may also
never happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.tests.chat_histories import is_query, unwire_command, wire_reply
from linearizability import Operation
from spec import chat as spec


def is_linearizable(operations: Sequence[Operation]) -> bool:
    """Whether some order explains all replies. For a dozen operations at most."""
    ops = [op for op in operations if op.ret is not None or not is_query(unwire_command(op.input))]
    commands = [unwire_command(op.input) for op in ops]
    must = sum(1 << i for i, op in enumerate(ops) if op.ret is not None)
    before = [sum(1 << j for j, other in enumerate(ops) if other.ret is not None and other.ret < op.call) for op in ops]
    ids = (0, *sorted(_ids(operations)))
    seen: set[tuple[int, spec.State]] = set()
    stack = [(0, spec.initial())]
    while stack:
        done, state = stack.pop()
        if done & must == must:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        for i, op in enumerate(ops):
            if done >> i & 1 or before[i] & ~done:
                continue
            for stamp in _stamps(op, ids):
                command = commands[i]
                if not is_query(command):
                    command = command._replace(proposed_id=stamp)  # type: ignore[call-arg]
                after, reply = spec.apply(state, command)
                if op.ret is None or wire_reply(reply) == op.output:
                    stack.append((done | 1 << i, after))
    return False


def _stamps(op: Operation, ids: tuple[int, ...]) -> tuple[int, ...]:
    if op.ret is None:
        return ids
    for key in ("message_id", "user_id", "chat_id"):
        if key in op.output:
            return (int(op.output[key]),)
    return (0,)


def _ids(operations: Sequence[Operation]) -> set[int]:
    found: set[int] = set()

    def look(value: Any, key: str = "") -> None:
        if isinstance(value, dict):
            for k, v in value.items():
                look(v, k)
        elif isinstance(value, list | tuple):
            for v in value:
                look(v, key)
        elif key in ("actor", "chat", "message_id", "user_id", "user_ids", "chat_id", "author"):
            found.add(int(value))

    for op in operations:
        look(op.input[1])
        if op.ret is not None:
            look(op.output)
    return found
