"""What must hold of one member after every step: named, cited, and cheap enough to leave on.

Two kinds, after LogCabin's example: *state* invariants look at one state, *step* invariants compare the states before
and after one step. They are the ones that found real bugs in other implementations: terms, commit indexes and match
indexes that went back, ``next`` at or below ``match``, a second vote in a term, acknowledged entries cut. What needs
more than one member to see (election safety, log matching, leader completeness) belongs to the cluster's observers.

``CheckedCore`` is a core that checks itself; a node runs it when its configuration says ``check_invariants``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from impl.raft.core import Core, ProtocolViolation
from impl.raft.events import Effects, Event
from impl.raft.messages import NOBODY, NodeId


@dataclass(frozen=True, slots=True)
class View:
    """What the step invariants compare."""

    role: str
    term: int
    voted_for: NodeId
    commit_index: int
    released_index: int
    last_index: int
    stable_index: int
    committed_term: int  # of the entry at commit_index
    match: dict[NodeId, int]


def view(core: Core) -> View:
    """The part of a core's state that the step invariants compare."""
    committed_term = core.log.term_at(core.commit_index)
    return View(
        role=core.role,
        term=core.term,
        voted_for=core.voted_for,
        commit_index=core.commit_index,
        released_index=core.released_index,
        last_index=core.log.last_index,
        stable_index=core.log.stable,
        committed_term=-1 if committed_term is None else committed_term,
        match={peer: progress.match for peer, progress in core._progress.items()},
    )


# --- state invariants: True where they hold ----------------------------------------------------------------------


def stable_within_log(core: Core) -> bool:
    """What is durable is part of the log."""
    return 0 <= core.log.stable <= core.log.last_index


def commit_within_log(core: Core) -> bool:
    """Only entries that the member has can be known to be committed (figure 2: min with the last new entry)."""
    return core.commit_index <= core.log.last_index


def released_is_committed_and_durable(core: Core) -> bool:
    """The state machine sees only what is committed, and durable at this member."""
    return core.released_index <= min(core.commit_index, core.log.stable)


def terms_never_decrease_along_the_log(core: Core) -> bool:
    """The end of the log has the greatest term in it, and no term beyond the member's own (paper 5.4.1)."""
    last = core.log.last_index
    before = core.log.term_at(last - 1) if last > 1 else 0
    return (before or 0) <= core.log.last_term <= core.term


def next_above_match(core: Core) -> bool:
    """A leader never sends again what it knows to be there."""
    return all(progress.next > progress.match for progress in core._progress.values())


def match_within_log(core: Core) -> bool:
    """A follower cannot match more than the leader has."""
    return all(progress.match <= core.log.last_index for progress in core._progress.values())


def leader_and_candidate_voted_for_themselves(core: Core) -> bool:
    """Who stands for election in a term has given its vote in that term to itself (paper 5.2)."""
    return core.role not in ("candidate", "leader") or core.voted_for == core.node_id


STATE_INVARIANTS: tuple[Callable[[Core], bool], ...] = (
    stable_within_log,
    commit_within_log,
    released_is_committed_and_durable,
    terms_never_decrease_along_the_log,
    next_above_match,
    match_within_log,
    leader_and_candidate_voted_for_themselves,
)


# --- step invariants ---------------------------------------------------------------------------------------------


def term_monotonic(before: View, after: View) -> bool:
    """currentTerm "increases monotonically" (figure 2)."""
    return after.term >= before.term


def one_vote_per_term(before: View, after: View) -> bool:
    """Within a term a vote, once given, stands (paper 5.2)."""
    return after.term != before.term or before.voted_for in (NOBODY, after.voted_for)


def commit_monotonic(before: View, after: View) -> bool:
    """commitIndex "increases monotonically" (figure 2)."""
    return after.commit_index >= before.commit_index


def released_monotonic(before: View, after: View) -> bool:
    """lastApplied "increases monotonically" (figure 2)."""
    return after.released_index >= before.released_index


def leader_append_only(before: View, after: View) -> bool:
    """A leader never overwrites or deletes entries in its log (paper 5.3, Leader Append-Only)."""
    return not (before.role == after.role == "leader" and before.term == after.term) or (
        after.last_index >= before.last_index
    )


def match_monotonic(before: View, after: View) -> bool:
    """Within a leader's term, what a follower is known to have never shrinks (figure 2, matchIndex)."""
    if not (before.role == after.role == "leader" and before.term == after.term):
        return True
    return all(after.match.get(peer, 0) >= match for peer, match in before.match.items())


def committed_never_cut(before: View, after: View) -> bool:
    """What was committed is neither cut nor replaced (State Machine Safety, paper 5.4.3)."""
    if after.commit_index == before.commit_index and after.committed_term != before.committed_term:
        return False
    return after.last_index >= before.commit_index


STEP_INVARIANTS: tuple[Callable[[View, View], bool], ...] = (
    term_monotonic,
    one_vote_per_term,
    commit_monotonic,
    released_monotonic,
    leader_append_only,
    match_monotonic,
    committed_never_cut,
)


def violations(before: View, after: View, core: Core) -> list[str]:
    """The names of the invariants that do not hold of ``core`` after a step from ``before`` to ``after``."""
    return [check.__name__ for check in STATE_INVARIANTS if not check(core)] + [
        step_check.__name__ for step_check in STEP_INVARIANTS if not step_check(before, after)
    ]


class CheckedCore(Core):
    """A core that looks at every invariant after every step and stops at the first that is broken."""

    def step(self, event: Event) -> Effects:
        before = view(self)
        effects = super().step(event)
        after = view(self)
        broken = violations(before, after, self)
        if broken:
            raise ProtocolViolation(f"after {event!r}: {', '.join(broken)} (before: {before}, after: {after})")
        return effects
