"""Scripted histories about groups that change, logs that are cut short from the front, and offices handed over.

They go with ``scenarios`` and are used like those: the class of the core is the argument, the world checks its
invariants after every step, and each names its rule and, in brackets, the entries of the bug catalogue it replays.
"""

from __future__ import annotations

import random

from impl.raft import Core
from impl.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    NodeId,
    ReadIndexResponse,
    RequestVote,
    TimeoutNow,
)
from impl.raft.tests.script import Scenario, must
from impl.raft.tests.world import LEASE_SHARE, TICK_MS, World


def led(core_class: type[Core], size: int = 3, **settings: int) -> World:
    """A group led by node 1, with one entry committed everywhere."""
    world = World(size, core_class, **settings)  # type: ignore[arg-type]
    world.elect(1)
    world.propose(1)
    world.tick_all(2)
    return world


def with_learner(core_class: type[Core], size: int = 3, **settings: int) -> World:
    """The same, with one node more that has caught up and has no vote."""
    world = led(core_class, size, **settings)
    world.join(size + 1)
    world.add_learner(1, size + 1)
    world.tick_all(4)
    must(world.core(size + 1).commit_index == len(world.committed), "a learner receives the log")
    return world


def done(world: World, token: int) -> bool:
    return token in world.completed


def done_with(world: World) -> None:
    """Nothing is left undone, after healing."""
    world.converge(random.Random(7), 40 * world.election_ticks, 8 * world.election_ticks)


# --- changes of the group --------------------------------------------------------------------------------------------


def learner_becomes_voter(core_class: type[Core]) -> None:
    """Section 6: a new node receives the log first, has a vote after a joint configuration, and then counts."""
    world = with_learner(core_class)
    must(world.core(1).configuration.learners == (4,), "it is a member")
    token = world.promote(1, 4)
    must(world.core(1).configuration.joint, "voters change through a joint configuration")
    world.settle()
    must(done(world, token) and world.core(1).configuration.voters == (1, 2, 3, 4), "and it is left by itself")
    world.tick_all(2)
    world.crash(2)
    (token,) = world.propose(1)
    world.settle()
    must(token in world.acknowledged, "three of four decide")
    world.crash(3)
    (token,) = world.propose(1)
    world.settle()
    must(token not in world.acknowledged, "two of four do not")
    done_with(world)


def who_has_not_caught_up_gets_no_vote(core_class: type[Core]) -> None:
    """Dissertation 4.2.1: a new voter has nearly all of the log, or the group would wait for it."""
    world = led(core_class, max_entries_per_append=1)
    world.propose(1, 20)
    world.tick_all(2)
    world.join(4)
    world.cut_between([4], [1, 2, 3])
    world.add_learner(1, 4)
    world.settle()
    token = world.promote(1, 4)
    must(world.refused.get(token) == "not-caught-up", "a learner without the log becomes no voter")
    token = world.reconfigure(1, [1, 2, 3, 4], expected_index=0)
    must(world.refused.get(token) == "configuration-changed", "nor does anybody change another group than they know")
    world.heal()
    world.tick_all(4)
    token = world.promote(1, 4)
    world.settle()
    must(done(world, token), "with the log it does")


def no_change_before_an_own_entry(core_class: type[Core]) -> None:
    """The bug of 2015: a new leader first commits an entry of its own term, then changes the group [M1]."""
    world = with_learner(core_class, 4)
    world.cut_between([1], [2, 3, 4, 5])
    world.promote(1, 5)  # appended at node 1, and known to nobody else
    world.win(2, [3, 4])
    token = world.remove(2, 1)
    must(world.refused.get(token) == "not-ready", "a change before an own entry is committed")
    world.tick(2, world.heartbeat_ticks)
    world.settle([2, 3, 4])
    token = world.remove(2, 1)
    world.settle([2, 3, 4, 5])
    must(done(world, token), "after that it is taken")
    world.crash(2)
    world.heal()
    world.tick_all(60, random.Random(3))
    done_with(world)


def one_change_after_the_other(core_class: type[Core]) -> None:
    """Section 6: as long as a change is not committed, there is no other [M1]."""
    world = with_learner(core_class)
    world.cut_between([1], [2, 3])
    world.promote(1, 4)
    token = world.remove(1, 3)
    must(world.refused.get(token) == "change-in-progress", "a second change beside an open one")
    done_with(world)


