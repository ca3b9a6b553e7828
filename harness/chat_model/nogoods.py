"""Nogoods: sets of statements about one log that cannot all be true, whatever else happened.

Theory of operation
-------------------
Order in time is judged by windows (``evidence.first_window_broken``). Everything else that a reply says is about
lengths and positions, so that it holds or fails independently of any order. It is written as *statements*:

    Shows(log, entry)     the log has this entry at its position
    Fact(user, n, bool)   membership at length n
    Made(operation)       this operation was called and answered as recorded

and a *nogood* is a set of statements that contradict each other. An operation carries the statements that it makes,
directly or by showing an entry; operations that together make a whole nogood contradict each other. Only statements
that occur in some nogood are kept: in a sound history there are none.

Some nogoods use what is known of the history as a whole (that nobody else had this transaction id, that nobody ever
asked for this message): these are facts about the clients, who are ours, and not about the service.

Answers to transactions expire by log time. If the ids of a history span more than ``RETENTION_MS``, the nogoods about
repeated transactions are left out.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from harness.chat_model.claims import DIRECTORY, Claim, Fact, facts_shown, is_reuse
from harness.chat_model.decode import Call
from harness.chat_model.evidence import Evidence, content, entry_of
from spec import chat as spec

T = TypeVar("T")


class Shows(NamedTuple):
    log: int
    entry: spec.Message


class Made(NamedTuple):
    operation: int


Statement: TypeAlias = Shows | Fact | Made


class Nogood(NamedTuple):
    """Statements that cannot all be true; ``words`` says why, in a sentence that needs no other."""

    statements: frozenset[Statement]
    anomaly: str
    words: str


Scopes: TypeAlias = Mapping[Hashable, Sequence[Call]]
"""The writing operations of a history, by the scope of their transaction."""


def nogoods(evidence: Evidence, scopes: Scopes, fillers: Collection[Call], answers_expire: bool) -> list[Nogood]:
    """All that contradicts itself in one log, the most telling first.

    ``scopes`` are those of the whole history; ``fillers`` are the operations of unknown outcome that may have left an
    entry in this log of which no trace was seen.
    """
    return [
        *_flaws(evidence),
        *_disagreements(evidence),
        *_duplicates(evidence, answers_expire),
        *_ids(evidence),
        *_phantoms(evidence, scopes),
        *_refused_yet_there(evidence, scopes),
        *_answers(evidence, scopes, answers_expire),
        *_holes(evidence, fillers),
        *_from_the_future(evidence, scopes),
        *(_memberships(evidence) if evidence.key != DIRECTORY else ()),
    ]


def statements_of(call: Call, log: int, claim: Claim, wanted: Wanted) -> frozenset[Statement]:
    """The statements that an operation makes by its claim, out of those that are wanted."""
    if not wanted:
        return frozenset()
    made: set[Statement] = {s for s in (Made(call.index),) if s in wanted.statements}
    for entry in claim.shows:
        if entry.seq in wanted.positions:
            stated: tuple[Statement, ...] = (Shows(log, entry), *facts_shown(entry))
            made |= {s for s in stated if s in wanted.statements}
            if entry.kind == "create":
                made |= {f for f in wanted.facts.get(1, ()) if f.member == (f.user == entry.author)}
    made |= set(claim.facts) & wanted.statements
    if claim.all_members is not None:
        made |= {f for f in wanted.facts.get(claim.least, ()) if f.member == (f.user in claim.all_members)}
    return frozenset(made)


class Wanted:
    """The statements that occur in some nogood, indexed for ``statements_of``."""

    def __init__(self, found: Iterable[Nogood]) -> None:
        self.statements: set[Statement] = {s for nogood in found for s in nogood.statements}
        self.facts: dict[int, list[Fact]] = defaultdict(list)
        self.positions: set[int] = set()
        for statement in self.statements:
            if isinstance(statement, Fact):
                self.facts[statement.length].append(statement)
                self.positions |= {statement.length, statement.length + 1}
            elif isinstance(statement, Shows):
                self.positions.add(statement.entry.seq)

    def __bool__(self) -> bool:
        return bool(self.statements)


# --- the rules -------------------------------------------------------------------------------------------------


def _flaws(evidence: Evidence) -> Iterator[Nogood]:
    for call, claim in evidence.claimed:
        if claim.flaw is not None:
            yield Nogood(frozenset({Made(call.index)}), claim.flaw.anomaly, claim.flaw.words)


def _disagreements(evidence: Evidence) -> Iterator[Nogood]:
    """Two entries at one position: two logs, or an acknowledged entry that was replaced."""
    if not evidence.variants:
        return
    acknowledged = {e for call, claim in evidence.claimed if not call.is_query for e in claim.shows}
    for position, entries in sorted(evidence.variants.items()):
        for one, other in _pairs(sorted(entries)):
            lost = (one in acknowledged) != (other in acknowledged)
            yield Nogood(
                frozenset({Shows(evidence.key, one), Shows(evidence.key, other)}),
                "lost-write" if lost else "diverged",
                f"{_noun(evidence)} {position} was shown with two contents ({_words(one)} and {_words(other)}): "
                + ("an acknowledged one was lost or replaced" if lost else "the log has split in two"),
            )


def _duplicates(evidence: Evidence, answers_expire: bool) -> Iterator[Nogood]:
    """One transaction, or one id, with two entries."""
    by_transaction: dict[Hashable, list[spec.Message]] = defaultdict(list)
    for entry in _entries(evidence):
        key = (entry.text, entry.txn_id) if evidence.key == DIRECTORY else (entry.author, entry.txn_id)
        if entry.kind != "create":
            by_transaction[key].append(entry)
    for entries in by_transaction.values():
        for one, other in _pairs(sorted(entries)):
            if one.seq != other.seq and not answers_expire:
                yield Nogood(
                    frozenset({Shows(evidence.key, one), Shows(evidence.key, other)}),
                    "duplicate",
                    f"transaction {one.txn_id!r} was carried out twice: it left {_noun(evidence)} {one.seq} "
                    f"and {_noun(evidence)} {other.seq}",
                )


def _ids(evidence: Evidence) -> Iterator[Nogood]:
    """Ids grow with the log, and every entry, seen or not, takes one."""
    previous: list[spec.Message] = []
    for position in sorted(evidence.known):
        here = sorted(evidence.variants.get(position, {evidence.known[position]}))
        for one in previous:
            for other in here:
                if other.message_id - one.message_id < other.seq - one.seq:
                    same = one.message_id == other.message_id
                    yield Nogood(
                        frozenset({Shows(evidence.key, one), Shows(evidence.key, other)}),
                        "duplicate-id" if same else "ids-out-of-order",
                        f"{_noun(evidence)} {one.seq} has id {one.message_id} and {_noun(evidence)} {other.seq} has id "
                        f"{other.message_id}: ids must grow, one per entry at least",
                    )
        previous = here


def _phantoms(evidence: Evidence, scopes: Scopes) -> Iterator[Nogood]:
    """Entries that nobody asked for, and a first message with another id than its chat."""
    for entry in _entries(evidence):
        if entry.kind == "create" and entry.message_id != evidence.key:
            yield Nogood(
                frozenset({Shows(evidence.key, entry)}),
                "impossible-reply",
                f"the first message has the id {entry.message_id}, but it must be the chat's, {evidence.key}",
            )
        if not any(entry_of(c) == content(entry) for c in _askers(evidence, entry, scopes)):
            yield Nogood(
                frozenset({Shows(evidence.key, entry)}),
                "phantom-message",
                f"{_noun(evidence)} {entry.seq} ({_words(entry)}) is visible, but no operation that was carried out or "
                "may have been asked for it",
            )


def _refused_yet_there(evidence: Evidence, scopes: Scopes) -> Iterator[Nogood]:
    """An entry whose only possible author was told that nothing was done."""
    if evidence.key == DIRECTORY:
        return
    for entry in _entries(evidence):
        if entry.kind == "create":
            continue
        calls = _askers(evidence, entry, scopes)
        if len(calls) == 1 and isinstance(calls[0].reply, spec.Rejected | spec.Unchanged):
            reply = calls[0].reply
            told = f"refused ({reply.reason})" if isinstance(reply, spec.Rejected) else "told that nothing changed"
            yield Nogood(
                frozenset({Shows(evidence.key, entry), Made(calls[0].index)}),
                "refused-yet-done",
                f"the transaction of message {entry.seq} was {told}, yet the message is visible",
            )


def _answers(evidence: Evidence, scopes: Scopes, answers_expire: bool) -> Iterator[Nogood]:
    """Two answers to one transaction, where the second must repeat the first."""
    if answers_expire:
        return
    here = {call.index for call, _ in evidence.claimed}
    for calls in scopes.values():
        if len(calls) < 2:
            continue
        answered = [c for c in calls if c.reply is not None and c.index in here]
        fresh = [c for c in answered if c.reply is not None and not is_reuse(c.reply)]
        for one, other in _pairs(fresh):
            if (type(one.reply), one.reply, one.command) != (type(other.reply), other.reply, other.command):
                twice = isinstance(one.reply, spec.Posted | spec.ChatCreated | spec.UserCreated)
                yield Nogood(
                    frozenset({Made(one.index), Made(other.index)}),
                    "duplicate" if twice and type(one.reply) is type(other.reply) else "answer-changed",
                    "both operations use one transaction, so one of them must have got the other's answer, "
                    "or have been refused with transaction-reused",
                )
        for call in answered:
            if call.reply is not None and is_reuse(call.reply) and all(c.command == call.command for c in calls):
                yield Nogood(
                    frozenset({Made(call.index)}),
                    "wrong-rejection",
                    "it was refused with transaction-reused, yet every use of this transaction asked for the same",
                )


def _holes(evidence: Evidence, fillers: Collection[Call]) -> Iterator[Nogood]:
    """Positions that must have had an entry before anybody had asked for enough of them."""
    for creation in (True, False):
        started = sorted(
            c.operation.call
            for c in fillers
            if evidence.key == DIRECTORY or isinstance(c.command, spec.CreateChat) == creation
        )
        holes = [p for p in evidence.holes if evidence.key == DIRECTORY or (p == 1) == creation]
        for needed, hole in enumerate(holes, start=1):
            reached = evidence.reached(hole)
            if reached is None or (len(started) >= needed and started[needed - 1] <= reached[0]):
                continue
            yield Nogood(
                frozenset({Made(reached[1].index)}),
                "phantom-message",
                f"{_noun(evidence)} {hole} existed by then, but nobody had asked for anything that could be it",
            )
            break


def _from_the_future(evidence: Evidence, scopes: Scopes) -> Iterator[Nogood]:
    """Entries that were there before anybody had asked for them.

    For one answered operation with a transaction of its own the windows say the same; this is for all others.
    """
    for entry in _entries(evidence):
        askers = [c for c in _askers(evidence, entry, scopes) if entry_of(c) == content(entry)]
        reached = evidence.reached(entry.seq)
        if not askers or reached is None or min(c.operation.call for c in askers) <= reached[0]:
            continue
        if len(askers) == 1 and askers[0].reply is not None:
            continue
        yield Nogood(
            frozenset({Shows(evidence.key, entry), Made(reached[1].index), *(Made(c.index) for c in askers)}),
            "read-from-the-future",
            f"{_noun(evidence)} {entry.seq} existed before anybody had asked for it",
        )


def _askers(evidence: Evidence, entry: spec.Message, scopes: Scopes) -> Sequence[Call]:
    """The operations whose transaction is that of the entry."""
    if evidence.key == DIRECTORY:
        return scopes.get(("user", entry.text, entry.txn_id), ())
    if entry.kind == "create":
        return scopes.get((spec.NEW_CHATS, entry.author, entry.txn_id), ())
    return scopes.get((evidence.key, entry.author, entry.txn_id), ())


def _memberships(evidence: Evidence) -> Iterator[Nogood]:
    """Facts about one user at two lengths with nothing in between that could have changed it."""
    facts: dict[int, set[Fact]] = defaultdict(set)
    lists: dict[int, set[frozenset[int]]] = defaultdict(set)
    for _, claim in evidence.claimed:
        for fact in claim.facts:
            facts[fact.user].add(fact)
        if claim.all_members is not None:
            lists[claim.least].add(claim.all_members)
    creator: int | None = None
    for entry in _entries(evidence):
        for fact in facts_shown(entry):
            facts[fact.user].add(fact)
        if entry.kind == "create" and entry.seq == 1:
            creator = entry.author
    for user, about in facts.items():
        for length, members in lists.items():
            about |= {Fact(user, length, user in listed) for listed in members}
        if creator is not None and user != creator:
            about.add(Fact(user, 1, False))
        about.discard(Fact(user, 0, False))
        yield from _changes_from_nothing(evidence, user, sorted(about, key=lambda f: (f.length, f.member)))


def _changes_from_nothing(evidence: Evidence, user: int, facts: Sequence[Fact]) -> Iterator[Nogood]:
    for before, after in itertools.pairwise(facts):
        if before.member == after.member:
            continue
        between = [evidence.known.get(p) for p in range(before.length + 1, after.length + 1)]
        if any(e is None or (e.author == user and e.kind in ("join", "leave", "create")) for e in between):
            continue
        shown = {Shows(evidence.key, e) for e in between if e is not None}
        was, is_ = ("a member", "none") if before.member else ("no member", "one")
        span = f"at length {before.length}" + (
            f", and {is_} at length {after.length}, with no join or leave in between"
            if after.length > before.length
            else f", and {is_} at the same length"
        )
        yield Nogood(frozenset({before, after, *shown}), "wrong-membership", f"user {user} was {was} {span}")


def _entries(evidence: Evidence) -> Iterator[spec.Message]:
    for position, entry in evidence.known.items():
        if position in evidence.variants:
            yield from sorted(evidence.variants[position])
        else:
            yield entry


def _pairs(items: Sequence[T]) -> Iterator[tuple[T, T]]:
    for at, one in enumerate(items):
        for other in items[at + 1 :]:
            yield one, other


def _noun(evidence: Evidence) -> str:
    return "user" if evidence.key == DIRECTORY else "message"


def _words(entry: spec.Message) -> str:
    said = f" {entry.text!r}" if entry.text else ""
    return f"{entry.kind} by {entry.author}{said}, id {entry.message_id}"
