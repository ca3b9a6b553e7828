"""One member against the rules of the paper, section by section; what takes a cluster is in ``scenarios.py``.

Sections are of "In Search of an Understandable Consensus Algorithm (Extended Version)"; "dissertation" is Ongaro's.
"""

from __future__ import annotations

import pytest

from impl.raft import Core, ProtocolViolation, Settings
from impl.raft.events import Effects, Persisted, Propose, Read, Receive, Tick, Unreachable
from impl.raft.leader import STALLED_ELECTION_TIMEOUTS
from impl.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    HardState,
    Message,
    RequestVote,
    RequestVoteResponse,
)
from impl.raft.tests.script import append, ask, log_of, node, stepped


def durable(core: Core, effects: Effects) -> Effects:
    assert effects.persist is not None
    return core.step(Persisted(effects.persist.sequence))


def answer(effects: Effects) -> AppendEntriesResponse:
    (message,) = (m for m in effects.send if isinstance(m, AppendEntriesResponse))
    return message


def vote(effects: Effects) -> RequestVoteResponse:
    (message,) = (m for m in effects.send if isinstance(m, RequestVoteResponse))
    return message


def waited(*terms: int) -> Core:
    """Node 1, recovered, after the election timeout in which it votes for nobody."""
    core = node(Core, *terms)
    for _ in range(core.settings.election_ticks):
        core.step(Tick(9))
    return core


