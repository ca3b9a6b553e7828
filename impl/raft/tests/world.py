"""A whole cluster in memory, every step of it decided by the caller, judged after every step.

Theory of operation
-------------------
A ``World`` holds a few cores, a bag of messages for every directed link, and a disk for every member. Nothing happens
by itself: a script, a seeded campaign or Hypothesis says what happens next, one action at a time: a tick, the delivery
(or loss, or duplication, or late repetition) of one message, the completion of one write, a crash, a restart, a
proposal, a read, a cut in one direction, a change of the group, a snapshot, a handing over, a lost disk.

*Disks.* A ``Persist`` batch is pending until ``flush`` makes it durable and reports it. A crash loses the pending
batches, except for as many of the oldest as the caller lets survive: they reached the disk, but nobody was told. The
state machine forgets too: it comes back with any prefix of what it had applied.

*Snapshots.* The state machine is a chain of hashes over what it has applied, and a snapshot is that, with a checksum,
blown up to ``snapshot_bytes``. The driver's part is modelled, too: pieces that are asked for become messages on the
links, pieces that arrive wait for ``store``, an unfinished snapshot survives a crash up to its last sync.

*Clocks.* Every tick moves a member's clock by ``TICK_MS``. ``elapse`` lets time pass for all, with clocks that run
apart by at most ``DRIFT``: whoever uses leases lets time pass so and not member by member.

*Judgement.* The members' own invariants (``impl.raft.invariants``) are checked here, so that any class with the
interface of ``Core`` can be tried. On top of them come those that take the whole cluster to see. All are exact
and incremental: each step is compared with what earlier steps established, so that a long run costs no more per step
than a short one.

    election_safety            at most one leader in a term (paper 5.2)
    elected_by_a_majority      whose votes for that term are on a majority of disks (5.2)
    votes_for_fresh_logs       a vote goes only to a log at least as up-to-date as the voter's (5.4.1)
    no_vote_of_the_forgetful   given by the lives that the group knows, not by those that lost their memory
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
    leases_are_true            so is one that is answered by a clock, as long as clocks keep to the stated bound
    configuration_in_force     every member goes by the latest configuration in its log, back again after a cut (6)
    joint_consensus            voters change only through a joint configuration of the old and the new ones (6)
    one_change_at_a_time       and only when the change before is committed, and an entry of the leader's own term
    snapshot_holds_the_prefix  what stands in for a part of the log is committed, with the right term, group and state
    honest_outcomes            one answer for each request; refused and lost proposals never commit
    quiescence                 when all messages get through, the members fall silent (no storm of mutual answers)
    removed_do_not_disturb     once healed, nobody who is not in the group any more makes the leader change (4.2.3)
    liveness_*                 after healing: a leader, then progress, changes completed, equal logs and states, and no
                               request forgotten

A breach raises ``Violation``, which names the invariant. ``journal`` holds every action, for the replay.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from impl.raft import Core, Settings
from impl.raft.configuration import founding
from impl.raft.events import (
    ChunkStored,
    Compact,
    DiskSpace,
    Event,
    Persisted,
    Propose,
    Read,
    Receive,
    Reconfigure,
    SendChunk,
    StoreChunk,
    Tick,
    Token,
    Transfer,
    Unreachable,
)
from impl.raft.invariants import view, violations
from impl.raft.messages import NOBODY, Base, InstallSnapshot, Message, NodeId
from impl.raft.messages import Member as Named
from impl.raft.tests.judge import STATE_BYTES, Judge, Member, Partial, Snapshot, Violation, content_of, state_of

__all__ = [
    "DRIFT",
    "HISTORY_CAPACITY",
    "LEASE_SHARE",
    "LINK_CAPACITY",
    "STORM_LIMIT",
    "TICK_MS",
    "Member",
    "Violation",
    "World",
]

LINK_CAPACITY = 64
"""Messages in flight on one directed link; the oldest is lost beyond it, as in a full socket of a dead connection."""

HISTORY_CAPACITY = 400
"""Messages that can still be repeated long after they were delivered or lost."""

STORM_LIMIT = 20_000
"""Deliveries after which a cluster that was left alone should long have fallen silent: what a settled cluster needs
grows with the entries that a member lacks, at most a few hundred messages in any test."""

TICK_MS = 100
"""Of a member's own clock."""

