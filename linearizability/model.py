"""Models: what a system may do, written as a sequential object.

Theory of operation
-------------------
A model answers one question: *in this state, can this request have had this reply, and what is the state afterwards?*
``step(state, input, output)`` returns the possible next states; none means that the reply is impossible here. A
deterministic model returns one state or none. Several states are native non-determinism. For the output ``UNKNOWN``
it must return the states after *every* reply that the request could have had.

States are values: hashable, compared by ``==``, never changed in place. The checker interns them and memoises steps,
so ``step`` must be a pure function of its arguments. (Python compares NamedTuples as tuples: two of different types
with equal fields are equal. The checker tells them apart in inputs and outputs, but states are compared as they are.)

*Partitions.* A history is linearizable if and only if its projection on each object is (Herlihy and Wing 1990,
locality). ``partition`` splits it into such projections, which are then much cheaper to check. One operation may be
projected into several of them, rewritten to what it says about each; every projection keeps the operation's ``index``.
It is the model's promise that the history is linearizable exactly if every partition is.

*Read-only operations* are linearised as soon as they are legal, without a branch of the search. This is right only
for those that change nothing **in any state in which they are legal**. A write of the current value is not one of
them, nor is a compare-and-set whose outcome is unknown. The checker holds a model to this promise where it can.

*Explanations.* A violation is reported as a small set of operations that cannot all be true. A model may offer an
open-world variant of itself by ``explanation_model()``: one in which any foreign update may happen between any two
operations. Then any subset of the operations is checkable by itself, and minimisation is plain removal. Its promise:
whatever this model explains, the variant explains every subset of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from linearizability.history import UNKNOWN, CheckError, Operation, Outcome

State = TypeVar("State", bound=Hashable)

WHOLE = "whole history"
"""The label of the only partition of a model that does not partition."""


class ModelError(CheckError):
    """A model that does not keep a promise of the ``Model`` interface, or that cannot be found."""


class Model(ABC, Generic[State]):
    """The base of all models. Only ``init`` and ``step`` must be given.

    ``input`` and ``output`` are whatever the operations carry. From a recorded file ``input`` is ``(f, value)``: the
    operation's name and the value of its ``invoke`` record; ``output`` is the reply (see ``formats.jsonl``). A model
    raises ``HistoryError`` for one that it cannot read.
    """

    name: str = ""

    @abstractmethod
    def init(self) -> State:
        """The state before the first operation."""

    @abstractmethod
    def step(self, state: State, input: Any, output: Any) -> Iterable[State]:
        """The states after ``input`` was answered by ``output`` in ``state``; none if that is impossible."""

    def partition(self, operations: Sequence[Operation]) -> Mapping[Hashable, Sequence[Operation]]:
        """The independent sub-histories by label; by default one with everything.

        ``operations`` are in the order of their calls and never ``fail``. A rewritten operation keeps its ``index``;
        no partition holds two of the same index.
        """
        return {WHOLE: operations}

    def is_read_only(self, input: Any) -> bool:
        """Whether this request changes nothing in any state in which it is legal, whatever the reply."""
        return False

    def describe_operation(self, operation: Operation) -> str:
        """One operation in words, as this model's ``partition`` gave it. One line."""
        if operation.output is UNKNOWN:
            said = "outcome unknown" if operation.outcome is Outcome.UNKNOWN else "reply unknown"
        else:
            said = repr(operation.output)
        return f"{operation.input!r} -> {said}"

    def describe_state(self, state: State) -> str:
        """One state in words. One line."""
        return repr(state)

    def describe_partition(self, label: Hashable) -> str:
        """The name of a partition in sentences, for example "key 'x'"."""
        return str(label)

    def explanation_model(self) -> Model[Any] | None:
        """An open-world variant (see the theory of operation), or None. It steps operations that *this* model's
        ``partition`` gave; its own ``partition`` is not called."""
        return None

    def explain(self, core: Sequence[Operation]) -> str | None:
        """Why these operations, as ``partition`` gave them, cannot all be true; in words, or None for a general
        sentence."""
        return None

    def classify(self, core: Sequence[Operation]) -> str | None:
        """The class of anomaly that these operations show, such as "stale-read"; None if it has no name."""
        return None
