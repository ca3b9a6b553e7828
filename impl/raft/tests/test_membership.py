"""Changes of the group: paper section 6, dissertation 4.1 to 4.3, and the correction of 2015."""

from __future__ import annotations

from typing import Any

import pytest

from impl.raft.configuration import configuration_of, founding
from impl.raft.core import Core
from impl.raft.events import Completed, Propose, Read, Receive, Reconfigure, Tick, Transfer
from impl.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Base,
    Configuration,
    Member,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from impl.raft.tests.single import (
    acknowledge,
    answer,
    append,
    appends,
    ask,
    beat,
    candidate,
    committed,
    configuration_entry,
    durable,
    entries_of,
    flushed,
    heard,
    leader,
    members,
    pre_candidate,
    reconfigured,
    refusals,
    sent,
    started,
    vote,
)

THREE = founding((1, 2, 3))


def group(voters: tuple[int, ...], outgoing: tuple[int, ...] = (), learners: tuple[int, ...] = ()) -> Configuration:
    return Configuration(members(*sorted({*voters, *outgoing, *learners})), voters, outgoing)


def of_group(configuration: Configuration, **settings: Any) -> Core:
    return started(base=Base(configuration=configuration), **settings)


def with_learners(*ids: int) -> Core:
    """A leader of 1, 2, 3 with learners that have everything."""
    core = committed(leader(started()), 2, 3)
    reconfigured(core, (1, 2, 3, *ids), (1, 2, 3))
    return committed(core, 2, 3, *ids)


# --- votes and commitment in joint configurations ----------------------------------------------------------------


def test_6_elections_take_both_majorities() -> None:
    """Of the old and of the new voters separately, never of their union."""
    core = candidate(of_group(group((1, 4, 5), (1, 2, 3))))
    for voter, role in ((2, "candidate"), (3, "candidate"), (4, "leader")):
        core.step(Receive(RequestVoteResponse(0, voter, 1, core.term, core.term, True)))
        assert core.role == role, "1, 2, 3 are a majority of the union and of the old voters, not of the new ones"


def test_6_promises_take_both_majorities() -> None:
    core = pre_candidate(of_group(group((1, 4, 5), (1, 2, 3))))
    for voter, role in ((2, "pre-candidate"), (3, "pre-candidate"), (5, "candidate")):
        core.step(Receive(RequestVoteResponse(0, voter, 1, 0, 1, True, True)))
        assert core.role == role


@pytest.mark.parametrize("order", [(2, 3, 4), (4, 5, 2)])
def test_6_commitment_takes_both_majorities(order: tuple[int, ...]) -> None:
    core = leader(of_group(group((1, 4, 5), (1, 2, 3))))
    for peer in order:
        assert core.commit_index == 0
        acknowledge(core, peer, 1)
    assert core.commit_index == 1


def test_6_a_joint_configuration_of_disjoint_groups() -> None:
    """The leader is in the outgoing set only: it counts there, asks everybody, and votes for itself there (M9)."""
    core = pre_candidate(of_group(group((4, 5, 6), (1, 2, 3))))
    asked = candidate(core)
    assert asked.voted_for == 1
    for voter, role in ((4, "candidate"), (5, "candidate"), (2, "leader")):
        core.step(Receive(RequestVoteResponse(0, voter, 1, core.term, core.term, True)))
        assert core.role == role
    flushed(core)
    for peer, index in ((4, 0), (5, 0), (2, 1)):
        assert core.commit_index == index if peer != 2 else core.commit_index == 0
        acknowledge(core, peer, 1)
    assert core.commit_index == 1


def test_6_check_quorum_takes_both_majorities() -> None:
    for peers, stays in (((2, 3), False), ((4, 5), False), ((2, 4), True)):
        core = leader(of_group(group((1, 4, 5), (1, 2, 3))))
        beat(core, *peers, ticks=9)
        beat(core, *peers, ticks=5)
        assert (core.role == "leader") is stays, peers


def test_6_reads_in_a_joint_configuration() -> None:
    core = leader(of_group(group((1, 4, 5), (1, 2, 3))))
    core.step(Read((7,)))
    for peer in (2, 4):
        acknowledge(core, peer, 1)  # commits: the joint configuration is left, too
    assert core.commit_index == 1
    assert not core.configuration.joint
    released = [r.token for peer in (2, 3) for r in acknowledge(core, peer, 1).reads]
    assert released == [], "in force are the new voters, whom the round needs"
    assert [r.token for r in acknowledge(core, 4, 1).reads] == [7]


# --- in force when appended, out of force when cut ------------------------------------------------------------------


