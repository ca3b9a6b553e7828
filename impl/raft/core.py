"""One member of a Raft group as a synchronous object: events in, effects out.

Theory of operation
-------------------
The core has no input or output, no clock and no randomness. Its driver (the trio node, a simulator, a model checker)
turns what happens into events and carries out the effects; ``impl.raft.events`` is the contract between the two. The
same object runs in production and under every checker.

*Elections* (paper 5.2, dissertation 9.6). A follower that hears from no leader for a randomised timeout becomes a
pre-candidate and asks whether it would get votes in the next term; nobody's term changes. Members that have heard
from a leader lately say no. Only with a majority of promises does it become a candidate, raise its term, vote for
itself and ask for real votes. A leader that has not heard from a majority for an election timeout steps down
(check-quorum, dissertation 6.2), so that its clients learn quickly that it cannot serve them.

*Durability is data.* Whatever may only be said after a write is durable waits inside the core for the ``Persisted`` of
that write: votes, requests for votes, replies to appends. The leader's own vote counts for it, and its own log counts
towards commitment, only once they are durable; its appends to others may leave while its own disk still writes
(dissertation 10.2.1).

*Commitment* (5.3, 5.4.2). An entry of the leader's own term that is durable on a majority is committed, and with it
everything before. A new leader appends a no-op at once, so that there is such an entry soon.

*Reads* (dissertation 6.4). The leader notes its commit index, confirms with a round of heartbeats sent after the read
arrived that it still leads, and then releases the read at that index. Rounds are numbered by the leader and travel
with every append and reply, and replies of another term are never counted, so that no late reply confirms a later
read. Before an entry of its own term is committed, the leader's commit index may be behind: reads wait.

Names follow figure 2 of the paper and raft.tla.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

from impl.raft.events import (
    Accepted,
    Effects,
    Event,
    Persist,
    Persisted,
    Propose,
    Read,
    ReadReady,
    Receive,
    Refused,
    Tick,
    Token,
    Unreachable,
)
from impl.raft.log import RaftLog
from impl.raft.messages import (
    NOBODY,
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    HardState,
    Message,
    NodeId,
    RequestVote,
    RequestVoteResponse,
)
from impl.raft.progress import Progress
from impl.raft.quorum import has_majority, majority_index

Role: TypeAlias = Literal["follower", "pre-candidate", "candidate", "leader"]

NO_OP = b""

MAX_GATED_MESSAGES = 1024
"""Messages that wait for this node's disk. A leader has tens of appends in flight and a handful of rounds; beyond that
the disk hangs, and the oldest are dropped as if the network had lost them."""

STALLED_ELECTION_TIMEOUTS = 5
"""How many election timeouts a leader waits for its own disk before it gives up its office: well beyond a slow sync,
and soon enough that clients do not wait long for a leader that can serve them."""

NO_ROUND = 0
"""The round of an answer to an append of an older term: rounds of a term begin at 1, so it confirms nothing."""


class ProtocolViolation(AssertionError):
    """Something happened that Raft excludes: two leaders in a term, or a committed entry about to be replaced.

    The node must stop: to go on would be to serve from a state that is known to be wrong.
    """


@dataclass(frozen=True, slots=True)
class Settings:
    """Who the member is, and its limits. Ticks are the driver's unit of time."""

    node_id: NodeId
    voters: tuple[NodeId, ...]
    group: int = 0
    election_ticks: int = 10
    """Election timeouts are drawn from election_ticks .. 2 * election_ticks - 1 (paper 9.3: well above a heartbeat)."""
    heartbeat_ticks: int = 2
    max_entries_per_append: int = 256
    """Bounds one message: a follower that is far behind gets many, each acknowledged by itself."""
    max_append_bytes: int = 512 * 1024
    """Bounds one message by payload; a single larger entry still travels, alone."""
    max_in_flight_appends: int = 64
    """Appends sent and not yet answered, per follower: enough to fill a loopback or LAN link with batches, few enough
    that a slow follower holds little memory."""
    max_uncommitted_entries: int = 4096
    """Back-pressure: more proposals than this waiting for commitment, or for the leader's own disk (others may commit
    without it), are refused, certainly not done."""
    max_pending_reads: int = 4096
    """Back-pressure: more reads than this waiting for a confirmation of leadership are refused."""

    def __post_init__(self) -> None:
        if self.node_id not in self.voters:
            raise ValueError(f"node {self.node_id} is not among the voters {self.voters}")
        if len(set(self.voters)) != len(self.voters) or NOBODY in self.voters:
            raise ValueError(f"voters must be distinct positive ids, got {self.voters}")
        if not 1 <= self.heartbeat_ticks < self.election_ticks:
            raise ValueError(
                f"heartbeat_ticks ({self.heartbeat_ticks}) must be at least 1 and less than election_ticks "
                f"({self.election_ticks}): a leader has to be heard several times within an election timeout"
            )