def candidate(*terms: int, nodes: int = 3) -> Core:
    """Node 1 as a candidate with its vote durable."""
    core = node(Core, *terms, nodes=nodes)
    while core.role == "follower":
        core.step(Tick(0))
    for peer in range(2, nodes // 2 + 2):
        effects = core.step(Receive(RequestVoteResponse(0, peer, 1, 0, core.term + 1, True, True)))
    durable(core, effects)
    assert core.role == "candidate"
    return core


def leader(*terms: int, nodes: int = 3) -> Core:
    """Node 1 as a leader, its no-op durable here, and known to nobody else."""
    core = candidate(*terms, nodes=nodes)
    for peer in range(2, nodes // 2 + 2):
        effects = core.step(Receive(RequestVoteResponse(0, peer, 1, core.term, core.term, True)))
    durable(core, effects)
    assert core.role == "leader"
    return core


def acknowledge(core: Core, peer: int, index: int, *, round: int = 1) -> Effects:
    return core.step(Receive(AppendEntriesResponse(0, peer, 1, core.term, True, index, 0, 0, round)))


# --- 5.1 Raft basics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
@pytest.mark.parametrize(
    "message",
    [
        append(9, (0, 0)),
        AppendEntriesResponse(0, 2, 1, 9, False, 0, 0, 0, 1),
        RequestVoteResponse(0, 2, 1, 9, 1, False),
        RequestVoteResponse(0, 2, 1, 9, 2, False, True),
    ],
)
def test_5_1_a_greater_term_makes_a_follower_of_that_term(role: str, message: Message) -> None:
    member = {"follower": lambda: node(Core, 1), "candidate": lambda: candidate(1), "leader": lambda: leader(1)}[role]()
    stepped(member, message)
    assert (member.role, member.term, member.voted_for) == ("follower", 9, 0)


def test_5_1_requests_of_an_older_term_are_refused_with_the_newer() -> None:
    core = node(Core, 1, term=5)
    refusal = answer(stepped(core, append(4, (0, 0), round=7)))
    assert (refusal.success, refusal.term, refusal.round) == (False, 5, 0), "it tells the term, and confirms no round"
    refused = vote(stepped(core, ask(4, (9, 4))))
    assert (refused.granted, refused.term, refused.round) == (False, 5, 4)
    assert core.log.last_index == 1


def test_5_1_answers_of_an_older_term_are_ignored() -> None:
    core = leader(1, 1)
    assert not stepped(core, AppendEntriesResponse(0, 2, 1, core.term - 1, True, 3, 0, 0, 9)).send
    assert core.commit_index == 0
    assert core.statistics().match == {2: 0, 3: 0}


def test_5_1_messages_for_others_from_oneself_and_of_other_groups_are_ignored() -> None:
    core = waited(1)
    for message in (append(9, (0, 0), target=2), ask(9, (9, 9), source=1), AppendEntries(3, 2, 1, 9, 0, 0, (), 0, 1)):
        assert core.step(Receive(message)) == Effects()
    assert core.term == 1


def test_6_requests_are_taken_from_anybody_and_answers_from_members_only() -> None:
    """Who was added may lead, or stand, before this member has heard of it; a stranger's answer counts for nothing."""
    core = node(Core, 1)
    stepped(core, append(9, (0, 0), source=7))
    assert (core.term, core.leader_id) == (9, 7)
    asked = candidate(1)
    for voter in (7, 8, 9):
        asked.step(Receive(RequestVoteResponse(0, voter, 1, asked.term, asked.term, True)))
        asked.step(Receive(RequestVoteResponse(0, voter, 1, 50, asked.term, False)))
        asked.step(Receive(AppendEntriesResponse(0, voter, 1, 50, False, 0, 0, 0, 1)))
    assert (asked.role, asked.term) == ("candidate", 2)


def test_d6_4_a_restarted_member_holds_its_votes_back_for_an_election_timeout() -> None:
    """It may have confirmed a leader's lease just before it stopped."""
    core = node(Core, 1, term=3)
    assert not vote(core.step(Receive(ask(4, (9, 9), pre_vote=True)))).granted
    assert core.step(Receive(ask(4, (9, 9)))) == Effects()
    for _ in range(10):
        core.step(Tick(9))
    assert vote(stepped(core, ask(4, (9, 9)))).granted
    assert vote(stepped(core, ask(5, (9, 9), source=3))).granted, "what it promised before is over by now"
    fresh = node(Core, term=0)
    assert vote(stepped(fresh, ask(1, (0, 0)))).granted, "who never voted has promised nothing"


# --- 5.2 Leader election ---------------------------------------------------------------------------------------------


def test_5_2_members_start_as_followers() -> None:
    core = node(Core, 1, 2, term=7, voted_for=1)
    assert (core.role, core.term, core.voted_for, core.leader_id) == ("follower", 7, 1, 0)


def test_5_2_a_follower_that_hears_nothing_asks_first() -> None:
    core = node(Core, 1, 2)
    sent = [m for _ in range(10) for m in core.step(Tick(0)).send]
    assert sent == [RequestVote(0, 1, peer, 3, 2, 2, True) for peer in (2, 3)]
    assert (core.role, core.term, core.voted_for) == ("pre-candidate", 2, 0), "asking changes no term"


def test_5_2_a_follower_that_hears_its_leader_stays() -> None:
    core = node(Core)
    for _ in range(100):
        core.step(Tick(0))
        stepped(core, append(1, (0, 0)))
    assert (core.role, core.leader_id) == ("follower", 2)


def test_5_2_an_election_raises_the_term_and_votes_for_itself_durably() -> None:
    core = node(Core, 1)
    for _ in range(10):
        core.step(Tick(0))
    effects = core.step(Receive(RequestVoteResponse(0, 2, 1, 1, 2, True, True)))
    assert (core.role, core.term, core.voted_for) == ("candidate", 2, 1)
    assert effects.persist is not None
    assert effects.persist.hard_state == HardState(2, 1)
    assert effects.send == [], "no request leaves before the vote is durable"
    assert durable(core, effects).send == [RequestVote(0, 1, peer, 2, 1, 1) for peer in (2, 3)]


@pytest.mark.parametrize(("nodes", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)])
def test_5_2_a_majority_of_votes_wins(nodes: int, needed: int) -> None:
    core = candidate(nodes=nodes)
    for peer in range(2, needed + 2):
        assert core.role == "candidate"
        for _ in range(2):  # a vote counts once, however often it comes
            core.step(Receive(RequestVoteResponse(0, peer, 1, core.term, core.term, True)))
    assert core.role == "leader"


def test_5_2_a_single_member_leads_alone() -> None:
    core = node(Core, nodes=1)
    effects = [core.step(Tick(0)) for _ in range(10)][-1]
    assert core.statistics().role == "candidate", "until its own vote is durable"
    effects = durable(core, effects)
    assert core.statistics().role == "leader"
    assert durable(core, effects).apply == [Entry(1, 1, b"")]
    assert core.step(Read((5,))).reads[0].index == 1


def test_5_2_refusals_and_votes_of_other_elections_do_not_count() -> None:
    core = candidate(1)
    term = core.term
    for late in (
        RequestVoteResponse(0, 2, 1, term, term, False),
        RequestVoteResponse(0, 2, 1, term, term - 1, True),
        RequestVoteResponse(0, 2, 1, term - 1, term - 1, True),
        RequestVoteResponse(0, 2, 1, term - 1, term, True, True),
        RequestVoteResponse(0, 2, 1, term, term + 1, True, True),
    ):
        core.step(Receive(late))
        assert core.role == "candidate", late


def test_5_2_first_come_first_served_and_the_vote_stands() -> None:
    core = waited(1)
    assert vote(stepped(core, ask(2, (1, 1), source=2))).granted
    assert not vote(stepped(core, ask(2, (9, 1), source=3))).granted
    assert vote(stepped(core, ask(2, (1, 1), source=2))).granted, "the same answer to the same candidate"
    stepped(core, append(2, (0, 0), source=2))
    assert not vote(stepped(core, ask(2, (9, 1), source=3))).granted
    restarted = Core(core.settings, HardState(2, 2), log_of(1))
    for _ in range(10):
        restarted.step(Tick(9))
    assert not vote(stepped(restarted, ask(2, (9, 1), source=3))).granted


def test_5_2_a_vote_leaves_after_it_is_durable() -> None:
    core = waited(1)
    effects = core.step(Receive(ask(2, (1, 1))))
    assert effects.persist is not None
    assert effects.persist.hard_state == HardState(2, 2)
    assert effects.send == []
    assert vote(durable(core, effects)).granted


def test_5_2_a_candidate_follows_a_leader_of_its_term_and_keeps_its_vote() -> None:
    core = candidate(1)
    term = core.term
    stepped(core, append(term, (0, 0)))
    assert (core.role, core.term, core.leader_id, core.voted_for) == ("follower", term, 2, 1)
    assert not vote(stepped(core, ask(term, (9, term), source=3))).granted


def test_5_2_a_candidate_without_a_majority_asks_again() -> None:
    core = candidate(1)
    sent = [m for _ in range(20) for m in core.step(Tick(0)).send]
    assert {(type(m), m.term, getattr(m, "pre_vote", None)) for m in sent} == {(RequestVote, core.term + 1, True)}


def test_5_2_timeouts_are_drawn_afresh_from_the_interval() -> None:
    seen = set()
    for entropy in range(50):
        core, ticks = node(Core), 0
        while core.role == "follower":
            core.step(Tick(entropy))
            ticks += 1
        seen.add(ticks)
    assert seen == set(range(10, 20))


# --- 5.3 Log replication ---------------------------------------------------------------------------------------------


def test_5_3_a_leader_appends_and_sends_at_once() -> None:
    core = leader(1)
    for peer in (2, 3):
        acknowledge(core, peer, 2)
    effects = core.step(Propose(((7, b"a"), (8, b"b"))))
    assert [(a.token, a.index, a.term) for a in effects.accepted] == [(7, 3, 2), (8, 4, 2)]
    assert effects.persist is not None
    assert effects.persist.entries == (Entry(3, 2, b"a"), Entry(4, 2, b"b"))
    assert [(m.target, m.prev_log_index, m.prev_log_term) for m in effects.send if isinstance(m, AppendEntries)] == [
        (2, 2, 2),
        (3, 2, 2),
    ]


def test_5_3_committed_once_on_a_majority_of_disks_and_applied_in_order() -> None:
    core = leader(1, 1)
    assert core.commit_index == 0
    effects = acknowledge(core, 2, 3)
    assert core.commit_index == 3
    assert [entry.index for entry in effects.apply] == [1, 2, 3]
    assert acknowledge(core, 3, 3).apply == []


def test_5_3_followers_learn_of_commitment_and_apply() -> None:
    core = node(Core)
    stepped(core, append(1, (0, 0), (1, 1)))
    assert core.commit_index == 0
    assert [entry.index for entry in stepped(core, append(1, (2, 1), (), commit=2)).apply] == [1, 2]
    assert stepped(core, append(1, (2, 1), (), commit=1)).apply == []
    assert core.commit_index == 2


@pytest.mark.parametrize(
    ("prev", "terms", "after"),
    [
        ((0, 0), (), (1, 1, 2)),
        ((0, 0), (1,), (1, 1, 2)),
        ((1, 1), (1, 2), (1, 1, 2)),
        ((3, 2), (4,), (1, 1, 2, 4)),
        ((2, 1), (3, 4), (1, 1, 3, 4)),
        ((0, 0), (4,), (4,)),
        ((1, 1), (1, 2, 4, 4), (1, 1, 2, 4, 4)),
    ],
)
def test_5_3_only_a_conflict_cuts(prev: tuple[int, int], terms: tuple[int, ...], after: tuple[int, ...]) -> None:
    core = node(Core, 1, 1, 2)
    agreed = answer(stepped(core, append(4, prev, terms)))
    assert (agreed.success, agreed.index) == (True, prev[0] + len(terms))
    assert tuple(entry.term for entry in core.log.slice(1, 99)) == after


@pytest.mark.parametrize("prev", [(1, 2), (3, 1), (4, 2), (9, 3)])
def test_5_3_consistency_check_refuses(prev: tuple[int, int]) -> None:
    core = node(Core, 1, 1, 2)
    refusal = answer(stepped(core, append(4, prev, (4,))))
    assert (refusal.success, refusal.index, refusal.round) == (False, prev[0], 1)
    assert core.log.last_index == 3


def test_5_3_an_acknowledgement_waits_for_the_disk() -> None:
    core = node(Core)
    first = core.step(Receive(append(1, (0, 0), (1,))))
    heartbeat = core.step(Receive(append(1, (1, 1), (), round=2)))
    assert first.send == heartbeat.send == []
    assert heartbeat.persist is None
    said = [m for m in durable(core, first).send if isinstance(m, AppendEntriesResponse)]
    assert [(m.index, m.round) for m in said] == [(1, 1), (1, 2)]


def test_5_3_a_leader_never_cuts_its_log_and_stops_at_a_rival() -> None:
    core = leader(1, 1)
    with pytest.raises(ProtocolViolation, match="both lead term 2"):
        core.step(Receive(append(2, (0, 0), (2,))))


def test_5_3_entries_that_are_not_dense_are_refused_loudly() -> None:
    core = node(Core)
    with pytest.raises(ProtocolViolation, match="not dense"):
        core.step(Receive(AppendEntries(0, 2, 1, 1, 0, 0, (Entry(2, 1, b"x"),), 0, 1)))


def test_5_3_heartbeats_keep_authority() -> None:
    core = leader(1)
    sent = [m for _ in range(4) for m in core.step(Tick(0)).send]
    assert [(type(m), m.target) for m in sent] == [(AppendEntries, 2), (AppendEntries, 3)] * 2
    assert sorted({m.round for m in sent if isinstance(m, AppendEntries)}) == [2, 3], "each round has its number"


def test_appends_are_bounded_in_entries_and_bytes() -> None:
    settings = Settings(1, (1, 2, 3), max_entries_per_append=3, max_append_bytes=100)
    core = Core(settings, HardState(1))
    while core.role == "follower":
        core.step(Tick(0))
    durable(core, core.step(Receive(RequestVoteResponse(0, 2, 1, 1, 2, True, True))))
    durable(core, core.step(Receive(RequestVoteResponse(0, 2, 1, 2, 2, True))))
    acknowledge(core, 2, 1)
    sizes = [10, 10, 10, 10, 60, 60, 300, 10]
    effects = core.step(Propose(tuple((i, b"x" * size) for i, size in enumerate(sizes))))
    batches = [m.entries for m in effects.send if isinstance(m, AppendEntries) and m.target == 2]
    assert [[len(entry.payload) for entry in batch] for batch in batches] == [[10, 10, 10], [10, 60], [60], [300], [10]]


# --- 5.4 Safety ------------------------------------------------------------------------------------------------------


def test_5_4_2_a_new_leader_begins_with_a_no_op_and_commits_through_it() -> None:
    core = leader(1, 1)
    assert core.log.slice(3, 3) == (Entry(3, 2, b""),)
    acknowledge(core, 2, 2)
    assert core.commit_index == 0, "a majority for an entry of an older term says nothing"
    acknowledge(core, 2, 3)
    assert core.commit_index == 3


# --- 5.5, 5.6, 6, 8 and the dissertation -----------------------------------------------------------------------------


def test_5_5_requests_are_idempotent() -> None:
    core = node(Core)
    message = append(1, (0, 0), (1, 1), commit=1)
    first, again = stepped(core, message), stepped(core, message)
    assert answer(first) == answer(again)
    assert again.persist is None
    assert again.apply == []


def test_d9_6_a_promise_costs_nothing_and_binds_nobody() -> None:
    core = waited(1)
    for source in (2, 3):
        effects = core.step(Receive(ask(2, (1, 1), source=source, pre_vote=True)))
        assert vote(effects).granted
        assert effects.persist is None
    assert (core.term, core.voted_for, core.role) == (1, 0, "follower")


def test_d9_6_a_refused_promise_tells_the_greater_term() -> None:
    core = node(Core, 1, term=8)
    refusal = vote(core.step(Receive(ask(8, (9, 1), pre_vote=True))))
    assert (refusal.granted, refusal.term) == (False, 8)
    asking = node(Core, 1, term=3)
    while asking.role == "follower":
        asking.step(Tick(0))
    asking.step(Receive(RequestVoteResponse(0, 2, 1, 8, 4, False, True)))
    assert (asking.role, asking.term) == ("follower", 8)


def test_d4_2_3_who_hears_a_leader_helps_nobody_else() -> None:
    core = node(Core)
    stepped(core, append(1, (0, 0)))
    for _ in range(9):
        core.step(Tick(9))
    assert not vote(core.step(Receive(ask(2, (9, 9), source=3, pre_vote=True)))).granted
    assert core.step(Receive(ask(2, (9, 9), source=3))) == Effects()
    core.step(Tick(9))
    assert vote(core.step(Receive(ask(2, (9, 9), source=3, pre_vote=True)))).granted


def test_d6_2_check_quorum() -> None:
    core = leader(1, nodes=5)
    for peer in (2, 3):
        acknowledge(core, peer, 2)
    core.step(Read((5,)))
    refused = [r.reason for _ in range(30) for r in core.step(Tick(0)).refused]
    assert core.role != "leader"
    assert refused == ["lost-leadership"]


def test_unreachable_peers_are_probed() -> None:
    core = leader(1)
    acknowledge(core, 2, 2)
    core.step(Propose(((1, b"a"),)))
    assert core.step(Unreachable(2)).send == []
    assert core.step(Unreachable(9)) == Effects()
    assert node(Core).step(Unreachable(2)) == Effects()
    (message,) = (m for m in core.step(Propose(((2, b"b"),))).send if m.target == 2)
    assert isinstance(message, AppendEntries)
    assert [entry.index for entry in message.entries] == [3, 4], "what may be lost is sent again"


# --- restart and configuration ---------------------------------------------------------------------------------------


def test_restart_resumes_where_the_state_machine_is() -> None:
    core = Core(Settings(1, (1, 2, 3)), HardState(2, 3), log_of(1, 1, 2), applied_index=2)
    statistics = core.statistics()
    assert (statistics.commit_index, statistics.released_index, statistics.stable_index) == (2, 2, 3)
    assert [entry.index for entry in stepped(core, append(2, (3, 2), (), commit=3)).apply] == [3]


def test_a_state_that_cannot_be_is_not_started_from() -> None:
    settings = Settings(1, (1, 2, 3))
    with pytest.raises(ProtocolViolation, match="applied entry 3 but the log ends at 2"):
        Core(settings, HardState(1), log_of(1, 1), applied_index=3)
    with pytest.raises(ProtocolViolation, match="remembers only term 1"):
        Core(settings, HardState(1), log_of(1, 2))


def test_reports_of_writes_never_given_out_are_refused() -> None:
    core = node(Core)
    with pytest.raises(ProtocolViolation, match="batch 1 reported durable"):
        core.step(Persisted(1))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"node_id": 4}, "not among the voters"),
        ({"voters": (1, 1, 2)}, "distinct positive"),
        ({"voters": (0, 1, 2)}, "distinct positive"),
        ({"heartbeat_ticks": 0}, "at least 1"),
        ({"heartbeat_ticks": 10}, "less than election_ticks"),
    ],
)
def test_settings_say_what_is_wrong(arguments: dict[str, object], complaint: str) -> None:
    defaults: dict[str, object] = {"node_id": 1, "voters": (1, 2, 3)}
    with pytest.raises(ValueError, match=complaint):
        Settings(**{**defaults, **arguments})  # type: ignore[arg-type]