def open_change_is_in_force(core_class: type[Core]) -> None:
    """Section 6: a configuration is in force from the moment it is appended, committed or applied or not [M2, M6]."""
    world = with_learner(core_class, 3)
    world.crash(2)
    world.hang(3)
    before = len(world.committed)
    world.promote(1, 4)
    world.settle([1, 4])
    must(len(world.committed) == before, "two of the new voters and one of the old ones are no joint majority")
    world.hang(3, hung=False)
    done_with(world)
    # The same the other way round: everybody of the old group, hardly anybody of the new one.
    world = World(5, core_class)
    world.elect(1)
    world.tick_all(2)
    world.reconfigure(1, [1, 4, 5])
    world.settle([1, 2, 3])
    must(world.core(1).configuration.joint, "the script wants a joint configuration")
    (token,) = world.propose(1)
    (reading,) = world.read(1)
    world.settle([1, 2, 3])
    must(token not in world.acknowledged and reading not in world.released, "a majority of the old group alone decides")
    done_with(world)


def joint_elections_take_both(core_class: type[Core]) -> None:
    """Section 6: whoever is elected in a joint configuration has a majority of each, not of both together [M6]."""
    world = World(5, core_class)
    world.elect(1)
    world.tick_all(2)
    world.reconfigure(1, [1, 4, 5])
    for other in (2, 3, 4, 5):
        world.deliver_all(1, other)
        world.flush(other)
    world.crash(1)
    world.isolate(2, 3, 4)
    for _ in range(8 * world.election_ticks):
        for node in (2, 3, 4):
            world.tick(node, entropy=node)
        world.settle([2, 3, 4])
    must(all(world.core(n).role != "leader" for n in (2, 3, 4)), "three of five, but one of the three new voters")
    done_with(world)
    must(not world.core(world.leader() or 2).configuration.joint, "whoever leads then leaves it")


def next_leader_leaves_joint(core_class: type[Core]) -> None:
    """Section 6: the joint configuration is left by whoever leads when it is committed [M4]."""
    world = with_learner(core_class)
    world.promote(1, 4)
    for other in (2, 3, 4):
        world.deliver_all(1, other)
        world.flush(other)
    world.crash(1)
    world.elect(2, among=[2, 3, 4])
    world.tick_all(4)
    must(world.core(2).configuration.voters == (1, 2, 3, 4) and not world.core(2).configuration.joint, "joint for ever")
    done_with(world)


def change_is_rolled_back(core_class: type[Core]) -> None:
    """Section 6: with its entry a configuration goes out of force again, at the leader that wrote it, too [M8]."""
    world = with_learner(core_class)
    world.cut_between([1], [2, 3, 4])
    token = world.promote(1, 4)
    world.flush(1)
    must(world.core(1).configuration.joint, "the script wants an open change")
    world.elect(2, among=[2, 3, 4])
    world.propose(2)
    world.settle([2, 3, 4])
    world.heal()
    world.tick_all(4)
    must(world.core(1).configuration == world.core(2).configuration, "node 1 keeps a configuration that was cut off")
    must(world.refused.get(token) == "lost-leadership", "and says that it does not know how the change ended")
    done_with(world)


def voter_that_does_not_know_it(core_class: type[Core]) -> None:
    """Who is asked votes, whether or not its own log says yet that it may [M3]."""
    world = with_learner(core_class)
    world.isolate(4)
    token = world.promote(1, 4)
    world.settle()
    must(done(world, token), "three of four decide")
    world.crash(1)
    world.heal()
    must(4 not in world.core(4).configuration.voters, "the script wants a voter that does not know it")
    world.elect(2, among=[2, 3, 4])
    done_with(world)


def leader_removes_itself(core_class: type[Core]) -> None:
    """Section 6: a leader that is not in the new group leads until that is committed, then steps down [M5, M9]."""
    for size in (2, 3):
        world = led(core_class, size)
        token = world.remove(1, 1)
        for _ in range(3):
            world.settle()
            must(world.core(1).role != "leader" or world.core(1).configuration.joint, "it leads a group without itself")
        must(done(world, token), "the change is done")
        must(world.core(1).role == "follower", "a leader outside of the group leads on")
        world.tick_all(2)
        must(world.leader() == 2 or size > 2, "who is furthest follows it at once")
        done_with(world)
        must(world.leader() != 1, "somebody of the group leads")


