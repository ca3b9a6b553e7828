"""Reads: dissertation 6.4 (ReadIndex, at leaders and followers) and 6.4.1 (leases)."""

from __future__ import annotations

from typing import Any

import pytest

from impl.raft.configuration import founding
from impl.raft.core import Core
from impl.raft.events import Propose, Read, ReadReady, Receive, Tick, Transfer
from impl.raft.messages import Base, ReadIndex, ReadIndexResponse
from impl.raft.questions import Questions
from impl.raft.reads import PendingReads
from impl.raft.settings import Settings
from impl.raft.tests.single import (
    acknowledge,
    append,
    appends,
    ask,
    committed,
    flushed,
    heard,
    leader,
    reconfigured,
    refusals,
    sent,
    started,
    vote,
)


def ready(*tokens: int, index: int) -> list[ReadReady]:
    return [ReadReady(token, index) for token in tokens]


# --- ReadIndex at the leader -------------------------------------------------------------------------------------


def test_d6_4_a_read_waits_for_a_round_begun_after_it() -> None:
    core = committed(leader(started()), 2, 3)
    assert core.leader is not None
    before = core.leader._round
    effects = core.step(Read((7, 8)))
    assert [m.round for m in appends(effects)] == [before + 1] * 2
    assert effects.reads == []
    assert acknowledge(core, 2, round=before).reads == [], "an answer to an earlier round"
    assert acknowledge(core, 2).reads == ready(7, 8, index=core.commit_index)
    assert acknowledge(core, 3).reads == [], "once"


def test_d6_4_the_index_is_that_of_the_moment_of_the_read() -> None:
    core = committed(leader(started()), 2, 3)
    core.step(Read((7,)))
    core.step(Propose(((1, b"x"),)))
    flushed(core)
    assert acknowledge(core, 2, 2).reads == ready(7, index=1)
    assert core.commit_index == 2


def test_d6_4_a_new_leader_waits_for_its_own_entry() -> None:
    """Its commit index may lag behind what its predecessor had told clients (C2)."""
    core = leader(started(1, 1))
    assert acknowledge(core, 2, 0).reads == []
    core.step(Read((7,)))
    for peer in (2, 3):
        assert acknowledge(core, peer, 2).reads == [], "confirmed as a leader, and still ignorant"
    assert acknowledge(core, 2, 3).reads == [], "now it knows, and asks"
    assert acknowledge(core, 2).reads == ready(7, index=3)


def test_d6_4_reads_share_rounds_and_none_joins_one_that_is_out() -> None:
    core = committed(leader(started()), 2, 3)
    core.step(Read((1,)))
    assert core.leader is not None
    first = core.leader._round
    for token in (2, 3):
        assert appends(core.step(Read((token,)))) == []
    effects = acknowledge(core, 2, round=first)
    assert effects.reads == ready(1, index=1)
    assert [m.round for m in appends(effects)] == [first + 1] * 2, "the next begins at once"
    assert acknowledge(core, 3, round=first).reads == []
    assert acknowledge(core, 3, round=first + 1).reads == ready(2, 3, index=1)


def test_d6_4_reads_end_with_the_office_or_for_want_of_room() -> None:
    core = committed(leader(started(max_pending_reads=3)), 2, 3)
    assert refusals(core.step(Read((1, 2, 3, 4)))) == [(4, "overloaded")]
    assert core.statistics().pending_reads == 3
    question = ReadIndex(0, 2, 1, core.term, 5, 6)
    assert [m.granted for m in sent(core.step(Receive(question)), ReadIndexResponse)] == [False]  # type: ignore[union-attr]
    assert refusals(core.step(Receive(append(9, (0, 0))))) == [(token, "lost-leadership") for token in (1, 2, 3)]
    early = leader(started(1))
    early.step(Read((1,)))
    assert refusals(early.step(Receive(append(9, (0, 0))))) == [(1, "lost-leadership")]


def test_d6_4_a_single_member_confirms_itself() -> None:
    core = committed(leader(started(nodes=1)))
    assert core.step(Read((7,))).reads == ready(7, index=1)


# --- reads at followers ---------------------------------------------------------------------------------------------


def follower(**settings: Any) -> Core:
    core = started(1, run_id=77, **settings)
    heard(core, append(1, (1, 1), (), commit=1))
    return core


def test_d6_4_a_follower_asks_its_leader() -> None:
    core = follower()
    (question,) = core.step(Read((7, 8))).send
    assert question == ReadIndex(0, 1, 2, 1, 77, 1)
    assert core.step(Read((9,))).send == [], "one question at a time"
    effects = core.step(Receive(ReadIndexResponse(0, 2, 1, 1, 77, 1, True, 5)))
    assert effects.reads == ready(7, 8, index=5)
    assert effects.send == [ReadIndex(0, 1, 2, 1, 77, 2)], "then the next, for those that came meanwhile"
    again = core.step(Receive(ReadIndexResponse(0, 2, 1, 1, 77, 1, True, 5)))
    assert again.reads == [], "an answer to the earlier question"
    assert core.step(Receive(ReadIndexResponse(0, 2, 1, 1, 77, 2, True, 6))).reads == ready(9, index=6)


