"""Scripted histories in which other implementations went wrong, each with the class of the core as an argument.

The same scripts serve twice: with the real core they are tests (``test_scenarios.py``); with a planted bug they must
fail (``test_mutants.py``). Each names the rule and, in brackets, the entry of the bug catalogue that it replays.
The world checks its invariants after every step; the assertions here are about what has to happen, or must not.
"""

from __future__ import annotations

import random

from impl.raft import Core, ProtocolViolation
from impl.raft.events import Persisted, Propose, Read, Receive, Tick
from impl.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    RequestVoteResponse,
)
from impl.raft.tests.group_scenarios import GROUP_SCENARIOS
from impl.raft.tests.script import Scenario, append, ask, must, node, patience, stepped
from impl.raft.tests.world import World

# --- elections and votes ---------------------------------------------------------------------------------------------


def vote_survives_crash(core_class: type[Core]) -> None:
    """5.2, figure 2: a vote is durable before it is told, and stands after a restart [V1, V2]."""
    for survive in (0, 1):
        world = World(3, core_class)
        world.elect(1)
        vote = ask(5, (1, 1), source=1, target=2)
        world.tick(2, 10, entropy=9)
        world.hand_over(vote)
        must(not world.links[2, 1], "a vote left before it was durable")
        world.crash(2, survive=survive)
        world.restart(2)
        must(world.core(2).term == (5 if survive else 1), "term and vote are one write")
        world.tick(2, 10, entropy=9)
        world.hand_over(ask(5, (1, 1), source=3, target=2))
        world.flush(2)
        (answer,) = (m for m in world.links[2, 3] if isinstance(m, RequestVoteResponse))
        must(answer.granted == (not survive), "a second vote in the term")


def stale_votes(core_class: type[Core]) -> None:
    """5.2: votes of an earlier election do not count in a later one [V6, O4]."""
    world = World(5, core_class)
    for voter in (2, 3, 4, 5):
        world.tick(voter, 10, entropy=9)

    def stand() -> None:
        for _ in patience():
            if world.core(1).role == "candidate":
                break
            world.tick(1)
            world.flush(1)
            for voter in (2, 3):
                world.deliver_all(1, voter)
                world.flush(voter)
                world.deliver_all(voter, 1)
        world.flush(1)

    stand()
    for voter in (2, 3):
        world.deliver_all(1, voter)
        world.flush(voter)
    delayed = [world.take(voter, 1, RequestVoteResponse) for voter in (2, 3)]
    for _ in patience():
        if world.core(1).role == "candidate":
            world.tick(1)
    stand()
    for message in delayed:
        world.repeat(message)
    must(world.core(1).role == "candidate", "votes of an earlier term made a leader")


def refused_pre_vote_tells_the_term(core_class: type[Core]) -> None:
    """Pre-vote: a longer log in a lower term and a shorter one in a higher term agree on a leader [P1, P4]."""
    world = World(3, core_class)
    world.elect(1)
    world.isolate(3)
    world.propose(1)
    world.settle()
    for _ in range(2):  # node 3 asks for real: promised by hand, so that its term grows
        for _ in patience():
            if world.core(3).role == "candidate":
                break
            world.tick(3)
            world.flush(3)
            if world.core(3).role == "pre-candidate":
                term = world.core(3).term
                world.hand_over(RequestVoteResponse(0, 2, 3, term, term + 1, True, True))
        world.flush(3)
        for _ in patience():
            if world.core(3).role == "candidate":
                world.tick(3)
    world.crash(1)
    world.heal()
    world.cut_between([1], [2, 3])
    must(world.core(3).term > world.core(2).term, "the script wants a higher term with a shorter log")
    chance = random.Random(4)
    world.tick_all(120, chance)
    must(world.core(2).role == "leader", "two of three members cannot agree on a leader")


