"""Explanations: the few operations of an invalid history that contradict each other.

Theory of operation
-------------------
*What is a core.* Call an operation *relaxed* when less is claimed about it. Relaxing only ever makes a history easier
to explain, so "still invalid with only these operations held to what was recorded" is monotone in the set of
operations held. A minimal such set is a core: its members cannot all be true, whether or not the others took effect.

There are two ways to relax:

* With the model's **open-world variant** (``Model.explanation_model``) a relaxed operation is removed. This gives the
  smallest cores, and each trial gets shorter as it goes on.
* Otherwise an operation that only reads is removed, and any other one is made *optional with unknown output*: it took
  effect at some instant of its interval, with any reply, or never did.

*Only the past matters.* Linearizability is prefix-closed, and the search names the earliest return that cannot be
explained. Operations called after it are removed; those that returned after it are made optional, with the
output they had. What is left is still invalid.

*How a core is found.* Let the candidates stand in some order. The shortest prefix of them that is invalid together
with the core found so far ends in an operation without which that prefix is not invalid: it belongs to the core. Keep
it, forget everything behind it, repeat until the core is invalid by itself. A prefix is found by bisection, so a core
of *k* operations out of *n* takes about *k* log2(*n*) trials. Irreducible is not yet smallest: the candidates are gone
through in both directions of time, and the smaller core is reported.

A trial that runs into its bound proves nothing and counts as "not invalid". Then the core is still a contradiction,
but perhaps not a minimal one, and is reported so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from linearizability.history import UNKNOWN, Operation, Outcome
from linearizability.limits import Exhausted, Limits
from linearizability.model import Model
from linearizability.search import Search
from linearizability.verdict import Verdict

CONFIGURATIONS_PER_TRIAL = 20_000
"""A trial that needs more is given up: a fifth of a second or so, and a core may take some dozens of trials."""

CONFIGURATIONS_PER_CORE = 400_000
"""All trials of one core together: some seconds. What is found by then is a contradiction, if not the smallest."""

SMALL_CORE = 2
"""A contradiction takes two operations; with a core as small as this no other direction is tried."""

WHOLE_TURN = 1 << 62
"""More moves than any trial can make: it ends by itself or by its limits."""


@dataclass(frozen=True, slots=True)
class Core:
    """``operations`` cannot all be true; ``is_minimal`` says that each of them was shown to be needed.

    ``is_open_world`` tells that they contradict each other by themselves, whatever else was going on.
    """

    operations: tuple[Operation, ...]
    is_minimal: bool
    is_open_world: bool


def irreducible_core(
    model: Model[Any],
    operations: Sequence[Operation],
    offending: Operation,
    limits: Limits,
) -> Core:
    """The core of one invalid partition. ``offending`` is the return at which the search gave up.

    Never raises ``Exhausted``: when ``limits`` are reached, the best core so far is returned, at worst everything up
    to the offending return.
    """
    past = until(operations, offending)
    recorded = {op.index: op for op in operations}

    def as_recorded(found: Sequence[Operation]) -> tuple[Operation, ...]:
        return tuple(recorded[op.index] for op in sorted(found, key=lambda op: (op.call, op.index)))

    variant = model.explanation_model()
    if variant is not None:
        found = _best_of_both_directions(_Trials(variant, past, _removed, limits), proved=False)
        if found is not None:
            return Core(as_recorded(found[0]), found[1], True)

    def relaxed(op: Operation) -> Operation | None:
        return None if model.is_read_only(op.input) else optional(op)

    found = _best_of_both_directions(_Trials(model, past, relaxed, limits), proved=True)
    if found is not None:
        return Core(as_recorded(found[0]), found[1], False)
    return Core(as_recorded(past), False, False)


def until(operations: Sequence[Operation], offending: Operation) -> list[Operation]:
    """What had been asked and answered when the offending operation returned."""
    end = offending.ret
    assert end is not None, "an operation that never returns cannot offend"
    past = [op for op in operations if op.call <= end]
    return [replace(op, outcome=Outcome.UNKNOWN) if op.ret is not None and op.ret > end else op for op in past]


def optional(op: Operation) -> Operation:
    """The operation with nothing claimed but its interval."""
    return replace(op, output=UNKNOWN, outcome=Outcome.UNKNOWN)


def _removed(op: Operation) -> None:
    return None


class _Trials:
    """Asks, of one partition, whether some of its operations suffice for a contradiction."""

    def __init__(
        self,
        model: Model[Any],
        past: Sequence[Operation],
        relaxed: Callable[[Operation], Operation | None],
        limits: Limits,
    ) -> None:
        self.model = model
        self.past = past
        self.limits = limits
        self.gave_up = False
        self.left = CONFIGURATIONS_PER_CORE
        self._relaxed = {op.index: relaxed(op) for op in past}

    def is_invalid(self, held: Sequence[Operation]) -> bool:
        """Whether it is proved that these operations cannot all be true.

        Raises ``Exhausted`` at the deadline, and when the trials together have used up their configurations.
        """
        if self.left <= 0:
            raise Exhausted(f"{CONFIGURATIONS_PER_CORE} configurations were spent on the explanation")
        strict = {op.index for op in held}
        trial = [op if op.index in strict else self._relaxed[op.index] for op in self.past]
        limits = self.limits.within(CONFIGURATIONS_PER_TRIAL)
        limits.tick()
        try:
            search = Search(self.model, [op for op in trial if op is not None], limits)
            search.run(WHOLE_TURN)
        except Exhausted:
            self.limits.tick()
            self.gave_up = True
            return False
        finally:
            self.left -= limits.configurations
        return search.verdict is Verdict.INVALID


def _best_of_both_directions(trials: _Trials, proved: bool) -> tuple[tuple[Operation, ...], bool] | None:
    """The smaller of the cores found forwards and backwards in time, and whether it is minimal; None if there is
    none, because the relaxed history is valid or time is out."""
    best: tuple[tuple[Operation, ...], bool] | None = None
    # Operations that need not have happened come last: a core of what certainly did is easier to grasp.
    forwards = sorted(trials.past, key=lambda op: (op.outcome is Outcome.UNKNOWN, op.ret or 0, op.call, op.index))
    certain = [op for op in forwards if op.outcome is Outcome.OK]
    backwards = [*reversed(certain), *forwards[len(certain) :]]
    for candidates in (forwards, backwards):
        found, is_minimal = _shrink(trials, candidates, proved)
        if found is not None and (best is None or len(found) < len(best[0])):
            best = tuple(found), is_minimal
        if best is None or len(best[0]) <= SMALL_CORE:
            break
        proved = True
    return best


def _shrink(trials: _Trials, candidates: list[Operation], proved: bool) -> tuple[list[Operation] | None, bool]:
    """One pass of the algorithm above. Returns a core, or None if even all candidates are no contradiction, and
    whether it is minimal. ``proved``: all candidates together are known to be a contradiction."""
    trials.gave_up = False
    core: list[Operation] = []
    pool = candidates
    try:
        if not proved and not trials.is_invalid(pool):
            return None, False
        proved = True
        # From here on the core and the pool together are a proved contradiction.
        while pool and not trials.is_invalid(core):
            enough_not = 0
            while len(pool) - enough_not > 1:
                middle = (enough_not + len(pool)) // 2
                if trials.is_invalid([*core, *pool[:middle]]):
                    pool = pool[:middle]
                else:
                    enough_not = middle
            core.append(pool[-1])
            pool = pool[:-1]
    except Exhausted:
        return ([*core, *pool] if proved else None), False
    return core, not trials.gave_up