def removed_member_does_not_disturb(core_class: type[Core]) -> None:
    """Dissertation 4.2.3: who was removed and never heard of it cannot depose anybody [M5, P7]."""
    world = led(core_class)
    world.isolate(3)
    token = world.remove(1, 3)
    world.settle([1, 2])
    must(done(world, token), "the change does not wait for who leaves")
    world.heal()
    term = world.core(1).term
    world.tick_all(12 * world.election_ticks, random.Random(6))
    must((world.leader(), world.core(1).term) == (1, term), "a removed member deposed the leader")
    must(world.core(3).role in ("follower", "pre-candidate"), "it asks in vain")


def removing_waits_for_its_quorum(core_class: type[Core]) -> None:
    """Who leaves still has a say until the group without it is committed, by both majorities [M7]."""
    world = World(4, core_class)
    world.elect(1)
    world.tick_all(2)
    world.isolate(1, 2)
    token = world.reconfigure(1, [1, 2])
    world.settle([1, 2])
    must(not done(world, token) and world.core(1).configuration.joint, "two of the four old voters decided")
    world.heal()
    done_with(world)


def wiped_member_has_no_say(core_class: type[Core]) -> None:
    """A node that lost its disk is no member any more: neither its vote nor what it holds counts [D9, R7]."""
    world = led(core_class)
    world.isolate(3)
    (token,) = world.propose(1)
    world.settle([1, 2])
    must(token in world.acknowledged, "the script wants an entry that node 3 lacks")
    world.heal()
    world.crash(1)
    world.wipe(2)
    for _ in range(10 * world.election_ticks):
        for node in (2, 3):
            world.tick(node, entropy=node)
        world.settle([2, 3])
    must(world.leader() is None or not world.members[3].up, "elected by a member that forgot what it promised")
    world.restart(1)
    world.tick_all(30, random.Random(1))
    must(world.leader() == 1, "who remembers leads")
    token = world.reconfigure(1, [1, 2, 3], renew=[2])
    must(world.refused.get(token) == "bad-change", "the same vote under another life")
    world.remove(1, 2)
    world.tick_all(2)
    world.add_learner(1, 2)
    world.tick_all(6)
    token = world.promote(1, 2)
    world.tick_all(4)
    must(done(world, token), "removed, added, promoted: it is a voter again")
    done_with(world)
    must(world.members[2].written_entries == world.committed, "with all of the log")


def late_acknowledgement_of_another_life(core_class: type[Core]) -> None:
    """What a node acknowledged before it lost its disk says nothing about the disk that it has now [R7, D9]."""
    world = led(core_class)
    world.isolate(3)
    world.propose(1)
    world.deliver_all(1, 2)
    world.flush(2)
    late = world.take(2, 1, AppendEntriesResponse)
    world.heal()
    world.wipe(2)
    world.remove(1, 2)
    world.settle([1, 3])
    world.add_learner(1, 2)
    world.settle([1, 3])
    world.drop_all(1, 2)
    world.repeat(late)
    must(world.core(1).statistics().match[2] == 0, "what another life acknowledged counts for this one")
    done_with(world)


def reads_and_a_shrinking_quorum(core_class: type[Core]) -> None:
    """A learner confirms no read, and reads that wait while the group changes are answered [C5]."""
    world = with_learner(core_class)
    world.isolate(1, 4)
    (reading,) = world.read(1)
    world.settle([1, 4])
    must(reading not in world.released, "a learner confirmed a read")
    world.heal()
    world.tick_all(2 * world.heartbeat_ticks)
    must(reading in world.released, "two voters do")
    (reading,) = world.read(1)
    world.remove(1, 3)
    (other,) = world.read(1)
    world.tick_all(3)
    must({reading, other} <= set(world.released), "reads that wait are forgotten when the group changes")


# --- handing over ----------------------------------------------------------------------------------------------------


def leadership_is_handed_over(core_class: type[Core]) -> None:
    """Dissertation 3.10: within one election timeout, although the leader is alive and pre-vote is on [P6]."""
    world = led(core_class)
    world.tick_all(20)
    token = world.transfer(1, 3)
    world.tick_all(world.heartbeat_ticks + 1)
    must(world.leader() == 3, "leadership was not handed over")
    must(done(world, token), "and the old leader says so")
    token = world.transfer(3)
    world.tick_all(world.heartbeat_ticks + 1)
    must(done(world, token) and world.leader() in (1, 2), "to whom is furthest")
    done_with(world)