@pytest.mark.parametrize(
    "late",
    [
        ReadIndexResponse(0, 2, 1, 1, 76, 1, True, 1),
        ReadIndexResponse(0, 2, 1, 1, 77, 0, True, 1),
        ReadIndexResponse(0, 9, 1, 1, 77, 1, True, 1),
        ReadIndexResponse(0, 2, 1, 1, 77, 1, True, 1, 5),
    ],
)
def test_d6_4_answers_to_others_questions_are_nobodys(late: ReadIndexResponse) -> None:
    """To an earlier process of this node, to an earlier question, from a stranger, from another incarnation."""
    core = follower()
    core.step(Read((7,)))
    effects = core.step(Receive(late))
    assert (effects.reads, effects.refused) == ([], [])


def test_d6_4_every_read_of_a_follower_ends() -> None:
    core = follower(max_pending_reads=2)
    assert refusals(started().step(Read((1,)))) == [(1, "not-leader")], "nobody to ask"
    assert refusals(core.step(Read((1, 2, 3)))) == [(3, "overloaded")]
    refused = core.step(Receive(ReadIndexResponse(0, 2, 1, 1, 77, 1, False, 0)))
    assert refusals(refused) == [(1, "not-leader"), (2, "not-leader")]
    core.step(Read((4, 5)))
    for _ in range(9):
        assert refusals(core.step(Tick(9))) == []
    assert refusals(core.step(Tick(9))) == [(4, "read-timeout"), (5, "read-timeout")]
    core.step(Read((6,)))
    assert core.statistics().pending_reads == 1
    assert refusals(core.step(Receive(append(3, (1, 1), source=3)))) == [(6, "lost-leadership")]
    assert core.step(Receive(ReadIndexResponse(0, 2, 1, 3, 77, 3, True, 1))).reads == []


def test_d6_4_a_leader_answers_questions_like_reads() -> None:
    core = committed(leader(started()), 2, 3)
    question = ReadIndex(0, 2, 1, core.term, 5, 6)
    effects = core.step(Receive(question))
    assert sent(effects, ReadIndexResponse) == []
    assert len(appends(effects)) == 2
    (reply,) = sent(acknowledge(core, 3), ReadIndexResponse)
    assert reply == ReadIndexResponse(0, 1, 2, core.term, 5, 6, True, 1)
    core.step(Receive(question))
    (gone,) = sent(core.step(Receive(append(9, (0, 0)))), ReadIndexResponse)
    assert not gone.granted, "the office is lost"  # type: ignore[union-attr]


def test_d6_4_who_does_not_lead_grants_nothing() -> None:
    core = started(1)
    for term in (0, 1, 9):
        (reply,) = core.step(Receive(ReadIndex(0, 2, 1, term, 5, 6))).send
        assert reply == ReadIndexResponse(0, 1, 2, 1, 5, 6, False, 0)
    led = committed(leader(started()), 2, 3)
    (reply,) = led.step(Receive(ReadIndex(0, 2, 1, led.term + 1, 5, 6))).send
    assert reply == ReadIndexResponse(0, 1, 2, led.term, 5, 6, False, 0), "somebody else leads a newer term"


def test_questions_bound_and_number_themselves() -> None:
    questions = Questions(Settings(1, (1,), max_pending_reads=2, election_ticks=3))
    assert questions.begin() is None
    assert list(questions.add([1, 2, 3])) == [3]
    assert questions.begin() == 1
    assert questions.begin() is None, "under way"
    assert questions.answered(0) == []
    assert questions.tick() == questions.tick() == []
    assert questions.tick() == [1, 2]
    assert questions.answered(1) == []
    assert questions.tick() == []
    questions.add([4])
    assert questions.begin() == 2
    assert questions.tick() == questions.tick() == [], "counted from the question"
    questions.add([5])
    assert questions.drop() == [4, 5]
    assert questions.pending == 0


# --- leases ---------------------------------------------------------------------------------------------------------


LEASE_MS = 500


def begin_round(core: Core, now_ms: int) -> None:
    assert any(appends(core.step(Tick(0, now_ms))) for _ in range(core.settings.election_ticks))


def leased(core: Core | None = None, *, at: int = 1000) -> Core:
    """A leader whose newest round began at ``at`` ms and is confirmed."""
    core = core or committed(leader(started(lease_ms=LEASE_MS)), 2, 3)
    begin_round(core, at)
    acknowledge(core, 2)
    return core


