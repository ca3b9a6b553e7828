"""Across logs: what ties the chats and the directory together, namely time and ids.

Theory of operation
-------------------
``spec.chat`` gives ids in one order for the whole service, so all known entries of all logs form one chain, ordered
by id, in which the k-th has *rank* k. A window of lengths of one log is thereby a window of ranks: "at least n
entries" means that the chain had come to the greatest known entry at or below n, "at most n entries" that it had not
come to the smallest known entry above n. An operation that speaks of several logs (``list_chats``; anybody who acts,
and therefore exists) has the intersection of its windows, because it took effect at one instant.

The windows of ranks are judged like those of one log, by ``evidence.first_window_broken``: they are consistent exactly
if they are pairwise. Together with the partitions of the single logs this is exact as long as every entry is known,
except for two answers whose lengths are no interval: an old answer to a repeated transaction (all lengths from the
first answer on are allowed here), and a list of chats that does not show a chat which its asker had joined and left
(all lengths are allowed here). Both, and positions of unknown content, only ever make this check more permissive.

Ids must also be unique: an id with two different entries is a violation wherever the two are.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from harness.chat_model.assertions import Assertion, Contradiction, irreducible
from harness.chat_model.claims import DIRECTORY, Claim
from harness.chat_model.decode import Call
from harness.chat_model.evidence import Claimed, Evidence, first_window_broken
from harness.chat_model.knowledge import Knowledge
from harness.chat_model.nogoods import Made, Nogood, Shows, Statement
from spec import chat as spec

SUBJECT = "the service"


class Bound(NamedTuple):
    """One end of a window of ranks, and the entry that it is known by (None: no bound)."""

    rank: int
    log: int
    entry: spec.Message | None


class _Chain:
    """All known entries in the order of their ids."""

    def __init__(self, logs: Mapping[int, Evidence]) -> None:
        entries = [(m.message_id, key, p, m) for key, e in logs.items() for p, m in e.known.items()]
        entries.sort(key=lambda x: x[:3])
        self.entries = entries
        self.rank = {(key, p): rank for rank, (_, key, p, _) in enumerate(entries, start=1)}
        self.positions = {key: sorted(e.known) for key, e in logs.items()}
        self.logs = logs

    def reached(self, log: int, length: int) -> Bound | None:
        """The greatest known entry at or below ``length``."""
        positions = self.positions.get(log, [])
        at = bisect.bisect_right(positions, length)
        if at == 0:
            return None
        return self._bound(log, positions[at - 1])

    def not_reached(self, log: int, length: int) -> Bound | None:
        """The smallest known entry above ``length``."""
        positions = self.positions.get(log, [])
        at = bisect.bisect_right(positions, length)
        if at == len(positions):
            return None
        return self._bound(log, positions[at])

    def _bound(self, log: int, position: int) -> Bound:
        return Bound(self.rank[log, position], log, self.logs[log].known[position])


def find_across(knowledge: Knowledge, subject_of: Callable[[int], str]) -> Contradiction | None:
    """A contradiction between logs that are each consistent, irreducible; None if there is none.

    ``subject_of`` names a log in sentences.
    """
    logs, claims, calls = knowledge.logs, knowledge.claims, knowledge.calls
    chain = _Chain(logs)
    for (one_id, one_log, _, one), (other_id, other_log, _, other) in zip(
        chain.entries, chain.entries[1:], strict=False
    ):
        if one_id == other_id:
            nogood = Nogood(
                frozenset({Shows(one_log, one), Shows(other_log, other)}),
                "duplicate-id",
                f"id {one_id} was given out twice: at {one.seq} in {subject_of(one_log)} "
                f"and at {other.seq} in {subject_of(other_log)}",
            )
            return _covered(nogood, claims, calls)

    least: dict[int, Bound] = {}
    most: dict[int, Bound] = {}
    claimed: list[Claimed] = []
    for call in calls:
        lows: list[Bound | None] = []
        highs: list[Bound | None] = []
        for log, claim in claims.get(call.index, ()):
            if claim.least:
                lows.append(chain.reached(log, claim.least))
            if claim.most is not None:
                highs.append(chain.not_reached(log, claim.most))
        if call.index in knowledge.bound and call.index not in knowledge.repeated:
            log, position = knowledge.bound[call.index]
            highs.append(chain.not_reached(log, position - 1))
        user, exists = knowledge.existing.get(call.index, (0, True))
        if user in knowledge.users:
            place = knowledge.users[user]
            if exists:
                lows.append(chain.reached(DIRECTORY, place))
            else:
                highs.append(chain.not_reached(DIRECTORY, place - 1))
        low = max((b for b in lows if b is not None), key=lambda b: b.rank, default=None)
        high = min((b for b in highs if b is not None), key=lambda b: b.rank, default=None)
        if low is not None:
            least[call.index] = low
        if high is not None:
            most[call.index] = high
        is_entry = low is not None and high is not None and low.rank == high.rank
        if low is not None and high is not None and high.rank <= low.rank and not is_entry:
            return _covered(_at_once(call, low, high, subject_of), claims, calls)
        if low is not None or high is not None:
            claimed.append(
                Claimed(call, Claim(None if high is None else high.rank - 1, 0 if low is None else low.rank))
            )
    broken = first_window_broken(claimed)
    if broken is None:
        return None
    earlier, later = (c.call for c in broken)
    return _covered(_in_turn(earlier, later, least[earlier.index], most[later.index], subject_of), claims, calls)


def _at_once(call: Call, low: Bound, high: Bound, subject_of: Callable[[int], str]) -> Nogood:
    assert low.entry is not None
    assert high.entry is not None
    return Nogood(
        frozenset({Made(call.index), Shows(low.log, low.entry), Shows(high.log, high.entry)}),
        "torn-read",
        f"at one instant it saw entry {low.entry.seq} of {subject_of(low.log)} (id {low.entry.message_id}), "
        f"but not yet entry {high.entry.seq} of {subject_of(high.log)} (id {high.entry.message_id}), which is older",
    )


def _in_turn(earlier: Call, later: Call, low: Bound, high: Bound, subject_of: Callable[[int], str]) -> Nogood:
    assert low.entry is not None
    assert high.entry is not None
    statements: frozenset[Statement] = frozenset(
        {Made(earlier.index), Made(later.index), Shows(low.log, low.entry), Shows(high.log, high.entry)}
    )
    return Nogood(
        statements,
        "order-across-chats",
        f"when operation {earlier.index} returned, {subject_of(low.log)} had entry {low.entry.seq} (id "
        f"{low.entry.message_id}); operation {later.index}, called after that, had entry {high.entry.seq} of "
        f"{subject_of(high.log)} (id {high.entry.message_id}) still before it: ids show the opposite order",
    )


def _covered(
    nogood: Nogood, claims: Mapping[int, Sequence[tuple[int, Claim]]], calls: Sequence[Call]
) -> Contradiction | None:
    """The nogood as operations that make all its statements, irreducible."""
    able: dict[Statement, list[Assertion]] = defaultdict(list)
    assertions: list[Assertion] = []
    wanted = [s for s in nogood.statements if isinstance(s, Shows)]
    for call in calls:
        made: set[Statement] = {s for s in (Made(call.index),) if s in nogood.statements}
        made |= {
            s for s in wanted for log, claim in claims.get(call.index, ()) if log == s.log and s.entry in claim.shows
        }
        if made:
            assertion = Assertion(call, Claim(), frozenset(made), (nogood,), SUBJECT)
            assertions.append(assertion)
            for statement in made:
                able[statement].append(assertion)
    chosen: dict[int, Assertion] = {}
    for statement in sorted(nogood.statements, key=lambda s: (not isinstance(s, Made), repr(s))):
        if not any(statement in a.statements for a in chosen.values()):
            best = min(able[statement], key=lambda a: (a.call.operation.ret or a.call.operation.call, a.call.index))
            chosen[best.call.index] = best
    return irreducible(list(chosen.values()))