def test_6_a_configuration_is_in_force_when_it_is_in_the_log() -> None:
    """Committed or not, durable or not, and for who received it as for who wrote it."""
    joint = group((1, 2), (1, 2, 3))
    core = started(1)
    effects = core.step(Receive(AppendEntries(0, 2, 1, 1, 1, 1, (configuration_entry(2, 1, joint),), 0, 1)))
    assert core.configuration == joint
    assert effects.configuration == joint
    assert (core.configuration_index, core.commit_index) == (2, 0)
    recovered = started(entries=[*entries_of(1), configuration_entry(2, 1, joint)])
    assert recovered.configuration == joint


def test_6_a_configuration_that_is_cut_is_out_of_force() -> None:
    core = started(entries=[*entries_of(1), configuration_entry(2, 1, group((1, 2)))])
    effects = heard(core, append(2, (1, 1), (2,)))
    assert effects.configuration == THREE
    assert (core.configuration, core.configuration_index) == (THREE, 0)
    candidate(core)
    core.step(Receive(RequestVoteResponse(0, 3, 1, core.term, core.term, True)))
    assert core.role == "leader", "the voters before are counted again"


def test_6_a_configuration_replaced_at_its_own_index_is_news() -> None:
    core = started(entries=[*entries_of(1), configuration_entry(2, 1, group((1, 2)))])
    other = group((1, 2, 3, 4))
    effects = core.step(Receive(AppendEntries(0, 2, 1, 2, 1, 1, (configuration_entry(2, 2, other),), 0, 1)))
    assert effects.configuration == core.configuration == other
    again = core.step(Receive(AppendEntries(0, 2, 1, 2, 2, 2, entries_of(2, after=2), 0, 2)))
    assert again.configuration is None, "no news"


# --- the change, step by step ---------------------------------------------------------------------------------------


def test_6_a_change_of_voters_passes_through_a_joint_configuration() -> None:
    core = with_learners(4, 5)
    effects = reconfigured(core, (1, 4, 5), (1, 4, 5), token=91)
    assert effects.persist is not None
    joint = configuration_of(effects.persist.entries[0])
    assert joint == Configuration(members(1, 2, 3, 4, 5), (1, 4, 5), (1, 2, 3), (2, 3))
    assert {m.target for m in appends(effects)} == {2, 3, 4, 5}, "sent at once"
    durable(core, effects)
    for peer in (4, 5):
        assert acknowledge(core, peer).persist is None, "the old voters have not agreed yet"
    effects = acknowledge(core, 2)
    assert effects.persist is not None
    assert configuration_of(effects.persist.entries[0]) == founding((1, 4, 5)), "left as soon as it is committed"
    assert effects.completed == [], "not done before the last entry is committed"
    durable(core, effects)
    index = core.configuration_index
    assert acknowledge(core, 2).completed == [], "2 has no say any more"
    effects = acknowledge(core, 4)
    assert effects.completed == [Completed(91, index)]
    assert sorted(core.progress) == [4, 5]


def test_6_who_leaves_is_told_that_the_change_is_committed() -> None:
    core = with_learners(4)
    reconfigured(core, (1, 2, 4), (1, 2, 4))
    flushed(core)
    acknowledge(core, 2)
    flushed(core)
    assert not core.configuration.joint
    assert 3 in core.progress, "until the change is committed"
    effects = acknowledge(core, 2)
    last = appends(effects, 3)
    assert last
    assert last[-1].leader_commit == core.configuration_index
    assert 3 not in core.progress
    late = core.step(Receive(AppendEntriesResponse(0, 3, 1, core.term, True, 1, 0, 0, 1)))
    assert late.send == [], "and then is nobody"


@pytest.mark.parametrize("change", ["learner", "demotion", "address"])
def test_6_changes_of_members_that_leave_the_voters_alone_take_one_entry(change: str) -> None:
    core = committed(leader(started()), 2, 3)
    if change == "learner":
        reconfigured(core, (1, 2, 3, 4), (1, 2, 3))
        assert core.configuration.learners == (4,)
    elif change == "address":
        moved = (Member(1), Member(2, 1, "elsewhere"), Member(3))
        core.step(Reconfigure(9, core.configuration_index, moved, (1, 2, 3)))
        assert core.configuration.members == moved
    else:
        reconfigured(core, (1, 2, 3), (1, 2))
        assert core.configuration.joint, "a demotion is a change of voters"
        assert core.configuration.leaving == ()
        committed(core, 2, 3)
        assert core.configuration.learners == (3,)
        return
    assert not core.configuration.joint


