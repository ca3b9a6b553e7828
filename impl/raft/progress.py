"""What a leader knows of one follower's log, and how fast it may send to it.

Theory of operation
-------------------
``match`` is the last index known to be durable at the follower; ``next`` is the next one to send. In state *probe*
the leader does not know where the logs agree: it sends one append and waits for the answer to it or to a later
heartbeat, which is empty and asks the same question. The first success moves it to *replicate*: appends are
pipelined, ``next`` runs ahead of ``match``, and the window bounds how many are in flight. A rejection, or word that
something was lost, moves it back to probe.

``match`` never goes back within a leader's term, and ``next`` is always greater than ``match``: late and duplicate
replies can only confirm what is known already.
"""

from __future__ import annotations

from collections import deque


class Progress:
    """The leader's view of one follower."""

    def __init__(self, next_index: int, window: int) -> None:
        """``window``: how many appends with entries may be out, unanswered, while replicating."""
        self.window = window
        self.match = 0
        self.next = next_index
        self.replicating = False  # else probing
        self.probe_pending = False  # an append is out and unanswered while probing
        self.recent_active = False  # heard from since the last check of the quorum
        self.round_acked = 0  # the greatest round of AppendEntries that it has answered in this term
        self._in_flight: deque[int] = deque()  # last index of each append that is out, while replicating

    @property
    def may_send(self) -> bool:
        """Whether an append with entries may leave now."""
        if self.replicating:
            return len(self._in_flight) < self.window
        return not self.probe_pending

    def sent(self, last_index: int) -> None:
        """An append whose last entry is ``last_index`` was sent (without entries: its ``prev_log_index``)."""
        if not self.replicating:
            self.probe_pending = True
        elif last_index >= self.next:
            self.next = last_index + 1
            self._in_flight.append(last_index)

    def succeeded(self, index: int) -> bool:
        """The follower matches up to ``index``. Returns whether that was news."""
        news = index > self.match
        self.match = max(self.match, index)
        if not self.replicating:
            self.replicating = True
            self.next = self.match + 1
        self.next = max(self.next, self.match + 1)
        while self._in_flight and self._in_flight[0] <= index:
            self._in_flight.popleft()
        return news

    def rejected(self, index: int, retry_next: int) -> bool:
        """An append after ``index`` did not fit; the logs may agree before ``retry_next``. False for old news."""
        if index <= self.match or (not self.replicating and index != self.next - 1):
            return False
        self.probe(min(retry_next, index))
        return True

    def lost(self) -> None:
        """Something that was sent did not arrive. While probing that is no news: the next heartbeat asks again."""
        if self.replicating:
            self.probe(self.match + 1)

    def probe(self, next_index: int) -> None:
        """Stop pipelining and ask again from ``next_index``, never at or below what is known to match."""
        self.replicating = False
        self.probe_pending = False
        self.next = max(next_index, self.match + 1)
        self._in_flight.clear()
