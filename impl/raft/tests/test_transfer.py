"""Who leads, and within which bounds: handing over (dissertation 3.10), priorities, full disks, check-quorum (6.2)."""

from __future__ import annotations

from typing import Any

import pytest

from impl.raft.core import Core
from impl.raft.events import Completed, DiskSpace, Propose, Read, Receive, Tick, Transfer, Unreachable
from impl.raft.leader import RELIEF_ELECTION_TIMEOUTS, STALLED_ELECTION_TIMEOUTS
from impl.raft.messages import AppendEntriesResponse, RequestVote, TimeoutNow
from impl.raft.tests.single import (
    acknowledge,
    append,
    appends,
    ask,
    beat,
    candidate,
    committed,
    durable,
    flushed,
    heard,
    leader,
    pre_candidate,
    reconfigured,
    refusals,
    sent,
    started,
    vote,
)


def led(**settings: Any) -> Core:
    return committed(leader(started(**settings)), 2, 3)


# --- handing over -----------------------------------------------------------------------------------------------------


def test_d3_10_the_target_is_told_once_it_has_everything() -> None:
    core = led()
    core.step(Propose(((1, b"x"),)))
    effects = core.step(Transfer(5, 2))
    assert sent(effects, TimeoutNow) == []
    assert core.statistics().transferring_to == 2
    assert sent(acknowledge(core, 3), TimeoutNow) == [], "another has everything"
    assert sent(acknowledge(core, 2, 1), TimeoutNow) == []
    assert sent(acknowledge(core, 2), TimeoutNow) == [TimeoutNow(0, 1, 2, core.term)]
    assert sent(acknowledge(core, 2), TimeoutNow) == [], "once"


def test_d3_10_no_proposals_meanwhile_and_the_end_is_told() -> None:
    core = led()
    assert sent(core.step(Transfer(5, 2)), TimeoutNow) == [TimeoutNow(0, 1, 2, 1)]
    assert refusals(core.step(Propose(((7, b"x"),)))) == [(7, "transferring")]
    assert refusals(core.step(Transfer(6, 3))) == [(6, "transferring")]
    effects = heard(core, ask(2, (core.log.last_index, 1), transfer=True))
    assert vote(effects).granted, "having heard from a leader lately is no reason: the leader itself asked"
    assert effects.completed == [Completed(5)]
    assert core.role == "follower"


def test_d3_10_a_target_that_does_not_stand_is_given_up() -> None:
    """And the leader leads on, taking proposals (P9)."""
    core = led()
    core.step(Transfer(5, 2))
    found = [refusals(beat(core, 2, 3)) for _ in range(10)]
    assert found == [[]] * 9 + [[(5, "transfer-failed")]]
    assert core.role == "leader"
    assert refusals(core.step(Propose(((7, b"x"),)))) == []
    assert core.statistics().transferring_to == 0


def test_d3_10_a_leader_that_is_elected_again_is_not_handing_over() -> None:
    core = led()
    core.step(Transfer(5, 2))
    assert refusals(beat(core, ticks=20)) == [] or core.leader is None
    again = committed(leader(core), 2, 3)
    assert refusals(again.step(Propose(((7, b"x"),)))) == []


def test_d3_10_stepping_down_without_an_election_is_a_failed_transfer() -> None:
    core = led()
    core.step(Propose(((1, b"x"),)))
    beat(core, ticks=8)
    core.step(Transfer(5, 2))
    refused = [refusal for _ in range(12) for refusal in refusals(core.step(Tick(0)))]
    assert refused == [(5, "transfer-failed")]
    assert core.leader is None


@pytest.mark.parametrize("target", [1, 9])
def test_d3_10_to_nobody_that_could_lead(target: int) -> None:
    core = led()
    assert refusals(core.step(Transfer(5, target))) == [(5, "unknown-member")]
    assert refusals(started().step(Transfer(5, 2))) == [(5, "not-leader")]
    alone = committed(leader(started(nodes=1)))
    assert refusals(alone.step(Transfer(5))) == [(5, "unknown-member")]


def test_d3_10_the_leader_chooses_who_is_furthest_and_alive() -> None:
    core = leader(started(nodes=5))
    flushed(core)
    core.step(Propose(tuple((token, b"x") for token in range(3))))
    acknowledge(core, 4, 3)
    acknowledge(core, 3, 2)
    core.step(Transfer(5))
    assert core.statistics().transferring_to == 4
    other = leader(started(nodes=5))
    for peer in (2, 3, 4, 5):
        acknowledge(other, peer)
    other.progress[2].recent_active = False
    other.step(Transfer(5))
    assert other.statistics().transferring_to == 3


def test_d3_10_the_target_stands_at_once_without_asking() -> None:
    """Pre-vote would be refused by all who hear the leader (P6); the request says who wanted it."""
    core = started(1)
    heard(core, append(1, (1, 1)))
    effects = core.step(Receive(TimeoutNow(0, 2, 1, 1)))
    assert (core.role, core.term) == ("candidate", 2)
    assert effects.send == []
    assert durable(core, effects).send == [RequestVote(0, 1, peer, 2, 1, 1, False, True) for peer in (2, 3)]
    assert core.step(Receive(TimeoutNow(0, 2, 1, 1))).persist is None, "twice is once"


