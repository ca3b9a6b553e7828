"""What a leader knows of one other member's log, and how fast it may send to it.

Theory of operation
-------------------
``match`` is the last index known to be durable there; ``next`` is the next one to send. In state *probe* the leader
does not know where the logs agree: it sends one append and waits for the answer to it or to a later heartbeat, which
is empty and asks the same question. The first success moves it to *replicate*: appends are pipelined, ``next`` runs
ahead of ``match``, and two windows bound what is in flight, one in messages and one in bytes. A rejection, or word
that something was lost, moves it back to probe. In state *snapshot* the follower lacks entries that the leader has no
more; pieces of a snapshot travel one at a time until it has the whole.

``match`` never goes back within a leader's term, and ``next`` is always greater than ``match``: late and duplicate
replies can only confirm what is known already. What is in flight is forgotten as a whole whenever the state changes,
so its sizes cannot leak.
"""

from __future__ import annotations

from collections import deque

from impl.raft.messages import Base
from impl.raft.settings import PeerStatistics


class Progress:
    """The leader's view of one other member."""

    def __init__(self, next_index: int, window: int, window_bytes: int = 1 << 62, incarnation: int = 1) -> None:
        """``window``, ``window_bytes``: how many appends with entries, and payload bytes, may be out, unanswered."""
        self.window = window
        self.window_bytes = window_bytes
        self.incarnation = incarnation
        self.match = 0
        self.next = next_index
        self.replicating = False  # else probing, or receiving a snapshot
        self.probe_pending = False  # an append is out and unanswered while probing
        self.recent_active = False  # heard from since the last check of the quorum
        self.reachable = True  # nothing that was sent is known to be lost, or it has answered since
        self.round_acked = 0  # the greatest round of AppendEntries that it has answered in this term
        self.leaving = False  # no member any more: it is told so, and then nothing
        self.snapshot: Base | None = None  # under way
        self.snapshot_offset = 0  # how much of it has arrived there, in bytes
        self.chunk_ticks = 0  # since the last piece left
        self._in_flight: deque[tuple[int, int]] = deque()  # of each append that is out: last index, payload bytes
        self._in_flight_bytes = 0

    @property
    def may_send(self) -> bool:
        """Whether an append with entries may leave now."""
        if self.replicating:
            return len(self._in_flight) < self.window and self._in_flight_bytes < self.window_bytes
        return not self.probe_pending and self.snapshot is None

    @property
    def adds_up(self) -> bool:
        """Whether the account of what is in flight is in order."""
        total = sum(size_bytes for _, size_bytes in self._in_flight)
        return self._in_flight_bytes == total and (self.replicating or not self._in_flight)

    def sent(self, last_index: int, size_bytes: int = 0) -> None:
        """An append whose last entry is ``last_index`` was sent (without entries: its ``prev_log_index``)."""
        if not self.replicating:
            self.probe_pending = True
        elif last_index >= self.next:
            self.next = last_index + 1
            self._in_flight.append((last_index, size_bytes))
            self._in_flight_bytes += size_bytes

    def succeeded(self, index: int) -> bool:
        """The member matches up to ``index``. Returns whether that was news. Ends a probe, not a snapshot."""
        news = index > self.match
        self.match = max(self.match, index)
        if not self.replicating and self.snapshot is None:
            self.replicating = True
            self.next = self.match + 1
        self.next = max(self.next, self.match + 1)
        while self._in_flight and self._in_flight[0][0] <= index:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
        return news

    def rejected(self, index: int, retry_next: int) -> bool:
        """An append after ``index`` did not fit; the logs may agree before ``retry_next``. False for old news."""
        if self.snapshot is not None or index <= self.match or (not self.replicating and index != self.next - 1):
            return False
        self.probe(min(retry_next, index))
        return True

    def lost(self) -> None:
        """Something that was sent did not arrive. While probing that is no news: the next heartbeat asks again. No new
        snapshot begins before the next answer: whoever is down would be sent its first piece with every round."""
        self.reachable = False
        if self.replicating or self.snapshot is not None:
            self.probe(self.match + 1)

    def probe(self, next_index: int) -> None:
        """Stop pipelining and ask again from ``next_index``, never at or below what is known to match."""
        self.replicating = False
        self.probe_pending = False
        self.snapshot = None
        self.next = max(next_index, self.match + 1)
        self._in_flight.clear()
        self._in_flight_bytes = 0

    def begin_snapshot(self, base: Base) -> None:
        """Only a snapshot helps. Begins at its first byte; the member answers how much of it it has already."""
        self.probe(self.match + 1)
        self.snapshot = base
        self.snapshot_offset = 0
        self.chunk_ticks = 0

    def end_snapshot(self) -> None:
        """The member has what it lacked."""
        self.probe(self.match + 1)
        self.replicating = True

    def statistics(self) -> PeerStatistics:
        return PeerStatistics(
            match=self.match,
            next=self.next,
            state="snapshot" if self.snapshot is not None else "replicate" if self.replicating else "probe",
            in_flight_appends=len(self._in_flight),
            in_flight_bytes=self._in_flight_bytes,
            snapshot_offset_bytes=self.snapshot_offset if self.snapshot is not None else 0,
            active=self.recent_active,
        )