def target_catches_up_first(core_class: type[Core]) -> None:
    """Dissertation 3.10: the target stands once it has, durable, all that the leader has [P10]."""
    world = led(core_class)
    world.hang(3)
    world.propose(1, 3)
    world.transfer(1, 3)
    world.settle()
    must(world.core(3).role == "follower", "it stands before its disk has what the leader has")
    (token,) = world.propose(1)
    must(world.refused.get(token) == "transferring", "proposals wait, or the target never catches up")
    world.hang(3, hung=False)
    world.settle()
    must(world.leader() == 3, "then it does")
    done_with(world)


def transfer_gives_up(core_class: type[Core]) -> None:
    """A transfer that comes to nothing ends after an election timeout, and proposals are taken again [P9]."""
    world = led(core_class)
    world.isolate(3)
    token = world.transfer(1, 3)
    for _ in range(world.election_ticks):
        world.tick(1)
        world.settle([1, 2])
    must(world.refused.get(token) == "transfer-failed", "it is never given up")
    (proposal,) = world.propose(1)
    world.settle([1, 2])
    must(proposal in world.acknowledged, "and the leader leads on")
    # Lost and won again in the middle of it.
    world.heal()
    world.tick_all(3)
    world.isolate(1)
    world.transfer(1, 2)
    world.tick(1, 2 * world.election_ticks)
    world.heal()
    world.elect(1)
    (proposal,) = world.propose(1)
    world.settle()
    must(proposal in world.acknowledged, "a new term begins with an old transfer")
    for target in (1, 9):
        token = world.transfer(1, target)
        must(world.refused.get(token) == "unknown-member", f"handed over to {target}")


def late_timeout_now(core_class: type[Core]) -> None:
    """An order to stand from an earlier term is not obeyed."""
    world = led(core_class)
    world.tick_all(20)
    old = TimeoutNow(0, 1, 2, world.core(1).term)
    world.transfer(1, 3)
    world.tick_all(3)
    term = world.core(3).term
    world.repeat(old)
    world.settle()
    must((world.leader(), world.core(3).term) == (3, term), "an order of an earlier term was obeyed")


def priorities_decide_who_stands_first(core_class: type[Core]) -> None:
    """While all are well the one with the greatest priority is elected; without any, a member leads only if told to."""
    world = World(3, core_class, priorities=(0, 1, 2))
    world.tick_all(3 * world.election_ticks)
    must(world.leader() == 3, "the greatest priority")
    world.crash(3)
    world.tick_all(5 * world.election_ticks)
    must(world.leader() == 2, "then the next")
    world.restart(3)
    world.tick_all(4)
    world.transfer(2, 1)
    world.tick_all(3)
    must(world.leader() == 1, "and the last when it is told to")
    done_with(world)


# --- disks -----------------------------------------------------------------------------------------------------------


def full_disk_hands_over(core_class: type[Core]) -> None:
    """A leader without room hands over to somebody who has some, and serves reads meanwhile; nothing is lost."""
    world = led(core_class)
    world.disk_space(1, full=True)
    (proposal,) = world.propose(1)
    must(world.refused.get(proposal) == "disk-full", "certainly not done")
    (reading,) = world.read(1)
    world.settle()
    must(reading in world.released, "reads need no room")
    world.tick_all(3)
    must(world.leader() in (2, 3), "somebody with room leads")
    world.disk_space(1, full=False)
    done_with(world)
    world = World(1, core_class)
    world.elect(1)
    world.disk_space(1, full=True)
    world.tick_all(20 * world.election_ticks)
    (reading,) = world.read(1)
    must(world.leader() == 1 and reading in world.released, "who is alone stays and serves reads")


# --- leases and reads of followers -----------------------------------------------------------------------------------


def leases_end_in_time(core_class: type[Core]) -> None:
    """Dissertation 6.4.1: a lease begins with its round, not with the answers to it, and ends before another can be
    elected [C4]."""
    election_ticks = 10
    world = led(core_class, lease_ms=int((election_ticks - 3) * TICK_MS * LEASE_SHARE))
    world.tick_all(4)
    (reading,) = world.read(1, lease=True)
    must(reading in world.released, "a lease answers at once")
    world.isolate(1)
    world.tick_all(2 * election_ticks + 2, random.Random(8))
    must(world.leader() in (2, 3), "the script wants another leader")
    world.propose(world.leader() or 2)
    world.settle()
    world = led(core_class, lease_ms=int((election_ticks - 3) * TICK_MS * LEASE_SHARE))
    world.tick(1, world.heartbeat_ticks)
    world.deliver_all(1, 2)
    late = world.take(2, 1, AppendEntriesResponse)
    world.isolate(1)
    for _ in range(election_ticks - 1):
        for node in (1, 2, 3):
            if world.core(node).role != "leader" or node == 1:
                world.tick(node, entropy=0)
    world.repeat(late)
    (reading,) = world.read(1, lease=True)
    must(reading not in world.released, "a lease that began with the answer")


