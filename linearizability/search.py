"""The exact general search: is there an order of these operations that the model allows?

Theory of operation
-------------------
A *configuration* is what matters of a partial order of the operations: how many returns are explained, which of the
open operations have already taken effect (a mask over slots, see ``timeline``), the state they led to, and which
operations of unknown outcome were used. The search walks the graph of configurations depth first, with a stack of
its own:

* **Settle.** Operations that only read are linearised as soon as they are legal: delaying one never helps, because it
  changes nothing. If the operation that returns next has taken effect, that return is explained, its slot is free
  again, and the next return is looked at. When no return is left, the history is explained: unknown operations that
  were not used need never have happened.
* **Branch.** Otherwise something has to happen before that return: one of the open operations takes effect, tried in
  the order of the calls, then one of the unknown ones. Nothing is linearised before a return demands it (Lowe 2017,
  just-in-time linearisation), so the configurations of one return are few.
  An operation that expires may also be passed over at its return, as if it had never been called.
* **Remember.** A configuration seen before is not entered again (Wing and Gong 1993 with Lowe's memory). One that has
  used a superset of the unknown operations of another, all else being equal, has strictly fewer ways on: it is
  *dominated* and dropped.

The search is exhaustive, so if it ends without explaining all returns there is no such order, and the furthest return
that it reached and could not explain is the earliest at which the recorded history had ceased to be linearizable.

Why depth first: a history that is linearizable is nearly always explained by taking operations in the order of their
calls, so the first descent finds it and leaves most configurations unvisited. If there is none, both orders visit the
same set.

``run`` works for a number of moves and comes back, so that several partitions can be searched in turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from linearizability.history import Operation
from linearizability.interning import Steps
from linearizability.limits import Limits
from linearizability.model import Model
from linearizability.timeline import Move, Rules, Timeline
from linearizability.verdict import Verdict

Trail: TypeAlias = "tuple[Trail | None, int | tuple[int, int]]"
"""What was linearised last, linked to what was before: the number of an operation, or a return and the mask of the
eager operations that were linearised at it."""

RIGHT = Rules()


class _Frame:
    """One configuration on the stack, and the moves from it that are still to be tried."""

    __slots__ = ("mask", "may_pass", "moves", "position", "state", "trail", "tried_unknown", "used")

    def __init__(
        self,
        position: int,
        mask: int,
        state: int,
        used: int,
        trail: Trail | None,
        moves: Iterator[Move],
        may_pass: bool,
    ) -> None:
        self.position = position
        self.mask = mask
        self.state = state
        self.used = used
        self.trail = trail
        self.moves = moves
        self.may_pass = may_pass
        self.tried_unknown = False


class Search:
    """The search of one partition.

    ``verdict`` is ``unknown`` until ``run`` has come to an end. ``explained`` is how many returns some order explains.
    The two types are replaced by tests only, as ``rules`` are.
    """

    steps_type: type[Steps] = Steps
    timeline_type: type[Timeline] = Timeline

    def __init__(
        self, model: Model[Any], operations: Sequence[Operation], limits: Limits, rules: Rules = RIGHT
    ) -> None:
        """Prepares the timeline. Raises ``Exhausted`` if the deadline comes meanwhile."""
        self.limits = limits
        self.rules = rules
        self.steps = self.steps_type(model, limits.tick)
        self.timeline = self.timeline_type(model, operations, self.steps, rules)
        self.verdict = Verdict.UNKNOWN
        self.explained = 0
        self.configurations = 0
        self._last: Trail | None = None
        self._stack: list[_Frame] = []
        self._seen: list[dict[int, int | list[int]]] = [{} for _ in self.timeline.returning]
        self._legal: list[dict[int, int]] = [{} for _ in self.timeline.returning]
        self._enter(0, 0, self.steps.initial(), 0, None)

    # --- results ---------------------------------------------------------------------------------------------------

    @property
    def events(self) -> int:
        """How many returns there are to explain."""
        return len(self.timeline.returning)

    @property
    def offending(self) -> Operation | None:
        """The operation whose return is the first that no order found so far explains."""
        return self.timeline.returning[self.explained] if self.explained < self.events else None

    def order(self) -> list[Operation]:
        """The order that explains everything. Only after the verdict ``valid``."""
        backwards: list[int] = []
        trail = self._last
        while trail is not None:
            trail, what = trail
            if isinstance(what, int):
                backwards.append(what)
            else:
                position, mask = what
                backwards.extend(m.number for m in self.timeline.open_eager[position] if m.slot_bit & mask)
        return [self.timeline.operations[number] for number in reversed(backwards)]

    # --- the search ------------------------------------------------------------------------------------------------

    def run(self, moves: int) -> bool:
        """Try up to so many moves. Returns whether the search has come to an end, with ``verdict`` set.

        Raises ``Exhausted`` if a bound is reached; the search cannot be resumed after that.
        """
        stack, table, timeline = self._stack, self.steps.table, self.timeline
        left = moves
        while stack and self.verdict is Verdict.UNKNOWN:
            if left <= 0:
                return False
            frame = stack[-1]
            if frame.may_pass:
                frame.may_pass = False
                left -= 1
                self._enter(frame.position + 1, frame.mask, frame.state, frame.used, frame.trail)
                continue
            mask, state = frame.mask, frame.state
            for move in frame.moves:
                slot_bit, unknown_bit, class_number, number = move
                if mask & slot_bit:
                    continue
                left -= 1
                successors = table[class_number].get(state)
                if successors is None:
                    successors = self.steps.compute(class_number, state)
                if not successors:
                    continue
                entered = False
                for successor in reversed(successors):
                    entered |= self._enter(
                        frame.position, mask | slot_bit, successor, frame.used | unknown_bit, (frame.trail, number)
                    )
                if entered:
                    break
            else:
                spare = timeline.callable[frame.position] & ~frame.used
                if spare and not frame.tried_unknown:
                    frame.tried_unknown = True
                    frame.moves = iter(self._canonical(spare, frame.used))
                else:
                    stack.pop()
        if self.verdict is Verdict.UNKNOWN:
            self.verdict = Verdict.INVALID
        return True

    def _canonical(self, spare: int, used: int) -> list[Move]:
        """The unknown operations to try, in the order of their calls: of several that are alike only the first."""
        moves: list[Move] = []
        while spare:
            first = (spare & -spare).bit_length() - 1
            moves.append(self.timeline.unknown[first])
            spare &= ~(self.timeline.alike[first] | 1 << first)
        return moves

    def _enter(self, position: int, mask: int, state: int, used: int, trail: Trail | None) -> bool:
        """Settle a configuration and put it on the stack. Returns whether the search has to go on from there first:
        it is new, or it is the end."""
        timeline = self.timeline
        return_bit, open_eager = timeline.return_bit, timeline.open_eager
        events = len(return_bit)
        while True:
            if position == events:
                self.explained = events
                self._last = trail
                self.verdict = Verdict.VALID
                return True
            if open_eager[position]:
                legal = self._legal[position].get(state)
                if legal is None:
                    legal = self._legal_eager(position, state)
                fresh = legal & ~mask
                if fresh:
                    mask |= fresh
                    trail = (trail, (position, fresh))
            bit = return_bit[position]
            if not mask & bit:
                break
            mask ^= bit
            position += 1

        if position > self.explained:
            self.explained = position
        if self._is_seen(position, state << timeline.width | mask, used):
            return False
        self.configurations += 1
        self.limits.claim()
        moves = iter(timeline.open_moves[position])
        self._stack.append(_Frame(position, mask, state, used, trail, moves, timeline.expiring[position]))
        return True

    def _legal_eager(self, position: int, state: int) -> int:
        """The mask of the open eager operations that are legal in this state."""
        table = self.steps.table
        legal = 0
        for slot_bit, _, class_number, _ in self.timeline.open_eager[position]:
            successors = table[class_number].get(state)
            if successors is None:
                successors = self.steps.compute(class_number, state)
            if successors:
                legal |= slot_bit
        self._legal[position][state] = legal
        return legal

    def _is_seen(self, position: int, key: int, used: int) -> bool:
        """Whether this configuration, or one that dominates it, was entered before; if not, remember it."""
        level = self._seen[position]
        before = level.get(key)
        if before is None:
            level[key] = used
            return False
        dominates = self.rules.dominates
        if isinstance(before, int):
            if dominates(before, used):
                return True
            level[key] = [used] if dominates(used, before) else [before, used]
            return False
        if any(dominates(other, used) for other in before):
            return True
        before[:] = [other for other in before if not dominates(used, other)]
        before.append(used)
        return False
