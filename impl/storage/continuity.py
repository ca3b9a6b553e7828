"""What may follow what in a log: one rule, asked before a record is written and again when it is read back.

Theory of operation
-------------------
``LogEnd`` is the little that has to be known of a log to judge the next record: the hard state, the last index, and
where each term begins (a log has few terms, so this stays small where the log is long). A record that breaks a rule
is a bug of the caller when it is about to be written, and damage when it is found on the disk; the rules are the same:

- the term of the hard state never goes back, and within a term a vote once given stays (Raft paper, figure 2);
- entries are dense: the first has an index from 1 to one past the end, the others follow it one by one;
- an entry's term is at least that of the entry before it (log matching, section 5.3). It may well be lower than the
  term of the entry it replaces: a new leader overwrites what an old one, of a later term than its entry, never
  committed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from impl.raft.messages import NOBODY, Entry, HardState


class Discontinuity(ValueError):
    """The record cannot follow; the message says which rule it breaks."""


class LogEnd:
    """The end of a log, moved on record by record."""

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.last_index = 0
        # Where each term begins: parallel lists, both ascending.
        self._run_indexes: list[int] = []
        self._run_terms: list[int] = []

    def term_at(self, index: int) -> int:
        """The term of the entry at ``index`` (at most ``last_index``); 0 at index 0."""
        run = bisect_right(self._run_indexes, index)
        return self._run_terms[run - 1] if run else 0

    def check(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Raise ``Discontinuity`` if such a record cannot follow."""
        if hard_state is not None:
            was = self.hard_state
            if hard_state.term < was.term:
                raise Discontinuity(f"the term goes back from {was.term} to {hard_state.term}")
            if hard_state.term == was.term and was.voted_for not in (NOBODY, hard_state.voted_for):
                raise Discontinuity(
                    f"the vote of term {was.term} changes from node {was.voted_for} to {hard_state.voted_for}"
                )
        if not entries:
            return
        expected_index = entries[0].index
        if not 1 <= expected_index <= self.last_index + 1:
            raise Discontinuity(f"entry {expected_index} cannot follow entry {self.last_index}")
        term = self.term_at(expected_index - 1)
        for entry in entries:
            if entry.index != expected_index:
                raise Discontinuity(f"entry {entry.index} stands where entry {expected_index} must")
            if entry.term < term or entry.term < 1:
                raise Discontinuity(f"entry {entry.index} is of term {entry.term}, the one before it of term {term}")
            term = entry.term
            expected_index += 1

    def follow(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Move past a record that ``check`` has passed; entries at or below ``last_index`` cut the suffix first."""
        if hard_state is not None:
            self.hard_state = hard_state
        if not entries:
            return
        kept = bisect_right(self._run_indexes, entries[0].index - 1)
        del self._run_indexes[kept:], self._run_terms[kept:]
        for entry in entries:
            if not self._run_terms or self._run_terms[-1] != entry.term:
                self._run_indexes.append(entry.index)
                self._run_terms.append(entry.term)
        self.last_index = entries[-1].index
