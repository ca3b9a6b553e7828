"""A whole cluster in memory, every step of it decided by the caller, judged after every step.

Theory of operation
-------------------
A ``World`` holds one to seven cores, a bag of messages for every directed link, and a disk for every member. Nothing
happens by itself: a script, a seeded campaign or Hypothesis says what happens next, one action at a time: a tick, the
delivery (or loss, or duplication, or late repetition) of one message, the completion of one write, a crash, a
restart, a proposal, a read, a cut in one direction.

*Disks.* A ``Persist`` batch is pending until ``flush`` makes it durable and reports it. A crash loses the pending
batches, except for as many of the oldest as the caller lets survive: they reached the disk, but nobody was told. The
state machine forgets too: it comes back with any prefix of what it had applied.

*Judgement.* The members' own invariants (``impl.raft.invariants``) are checked here, so that any class with the
interface of ``Core`` can be tried. On top of them come those that take the whole cluster to see. All are exact
and incremental: each step is compared with what earlier steps established, so that a long run costs no more per step
than a short one.

    election_safety            at most one leader in a term (paper 5.2)
    elected_by_a_majority      whose votes for that term are on a majority of disks (5.2)
    votes_for_fresh_logs       a vote goes only to a log at least as up-to-date as the voter's (5.4.1)
    one_vote_per_term          across crashes, too (5.2)
    log_matching               an index and a term name one entry and one predecessor (5.3)
    leader_completeness        who leads a term has all that was committed in earlier terms (5.4)
    commits_its_own_term       a leader counts only entries of its own term, older ones follow (5.4.2)
    state_machine_safety       all members commit and apply the same entries, in order, once (5.4.3)
    committed_is_durable       what is committed is on the disks of a majority, and stays there
    durable_before_said        no message leaves before the disk holds what it says (5.2, 5.3; figure 2)
    durable_before_applied     no entry is applied that the member's own disk does not hold
    all_is_written             what is in memory is on the disk or on its way to it (figure 2, persistent state)
    acknowledged_matches       who acknowledges an index has there what the leader has (5.3)
    match_is_true              what a leader believes of a follower's disk is so
    linearizable_reads         a read is released at no less than what was committed when it was asked (dissertation
                               6.4; what was *acknowledged* before is part of what was committed before)
    confirmed_reads            before that, a majority has heard the leader in a round begun after it was asked (6.4)
    honest_outcomes            one answer for each request; refused and lost proposals never commit
    quiescence                 when all messages get through, the members fall silent (no storm of mutual answers)
    liveness_*                 after healing: a leader, then progress, then equal logs, and no request forgotten

A breach raises ``Violation``, which names the invariant. ``journal`` holds every action, for the replay.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from impl.raft.core import Core, Settings
from impl.raft.events import (
    Effects,
    Event,
    Persist,
    Persisted,
    Propose,
    Read,
    Receive,
    Tick,
    Token,
    Unreachable,
)
from impl.raft.invariants import View, view, violations
from impl.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    HardState,
    Message,
    NodeId,
    RequestVote,
    RequestVoteResponse,
)
from impl.raft.quorum import majority

LINK_CAPACITY = 64
"""Messages in flight on one directed link; the oldest is lost beyond it, as in a full socket of a dead connection."""

HISTORY_CAPACITY = 400
"""Messages that can still be repeated long after they were delivered or lost."""

STORM_LIMIT = 20_000
"""Deliveries after which a cluster that was left alone should long have fallen silent: what a settled cluster needs
grows with the entries that a member lacks, at most a few hundred messages in any test."""


class Violation(AssertionError):
    """An invariant of the cluster does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


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