@pytest.mark.parametrize("late", [TimeoutNow(0, 2, 1, 1), TimeoutNow(0, 3, 1, 2), TimeoutNow(0, 2, 1, 3)])
def test_d3_10_only_the_leader_of_this_term_hands_over(late: TimeoutNow) -> None:
    core = started(1)
    heard(core, append(1, (1, 1)))
    heard(core, append(2, (1, 1)))
    core.step(Receive(late))
    assert (core.role, core.term) == ("follower", 2)


def test_d3_10_a_transfer_that_failed_is_followed_by_ordinary_elections() -> None:
    core = started(1)
    heard(core, append(1, (1, 1)))
    heard(core, TimeoutNow(0, 2, 1, 1))
    asked = [m for _ in range(20) for m in core.step(Tick(0)).send]
    assert asked[:2] == [RequestVote(0, 1, peer, 3, 1, 1, True, False) for peer in (2, 3)]
    assert {(m.term, m.transfer) for m in asked if isinstance(m, RequestVote)} == {(3, False)}


def test_d3_10_a_stale_log_is_not_elected_even_on_request() -> None:
    core = started(1, 1)
    heard(core, append(1, (2, 1)))
    assert not vote(heard(core, ask(2, (1, 1), transfer=True))).granted
    assert core.term == 2


# --- priorities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("priority", "first"), [(2, 10), (1, 20)])
def test_priority_decides_who_stands_first(priority: int, first: int) -> None:
    ticks = set()
    for entropy in range(20):
        core, count = started(priority=priority), 0
        while core.role == "follower":
            core.step(Tick(entropy))
            count += 1
        ticks.add(count)
    assert ticks == set(range(first, first + 10))


def test_priority_zero_never_stands_unless_leadership_is_handed_to_it() -> None:
    core = started(1, priority=0)
    heard(core, append(1, (1, 1)))
    assert [m for _ in range(100) for m in core.step(Tick(0)).send] == []
    assert core.leader_id == 0, "and knows that nobody leads"
    assert vote(heard(core, ask(2, (1, 1)))).granted
    heard(core, append(2, (1, 1)))
    heard(core, TimeoutNow(0, 2, 1, 2))
    assert core.statistics().role == "candidate"
    assert [m for _ in range(100) for m in core.step(Tick(0)).send] == []
    assert core.role == "follower", "it does not try again by itself"


# --- full disks ----------------------------------------------------------------------------------------------------


def full() -> Core:
    core = led()
    core.step(DiskSpace(full=True))
    return core


def test_a_full_leader_refuses_writes_serves_reads_and_stays() -> None:
    core = leader(started())
    core.step(Propose(((1, b"x"),)))
    core.step(DiskSpace(full=True))
    assert refusals(core.step(Propose(((7, b"x"),)))) == [(7, "disk-full")]
    for _ in range((STALLED_ELECTION_TIMEOUTS + 5) * 10):
        core.step(Tick(0))
        for peer in (2, 3):
            acknowledge(core, peer, 1)
    assert core.role == "leader", "a full disk does not hang"
    core.step(Read((9,)))
    assert [r.token for r in acknowledge(core, 2, 1).reads] == [9]
    core.step(DiskSpace(full=False))
    for _ in range(RELIEF_ELECTION_TIMEOUTS * 10):
        beat(core, 2, 3)
        flushed(core)
    assert refusals(core.step(Propose(((8, b"x"),)))) == []


def test_a_full_leader_hands_over_to_who_has_room_again_and_again() -> None:
    core = full()
    told = [tick for tick in range(65) if sent(beat(core, 2, 3), TimeoutNow)]
    assert told == [0, 30, 60]
    assert core.role == "leader"


def test_a_full_leader_changes_no_group() -> None:
    core = full()
    assert refusals(reconfigured(core, (1, 2, 3, 4), (1, 2, 3))) == [(90, "disk-full")]


def test_a_full_member_does_not_stand() -> None:
    core = started(1)
    heard(core, append(1, (1, 1)))
    core.step(DiskSpace(full=True))
    heard(core, TimeoutNow(0, 2, 1, 1))
    assert [m for _ in range(60) for m in core.step(Tick(0)).send] == []
    assert (core.role, core.term) == ("follower", 1)
    core.step(DiskSpace(full=False))
    pre_candidate(core)


# --- check-quorum, bounds --------------------------------------------------------------------------------------------


def test_d6_2_a_leader_that_is_heard_by_a_majority_stays() -> None:
    core = led(nodes=5)
    beat(core, 2, 3, ticks=100)
    assert core.role == "leader"
    beat(core, 2, ticks=20)
    assert core.leader is None, "two of five"


def test_d6_2_being_heard_once_does_not_last() -> None:
    core = led()
    beat(core, ticks=20)
    assert core.leader is None


