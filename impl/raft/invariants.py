"""What must hold of one member after every step: named, cited, and cheap enough to leave on.

Two kinds, after LogCabin's example: *state* invariants look at one state, *step* invariants compare the states before
and after one step. They are the ones that found real bugs in other implementations: terms, commit indexes and match
indexes that went back, ``next`` at or below ``match``, a second vote in a term, acknowledged entries cut. What needs
more than one member to see (election safety, log matching, leader completeness) belongs to the cluster's observers.

``CheckedCore`` is a core that checks itself; a node runs it when its configuration says ``check_invariants``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from impl.raft.core import Core
from impl.raft.errors import ProtocolViolation
from impl.raft.events import Effects, Event
from impl.raft.messages import CONFIGURATION, NOBODY, NodeId


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
    lives: dict[NodeId, int] = field(default_factory=dict)  # the incarnations that these were said by
    base_index: int = 0
    snapshot_index: int = 0
    joint: bool = False
    configuration_index: int = 0


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
        match={peer: progress.match for peer, progress in core.progress.items()},
        lives={peer: progress.incarnation for peer, progress in core.progress.items()},
        base_index=core.log.base.index,
        snapshot_index=core.snapshot.index if core.snapshot is not None else 0,
        joint=core.configuration.joint,
        configuration_index=core.configuration_index,
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
    before = core.log.term_at(last - 1)
    return (before or 0) <= core.log.last_term <= core.term


def next_above_match(core: Core) -> bool:
    """A leader never sends again what it knows to be there."""
    return all(progress.next > progress.match for progress in core.progress.values())


def match_within_log(core: Core) -> bool:
    """A follower cannot match more than the leader has."""
    return all(progress.match <= core.log.last_index for progress in core.progress.values())


def leader_and_candidate_voted_for_themselves(core: Core) -> bool:
    """Who stands for election in a term has given its vote in that term to itself (paper 5.2)."""
    return core.role not in ("candidate", "leader") or core.voted_for == core.node_id


def base_is_committed(core: Core) -> bool:
    """Only what is committed is ever replaced by a snapshot (paper section 7)."""
    return core.log.base.index <= core.commit_index


def snapshot_covers_the_base(core: Core) -> bool:
    """Whatever the log has forgotten is in a snapshot, which others can be sent."""
    return core.log.base.index <= (core.snapshot.index if core.snapshot is not None else 0)


def nothing_released_before_restore(core: Core) -> bool:
    """While the state machine is still to be replaced, it is given nothing that comes after (section 7)."""
    return core._restore is None or core.released_index < core._restore.index


def configuration_is_in_the_log(core: Core) -> bool:
    """The configuration in force is that of an entry in the log, or of what stands in for its beginning (section 6)."""
    base, index = core.log.base, core.configuration_index
    if index <= base.index:
        return index == base.configuration_index and core.configuration == base.configuration
    return any(entry.kind == CONFIGURATION for entry in core.log.slice(index, index))


def one_open_change(core: Core) -> bool:
    """A leader changes the group only when the change before is committed (dissertation 4.1, and its correction)."""
    if core.leader is None or core.log.term_at(core.configuration_index) != core.term:
        return True
    return core.configuration_index <= core.commit_index or core.log.previous_configuration_index <= core.commit_index


def no_lease_while_handing_over(core: Core) -> bool:
    """Who has asked another member to stand no longer answers reads by the clock (dissertation 6.4.1)."""
    leader = core.leader
    return leader is None or not leader.has_asked_to_stand or not leader.reads.lease_allowed


def in_flight_adds_up(core: Core) -> bool:
    """The bytes that are said to be in flight are those of the appends that are; while probing there are none."""
    return all(progress.adds_up for progress in core.progress.values())


def leader_knows_its_members(core: Core) -> bool:
    """A leader sends to every member, in the life that the group knows, and to none besides who are not leaving."""
    if core.leader is None:
        return True
    members = {m.node_id: m.incarnation for m in core.configuration.members if m.node_id != core.node_id}
    kept = {peer: p.incarnation for peer, p in core.progress.items() if not p.leaving}
    return kept == members


STATE_INVARIANTS: tuple[Callable[[Core], bool], ...] = (
    stable_within_log,
    commit_within_log,
    released_is_committed_and_durable,
    terms_never_decrease_along_the_log,
    next_above_match,
    match_within_log,
    leader_and_candidate_voted_for_themselves,
    base_is_committed,
    snapshot_covers_the_base,
    nothing_released_before_restore,
    configuration_is_in_the_log,
    one_open_change,
    no_lease_while_handing_over,
    in_flight_adds_up,
    leader_knows_its_members,
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
    return all(
        after.match[peer] >= match
        for peer, match in before.match.items()
        if peer in after.match and after.lives.get(peer) == before.lives.get(peer)
    )


def committed_never_cut(before: View, after: View) -> bool:
    """What was committed is neither cut nor replaced (State Machine Safety, paper 5.4.3)."""
    if after.commit_index == before.commit_index and after.committed_term != before.committed_term:
        return False
    return after.last_index >= before.commit_index


def base_monotonic(before: View, after: View) -> bool:
    """What the log has forgotten never comes back into it (section 7)."""
    return after.base_index >= before.base_index


def snapshot_monotonic(before: View, after: View) -> bool:
    """An older snapshot never takes the place of a newer one."""
    return after.snapshot_index >= before.snapshot_index


def joint_left_when_committed(before: View, after: View) -> bool:
    """A leader leaves a joint configuration only once that is committed (section 6)."""
    same_office = before.role == after.role == "leader" and before.term == after.term
    left = before.joint and not after.joint and after.configuration_index > before.configuration_index
    return not (same_office and left) or before.configuration_index <= after.commit_index


STEP_INVARIANTS: tuple[Callable[[View, View], bool], ...] = (
    term_monotonic,
    one_vote_per_term,
    commit_monotonic,
    released_monotonic,
    leader_append_only,
    match_monotonic,
    committed_never_cut,
    base_monotonic,
    snapshot_monotonic,
    joint_left_when_committed,
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