@dataclass(slots=True)
class World:
    """A cluster of ``size`` members numbered from 1."""

    size: int
    core_class: type[Core] = Core
    election_ticks: int = 10
    heartbeat_ticks: int = 2
    max_entries_per_append: int = 256
    max_append_bytes: int = 512 * 1024
    max_in_flight_appends: int = 64
    max_uncommitted_entries: int = 4096
    max_pending_reads: int = 4096

    members: dict[NodeId, Member] = field(init=False)
    links: dict[tuple[NodeId, NodeId], list[Message]] = field(init=False)
    cuts: set[tuple[NodeId, NodeId]] = field(default_factory=set)
    history: deque[Message] = field(default_factory=lambda: deque(maxlen=HISTORY_CAPACITY))
    journal: list[tuple[object, ...]] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)  # what the run got to see: a test that saw nothing is void

    clock: int = 0  # steps
    votes: dict[tuple[int, NodeId], NodeId] = field(default_factory=dict)  # by term and voter, durable, ever
    rounds: dict[tuple[NodeId, int, int], int] = field(default_factory=dict)  # (leader, term, round): when it began
    heard: dict[tuple[NodeId, int], dict[NodeId, int]] = field(default_factory=dict)  # by whom, the newest of those
    leaders: dict[int, NodeId] = field(default_factory=dict)  # by term, ever
    known: dict[tuple[int, int], tuple[int, bytes]] = field(default_factory=dict)  # (index, term): before, payload
    committed: list[Entry] = field(default_factory=list)
    commit_terms: list[int] = field(default_factory=list)  # of the member that was first to commit the entry
    acknowledged: dict[Token, int] = field(default_factory=dict)  # applied where it was accepted: its index
    never: set[Token] = field(default_factory=set)  # proposals of which a client was told that they never happen
    refused: dict[Token, str] = field(default_factory=dict)
    released: dict[Token, int] = field(default_factory=dict)  # reads: the index at which they were released
    _next_token: Token = 1

    def __post_init__(self) -> None:
        ids = range(1, self.size + 1)
        self.links = {(a, b): [] for a in ids for b in ids if a != b}
        self.members = {i: Member(i, self.core_class(self._settings(i))) for i in ids}

    def _settings(self, node_id: NodeId) -> Settings:
        return Settings(
            node_id=node_id,
            voters=tuple(range(1, self.size + 1)),
            election_ticks=self.election_ticks,
            heartbeat_ticks=self.heartbeat_ticks,
            max_entries_per_append=self.max_entries_per_append,
            max_append_bytes=self.max_append_bytes,
            max_in_flight_appends=self.max_in_flight_appends,
            max_uncommitted_entries=self.max_uncommitted_entries,
            max_pending_reads=self.max_pending_reads,
        )

    # --- what can happen: one node ---------------------------------------------------------------------------------

    def core(self, node_id: NodeId) -> Core:
        return self.members[node_id].core

    def tick(self, node_id: NodeId, times: int = 1, entropy: int = 0) -> None:
        for _ in range(times):
            self.journal.append(("tick", node_id, entropy))
            self._step(self.members[node_id], Tick(entropy))

    def propose(self, node_id: NodeId, count: int = 1, size_bytes: int = 0) -> list[Token]:
        """Propose ``count`` payloads that name their tokens and are filled up to ``size_bytes``."""
        tokens = [self._next_token + i for i in range(count)]
        self._next_token += count
        self.journal.append(("propose", node_id, tokens))
        self._step(self.members[node_id], Propose(tuple((token, _payload(token, size_bytes)) for token in tokens)))
        return tokens

    def read(self, node_id: NodeId, count: int = 1) -> list[Token]:
        tokens = [self._next_token + i for i in range(count)]
        self._next_token += count
        self.journal.append(("read", node_id, tokens))
        member = self.members[node_id]
        member.reads.update(dict.fromkeys(tokens, (len(self.committed), self.clock + 1)))
        self._step(member, Read(tuple(tokens)))
        return tokens

    def unreachable(self, node_id: NodeId, peer: NodeId) -> None:
        self.journal.append(("unreachable", node_id, peer))
        self._step(self.members[node_id], Unreachable(peer))

    # --- what can happen: disks ------------------------------------------------------------------------------------

    def flush(self, node_id: NodeId, batches: int | None = None) -> None:
        """The oldest ``batches`` pending writes (all: None) become durable, and the last of them is reported."""
        member = self.members[node_id]
        count = len(member.pending) if batches is None else min(batches, len(member.pending))
        if not count:
            return
        self.journal.append(("flush", node_id, count))
        sequence = 0
        for _ in range(count):
            sequence = self._make_durable(member)
        self._step(member, Persisted(sequence))

    def crash(self, node_id: NodeId, survive: int = 0, applied: int | None = None) -> None:
        """Stop a node. ``survive`` pending batches reached the disk; the state machine comes back at ``applied``."""
        member = self.members[node_id]
        self.journal.append(("crash", node_id, survive, applied))
        for _ in range(min(survive, len(member.pending))):
            self._make_durable(member)
        self.reached["crash that lost a write"] += bool(member.pending)
        member.pending.clear()
        member.up = False
        member.applied = member.applied if applied is None else min(applied, member.applied)
        member.proposals.clear()  # their clients never hear of them again
        member.reads.clear()

    def restart(self, node_id: NodeId) -> None:
        member = self.members[node_id]
        self.journal.append(("restart", node_id))
        member.core = self.core_class(
            self._settings(node_id), member.disk_hard_state, tuple(member.disk_entries), member.applied
        )
        member.written_hard_state = member.disk_hard_state
        member.written_entries = list(member.disk_entries)
        member.sequence = 0
        member.view = None
        member.up = True
        self.reached["restart"] += 1

    # --- what can happen: the network ------------------------------------------------------------------------------

    def deliver(self, source: NodeId, target: NodeId, position: int = 0, *, keep: bool = False) -> Message:
        """Deliver one message of a link; ``keep`` leaves a copy of it in flight."""
        link = self.links[source, target]
        message = link[position] if keep else link.pop(position)
        self.journal.append(("deliver", source, target, position, keep, message))
        self.hand_over(message)
        return message

    def deliver_all(self, source: NodeId, target: NodeId) -> None:
        """Deliver what is in flight on a link now, in order."""
        for _ in range(len(self.links[source, target])):
            self.deliver(source, target)

    def drop(self, source: NodeId, target: NodeId, position: int = 0) -> Message:
        self.journal.append(("drop", source, target, position))
        return self.links[source, target].pop(position)

    def drop_all(self, source: NodeId, target: NodeId) -> None:
        self.links[source, target].clear()

    def take(self, source: NodeId, target: NodeId, kind: type[Message] | None = None) -> Message:
        """Take the newest message (of a kind) off a link, to be delivered by hand later: a delayed one."""
        link = self.links[source, target]
        positions = [i for i, message in enumerate(link) if kind is None or isinstance(message, kind)]
        if not positions:
            raise Violation("scenario", f"a message from {source} to {target} is missing")
        return link.pop(positions[-1])

    def hand_over(self, message: Message) -> None:
        """A message arrives, whether or not it is still in flight. Nobody hears it at a node that is down."""
        member = self.members[message.target]
        if member.up:
            self._step(member, Receive(message))

    def repeat(self, message: Message) -> None:
        """A copy of an old message arrives, out of any order."""
        self.journal.append(("repeat", message))
        self.hand_over(message)

    def cut(self, source: NodeId, target: NodeId) -> None:
        """What is sent from source to target from now on is lost. What is in flight already only waits."""
        self.journal.append(("cut", source, target))
        self.cuts.add((source, target))

    def cut_between(self, one: Iterable[NodeId], other: Iterable[NodeId]) -> None:
        """Cut both directions of every link between two groups."""
        others = list(other)
        for a in one:
            for b in others:
                self.cut(a, b)
                self.cut(b, a)

    def isolate(self, *node_ids: NodeId) -> None:
        self.cut_between(node_ids, [i for i in self.members if i not in node_ids])

    def heal(self) -> None:
        self.journal.append(("heal",))
        self.cuts.clear()

    # --- larger steps ----------------------------------------------------------------------------------------------

    def settle(self, among: Sequence[NodeId] | None = None) -> None:
        """Let all writes complete and all messages arrive (among some members) until nothing more happens."""
        nodes = list(self.members) if among is None else among
        deliveries = 0
        busy = True
        while busy:
            busy = False
            for node_id in nodes:
                if self.members[node_id].up and self.members[node_id].pending:
                    self.flush(node_id)
                    busy = True
            for (source, target), link in self.links.items():
                if not link or source not in nodes or target not in nodes or (source, target) in self.cuts:
                    continue
                busy = True
                deliveries += len(link)
                if deliveries > STORM_LIMIT:
                    raise Violation("quiescence", f"{deliveries} messages and no end: {link[:3]}")
                if self.members[target].up:
                    self.deliver_all(source, target)
                else:
                    link.clear()

    def leader(self) -> NodeId | None:
        """The member that leads the greatest term, if any leads."""
        leading = [m for m in self.members.values() if m.up and m.core.role == "leader"]
        return max(leading, key=lambda m: m.core.term).node_id if leading else None

    def elect(self, node_id: NodeId, among: Sequence[NodeId] | None = None) -> None:
        """Let a node stand for election, and win it: the clocks of the others stop once they miss a leader, those of
        leaders do not run at all."""
        nodes = list(self.members) if among is None else among
        for _ in range(6 * self.election_ticks):
            for other in nodes:
                member = self.members[other]
                if other == node_id:
                    self.tick(other)
                elif (
                    member.up
                    and member.core.role != "leader"
                    and member.core._ticks_since_contact < self.election_ticks
                ):
                    self.tick(other, entropy=self.election_ticks - 1)
            self.settle(among)
            if self.core(node_id).role == "leader":
                return
        raise Violation("liveness_leader", f"node {node_id} stood for election in vain: {self.describe()}")

    def win(self, node_id: NodeId, voters: Sequence[NodeId]) -> None:
        """Elect a node by the votes of some members. What it sends as a leader is lost; its own disk keeps up."""
        core = self.core(node_id)
        for _ in range(6 * self.election_ticks):
            self.tick(node_id)
            for voter in voters:
                if self.core(voter)._ticks_since_contact < self.election_ticks:
                    self.tick(voter, entropy=self.election_ticks - 1)
            for _ in range(2):  # promises, then votes
                self.flush(node_id)
                for voter in voters:
                    if core.role != "leader":
                        self.deliver_all(node_id, voter)
                        self.flush(voter)
                        self.deliver_all(voter, node_id)
            if core.role == "leader":
                self.flush(node_id)
                for other in self.members:
                    if other != node_id:
                        self.drop_all(node_id, other)
                return
        raise Violation("liveness_leader", f"node {node_id} stood for election in vain: {self.describe()}")

    def tick_all(self, times: int = 1, chance: random.Random | None = None) -> None:
        """Ticks for all members that are up, everything delivered after each."""
        for _ in range(times):
            for node_id, member in self.members.items():
                if member.up:
                    self.tick(node_id, entropy=chance.randrange(1 << 16) if chance else node_id)
            self.settle()

    def converge(self, chance: random.Random, leader_ticks: int, progress_ticks: int) -> int:
        """Heal everything and demand progress. Returns the ticks that it took to have a leader."""
        self.heal()
        for member in self.members.values():
            if not member.up:
                self.restart(member.node_id)
        self.settle()
        ticks = 0
        while not (leader := self.leader()) or any(m.core.leader_id != leader for m in self.members.values()):
            ticks += 1
            if ticks <= leader_ticks:
                self.tick_all(1, chance)
                continue
            raise Violation("liveness_leader", f"no leader {leader_ticks} ticks after healing: {self.describe()}")
        self.tick_all(progress_ticks, chance)  # what was open before may have filled the leader's bounds
        (token,) = self.propose(leader)
        (reading,) = self.read(leader)
        self.settle()
        self.tick_all(self.heartbeat_ticks, chance)
        if token not in self.acknowledged:
            raise Violation("liveness_progress", f"a proposal is not committed: {self.describe()}")
        if reading not in self.released:
            raise Violation("liveness_reads", f"a read is not answered: {self.describe()}")
        for member in self.members.values():
            if member.written_entries != self.committed or member.applied != len(self.committed):
                raise Violation("liveness_convergence", f"node {member.node_id} stays behind: {self.describe()}")
            # A deposed leader's proposals beyond the end of the log stay open: another member may still hold them.
            forgotten = [index for index in member.proposals if index <= len(self.committed)]
            if member.reads or forgotten or member.core.statistics().pending_reads:
                raise Violation("liveness_answers", f"node {member.node_id} forgot {member.reads} and {forgotten}")
        return ticks

    def demand_steady_leader(self, chance: random.Random, settle_ticks: int, steady_ticks: int) -> None:
        """With the cuts as they are: after a while one leader, the same one, that commits what is proposed to it.

        It can be demanded wherever some majority is fully connected, whoever else can be heard by whom: this is what
        pre-vote and check-quorum are for, together (the outage of November 2020 had neither).
        """
        self.tick_all(settle_ticks, chance)
        before: tuple[NodeId, int] | None = None
        for _ in range(steady_ticks):
            leader = self.leader()
            if leader is None:
                raise Violation("liveness_leader", f"no leader after {settle_ticks} ticks: {self.describe()}")
            now = (leader, self.core(leader).term)
            if before not in (None, now):
                raise Violation("liveness_steady", f"leader and term changed from {before} to {now}: {self.describe()}")
            before = now
            (token,) = self.propose(leader)
            (reading,) = self.read(leader)
            self.tick_all(1, chance)
            if token not in self.acknowledged or reading not in self.released:
                raise Violation("liveness_progress", f"leader {leader} does not commit or read: {self.describe()}")

    # --- judgement -------------------------------------------------------------------------------------------------

    def _step(self, member: Member, event: Event) -> None:
        if not member.up:
            raise ValueError(f"node {member.node_id} is down: nothing happens to it before restart()")
        self.clock += 1
        before = member.view or view(member.core)
        try:
            effects = member.core.step(event)
        except Exception as error:
            raise Violation(type(error).__name__, f"{event!r} at node {member.node_id}: {error}") from error
        member.view = view(member.core)
        broken = violations(before, member.view, member.core)
        if broken:
            raise Violation(broken[0], f"after {event!r} at node {member.node_id}: {', '.join(broken)}")
        self._check_persist(member, effects)
        self._check_role(member, before)
        self._check_sends(member, effects)
        if isinstance(event, Receive):
            self._check_heard(member, before, event.message)
        self._check_commit(member, before)
        self._check_outcomes(member, event, effects)
        self._check_apply(member, effects)
        for message in effects.send:
            self._send(message)

    def _send(self, message: Message) -> None:
        self.history.append(message)
        pair = (message.source, message.target)
        if pair in self.cuts:
            return
        link = self.links[pair]
        link.append(message)
        if len(link) > LINK_CAPACITY:
            del link[0]

    def _check_persist(self, member: Member, effects: Effects) -> None:
        core, batch = member.core, effects.persist
        if batch is not None:
            member.sequence += 1
            if batch.sequence != member.sequence:
                raise Violation("all_is_written", f"batch {batch.sequence} follows batch {member.sequence - 1}")
            member.pending.append(batch)
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
                for old in replaced:
                    if old.index <= len(self.committed) and self.committed[old.index - 1] == old:
                        self.reached["committed entry replaced at a minority"] += 1
                        self._check_durable(old)
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
            voters = [peer for peer in self.members if self.votes.get((core.term, peer)) == member.node_id]
            if len(voters) < majority(self.members):
                raise Violation(
                    "elected_by_a_majority", f"node {member.node_id} leads term {core.term}, elected by {voters}"
                )
            for entry, term in zip(reversed(self.committed), reversed(self.commit_terms), strict=True):
                if term < core.term:
                    if not core.log.matches(entry.index, entry.term):
                        raise Violation(
                            "leader_completeness", f"node {member.node_id} leads {core.term} without {entry}"
                        )
                    break
        for peer, progress in core._progress.items():
            other = self.members[peer]
            if progress.match and other.up and other.core.term == core.term:
                there = other.disk_entries[progress.match - 1].term if progress.match <= len(other.disk_entries) else -1
                if there != core.log.term_at(progress.match):
                    raise Violation("match_is_true", f"node {member.node_id} believes {peer} has {progress.match}")

    def _check_heard(self, member: Member, before: View, message: Message) -> None:
        core = member.core
        if isinstance(message, RequestVote) and core.voted_for == message.source and not message.pre_vote:
            given_now = before.voted_for != message.source or before.term != core.term
            theirs = (message.last_log_term, message.last_log_index)
            if given_now and theirs < (core.log.last_term, core.log.last_index):
                raise Violation("votes_for_fresh_logs", f"node {member.node_id} votes for {message}: {self.describe()}")
        if isinstance(message, AppendEntries) and (core.term, core.leader_id) == (message.term, message.source):
            heard = self.heard.setdefault((message.source, message.term), {})
            began = self.rounds[message.source, message.term, message.round]
            heard[member.node_id] = max(began, heard.get(member.node_id, 0))

    def _check_sends(self, member: Member, effects: Effects) -> None:
        """Each message against the disk as it is at this moment."""
        disk, entries = member.disk_hard_state, member.disk_entries
        for message in effects.send:
            term_said = message.term
            if isinstance(message, RequestVote):
                term_said -= message.pre_vote
                votes_for = 0 if message.pre_vote else member.node_id
                length_said = message.last_log_index
            elif isinstance(message, RequestVoteResponse):
                votes_for = message.target if message.granted and not message.pre_vote else 0
                length_said = 0
            else:
                votes_for = 0
                length_said = message.index if isinstance(message, AppendEntriesResponse) and message.success else 0
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
                there = entries[length_said - 1].term if length_said <= len(entries) else -1
                if there != member.core.log.term_at(length_said):
                    raise Violation("durable_before_said", f"{message} while the disk ends {entries[-1:]}")
                if isinstance(message, AppendEntriesResponse):
                    leader = self.members[message.target]
                    if leader.up and leader.core.role == "leader" and leader.core.term == term_said:
                        said = leader.core.log.term_at(length_said)
                        if said != there:
                            raise Violation(
                                "acknowledged_matches", f"{message}: term {there} here, {said} at the leader"
                            )
            if isinstance(message, AppendEntries):
                self.rounds.setdefault((message.source, message.term, message.round), self.clock)
            if isinstance(message, AppendEntries) and (disk.term, disk.voted_for) != (term_said, member.node_id):
                raise Violation("durable_before_said", f"{message} while the disk has {disk}")

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
            if _token(entry.payload) in self.never:
                raise Violation("honest_outcomes", f"{entry} commits after its client was told that it never will")
            self.committed.append(entry)
            self.commit_terms.append(core.term)
        if core.role == "leader" and core.log.term_at(core.commit_index) != core.term:
            raise Violation("commits_its_own_term", f"node {member.node_id} of term {core.term}: {core.commit_index}")
        if not news:
            return
        self.reached["commit"] += 1
        last = self.committed[-1]
        self._check_durable(last)
        for other in self.members.values():
            if other.up and other.core.role == "leader" and other.core.term > core.term:
                self.reached["commit by a deposed leader"] += 1
                if not other.core.log.matches(last.index, last.term):
                    raise Violation(
                        "leader_completeness", f"node {other.node_id} leads {other.core.term} without {last}"
                    )

    def _check_durable(self, entry: Entry) -> None:
        """A majority of disks holds a committed entry, and no write that would cut it is on its way there."""
        holders = [
            member.node_id
            for member in self.members.values()
            if len(member.disk_entries) >= entry.index
            and member.disk_entries[entry.index - 1] == entry
            and all(batch.entries[0].index > entry.index for batch in member.pending if batch.entries)
        ]
        if len(holders) < majority(self.members):
            raise Violation("committed_is_durable", f"{entry} is committed, but on the disks of {holders} only")

    def _check_outcomes(self, member: Member, event: Event, effects: Effects) -> None:
        answered: list[Token] = []
        for accepted in effects.accepted:
            answered.append(accepted.token)
            entry = member.core.log.slice(accepted.index, accepted.index)
            if len(entry) != 1 or entry[0].term != accepted.term or _token(entry[0].payload) != accepted.token:
                raise Violation("honest_outcomes", f"{accepted}, but the log has {entry}")
            member.proposals.setdefault(accepted.index, []).append((accepted.token, accepted.term))
        for refused in effects.refused:
            self.refused[refused.token] = refused.reason
            self.reached[f"refused: {refused.reason}"] += 1
            if member.reads.pop(refused.token, None) is None:
                answered.append(refused.token)
                self.never.add(refused.token)
        if isinstance(event, Propose):
            proposed = [token for token, _ in event.proposals]
            if sorted(answered) != proposed:
                raise Violation("honest_outcomes", f"proposed {proposed}, answered {sorted(answered)}")
        elif answered:
            raise Violation("honest_outcomes", f"answers to nothing: {answered}")
        for ready in effects.reads:
            if ready.token not in member.reads:
                raise Violation("honest_outcomes", f"{ready} answers no open read")
            floor, asked = member.reads.pop(ready.token)
            if ready.index < floor or ready.index > member.core.commit_index:
                raise Violation(
                    "linearizable_reads",
                    f"node {member.node_id} releases {ready}, but {floor} was committed when it was asked",
                )
            heard = self.heard.get((member.node_id, member.core.term), {})
            confirming = [peer for peer, began in heard.items() if began >= asked]
            if len(confirming) + 1 < majority(self.members):
                raise Violation("confirmed_reads", f"{ready} is confirmed by {confirming} only")
            self.released[ready.token] = ready.index
            self.reached["read released"] += 1

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
                elif _token(entry.payload) != token:
                    raise Violation("honest_outcomes", f"proposal {token} is answered with {entry}")
                else:
                    self.acknowledged[token] = entry.index
                    self.reached["proposal acknowledged"] += 1
        if member.applied != member.core.released_index:
            raise Violation("state_machine_safety", f"{member.core.released_index} released, {member.applied} applied")

    def _make_durable(self, member: Member) -> int:
        batch = member.pending.popleft()
        if batch.hard_state is not None:
            member.disk_hard_state = batch.hard_state
            if batch.hard_state.voted_for:
                vote = (batch.hard_state.term, member.node_id)
                if self.votes.setdefault(vote, batch.hard_state.voted_for) != batch.hard_state.voted_for:
                    raise Violation("one_vote_per_term", f"node {member.node_id}: {self.votes[vote]} and {batch}")
        if batch.entries:
            cut = batch.entries[0].index - 1
            del member.disk_entries[cut:]
            member.disk_entries.extend(batch.entries)
        return batch.sequence

    # --- words -----------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """One line of state per member."""
        lines = []
        for node_id, member in self.members.items():
            core = member.core
            terms = "".join(f" {entry.term}" for entry in member.written_entries[-12:])
            lines.append(
                f"{node_id} {'' if member.up else 'DOWN '}{core.role} term {core.term} voted {core.voted_for} leader "
                f"{core.leader_id} commit {core.commit_index} applied {member.applied} disk {len(member.disk_entries)} "
                f"log {len(member.written_entries)} [..{terms}]"
            )
        return "\n    " + "\n    ".join(lines)


def _payload(token: Token, size_bytes: int) -> bytes:
    return (b"%d" % token).ljust(size_bytes, b".")


def _token(payload: bytes) -> Token:
    return int(payload.rstrip(b".") or b"0")