# --- beyond the paper: disks -------------------------------------------------------------------------------------


def test_a_leader_whose_disk_hangs_steps_down_and_does_not_come_back_before_the_disk_does() -> None:
    core = leader()
    election_ticks = core.settings.election_ticks

    def acknowledged_tick() -> None:
        for message in core.step(Tick(0)).send:
            if isinstance(message, AppendEntries):
                core.step(Receive(AppendEntriesResponse(0, message.target, 1, core.term, True, 1, 0, 0, message.round)))

    effects = core.step(Propose(((1, b"x"),)))
    for _ in range(STALLED_ELECTION_TIMEOUTS * election_ticks - 1):
        acknowledged_tick()
    assert core.role == "leader", "a slow sync is no reason"
    acknowledged_tick()
    assert core.statistics().role == "follower"
    sent = [message for _ in range(10 * election_ticks) for message in core.step(Tick(0)).send]
    assert sent == [], "what it has to say waits for the disk"
    assert any(isinstance(message, RequestVote) for message in durable(core, effects).send)


def test_a_leader_whose_disk_is_slow_but_works_stays() -> None:
    core = leader()
    for token in range(1, 10):
        effects = core.step(Propose(((token, b"x"),)))
        for _ in range((STALLED_ELECTION_TIMEOUTS - 1) * core.settings.election_ticks):
            for message in core.step(Tick(0)).send:
                if isinstance(message, AppendEntries):
                    answered = AppendEntriesResponse(0, message.target, 1, core.term, True, 1, 0, 0, message.round)
                    core.step(Receive(answered))
        durable(core, effects)
        assert core.role == "leader"
