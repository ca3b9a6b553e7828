"""Small integers for states and for operations: what the search compares instead of values.

Theory of operation
-------------------
The search visits the same state and asks for the same step very many times. Every distinct state gets a number when
it first appears, every distinct (input, output) a *class*, and the answer of ``model.step`` for a pair of numbers is
kept: a step then costs one look-up in a dictionary.

Two operations are of one class only if no model can tell them apart. Plain equality will not do: Python holds 1, 1.0
and True for equal, and two NamedTuples of different types with equal fields too. ``class_key`` therefore spells the
types out. Lists and dictionaries, as JSON has them, are spelled out by value; an object that cannot be hashed is a
class of its own.

All calls of the model's ``step`` come through here, so this is also where the clock is looked at: before each call,
and after each state that it yields, so that a model that yields many cannot overrun the deadline unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from linearizability.history import Operation
from linearizability.model import Model, ModelError


def class_key(value: Any) -> Hashable:
    """A hashable stand-in for ``value``: equal for two values only if they have equal types and contents throughout.

    Takes time and space in proportion to the size of ``value``, whose depth is bounded by Python's recursion limit.
    """
    kind = type(value)
    if kind is str or kind is int or value is None:
        return (kind, value)
    if isinstance(value, tuple | list):
        return (kind, *(class_key(v) for v in value))
    if isinstance(value, dict):
        return (kind, frozenset((class_key(k), class_key(v)) for k, v in value.items()))
    if isinstance(value, set | frozenset):
        return (kind, frozenset(class_key(v) for v in value))
    try:
        hash(value)
    except TypeError:
        return (kind, id(value))
    return (kind, value)


class Steps:
    """The states and operation classes of one partition, by number, and the steps between them, memoised.

    ``table[class][state]`` is the tuple of the next states; where it has no entry yet, ``compute`` fills it in.
    ``tick`` is called before each call of the model and after each state that it yields; it may raise to end the
    search.
    """

    def __init__(self, model: Model[Any], tick: Callable[[], None]) -> None:
        self.model = model
        self.tick = tick
        self.states: list[Hashable] = []
        self.table: list[dict[int, tuple[int, ...]]] = []
        self._number_of_state: dict[Hashable, int] = {}
        self._number_of_class: dict[Hashable, int] = {}
        self._request: list[tuple[Any, Any]] = []
        self._read_only: list[bool] = []

    def initial(self) -> int:
        """The number of the model's initial state."""
        return self.number(self.model.init())

    def number(self, state: Hashable) -> int:
        """The number of this state, a new one if it was never seen."""
        found = self._number_of_state.get(state)
        if found is None:
            found = self._number_of_state[state] = len(self.states)
            self.states.append(state)
        return found

    def class_of(self, op: Operation) -> int:
        """The class of this operation. Those that only read are held to their promise at every step."""
        key = self.key_of(op)
        found = self._number_of_class.get(key)
        if found is None:
            found = self._number_of_class[key] = len(self.table)
            self.table.append({})
            self._request.append((op.input, op.output))
            self._read_only.append(self.model.is_read_only(op.input))
        return found

    def key_of(self, op: Operation) -> Hashable:
        """What makes two operations of one class."""
        return (class_key(op.input), class_key(op.output))

    def compute(self, class_number: int, state_number: int) -> tuple[int, ...]:
        """Ask the model for one step and keep the answer.

        Raises ``ModelError`` if an operation that the model declares read-only changes the state.
        """
        self.tick()
        input, output = self._request[class_number]
        state = self.states[state_number]
        nexts: list[int] = []
        for successor in self.model.step(state, input, output):
            number = self.number(successor)
            if number not in nexts:
                nexts.append(number)
            self.tick()
        if self._read_only[class_number] and nexts and nexts != [state_number]:
            raise ModelError(
                f"model {self.model.name!r} declares {input!r} read-only, but with the output {output!r} it leads from "
                f"{self.model.describe_state(state)} to another state. Let is_read_only return False for it"
            )
        answer = self.table[class_number][state_number] = tuple(nexts)
        return answer
