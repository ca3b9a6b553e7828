"""What takes the whole cluster to see: the invariants that every step of a ``World`` is held against.

Theory of operation
-------------------
All checks are exact and incremental: each step is compared with what earlier steps established, so that a long run
costs no more per step than a short one. Nothing here counts votes with the arithmetic of the core: a quorum is written
down once more, from the paper.

*History.* ``disk_entries`` and ``written_entries`` of a member begin at index 1 whatever has been compacted away: what
a base stands in for is the committed prefix, which is known here. What a core is given when it starts is only what a
real disk would hold.

*Lives.* A member that loses its disk comes back as another incarnation. For the group it is a member that is down for
ever and a new node: ``lost_disks`` keeps what the earlier lives had made durable, since the group may go on counting
what they said before.

The list of invariants, with their sources, is in ``world``.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from impl.raft import Core
from impl.raft.configuration import configuration_of
from impl.raft.events import Effects, Event, Persist, Propose, StoreChunk, Token
from impl.raft.invariants import View
from impl.raft.messages import (
    CONFIGURATION,
    AppendEntries,
    AppendEntriesResponse,
    Base,
    Configuration,
    Entry,
    HardState,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    NodeId,
    ReadIndex,
    ReadIndexResponse,
    RequestVote,
    RequestVoteResponse,
)


class Violation(AssertionError):
    """An invariant of the cluster does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A complete snapshot on a member's disk."""

    base: Base
    content: bytes


@dataclass(slots=True)
class Partial:
    """A snapshot that is still being received: the last piece is not synced yet, and lost in a crash."""

    base: Base
    data: bytes = b""
    synced: int = 0


@dataclass(slots=True)
class Member:
    """One node: its core while it is up, and what outlives the core."""

    node_id: NodeId
    core: Core
    up: bool = True
    disk_hard_state: HardState = field(default_factory=HardState)
    disk_entries: list[Entry] = field(default_factory=list)
    pending: deque[Persist] = field(default_factory=deque)  # handed over, not durable
    written_hard_state: HardState = field(default_factory=HardState)  # the disk once all that is pending is durable
    written_entries: list[Entry] = field(default_factory=list)
    sequence: int = 0
    view: View | None = None  # after its last step
    applied: int = 0
    proposals: dict[int, list[tuple[Token, int]]] = field(default_factory=dict)  # open, by index: token and term
    reads: dict[Token, tuple[int, int]] = field(default_factory=dict)  # open: what was committed then, and when
    lease_reads: set[Token] = field(default_factory=set)  # of those, the ones that a clock may answer
    asked: set[Token] = field(default_factory=set)  # reconfigurations and transfers that are open
    incarnation: int = 1
    run_id: int = 1
    priority: int = 2
    disk_base: Base = field(default_factory=Base)
    written_base: Base = field(default_factory=Base)
    snapshots: dict[int, Snapshot] = field(default_factory=dict)  # complete and durable, by index
    partial: Partial | None = None
    to_store: deque[StoreChunk] = field(default_factory=deque)  # pieces that the driver has not put away yet
    state: bytes = b""  # of the state machine: a chain of hashes of what it has applied
    full: bool = False  # no room on the disk: batches wait
    hung: bool = False  # the disk reports nothing
    clock_ms: float = 0.0
    rate: float = 1.0  # of the clock: within the bound that leases count on
    ticked_ms: float = 0.0  # when the last tick was due, by that clock