def logs_compared_as_pairs(core_class: type[Core]) -> None:
    """5.4.1: the later last term wins, however short the log; only then does length count [V8, O1]."""
    for theirs, granted in (((2, 2), True), ((1, 3), True), ((3, 2), True), ((9, 1), False), ((1, 2), False)):
        for pre_vote in (True, False):
            core = node(core_class, 1, 2)
            for _ in range(10):
                core.step(Tick(9))
            effects = stepped(core, ask(4, theirs, pre_vote=pre_vote))
            answers = [m.granted for m in effects.send if isinstance(m, RequestVoteResponse)]
            must(answers == [granted], f"a log that ends {theirs} against one that ends (2, 2), pre-vote {pre_vote}")


def returning_member_does_not_depose(core_class: type[Core]) -> None:
    """Dissertation 9.6: who was cut off comes back without a higher term, and the leader stays [pre-vote, P7]."""
    world = World(3, core_class)
    world.elect(1)
    world.isolate(3)
    world.tick_all(100)
    term = world.core(1).term
    world.heal()
    world.tick_all(50)
    must((world.leader(), world.core(1).term) == (1, term), "a returning member deposed the leader")


def split_votes_end(core_class: type[Core]) -> None:
    """5.2: members whose clocks tick as one still elect, since each draws its own timeout."""
    for seed in range(20):
        world = World(3, core_class)
        chance = random.Random(seed)
        for _ in range(12 * world.election_ticks):
            for member in world.members:
                world.tick(member, entropy=chance.randrange(1 << 16))
            for _ in range(6):  # in lockstep, the worst case for a split vote: promises and votes cross on their way
                for member in world.members:
                    world.flush(member)
                for pair, count in [(pair, len(link)) for pair, link in world.links.items()]:
                    for _ in range(count):
                        world.deliver(*pair)
        must(world.leader() is not None, "votes split for ever")


def leader_refuses_to_be_replaced(core_class: type[Core]) -> None:
    """Dissertation 4.2.3: a leader, and who hears one, gives neither promise nor vote for a new term [V7]."""
    world = World(3, core_class)
    world.elect(1)
    world.tick_all(25)
    for pre_vote in (True, False):
        for target in (1, 2):
            world.hand_over(ask(9, (99, 9), source=3, target=target, pre_vote=pre_vote))
            world.settle()
    must((world.leader(), world.core(1).term) == (1, 1), "a leader that is heard was replaced")


def deaf_leader_steps_down(core_class: type[Core]) -> None:
    """Dissertation 6.2: a leader that speaks and does not hear gives way, or nobody could ever be elected [P7]."""
    world = World(3, core_class)
    world.elect(1)
    world.tick_all(30)
    world.cut(2, 1)
    world.cut(3, 1)
    world.tick_all(100, random.Random(5))
    must(world.core(1).role != "leader", "a deaf leader leads on")
    must(world.leader() in (2, 3), "no leader behind the deaf one")


def outage_of_2020(core_class: type[Core]) -> None:
    """One link of three is cut: the leader stays, whoever of the two it is [P7, Cloudflare, November 2020]."""
    for leader, other in ((1, 2), (2, 1), (3, 1)):
        for one_way in (False, True):
            world = World(3, core_class)
            world.elect(leader)
            world.tick_all(20)
            pair = (leader, other) if leader != 3 else (1, 2)
            world.cut(*pair)
            if not one_way:
                world.cut(pair[1], pair[0])
            term = world.core(leader).term
            world.demand_steady_leader(random.Random(leader), 40, 100)
            must((world.leader(), world.core(leader).term) == (leader, term), "a cut link made the leader change")


def two_leaders_are_noticed(core_class: type[Core]) -> None:
    """5.2: two leaders in one term are never passed over in silence [R19]."""
    core = node(core_class)
    stepped(core, append(3, (0, 0), source=2))
    try:
        stepped(core, append(3, (0, 0), source=3))
    except ProtocolViolation:
        return
    except AssertionError as error:  # a mutated core has its own class of this name
        must(type(error).__name__ == "ProtocolViolation", str(error))
        return
    must(False, "a second leader of the same term was followed")


# --- replication -----------------------------------------------------------------------------------------------------


