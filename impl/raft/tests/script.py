"""What scripted histories are written with: expectations, messages said by hand, and one member on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from impl.raft import Core, Settings
from impl.raft.events import Effects, Persisted, Receive
from impl.raft.messages import AppendEntries, Entry, HardState, Message, RequestVote
from impl.raft.tests.judge import Violation

Scenario: TypeAlias = Callable[[type[Core]], None]


def must(condition: bool, rule: str) -> None:
    """An expectation of a script; its failure is a violation like those that the world finds."""
    if not condition:
        raise Violation("scenario", rule)


def patience() -> range:
    """Ticks after which a script stops waiting for a role to change: several election timeouts."""
    return range(100)


def stepped(core: Core, message: Message) -> Effects:
    """Deliver a message and make what follows durable at once; all effects together."""
    effects = core.step(Receive(message))
    if effects.persist:
        after = core.step(Persisted(effects.persist.sequence))
        effects.send.extend(after.send)
        effects.apply.extend(after.apply)
        effects.reads.extend(after.reads)
    return effects


def append(
    term: int,
    prev: tuple[int, int],
    terms: tuple[int, ...] = (),
    *,
    commit: int = 0,
    source: int = 2,
    target: int = 1,
    round: int = 1,
) -> AppendEntries:
    """An append of entries with these terms after ``prev`` (index, term); each payload says index and term."""
    entries = tuple(Entry(prev[0] + 1 + i, t, b"%d/%d" % (prev[0] + 1 + i, t)) for i, t in enumerate(terms))
    return AppendEntries(0, source, target, term, prev[0], prev[1], entries, commit, round)


def log_of(*terms: int) -> tuple[Entry, ...]:
    return append(max(terms, default=0), (0, 0), terms).entries


def ask(term: int, last: tuple[int, int], *, source: int = 2, target: int = 1, pre_vote: bool = False) -> RequestVote:
    """A request for a vote by a candidate whose log ends at ``last`` (index, term)."""
    return RequestVote(0, source, target, term, last[0], last[1], pre_vote)


def node(core_class: type[Core], *terms: int, term: int | None = None, voted_for: int = 0, nodes: int = 3) -> Core:
    """Node 1 of a few, recovered with a log of these terms."""
    remembered = HardState(max(terms, default=0) if term is None else term, voted_for)
    return core_class(Settings(1, tuple(range(1, nodes + 1))), remembered, log_of(*terms))
