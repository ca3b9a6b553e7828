"""The model: what the checker calls.

Theory of operation
-------------------
Inputs of partitions are ``Request`` and ``Existence`` (steps of the specification on one log) or ``Assertion`` (one
member of a contradiction, judged in the open world). All partitions begin in the same state; an assertion takes it
for the empty open world.

The open-world variant for explanations judges assertions in the same way, and lets every request pass: of those
partitions, in which no rule found a contradiction, the checker makes a core by relaxing operations one by one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from harness.chat_model import explanation
from harness.chat_model.assertions import Assertion, World
from harness.chat_model.projection import partitions
from harness.chat_model.sequential import START, Apply, Existence, LogState, Request, step
from linearizability import Model, Operation
from spec import chat as spec

State: TypeAlias = LogState | World


class ChatModel(Model[State]):
    """``spec.chat`` for the checker. ``apply`` is the specification; tests put faulty ones in its place."""

    name = "chat"

    def __init__(self, apply: Apply = spec.apply) -> None:
        self.apply = apply

    def init(self) -> State:
        return START

    def step(self, state: State, input: Any, output: Any) -> Iterable[State]:
        if isinstance(input, Assertion):
            return input.step(state if isinstance(state, World) else World())
        assert isinstance(state, LogState)
        if isinstance(input, Existence):
            return input.step(state)
        assert isinstance(input, Request)
        return step(input, state, output, self.apply)

    def partition(self, operations: Sequence[Operation]) -> Mapping[Hashable, Sequence[Operation]]:
        """One partition for each log, and one for a contradiction. Raises ``HistoryError`` for damaged operations."""
        return partitions(operations)

    def is_read_only(self, input: Any) -> bool:
        return isinstance(input, Existence) or (isinstance(input, Request) and input.changes_nothing)

    def describe_operation(self, operation: Operation) -> str:
        return explanation.describe(operation)

    def describe_state(self, state: State) -> str:
        if isinstance(state, World):
            return f"a log of {state.length} entries"
        if not state.spec.chats:
            return f"{state.length} users" if state.length else "nothing"
        chat = state.spec.chats[0]
        return f"chat {chat.chat_id} with {chat.as_of} messages and the members {sorted(chat.members)}"

    def explanation_model(self) -> OpenWorld:
        return OpenWorld()

    def explain(self, core: Sequence[Operation]) -> str | None:
        return explanation.reason(core)

    def classify(self, core: Sequence[Operation]) -> str | None:
        return explanation.anomaly(core)


class OpenWorld(Model[World]):
    """The open-world variant: between any two operations, anybody may have done anything."""

    name = "chat, open world"

    def init(self) -> World:
        return World()

    def step(self, state: World, input: Any, output: Any) -> Iterable[World]:
        return input.step(state) if isinstance(input, Assertion) else (state,)

    def is_read_only(self, input: Any) -> bool:
        return not isinstance(input, Assertion)

    def describe_operation(self, operation: Operation) -> str:
        return explanation.describe(operation)