def figure_8(core_class: type[Core]) -> None:
    """5.4.2, figure 8 (a)-(d): an entry of an older term on a majority is not committed by that [R1]."""
    world = _figure_8_until_c(core_class)
    must(len(world.committed) == 1, "an entry of an older term was committed by counting")
    world.crash(1)
    world.restart(5)
    world.win(5, [2, 3, 4])
    world.settle([2, 3, 4, 5])
    world.tick_all(2)
    must([entry.term for entry in world.members[2].disk_entries[:2]] == [1, 2], "the script is about replacing it")
    world.restart(1)
    world.tick_all(20)
    must(world.members[1].disk_entries == world.committed, "all members have what the last leader has")


def figure_8_own_term(core_class: type[Core]) -> None:
    """5.4.2, figure 8 (e): an own entry on a majority commits all before it for ever [R1, R2]."""
    world = _figure_8_until_c(core_class)
    for _ in range(2 * world.heartbeat_ticks):
        world.tick(1)
        world.settle([1, 2, 3])
    must(len(world.committed) == 3, "an own entry on a majority commits it and all before it")
    world.crash(1)
    world.restart(5)
    world.elect(2, among=[2, 3, 4, 5])
    must(world.leader() == 2, "the shorter log cannot win")


def _figure_8_until_c(core_class: type[Core]) -> World:
    world = World(5, core_class, max_entries_per_append=1)
    world.elect(1)
    world.tick_all(2)
    world.propose(1)  # (a) index 2 of term 1 at nodes 1 and 2
    world.settle([1, 2])
    for other in (3, 4, 5):
        world.drop_all(1, other)
    must(len(world.committed) == 1, "two of five are no majority")
    world.crash(1)
    world.win(5, [3, 4])  # (b) index 2 of term 2 at node 5 alone
    world.crash(5)
    world.restart(1)
    world.win(1, [2, 3, 4])  # (c) index 2 of term 1 comes to node 3, before index 3 of term 3 comes to anyone
    for _ in range(world.heartbeat_ticks):
        world.tick(1)
    for _ in range(20):
        if len(world.members[3].disk_entries) >= 2:
            break
        world.deliver_all(1, 3)
        world.flush(3)
        world.deliver_all(3, 1)
    world.drop_all(1, 3)
    world.drop_all(1, 2)
    must([e.term for e in world.members[3].disk_entries] == [1, 1], "the script wants index 2 of term 1 at node 3")
    return world


def delayed_short_append(core_class: type[Core]) -> None:
    """5.3, figure 2: what matches stays, whatever comes after it: late, shorter or empty appends cut nothing [R5]."""
    world = World(3, core_class, max_entries_per_append=1)
    world.elect(1)
    for _ in range(5):
        world.propose(1)
    old = [m for m in world.links[1, 2] if isinstance(m, AppendEntries)]
    world.settle()
    world.tick_all(2)
    must(len(world.committed) == 6, "the script wants a committed log")
    for message in [m for m in world.history if isinstance(m, AppendEntries) and m.target == 2] + old:
        world.repeat(message)
        must(world.core(2).log.last_index == 6, "a late append cut the log")
        world.flush(2)


def commit_is_capped_by_what_was_checked(core_class: type[Core]) -> None:
    """5.3, figure 2: a follower commits no further than the last entry it has just compared [R6, O7]."""
    core = node(core_class, 1, 1, 1, 1)
    effects = stepped(core, append(3, (2, 1), (), commit=4))
    must(core.commit_index == 2 and len(effects.apply) == 2, "a tail that was never compared was committed")
    (answer,) = (m for m in effects.send if isinstance(m, AppendEntriesResponse))
    must(answer.success and answer.index == 2, "a tail that was never compared was acknowledged")


def answers_in_any_order(core_class: type[Core]) -> None:
    """Figure 2, matchIndex: late, doubled and reordered answers never lower what is known [R3, R4]."""
    world = World(3, core_class, max_entries_per_append=1)
    world.elect(1)
    for _ in range(5):
        world.propose(1)
    world.deliver_all(1, 2)
    world.flush(2)
    world.flush(1)
    while world.links[2, 1]:
        message = world.deliver(2, 1, len(world.links[2, 1]) - 1)
        world.repeat(message)
    must(world.core(1).statistics().match[2] == 6 and len(world.committed) == 6, "answers in reverse order count")


