"""The preparation of a search: one partition, seen return by return.

Theory of operation
-------------------
What must be explained is a sequence of *returns*: when an operation returns, it must have taken effect. The timeline
sweeps the partition once in time, calls before returns at the same instant (closed intervals: ties are concurrent),
and notes for each return which operations are open then, that is called and not returned.

*Slots.* Every operation with a return holds a slot, the lowest free one, from its call to its return. Which of the
open operations have taken effect is a bit mask over slots: as wide as the concurrency, not as long as the history.

*Expiring operations* have an unknown outcome and a return: they took effect by then, or never. At their return they
are the only ones that may be passed over.

*Unknown operations* without a return may happen at any time. They hold a bit of their own for good, apart from the
slots, and may be used at any return at or after their call, or never. Several of one class cannot be told apart, so of
those only the first that is not used is ever tried. What need not happen and only reads is dropped from the start.

*Eager operations* are those that the model declares read-only. They are not branched on: see ``search``.

``Rules`` gathers the decisions on which exactness hangs. There is one right set of them; the tests replace single
ones by plausible mistakes, to show that the comparison with brute force notices.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, NamedTuple

from linearizability.history import Operation, Outcome
from linearizability.interning import Steps
from linearizability.model import Model

CALL, RETURN = 0, 1
OPERATIONS_PER_CLOCK_READING = 256
"""Classifying an operation takes time in proportion to its size; a reading of the clock is cheap beside so many."""


class Rules:
    """The decisions on which exactness hangs."""

    def event_order(self, time: int, kind: int) -> tuple[int, int]:
        """How calls and returns are sorted: by time; at one instant calls first, so that ties are concurrent."""
        return (time, kind)

    def must_happen(self, op: Operation) -> bool:
        """Whether the operation has to take effect, when it returns at the latest."""
        return op.outcome is Outcome.OK

    def expires(self, op: Operation) -> bool:
        """Whether an operation that need not take effect can do so only until its return."""
        return op.ret is not None

    def may_be_dropped(self, model: Model[Any], op: Operation) -> bool:
        """Whether an operation that need not take effect can be left out from the start."""
        return model.is_read_only(op.input)

    def is_eager(self, model: Model[Any], op: Operation) -> bool:
        """Whether the operation is linearised as soon as it is legal, without a branch."""
        return model.is_read_only(op.input)

    def symmetry(self, class_number: int) -> int:
        """Unknown operations with the same symmetry are tried in canonical order only, the earliest call first."""
        return class_number

    def dominates(self, used: int, other: int) -> bool:
        """Whether a configuration that used these unknown operations makes one with the others superfluous."""
        return used & other == used

    def release(self, free: list[int], slot: int) -> None:
        """Give a slot back at its operation's return."""
        heapq.heappush(free, slot)


class Move(NamedTuple):
    """One operation as the search may linearise it: exactly one of the two bits is set."""

    slot_bit: int
    unknown_bit: int
    class_number: int
    number: int  # its place in ``Timeline.operations``


class Timeline:
    """One partition, prepared. Lists indexed by return have one entry per operation that returns, in that order.

    ``returning``   the operation that returns
    ``return_bit``  its slot
    ``expiring``    whether it may be passed over, because it need not have happened
    ``open_moves``  the open operations that the search branches on, in the order of their calls
    ``open_eager``  the open operations that are eager
    ``callable``    the unknown operations that had been called by then, as a mask of unknown bits
    ``unknown``     the moves of unknown operations, in the order of their calls: entry *i* has unknown bit ``1 << i``
    ``alike``       for each of them the mask of the interchangeable ones, itself included
    ``width``       how many slots there are
    """

    def __init__(self, model: Model[Any], operations: Sequence[Operation], steps: Steps, rules: Rules) -> None:
        self.operations = tuple(operations)
        self.returning: list[Operation] = []
        self.return_bit: list[int] = []
        self.expiring: list[bool] = []
        self.open_moves: list[tuple[Move, ...]] = []
        self.open_eager: list[tuple[Move, ...]] = []
        self.callable: list[int] = []
        self.unknown: list[Move] = []
        self.alike: list[int] = []
        self.width = 0
        self._sweep(model, steps, rules)
        group: dict[int, int] = {}
        for move in self.unknown:
            symmetry = rules.symmetry(move.class_number)
            group[symmetry] = group.get(symmetry, 0) | move.unknown_bit
        self.alike.extend(group[rules.symmetry(move.class_number)] for move in self.unknown)

    def _sweep(self, model: Model[Any], steps: Steps, rules: Rules) -> None:
        events: list[tuple[tuple[int, int], int, int]] = []
        for number, op in enumerate(self.operations):
            must_happen = rules.must_happen(op)
            if not must_happen and rules.may_be_dropped(model, op):
                continue
            if must_happen or rules.expires(op):
                ret = op.ret if op.ret is not None else max(o.ret or o.call for o in self.operations)
                events.append((rules.event_order(op.call, CALL), number, CALL))
                events.append((rules.event_order(ret, RETURN), number, RETURN))
            else:
                events.append((rules.event_order(op.call, CALL), number, CALL))
        events.sort()

        free: list[int] = []
        slot_of: dict[int, int] = {}
        branching: dict[int, Move] = {}  # open operations by number; insertion order is the order of calls
        eager: dict[int, Move] = {}
        called = 0
        for done, (_, number, kind) in enumerate(events):
            if done % OPERATIONS_PER_CLOCK_READING == 0:
                steps.tick()
            op = self.operations[number]
            if kind == CALL:
                class_number = steps.class_of(op)
                if not rules.must_happen(op) and not rules.expires(op):
                    bit = 1 << len(self.unknown)
                    self.unknown.append(Move(0, bit, class_number, number))
                    called |= bit
                    continue
                if free:
                    slot = heapq.heappop(free)
                else:
                    slot = self.width
                    self.width += 1
                slot_of[number] = slot
                (eager if rules.is_eager(model, op) else branching)[number] = Move(1 << slot, 0, class_number, number)
                continue
            self.returning.append(op)
            self.return_bit.append(1 << slot_of[number])
            self.expiring.append(not rules.must_happen(op))
            self.open_moves.append(tuple(branching.values()))
            self.open_eager.append(tuple(eager.values()))
            self.callable.append(called)
            branching.pop(number, None)
            eager.pop(number, None)
            rules.release(free, slot_of.pop(number))
