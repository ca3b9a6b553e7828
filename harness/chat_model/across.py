"""Across logs: what ties the chats and the directory together, namely time and ids.

Theory of operation
-------------------
``spec.chat`` gives ids in one order for the whole service, so all known entries of all logs form one chain, ordered
by id, in which the k-th has *rank* k. A window of lengths of one log is thereby a window of ranks: "at least n
entries" means that the chain had come to the greatest known entry at or below n, "at most n entries" that it had not
come to the smallest known entry above n. An operation that speaks of several logs (``list_chats``; anybody who acts,
and therefore exists; a ``create_chat`` that is refused because its transaction made another chat) has the intersection
of its windows, because it took effect at one instant.

The windows of ranks are judged like those of one log, by ``evidence.first_window_broken``: they are consistent exactly
if they are pairwise. Together with the partitions of the single logs this is exact as long as every entry is known,
except for two answers whose lengths are no interval: an old answer to a repeated transaction (all lengths from the
first answer on are allowed here), and a list of chats that does not show a chat which its asker had joined and left
(all lengths are allowed here). Both, and positions of unknown content, only ever make this check more permissive.

Ids must also be unique: an id with two different entries is a violation wherever the two are.
"""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.chat_model.assertions import Assertion, Contradiction, irreducible
from harness.chat_model.claims import DIRECTORY, Claim, is_reuse
from harness.chat_model.decode import Call
from harness.chat_model.evidence import Claimed, Evidence, first_window_broken
from harness.chat_model.knowledge import Knowledge
from harness.chat_model.nogoods import Made, Nogood, Shows, Statement
from spec import chat as spec

SUBJECT = "the service"


class Bound(NamedTuple):
    """One end of a window of ranks, and the entry that it is known by."""

    rank: int
    log: int
    entry: spec.Message


