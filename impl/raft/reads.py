"""The reads that wait for a leader to be sure that it still is one.

Theory of operation
-------------------
Dissertation 6.4. A read is given the commit index of its moment, and is released once a quorum has answered a round
that was begun after it arrived; until an entry of the leader's own term is committed, the commit index may be behind,
and reads wait for that first. Rounds are numbered by the leader, so an answer can only confirm what came before the
append that it answers. One round for reads is under way at a time, and those that arrive meanwhile share the next.

A *lease* is a confirmed round that is young enough: for ``lease_ms`` from its beginning no quorum votes for anybody
else, if clocks keep to the bound stated in ``Settings``. Asking another member to take over breaks that promise, so
from then on there is no lease in this term; nor while the group changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from impl.raft.events import Token
from impl.raft.messages import ReadIndex

Reader: TypeAlias = Token | ReadIndex
"""Who waits: a client of this node, or the question of a follower."""


@dataclass(slots=True)
class _Batch:
    """Reads that wait for the same confirmation of leadership."""

    round: int
    index: int
    readers: list[Reader]


class PendingReads:
    """The reads of one leader in one term."""

    def __init__(self, max_pending: int) -> None:
        self._max_pending = max_pending
        self._before_commit: list[Reader] = []  # wait for an entry of this term to commit
        self._next_round: list[Reader] = []  # wait for the round in flight to end
        self._in_round: deque[_Batch] = deque()
        self._round_starts: deque[tuple[int, int]] = deque()  # (round, clock in ms): not confirmed yet
        self._lease_from_ms: int | None = None  # the beginning of the newest confirmed round
        self._lease_allowed = True

    @property
    def pending(self) -> int:
        return len(self._before_commit) + len(self._next_round) + sum(len(batch.readers) for batch in self._in_round)

    @property
    def lease_allowed(self) -> bool:
        """Whether there may still be a lease in this term."""
        return self._lease_allowed

    @property
    def awaits_round(self) -> bool:
        """Reads wait for a round, and none is under way for others."""
        return bool(self._next_round) and not self._in_round

    def take(self, readers: Sequence[Reader], *, committed: bool) -> Sequence[Reader]:
        """Let these wait, for a round or, before the term has ``committed`` an entry, for that. Returns those for which
        there is no room."""
        room = max(self._max_pending - self.pending, 0)
        (self._next_round if committed else self._before_commit).extend(readers[:room])
        return readers[room:]

    def committed(self) -> None:
        """An entry of this term is committed: the commit index is as new as any."""
        self._next_round += self._before_commit
        self._before_commit = []

    def begin_round(self, number: int, commit_index: int, now_ms: int) -> None:
        """A round begins: it is for all that wait."""
        self._round_starts.append((number, now_ms))
        if self._next_round:
            self._in_round.append(_Batch(number, commit_index, self._next_round))
            self._next_round = []

    def confirmed(self, number: int) -> list[tuple[Reader, int]]:
        """A quorum has answered round ``number`` or a later one. Returns who may read at which index."""
        while self._round_starts and self._round_starts[0][0] <= number:
            self._lease_from_ms = self._round_starts.popleft()[1]
        released: list[tuple[Reader, int]] = []
        while self._in_round and self._in_round[0].round <= number:
            batch = self._in_round.popleft()
            released.extend((reader, batch.index) for reader in batch.readers)
        return released

    def has_lease(self, now_ms: int, lease_ms: int) -> bool:
        return self._lease_allowed and self._lease_from_ms is not None and 0 <= now_ms - self._lease_from_ms < lease_ms

    def forget_lease(self, *, for_good: bool) -> None:
        """What is confirmed so far is no lease; ``for_good``: nothing in this term is."""
        self._lease_from_ms = None
        self._round_starts.clear()
        self._lease_allowed = self._lease_allowed and not for_good

    def drop(self) -> Iterable[Reader]:
        """All that wait, which nobody will answer."""
        yield from self._before_commit
        yield from self._next_round
        for batch in self._in_round:
            yield from batch.readers