@dataclass(frozen=True, slots=True)
class Statistics:
    """A snapshot of the core for status pages, metrics and tests."""

    role: Role
    term: int
    voted_for: NodeId
    leader_id: NodeId
    commit_index: int
    last_index: int
    stable_index: int  # durable at this node
    released_index: int  # handed out to be applied
    pending_reads: int
    match: dict[NodeId, int]  # the leader's view of its followers, empty elsewhere


@dataclass(slots=True)
class _PendingReads:
    """Reads that wait for the same confirmation of leadership."""

    round: int
    index: int
    tokens: list[Token]


class Core:
    """One member of a Raft group. Not thread-safe: one task owns it, and ``step`` is never re-entered."""

    def __init__(
        self,
        settings: Settings,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
        applied_index: int = 0,
    ) -> None:
        """Start from what was recovered: the hard state and the whole log as they are on disk, and the index up to
        which the state machine has applied the log (everything up to there is known to be committed)."""
        hard_state = hard_state or HardState()
        self.settings = settings
        self.node_id = settings.node_id
        self.peers = tuple(voter for voter in settings.voters if voter != settings.node_id)
        self.role: Role = "follower"
        self.term = hard_state.term
        self.voted_for = hard_state.voted_for
        self.leader_id: NodeId = NOBODY
        self.log = RaftLog(entries)
        if applied_index > self.log.last_index:
            raise ProtocolViolation(
                f"the state machine has applied entry {applied_index} but the log ends at {self.log.last_index}: "
                "the log was lost or replaced; restore both from the same backup, or rejoin as a new node"
            )
        if self.log.last_term > self.term:
            raise ProtocolViolation(
                f"the log ends with an entry of term {self.log.last_term} but the node remembers only term "
                f"{self.term}: its vote may be lost too; restore both from the same backup, or rejoin as a new node"
            )
        self.commit_index = applied_index
        self.released_index = applied_index

        self._ticks_since_contact = 0  # follower: from the leader or a vote given; leader: since its last quorum check
        self._heartbeat_elapsed = 0
        self._election_timeout = 0  # 0: to be drawn with the next tick
        self._votes: dict[NodeId, bool] = {}
        self._progress: dict[NodeId, Progress] = {}
        self._round = 0
        self._reads_before_commit: list[Token] = []  # wait for an entry of this term to commit
        self._reads_next_round: list[Token] = []  # wait for the round in flight to end
        self._reads_in_round: deque[_PendingReads] = deque()

        self._saved = hard_state
        self._sequence = 0
        self._durable_sequence = 0
        self._stalled_ticks = 0  # since the disk last reported anything, while it owes a report
        self._vote_sequence = 0
        self._gated: deque[tuple[int, Message]] = deque(maxlen=MAX_GATED_MESSAGES)  # (batch to be durable first, …)
        self._gated_now: list[Message] = []  # of this step: they wait for the batch that the step ends with
        self._unsaved: list[Entry] = []
        self._effects = Effects()

    # --- the interface ---------------------------------------------------------------------------------------------

    def step(self, event: Event) -> Effects:
        """Take one event and return what follows from it. Raises ``ProtocolViolation`` where Raft has been broken."""
        self._effects = Effects()
        match event:
            case Receive(message):
                self._receive(message)
            case Propose(proposals):
                self._propose(proposals)
            case Persisted(sequence):
                self._persisted(sequence)
            case Read(tokens):
                self._read(tokens)
            case Tick(entropy):
                self._tick(entropy)
            case Unreachable(peer):
                if self.role == "leader" and peer in self._progress:
                    self._progress[peer].lost()
            case _:
                assert_never(event)
        self._emit_persist()
        self._release_gated()
        self._release_committed()
        return self._effects

    def statistics(self) -> Statistics:
        return Statistics(
            role=self.role,
            term=self.term,
            voted_for=self.voted_for,
            leader_id=self.leader_id,
            commit_index=self.commit_index,
            last_index=self.log.last_index,
            stable_index=self.log.stable,
            released_index=self.released_index,
            pending_reads=self._pending_reads(),
            match={peer: progress.match for peer, progress in sorted(self._progress.items())},
        )

    # --- time ------------------------------------------------------------------------------------------------------

    def _tick(self, entropy: int) -> None:
        self._stalled_ticks = self._stalled_ticks + 1 if self._durable_sequence < self._sequence else 0
        if self.role == "candidate" and self._durable_sequence < self._vote_sequence:
            return  # its requests have not left: an election is not over before it began, however slow the disk
        self._ticks_since_contact += 1
        if self.role == "leader":
            self._tick_leader()
            return
        if self._election_timeout == 0:
            self._election_timeout = self.settings.election_ticks + entropy % self.settings.election_ticks
        if self._ticks_since_contact >= self._election_timeout:
            self._become_pre_candidate()

    def _tick_leader(self) -> None:
        if self._stalled_ticks >= STALLED_ELECTION_TIMEOUTS * self.settings.election_ticks:
            # Heartbeats need no disk: without this, a leader that can commit nothing would keep its office for ever.
            # Its own requests for votes wait for the disk, so it does not come back before the disk does.
            self._become_follower(self.term, NOBODY)
            return
        if self._ticks_since_contact >= self.settings.election_ticks:
            self._ticks_since_contact = 0
            active = [peer for peer, progress in self._progress.items() if progress.recent_active]
            if not has_majority(self.settings.voters, [self.node_id, *active]):
                self._become_follower(self.term, NOBODY)
                return
            for progress in self._progress.values():
                progress.recent_active = False
        self._heartbeat_elapsed += 1
        if self._heartbeat_elapsed >= self.settings.heartbeat_ticks:
            self._start_round()

    def _reset_election_timer(self) -> None:
        self._ticks_since_contact = 0
        self._election_timeout = 0

    # --- roles -----------------------------------------------------------------------------------------------------

    def _become_follower(self, term: int, leader_id: NodeId) -> None:
        if term > self.term:
            self.term = term
            self.voted_for = NOBODY  # only ever together with a new term: within a term a vote stands
        if self.role == "leader":
            self._drop_leadership()
            self._reset_election_timer()
        self.role = "follower"
        self.leader_id = leader_id
        self._votes = {}
        if leader_id != NOBODY:
            self._reset_election_timer()

    def _drop_leadership(self) -> None:
        self._refuse_reads(self._reads_before_commit, "lost-leadership")
        self._refuse_reads(self._reads_next_round, "lost-leadership")
        for pending in self._reads_in_round:
            self._refuse_reads(pending.tokens, "lost-leadership")
        self._reads_in_round.clear()
        self._progress = {}

    def _become_pre_candidate(self) -> None:
        self.role = "pre-candidate"
        self.leader_id = NOBODY
        self._reset_election_timer()
        self._votes = {self.node_id: True}
        if has_majority(self.settings.voters, self._votes):
            self._become_candidate()
            return
        self._request_votes(self.term + 1, pre_vote=True)

    def _become_candidate(self) -> None:
        self.role = "candidate"
        self.term += 1
        self.voted_for = self.node_id
        self.leader_id = NOBODY
        self._reset_election_timer()
        self._votes = {}  # its own vote counts once it is durable
        self._vote_sequence = self._sequence + 1
        self._request_votes(self.term, pre_vote=False)

    def _request_votes(self, term: int, *, pre_vote: bool) -> None:
        for peer in self.peers:
            self._send_gated(
                RequestVote(
                    group=self.settings.group,
                    source=self.node_id,
                    target=peer,
                    term=term,
                    last_log_index=self.log.last_index,
                    last_log_term=self.log.last_term,
                    pre_vote=pre_vote,
                )
            )

    def _become_leader(self) -> None:
        self.role = "leader"
        self.leader_id = self.node_id
        self._ticks_since_contact = 0
        self._votes = {}
        self._round = 0
        self._progress = {
            peer: Progress(self.log.last_index + 1, self.settings.max_in_flight_appends) for peer in self.peers
        }
        self._append_own([NO_OP])
        self._start_round()

    # --- messages --------------------------------------------------------------------------------------------------

    def _receive(self, message: Message) -> None:
        if message.group != self.settings.group or message.target != self.node_id:
            return
        if message.source not in self.peers:
            return  # not a member: it has no say
        match message:
            case RequestVote():
                self._receive_request_vote(message)
            case RequestVoteResponse():
                self._receive_vote(message)
            case AppendEntries():
                self._receive_append(message)
            case AppendEntriesResponse():
                self._receive_append_response(message)
            case _:
                assert_never(message)

    def _hears_from_leader(self) -> bool:
        """Whether a leader has been heard from within the least election timeout; a leader counts as hearing itself."""
        if self.role == "leader":
            return True
        return self.leader_id != NOBODY and self._ticks_since_contact < self.settings.election_ticks

    def _receive_request_vote(self, message: RequestVote) -> None:
        if message.term > self.term and self._hears_from_leader():
            # Dissertation 4.2.3: while there is a leader, nobody is helped to another. Say so to a pre-candidate:
            # it learns the term; say nothing to a candidate.
            if message.pre_vote:
                self._answer_vote(message, granted=False)
            return
        if message.term > self.term and not message.pre_vote:
            self._become_follower(message.term, NOBODY)
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
        self._send_gated(
            RequestVoteResponse(
                group=self.settings.group,
                source=self.node_id,
                target=message.source,
                term=self.term,
                round=message.term,
                granted=granted,
                pre_vote=message.pre_vote,
            )
        )

    def _receive_vote(self, message: RequestVoteResponse) -> None:
        if message.term > self.term:
            self._become_follower(message.term, NOBODY)
            return
        if message.pre_vote:
            expected = self.role == "pre-candidate" and message.round == self.term + 1
        else:
            expected = self.role == "candidate" and message.round == self.term and message.term == self.term
        if expected:
            self._votes[message.source] = message.granted
            self._count_votes()

    def _count_votes(self) -> None:
        if not has_majority(self.settings.voters, [voter for voter, granted in self._votes.items() if granted]):
            return
        if self.role == "pre-candidate":
            self._become_candidate()
        elif self.role == "candidate":
            self._become_leader()

    def _receive_append(self, message: AppendEntries) -> None:
        if message.term < self.term:
            self._answer_old_append(message)
            return
        if message.term == self.term and self.leader_id not in (NOBODY, message.source):
            raise ProtocolViolation(f"nodes {self.leader_id} and {message.source} both lead term {self.term}")
        if any(entry.index != message.prev_log_index + 1 + i for i, entry in enumerate(message.entries)):
            raise ProtocolViolation(f"append from {message.source} with entries that are not dense: {message}")
        self._become_follower(message.term, message.source)
        if not self.log.matches(message.prev_log_index, message.prev_log_term):
            self._answer_append(message, success=False, index=message.prev_log_index)
            return
        self._store(message.entries)
        last_new = message.prev_log_index + len(message.entries)
        self._advance_commit(min(message.leader_commit, last_new))
        self._answer_append(message, success=True, index=last_new)

    def _store(self, entries: Sequence[Entry]) -> None:
        """Append what is new. What matches already stays, whatever comes after it (figure 2, AppendEntries 3 and 4)."""
        for position, entry in enumerate(entries):
            if self.log.matches(entry.index, entry.term):
                continue
            if entry.index <= self.commit_index:
                raise ProtocolViolation(
                    f"entry {entry.index} of term {entry.term} would replace the committed entry of term "
                    f"{self.log.term_at(entry.index)}"
                )
            self._append(entries[position:])
            return

    def _answer_old_append(self, message: AppendEntries) -> None:
        """Tell a deposed leader the newer term, and nothing else.

        It may lead again, in the very term that the answer carries, when this arrives: were the round of the old term
        in it, it would confirm reads that came long after it was sent.
        """
        self._send_gated(
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
            )
        )

    def _answer_append(self, message: AppendEntries, *, success: bool, index: int) -> None:
        hint_index, hint_term = 0, 0
        if not success:
            hint_index = self.log.agreement_before(message.prev_log_index, message.prev_log_term)
            hint_term = self.log.term_at(hint_index) or 0
        self._send_gated(
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
            )
        )

    def _receive_append_response(self, message: AppendEntriesResponse) -> None:
        if message.term > self.term:
            self._become_follower(message.term, NOBODY)
            return
        if message.term < self.term or self.role != "leader":
            return
        progress = self._progress[message.source]
        progress.recent_active = True
        if message.round == NO_ROUND:
            return
        if message.success:
            if progress.succeeded(message.index):
                self._maybe_commit()
        elif progress.rejected(message.index, self.log.agreement_before(message.hint_index, message.hint_term) + 1):
            self._replicate(message.source)
        if message.round > progress.round_acked:
            progress.round_acked = message.round
            self._confirm_reads()
        if progress.next <= self.log.last_index:
            self._replicate(message.source)

    # --- replication -----------------------------------------------------------------------------------------------

    def _propose(self, proposals: Sequence[tuple[Token, bytes]]) -> None:
        if any(payload == NO_OP for _, payload in proposals):
            raise ValueError("an empty payload is Raft's own no-op and cannot be proposed")
        if self.role != "leader":
            self._effects.refused.extend(Refused(token, "not-leader") for token, _ in proposals)
            return
        waiting = self.log.last_index - min(self.commit_index, self.log.stable)
        taken = proposals[: max(self.settings.max_uncommitted_entries - waiting, 0)]
        self._effects.refused.extend(Refused(token, "overloaded") for token, _ in proposals[len(taken) :])
        if not taken:
            return
        first = self.log.last_index + 1
        self._append_own([payload for _, payload in taken])
        self._effects.accepted.extend(
            Accepted(token, first + offset, self.term) for offset, (token, _) in enumerate(taken)
        )
        for peer in self.peers:
            self._replicate(peer)

    def _append_own(self, payloads: Sequence[bytes]) -> None:
        first = self.log.last_index + 1
        self._append([Entry(first + offset, self.term, payload) for offset, payload in enumerate(payloads)])

    def _append(self, entries: Sequence[Entry]) -> None:
        self.log.append(entries)
        self._unsaved.extend(entries)

    def _start_round(self) -> None:
        """Ask every follower to confirm this leader, and with that move reads and the commit index along.

        A follower that is being probed gets no entries again with every round, however many it lacks: it may be down,
        or busy with the ones it got. Its answer to the empty append is enough to go on from.
        """
        self._heartbeat_elapsed = 0
        self._round += 1
        if self._reads_next_round:
            self._reads_in_round.append(_PendingReads(self._round, self.commit_index, self._reads_next_round))
            self._reads_next_round = []
        for peer in self.peers:
            if not self._replicate(peer):
                self._send_append(peer, ())
        self._confirm_reads()

    def _replicate(self, peer: NodeId) -> bool:
        """Send the follower what it lacks, as far as its window allows. Returns whether anything was sent."""
        progress = self._progress[peer]
        sent = False
        while progress.may_send and progress.next <= self.log.last_index:
            self._send_append(peer, self._batch(progress.next))
            sent = True
        if not sent and progress.may_send and not progress.replicating:
            self._send_append(peer, ())  # a probe without entries still finds where the logs agree
            sent = True
        return sent

    def _batch(self, first: int) -> tuple[Entry, ...]:
        batch = self.log.slice(first, min(self.log.last_index, first + self.settings.max_entries_per_append - 1))
        size_bytes = 0
        for count, entry in enumerate(batch):
            size_bytes += len(entry.payload)
            if size_bytes > self.settings.max_append_bytes and count > 0:
                return batch[:count]
        return batch

    def _send_append(self, peer: NodeId, entries: tuple[Entry, ...]) -> None:
        progress = self._progress[peer]
        prev_log_index = progress.next - 1
        prev_log_term = self.log.term_at(prev_log_index)
        assert prev_log_term is not None
        progress.sent(prev_log_index + len(entries))
        self._effects.send.append(
            AppendEntries(
                group=self.settings.group,
                source=self.node_id,
                target=peer,
                term=self.term,
                prev_log_index=prev_log_index,
                prev_log_term=prev_log_term,
                entries=entries,
                leader_commit=self.commit_index,
                round=self._round,
            )
        )

    def _maybe_commit(self) -> None:
        """Advance the commit index to what a majority has made durable, if that is of this leader's term (5.4.2)."""
        reached = {peer: progress.match for peer, progress in self._progress.items()}
        reached[self.node_id] = self.log.stable
        index = majority_index(self.settings.voters, reached)
        if index > self.commit_index and self.log.term_at(index) == self.term:
            self._advance_commit(index)
            if self._reads_before_commit:
                tokens, self._reads_before_commit = self._reads_before_commit, []
                self._read(tokens)

    def _advance_commit(self, index: int) -> None:
        self.commit_index = max(self.commit_index, index)

    # --- reads -----------------------------------------------------------------------------------------------------

    def _read(self, tokens: Sequence[Token]) -> None:
        if self.role != "leader":
            self._refuse_reads(list(tokens), "not-leader")
            return
        room = max(self.settings.max_pending_reads - self._pending_reads(), 0)
        self._refuse_reads(list(tokens[room:]), "overloaded")
        tokens = tokens[:room]
        if not tokens:
            return
        if self.log.term_at(self.commit_index) != self.term:
            self._reads_before_commit.extend(tokens)
            return
        self._reads_next_round.extend(tokens)
        if not self._reads_in_round:
            self._start_round()

    def _confirm_reads(self) -> None:
        """Release the reads whose round a majority has answered; then begin the round that others wait for."""
        reached = {peer: progress.round_acked for peer, progress in self._progress.items()}
        reached[self.node_id] = self._round
        confirmed = majority_index(self.settings.voters, reached)
        while self._reads_in_round and self._reads_in_round[0].round <= confirmed:
            pending = self._reads_in_round.popleft()
            self._effects.reads.extend(ReadReady(token, pending.index) for token in pending.tokens)
        if self._reads_next_round and not self._reads_in_round:
            self._start_round()

    def _pending_reads(self) -> int:
        in_round = sum(len(pending.tokens) for pending in self._reads_in_round)
        return len(self._reads_before_commit) + len(self._reads_next_round) + in_round

    def _refuse_reads(self, tokens: list[Token], reason: str) -> None:
        self._effects.refused.extend(Refused(token, reason) for token in tokens)
        tokens.clear()

    # --- durability ------------------------------------------------------------------------------------------------

    def _emit_persist(self) -> None:
        """Hand over what has changed since the last batch. Everything gated in this step waits for it."""
        hard_state = HardState(self.term, self.voted_for)
        changed = hard_state != self._saved
        if not changed and not self._unsaved:
            return
        self._sequence += 1
        self._saved = hard_state
        entries, self._unsaved = tuple(self._unsaved), []
        self.log.writing(self._sequence)
        self._effects.persist = Persist(self._sequence, hard_state if changed else None, entries)

    def _persisted(self, sequence: int) -> None:
        if not self._durable_sequence <= sequence <= self._sequence:
            raise ProtocolViolation(
                f"batch {sequence} reported durable after {self._durable_sequence}, of {self._sequence} given out"
            )
        self._durable_sequence = sequence
        self._stalled_ticks = 0
        self.log.persisted(sequence)
        if self.role == "candidate" and sequence >= self._vote_sequence:
            self._votes[self.node_id] = True
            self._count_votes()
        if self.role == "leader":
            self._maybe_commit()

    def _send_gated(self, message: Message) -> None:
        """Send once everything handed over so far, and in this step, is durable."""
        self._gated_now.append(message)

    def _release_gated(self) -> None:
        self._gated.extend((self._sequence, message) for message in self._gated_now)
        self._gated_now = []
        while self._gated and self._gated[0][0] <= self._durable_sequence:
            self._effects.send.append(self._gated.popleft()[1])

    def _release_committed(self) -> None:
        """Hand out what is committed and durable here: a state machine never runs ahead of its node's own disk."""
        last = min(self.commit_index, self.log.stable)
        if last > self.released_index:
            self._effects.apply.extend(self.log.slice(self.released_index + 1, last))
            self.released_index = last
