"""The replicated log as one node has it in memory, and how much of it is on its disk.

Theory of operation
-------------------
Entries are dense from ``base.index + 1``; what stood before is gone, and ``base`` says what one has to know of it: the
term and the configuration at its end. ``last_index`` is the end of the log in memory; ``stable`` is the end of the
part that is known to be durable here, and only that part may be acknowledged, counted or applied. Between the two are
batches that were handed to the driver and not yet reported back.

Reports are matched with what they were about. When a suffix is replaced while an older version of it is still being
written, the report of the older write says nothing about the new entries, not even where an entry of the same index
and term came back later (the write in between could still be lost): replacing therefore shortens what every open
batch may confirm.

Three things are kept beside the entries so that nothing ever scans them: where each term begins (conflicts are
resolved term by term), the running total of payload bytes (so that sizes are differences and cannot leak), and the
configurations, the last of which is in force, committed or not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

from impl.raft.configuration import configuration_of
from impl.raft.messages import CONFIGURATION, Base, Configuration, Entry


class RaftLog:
    """Entries base.index + 1 .. last_index, of which those up to ``stable`` are durable."""

    def __init__(self, entries: Sequence[Entry] = (), base: Base | None = None) -> None:
        self.base = base or Base()
        self._entries: list[Entry] = []
        self._totals: list[int] = []  # payload bytes of all entries up to each, since the log was first made
        self._total_before = 0  # the same at the base
        self._term_starts: list[tuple[int, int]] = []  # (first index, term) of each run of entries of one term
        self._configurations: list[tuple[int, Configuration]] = []
        self._open: deque[tuple[int, int]] = deque()  # (sequence of the batch, last index that it confirms)
        self._reset(self.base)
        self._extend(entries)
        self.stable = self.last_index

    def _reset(self, base: Base) -> None:
        self.base = base
        self._entries = []
        self._totals = []
        self._term_starts = []
        self._configurations = [(base.configuration_index, base.configuration)]

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def last_index(self) -> int:
        return self.base.index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.base.term

    @property
    def configuration(self) -> Configuration:
        """The one in force: the latest in the log, committed or not (section 6)."""
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        return self._configurations[-1][0]

    def configurations_since(self, index: int) -> list[Configuration]:
        """The configuration in force at ``index``, and all that follow it in the log."""
        at = bisect_right(self._configurations, index, key=lambda found: found[0]) - 1
        return [configuration for _, configuration in self._configurations[max(at, 0) :]]

    @property
    def previous_configuration_index(self) -> int:
        """That of the one before; 0 where the log does not know another."""
        return self._configurations[-2][0] if len(self._configurations) > 1 else 0

    def term_at(self, index: int) -> int | None:
        """The term of the entry at ``index``, known from the base on; None before it and past the end."""
        position = index - self.base.index - 1
        if position == -1:
            return self.base.term
        return self._entries[position].term if 0 <= position < len(self._entries) else None

    def slice(self, first: int, last: int) -> tuple[Entry, ...]:
        """Entries first..last, both included, as far as they are here; empty where first > last."""
        offset = self.base.index + 1
        return tuple(self._entries[max(first - offset, 0) : max(last - offset + 1, 0)])

    def bytes_between(self, first: int, last: int) -> int:
        """Payload bytes of the entries first..last, as far as they are here."""
        return max(self._total_at(last) - self._total_at(first - 1), 0)

    def _total_at(self, index: int) -> int:
        position = min(index - self.base.index, len(self._entries)) - 1
        return self._totals[position] if position >= 0 else self._total_before

    def matches(self, index: int, term: int) -> bool:
        """The consistency check of AppendEntries: is there an entry with this index and term?"""
        return self.term_at(index) == term

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as up-to-date as this one (section 5.4.1: term first, then length)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def agreement_before(self, index: int, term: int) -> int:
        """The greatest index <= ``index`` whose entry has a term <= ``term``: where two logs may still agree.

        Both sides of a rejected append use it, so that a conflict costs one round trip per *term* of difference and
        not one per entry (section 5.3, the optimisation at its end). An answer before the base means: only a snapshot
        helps.
        """
        index = min(index, self.last_index)
        if index < self.base.index:
            return index
        run = bisect_right(self._term_starts, index, key=lambda start: start[0]) - 1
        while run >= 0 and self._term_starts[run][1] > term:
            index = self._term_starts[run][0] - 1
            run -= 1
        if index > self.base.index or self.base.term <= term:
            return index
        return max(self.base.index - 1, 0)

    def base_at(self, index: int) -> Base:
        """What would stand in for everything up to ``index``. Raises ``ValueError`` where that is not known."""
        term = self.term_at(index)
        if term is None:
            raise ValueError(f"the log holds {self.base.index} to {self.last_index}, not {index}")
        at = bisect_right(self._configurations, index, key=lambda found: found[0]) - 1
        return Base(index, term, self._configurations[at][1], self._configurations[at][0])

    # --- writing ---------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> bool:
        """Put dense entries at the end, after cutting what stands at or after the first of them.

        Returns whether that changed the configuration in force."""
        if not entries:
            return False
        first = entries[0].index
        if not self.base.index < first <= self.last_index + 1:
            raise AssertionError(f"append at {first} to a log that holds {self.base.index} to {self.last_index}")
        before = self.configuration_index
        cut = first <= self.last_index
        if cut:
            del self._entries[first - self.base.index - 1 :]
            del self._totals[first - self.base.index - 1 :]
            while self._term_starts and self._term_starts[-1][0] >= first:
                self._term_starts.pop()
            while self._configurations[-1][0] >= first:
                self._configurations.pop()
            self.stable = min(self.stable, first - 1)
            self._open = deque((sequence, min(last, first - 1)) for sequence, last in self._open)
        self._extend(entries)
        return self.configuration_index != before or (cut and before >= first)

    def _extend(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        totals = accumulate((len(entry.payload) for entry in entries), initial=self._total_at(self.last_index))
        next(totals)
        last_term = self.last_term if self._entries else None
        self._totals.extend(totals)
        self._entries.extend(entries)
        if entries[0].term != last_term or entries[-1].term != last_term:
            for entry in entries:
                if entry.term != last_term:
                    last_term = entry.term
                    self._term_starts.append((entry.index, entry.term))
        for entry in entries:
            if entry.kind == CONFIGURATION:
                found = configuration_of(entry)
                assert found is not None
                self._configurations.append((entry.index, found))

    def compact(self, index: int) -> Base:
        """Forget the entries up to ``index``, which must be durable here and be followed by nothing unknown. Returns
        the new base."""
        base = self.base_at(index)
        self._drop_before(base)
        return base

    def _drop_before(self, base: Base) -> None:
        count = base.index - self.base.index
        self._total_before = self._total_at(base.index)
        del self._entries[:count]
        del self._totals[:count]
        run = bisect_right(self._term_starts, base.index, key=lambda start: start[0]) - 1
        if run >= 0:
            kept = self._term_starts[run:]
            kept[0] = (base.index + 1, kept[0][1])
            if not self._entries or self._entries[0].term != kept[0][1]:
                kept.pop(0)
            self._term_starts = kept
        self._configurations = [(base.configuration_index, base.configuration)] + [
            found for found in self._configurations if found[0] > base.index
        ]
        self.base = base

    def install(self, base: Base) -> bool:
        """Begin after ``base``, which a leader's snapshot has brought. What stands behind an entry of that index and
        term stays; a log without one is dropped whole. Returns whether anything of it was kept."""
        kept = base.index > self.base.index and self.matches(base.index, base.term)
        if kept:
            self._drop_before(base)
            return True
        self._reset(base)
        self.stable = min(self.stable, base.index - 1)
        self._open = deque((sequence, min(last, base.index - 1)) for sequence, last in self._open)
        return False

    def writing(self, sequence: int) -> None:
        """The log as it is now has been handed over to be persisted as batch ``sequence``."""
        self._open.append((sequence, self.last_index))

    def persisted(self, sequence: int) -> None:
        """Batch ``sequence`` and all before it are durable."""
        while self._open and self._open[0][0] <= sequence:
            _, last = self._open.popleft()
            self.stable = max(self.stable, last)