def test_6_a_new_leader_finishes_the_change_of_another() -> None:
    joint = Configuration(members(1, 2, 3, 4, 5), (1, 4, 5), (1, 2, 3), (2, 3))
    core = leader(started(entries=[*entries_of(1), configuration_entry(2, 1, joint)]))
    acknowledge(core, 2)
    assert core.configuration.joint, "its own no-op is not committed by the new voters yet"
    acknowledge(core, 4)
    assert core.configuration == founding((1, 4, 5))


def test_6_a_leader_outside_the_new_voters_leads_until_the_change_is_committed() -> None:
    """It manages a group without itself, does not count itself, then steps down and names an heir."""
    core = with_learners(4)
    reconfigured(core, (2, 3, 4), (2, 3, 4), token=91)
    flushed(core)
    acknowledge(core, 2)
    acknowledge(core, 4)
    flushed(core)
    assert core.configuration == founding((2, 3, 4))
    assert core.leader is not None
    last = core.log.last_index
    acknowledge(core, 2)
    assert core.commit_index < last, "itself and one of three are no majority"
    effects = acknowledge(core, 4)
    assert effects.completed == [Completed(91, last)]
    assert core.role == "follower"
    assert {m.target for m in appends(effects)} == {2, 3, 4}
    assert all(m.leader_commit == last for m in appends(effects)[-3:])
    assert sent(effects, TimeoutNow) == [TimeoutNow(0, 1, 2, core.term)], "2 has everything"
    assert [m for _ in range(60) for m in core.step(Tick(0)).send] == [], "and does not disturb"


def test_6_a_leader_that_is_demoted_becomes_a_learner() -> None:
    core = committed(leader(started()), 2, 3)
    reconfigured(core, (1, 2, 3), (2, 3))
    for _ in range(3):
        for peer in (2, 3):
            if core.leader is not None:
                acknowledge(core, peer)
        flushed(core)
    assert core.configuration.learners == (1,)
    assert core.role == "follower"
    assert not core.is_voter


def test_d4_2_2_who_is_out_by_an_uncommitted_configuration_stands_and_does_not_count_itself() -> None:
    """It may be the only one that has this configuration: nobody with a shorter log could win against its refusal."""
    core = started(entries=[*entries_of(1), configuration_entry(2, 1, group((2, 3)))])
    candidate(core)
    assert core.voted_for == 1
    core.step(Receive(RequestVoteResponse(0, 2, 1, core.term, core.term, True)))
    assert core.leader is None, "one of 2 and 3 is no majority, whatever it thinks of itself"
    core.step(Receive(RequestVoteResponse(0, 3, 1, core.term, core.term, True)))
    assert core.role == "leader"
    out = started(entries=[*entries_of(1), configuration_entry(2, 1, group((2, 3)))], applied=2)
    assert [m for _ in range(60) for m in out.step(Tick(0)).send] == [], "committed: it is out"


# --- who may change what, and when ---------------------------------------------------------------------------------


def test_d4_1_no_change_before_an_entry_of_its_own_term_is_committed() -> None:
    """The correction of 2015: two leaders could otherwise decide with disjoint majorities (M1)."""
    core = leader(started(1, 1, applied=2))
    assert refusals(reconfigured(core, (1, 2), (1, 2))) == [(90, "not-ready")]
    assert not core.configuration.joint
    committed(core, 2)
    assert refusals(reconfigured(core, (1, 2), (1, 2))) == []


def test_d4_1_one_change_at_a_time() -> None:
    core = committed(leader(started()), 2, 3)
    reconfigured(core, (1, 2, 3, 4), (1, 2, 3))
    assert refusals(reconfigured(core, (1, 2, 3), (1, 2, 3), token=91)) == [(91, "change-in-progress")]
    committed(core, 2)
    assert core.configuration.learners == (4,)
    reconfigured(core, (1, 2), (1, 2), token=92)
    assert refusals(reconfigured(core, (1, 2, 3), (1, 2, 3), token=93)) == [(93, "change-in-progress")]
    flushed(core)
    acknowledge(core, 2)
    assert not core.configuration.joint
    assert refusals(reconfigured(core, (1, 2, 3), (1, 2, 3), token=94)) == [(94, "change-in-progress")]


def test_d4_1_an_uncommitted_change_of_an_earlier_leader_is_one() -> None:
    core = leader(started(entries=[*entries_of(1), configuration_entry(2, 1, group((1, 2, 3), learners=(4,)))]))
    assert core.log.last_index == 3
    assert refusals(reconfigured(core, (1, 2, 3), (1, 2, 3))) == [(90, "change-in-progress")]