def restarted_member_keeps_its_promise(core_class: type[Core]) -> None:
    """Dissertation 6.4.1: who has just been started may have heard the leader just before, and helps nobody else to
    its office for an election timeout: leases count on it [C4]."""
    world = led(core_class, lease_ms=300)
    world.tick_all(2)
    term = world.core(1).term
    world.crash(2)
    world.restart(2)
    world.hand_over(RequestVote(0, 3, 2, term + 1, 99, 99))
    world.settle([2])
    must(world.core(2).term == term, "a vote of a member that cannot know what it promised")
    world.tick(2, world.election_ticks, entropy=9)
    world.hand_over(RequestVote(0, 3, 2, term + 1, 99, 99))
    must(world.core(2).voted_for == 3, "after an election timeout it is free")


def handing_over_ends_the_lease(core_class: type[Core]) -> None:
    """Dissertation 6.4.1: who has asked another to stand has no lease any more: that election waits for nobody [C4]."""
    world = led(core_class, lease_ms=300)
    world.tick_all(4)
    world.transfer(1, 2)
    world.cut_between([1], [3])
    world.cut(2, 1)
    world.settle([2, 3, 1])
    must(world.core(2).role == "leader", "the script wants a second leader")
    world.propose(2)
    world.settle([2, 3])
    (reading,) = world.read(1, lease=True)
    must(reading not in world.released, "a leader reads by a lease that it has given up")


def follower_reads(core_class: type[Core]) -> None:
    """Dissertation 6.4: a follower asks for a read index; a late answer answers no later question [C3]."""
    world = led(core_class)
    (first,) = world.read(2)
    world.settle()
    must(first in world.released, "a follower reads")
    old = [m for m in world.history if isinstance(m, ReadIndexResponse)][-1]
    world.propose(1)
    world.settle()
    (second,) = world.read(2)
    world.repeat(old)
    must(second not in world.released, "an old answer answered a new question")
    world.crash(2)
    world.restart(2)
    world.tick(2, world.election_ticks)
    world.tick(1, world.heartbeat_ticks)
    world.settle()
    (third,) = world.read(2)
    world.repeat(old)
    must(third not in world.released, "nor one of another process")
    world.settle()
    must(third in world.released, "its own does")


# --- snapshots -------------------------------------------------------------------------------------------------------


def behind(core_class: type[Core], keep: int = 0, **settings: int) -> World:
    """Node 3 lacks what nodes 1 and 2 have only as a snapshot."""
    world = led(core_class, **settings)
    world.isolate(3)
    world.propose(1, 10)
    world.settle([1, 2])
    world.tick(1, world.heartbeat_ticks)
    world.settle([1, 2])
    world.compact(1, keep=keep)
    world.compact(2)
    must(world.core(1).log.base.index == len(world.committed) - keep, "the log is shorter")
    world.heal()
    return world


def caught_up(world: World, node_id: NodeId = 3) -> None:
    world.tick_all(6)
    member = world.members[node_id]
    must(member.applied == len(world.committed), f"node {node_id} does not catch up:{world.describe()}")


def snapshot_brings_up_to_date(core_class: type[Core]) -> None:
    """Section 7: who lacks what is gone gets a snapshot in pieces, then entries, and is replicated to as before [N2,
    N4, R14]."""
    for chunk in (5, 64, 1000):
        for keep in (0, 3):
            world = behind(core_class, keep, snapshot_chunk_bytes=chunk)
            world.propose(1, 2)
            world.settle()
            caught_up(world)
            must(world.reached["restore"] == 1, "by one snapshot")
            must(world.core(1).statistics().peers[3].state == "replicate", "and by appends again")
            (token,) = world.propose(1)
            world.settle()
            must(token in world.acknowledged and world.members[3].written_entries == world.committed, "as before")
            world.crash(3)
            world.restart(3)
            world.tick(3, world.election_ticks)
            caught_up(world)


