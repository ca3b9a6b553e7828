"""One check, from operations to a verdict.

Theory of operation
-------------------
The operations are validated, split by the model into partitions, and each partition gets a search. The searches take
turns: every round each of them may make as many moves as in all rounds before. So a partition that is easily shown to
have no explanation ends the check however hard the others are, at the price of a small factor at worst.

A valid verdict is given only after the order found has been replayed (``witness``). An invalid one is explained
(``core``) in what is left of the deadline; it stands whether or not the explanation succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from linearizability.core import Core, irreducible_core
from linearizability.history import HistoryError, Operation, Outcome, validated
from linearizability.limits import MAX_CONFIGURATIONS, Exhausted, Limits
from linearizability.model import Model, ModelError
from linearizability.search import RIGHT, Search
from linearizability.timeline import Rules
from linearizability.verdict import PartitionResult, Result, Verdict
from linearizability.witness import objection

FIRST_TURN_MOVES = 2_000
"""The moves of each partition in the first round: a few milliseconds, and enough to finish most partitions."""

CORE_IN_WORDS = 8
"""A general sentence names at most so many operations; a longer one is not read."""


@dataclass(slots=True)
class _Part:
    """One partition and what is known of it."""

    label: Hashable
    operations: Sequence[Operation]
    search: Search | None = None
    verdict: Verdict = Verdict.UNKNOWN
    order: tuple[Operation, ...] | None = None


def check(
    model: Model[Any],
    operations: Iterable[Operation],
    *,
    deadline_s: float | None = None,
    max_configurations: int = MAX_CONFIGURATIONS,
    explain: bool = True,
    witness: bool = False,
    clock: Callable[[], float] = time.monotonic,
    rules: Rules = RIGHT,
) -> Result:
    """Whether one order of the operations explains every reply without contradicting anybody's clock.

    ``deadline_s``  after so many seconds the check ends, with the verdict ``unknown`` if it has none by then; only a
                    single call of the model that does not come back can hold it up. None: no deadline.
    ``max_configurations``  bounds memory, at about 400 bytes each; reaching it also means ``unknown``.
    ``explain``     look for the core of a violation.
    ``witness``     keep the order found for each partition in its result.
    ``clock``       seconds; only differences matter.
    ``rules``       is for tests of the checker itself.

    Raises ``HistoryError`` for operations that cannot be checked and ``ModelError`` for a model that breaks a promise
    of its interface. Errors raised by the model itself come through unchanged. No operation at all, or none that
    certainly happened, is ``unknown``: there is nothing to check.
    """
    limits = Limits(clock, deadline_s, max_configurations)
    kept = validated(operations)
    parts = _split(model, kept)
    why = "nothing to check: " + ("no operation certainly happened" if kept else "the history has no operations")
    try:
        for part in parts:
            part.search = Search(model, part.operations, limits, rules)
        if any(op.outcome is Outcome.OK for part in parts for op in part.operations):
            _take_turns(model, parts, limits)
            why = ""
    except Exhausted as exhausted:
        why = str(exhausted)

    bad = next((part for part in parts if part.verdict is Verdict.INVALID), None)
    if bad is not None:
        verdict = Verdict.INVALID
    elif why:
        verdict = Verdict.UNKNOWN
    else:
        verdict = Verdict.VALID
    result = Result(
        verdict=verdict,
        model=name_of(model),
        operations=len(kept),
        seconds=0.0,
        partitions=tuple(_describe(model, part, witness) for part in parts),
    )
    if bad is not None:
        result = _with_reason(result, model, bad, limits, explain)
    elif verdict is Verdict.UNKNOWN:
        progress = _progress(model, parts, why)
        result = replace(result, reason=f"no verdict: {why}", progress=progress)
    else:
        ways = "one order" if len(parts) == 1 else f"one order in each of {len(parts)} partitions"
        result = replace(result, reason=f"{ways} explains all {len(kept)} operations; replayed against the model")
    return replace(result, seconds=limits.elapsed_s())


def name_of(model: Model[Any]) -> str:
    """What to call the model: its ``name``, or its type's."""
    return model.name or type(model).__name__


def _split(model: Model[Any], operations: Sequence[Operation]) -> list[_Part]:
    """The partitions of the model, held to what ``Model.partition`` promises about indices."""
    if not operations:
        return []
    known = {op.index for op in operations}
    parts: list[_Part] = []
    for label, projected in model.partition(operations).items():
        try:
            own = validated(projected)
        except HistoryError as error:
            raise ModelError(
                f"model {name_of(model)!r} makes a bad partition {label!r}: {error.fault}. Look at its partition method"
            ) from error
        strange = next((op.index for op in own if op.index not in known), None)
        if strange is not None:
            raise ModelError(
                f"model {name_of(model)!r} puts operation {strange} into partition {label!r}, but the history has none "
                "of that index. A rewritten operation keeps the index of the original"
            )
        parts.append(_Part(label, own))
    return parts