def answers_to_an_older_term(core_class: type[Core]) -> None:
    """An acknowledgement from an earlier term of the same leader counts for nothing now [R7]."""
    world = World(3, core_class)
    world.elect(1)
    world.propose(1, 5)
    world.settle()
    world.isolate(1)
    world.tick(1, 2 * world.election_ticks)
    world.heal()
    world.elect(1)
    world.isolate(1)
    world.propose(1, 5)
    world.flush(1)
    world.hand_over(AppendEntriesResponse(0, 2, 1, 1, True, 12, 0, 0, 99))
    must(len(world.committed) == 7, "an answer of an older term was counted")


def late_refusal(core_class: type[Core]) -> None:
    """A refusal from before the logs agreed does not send the leader back behind what it knows [R4, R9, O10]."""
    world = World(3, core_class)
    world.elect(1)
    world.isolate(2)
    world.propose(1, 3)
    world.settle()
    world.heal()
    world.propose(1, 2)
    world.settle([1, 3])
    world.deliver_all(1, 2)  # entries 5 and 6 after a gap: refused
    refusal = world.take(2, 1, AppendEntriesResponse)
    world.tick(1, world.heartbeat_ticks)
    world.propose(1, 2)
    world.drop_all(1, 2)
    world.tick(1, world.heartbeat_ticks)
    world.settle()
    must(world.core(1).statistics().match[2] == 8, "the follower has caught up")
    world.propose(1)
    world.drop_all(1, 2)
    assert isinstance(refusal, AppendEntriesResponse)
    for index in range(1, 10):
        world.hand_over(
            AppendEntriesResponse(0, 2, 1, refusal.term, False, index, refusal.hint_index, refusal.hint_term, 1)
        )
        world.drop_all(1, 2)
    world.tick_all(4)
    must(world.core(1).statistics().match[2] == 9, "a late refusal stopped replication")


def refusal_of_what_matches(core_class: type[Core]) -> None:
    """A refusal of what is known to match is old news: answering it at once could go round for ever [R4]."""
    world = World(3, core_class)
    world.elect(1)
    world.propose(1, 3)
    world.settle()
    world.unreachable(1, 2)
    match = world.core(1).statistics().match[2]
    for _ in range(3):
        world.hand_over(AppendEntriesResponse(0, 2, 1, 1, False, match, 0, 0, 1))
    must(not world.links[1, 2], "a refusal of what is known to match was answered")


def back_tracking_by_term(core_class: type[Core]) -> None:
    """5.3, at its end: a conflict costs a round trip for each term of difference, not for each entry [R9]."""
    world = World(3, core_class)
    world.elect(1)
    world.isolate(1)
    world.propose(1, 200)
    world.flush(1)
    world.elect(2, among=[2, 3])
    world.propose(2, 200)
    world.settle()
    world.crash(2)
    world.restart(2)
    world.elect(3, among=[2, 3])
    world.heal()
    world.journal.clear()
    world.tick_all(world.heartbeat_ticks + 1)
    must(world.members[1].disk_entries == world.committed, "the conflict is resolved within a heartbeat")
    answers = [a for a in world.journal if a[0] == "deliver" and isinstance(a[-1], AppendEntriesResponse)]
    must(len(answers) <= 20, f"resolving one conflicting term took {len(answers)} answers")


def lost_appends_are_sent_again(core_class: type[Core]) -> None:
    """R12-R14: replication survives a full window, a lost probe, lost answers, an unreachable peer."""
    for entries_per_append, report in ((1, False), (1, True), (256, False), (256, True)):
        world = World(3, core_class, max_entries_per_append=entries_per_append, max_in_flight_appends=3)
        world.elect(1)
        world.tick_all(2)
        for lose in ("appends", "answers", "probe"):
            world.propose(1, 20)
            if lose == "answers":
                world.deliver_all(1, 2)
                world.flush(2)
                world.drop_all(2, 1)
            world.drop_all(1, 2)
            if report:
                world.unreachable(1, 2)
            if lose == "probe":
                world.propose(1, 2)
                world.drop_all(1, 2)
                if report:
                    world.unreachable(1, 2)
            # Heartbeats only from here on, one round trip at a time.
            world.tick_all(2 * world.heartbeat_ticks)
            must(world.core(1).statistics().match[2] == world.core(1).log.last_index, f"stuck after lost {lose}")


