"""What only a leader does: replication, commitment, reads, changes of the group, handing over.

Theory of operation
-------------------
A ``Leader`` is made when a member wins an election and is thrown away when it gives up its office: whatever it knew of
the others, promised to clients or had begun ends there. It acts through its ``Core``, whose log, commit index and
effects it shares.

*Replication* (paper 5.3). Every member gets the log from where it is known to match, pipelined, within windows of
messages and bytes (``progress``); who lacks entries that are gone gets a snapshot, piece by piece (section 7).
Heartbeats are empty appends on a clock of their own, so bulk data never delays them.

*Commitment* (5.3, 5.4.2). An entry of the leader's own term that is durable on a quorum is committed, and with it
everything before. A new leader appends a no-op at once, so that there is such an entry soon.

*Check-quorum* (dissertation 6.2). A leader that has not heard from a quorum for an election timeout, or whose own disk
has not answered for several, steps down, so that clients learn quickly that it cannot serve them. A *full* disk is
another matter: that leader hands over to somebody with room, and if there is nobody, it stays and serves reads.

*Changes of the group* (paper section 6, and the correction of 2015): one at a time, only once an entry of the leader's
own term is committed and the configuration before is, too; joint consensus for every change of voters; a new voter
has to be a learner that has nearly all of the log. The joint configuration is left as soon as it is committed, by
whoever leads then. Who leaves is sent the news; a leader that is not among the voters any more steps down and asks
the one that is furthest to follow it.

*Handing over* (dissertation 3.10). The leader takes no more proposals, brings the target up to its own end, and tells
it to stand. If no election has begun after an election timeout, it goes on as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from impl.raft.configuration import BadChange, changed, encode_configuration, final
from impl.raft.events import Accepted, Completed, ReadReady, Reconfigure, Refused, SendChunk, Token
from impl.raft.messages import (
    CONFIGURATION,
    NO_OP,
    NO_ROUND,
    NOBODY,
    NORMAL,
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    Entry,
    InstallSnapshotResponse,
    NodeId,
    ReadIndex,
    TimeoutNow,
)
from impl.raft.progress import Progress
from impl.raft.quorum import has_quorum, quorum_index
from impl.raft.reads import PendingReads, Reader

if TYPE_CHECKING:
    from impl.raft.core import Core

STALLED_ELECTION_TIMEOUTS = 5
"""How many election timeouts a leader waits for its own disk before it gives up its office: well beyond a slow sync,
and soon enough that clients do not wait long for a leader that can serve them."""

RELIEF_ELECTION_TIMEOUTS = 3
"""A leader whose disk is full tries so often, in election timeouts, to find somebody who can do better."""


@dataclass(slots=True)
class _Transfer:
    """Leadership is being handed over."""

    token: Token | None  # None: the leader's own idea
    target: NodeId
    ticks: int = 0
    asked: bool = False  # TimeoutNow has been sent


class Leader:
    """One term of one leader."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._log = core.log
        self._settings = core.settings
        self.term = core.term
        self.progress: dict[NodeId, Progress] = {}
        self.reads = PendingReads(core.settings.max_pending_reads)
        self._round = NO_ROUND
        self._heartbeat_ticks = 0
        self._quorum_ticks = 0  # since the last check of the quorum
        self._relief_ticks = 0  # since the last attempt to hand over for want of room
        self._transfer: _Transfer | None = None
        self._change: Token | None = None  # the reconfiguration that waits to be committed

    # --- office ----------------------------------------------------------------------------------------------------

    def take_office(self) -> None:
        self._meet_members()
        self._append([(NO_OP, NORMAL)])
        self._start_round()

    def leave_office(self, *, new_term: bool) -> None:
        """Tell everybody who waits. ``new_term``: somebody else has begun an election."""
        for reader in self.reads.drop():
            if isinstance(reader, ReadIndex):
                self._core.answer_read_index(reader, granted=False, index=0)
            else:
                self._core.refuse(reader, "lost-leadership")
        if self._change is not None:
            self._core.refuse(self._change, "lost-leadership")
        self._end_transfer(done=new_term)

    def _resign(self) -> None:
        self._core.become_follower(self.term, NOBODY)

    def tick(self) -> None:
        settings = self._settings
        if self._core.stalled_ticks >= STALLED_ELECTION_TIMEOUTS * settings.election_ticks:
            # Heartbeats need no disk: without this, a leader that can commit nothing would keep its office for ever.
            # Its own requests for votes wait for the disk, so it does not come back before the disk does.
            self._resign()
            return
        self._quorum_ticks += 1
        if self._quorum_ticks >= settings.election_ticks:
            self._quorum_ticks = 0
            active = [peer for peer, progress in self.progress.items() if progress.recent_active]
            if not has_quorum(self._core.configuration, [self._core.node_id, *active]):
                self._resign()
                return
            for progress in self.progress.values():
                progress.recent_active = False
        self._tick_transfer()
        self._tick_snapshots()
        self._heartbeat_ticks += 1
        if self._heartbeat_ticks >= settings.heartbeat_ticks:
            self._start_round()

    def _tick_snapshots(self) -> None:
        for peer, progress in self.progress.items():
            if progress.snapshot is not None:
                progress.chunk_ticks += 1
                if progress.chunk_ticks >= self._settings.election_ticks:
                    self._send_chunk(peer, progress)  # the piece or its answer was lost

    # --- members ---------------------------------------------------------------------------------------------------

    def configuration_changed(self) -> None:
        """Another configuration is in force: what was promised under the old one is no lease under the new one."""
        self.reads.forget_lease(for_good=False)
        self._meet_members()

    def _meet_members(self) -> None:
        configuration = self._core.configuration
        for member in configuration.members:
            known = self.progress.get(member.node_id)
            if member.node_id == self._core.node_id:
                continue
            if known is None or known.incarnation != member.incarnation:
                self.progress[member.node_id] = Progress(
                    self._log.last_index + 1,
                    self._settings.max_in_flight_appends,
                    self._settings.max_in_flight_bytes,
                    member.incarnation,
                )
        for peer, progress in self.progress.items():
            progress.leaving = configuration.member(peer) is None

    def reconfigure(self, event: Reconfigure) -> None:
        core = self._core
        configuration = core.configuration
        if event.expected_index != core.configuration_index:
            core.refuse(event.token, "configuration-changed")
        elif configuration.joint or core.configuration_index > core.commit_index or self._change is not None:
            core.refuse(event.token, "change-in-progress")
        elif not self._has_committed():
            core.refuse(event.token, "not-ready")
        elif self._transfer is not None:
            core.refuse(event.token, "transferring")
        elif core.disk_full:
            core.refuse(event.token, "disk-full")
        else:
            try:
                following = changed(configuration, event.members, event.voters)
            except BadChange:
                core.refuse(event.token, "bad-change")
                return
            if not all(self._has_caught_up(voter) for voter in set(following.voters) - set(configuration.voters)):
                core.refuse(event.token, "not-caught-up")
                return
            self._change = event.token
            self._append_configuration(following)

    def _has_caught_up(self, voter: NodeId) -> bool:
        progress = self.progress.get(voter)
        if progress is None:
            return False
        lag = self._log.last_index - progress.match
        return progress.replicating and lag <= self._settings.max_entries_per_append

    def _append_configuration(self, configuration: Configuration) -> None:
        self._append([(encode_configuration(configuration), CONFIGURATION)])
        self._replicate_to_all()
        self.maybe_commit()

    def _configuration_committed(self) -> None:
        """What is in force is committed: leave a joint configuration, or be done with the change, if there was one."""
        core = self._core
        configuration = core.configuration
        if configuration.joint:
            self._append_configuration(final(configuration))
            return
        if self._change is not None:
            core.effects.completed.append(Completed(self._change, core.configuration_index))
            self._change = None
        gone = [peer for peer, progress in self.progress.items() if progress.leaving]
        if gone or core.node_id not in configuration.voters:
            self._start_round()  # everybody, those who leave above all, is told that the change is committed
        for peer in gone:
            del self.progress[peer]
        if core.node_id not in configuration.voters:
            heir = self._furthest_voter()
            if heir is not None:
                self._send_timeout_now(heir)
            self._resign()

    # --- the log ---------------------------------------------------------------------------------------------------

    def propose(self, proposals: Sequence[tuple[Token, bytes]]) -> None:
        core, settings, log = self._core, self._settings, self._log
        if self._transfer is not None or core.disk_full:
            for token, _ in proposals:
                core.refuse(token, "disk-full" if core.disk_full else "transferring")
            return
        settled = min(core.commit_index, log.stable)
        room = max(settings.max_uncommitted_entries - (log.last_index - settled), 0)
        waiting_bytes = log.bytes_between(settled + 1, log.last_index)
        count = 0
        for _, payload in proposals[:room]:
            if waiting_bytes and waiting_bytes + len(payload) > settings.max_uncommitted_bytes:
                break
            waiting_bytes += len(payload)
            count += 1
        core.effects.refused.extend(Refused(token, "overloaded") for token, _ in proposals[count:])
        if not count:
            return
        first = log.last_index + 1
        self._append([(payload, NORMAL) for _, payload in proposals[:count]])
        core.effects.accepted.extend(
            Accepted(token, first + offset, self.term) for offset, (token, _) in enumerate(proposals[:count])
        )
        self._replicate_to_all()

    def _append(self, payloads: Iterable[tuple[bytes, int]]) -> None:
        first = self._log.last_index + 1
        term = self.term
        self._core.append(
            [Entry(first + offset, term, payload, kind) for offset, (payload, kind) in enumerate(payloads)]
        )

    def _replicate_to_all(self) -> None:
        for peer in self.progress:
            self._replicate(peer)

    def _start_round(self) -> None:
        """Ask every member to confirm this leader, and with that move reads and the commit index along.

        A member that is being probed gets no entries again with every round, however many it lacks: it may be down,
        or busy with the ones it got. Its answer to the empty append is enough to go on from.
        """
        self._heartbeat_ticks = 0
        self._round += 1
        self.reads.begin_round(self._round, self._core.commit_index, self._core.now_ms)
        for peer in self.progress:
            if not self._replicate(peer):
                self._send_append(peer, ())
        self._confirm_reads()

    def _replicate(self, peer: NodeId) -> bool:
        """Send the member what it lacks, as far as its windows allow. Returns whether an append was sent."""
        progress = self.progress[peer]
        if progress.next <= self._log.base.index:
            if progress.snapshot is None and progress.reachable:
                self._begin_snapshot(peer, progress)
            return False
        sent = False
        while progress.may_send and progress.next <= self._log.last_index:
            self._send_append(peer, self._batch(progress.next))
            sent = True
        if not sent and progress.may_send and not progress.replicating:
            self._send_append(peer, ())  # a probe without entries still finds where the logs agree
            sent = True
        return sent

    def _batch(self, first: int) -> tuple[Entry, ...]:
        batch = self._log.slice(first, first + self._settings.max_entries_per_append - 1)
        if self._log.bytes_between(first, first + len(batch) - 1) <= self._settings.max_append_bytes:
            return batch
        size_bytes = 0
        for count, entry in enumerate(batch):
            size_bytes += len(entry.payload)
            if size_bytes > self._settings.max_append_bytes and count > 0:
                return batch[:count]
        return batch

    def _send_append(self, peer: NodeId, entries: tuple[Entry, ...]) -> None:
        progress = self.progress[peer]
        # While a snapshot is under way, the beginning of the log is as good a place to ask for as any.
        prev_log_index = max(progress.next - 1, self._log.base.index)
        prev_log_term = self._log.term_at(prev_log_index)
        assert prev_log_term is not None
        last = prev_log_index + len(entries)
        progress.sent(last, self._log.bytes_between(prev_log_index + 1, last) if entries else 0)
        self._core.effects.send.append(
            AppendEntries(
                group=self._settings.group,
                source=self._core.node_id,
                target=peer,
                term=self.term,
                prev_log_index=prev_log_index,
                prev_log_term=prev_log_term,
                entries=entries,
                leader_commit=self._core.commit_index,
                round=self._round,
            )
        )

    def answered(self, message: AppendEntriesResponse | InstallSnapshotResponse) -> None:
        """A member has answered an append, or a piece of a snapshot, of this term."""
        peer = message.source
        progress = self.progress.get(peer)
        if progress is None:
            return
        progress.recent_active = progress.reachable = True
        if message.round == NO_ROUND:
            return
        if isinstance(message, InstallSnapshotResponse):
            self._snapshot_answered(peer, progress, message)
        elif message.success:
            self._matched(progress, message.index)
        elif progress.rejected(message.index, self._log.agreement_before(message.hint_index, message.hint_term) + 1):
            self._replicate(peer)
        if self._gone(peer, progress):
            return
        if message.round > progress.round_acked:
            progress.round_acked = message.round
            self._confirm_reads()
        if not self._gone(peer, progress) and progress.next <= self._log.last_index:
            self._replicate(peer)

    def _gone(self, peer: NodeId, progress: Progress) -> bool:
        """What was just learned ended this office, or the membership of the peer."""
        return self._core.leader is not self or self.progress.get(peer) is not progress

    def _matched(self, progress: Progress, index: int) -> None:
        news = progress.succeeded(index)
        if progress.snapshot is not None and progress.match >= self._log.base.index:
            progress.end_snapshot()
        if news:
            self.maybe_commit()
            self._continue_transfer()

    def lost(self, peer: NodeId) -> None:
        if peer in self.progress:
            self.progress[peer].lost()

    def maybe_commit(self) -> None:
        """Advance the commit index to what a quorum has made durable, if that is of this leader's term (5.4.2)."""
        core = self._core
        reached = {peer: progress.match for peer, progress in self.progress.items()}
        reached[core.node_id] = self._log.stable
        index = quorum_index(core.configuration, reached)
        if index <= core.commit_index or self._log.term_at(index) != self.term:
            return
        core.advance_commit(index)
        self.reads.committed()
        if self.reads.awaits_round:
            self._start_round()
        if core.configuration_index <= index:
            self._configuration_committed()

    def _has_committed(self) -> bool:
        """Whether an entry of this term is committed: only then the commit index is as new as any leader's."""
        return self._log.term_at(self._core.commit_index) == self.term

    # --- snapshots -------------------------------------------------------------------------------------------------

    def _begin_snapshot(self, peer: NodeId, progress: Progress) -> None:
        snapshot = self._core.snapshot
        assert snapshot is not None  # a log that begins later than at 1 comes with one
        progress.begin_snapshot(snapshot)
        self._send_chunk(peer, progress)

    def _send_chunk(self, peer: NodeId, progress: Progress) -> None:
        assert progress.snapshot is not None
        progress.chunk_ticks = 0
        self._core.effects.chunks.append(
            SendChunk(
                target=peer,
                term=self.term,
                base=progress.snapshot,
                offset=progress.snapshot_offset,
                limit_bytes=self._settings.snapshot_chunk_bytes,
                round=self._round,
            )
        )

    def _snapshot_answered(self, peer: NodeId, progress: Progress, message: InstallSnapshotResponse) -> None:
        if message.done:
            self._matched(progress, min(message.index, self._log.last_index))
            if progress.snapshot is not None and progress.match >= progress.snapshot.index:
                progress.probe(progress.match + 1)  # installed, but the log here begins later by now: a newer one helps
            return
        if progress.snapshot is None or message.index != progress.snapshot.index:
            return
        if message.offset != progress.snapshot_offset:  # else it answers an earlier copy: the piece is out already
            progress.snapshot_offset = message.offset
            self._send_chunk(peer, progress)

    # --- reads -----------------------------------------------------------------------------------------------------

    def read(self, tokens: Sequence[Token], lease: bool) -> None:
        core = self._core
        if lease and self._has_committed() and self.reads.has_lease(core.now_ms, self._settings.lease_ms):
            core.effects.reads.extend(ReadReady(token, core.commit_index) for token in tokens)
        else:
            self._take_reads(tokens)

    def read_for(self, question: ReadIndex) -> None:
        """A follower wants a read index."""
        self._take_reads((question,))

    def _take_reads(self, readers: Sequence[Reader]) -> None:
        for reader in self.reads.take(readers, committed=self._has_committed()):
            if isinstance(reader, ReadIndex):
                self._core.answer_read_index(reader, granted=False, index=0)
            else:
                self._core.refuse(reader, "overloaded")
        if self.reads.awaits_round:
            self._start_round()

    def _confirm_reads(self) -> None:
        """Release the reads whose round a quorum has answered; then begin the round that others wait for."""
        reached = {peer: progress.round_acked for peer, progress in self.progress.items()}
        reached[self._core.node_id] = self._round
        for reader, index in self.reads.confirmed(quorum_index(self._core.configuration, reached)):
            if isinstance(reader, ReadIndex):
                self._core.answer_read_index(reader, granted=True, index=index)
            else:
                self._core.effects.reads.append(ReadReady(reader, index))
        if self.reads.awaits_round:
            self._start_round()

    # --- handing over ----------------------------------------------------------------------------------------------

    @property
    def transferring_to(self) -> NodeId:
        return self._transfer.target if self._transfer is not None else NOBODY

    @property
    def has_asked_to_stand(self) -> bool:
        """Whether another member has been told to take over, and may still do it."""
        return self._transfer is not None and self._transfer.asked

    def transfer(self, token: Token, target: NodeId) -> None:
        core = self._core
        if target == NOBODY:
            target = self._furthest_voter() or NOBODY
        if target == core.node_id or target not in core.configuration.voters:
            core.refuse(token, "unknown-member")
        elif self._transfer is not None:
            core.refuse(token, "transferring")
        elif core.configuration.joint or self._change is not None:
            core.refuse(token, "change-in-progress")
        else:
            self._begin_transfer(token, target)

    def _begin_transfer(self, token: Token | None, target: NodeId) -> None:
        self._transfer = _Transfer(token, target)
        self._replicate(target)
        self._continue_transfer()

    def _continue_transfer(self) -> None:
        """Tell the target to stand once it has everything, durable: a leader that lacks some of it could not win."""
        transfer = self._transfer
        if transfer is None or transfer.asked:
            return
        if self.progress[transfer.target].match == self._log.last_index:
            transfer.asked = True
            self._send_timeout_now(transfer.target)

    def _send_timeout_now(self, target: NodeId) -> None:
        self.reads.forget_lease(for_good=True)
        self._core.effects.send.append(TimeoutNow(self._settings.group, self._core.node_id, target, self.term))

    def _tick_transfer(self) -> None:
        if self._transfer is not None:
            self._transfer.ticks += 1
            if self._transfer.ticks >= self._settings.election_ticks:
                self._end_transfer(done=False)
        if not self._core.disk_full:
            self._relief_ticks = 0
            return
        if (
            self._transfer is None
            and self._relief_ticks % (RELIEF_ELECTION_TIMEOUTS * self._settings.election_ticks) == 0
        ):
            heir = self._furthest_voter()
            if heir is not None and not self._core.configuration.joint:
                self._begin_transfer(None, heir)
        self._relief_ticks += 1

    def _end_transfer(self, *, done: bool) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is None or transfer.token is None:
            return
        if done:
            self._core.effects.completed.append(Completed(transfer.token))
        else:
            self._core.refuse(transfer.token, "transfer-failed")

    def _furthest_voter(self) -> NodeId | None:
        """The other voter with most of the log, among those that have been heard from lately; None without one."""
        voters = [
            (progress.recent_active, progress.match, -peer)
            for peer, progress in self.progress.items()
            if peer in self._core.configuration.voters
        ]
        return -max(voters)[2] if voters else None
