"""One member of a Raft group as a synchronous object: events in, effects out.

Theory of operation
-------------------
The core has no input or output, no clock and no randomness. Its driver (the trio node, a simulator, a model checker)
turns what happens into events and carries out the effects; ``impl.raft.events`` is the contract between the two. The
same object runs in production and under every checker. This module is what every member does: votes, taking in the
log, durability. What only a leader does is in ``leader``, in an object that lives exactly as long as its office, so
that nothing of one term can leak into the next.

*Elections* (paper 5.2, dissertation 9.6). A follower that hears from no leader for a randomised timeout becomes a
pre-candidate and asks whether it would get votes in the next term; nobody's term changes. Members that have heard
from a leader lately say no, and so do members that have just been started: they cannot know what they promised. Only
with a quorum of promises does it become a candidate, raise its term, vote for itself and ask for real votes. A vote
that a leader itself asked for, to hand over its office, is not refused for having heard from that leader.

*Durability is data.* Whatever may only be said after a write is durable waits inside the core for the ``Persisted`` of
that write: votes, requests for votes, replies to appends. The leader's own vote counts for it, and its own log counts
towards commitment, only once they are durable; its appends to others may leave while its own disk still writes
(dissertation 10.2.1).

*Membership* (paper section 6). The latest configuration in the log is in force, committed or not. Requests are taken
from anybody, since a member may not know yet who was added; answers count only from members, and only from the
incarnation (the data directory) that the configuration names: a node that lost its memory has no say.

*Snapshots* (section 7). The log begins after a base. A snapshot that a leader sends arrives in pieces through the
driver; once it is complete it becomes the base, in the same ordered batches as everything else, and the state machine
is replaced before the next entry is applied.

Names follow figure 2 of the paper and raft.tla.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import assert_never

from impl.raft.configuration import all_voters, founding
from impl.raft.errors import ProtocolViolation
from impl.raft.events import (
    ChunkStored,
    Compact,
    DiskSpace,
    Effects,
    Event,
    Persist,
    Persisted,
    Propose,
    Read,
    ReadReady,
    Reason,
    Receive,
    Reconfigure,
    Refused,
    StoreChunk,
    Tick,
    Token,
    Transfer,
    Unreachable,
)
from impl.raft.leader import Leader
from impl.raft.log import RaftLog
from impl.raft.messages import (
    NO_OP,
    NO_ROUND,
    NOBODY,
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
    TimeoutNow,
)
from impl.raft.progress import Progress
from impl.raft.questions import Questions
from impl.raft.quorum import has_quorum
from impl.raft.settings import MAX_PRIORITY, Role, Settings, Statistics

MAX_GATED_MESSAGES = 1024
"""Messages that wait for this node's disk. A leader has tens of appends in flight and a handful of rounds; beyond that
the disk hangs, and the oldest are dropped as if the network had lost them."""


class Core:
    """One member of a Raft group. Not thread-safe: one task owns it, and ``step`` is never re-entered."""

    def __init__(
        self,
        settings: Settings,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
        applied_index: int = 0,
        base: Base | None = None,
        snapshot: Base | None = None,
    ) -> None:
        """Start from what was recovered: the hard state, the log as it is on disk (``base``, then all ``entries``
        behind it), the newest ``snapshot`` that is complete here, and the index up to which the state machine has
        applied the log (everything up to there is known to be committed). Without a base the log begins with the group
        that ``settings.voters`` found."""
        hard_state = hard_state or HardState()
        base = base or Base(configuration=founding(settings.voters))
        self.settings = settings
        self.node_id = settings.node_id
        self.role: Role = "follower"
        self.term = hard_state.term
        self.voted_for = hard_state.voted_for
        self.leader_id: NodeId = NOBODY
        self.leader: Leader | None = None
        self.log = RaftLog(entries, base)
        self._check_recovered(applied_index, snapshot)
        self.snapshot = snapshot
        self.commit_index = applied_index
        self.released_index = applied_index
        self.disk_full = False
        self.now_ms = 0

        self._ticks_since_contact = 0  # from the leader, from a vote given, or from the start
        self._just_started = hard_state.term > 0  # what it promised before, it does not know
        self._election_timeout = 0  # 0: to be drawn with the next tick
        self._votes: dict[NodeId, bool] = {}
        self._questions = Questions(settings)
        self._receiving: InstallSnapshot | None = None  # the last piece that was handed to the driver, without data
        self._restore: Base | None = None  # the state machine is still to be replaced

        self._saved = hard_state
        self._sequence = 0
        self._durable_sequence = 0
        self.stalled_ticks = 0  # since the disk last reported anything, while it owes a report
        self._vote_sequence = 0
        self._gated: deque[tuple[int, Message]] = deque(maxlen=MAX_GATED_MESSAGES)  # (batch to be durable first, …)
        self._gated_now: list[Message] = []  # of this step: they wait for the batch that the step ends with
        self._unsaved: list[Entry] = []
        self._unsaved_base: Base | None = None
        self.effects = Effects()

    def _check_recovered(self, applied_index: int, snapshot: Base | None) -> None:
        log = self.log
        if applied_index > log.last_index:
            raise ProtocolViolation(
                f"the state machine has applied entry {applied_index} but the log ends at {log.last_index}: "
                "the log was lost or replaced; restore both from the same backup, or rejoin as a new node"
            )
        if applied_index < log.base.index:
            raise ProtocolViolation(
                f"the state machine has applied entry {applied_index} but the log begins after {log.base.index}: "
                "rebuild the state from the newest snapshot, or rejoin as a new node"
            )
        if log.last_term > self.term:
            raise ProtocolViolation(
                f"the log ends with an entry of term {log.last_term} but the node remembers only term "
                f"{self.term}: its vote may be lost too; restore both from the same backup, or rejoin as a new node"
            )
        if log.base.index > (snapshot.index if snapshot else 0):
            raise ProtocolViolation(
                f"the log begins after entry {log.base.index}, and no snapshot holds what was before: restore both "
                "from the same backup, or rejoin as a new node"
            )

    # --- the interface ---------------------------------------------------------------------------------------------

    def step(self, event: Event) -> Effects:
        """Take one event and return what follows from it. Raises ``ProtocolViolation`` where Raft has been broken."""
        self.effects = Effects()
        match event:
            case Receive(message):
                self._receive(message)
            case Propose(proposals):
                self._propose(proposals)
            case Persisted(sequence):
                self._persisted(sequence)
            case Read(tokens, lease, now_ms):
                self._read(tokens, lease, now_ms)
            case Tick(entropy, now_ms):
                self._tick(entropy, now_ms)
            case Unreachable(peer):
                if self.leader is not None:
                    self.leader.lost(peer)
            case Reconfigure():
                if self.leader is None:
                    self.refuse(event.token, "not-leader")
                else:
                    self.leader.reconfigure(event)
            case Transfer(token, target):
                if self.leader is None:
                    self.refuse(token, "not-leader")
                else:
                    self.leader.transfer(token, target)
            case Compact(snapshot, up_to):
                self._compact(snapshot, up_to)
            case ChunkStored():
                self._chunk_stored(event)
            case DiskSpace(full):
                self.disk_full = full
                self.stalled_ticks = 0
            case _:
                assert_never(event)
        self._emit_persist()
        self._release_gated()
        self._release_committed()
        return self.effects

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the latest in the log, committed or not."""
        return self.log.configuration

    @property
    def configuration_index(self) -> int:
        return self.log.configuration_index

    @property
    def peers(self) -> tuple[NodeId, ...]:
        """The other members, sorted."""
        return tuple(member.node_id for member in self.configuration.members if member.node_id != self.node_id)

    @property
    def progress(self) -> dict[NodeId, Progress]:
        """The leader's view of the others; empty elsewhere."""
        return self.leader.progress if self.leader is not None else {}

    @property
    def is_voter(self) -> bool:
        """Whether this member, this incarnation of it, has a vote in the configuration in force."""
        return self._votes_in(self.configuration)

    def _votes_in(self, configuration: Configuration) -> bool:
        member = configuration.member(self.node_id)
        return (
            member is not None
            and member.incarnation == self.settings.incarnation
            and self.node_id in all_voters(configuration)
        )

    @property
    def may_stand(self) -> bool:
        """Whether this member may stand for election: also without a vote in its latest configuration, as long as that
        is not known to be committed (dissertation 4.2.2). It may be the only one that has it, and nobody with a shorter
        log could win against its refusal. Its own vote does not count then."""
        return any(self._votes_in(configuration) for configuration in self.log.configurations_since(self.commit_index))

    def base_at(self, index: int) -> Base:
        """What a snapshot of the state after entry ``index`` stands for. Raises ``ValueError`` outside of what has
        been handed out to be applied and is still in the log."""
        if index > self.released_index:
            raise ValueError(f"entry {index} has not been handed out to be applied, only {self.released_index}")
        return self.log.base_at(index)

    def statistics(self) -> Statistics:
        first = min(self.commit_index, self.log.stable) + 1
        leader = self.leader
        return Statistics(
            role=self.role,
            term=self.term,
            voted_for=self.voted_for,
            leader_id=self.leader_id,
            commit_index=self.commit_index,
            first_index=self.log.base.index + 1,
            last_index=self.log.last_index,
            stable_index=self.log.stable,
            released_index=self.released_index,
            snapshot_index=self.snapshot.index if self.snapshot else 0,
            configuration_index=self.configuration_index,
            uncommitted_entries=max(self.log.last_index - first + 1, 0),
            uncommitted_bytes=self.log.bytes_between(first, self.log.last_index),
            pending_reads=self._questions.pending if leader is None else leader.reads.pending,
            transferring_to=leader.transferring_to if leader is not None else NOBODY,
            peers={peer: progress.statistics() for peer, progress in sorted(self.progress.items())},
        )

    # --- time ------------------------------------------------------------------------------------------------------

    def _tick(self, entropy: int, now_ms: int) -> None:
        self.now_ms = max(self.now_ms, now_ms)
        owed = self._durable_sequence < self._sequence and not self.disk_full
        self.stalled_ticks = self.stalled_ticks + 1 if owed else 0
        if self.role == "candidate" and self._durable_sequence < self._vote_sequence:
            return  # its requests have not left: an election is not over before it began, however slow the disk
        if self.leader is not None:
            self.leader.tick()
            return
        self._ticks_since_contact += 1
        if self._ticks_since_contact >= self.settings.election_ticks:
            self._just_started = False
        for token in self._questions.tick():
            self.refuse(token, "read-timeout")
        if self._election_timeout == 0:
            self._election_timeout = self.settings.election_ticks + entropy % self.settings.election_ticks
            self._election_timeout += (MAX_PRIORITY - self.settings.priority) * self.settings.election_ticks
        if self._ticks_since_contact < self._election_timeout or self.disk_full:
            return
        if not self.may_stand or self.settings.priority == 0:
            if self.role != "follower" or self.leader_id != NOBODY:
                self.become_follower(self.term, NOBODY)
            return
        self._become_pre_candidate()

    def _reset_election_timer(self) -> None:
        self._ticks_since_contact = 0
        self._election_timeout = 0

    # --- roles -----------------------------------------------------------------------------------------------------

    def become_follower(self, term: int, leader_id: NodeId) -> None:
        """Give up whatever this member is or was about to be, and follow, in this term or in a newer one."""
        if term > self.term:
            self.term = term
            self.voted_for = NOBODY  # only ever together with a new term: within a term a vote stands
        if self.leader is not None:
            leader, self.leader = self.leader, None
            leader.leave_office(new_term=self.term > leader.term)
            self._reset_election_timer()
        self.role = "follower"
        if leader_id != self.leader_id:
            self.leader_id = leader_id
            for token in self._questions.drop():
                self.refuse(token, "lost-leadership")
        self._votes = {}
        if leader_id != NOBODY:
            self._reset_election_timer()

    def _stand(self) -> None:
        """What standing for election begins with, in earnest or not."""
        self.become_follower(self.term, NOBODY)
        self._reset_election_timer()

    def _become_pre_candidate(self) -> None:
        self._stand()
        self.role = "pre-candidate"
        self._votes = {self.node_id: True}
        if has_quorum(self.configuration, self._votes):
            self._become_candidate(transfer=False)
            return
        self._request_votes(self.term + 1, pre_vote=True, transfer=False)

    def _become_candidate(self, *, transfer: bool) -> None:
        self._stand()
        self.role = "candidate"
        self.term += 1
        self.voted_for = self.node_id  # counts once it is durable
        self._vote_sequence = self._sequence + 1
        self._request_votes(self.term, pre_vote=False, transfer=transfer)

    def _request_votes(self, term: int, *, pre_vote: bool, transfer: bool) -> None:
        for peer in sorted(all_voters(self.configuration) - {self.node_id}):
            self.send_gated(
                RequestVote(
                    group=self.settings.group,
                    source=self.node_id,
                    target=peer,
                    term=term,
                    last_log_index=self.log.last_index,
                    last_log_term=self.log.last_term,
                    pre_vote=pre_vote,
                    transfer=transfer,
                )
            )

    def _become_leader(self) -> None:
        self.role = "leader"
        self.leader_id = self.node_id
        self._votes = {}
        self._just_started = False
        self.leader = Leader(self)
        self.leader.take_office()

    # --- messages --------------------------------------------------------------------------------------------------

    def _receive(self, message: Message) -> None:
        if message.group != self.settings.group or message.target != self.node_id or message.source == self.node_id:
            return
        match message:
            case RequestVote():
                self._receive_request_vote(message)
            case RequestVoteResponse():
                self._receive_vote(message)
            case AppendEntries():
                self._receive_append(message)
            case InstallSnapshot():
                self._receive_snapshot(message)
            case TimeoutNow():
                self._receive_timeout_now(message)
            case ReadIndex():
                self._receive_read_index(message)
            case ReadIndexResponse():
                self._receive_read_index_response(message)
            case AppendEntriesResponse() | InstallSnapshotResponse():
                if not self._counts(message.source, message.incarnation):
                    return
                if message.term > self.term:
                    self.become_follower(message.term, NOBODY)
                elif message.term == self.term and self.leader is not None:
                    self.leader.answered(message)
            case _:
                assert_never(message)

    def _counts(self, source: NodeId, incarnation: int) -> bool:
        """Whether an answer is from somebody who has a say: a member, and with the memory that the group knows."""
        if self.leader is not None and source in self.leader.progress:
            return self.leader.progress[source].incarnation == incarnation
        member = self.configuration.member(source)
        return member is not None and member.incarnation == incarnation

    def _hears_from_leader(self) -> bool:
        """Whether a leader has been heard from within the least election timeout; a leader counts as hearing itself.

        Who has just been started may have heard one just before, and takes it for granted: leases count on it.
        """
        if self.leader is not None:
            return True
        known = self.leader_id != NOBODY or self._just_started
        return known and self._ticks_since_contact < self.settings.election_ticks

    def _receive_request_vote(self, message: RequestVote) -> None:
        if message.term > self.term and self._hears_from_leader() and not message.transfer:
            # Dissertation 4.2.3: while there is a leader, nobody is helped to another. Say so to a pre-candidate:
            # it learns the term; say nothing to a candidate.
            if message.pre_vote:
                self._answer_vote(message, granted=False)
            return
        if message.term > self.term and not message.pre_vote:
            self.become_follower(message.term, NOBODY)
        up_to_date = self.log.is_up_to_date(message.last_log_index, message.last_log_term)
        if message.pre_vote:
            self._answer_vote(message, granted=message.term > self.term and up_to_date)
            return
        free = self.voted_for in (NOBODY, message.source)
        granted = message.term == self.term and free and up_to_date
        if granted:
            self.voted_for = message.source
            self.role = "follower"  # a pre-candidate has nothing left to ask for
            self._reset_election_timer()
        self._answer_vote(message, granted=granted)

    def _answer_vote(self, message: RequestVote, *, granted: bool) -> None:
        self.send_gated(
            RequestVoteResponse(
                group=self.settings.group,
                source=self.node_id,
                target=message.source,
                term=self.term,
                round=message.term,
                granted=granted,
                pre_vote=message.pre_vote,
                incarnation=self.settings.incarnation,
            )
        )

    def _receive_vote(self, message: RequestVoteResponse) -> None:
        if not self._counts(message.source, message.incarnation):
            return
        if message.term > self.term:
            self.become_follower(message.term, NOBODY)
            return
        if message.pre_vote:
            expected = self.role == "pre-candidate" and message.round == self.term + 1
        else:
            expected = self.role == "candidate" and message.round == self.term and message.term == self.term
        if expected:
            self._votes[message.source] = message.granted
            self._count_votes()

    def _count_votes(self) -> None:
        if not has_quorum(self.configuration, [voter for voter, granted in self._votes.items() if granted]):
            return
        if self.role == "pre-candidate":
            self._become_candidate(transfer=False)
        elif self.role == "candidate":
            self._become_leader()

    def _receive_timeout_now(self, message: TimeoutNow) -> None:
        """The leader hands over: stand at once, without asking whether anybody minds (dissertation 3.10)."""
        if message.term != self.term or self.leader_id != message.source or not self.may_stand or self.disk_full:
            return
        self._become_candidate(transfer=True)

    # --- taking in the log -----------------------------------------------------------------------------------------

    def _follow(self, term: int, source: NodeId) -> None:
        """Somebody leads this term, or a newer one."""
        if term == self.term and self.leader_id not in (NOBODY, source):
            raise ProtocolViolation(f"nodes {self.leader_id} and {source} both lead term {self.term}")
        self._just_started = False
        self.become_follower(term, source)

    def _receive_append(self, message: AppendEntries) -> None:
        if message.term < self.term:
            self._answer_old_append(message)
            return
        if any(entry.index != message.prev_log_index + 1 + i for i, entry in enumerate(message.entries)):
            raise ProtocolViolation(f"append from {message.source} with entries that are not dense: {message}")
        self._follow(message.term, message.source)
        prev_log_index, entries = message.prev_log_index, message.entries
        last_new = prev_log_index + len(entries)
        base = self.log.base
        if prev_log_index < base.index:
            # What is in a snapshot is committed, and the leader has the same there: begin behind it.
            if last_new < base.index:
                self._answer_append(message, success=True, index=last_new)
                return
            entries = entries[base.index - prev_log_index :]
            at_base = message.entries[base.index - prev_log_index - 1]
            if at_base.term != base.term:
                raise ProtocolViolation(
                    f"entry {base.index} of term {at_base.term} would replace the committed entry of term {base.term}"
                )
        elif not self.log.matches(prev_log_index, message.prev_log_term):
            self._answer_append(message, success=False, index=prev_log_index)
            return
        self._store(entries)
        self.advance_commit(min(message.leader_commit, last_new))
        self._answer_append(message, success=True, index=last_new)

    def _store(self, entries: Sequence[Entry]) -> None:
        """Append what is new. What matches already stays, whatever comes after it (figure 2, AppendEntries 3 and 4)."""
        last_index = self.log.last_index
        for position, entry in enumerate(entries):
            if entry.index <= last_index and self.log.matches(entry.index, entry.term):
                continue
            if entry.index <= self.commit_index:
                raise ProtocolViolation(
                    f"entry {entry.index} of term {entry.term} would replace the committed entry of term "
                    f"{self.log.term_at(entry.index)}"
                )
            self.append(entries[position:])
            return

    def _answer_old_append(self, message: AppendEntries | InstallSnapshot) -> None:
        """Tell a deposed leader the newer term, and nothing else.

        It may lead again, in the very term that the answer carries, when this arrives: were the round of the old term
        in it, it would confirm reads that came long after it was sent.
        """
        self.send_gated(
            AppendEntriesResponse(
                group=self.settings.group,
                source=self.node_id,
                target=message.source,
                term=self.term,
                success=False,
                index=0,
                hint_index=0,
                hint_term=0,
                round=NO_ROUND,
                incarnation=self.settings.incarnation,
            )
        )

    def _answer_append(self, message: AppendEntries, *, success: bool, index: int) -> None:
        hint_index, hint_term = 0, 0
        if not success:
            hint_index = self.log.agreement_before(message.prev_log_index, message.prev_log_term)
            hint_term = self.log.term_at(hint_index) or 0
        self.send_gated(
            AppendEntriesResponse(
                group=self.settings.group,
                source=self.node_id,
                target=message.source,
                term=self.term,
                success=success,
                index=index,
                hint_index=hint_index,
                hint_term=hint_term,
                round=message.round,
                incarnation=self.settings.incarnation,
            )
        )

    # --- snapshots -------------------------------------------------------------------------------------------------

    def _receive_snapshot(self, message: InstallSnapshot) -> None:
        if message.term < self.term:
            self._answer_old_append(message)
            return
        self._follow(message.term, message.source)
        if message.base.index <= self.commit_index:
            self._answer_snapshot(message, self.commit_index, message.offset, done=True)
            return
        self._receiving = InstallSnapshot(
            message.group,
            message.source,
            message.target,
            message.term,
            message.base,
            message.offset,
            b"",
            message.total_bytes,
            message.round,
        )
        self.effects.store.append(StoreChunk(message.base, message.offset, message.data, message.total_bytes))

    def _chunk_stored(self, event: ChunkStored) -> None:
        """The driver has put a piece away. If it was the last, the snapshot takes the place of the log before it.

        That is safe whoever leads by now: the snapshot holds what is committed, and what it drops conflicts with that.
        A leader has all of it in its log.
        """
        if event.complete and event.base.index > self.commit_index and self.leader is None:
            before = (self.configuration_index, self.configuration)
            self.log.install(event.base)
            self.commit_index = event.base.index
            self.snapshot = event.base
            self._unsaved_base = event.base
            self._restore = event.base
            if (self.configuration_index, self.configuration) != before:  # a dropped entry may have had the same index
                self._configuration_changed()
        request = self._receiving
        if request is None or request.base != event.base or request.term != self.term or self.leader is not None:
            return
        if event.base.index <= self.commit_index:
            self._receiving = None
            self._answer_snapshot(request, self.commit_index, event.received_bytes, done=True)
        else:
            self._answer_snapshot(request, event.base.index, event.received_bytes, done=False)

    def _answer_snapshot(self, message: InstallSnapshot, index: int, offset: int, *, done: bool) -> None:
        self.send_gated(
            InstallSnapshotResponse(
                group=self.settings.group,
                source=self.node_id,
                target=message.source,
                term=self.term,
                index=index,
                offset=offset,
                done=done,
                round=message.round,
                incarnation=self.settings.incarnation,
            )
        )

    def _compact(self, snapshot: Base, up_to: int) -> None:
        if not snapshot.configuration.voters:
            raise ValueError(f"a snapshot at {snapshot.index} that names no voters would found a group of nobody")
        if not up_to <= snapshot.index <= self.released_index:
            raise ValueError(
                f"a snapshot at {snapshot.index} to forget the log up to {up_to}, with {self.released_index} applied"
            )
        if self.snapshot is None or snapshot.index > self.snapshot.index:
            self.snapshot = snapshot
        if up_to > self.log.base.index:
            self._unsaved_base = self.log.compact(up_to)

    # --- requests --------------------------------------------------------------------------------------------------

    def _propose(self, proposals: Sequence[tuple[Token, bytes]]) -> None:
        if any(payload == NO_OP for _, payload in proposals):
            raise ValueError("an empty payload is Raft's own no-op and cannot be proposed")
        if self.leader is None:
            self.effects.refused.extend(Refused(token, "not-leader") for token, _ in proposals)
        else:
            self.leader.propose(proposals)

    def _read(self, tokens: Sequence[Token], lease: bool, now_ms: int) -> None:
        self.now_ms = max(self.now_ms, now_ms)
        if self.leader is not None:
            self.leader.read(tokens, lease)
            return
        if self.leader_id == NOBODY:
            for token in tokens:
                self.refuse(token, "not-leader")
            return
        for token in self._questions.add(tokens):
            self.refuse(token, "overloaded")
        self._ask_leader()

    def _ask_leader(self) -> None:
        """Ask for a read index, for all reads that have come since the last question (dissertation 6.4)."""
        context = self._questions.begin()
        if context is not None:
            self.effects.send.append(
                ReadIndex(
                    group=self.settings.group,
                    source=self.node_id,
                    target=self.leader_id,
                    term=self.term,
                    run_id=self.settings.run_id,
                    context=context,
                )
            )

    def _receive_read_index(self, message: ReadIndex) -> None:
        if self.leader is not None and message.term <= self.term:
            self.leader.read_for(message)
        else:
            self.answer_read_index(message, granted=False, index=0)

    def answer_read_index(self, message: ReadIndex, *, granted: bool, index: int) -> None:
        self.effects.send.append(
            ReadIndexResponse(
                group=self.settings.group,
                source=self.node_id,
                target=message.source,
                term=self.term,
                run_id=message.run_id,
                context=message.context,
                granted=granted,
                index=index,
                incarnation=self.settings.incarnation,
            )
        )

    def _receive_read_index_response(self, message: ReadIndexResponse) -> None:
        if not self._counts(message.source, message.incarnation) or message.run_id != self.settings.run_id:
            return
        tokens = self._questions.answered(message.context)
        if message.granted:
            self.effects.reads.extend(ReadReady(token, message.index) for token in tokens)
        else:
            for token in tokens:
                self.refuse(token, "not-leader")
        if self.leader_id != NOBODY and self.leader is None:
            self._ask_leader()

    def refuse(self, token: Token, reason: Reason) -> None:
        self.effects.refused.append(Refused(token, reason))

    # --- the log, whoever writes it --------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Put entries at the end of the log, cutting what they replace; they are to be persisted with this step."""
        changed = self.log.append(entries)
        self._unsaved.extend(entries)
        if changed:
            self._configuration_changed()

    def _configuration_changed(self) -> None:
        self.effects.configuration = self.configuration
        if self.leader is not None:
            self.leader.configuration_changed()

    def advance_commit(self, index: int) -> None:
        self.commit_index = max(self.commit_index, index)

    # --- durability ------------------------------------------------------------------------------------------------

    def _emit_persist(self) -> None:
        """Hand over what has changed since the last batch. Everything gated in this step waits for it."""
        hard_state = HardState(self.term, self.voted_for)
        changed = hard_state != self._saved
        if not changed and not self._unsaved and self._unsaved_base is None:
            return
        self._sequence += 1
        self._saved = hard_state
        entries, self._unsaved = tuple(self._unsaved), []
        base, self._unsaved_base = self._unsaved_base, None
        self.log.writing(self._sequence)
        self.effects.persist = Persist(self._sequence, hard_state if changed else None, entries, base)

    def _persisted(self, sequence: int) -> None:
        if sequence > self._sequence:
            raise ProtocolViolation(f"batch {sequence} reported durable, of {self._sequence} given out")
        if sequence <= self._durable_sequence:
            return  # reported already, by a report of a later batch
        self._durable_sequence = sequence
        self.stalled_ticks = 0
        self.log.persisted(sequence)
        if self.role == "candidate" and sequence >= self._vote_sequence:
            self._votes[self.node_id] = True
            self._count_votes()
        if self.leader is not None:
            self.leader.maybe_commit()

    def send_gated(self, message: Message) -> None:
        """Send once everything handed over so far, and in this step, is durable."""
        self._gated_now.append(message)

    def _release_gated(self) -> None:
        self._gated.extend((self._sequence, message) for message in self._gated_now)
        self._gated_now = []
        while self._gated and self._gated[0][0] <= self._durable_sequence:
            self.effects.send.append(self._gated.popleft()[1])

    def _release_committed(self) -> None:
        """Hand out what is committed and durable here: a state machine never runs ahead of its node's own disk."""
        last = min(self.commit_index, self.log.stable)
        if self._restore is not None:
            if last < self._restore.index:
                return  # the snapshot is not the beginning of the log on disk yet
            self.effects.restore = self._restore
            self.released_index = self._restore.index
            self._restore = None
        if last > self.released_index:
            self.effects.apply.extend(self.log.slice(self.released_index + 1, last))
            self.released_index = last