def compacted_log_still_elects(core_class: type[Core]) -> None:
    """A log that ends with its snapshot has a last term and a last index, after a restart, too [N4, N10]."""
    world = led(core_class)
    for node in (1, 2, 3):
        world.compact(node)
        must(world.core(node).log.last_term == 1, "the last term is that of the base")
    for node in (1, 2, 3):
        world.crash(node, survive=9)
        world.restart(node)
        must(world.core(node).log.base.index == world.core(node).log.last_index == 2, "the log begins after it")
        world.tick(node, world.election_ticks, entropy=9)
    world.elect(2)
    done_with(world)


def append_from_before_the_snapshot(core_class: type[Core]) -> None:
    """Late appends that reach back before the beginning of the log cut nothing and add nothing twice [N1, N5]."""
    world = led(core_class, max_entries_per_append=2)
    for _ in range(6):
        world.propose(1)
    world.settle()
    world.tick_all(2)
    old = [m for m in world.history if isinstance(m, AppendEntries) and m.target == 2]
    world.compact(2)
    length = world.core(2).log.last_index
    for message in old:
        world.repeat(message)
        must(world.core(2).log.last_index == length, "an old append changed the log")
        world.flush(2)
        answer = world.take(2, 1, AppendEntriesResponse)
        must(isinstance(answer, AppendEntriesResponse) and answer.success, "what is in the snapshot matches")
    must(world.core(2).log.base.index == length, "the script wants all of it in the snapshot")
    done_with(world)


def snapshot_does_not_lower_the_term(core_class: type[Core]) -> None:
    """A snapshot of an older term is taken by a member in a newer one, which keeps its term and its vote [N3, V4]."""
    world = behind(core_class)
    world.isolate(1)
    world.elect(2, among=[2, 3])
    term = world.core(2).term
    world.tick_all(6)
    must(world.core(3).term == term > 1, "the script wants a newer term")
    must(world.members[3].disk_base.term == 1 and world.core(3).term == term, "the term went back with the snapshot")
    done_with(world)


def late_snapshot_is_not_installed(core_class: type[Core]) -> None:
    """An older snapshot never takes the place of a newer state, however late its pieces come [N6]."""
    world = behind(core_class)
    world.tick(1, world.heartbeat_ticks)
    world.settle([1, 2])
    world.tick_all(4)
    caught_up(world)
    old = [m for m in world.history if isinstance(m, InstallSnapshot)]
    must(bool(old), "the script wants pieces")
    world.propose(1, 3)
    world.tick_all(2)
    before = world.members[3].applied
    for message in old:
        world.repeat(message)
        world.settle()
    must(world.members[3].applied == before and world.reached["restore"] == 1, "the state went back")
    done_with(world)


def snapshot_races_with_appends(core_class: type[Core]) -> None:
    """The last piece is stored after entries that made it unnecessary: it changes nothing [N6]."""
    world = behind(core_class, keep=0, snapshot_chunk_bytes=1000)
    for _ in range(3 * world.heartbeat_ticks):
        world.tick(1)
        world.deliver_all(1, 3)
        world.deliver_all(3, 1)
        world.flush(3)
        if world.members[3].to_store:
            break
    must(bool(world.members[3].to_store), "the script wants a piece on its way to the disk")
    snapshot = world.members[3].to_store[0].base
    world.members[3].to_store.append(world.members[3].to_store[0])
    world.store(3)
    world.flush(3)
    world.propose(1, 2)
    world.deliver_all(3, 1)
    for node in (1, 2):
        world.settle([node, 3])
    while world.members[3].to_store:
        world.store(3)
    must(world.reached["restore"] == 1 and world.members[3].applied >= snapshot.index, "it was installed twice")
    done_with(world)


def conflicting_suffix_goes(core_class: type[Core]) -> None:
    """A log that differs at the end of the snapshot is dropped whole; one that agrees keeps what follows [N7]."""
    world = led(core_class)
    world.isolate(1)
    world.propose(1, 20)  # entries of term 1 that nobody else has
    world.flush(1)
    world.elect(2, among=[2, 3])
    world.propose(2, 5)
    world.settle([2, 3])
    world.tick(2, world.heartbeat_ticks)
    world.settle([2, 3])
    world.compact(2)
    world.compact(3)
    world.heal()
    world.tick_all(8)
    must(world.members[1].written_entries == world.committed, "a suffix of another history stays")
    must(world.reached["restore"] == 1, "by a snapshot")
    done_with(world)


