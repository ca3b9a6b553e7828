"""Contradictions: a few operations that cannot all be true, whatever everybody else did.

Theory of operation
-------------------
An *assertion* is what one operation says, by itself, about one log: a window of lengths (``claims``) and statements
about content and members (``nogoods``). Assertions are judged in an *open world*: between any two of them, foreign
operations may have appended any entry. So the state of a log, as far as assertions can contradict it, is a length
that may jump forward at will, and the statements made so far:

    legal in state (length, made)  <=>  length <= most,  and no nogood is contained in  made + statements
    next state                      =   (max(length, least), made + statements)

Any subset of assertions can be judged by itself, and a subset of consistent assertions is consistent: this makes
plain removal the way to an irreducible core. Judging needs no search: a set is contradictory if and only if it makes
a whole nogood, or two of its windows contradict their order in time (``evidence.first_window_broken``).

Every contradiction is a violation of the specification. The converse does not hold (holes and refused retries leave
violations that only the search on ``spec.chat`` finds), so contradictions add reasons and speed, never a verdict of
their own: the checker is given the contradicting assertions as one more partition, beside the exact ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from harness.chat_model.claims import Claim
from harness.chat_model.decode import Call
from harness.chat_model.evidence import Claimed, first_window_broken
from harness.chat_model.nogoods import Nogood, Statement, Wanted, statements_of


class World(NamedTuple):
    """The state of a log in the open world."""

    length: int = 0
    made: frozenset[Statement] = frozenset()


class Assertion:
    """What one operation says about one log, as the request of a partition of assertions.

    ``subject`` names the log in sentences. Compared by identity: each is made once.
    """

    __slots__ = ("call", "claim", "nogoods", "statements", "subject")

    def __init__(
        self, call: Call, claim: Claim, statements: frozenset[Statement], nogoods: Sequence[Nogood], subject: str
    ) -> None:
        self.call = call
        self.claim = claim
        self.statements = statements
        self.nogoods = nogoods
        self.subject = subject

    def step(self, world: World) -> tuple[World, ...]:
        """The state after this assertion; none if it contradicts those made before."""
        if self.claim.most is not None and world.length > self.claim.most:
            return ()
        made = world.made | self.statements
        if any(nogood.statements <= made for nogood in self.nogoods):
            return ()
        return (World(max(world.length, self.claim.least), made),)

    def __repr__(self) -> str:
        return f"operation {self.call.index} about {self.subject}"


class Contradiction(NamedTuple):
    """Assertions that cannot all be true. ``nogood`` is None if it is their order in time."""

    assertions: tuple[Assertion, ...]
    nogood: Nogood | None
    earlier: Assertion | None = None
    later: Assertion | None = None

    @property
    def noticed_ns(self) -> int:
        """The instant at which the last of them had been told: nobody could have known before."""
        return max(_told_ns(a) for a in self.assertions)


def contradiction(assertions: Sequence[Assertion]) -> Contradiction | None:
    """Why these assertions about one log cannot all be true, or None if they can. Not minimal."""
    made = frozenset[Statement]().union(*(a.statements for a in assertions)) if assertions else frozenset()
    for nogood in assertions[0].nogoods if assertions else ():
        if nogood.statements <= made:
            return Contradiction(tuple(assertions), nogood)
    by_call = {id(a.call): a for a in assertions}
    broken = first_window_broken([Claimed(a.call, a.claim) for a in assertions])
    if broken is None:
        return None
    earlier, later = (by_call[id(c.call)] for c in broken)
    return Contradiction(tuple(assertions), None, earlier, later)


def irreducible(assertions: Sequence[Assertion]) -> Contradiction | None:
    """A contradiction out of which no assertion can be left, or None if there is no contradiction."""
    if contradiction(assertions) is None:
        return None
    kept = sorted(assertions, key=lambda a: (a.call.operation.call, a.call.index))
    for assertion in sorted(assertions, key=_told_ns, reverse=True):  # the late ones first: the earliest core stays
        rest = [a for a in kept if a is not assertion]
        if rest and contradiction(rest) is not None:
            kept = rest
    return contradiction(kept)


def find(log: int, claimed: Sequence[Claimed], found: Sequence[Nogood], subject: str) -> Contradiction | None:
    """The contradiction in one log that could be noticed first, irreducible; None if there is none.

    ``claimed`` are the operations with their claims about the log, ``found`` its nogoods.
    """
    candidates: list[Contradiction] = []
    if found:
        wanted = Wanted(found)
        makers: dict[Statement, list[Assertion]] = defaultdict(list)
        for call, claim in claimed:
            statements = statements_of(call, log, claim, wanted)
            if statements:
                assertion = Assertion(call, claim, statements, found, subject)
                for statement in statements:
                    makers[statement].append(assertion)
        for nogood in found:
            cover = _cover(nogood, makers)
            if cover:
                candidates.append(Contradiction(cover, nogood))
    broken = first_window_broken(claimed)
    if broken is not None:
        pair = tuple(Assertion(c.call, c.claim, frozenset(), (), subject) for c in broken)
        candidates.append(Contradiction(pair, None, *pair))
    if not candidates:
        return None
    first = min(candidates, key=lambda c: (c.noticed_ns, c.nogood is None, len(c.assertions)))
    if first.nogood is None:
        return first
    # Judged by this nogood alone, so that nothing else in the same operations gives another reason.
    alone = (first.nogood,)
    without_times = [
        Assertion(a.call, Claim(), a.statements & first.nogood.statements, alone, subject) for a in first.assertions
    ]
    return irreducible(without_times)


def _cover(nogood: Nogood, makers: dict[Statement, list[Assertion]]) -> tuple[Assertion, ...]:
    """Operations that together make the whole nogood, told as early as possible; few if that costs nothing."""
    earliest: dict[Statement, Assertion] = {}
    for statement in nogood.statements:
        if not makers[statement]:
            return ()
        earliest[statement] = min(makers[statement], key=_told_ns)
    noticed_ns = max(_told_ns(a) for a in earliest.values())
    cover: list[Assertion] = []
    missing = set(nogood.statements)
    while missing:  # greedily, among those told by then: the one that makes most of what is missing
        able = {id(a): a for s in missing for a in makers[s] if _told_ns(a) <= noticed_ns}
        best = min(able.values(), key=lambda a: (-len(a.statements & missing), _told_ns(a), a.call.index))
        cover.append(best)
        missing -= best.statements
    return tuple(cover)


def _told_ns(assertion: Assertion) -> int:
    op = assertion.call.operation
    return op.call if op.ret is None else op.ret