def probing_is_cheap(core_class: type[Core]) -> None:
    """A follower that does not answer gets its entries once, not with every heartbeat and every round of reads."""
    world = World(3, core_class)
    world.elect(1)
    world.tick_all(2)
    world.crash(3)
    world.propose(1, 50, 1000)
    world.unreachable(1, 3)
    world.drop_all(1, 3)
    for _ in range(30):
        world.tick(1)
        world.read(1)
        world.unreachable(1, 3)
        world.settle([1, 2])
    carried = sum(len(m.entries) for m in world.links[1, 3] if isinstance(m, AppendEntries))
    must(carried <= 50, f"a dead follower was sent {carried} entries, of 50")


def gap_is_refused(core_class: type[Core]) -> None:
    """5.3, the consistency check: nothing is taken after a gap or after another term [O6]."""
    core = node(core_class, 1, 1)
    for prev in ((3, 1), (5, 2), (2, 2)):
        effects = stepped(core, append(3, prev, (3,)))
        (answer,) = (m for m in effects.send if isinstance(m, AppendEntriesResponse))
        must(not answer.success and core.log.last_index == 2, f"an append after {prev} was taken")
        must(answer.hint_index <= 2, "the hint is within the log")


def committed_entries_are_defended(core_class: type[Core]) -> None:
    """5.4.3: a committed entry is never replaced: the node stops instead [R10]."""
    core = node(core_class, 1, 1)
    stepped(core, append(2, (2, 1), (), commit=2))
    try:
        stepped(core, append(3, (1, 1), (3,)))
    except AssertionError as error:
        must(type(error).__name__ == "ProtocolViolation", str(error))
        must(core.log.last_term == 1, "the log is as it was")
        return
    must(False, "a committed entry was replaced")


