"""The replicated log as one node has it in memory, and how much of it is on its disk.

Theory of operation
-------------------
Entries are dense from 1. ``last`` is the end of the log in memory; ``stable`` is the end of the part that is known to
be durable here, and only that part may be acknowledged, counted or applied. Between the two are batches that were
handed to the driver and not yet reported back.

Reports are matched with what they were about. When a suffix is replaced while an older version of it is still being
written, the report of the older write says nothing about the new entries, not even where an entry of the same index
and term came back later (the write in between could still be lost): replacing therefore shortens what every open
batch may confirm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from impl.raft.messages import Entry


class RaftLog:
    """Entries 1..last, of which 1..stable are durable."""

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self._entries: list[Entry] = list(entries)
        self.stable = len(self._entries)
        self._open: deque[tuple[int, int]] = deque()  # (sequence of the batch, last index that it confirms)

    @property
    def last_index(self) -> int:
        return len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else 0

    def term_at(self, index: int) -> int | None:
        """The term of the entry at ``index``; 0 at index 0; None past the end."""
        if index == 0:
            return 0
        return self._entries[index - 1].term if index <= len(self._entries) else None

    def slice(self, first: int, last: int) -> tuple[Entry, ...]:
        """Entries first..last, both included; empty where first > last."""
        return tuple(self._entries[max(first, 1) - 1 : max(last, 0)])

    def matches(self, index: int, term: int) -> bool:
        """The consistency check of AppendEntries: is there an entry with this index and term?"""
        return self.term_at(index) == term

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as up-to-date as this one (section 5.4.1: term first, then length)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def append(self, entries: Sequence[Entry]) -> None:
        """Put dense entries at the end, after cutting what stands at or after the first of them."""
        if not entries:
            return
        first = entries[0].index
        if not 1 <= first <= self.last_index + 1:
            raise AssertionError(f"append at {first} would leave a gap after {self.last_index}")
        if first <= self.last_index:
            del self._entries[first - 1 :]
            self.stable = min(self.stable, first - 1)
            self._open = deque((sequence, min(last, first - 1)) for sequence, last in self._open)
        self._entries.extend(entries)

    def writing(self, sequence: int) -> None:
        """The log as it is now has been handed over to be persisted as batch ``sequence``."""
        self._open.append((sequence, self.last_index))

    def persisted(self, sequence: int) -> None:
        """Batch ``sequence`` and all before it are durable."""
        while self._open and self._open[0][0] <= sequence:
            _, last = self._open.popleft()
            self.stable = max(self.stable, last)

    def agreement_before(self, index: int, term: int) -> int:
        """The greatest index <= ``index`` whose entry has a term <= ``term``: where two logs may still agree.

        Both sides of a rejected append use it, so that a conflict costs one round trip per *term* of difference and
        not one per entry (section 5.3, the optimisation at its end).
        """
        index = min(index, self.last_index)
        while index > 0 and self._entries[index - 1].term > term:
            index -= 1
        return index