def content_of(base: Base, state: bytes, size_bytes: int) -> bytes:
    """A snapshot: a checksum, the state, and filling that depends on both."""
    body = (state + hashlib.sha256(state).digest() * (size_bytes // 32 + 1))[: max(size_bytes - 8, len(state))]
    return hashlib.sha256(b"%d/%d" % (base.index, base.term) + body).digest()[:8] + body


def state_of(base: Base, content: bytes) -> bytes | None:
    """The state in a snapshot; None if it is damaged."""
    checksum = hashlib.sha256(b"%d/%d" % (base.index, base.term) + content[8:]).digest()[:8]
    return content[8 : 8 + STATE_BYTES] if checksum == content[:8] else None


STATE_BYTES = 16


def after_entry(state: bytes, entry: Entry) -> bytes:
    """The state after one more entry."""
    said = b"%d/%d/%d/" % (entry.index, entry.term, entry.kind) + entry.payload
    return hashlib.sha256(state + said).digest()[:STATE_BYTES]


def token_of(entry: Entry) -> Token:
    """The token that a payload names; 0 for a no-op and for a configuration."""
    return 0 if entry.kind == CONFIGURATION else int(entry.payload.rstrip(b".") or b"0")


def majority_of(voters: Collection[NodeId], agreeing: Collection[NodeId]) -> bool:
    return 2 * sum(voter in agreeing for voter in voters) > len(voters)


def decides(configuration: Configuration, agreeing: Iterable[NodeId]) -> bool:
    """Section 6: a majority of the voters, and of the outgoing ones, too, while there are any."""
    agreed = set(agreeing)
    if configuration.outgoing and not majority_of(configuration.outgoing, agreed):
        return False
    return majority_of(configuration.voters, agreed)


@dataclass(slots=True)
class Judge:
    """What is known of the cluster so far, and the checks of one step against it."""

    members: dict[NodeId, Member] = field(init=False)
    links: dict[tuple[NodeId, NodeId], list[Message]] = field(init=False)
    founding: Configuration = field(init=False, default_factory=Configuration)
    reached: Counter[str] = field(init=False, default_factory=Counter)  # what was seen: a test that saw nothing is void
    clock: int = field(init=False, default=0)  # steps
    votes: dict[tuple[int, NodeId], NodeId] = field(init=False, default_factory=dict)  # by term and voter, durable
    ballots: dict[tuple[int, NodeId, int], NodeId] = field(init=False, default_factory=dict)  # and by incarnation, ever
    rounds: dict[tuple[NodeId, int, int], int] = field(init=False, default_factory=dict)  # (leader, term, round): begun
    heard: dict[tuple[NodeId, int], dict[NodeId, int]] = field(
        init=False, default_factory=dict
    )  # newest round, by whom
    hearing: dict[tuple[NodeId, int], dict[tuple[NodeId, int], int]] = field(init=False, default_factory=dict)
    leaders: dict[int, NodeId] = field(init=False, default_factory=dict)  # by term, ever
    known: dict[tuple[int, int], tuple[int, bytes]] = field(init=False, default_factory=dict)  # (index, term): before
    committed: list[Entry] = field(init=False, default_factory=list)
    commit_terms: list[int] = field(init=False, default_factory=list)  # of the member that was first to commit it
    states: list[bytes] = field(init=False, default_factory=lambda: [b"\0" * STATE_BYTES])  # after each committed entry
    configurations: list[tuple[int, Configuration]] = field(init=False, default_factory=list)  # committed
    deciding: Configuration = field(init=False, default_factory=Configuration)  # by which the last entry was committed
    lost_disks: dict[tuple[NodeId, int], list[Entry]] = field(init=False, default_factory=dict)  # by incarnation
    acknowledged: dict[Token, int] = field(init=False, default_factory=dict)  # applied where it was accepted: index
    never: set[Token] = field(init=False, default_factory=set)  # proposals that a client was told never happen
    refused: dict[Token, str] = field(init=False, default_factory=dict)
    released: dict[Token, int] = field(init=False, default_factory=dict)  # reads: the index of their release
    completed: dict[Token, int] = field(init=False, default_factory=dict)  # changes and transfers
    _before: Configuration = field(init=False, default_factory=Configuration)  # of the member that steps, before it

    def configuration_at(self, index: int) -> Configuration:
        """The one in force after entry ``index``, which is committed."""
        return next(found for at, found in reversed([(0, self.founding), *self.configurations]) if at <= index)

    def describe(self) -> str:
        raise NotImplementedError

    # --- what is written -------------------------------------------------------------------------------------------

    def _check_persist(self, member: Member, effects: Effects) -> None:
        core, batch = member.core, effects.persist
        if batch is not None:
            member.sequence += 1
            if batch.sequence != member.sequence:
                raise Violation("all_is_written", f"batch {batch.sequence} follows batch {member.sequence - 1}")
            member.pending.append(batch)
            if batch.base is not None:
                self._check_base(member, batch.base, of_log=True)
                self._lose(self._begin_history(member.written_entries, batch.base))
                member.written_base = batch.base
            if batch.hard_state is not None:
                member.written_hard_state = batch.hard_state
            if batch.entries:
                cut = batch.entries[0].index - 1
                replaced = member.written_entries[cut:]
                self.reached["truncation"] += bool(replaced)
                del member.written_entries[cut:]
                for entry in batch.entries:
                    before = member.written_entries[-1].term if member.written_entries else 0
                    name = self.known.setdefault((entry.index, entry.term), (before, entry.payload))
                    if name != (before, entry.payload) or entry.index != len(member.written_entries) + 1:
                        raise Violation("log_matching", f"node {member.node_id} writes {entry} after term {before}")
                    member.written_entries.append(entry)
                self._lose(replaced)
        written_term = member.written_entries[-1].term if member.written_entries else 0
        if (
            member.written_hard_state.term != core.term
            or member.written_hard_state.voted_for != core.voted_for
            or len(member.written_entries) != core.log.last_index
            or written_term != core.log.last_term
        ):
            raise Violation(
                "all_is_written",
                f"node {member.node_id} is at term {core.term}, voted for {core.voted_for}, log to "
                f"{core.log.last_index} of term {core.log.last_term}; "
                f"written: {member.written_hard_state}, {member.written_entries[-1:]}",
            )

    def _begin_history(self, history: list[Entry], base: Base) -> list[Entry]:
        """A log begins after ``base``: what stood before is the committed prefix. Returns what was dropped."""
        dropped: list[Entry] = []
        if base.index and history[base.index - 1 : base.index] != self.committed[base.index - 1 : base.index]:
            dropped = history[base.index :]
            del history[:]
            self.reached["log replaced by a snapshot"] += 1
        history[: base.index] = self.committed[: base.index]
        return dropped

    def _lose(self, entries: Iterable[Entry]) -> None:
        """Entries that a member forgets: the committed ones among them are still held by enough others."""
        for old in entries:
            if old.index <= len(self.committed) and self.committed[old.index - 1] == old:
                self.reached["committed entry replaced at a minority"] += 1
                self._check_durable(old)

    def _check_base(self, member: Member, base: Base, *, of_log: bool = False) -> None:
        """Whatever stands in for a prefix of the log stands for the committed one, and names the right group. Only the
        log of a node that has joined may begin before the entry that tells it of the group, and name nobody."""
        if base.index > len(self.committed):
            raise Violation("snapshot_holds_the_prefix", f"node {member.node_id}: {base} is not committed")
        if base.index and base.term != self.committed[base.index - 1].term:
            raise Violation("snapshot_holds_the_prefix", f"{base} for {self.committed[base.index - 1]}")
        untold = of_log and base.configuration_index == 0 and not base.configuration.members
        if base.configuration != self.configuration_at(base.index) and not untold:
            raise Violation("snapshot_holds_the_prefix", f"{base}: not {self.configuration_at(base.index)}")

    def _check_configuration(self, member: Member, effects: Effects) -> None:
        """The group that a member goes by, and what a leader puts into the log to change it."""
        core = member.core
        if effects.persist is None:
            return
        expected, at = member.written_base.configuration, member.written_base.configuration_index
        for entry in reversed(member.written_entries[member.written_base.index :]):
            if entry.kind == CONFIGURATION:
                found = configuration_of(entry)
                assert found is not None
                expected, at = found, entry.index
                break
        if (core.configuration, core.configuration_index) != (expected, at):
            raise Violation("configuration_in_force", f"node {member.node_id}: {core.configuration}, not {expected}")
        if member.written_base != core.log.base:
            raise Violation("all_is_written", f"node {member.node_id}: {core.log.base} is not on its way to the disk")
        if core.configuration != self._before and (effects.configuration != core.configuration):
            raise Violation("configuration_in_force", f"node {member.node_id} does not say that the group has changed")
        if core.role != "leader":
            return
        current = self._before
        changes = [e for e in effects.persist.entries if e.kind == CONFIGURATION and e.term == core.term]
        for entry in changes:
            new = configuration_of(entry)
            assert new is not None
            learners_only = not current.joint and not new.joint and new.voters == current.voters
            enters = not current.joint and new.outgoing == current.voters
            leaves = current.joint and not new.joint and new.voters == current.voters
            if not (learners_only or enters or leaves):
                raise Violation("joint_consensus", f"from {current} to {new}")
            current = new
            self.reached["joint" if new.joint else "final" if leaves else "learners"] += 1
            open_ones = [e.index for e in member.written_entries[len(self.committed) :] if e.kind == CONFIGURATION]
            if len(open_ones) > 1:
                raise Violation("one_change_at_a_time", f"node {member.node_id} has open changes at {open_ones}")
            if core.log.term_at(core.commit_index) != core.term:
                raise Violation(
                    "one_change_at_a_time", f"node {member.node_id} changes the group before its own commit"
                )

    # --- who leads -------------------------------------------------------------------------------------------------

    def _check_role(self, member: Member, before: View) -> None:
        core = member.core
        if core.role != "leader":
            return
        if self.leaders.setdefault(core.term, member.node_id) != member.node_id:
            raise Violation(
                "election_safety", f"nodes {self.leaders[core.term]} and {member.node_id} lead term {core.term}"
            )
        if before.role != "leader" or before.term != core.term:
            self.reached["leader"] += 1
            group = self._before
            voters = [
                named.node_id
                for named in group.members
                if self.ballots.get((core.term, named.node_id, named.incarnation)) == member.node_id
            ]
            if not decides(group, voters):
                forgetful = [p for (t, p, _), who in self.ballots.items() if t == core.term and who == member.node_id]
                raise Violation(
                    "elected_by_a_majority" if not decides(group, forgetful) else "no_vote_of_the_forgetful",
                    f"node {member.node_id} leads term {core.term}, elected by {voters}",
                )
            for entry, term in zip(reversed(self.committed), reversed(self.commit_terms), strict=True):
                if term < core.term:
                    if member.written_entries[entry.index - 1 : entry.index] != [entry]:
                        raise Violation(
                            "leader_completeness", f"node {member.node_id} leads {core.term} without {entry}"
                        )
                    break
        for peer, progress in core.progress.items():
            other = self.members.get(peer)
            if other is None or other.incarnation != progress.incarnation or not progress.match:
                continue
            if other.up and other.core.term == core.term:
                there = other.disk_entries[progress.match - 1].term if progress.match <= len(other.disk_entries) else -1
                if there != member.written_entries[progress.match - 1].term:
                    raise Violation("match_is_true", f"node {member.node_id} believes {peer} has {progress.match}")

    def _check_heard(self, member: Member, before: View, message: Message) -> None:
        core = member.core
        if isinstance(message, RequestVote) and core.voted_for == message.source and not message.pre_vote:
            given_now = before.voted_for != message.source or before.term != core.term
            theirs = (message.last_log_term, message.last_log_index)
            if given_now and theirs < (core.log.last_term, core.log.last_index):
                raise Violation("votes_for_fresh_logs", f"node {member.node_id} votes for {message}: {self.describe()}")
        if isinstance(message, AppendEntries | InstallSnapshot) and (core.term, core.leader_id) == (
            message.term,
            message.source,
        ):
            began = self.rounds.get((message.source, message.term, message.round), 0)  # 0: a piece came first
            heard = self.heard.setdefault((message.source, message.term), {})
            heard[member.node_id] = max(began, heard.get(member.node_id, 0))
            hearing = self.hearing.setdefault((message.source, message.term), {})
            name = (member.node_id, member.incarnation)
            hearing[name] = max(began, hearing.get(name, 0))

    # --- what is said ----------------------------------------------------------------------------------------------

    def _check_sends(self, member: Member, effects: Effects) -> None:
        """Each message against the disk as it is at this moment."""
        disk = member.disk_hard_state
        for message in effects.send:
            term_said = message.term
            if isinstance(message, ReadIndex | ReadIndexResponse):
                continue  # nobody relies on their term
            votes_for = length_said = 0
            if isinstance(message, RequestVote):
                term_said -= message.pre_vote
                votes_for = 0 if message.pre_vote else member.node_id
                length_said = message.last_log_index
            elif isinstance(message, RequestVoteResponse):
                votes_for = message.target if message.granted and not message.pre_vote else 0
            elif (isinstance(message, AppendEntriesResponse) and message.success) or (
                isinstance(message, InstallSnapshotResponse) and message.done
            ):
                length_said = message.index
            if disk.term < term_said:
                raise Violation("durable_before_said", f"{message} while the disk has {disk}")
            if votes_for and disk.term == term_said and disk.voted_for != votes_for:
                raise Violation("durable_before_said", f"{message} while the disk has {disk}")
            # A request that waited for the disk may come out after the log was replaced: then it is an old message.
            outdated = isinstance(message, RequestVote) and (length_said, message.last_log_term) != (
                member.core.log.last_index,
                member.core.log.last_term,
            )
            if length_said and member.core.term == term_said and not outdated:
                self._check_length_said(member, message, length_said)
            if isinstance(message, AppendEntries):
                self.rounds.setdefault((message.source, message.term, message.round), self.clock)
                if (disk.term, disk.voted_for) != (term_said, member.node_id):
                    raise Violation("durable_before_said", f"{message} while the disk has {disk}")

    def _check_length_said(self, member: Member, message: Message, length: int) -> None:
        there = member.disk_entries[length - 1].term if length <= len(member.disk_entries) else -1
        written = member.written_entries[length - 1].term if length <= len(member.written_entries) else -2
        if there != written:
            raise Violation("durable_before_said", f"{message} while the disk ends {member.disk_entries[-1:]}")
        if isinstance(message, AppendEntriesResponse | InstallSnapshotResponse):
            leader = self.members[message.target]
            if leader.up and leader.core.role == "leader" and leader.core.term == message.term:
                log = leader.written_entries
                said = log[length - 1].term if length <= len(log) else -3
                if said != there and length <= len(log):
                    raise Violation("acknowledged_matches", f"{message}: term {there} here, {said} at the leader")

    # --- what is committed -----------------------------------------------------------------------------------------

    def _check_commit(self, member: Member, before: View) -> None:
        core = member.core
        if core.commit_index == before.commit_index:
            return
        news = core.commit_index > len(self.committed)
        for entry in core.log.slice(before.commit_index + 1, core.commit_index):
            if entry.index <= len(self.committed):
                if self.committed[entry.index - 1] != entry:
                    raise Violation(
                        "state_machine_safety",
                        f"node {member.node_id} commits {entry}, but {self.committed[entry.index - 1]} was committed",
                    )
                continue
            if token_of(entry) in self.never:
                raise Violation("honest_outcomes", f"{entry} commits after its client was told that it never will")
            self.committed.append(entry)
            self.commit_terms.append(core.term)
            self.states.append(after_entry(self.states[-1], entry))
            found = configuration_of(entry)
            if found is not None:
                self.configurations.append((entry.index, found))
        if core.role == "leader" and core.log.term_at(core.commit_index) != core.term:
            raise Violation("commits_its_own_term", f"node {member.node_id} of term {core.term}: {core.commit_index}")
        if not news:
            return
        self.reached["commit"] += 1
        last = self.committed[-1]
        held = [group for group in (self._before, core.configuration) if decides(group, self._holders(last, group))]
        if not held:
            names = self._holders(last, core.configuration)
            raise Violation("committed_is_durable", f"{last} is committed, but on the disks of {names} only")
        self.deciding = held[-1]
        for other in self.members.values():
            if other.up and other.core.role == "leader" and other.core.term > core.term:
                self.reached["commit by a deposed leader"] += 1
                if other.written_entries[last.index - 1 : last.index] != [last]:
                    raise Violation(
                        "leader_completeness", f"node {other.node_id} leads {other.core.term} without {last}"
                    )

    def _holders(self, entry: Entry, group: Configuration) -> list[NodeId]:
        """The members, in the lives that the group names, whose disks hold an entry and have no write under way that
        would cut it."""
        holders = []
        for named in group.members:
            member = self.members[named.node_id]
            disk = member.disk_entries
            if member.incarnation != named.incarnation:
                disk = self.lost_disks.get((named.node_id, named.incarnation), [])
            elif any(batch.entries[0].index <= entry.index for batch in member.pending if batch.entries):
                continue
            if disk[entry.index - 1 : entry.index] == [entry]:
                holders.append(named.node_id)
        return holders

    def _check_durable(self, entry: Entry) -> None:
        """A committed entry stays with enough members that nobody is elected without it."""
        groups = (self.configuration_at(len(self.committed)), self.deciding)
        if not any(decides(group, self._holders(entry, group)) for group in groups):
            holders = self._holders(entry, groups[0])
            raise Violation("committed_is_durable", f"{entry} is committed, but on the disks of {holders} only")

    # --- what clients are told -------------------------------------------------------------------------------------

    def _check_outcomes(self, member: Member, event: Event, effects: Effects) -> None:
        answered: list[Token] = []
        for accepted in effects.accepted:
            answered.append(accepted.token)
            entry = member.core.log.slice(accepted.index, accepted.index)
            if len(entry) != 1 or entry[0].term != accepted.term or token_of(entry[0]) != accepted.token:
                raise Violation("honest_outcomes", f"{accepted}, but the log has {entry}")
            member.proposals.setdefault(accepted.index, []).append((accepted.token, accepted.term))
        for refused in effects.refused:
            self.refused[refused.token] = refused.reason
            self.reached[f"refused: {refused.reason}"] += 1
            if refused.token in member.asked:
                member.asked.remove(refused.token)
            elif member.reads.pop(refused.token, None) is None:
                answered.append(refused.token)
                self.never.add(refused.token)
        if isinstance(event, Propose):
            proposed = [token for token, _ in event.proposals]
            if sorted(answered) != proposed:
                raise Violation("honest_outcomes", f"proposed {proposed}, answered {sorted(answered)}")
        elif answered:
            raise Violation("honest_outcomes", f"answers to nothing: {answered}")
        for ready in effects.reads:
            self._check_read(member, ready.token, ready.index)

    def _check_read(self, member: Member, token: Token, index: int) -> None:
        core = member.core
        if token not in member.reads:
            raise Violation("honest_outcomes", f"read {token} at {index} is not open")
        floor, asked = member.reads.pop(token)
        if index < floor or index > len(self.committed):
            name = "leases_are_true" if token in member.lease_reads and core.role == "leader" else "linearizable_reads"
            raise Violation(
                name, f"node {member.node_id} reads {token} at {index}, but {floor} was committed when it was asked"
            )
        self.released[token] = index
        self.reached["read released"] += 1
        if member.node_id != self.leaders.get(core.term) or core.leader_id not in (member.node_id, 0):
            self.reached["follower read"] += 1
            return
        if core.leader is None:
            return
        hearing = self.hearing.get((member.node_id, core.term), {})
        confirming = {member.node_id} | {
            named.node_id
            for group in (self._before, core.configuration)
            for named in group.members
            if hearing.get((named.node_id, named.incarnation), -1) >= asked
        }
        if decides(self._before, confirming) or decides(core.configuration, confirming):
            return
        if token in member.lease_reads:
            self.reached["lease read"] += 1
            return
        raise Violation("confirmed_reads", f"read {token} is confirmed by {sorted(confirming)} only")

    def _check_changes(self, member: Member, effects: Effects) -> None:
        for done in effects.completed:
            if done.token not in member.asked:
                raise Violation("honest_outcomes", f"{done} answers no open request")
            member.asked.remove(done.token)
            self.completed[done.token] = done.index
            self.reached["change completed" if done.index else "transfer completed"] += 1
            if not done.index:
                continue
            if done.index > len(self.committed) or self.committed[done.index - 1].kind != CONFIGURATION:
                raise Violation("honest_outcomes", f"{done}, but that is no committed change of the group")
            if self.configuration_at(done.index).joint:
                raise Violation("honest_outcomes", f"{done}, but the group is still joint")

    # --- what is applied -------------------------------------------------------------------------------------------

    def _check_apply(self, member: Member, effects: Effects) -> None:
        for entry in effects.apply:
            member.applied += 1
            if entry.index != member.applied or entry != self.committed[entry.index - 1]:
                raise Violation("state_machine_safety", f"node {member.node_id} applies {entry} as {member.applied}")
            if len(member.disk_entries) < entry.index or member.disk_entries[entry.index - 1] != entry:
                raise Violation("durable_before_applied", f"node {member.node_id} applies {entry}")
            for token, term in member.proposals.pop(entry.index, ()):
                if term != entry.term:  # another leader's entry stands where this one was accepted: certainly lost
                    self.reached["proposal lost"] += 1
                    self.never.add(token)
                elif token_of(entry) != token:
                    raise Violation("honest_outcomes", f"proposal {token} is answered with {entry}")
                else:
                    self.acknowledged[token] = entry.index
                    self.reached["proposal acknowledged"] += 1
        if member.applied != member.core.released_index:
            raise Violation("state_machine_safety", f"{member.core.released_index} released, {member.applied} applied")

    def _restore(self, member: Member, base: Base) -> None:
        """The state machine is replaced by what a snapshot holds, before anything else is applied."""
        snapshot = member.snapshots.get(base.index)
        if base.index <= member.applied:
            raise Violation("state_machine_safety", f"node {member.node_id} goes back from {member.applied} to {base}")
        if snapshot is None or snapshot.base != base:
            raise Violation("snapshot_holds_the_prefix", f"node {member.node_id} restores {base}, which is not there")
        if member.disk_entries[base.index - 1 : base.index] != self.committed[base.index - 1 : base.index]:
            raise Violation("durable_before_applied", f"node {member.node_id} restores {base} before its log goes on")
        self._check_base(member, base)
        member.applied = base.index
        member.state = state_of(base, snapshot.content) or b""
        self._check_state(member)
        for index in [index for index in member.proposals if index <= base.index]:
            del member.proposals[index]  # how they ended is in the snapshot: their clients ask again
        self.reached["restore"] += 1

    def _apply_to_state(self, member: Member, effects: Effects) -> None:
        for entry in effects.apply:
            member.state = after_entry(member.state, entry)
        if effects.apply:
            self._check_state(member)

    def _check_state(self, member: Member) -> None:
        if member.state != self.states[member.applied]:
            raise Violation("state_machine_safety", f"node {member.node_id} has another state after {member.applied}")

    # --- disks -----------------------------------------------------------------------------------------------------

    def _make_durable(self, member: Member) -> int:
        batch = member.pending.popleft()
        if batch.base is not None:
            self._begin_history(member.disk_entries, batch.base)
            member.disk_base = batch.base
        if batch.hard_state is not None:
            member.disk_hard_state = batch.hard_state
            if batch.hard_state.voted_for:
                vote = (batch.hard_state.term, member.node_id)
                if self.votes.setdefault(vote, batch.hard_state.voted_for) != batch.hard_state.voted_for:
                    raise Violation("one_vote_per_term", f"node {member.node_id}: {self.votes[vote]} and {batch}")
                self.ballots[(*vote, member.incarnation)] = batch.hard_state.voted_for
        if batch.entries:
            cut = batch.entries[0].index - 1
            del member.disk_entries[cut:]
            member.disk_entries.extend(batch.entries)
        return batch.sequence