def _take_turns(model: Model[Any], parts: Sequence[_Part], limits: Limits) -> None:
    """Search until every partition has a verdict or one is invalid. Raises ``Exhausted``."""
    turn = FIRST_TURN_MOVES
    pending = [part for part in parts if part.search is not None]
    while pending:
        still_pending: list[_Part] = []
        for part in pending:
            search = part.search
            assert search is not None
            if not search.run(turn):
                still_pending.append(part)
                continue
            if search.verdict is Verdict.INVALID:
                part.verdict = Verdict.INVALID
                return
            order = search.order()
            fault = objection(model, part.operations, order, limits.tick)
            if fault is not None:
                raise Exhausted(
                    f"the order found for {model.describe_partition(part.label)} did not stand up to its replay "
                    f"({fault}): the model's step is not a pure function of its arguments, or the checker is wrong"
                )
            part.verdict = Verdict.VALID
            part.order = tuple(order)
        pending = still_pending
        turn *= 2


def _describe(model: Model[Any], part: _Part, witness: bool) -> PartitionResult:
    search = part.search
    if search is None:
        return PartitionResult(part.label, Verdict.UNKNOWN, len(part.operations), 0, 0, 0, progress="not begun")
    progress = ""
    if part.verdict is Verdict.UNKNOWN:
        progress = f"explained up to return {search.explained} of {search.events}"
    return PartitionResult(
        label=part.label,
        verdict=part.verdict,
        operations=len(part.operations),
        events=search.events,
        explained=search.explained,
        configurations=search.configurations,
        offending=search.offending if part.verdict is Verdict.INVALID else None,
        witness=part.order if witness else None,
        progress=progress,
    )


def _progress(model: Model[Any], parts: Sequence[_Part], why: str) -> str:
    """How far an unfinished check got."""
    if not parts:
        return why
    done = sum(part.verdict is Verdict.VALID for part in parts)
    words = [why]
    if len(parts) > 1:
        words.append(f"{done} of {len(parts)} partitions were explained")
    open_searches = [(part, part.search) for part in parts if part.verdict is Verdict.UNKNOWN]
    started = [(part, search) for part, search in open_searches if search is not None and search.events]
    if started:
        part, search = max(started, key=lambda both: both[1].configurations)
        where = model.describe_partition(part.label)
        at = search.offending
        stuck = f" (next: operation {at.index} of process {at.process})" if at is not None else ""
        words.append(f"explained up to return {search.explained} of {search.events} in {where}{stuck}")
    elif len(started) < len(open_searches):
        words.append("the search had not begun")
    return "; ".join(words)


def _with_reason(result: Result, model: Model[Any], bad: _Part, limits: Limits, explain: bool) -> Result:
    """Complete an invalid result. Nothing that goes wrong in here may hide the violation."""
    search = bad.search
    assert search is not None
    offending = search.offending
    assert offending is not None
    where = model.describe_partition(bad.label)
    general = (
        f"no order of the operations explains what operation {offending.index} of process {offending.process} was told"
        f" in {where}: {model.describe_operation(offending)}"
    )
    if not explain:
        return replace(result, reason=general)
    try:
        core = irreducible_core(model, bad.operations, offending, limits)
        words = model.explain(core.operations) or _in_words(model, core, where, general)
        anomaly = model.classify(core.operations)
    except Exception as error:
        return replace(result, reason=f"{general} (looking for the reason failed: {type(error).__name__}: {error})")
    return replace(result, core=core.operations, core_is_minimal=core.is_minimal, anomaly=anomaly, reason=words)


def _in_words(model: Model[Any], core: Core, where: str, general: str) -> str:
    """A sentence about a core for models that have none of their own."""
    if len(core.operations) > CORE_IN_WORDS:
        return f"{general}; {len(core.operations)} operations contradict each other"
    said = "; ".join(
        f"operation {op.index} of process {op.process}: {model.describe_operation(op)}" for op in core.operations
    )
    rest = "whatever else happened" if core.is_open_world else "whether or not the others took effect"
    if len(core.operations) == 1:
        return f"this cannot be true in {where}, {rest}: {said}"
    return f"these {len(core.operations)} operations cannot all be true in {where}, {rest}: {said}"