def snapshot_holds_the_group(core_class: type[Core]) -> None:
    """A member that knows nothing but a snapshot knows the group, and changes go on from there [N8, N11]."""
    world = with_learner(core_class)
    world.promote(1, 4)
    world.tick_all(3)
    world.compact(1)
    world.join(5)
    world.add_learner(1, 5)
    world.tick_all(6)
    must(world.core(5).log.base.configuration.voters == (1, 2, 3, 4), "the snapshot says who the group was")
    for node in (1, 2, 3, 4, 5):
        world.compact(node)
        world.crash(node, survive=9)
        world.restart(node)
        world.tick(node, world.election_ticks, entropy=9)
        must(world.core(node).configuration.voters == (1, 2, 3, 4), "a restart from nothing but a snapshot")
    world.elect(2)
    token = world.promote(2, 5)
    world.tick_all(3)
    must(done(world, token), "a change after a snapshot")
    done_with(world)


def transfer_of_a_snapshot_is_resumed(core_class: type[Core]) -> None:
    """Pieces that were synced survive a restart of the receiver, and the rest follows [N9]."""
    world = behind(core_class, snapshot_chunk_bytes=8)
    for _ in range(200):
        world.tick(1)
        for _ in range(3):
            world.deliver_all(1, 3)
            world.store(3)
            world.flush(3)
            world.deliver_all(3, 1)
        partial = world.members[3].partial
        if partial is not None and len(partial.data) >= 32:
            break
    must(world.members[3].partial is not None, "the script wants a snapshot half received")
    world.crash(3)
    kept = world.members[3].partial
    must(kept is not None and len(kept.data) >= 16, "what was synced is there")
    world.restart(3)
    world.tick(3, world.election_ticks)
    for pair in world.links:
        world.drop_all(*pair)
    world.journal.clear()
    caught_up_by = world.reached["restore"]
    world.tick_all(3 * world.election_ticks)
    caught_up(world)
    must(world.reached["restore"] == caught_up_by + 1, "by the same snapshot")
    offsets = [a[-1].offset for a in world.journal if a[0] == "deliver" and isinstance(a[-1], InstallSnapshot)]
    must(len(offsets) <= 8 and 8 not in offsets, f"pieces that were there are sent again: {offsets}")


def damaged_snapshot_starts_over(core_class: type[Core]) -> None:
    """A snapshot that was damaged on its way is not installed; it is sent again from its beginning."""
    world = behind(core_class, snapshot_chunk_bytes=40)
    for _ in range(40):
        world.tick(1)
        world.deliver_all(1, 3)
        world.flush(3)
        world.store(3)
        if world.members[3].partial is not None:
            break
        world.deliver_all(3, 1)
    world.damage(3)
    caught_up(world)
    world.tick_all(world.election_ticks)
    must(world.reached["damaged snapshot"] == 1 and world.reached["restore"] == 1, "noticed, and sent again")


def lost_pieces_are_sent_again(core_class: type[Core]) -> None:
    """R12-R14: a piece or its answer that is lost, a snapshot that is gone, a peer that was away: all go on."""
    for lose in ("piece", "answer", "report", "newer"):
        world = behind(core_class, snapshot_chunk_bytes=20)
        world.tick(1, world.heartbeat_ticks)
        world.deliver_all(1, 3)
        world.flush(3)
        world.deliver_all(3, 1)
        if lose == "answer":
            world.deliver_all(1, 3)
            world.store(3)
            world.flush(3)
            world.drop_all(3, 1)
        world.drop_all(1, 3)
        if lose == "report":
            world.unreachable(1, 3)
        if lose == "newer":
            world.propose(1, 5)
            world.settle([1, 2])
            world.compact(1)
        world.tick_all(3 * world.election_ticks)
        caught_up(world)
        progress = world.core(1).statistics().peers[3]
        must(progress.state == "replicate" and progress.in_flight_bytes == 0, f"stuck after a lost {lose}")


def dead_member_costs_nothing(core_class: type[Core]) -> None:
    """Who is down and lacks entries that are gone is not sent a piece with every round of reads."""
    world = behind(core_class)
    world.crash(3)
    world.unreachable(1, 3)
    world.drop_all(1, 3)
    for _ in range(20):
        world.read(1)
        world.tick(1)
        world.settle([1, 2])
        world.unreachable(1, 3)
    pieces = [m for m in world.links[1, 3] if isinstance(m, InstallSnapshot)]
    must(len(pieces) <= 2, f"{len(pieces)} pieces for a member that is down")


