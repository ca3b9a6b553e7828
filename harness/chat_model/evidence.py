"""Evidence: what all answers together say about the content of one log, and what may have filled its holes.

Theory of operation
-------------------
Acknowledgements and reads bind positions to entries. Let ``last`` be the greatest length that any answer claims. A
position up to ``last`` that nobody showed is a *hole*: it certainly has an entry, of unknown content.

Five conclusions narrow the search, all of them exact:

1. In an explanation of the history, position p holds the known entry of p. A step that would put another entry there
   is refused at once; were two answers to disagree about p, no explanation exists whichever is taken as known.
2. An operation of unknown outcome whose entry (kind, author, transaction, text) is known at p can only have put it
   there. It keeps its open interval, but can step only to p.
3. One of which no trace was seen can only have filled a hole, or have taken effect beyond ``last``, or never. Beyond
   ``last`` nothing was seen by anybody whose answer tells the length, so such an effect may be left out without
   changing any reply. With no hole left, the operation may be dropped.
4. Two kinds of answers do not tell the length, so for them conclusion 3 needs care. An *old answer* to a repeated
   transaction depends on the first answer, not on the length: operations of unknown outcome with a repeated
   transaction are therefore never dropped (even a refusal leaves an answer behind). And a ``list_chats`` that does
   not list the chat may have seen it beyond ``last``, after a ``leave`` that nobody else saw: leaves of such actors,
   if they were called in time for such a list, are kept and may step beyond ``last``.
5. If a repeated transaction was told a refusal as of n, its first use took effect at length n. The log may not go on
   from n before some use has. (The search would find out by itself, but only at the old answer, much later.)
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple, TypeAlias

from harness.chat_model.claims import Claim, chat_entry, user_entry
from harness.chat_model.decode import Call
from spec import chat as spec

Scope: TypeAlias = tuple[int | str, ...]
"""Where a transaction counts: ``spec.scope_of``."""


class Claimed(NamedTuple):
    """An operation and what it says about one log."""

    call: Call
    claim: Claim


class Evidence:
    """What is known of one log. Compared by identity: one exists per log and history."""

    def __init__(self, key: int, claimed: Iterable[Claimed], operations: int) -> None:
        """``operations``: how many the history has. More holes than that are not looked for: nothing could fill them,
        and one damaged number must not cost memory in proportion to itself."""
        self.key = key
        self.claimed: list[Claimed] = list(claimed)
        self.known: dict[int, spec.Message] = {}  # position -> the entry first shown there
        self.variants: dict[int, set[spec.Message]] = {}  # positions about which answers disagree -> all entries
        self.last = 0
        for _, claim in self.claimed:
            self.last = max(self.last, claim.least)
            for entry in claim.shows:
                first = self.known.setdefault(entry.seq, entry)
                if first is not entry and first != entry:
                    self.variants.setdefault(entry.seq, {first}).add(entry)
        self.last = max(self.last, max(self.known, default=0))
        unknown = (p for p in range(1, self.last + 1) if p not in self.known)
        self.holes: list[int] = list(islice(unknown, operations + 1))
        self.position_of: dict[tuple[str, int, str, str], int] = {content(m): p for p, m in self.known.items()}
        self.leavers: dict[int, int] = {}  # whose unseen leaves may step beyond ``last``, and until when they matter
        self.unplaced: frozenset[int] = frozenset()  # users who acted, but whose place in the directory nobody showed
        self.owed: dict[int, set[Scope]] = {}  # length -> transactions whose first answer was decided there
        self._milestones: list[tuple[int, int, Call]] | None = None  # (length, earliest return, who), lengths ascending

    def is_hole(self, position: int) -> bool:
        return position <= self.last and position not in self.known

    def not_last_before_ns(self) -> int:
        """An instant before which the log certainly had not come to ``last``."""
        calls = (c.operation.call for c, claim in self.claimed if claim.most is not None and claim.most < self.last)
        return max(calls, default=0)

    def reached(self, position: int) -> tuple[int, Call] | None:
        """The earliest return of an operation that shows the log to have come to ``position``, and that operation.

        None if no operation that returned shows it.
        """
        if self._milestones is None:
            self._milestones = []
            best: tuple[int, int, Call] | None = None
            for call, claim in sorted(self.claimed, key=lambda c: -c.claim.least):
                ret = call.operation.ret
                if ret is not None and claim.least > 0 and (best is None or ret < best[1]):
                    best = (claim.least, ret, call)
                    self._milestones.append(best)
            self._milestones.reverse()
        at = bisect.bisect_left(self._milestones, position, key=lambda m: m[0])
        if at == len(self._milestones):
            return None
        _, ret, call = self._milestones[at]
        return ret, call


def content(entry: spec.Message) -> tuple[str, int, str, str]:
    """What a client chose of an entry: kind, author, transaction, text."""
    return entry.kind, entry.author, entry.txn_id, entry.text


def entry_of(call: Call) -> tuple[str, int, str, str]:
    """What the entry of a writing operation would be: its ``content``."""
    if isinstance(call.command, spec.CreateUser):
        return content(user_entry(0, 0, call.command))
    return content(chat_entry(call, 0, 0))


def first_window_broken(claimed: Sequence[Claimed]) -> tuple[Claimed, Claimed] | None:
    """Two operations whose windows contradict their order in time, or None if instants can be found for all.

    The pair is (earlier, later): the earlier one had returned, with at least p entries in the log, before the later
    one was called, which says that the log had fewer than p. Because a log only grows, such a pair exists if and only
    if no assignment of instants fits all windows: the instants of the entries form a chain, and bounds on a chain are
    consistent exactly if they are pairwise. Of several, the one that was noticed first in real time; the
    earlier of the pair is the first that told of p.
    """
    calls = sorted((c for c in claimed if c.claim.most is not None), key=lambda c: c.call.operation.call)
    returns = sorted(
        (c for c in claimed if c.claim.least > 0 and c.call.operation.ret is not None),
        key=lambda c: c.call.operation.ret or 0,
    )
    floor, at = 0, 0
    broken: Claimed | None = None
    for later in calls:
        op, most = later.call.operation, later.claim.most
        assert most is not None
        while at < len(returns) and (returns[at].call.operation.ret or 0) < op.call:
            floor = max(floor, returns[at].claim.least)
            at += 1
        if most < floor and (broken is None or _noticed(later) < _noticed(broken)):
            broken = later
    if broken is None:
        return None
    most = broken.claim.most
    assert most is not None
    earlier = next(c for c in returns if c.claim.least > most)
    return earlier, broken


def _noticed(claimed: Claimed) -> tuple[int, int]:
    op = claimed.call.operation
    return (op.call if op.ret is None else op.ret, op.index)