def test_6_a_change_is_guarded_by_the_configuration_it_is_meant_for() -> None:
    core = committed(leader(started()), 2, 3)
    for expected in (1, 5, -1):
        effects = core.step(Reconfigure(9, expected, members(1, 2), (1, 2)))
        assert refusals(effects) == [(9, "configuration-changed")]
    assert core.configuration == THREE


def test_6_changes_that_make_no_sense_are_refused() -> None:
    core = with_learners(4)
    index = core.configuration_index
    bad: list[tuple[tuple[Member, ...], tuple[int, ...]]] = [
        (members(1, 2, 3), ()),
        (members(1, 2, 3), (1, 2, 9)),
        (members(1, 2, 2), (1, 2)),
        (members(1, 2), (1, 2, 2)),
        (members(0, 1), (0, 1)),
        ((Member(1), Member(2, 7), Member(3)), (1, 2, 3)),
        ((Member(1), Member(2, 7), Member(3)), (1, 3)),
    ]
    for wanted, voters in bad:
        assert refusals(core.step(Reconfigure(9, index, wanted, voters))) == [(9, "bad-change")], (wanted, voters)
    assert core.configuration_index == index


def test_6_only_a_leader_changes_the_group() -> None:
    core = started(1)
    assert refusals(reconfigured(core, (1, 2), (1, 2))) == [(90, "not-leader")]
    led = with_learners(4)
    reconfigured(led, (1, 2, 3, 4), (1, 2, 3, 4), token=91)
    assert refusals(led.step(Receive(append(9, (0, 0))))) == [(91, "lost-leadership")]


def test_d4_2_1_a_new_voter_has_caught_up_as_a_learner() -> None:
    core = committed(leader(started(max_entries_per_append=4)), 2, 3)
    assert refusals(reconfigured(core, (1, 2, 3, 4), (1, 2, 3, 4))) == [(90, "not-caught-up")], "not a learner"
    reconfigured(core, (1, 2, 3, 4), (1, 2, 3))
    committed(core, 2, 3)
    assert refusals(reconfigured(core, (1, 2, 3, 4), (1, 2, 3, 4))) == [(90, "not-caught-up")], "has nothing yet"
    core.step(Propose(tuple((token, b"x") for token in range(9))))
    committed(core, 2, 3)
    acknowledge(core, 4, core.log.last_index - 5)
    assert refusals(reconfigured(core, (1, 2, 3, 4), (1, 2, 3, 4))) == [(90, "not-caught-up")]
    acknowledge(core, 4, core.log.last_index - 4)
    assert refusals(reconfigured(core, (1, 2, 3, 4), (1, 2, 3, 4))) == [], "nearly everything is enough"


# --- learners ------------------------------------------------------------------------------------------------------


def test_d4_2_1_learners_have_no_vote_and_count_for_nothing() -> None:
    core = leader(of_group(group((1, 2, 3), learners=(4, 5))))
    for learner in (4, 5):
        acknowledge(core, learner)
    assert core.commit_index == 0
    core.step(Read((5,)))
    acknowledge(core, 2)
    flushed(core)
    assert core.commit_index == 1
    assert set(core.progress) == {2, 3, 4, 5}, "they get the log"
    beat(core, 4, 5, ticks=40)
    assert core.leader is None, "and keep nobody in office"
    asked = pre_candidate(of_group(group((1, 2, 3), learners=(4, 5))))
    for learner in (4, 5):
        asked.step(Receive(RequestVoteResponse(0, learner, 1, 0, 1, True, True)))
    assert asked.role == "pre-candidate"


def test_d4_2_1_reads_are_not_confirmed_by_learners() -> None:
    core = committed(leader(of_group(group((1, 2, 3), learners=(4, 5)))), 2)
    core.step(Read((5,)))
    assert [acknowledge(core, learner).reads for learner in (4, 5)] == [[], []]
    assert [r.token for r in acknowledge(core, 3).reads] == [5]


def test_d4_2_1_a_learner_does_not_stand_but_votes_when_asked() -> None:
    """It may not know yet that it has been promoted (M3)."""
    core = of_group(group((2, 3), learners=(1,)))
    assert [m for _ in range(100) for m in core.step(Tick(0)).send] == []
    assert core.role == "follower"
    assert vote(heard(core, ask(1, (0, 0)))).granted
    heard(core, append(1, (0, 0)))
    heard(core, TimeoutNow(0, 2, 1, 1))
    assert core.role == "follower", "not even when it is told to"