DRIFT = 0.1
"""Clocks run at most so much faster or slower than time does."""

LEASE_SHARE = (1 - DRIFT) / (1 + DRIFT)
"""What is left of a time, in ticks of the fastest clock, when the slowest measures it."""


@dataclass(slots=True)
class World(Judge):
    """A cluster founded by ``size`` members numbered from 1; others may join."""

    size: int
    core_class: type[Core] = Core
    election_ticks: int = 10
    heartbeat_ticks: int = 2
    max_entries_per_append: int = 256
    max_append_bytes: int = 512 * 1024
    max_in_flight_appends: int = 64
    max_uncommitted_entries: int = 4096
    max_pending_reads: int = 4096

    max_in_flight_bytes: int = 8 * 1024 * 1024
    snapshot_bytes: int = 64
    snapshot_chunk_bytes: int = 1024 * 1024
    lease_ms: int = 0
    priorities: tuple[int, ...] = ()  # of the founding members; the others have the greatest

    cuts: set[tuple[NodeId, NodeId]] = field(default_factory=set)
    history: deque[Message] = field(default_factory=lambda: deque(maxlen=HISTORY_CAPACITY))
    journal: list[tuple[object, ...]] = field(default_factory=list)
    _next_token: Token = 1
    _next_incarnation: int = 2

    def __post_init__(self) -> None:
        ids = range(1, self.size + 1)
        self.links = {(a, b): [] for a in ids for b in ids if a != b}
        self.founding = founding(ids)
        self.members = {}
        for i in ids:
            self._add(i, 1, Base(configuration=self.founding))

    def _add(self, node_id: NodeId, incarnation: int, base: Base) -> Member:
        """A node with a new data directory."""
        priority = self.priorities[node_id - 1] if node_id <= len(self.priorities) else 2
        settings = self._settings(node_id, incarnation, 1, priority)
        member = Member(node_id, self.core_class(settings, base=base))
        member.incarnation, member.priority = incarnation, priority
        member.disk_base = member.written_base = base
        member.state = b"\0" * STATE_BYTES
        self.members[node_id] = member
        return member

    def _settings(self, node_id: NodeId, incarnation: int = 1, run_id: int = 1, priority: int = 2) -> Settings:
        return Settings(
            node_id=node_id,
            incarnation=incarnation,
            run_id=run_id,
            priority=priority,
            election_ticks=self.election_ticks,
            heartbeat_ticks=self.heartbeat_ticks,
            lease_ms=self.lease_ms,
            max_entries_per_append=self.max_entries_per_append,
            max_append_bytes=self.max_append_bytes,
            max_in_flight_appends=self.max_in_flight_appends,
            max_in_flight_bytes=self.max_in_flight_bytes,
            max_uncommitted_entries=self.max_uncommitted_entries,
            max_pending_reads=self.max_pending_reads,
            snapshot_chunk_bytes=self.snapshot_chunk_bytes,
        )

    # --- what can happen: one node ---------------------------------------------------------------------------------

    def core(self, node_id: NodeId) -> Core:
        return self.members[node_id].core

    def tick(self, node_id: NodeId, times: int = 1, entropy: int = 0) -> None:
        for _ in range(times):
            member = self.members[node_id]
            self.journal.append(("tick", node_id, entropy))
            member.clock_ms += TICK_MS
            self._step(member, Tick(entropy, int(member.clock_ms)))

    def elapse(self, chance: random.Random, quarters: int = 4) -> None:
        """So many quarters of a tick pass for everybody, by clocks that keep to the bound."""
        self.journal.append(("elapse", quarters))
        for _ in range(quarters):
            nodes = list(self.members.values())
            chance.shuffle(nodes)
            for member in nodes:
                member.clock_ms += member.rate * TICK_MS / 4
                if member.clock_ms - member.ticked_ms >= TICK_MS:
                    member.ticked_ms += TICK_MS
                    if member.up:
                        self._step(member, Tick(chance.randrange(1 << 16), int(member.clock_ms)))

    def propose(self, node_id: NodeId, count: int = 1, size_bytes: int = 0) -> list[Token]:
        """Propose ``count`` payloads that name their tokens and are filled up to ``size_bytes``."""
        tokens = [self._next_token + i for i in range(count)]
        self._next_token += count
        self.journal.append(("propose", node_id, tokens))
        self._step(self.members[node_id], Propose(tuple((token, _payload(token, size_bytes)) for token in tokens)))
        return tokens

    def read(self, node_id: NodeId, count: int = 1, *, lease: bool = False) -> list[Token]:
        tokens = [self._next_token + i for i in range(count)]
        self._next_token += count
        self.journal.append(("read", node_id, tokens, lease))
        member = self.members[node_id]
        member.reads.update(dict.fromkeys(tokens, (len(self.committed), self.clock + 1)))
        if lease:
            member.lease_reads.update(tokens)
        self._step(member, Read(tuple(tokens), lease, int(member.clock_ms)))
        return tokens

    def unreachable(self, node_id: NodeId, peer: NodeId) -> None:
        self.journal.append(("unreachable", node_id, peer))
        self._step(self.members[node_id], Unreachable(peer))

    # --- what can happen: the group --------------------------------------------------------------------------------

    def _ask(self, node_id: NodeId) -> Token:
        token = self._next_token
        self._next_token += 1
        self.members[node_id].asked.add(token)
        return token

    def reconfigure(
        self,
        node_id: NodeId,
        voters: Iterable[NodeId],
        learners: Iterable[NodeId] = (),
        expected_index: int | None = None,
        *,
        renew: Sequence[NodeId] = (),
    ) -> Token:
        """Ask a node to make this the group: members that it knows in the lives that it knows them in, others (and
        those in ``renew``) in their present ones."""
        token, core = self._ask(node_id), self.core(node_id)
        voters = sorted(voters)
        members = []
        for i in sorted({*voters, *learners}):
            known = core.configuration.member(i)
            members.append(known if known and i not in renew else Named(i, self.members[i].incarnation))
        expected = core.configuration_index if expected_index is None else expected_index
        self.journal.append(("reconfigure", node_id, voters, sorted(learners), expected))
        self._step(self.members[node_id], Reconfigure(token, expected, tuple(members), tuple(voters)))
        return token

    def add_learner(self, node_id: NodeId, who: NodeId) -> Token:
        group = self.core(node_id).configuration
        return self.reconfigure(node_id, group.voters, {*group.learners, who})

    def promote(self, node_id: NodeId, who: NodeId) -> Token:
        group = self.core(node_id).configuration
        return self.reconfigure(node_id, {*group.voters, who}, set(group.learners) - {who})

    def demote(self, node_id: NodeId, who: NodeId) -> Token:
        group = self.core(node_id).configuration
        return self.reconfigure(node_id, set(group.voters) - {who}, {*group.learners, who})

    def remove(self, node_id: NodeId, who: NodeId) -> Token:
        group = self.core(node_id).configuration
        return self.reconfigure(node_id, set(group.voters) - {who}, set(group.learners) - {who})

    def replace(self, node_id: NodeId, old: NodeId, new: NodeId) -> Token:
        """A learner takes the place of a voter, in one change."""
        group = self.core(node_id).configuration
        return self.reconfigure(node_id, (set(group.voters) - {old}) | {new}, set(group.learners) - {new, old})

    def transfer(self, node_id: NodeId, target: NodeId = NOBODY) -> Token:
        token = self._ask(node_id)
        self.journal.append(("transfer", node_id, target))
        self._step(self.members[node_id], Transfer(token, target))
        return token

    def join(self, node_id: NodeId) -> None:
        """A new node, which knows nothing and nobody, is there to be added."""
        self.journal.append(("join", node_id))
        for other in self.members:
            self.links[node_id, other] = []
            self.links[other, node_id] = []
        self._next_incarnation += 1
        self._add(node_id, self._next_incarnation, Base())

    def wipe(self, node_id: NodeId) -> None:
        """A node loses its disk, and starts again as one that is to join, in another life."""
        self.journal.append(("wipe", node_id))
        member = self.members[node_id]
        self.lost_disks[node_id, member.incarnation] = member.disk_entries
        for vote in [vote for vote in self.votes if vote[1] == node_id]:
            del self.votes[vote]
        self._next_incarnation += 1
        clock_ms, ticked_ms, rate = member.clock_ms, member.ticked_ms, member.rate
        member = self._add(node_id, self._next_incarnation, Base())
        member.clock_ms, member.ticked_ms, member.rate = clock_ms, ticked_ms, rate
        self.reached["wipe"] += 1

    def forgetful(self) -> set[NodeId]:
        """Who is not in the life any more in which some member's configuration names it."""
        groups = [self.configuration_at(len(self.committed)), *(m.core.configuration for m in self.members.values())]
        return {
            named.node_id
            for group in groups
            for named in group.members
            if self.members[named.node_id].incarnation != named.incarnation
        }

    # --- what can happen: snapshots --------------------------------------------------------------------------------

    def compact(self, node_id: NodeId, index: int | None = None, keep: int = 0) -> None:
        """A snapshot at an applied index is durable; the log keeps ``keep`` entries before it. Nothing happens where
        the log does not say yet what the group is, or where there is a newer snapshot."""
        member = self.members[node_id]
        index = member.applied if index is None else index
        base = member.core.base_at(index)
        if not base.configuration.voters or index <= max(member.snapshots, default=0):
            return
        self.journal.append(("compact", node_id, index, keep))
        self._check_base(member, base)
        member.snapshots[index] = Snapshot(base, content_of(base, self.states[index], self.snapshot_bytes))
        self._step(member, Compact(base, max(index - keep, 0)))
        for older in sorted(member.snapshots)[:-2]:
            del member.snapshots[older]
        self.reached["compact"] += 1

    def store(self, node_id: NodeId, *, report: bool = True) -> None:
        """The driver puts away the oldest piece that has come in, and says so (not, where it crashes before that)."""
        member = self.members[node_id]
        if not member.to_store:
            return
        self.journal.append(("store", node_id, report))
        stored = self._put_away(member, member.to_store.popleft())
        if report:
            self._step(member, stored)

    def _put_away(self, member: Member, chunk: StoreChunk) -> ChunkStored:
        there = member.snapshots.get(chunk.base.index)
        if there is not None and there.base == chunk.base:
            return ChunkStored(chunk.base, chunk.total_bytes, complete=True)
        if member.partial is None or member.partial.base != chunk.base:
            member.partial = Partial(chunk.base)
        partial = member.partial
        if chunk.offset == len(partial.data):
            partial.synced = len(partial.data)
            partial.data += chunk.data
        if len(partial.data) < chunk.total_bytes:
            return ChunkStored(chunk.base, len(partial.data))
        member.partial = None
        if state_of(chunk.base, partial.data) is None:
            self.reached["damaged snapshot"] += 1
            return ChunkStored(chunk.base, 0)
        member.snapshots[chunk.base.index] = Snapshot(chunk.base, partial.data)
        self.reached["snapshot received"] += 1
        return ChunkStored(chunk.base, chunk.total_bytes, complete=True)

    def damage(self, node_id: NodeId) -> None:
        """A bit of the snapshot that is being received turns over on the disk."""
        partial = self.members[node_id].partial
        if partial is not None and partial.data:
            self.journal.append(("damage", node_id))
            partial.data = bytes([partial.data[0] ^ 1]) + partial.data[1:]

    def _send_chunk(self, member: Member, asked: SendChunk) -> None:
        snapshot = member.snapshots.get(asked.base.index)
        if snapshot is None or snapshot.base != asked.base:
            self._step(member, Unreachable(asked.target))
            return
        piece = snapshot.content[asked.offset : asked.offset + asked.limit_bytes]
        self._send(
            InstallSnapshot(
                0,
                member.node_id,
                asked.target,
                asked.term,
                asked.base,
                asked.offset,
                piece,
                len(snapshot.content),
                asked.round,
            )
        )

    # --- what can happen: disks ------------------------------------------------------------------------------------

    def flush(self, node_id: NodeId, batches: int | None = None) -> None:
        """The oldest ``batches`` pending writes (all: None) become durable, and the last of them is reported."""
        member = self.members[node_id]
        if member.full or member.hung:
            return
        count = len(member.pending) if batches is None else min(batches, len(member.pending))
        if not count:
            return
        self.journal.append(("flush", node_id, count))
        sequence = 0
        for _ in range(count):
            sequence = self._make_durable(member)
        self._step(member, Persisted(sequence))

    def disk_space(self, node_id: NodeId, *, full: bool) -> None:
        """The disk is full, and batches wait; or there is room again."""
        self.journal.append(("disk_space", node_id, full))
        self.members[node_id].full = full
        if self.members[node_id].up:
            self._step(self.members[node_id], DiskSpace(full))

    def hang(self, node_id: NodeId, *, hung: bool = True) -> None:
        """The disk reports nothing any more, without a word; or goes on."""
        self.journal.append(("hang", node_id, hung))
        self.members[node_id].hung = hung

    def repair_disks(self) -> None:
        """Room on all disks, and none of them hangs."""
        for member in self.members.values():
            if member.full:
                self.disk_space(member.node_id, full=False)
            if member.hung:
                self.hang(member.node_id, hung=False)

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
        member.lease_reads.clear()
        member.asked.clear()
        member.to_store.clear()
        if member.partial is not None:
            member.partial.data = member.partial.data[: member.partial.synced]

    def restart(self, node_id: NodeId) -> None:
        member = self.members[node_id]
        self.journal.append(("restart", node_id))
        member.run_id += 1
        base = member.disk_base
        if member.applied < base.index:  # the driver rebuilds the state from the newest snapshot that the log fits to
            fitting = [i for i in member.snapshots if base.index <= i <= len(member.disk_entries)]
            if not fitting:
                raise Violation("snapshot_holds_the_prefix", f"node {node_id} begins at {base}, and has no snapshot")
            member.applied = max(fitting)
            snapshot = member.snapshots[member.applied]
            member.state = state_of(snapshot.base, snapshot.content) or b""
        else:
            member.state = self.states[member.applied]
        newest = member.snapshots.get(max(member.snapshots, default=0))
        member.core = self.core_class(
            self._settings(node_id, member.incarnation, member.run_id, member.priority),
            member.disk_hard_state,
            tuple(member.disk_entries[base.index :]),
            member.applied,
            base,
            newest.base if newest else None,
        )
        member.written_base = base
        member.written_hard_state = member.disk_hard_state
        member.written_entries = list(member.disk_entries)
        member.full = member.hung = False
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
                member = self.members[node_id]
                if member.up and member.pending and not member.full and not member.hung:
                    self.flush(node_id)
                    busy = True
                while member.up and member.to_store:
                    self.store(node_id)
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

    def named(self, leader: NodeId) -> list[Member]:
        """The members of the leader's group that are still in the life that the group knows."""
        group = self.core(leader).configuration
        lives = [(self.members[named.node_id], named.incarnation) for named in group.members]
        return [member for member, incarnation in lives if member.incarnation == incarnation]

    def converge(self, chance: random.Random, leader_ticks: int, progress_ticks: int) -> int:
        """Heal everything and demand progress. Returns the ticks that it took to have a leader."""
        self.heal()
        self.repair_disks()
        for member in self.members.values():
            if not member.up:
                self.restart(member.node_id)
        self.settle()
        ticks = 0
        while not (leader := self.leader()) or any(m.core.leader_id != leader for m in self.named(leader)):
            ticks += 1
            if ticks <= leader_ticks:
                self.tick_all(1, chance)
                continue
            raise Violation("liveness_leader", f"no leader {leader_ticks} ticks after healing: {self.describe()}")
        self.tick_all(progress_ticks, chance)  # what was open before may have filled the leader's bounds
        leader = self._settled_leader(chance, leader_ticks)
        (token,) = self.propose(leader)
        (reading,) = self.read(leader)
        self.settle()
        self.tick_all(self.heartbeat_ticks, chance)
        if token not in self.acknowledged:
            raise Violation("liveness_progress", f"a proposal is not committed: {self.describe()}")
        if reading not in self.released:
            raise Violation("liveness_reads", f"a read is not answered: {self.describe()}")
        for member in self.named(leader):
            if member.written_entries != self.committed or member.applied != len(self.committed):
                raise Violation("liveness_convergence", f"node {member.node_id} stays behind: {self.describe()}")
        for member in self.members.values():
            # A deposed leader's proposals beyond the end of the log stay open: another member may still hold them.
            forgotten = [index for index in member.proposals if index <= member.applied]
            if member.reads or member.asked or forgotten or member.core.statistics().pending_reads:
                raise Violation(
                    "liveness_answers", f"node {member.node_id} forgot {member.reads}, {member.asked} and {forgotten}"
                )
        return ticks

    def _settled_leader(self, chance: random.Random, patience_ticks: int) -> NodeId:
        """The changes that were begun are done, and then the leader stays, whoever is no member any more."""
        for _ in range(patience_ticks):
            leader = self.leader()
            if leader is not None:
                core = self.core(leader)
                if not core.configuration.joint and core.configuration_index <= core.commit_index:
                    break
            self.tick_all(1, chance)
        else:
            raise Violation("liveness_change", f"a change of the group is never done: {self.describe()}")
        strangers = set(self.members) - {member.node_id for member in self.named(leader)}
        if strangers:
            now = (leader, core.term)
            self.tick_all(6 * self.election_ticks, chance)
            after = self.leader()
            if after is None or (after, self.core(after).term) != now:
                raise Violation("removed_do_not_disturb", f"{now} gave way to {after}: {self.describe()}")
        return leader

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

    # --- one step --------------------------------------------------------------------------------------------------

    def _step(self, member: Member, event: Event) -> None:
        if not member.up:
            raise ValueError(f"node {member.node_id} is down: nothing happens to it before restart()")
        self.clock += 1
        before = member.view or view(member.core)
        self._before = member.core.configuration
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
        self._check_configuration(member, effects)
        self._check_outcomes(member, event, effects)
        self._check_changes(member, effects)
        if effects.restore is not None:
            self._restore(member, effects.restore)
        self._check_apply(member, effects)
        self._apply_to_state(member, effects)
        for message in effects.send:
            self._send(message)
        member.to_store.extend(effects.store)
        for asked in effects.chunks:
            self._send_chunk(member, asked)

    def _send(self, message: Message) -> None:
        self.history.append(message)
        pair = (message.source, message.target)
        if pair in self.cuts:
            return
        link = self.links[pair]
        link.append(message)
        if len(link) > LINK_CAPACITY:
            del link[0]

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
                f"log {core.log.base.index}-{len(member.written_entries)} [..{terms}] "
                f"{'full ' if member.full else ''}{'hung ' if member.hung else ''}{_group(core, member)}"
            )
        return "\n    " + "\n    ".join(lines)


def _payload(token: Token, size_bytes: int) -> bytes:
    return (b"%d" % token).ljust(size_bytes, b".")


def _group(core: Core, member: Member) -> str:
    group = core.configuration
    said = ",".join(map(str, group.voters))
    if group.outgoing:
        said += f"<-{','.join(map(str, group.outgoing))}"
    learners = "".join(f"+{i}" for i in group.learners)
    return f"{{{said}{learners}}}@{core.configuration_index} life {member.incarnation}"
