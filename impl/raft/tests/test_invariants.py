"""Each invariant is shown to fail on a state or a step that breaks it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from impl.raft import Core, ProtocolViolation
from impl.raft.configuration import encode_configuration
from impl.raft.events import Tick
from impl.raft.invariants import (
    STATE_INVARIANTS,
    STEP_INVARIANTS,
    CheckedCore,
    View,
    committed_never_cut,
    match_monotonic,
    view,
    violations,
)
from impl.raft.leader import Leader, _Transfer
from impl.raft.messages import CONFIGURATION, Base, Entry
from impl.raft.progress import Progress
from impl.raft.tests.script import node


def broken_state(name: str) -> Core:
    core = node(Core, 1, 1)
    core.commit_index = core.released_index = 1
    match name:
        case "stable_within_log":
            core.log.stable = 3
        case "commit_within_log":
            core.commit_index = 3
        case "released_is_committed_and_durable":
            core.released_index = 2
        case "terms_never_decrease_along_the_log":
            core.log.append([Entry(2, 7, b"")])
        case "next_above_match":
            core.leader = Leader(core)
            core.leader.progress = {2: Progress(2, 64)}
            core.leader.progress[2].match = 2
        case "match_within_log":
            core.leader = Leader(core)
            core.leader.progress = {2: Progress(9, 64)}
            core.leader.progress[2].match = 3
        case "leader_and_candidate_voted_for_themselves":
            core.role, core.voted_for = "leader", 2
        case "base_is_committed" | "snapshot_covers_the_base":
            core.log.base = Base(2, 1, core.configuration)
        case "nothing_released_before_restore":
            core._restore = Base(1, 1, core.configuration)
        case "configuration_is_in_the_log":
            core.log._configurations.append((1, core.configuration))
        case "one_open_change":
            core.leader = Leader(core)
            core.leader.progress = {2: Progress(1, 64), 3: Progress(1, 64)}
            payload = encode_configuration(core.configuration)
            core.log.append([Entry(2, 1, payload, CONFIGURATION), Entry(3, 1, payload, CONFIGURATION)])
        case "no_lease_while_handing_over":
            core.leader = Leader(core)
            core.leader.progress = {2: Progress(3, 64), 3: Progress(2, 64)}
            core.leader.progress[2].match = 2
            core.leader._transfer = _Transfer(None, 2, asked=True)
        case "in_flight_adds_up":
            core.leader = Leader(core)
            core.leader.progress = {2: Progress(2, 64), 3: Progress(2, 64)}
            core.leader.progress[2]._in_flight_bytes = 7
        case "leader_knows_its_members":
            core.leader = Leader(core)
            core.leader.progress = {2: Progress(2, 64), 3: Progress(2, 64, incarnation=5)}
        case _:
            raise AssertionError(f"nothing is planted for {name}")
    return core


@pytest.mark.parametrize("check", STATE_INVARIANTS, ids=lambda check: check.__name__)
def test_state_invariant_fails_on_what_it_forbids(check: Callable[[Core], bool]) -> None:
    name = check.__name__
    healthy, broken = node(Core, 1, 1), broken_state(name)
    assert violations(view(healthy), view(healthy), healthy) == []
    assert name in violations(view(broken), view(broken), broken)


BEFORE = View("leader", 3, 1, 5, 5, 9, 8, 3, {2: 7, 3: 4}, {2: 1, 3: 1}, 4, 4, True, 6)

STEPS: dict[str, dict[str, object]] = {
    "term_monotonic": {"term": 2},
    "one_vote_per_term": {"voted_for": 2},
    "commit_monotonic": {"commit_index": 4},
    "released_monotonic": {"released_index": 4},
    "leader_append_only": {"last_index": 8},
    "match_monotonic": {"match": {2: 6, 3: 4}},
    "committed_never_cut": {"committed_term": 2},
    "base_monotonic": {"base_index": 3},
    "snapshot_monotonic": {"snapshot_index": 3},
    "joint_left_when_committed": {"joint": False, "configuration_index": 7},
}


def test_another_life_of_a_member_begins_anew() -> None:
    """A node that lost its disk and is a member again has nothing, whatever it had before."""
    anew = dataclasses.replace(BEFORE, match={2: 0, 3: 4}, lives={2: 9, 3: 1})
    assert match_monotonic(BEFORE, anew)
    assert not match_monotonic(BEFORE, dataclasses.replace(anew, lives=BEFORE.lives))


@pytest.mark.parametrize("check", STEP_INVARIANTS, ids=lambda check: check.__name__)
def test_step_invariant_fails_on_what_it_forbids(check: Callable[[View, View], bool]) -> None:
    assert check(BEFORE, BEFORE)
    changes = STEPS[check.__name__]
    assert not check(BEFORE, dataclasses.replace(BEFORE, **changes))  # type: ignore[arg-type]


def test_a_cut_below_the_commit_index_is_seen() -> None:
    follower = dataclasses.replace(BEFORE, role="follower")
    assert not committed_never_cut(follower, dataclasses.replace(follower, last_index=4))


def test_checked_core_stops_at_the_step_that_breaks_one() -> None:
    core = node(CheckedCore, 1, 1)
    core.step(Tick(0))
    core.log.stable = 9
    with pytest.raises(ProtocolViolation, match="stable_within_log"):
        core.step(Tick(0))