def test_back_pressure_in_entries_opens_with_commitment() -> None:
    core = led(max_uncommitted_entries=3)
    for _ in range(4):
        effects = core.step(Propose(tuple((token, b"x") for token in range(5))))
        assert [a.token for a in effects.accepted] == [0, 1, 2]
        assert refusals(effects) == [(3, "overloaded"), (4, "overloaded")]
        committed(core, 2, 3)
    assert core.statistics().uncommitted_entries == 0


def test_back_pressure_in_bytes_opens_with_commitment() -> None:
    """And one large proposal is taken when nothing else waits; nothing leaks over many rounds (R15)."""
    core = led(max_uncommitted_bytes=10)
    for _ in range(4):
        effects = core.step(Propose(((1, b"123456"), (2, b"1234"), (3, b"1"))))
        assert [a.token for a in effects.accepted] == [1, 2]
        assert refusals(effects) == [(3, "overloaded")]
        assert core.statistics().uncommitted_bytes == 10
        committed(core, 2, 3)
        assert core.statistics().uncommitted_bytes == 0
        effects = core.step(Propose(((4, b"x" * 99), (5, b"1"))))
        assert [a.token for a in effects.accepted] == [4]
        assert refusals(effects) == [(5, "overloaded")]
        committed(core, 2, 3)


def test_back_pressure_counts_what_the_leaders_own_disk_lacks() -> None:
    core = led(max_uncommitted_entries=3, max_uncommitted_bytes=100)
    core.step(Propose(((1, b"x" * 60), (2, b"x" * 30))))
    for peer in (2, 3):
        acknowledge(core, peer)
    assert core.commit_index == core.log.last_index
    assert refusals(core.step(Propose(((3, b"x" * 20),)))) == [(3, "overloaded")]
    assert refusals(core.step(Propose(((4, b"x"), (5, b"x"))))) == [(5, "overloaded")]


def test_windows_bound_what_is_in_flight() -> None:
    core = led(max_in_flight_appends=3, max_entries_per_append=1)
    effects = core.step(Propose(tuple((token, b"x") for token in range(9))))
    assert len(appends(effects, 2)) == 3
    assert len(appends(acknowledge(core, 2, 2), 2)) == 1, "one answered, one more"
    large = led(max_in_flight_bytes=100, max_entries_per_append=1)
    effects = large.step(Propose(tuple((token, b"x" * 60) for token in range(9))))
    assert len(appends(effects, 2)) == 2
    assert large.statistics().peers[2].in_flight_bytes == 120
    large.step(Unreachable(2))
    assert large.statistics().peers[2].in_flight_bytes == 0, "forgotten with the state (R13)"
    huge = led(max_in_flight_bytes=100, max_append_bytes=50)
    assert len(appends(huge.step(Propose(((1, b"x" * 900), (2, b"x")))), 2)) == 1, "alone, but it travels"
    assert len(appends(acknowledge(huge, 2, 2), 2)) == 1


def test_heartbeats_do_not_wait_for_bulk() -> None:
    """A full window, and a disk that is busy: the round is asked for all the same."""
    core = led(max_in_flight_appends=1, max_entries_per_append=1)
    core.step(Propose(tuple((token, b"x") for token in range(9))))
    core.step(Tick(0))
    beats = appends(core.step(Tick(0)))
    assert [(m.target, m.entries) for m in beats] == [(2, ()), (3, ())]


def test_d10_2_1_appends_leave_while_the_leaders_disk_writes_and_its_vote_counts_after() -> None:
    core = committed(leader(started(nodes=5)), 2, 3, 4, 5)
    effects = core.step(Propose(((1, b"x"),)))
    assert len(appends(effects)) == 4
    last = core.log.last_index
    acknowledge(core, 2)
    acknowledge(core, 3)
    assert core.commit_index == last - 1, "two disks of five, and a memory"
    flushed(core)
    assert core.commit_index == last


def test_d10_2_1_without_the_leaders_disk_others_commit_and_it_applies_later() -> None:
    core = led()
    core.step(Propose(((1, b"x"),)))
    for peer in (2, 3):
        assert acknowledge(core, peer).apply == []
    assert core.commit_index == core.log.last_index
    assert [entry.index for entry in flushed(core).apply] == [core.log.last_index]


def test_5_3_old_refusals_move_nothing_back() -> None:
    core = led()
    core.step(Propose(((1, b"x"),)))
    acknowledge(core, 2)
    effects = core.step(Receive(AppendEntriesResponse(0, 2, 1, core.term, False, 1, 0, 0, 1)))
    assert (effects.send, core.statistics().peers[2].state) == ([], "replicate")


def test_5_1_a_candidate_counts_its_vote_once_it_is_durable() -> None:
    core = started(nodes=2)
    pre_candidate(core)
    candidate(core)
    other = started(nodes=1)
    while other.role == "follower":
        other.step(Tick(0))
    assert other.leader is None
    flushed(other)
    assert other.role == "leader"