class _Window(NamedTuple):
    """The window of ranks of one operation: ``low`` had been reached, ``high`` had not.

    Of the first use of a transaction that was used several times (``because_of``: all its uses) ``call`` is the
    earliest that it can have been: it bounds the instant from below, and its return bounds nothing.
    """

    call: Call
    low: Bound | None
    high: Bound | None
    because_of: tuple[Call, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no instant fits. An operation that leaves an entry has that entry at both ends."""
        return self.low is not None and self.high is not None and self.high.rank < self.low.rank

    @property
    def claimed(self) -> Claimed:
        most = None if self.high is None else self.high.rank - 1
        return Claimed(self.call, Claim(most, 0 if self.low is None or self.because_of else self.low.rank))


class _Chain:
    """All known entries in the order of their ids."""

    def __init__(self, logs: Mapping[int, Evidence]) -> None:
        entries: list[tuple[int, int, int, spec.Message]]
        entries = [(m.message_id, key, p, m) for key, e in logs.items() for p, m in e.known.items()]
        # Of a chat whose first message nobody showed at least the id is known: it is the chat's.
        entries += [(key, key, 1, unseen_creation(key)) for key, e in logs.items() if key != DIRECTORY and e.is_hole(1)]
        # Of a user of whose creation nobody was told, too: each of them is a log of one entry here.
        entries += [(user, alone(user), 1, unseen_user(user)) for user in logs[DIRECTORY].unplaced]
        entries.sort(key=lambda x: x[:3])
        self.entries = entries
        self.rank = {(key, p): rank for rank, (_, key, p, _) in enumerate(entries, start=1)}
        self.at = {(key, p): entry for _, key, p, entry in entries}
        self.positions: dict[int, list[int]] = defaultdict(list)
        for key, position in sorted(self.at):
            self.positions[key].append(position)

    def reached(self, log: int, length: int) -> Bound | None:
        """The greatest known entry at or below ``length``."""
        positions = self.positions[log]
        at = bisect.bisect_right(positions, length)
        return self._bound(log, positions[at - 1]) if at > 0 else None

    def not_reached(self, log: int, length: int) -> Bound | None:
        """The smallest known entry above ``length``."""
        positions = self.positions[log]
        at = bisect.bisect_right(positions, length)
        return self._bound(log, positions[at]) if at < len(positions) else None

    def _bound(self, log: int, position: int) -> Bound:
        return Bound(self.rank[log, position], log, self.at[log, position])


def unseen_creation(chat: int) -> spec.Message:
    """What is known of the first message of a chat that nobody showed: its id."""
    return spec.Message(1, chat, "create", 0, "", "")


def unseen_user(user: int) -> spec.Message:
    """What is known of a user of whose creation nobody was told."""
    return spec.Message(1, user, "user", 0, "", "")


def alone(user: int) -> int:
    """The key of the log that stands for one such user; no chat and not the directory has it."""
    return DIRECTORY - 1 - user


def find_across(knowledge: Knowledge, subject_of: Callable[[int], str]) -> Contradiction | None:
    """A contradiction between logs that are each consistent, irreducible; None if there is none.

    ``subject_of`` names a log in sentences.
    """
    chain = _Chain(knowledge.logs)
    twice = _id_twice(chain, subject_of)
    if twice is not None:
        return _covered(twice, knowledge)
    windows = [_window(knowledge, chain, call) for call in knowledge.calls]
    windows += _first_uses(knowledge, chain)
    at_once = next((_at_once(w, subject_of) for w in windows if w.is_empty), None)
    nogoods = [n for n in (at_once, _broken_in_time(windows, subject_of)) if n is not None]
    found = [c for c in (_covered(n, knowledge) for n in nogoods) if c is not None]
    return min(found, key=lambda c: (c.noticed_ns, len(c.assertions)), default=None)


def _id_twice(chain: _Chain, subject_of: Callable[[int], str]) -> Nogood | None:
    for (one_id, one_log, _, one), (other_id, other_log, _, other) in itertools.pairwise(chain.entries):
        if one_id == other_id:
            return Nogood(
                frozenset({Shows(one_log, one), Shows(other_log, other)}),
                "duplicate-id",
                f"id {one_id} was given out twice: at {one.seq} in {subject_of(one_log)} "
                f"and at {other.seq} in {subject_of(other_log)}",
            )
    return None


def _window(knowledge: Knowledge, chain: _Chain, call: Call) -> _Window:
    """The intersection of what an operation says about all logs."""
    lows: list[Bound | None] = []
    highs: list[Bound | None] = []
    for log, claim in knowledge.claims.get(call.index, ()):
        if claim.least:
            lows.append(chain.reached(log, claim.least))
        if claim.most is not None:
            highs.append(chain.not_reached(log, claim.most))
    if call.index in knowledge.bound and call.index not in knowledge.repeated:
        log, position = knowledge.bound[call.index]
        highs.append(chain.not_reached(log, position - 1))
    if call.index in knowledge.existing:
        user, exists = knowledge.existing[call.index]
        (lows if exists else highs).append(_existence(knowledge, chain, user))
    if isinstance(call.command, spec.CreateChat) and is_reuse(call.reply) and not knowledge.answers_expire:
        # The first use was carried out before, and what it made tells when. Two chats are a contradiction of their own.
        made = knowledge.creations.get(spec.scope_of(call.command), [])
        if len(made) == 1:
            lows.append(chain.reached(made[0], 1))
    return _intersection(call, lows, highs)


def _first_uses(knowledge: Knowledge, chain: _Chain) -> Iterator[_Window]:
    """What is known of the first use of a transaction that was used several times, whichever use it was.

    Its instant has the length that the answer tells, and lies after the earliest call of all uses that asked for the
    same. Likewise an unseen creation lies after the earliest call that may have been it.
    """
    for same in knowledge.scopes.values():
        if len(same) < 2:
            continue
        for told in same:
            reply = told.reply
            if is_reuse(reply):
                continue
            lows: list[Bound | None] = []
            highs: list[Bound | None] = []
            for log, claim in knowledge.claims.get(told.index, ()):
                if isinstance(reply, spec.Rejected | spec.Unchanged):
                    lows.append(chain.reached(log, claim.least))
                    highs.append(chain.not_reached(log, claim.least))
                elif claim.shows:
                    highs.append(chain.not_reached(log, claim.least - 1))
            if told.index in knowledge.bound:
                log, position = knowledge.bound[told.index]
                highs.append(chain.not_reached(log, position - 1))
            actor = getattr(told.command, "actor", None)
            if reply is not None and actor is not None:
                (highs if is_unknown_user(reply) else lows).append(_existence(knowledge, chain, actor))
            uses = tuple(c for c in same if c.command == told.command)
            yield _intersection(min(uses, key=lambda c: (c.operation.call, c.index)), lows, highs, uses)
    for log, evidence in knowledge.logs.items():
        unseen = [log] if evidence.is_hole(1) else []
        if log == DIRECTORY:
            unseen = [alone(user) for user in evidence.unplaced]
        makers = [c for c in knowledge.fillers[log] if isinstance(c.command, spec.CreateChat | spec.CreateUser)]
        if makers:
            first = min(makers, key=lambda c: (c.operation.call, c.index))
            for key in unseen:
                yield _intersection(first, [], [chain.not_reached(key, 0)], (first,))


def _existence(knowledge: Knowledge, chain: _Chain, user: int) -> Bound | None:
    """The entry with which a user came to exist."""
    if user in knowledge.users:
        return chain.reached(DIRECTORY, knowledge.users[user])
    return chain.reached(alone(user), 1)


def _intersection(
    call: Call, lows: Sequence[Bound | None], highs: Sequence[Bound | None], because_of: tuple[Call, ...] = ()
) -> _Window:
    return _Window(
        call,
        max((b for b in lows if b is not None), key=lambda b: b.rank, default=None),
        min((b for b in highs if b is not None), key=lambda b: b.rank, default=None),
        because_of,
    )


def is_unknown_user(reply: spec.Reply | None) -> bool:
    return isinstance(reply, spec.Rejected) and reply.reason == "unknown-user"


def _at_once(window: _Window, subject_of: Callable[[int], str]) -> Nogood:
    call, low, high, because_of = window
    assert low is not None
    assert high is not None
    made = (Made(c.index) for c in (because_of or (call,)))
    return Nogood(
        frozenset({*made, Shows(low.log, low.entry), Shows(high.log, high.entry)}),
        "wrong-rejection" if isinstance(call.reply, spec.Rejected) else "torn-read",
        f"at one instant operation {call.index} had {_words(low, subject_of)} before it and {_words(high, subject_of)},"
        " which is older, still after it",
    )


def _broken_in_time(windows: Sequence[_Window], subject_of: Callable[[int], str]) -> Nogood | None:
    claimed = [w.claimed for w in windows]
    broken = first_window_broken(claimed)
    if broken is None:
        return None
    one, other = (next(w for w, c in zip(windows, claimed, strict=True) if c is b) for b in broken)
    low, high = one.low, other.high
    assert low is not None
    assert high is not None
    anomaly = "order-across-chats"
    if is_unknown_user(other.call.reply) or any(is_unknown_user(c.reply) for c in other.because_of):
        anomaly = "wrong-rejection"
    elif low.log == high.log:
        anomaly = "read-from-the-future"
    made = (Made(c.index) for c in (one.call, other.call, *other.because_of))
    return Nogood(
        frozenset({*made, Shows(low.log, low.entry), Shows(high.log, high.entry)}),
        anomaly,
        f"when operation {one.call.index} returned, {_words(low, subject_of)} was there; operation {other.call.index}, "
        f"called after that, had {_words(high, subject_of)}, which is not younger, still before it",
    )


def _words(bound: Bound, subject_of: Callable[[int], str]) -> str:
    return f"entry {bound.entry.seq} of {subject_of(bound.log)} (id {bound.entry.message_id})"


def _covered(nogood: Nogood, knowledge: Knowledge) -> Contradiction | None:
    """The nogood as operations that make all its statements, irreducible."""
    able: dict[Statement, list[Assertion]] = defaultdict(list)
    assertions: list[Assertion] = []
    wanted = [s for s in nogood.statements if isinstance(s, Shows)]
    for call in knowledge.calls:
        made: set[Statement] = {s for s in (Made(call.index),) if s in nogood.statements}
        for log, claim in knowledge.claims.get(call.index, ()):
            shown = (*claim.shows, unseen_creation(log)) if claim.least else claim.shows
            made |= {s for s in wanted if s.log == log and s.entry in shown}
        user, exists = knowledge.existing.get(call.index, (0, False))
        if exists:
            made |= {s for s in wanted if s.log == alone(user)}
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