@pytest.mark.parametrize(("now_ms", "served"), [(1000, True), (1499, True), (1500, False), (9000, False)])
def test_d6_4_1_a_lease_runs_from_the_beginning_of_a_confirmed_round(now_ms: int, served: bool) -> None:
    core = leased()
    core.step(Tick(0, 1400))  # answered late or not at all: that is no beginning
    effects = core.step(Read((7,), lease=True, now_ms=now_ms))
    assert bool(effects.reads) is served
    assert bool(appends(effects)) is not served, "without a lease the read takes the usual way"


def test_d6_4_1_the_answer_does_not_prolong_the_lease() -> None:
    """It counts from when the round began, however late the answer came (C4)."""
    core = committed(leader(started(lease_ms=LEASE_MS)), 2, 3)
    begin_round(core, 1000)
    core.step(Tick(0, 1450))
    acknowledge(core, 2)
    assert core.step(Read((7,), lease=True, now_ms=1499)).reads == ready(7, index=1)
    assert core.step(Read((8,), lease=True, now_ms=1500)).reads == []


def test_d6_4_1_only_who_asks_for_a_lease_read_gets_one_and_only_where_leases_are() -> None:
    core = leased()
    assert core.step(Read((7,), now_ms=1001)).reads == []
    without = leased(committed(leader(started()), 2, 3))
    assert without.step(Read((7,), lease=True, now_ms=1000)).reads == []


def test_d6_4_1_no_lease_before_an_own_entry_is_committed() -> None:
    core = leader(started(1, lease_ms=LEASE_MS))
    core.step(Tick(0, 1000))
    begin_round(core, 1000)
    acknowledge(core, 2, 1)
    assert core.step(Read((7,), lease=True, now_ms=1000)).reads == []


def test_d6_4_1_no_lease_from_a_minority() -> None:
    core = committed(leader(started(nodes=5, lease_ms=LEASE_MS)), 2, 3)
    begin_round(core, 1000)
    acknowledge(core, 2)
    assert core.step(Read((7,), lease=True, now_ms=1001)).reads == []
    acknowledge(core, 3)
    assert core.step(Read((8,), lease=True, now_ms=1001)).reads == ready(8, index=1)


def test_d6_4_1_no_lease_after_asking_another_to_take_over() -> None:
    """From then on somebody may be elected at any time, by members that hear this leader."""
    core = leased()
    core.step(Transfer(5, 2))
    assert core.step(Read((7,), lease=True, now_ms=1001)).reads == []
    for _ in range(40):
        core.step(Tick(0, 1002))
        acknowledge(core, 2)
        acknowledge(core, 3)
    assert core.statistics().transferring_to == 0, "given up"
    assert core.step(Read((8,), lease=True, now_ms=1003)).reads == [], "the message may still be under way"


def test_d6_4_1_no_lease_from_before_a_change_of_the_group() -> None:
    """A majority of other voters could elect without any of those who confirmed."""
    core = leased()
    reconfigured(core, (1, 2, 3, 4), (1, 2, 3))
    assert core.step(Read((7,), lease=True, now_ms=1001)).reads == []
    slow = committed(leader(started(lease_ms=LEASE_MS)), 2, 3)
    begin_round(slow, 1000)
    assert slow.leader is not None
    round = slow.leader._round
    reconfigured(slow, (1, 2, 3, 4), (1, 2, 3))
    acknowledge(slow, 2, 1, round=round)
    assert slow.step(Read((7,), lease=True, now_ms=1001)).reads == [], "nor from a round that was out by then"


def test_d6_4_1_a_follower_has_no_lease() -> None:
    core = follower(lease_ms=LEASE_MS)
    effects = core.step(Read((7,), lease=True, now_ms=0))
    assert (effects.reads, len(effects.send)) == ([], 1)


def test_d6_4_1_who_confirmed_a_round_votes_for_nobody_for_an_election_timeout() -> None:
    core = started(1)
    heard(core, append(1, (1, 1)))
    for _ in range(9):
        core.step(Tick(9))
        assert core.step(Receive(ask(5, (9, 9), source=3))).send == []
    core.step(Tick(9))
    assert vote(heard(core, ask(5, (9, 9), source=3))).granted


def test_d6_4_1_a_clock_that_goes_back_is_not_followed() -> None:
    core = leased(at=1000)
    core.step(Tick(0, 400))
    assert core.now_ms == 1000
    reads = PendingReads(10)
    reads.begin_round(1, 0, 1000)
    reads.confirmed(1)
    assert reads.has_lease(1000, 1)
    assert not reads.has_lease(999, 10)
    assert not reads.has_lease(1001, 0)


def test_d6_4_1_a_single_member_holds_a_lease_by_itself() -> None:
    alone = Base(configuration=founding((1,)))
    core = committed(leader(started(base=alone, lease_ms=LEASE_MS)))
    assert core.step(Read((7,), lease=True, now_ms=0)).reads == ready(7, index=1)