def test_d4_2_1_a_joining_node_knows_nobody_and_takes_the_log() -> None:
    core = started(base=Base(), incarnation=77)
    assert [m for _ in range(100) for m in core.step(Tick(0)).send] == []
    joined = Configuration((Member(1, 77), Member(2), Member(3)), (2, 3))
    taken = answer(heard(core, AppendEntries(0, 2, 1, 4, 0, 0, (configuration_entry(1, 4, joined),), 0, 1)))
    assert (taken.success, taken.index, taken.incarnation) == (True, 1, 77)
    assert core.configuration == joined


# --- incarnations --------------------------------------------------------------------------------------------------


def test_6_a_node_that_lost_its_memory_has_no_say() -> None:
    """Another data directory is another incarnation: neither its promises nor votes nor acknowledgements count (D9)."""
    core = pre_candidate(started())
    for pre_vote, role in ((True, "pre-candidate"), (False, "candidate")):
        round = core.term + pre_vote
        assert core.role == role
        core.step(Receive(RequestVoteResponse(0, 2, 1, round - pre_vote, round, True, pre_vote, 9)))
        assert core.role == role
        core.step(Receive(RequestVoteResponse(0, 3, 1, round - pre_vote, round, True, pre_vote)))
        flushed(core)
    assert core.role == "leader"
    flushed(core)
    core.step(Receive(AppendEntriesResponse(0, 2, 1, core.term, True, 1, 0, 0, 1, 9)))
    assert (core.commit_index, core.progress[2].match) == (0, 0)
    assert not core.progress[2].recent_active
    core.step(Receive(AppendEntriesResponse(0, 2, 1, core.term + 5, False, 0, 0, 0, 0, 9)))
    assert core.role == "leader"


def test_6_who_is_not_the_incarnation_of_the_configuration_does_not_stand() -> None:
    core = started(1, incarnation=9)
    assert [m for _ in range(100) for m in core.step(Tick(0)).send] == []
    effects = heard(core, append(1, (1, 1)))
    assert answer(effects).incarnation == 9, "and says who it is"


def test_6_another_incarnation_begins_from_nothing() -> None:
    """A learner that was wiped comes back: what was known of the earlier one is forgotten."""
    core = with_learners(4)
    assert core.progress[4].match == core.log.last_index
    again = (*members(1, 2, 3), Member(4, 8))
    core.step(Reconfigure(9, core.configuration_index, again, (1, 2, 3)))
    assert core.progress[4].match == 0
    acknowledge(core, 4)
    assert core.progress[4].match == 0, "an answer of the earlier one"
    core.step(Receive(AppendEntriesResponse(0, 4, 1, core.term, True, 1, 0, 0, 1, 8)))
    assert core.progress[4].match == 1


# --- disruption ----------------------------------------------------------------------------------------------------


def test_d4_2_3_a_removed_member_disturbs_nobody() -> None:
    """It asks for promises, in the term it knows, of members that hear their leader: nothing moves."""
    removed = pre_candidate(started(2, term=2))
    asked = [m for m in removed.step(Tick(0)).send if isinstance(m, RequestVote)]
    assert removed.term == 2
    assert asked == []
    core = committed(leader(started()), 2, 3)
    term = core.term
    refused = vote(heard(core, ask(term + 1, (99, 9), source=9, pre_vote=True)))
    assert not refused.granted
    heard(core, ask(term + 7, (99, 9), source=9))
    assert (core.role, core.term) == ("leader", term)
    follower = started(1)
    heard(follower, append(1, (1, 1)))
    heard(follower, ask(9, (99, 9), source=9))
    assert (follower.term, follower.leader_id) == (1, 2)


def test_6_the_term_of_a_stranger_deposes_nobody() -> None:
    core = committed(leader(started()), 2, 3)
    core.step(Receive(AppendEntriesResponse(0, 9, 1, 50, False, 0, 0, 0, 0)))
    assert core.role == "leader"


def test_6_no_transfer_while_the_group_changes_and_no_change_while_leadership_moves() -> None:
    core = committed(leader(started()), 2, 3)
    core.step(Propose(((1, b"x"),)))
    core.step(Transfer(5, 2))
    assert refusals(reconfigured(core, (1, 2), (1, 2))) == [(90, "transferring")]
    other = committed(leader(started()), 2, 3)
    reconfigured(other, (1, 2), (1, 2))
    assert refusals(other.step(Transfer(5, 2))) == [(5, "change-in-progress")]


def test_6_a_group_of_one_grows_and_shrinks_to_another_one() -> None:
    core = committed(leader(started(nodes=1)))
    reconfigured(core, (1, 2), (1,))
    committed(core, 2)
    reconfigured(core, (2,), (2,))
    flushed(core)
    assert core.configuration.joint
    acknowledge(core, 2)
    flushed(core)
    assert core.configuration == founding((2,))
    acknowledge(core, 2)
    assert core.role == "follower"