def minority_commits_nothing(core_class: type[Core]) -> None:
    """5.3: half of an even group is no majority [V12]."""
    for size in (2, 4, 6):
        world = World(size, core_class)
        world.elect(1)
        world.isolate(*range(1, size // 2 + 1))
        before = len(world.committed)
        world.propose(1)
        world.read(1)
        world.settle()
        must(len(world.committed) == before and not world.released, "half of the members decided")
        world.converge(random.Random(size), 300, 60)


def majority_suffices(core_class: type[Core]) -> None:
    """5.3: a majority, the leader included, commits while the others are down [O12]."""
    for size in (1, 2, 3, 4, 5, 6, 7):
        world = World(size, core_class)
        world.elect(1)
        for other in range(size // 2 + 2, size + 1):
            world.crash(other)
        (token,) = world.propose(1)
        (reading,) = world.read(1)
        world.settle()
        must(token in world.acknowledged and reading in world.released, f"a majority of {size} does not suffice")


# --- durability ------------------------------------------------------------------------------------------------------


def old_write_says_nothing_about_new_entries(core_class: type[Core]) -> None:
    """ABA: an entry is written, replaced, and comes back while all three writes are under way; the first to complete
    confirms nothing, since the second may still be what a crash leaves behind."""
    core = node(core_class, 1)
    first = core.step(Receive(append(2, (1, 1), (2,), source=2))).persist
    second = core.step(Receive(append(3, (1, 1), (3,), source=3))).persist
    third = core.step(Receive(append(4, (1, 1), (2, 4), commit=3, source=2))).persist
    assert first is not None
    assert second is not None
    assert third is not None
    must(core.log.last_index == 3, "the script wants the entry back")
    said = core.step(Persisted(first.sequence))
    must(core.log.stable == 1 and not said.apply, "the first write confirmed a later entry")
    said = core.step(Persisted(second.sequence))
    must(core.log.stable == 1 and not said.apply, "the second write confirmed a later entry")
    said = core.step(Persisted(third.sequence))
    must(core.log.stable == 3 and len(said.apply) == 2, "the third write confirms all")
    must([m.index for m in said.send if isinstance(m, AppendEntriesResponse)] == [3], "its answer waited for it")


def slow_leader_disk(core_class: type[Core]) -> None:
    """Dissertation 10.2.1: a leader sends before its own disk is done, does not count itself, applies nothing early."""
    world = World(3, core_class)
    world.elect(1)
    before = len(world.committed)
    (token,) = world.propose(1)
    must(bool(world.links[1, 2]), "appends leave while the leader's disk still writes")
    world.deliver_all(1, 2)
    world.flush(2)
    world.deliver_all(2, 1)
    must(len(world.committed) == before, "one disk of three and a leader's memory are no majority")
    world.deliver_all(1, 3)
    world.flush(3)
    world.deliver_all(3, 1)
    must(len(world.committed) == before + 1, "two disks of three are a majority without the leader's")
    must(token not in world.acknowledged, "applied before the leader's own disk has it")
    world.flush(1)
    must(token in world.acknowledged, "applied once it is durable here")


def slow_disk_elects(core_class: type[Core]) -> None:
    """A single node whose disk takes longer than an election timeout still becomes leader: its election begins when
    its vote is durable."""
    world = World(1, core_class)
    for _ in range(20):
        world.tick(1, 25)
        world.flush(1, 1)
    must(world.core(1).role == "leader", "a slow disk kept a single node from leading")


def hung_disk_is_bounded(core_class: type[Core]) -> None:
    """What waits for a disk that hangs is bounded: proposals are refused, messages beyond the bound are lost."""
    world = World(3, core_class, max_uncommitted_entries=10)
    world.elect(1)
    for _ in range(40):
        world.propose(1)
        for other in (2, 3):
            world.deliver_all(1, other)
            world.flush(other)
            world.deliver_all(other, 1)
    must(len(world.members[1].pending) <= 10, "a leader runs ahead of its own disk without bound")
    must("overloaded" in world.refused.values(), "refused for load")
    world.converge(random.Random(1), 300, 60)
    core = node(core_class)
    core.step(Receive(append(1, (0, 0), (1,))))
    for _ in range(5000):
        core.step(Receive(append(1, (1, 1))))
    must(len(core._gated) <= 1024, "answers that wait for the disk pile up without bound")


# --- reads and answers -----------------------------------------------------------------------------------------------


def isolated_leader_serves_no_reads(core_class: type[Core]) -> None:
    """Dissertation 6.4: a deposed leader that does not know it yet releases no read [C1, V13, O8]."""
    world = World(3, core_class)
    world.elect(1)
    world.isolate(1)
    world.elect(2, among=[2, 3])
    world.propose(2)
    world.settle()
    (reading,) = world.read(1)
    world.settle()
    world.tick(1, 2 * world.election_ticks)
    must(world.refused.get(reading) == "lost-leadership", "the read of a deposed leader is refused")


def new_leader_waits_for_its_own_entry(core_class: type[Core]) -> None:
    """Dissertation 6.4, step 1: before an entry of its own term is committed a leader's commit index may lag [C2]."""
    world = World(3, core_class)
    world.elect(1)
    world.propose(1)
    world.settle()  # committed and acknowledged at node 1; the others do not know it yet
    must(world.core(2).commit_index < len(world.committed), "the script wants a follower that lags")
    world.isolate(1)
    world.win(2, [3])
    (reading,) = world.read(2)
    must(reading not in world.released, "released before an entry of its own term was committed")
    world.tick(2, world.heartbeat_ticks)
    world.settle()
    must(world.released.get(reading, 0) == 3, "released at the leader's own entry")


def late_answer_confirms_no_later_read(core_class: type[Core]) -> None:
    """Dissertation 6.4, step 3: only an answer to a round begun after the read confirms it [C3]."""
    world = World(3, core_class)
    world.elect(1)
    world.tick_all(2)
    world.tick(1, world.heartbeat_ticks)
    world.deliver_all(1, 2)
    delayed = world.take(2, 1, AppendEntriesResponse)
    world.isolate(1)
    world.elect(2, among=[2, 3])
    world.propose(2)
    world.settle()
    first = world.read(1)
    second = world.read(1)  # joins no round that is already out
    world.repeat(delayed)
    world.repeat(delayed)
    must(not {*first, *second} & set(world.released), "a late answer confirmed a later read")


def old_append_confirms_no_read(core_class: type[Core]) -> None:
    """An append of an older term, answered in a term in which the same node leads again, confirms nothing [C3]."""
    world = World(3, core_class)
    world.elect(1)
    world.tick_all(20)
    world.tick(1, world.heartbeat_ticks)
    delayed = world.take(1, 2, AppendEntries)  # its round is large
    world.isolate(1)
    world.tick(1, 2 * world.election_ticks)
    world.heal()
    world.settle()
    world.elect(1)
    must(world.core(1).term == 2, "the script wants node 1 to lead again")
    world.repeat(delayed)
    world.flush(2)
    answer = world.take(2, 1, AppendEntriesResponse)
    world.isolate(1)
    world.elect(2, among=[2, 3])
    world.propose(2)
    world.settle()
    (reading,) = world.read(1)
    world.repeat(answer)
    must(reading not in world.released, "the answer to an append of an older term confirmed a read")


def reads_are_answered(core_class: type[Core]) -> None:
    """Every read is released or refused, in batches, with one round for all that wait."""
    world = World(3, core_class, max_pending_reads=10)
    world.elect(1)
    world.settle()
    first = world.read(1, 3)
    leader = world.core(1).leader
    assert leader is not None
    rounds = leader._round
    later = [world.read(1)[0] for _ in range(7)]
    must(leader._round == rounds, "reads that come while a round is out share the next one")
    (refused,) = world.read(1)
    must(world.refused.get(refused) == "overloaded", "more reads than the bound are refused")
    (asked,) = world.read(2)
    world.settle()
    must(world.refused.get(asked) == "not-leader", "a leader without room refuses a follower, too")
    must({*first, *later} <= set(world.released), "all of them are released")
    waiting = world.read(1, 2)
    joining = world.read(1, 2)
    world.isolate(1)
    world.tick(1, 2 * world.election_ticks)
    must(all(world.refused.get(t) == "lost-leadership" for t in waiting + joining), "or refused with the leadership")


def back_pressure(core_class: type[Core]) -> None:
    """More proposals than the bound are refused, certainly not done; commitment opens the bound again [R15, C6]."""
    world = World(3, core_class, max_uncommitted_entries=5)
    world.elect(1)
    for _ in range(4):
        tokens = world.propose(1, 8)
        must([token in world.refused for token in tokens] == [False] * 5 + [True] * 3, "five of eight are taken")
        world.settle()
        must(sum(token in world.acknowledged for token in tokens) == 5, "and committed")
    (token,) = world.propose(2)
    must(world.refused.get(token) == "not-leader", "a follower refuses")
    core = world.core(1)
    try:
        core.step(Propose(((999, b"x"), (1000, b""))))
    except ValueError:
        must(core.log.last_index == world.members[1].core.log.stable, "nothing of it was taken")
    else:
        must(False, "an empty payload was taken")
    must(not core.step(Read(())).reads, "no tokens, no effect")


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        vote_survives_crash,
        stale_votes,
        refused_pre_vote_tells_the_term,
        logs_compared_as_pairs,
        returning_member_does_not_depose,
        split_votes_end,
        leader_refuses_to_be_replaced,
        deaf_leader_steps_down,
        outage_of_2020,
        two_leaders_are_noticed,
        figure_8,
        figure_8_own_term,
        delayed_short_append,
        commit_is_capped_by_what_was_checked,
        answers_in_any_order,
        answers_to_an_older_term,
        late_refusal,
        refusal_of_what_matches,
        back_tracking_by_term,
        lost_appends_are_sent_again,
        probing_is_cheap,
        gap_is_refused,
        committed_entries_are_defended,
        minority_commits_nothing,
        majority_suffices,
        old_write_says_nothing_about_new_entries,
        slow_leader_disk,
        slow_disk_elects,
        hung_disk_is_bounded,
        isolated_leader_serves_no_reads,
        new_leader_waits_for_its_own_entry,
        late_answer_confirms_no_later_read,
        old_append_confirms_no_read,
        reads_are_answered,
        back_pressure,
        *GROUP_SCENARIOS,
    )
}