def group_changes_during_a_transfer(core_class: type[Core]) -> None:
    """Who is removed while a snapshot is on its way to it: the late answers are nobody's."""
    world = with_learner(core_class, snapshot_chunk_bytes=10)
    world.isolate(4)
    world.propose(1, 5)
    world.settle([1, 2, 3])
    world.tick_all(2)
    world.compact(1)
    world.heal()
    world.tick(1, world.heartbeat_ticks)
    world.deliver_all(1, 4)
    world.store(4)
    world.flush(4)
    late: list[Message] = list(world.links[4, 1])
    world.remove(1, 4)
    world.settle([1, 2, 3])
    for message in late:
        must(isinstance(message, AppendEntriesResponse | InstallSnapshotResponse), "the script wants answers")
        world.repeat(message)
    must(4 not in world.core(1).statistics().peers, "a removed member is sent to")
    done_with(world)


def installed_snapshot_survives_a_crash(core_class: type[Core]) -> None:
    """Between the last piece, the write that makes it the beginning of the log, and the state machine: a crash at any
    of these leaves a node that goes on [N9]."""
    for stored, survive in ((False, 0), (True, 0), (True, 1)):
        world = behind(core_class, snapshot_chunk_bytes=1000)
        for _ in range(40):
            world.tick(1)
            world.deliver_all(1, 3)
            world.flush(3)
            if world.members[3].to_store:
                break
            world.deliver_all(3, 1)
        world.store(3, report=stored)
        world.crash(3, survive=survive)
        world.restart(3)
        world.tick(3, world.election_ticks)
        if survive:
            must(world.members[3].applied == world.core(3).log.base.index > 2, "the state comes from the snapshot")
        world.tick_all(world.election_ticks)  # the leader waits so long before it sends a piece again
        caught_up(world)
        done_with(world)


def configuration_of_another_history(core_class: type[Core]) -> None:
    """A snapshot that replaces a log with an open change of the same index brings its own group [M8, N7, N8]."""
    world = with_learner(core_class)
    world.cut_between([1], [2, 3, 4])
    world.propose(1)
    world.promote(1, 4)
    world.flush(1)
    index = world.core(1).configuration_index
    world.elect(2, among=[2, 3, 4])
    world.remove(2, 4)
    world.settle([2, 3, 4])
    world.tick(2, world.heartbeat_ticks)
    world.settle([2, 3, 4])
    world.compact(2)
    must(world.core(2).configuration_index == index, "the script wants two changes of one index")
    world.heal()
    world.tick_all(8)
    must(world.core(1).configuration == world.core(2).configuration, "a group of another history stays in force")
    done_with(world)


GROUP_SCENARIOS: tuple[Scenario, ...] = (
    learner_becomes_voter,
    who_has_not_caught_up_gets_no_vote,
    no_change_before_an_own_entry,
    one_change_after_the_other,
    open_change_is_in_force,
    joint_elections_take_both,
    next_leader_leaves_joint,
    change_is_rolled_back,
    voter_that_does_not_know_it,
    leader_removes_itself,
    removed_member_does_not_disturb,
    removing_waits_for_its_quorum,
    wiped_member_has_no_say,
    late_acknowledgement_of_another_life,
    reads_and_a_shrinking_quorum,
    leadership_is_handed_over,
    target_catches_up_first,
    transfer_gives_up,
    late_timeout_now,
    priorities_decide_who_stands_first,
    full_disk_hands_over,
    leases_end_in_time,
    restarted_member_keeps_its_promise,
    handing_over_ends_the_lease,
    follower_reads,
    snapshot_brings_up_to_date,
    compacted_log_still_elects,
    append_from_before_the_snapshot,
    snapshot_does_not_lower_the_term,
    late_snapshot_is_not_installed,
    snapshot_races_with_appends,
    conflicting_suffix_goes,
    snapshot_holds_the_group,
    transfer_of_a_snapshot_is_resumed,
    damaged_snapshot_starts_over,
    lost_pieces_are_sent_again,
    dead_member_costs_nothing,
    group_changes_during_a_transfer,
    installed_snapshot_survives_a_crash,
    configuration_of_another_history,
)
