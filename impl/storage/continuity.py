"""What may follow what in a log: one rule, asked before a record is written and again when it is read back.

Theory of operation
-------------------
``LogEnd`` is the little that has to be known of a log to judge the next record: the hard state, the base, the last
index, and where each term begins (a log has few terms, so this stays small where the log is long). A record that
breaks a rule is a bug of the caller when it is about to be written, and damage when it is found on the disk; the rules
are the same:

- the term of the hard state never goes back, and within a term a vote once given stays (Raft paper, figure 2);
- a base is never behind the one before it, neither in index nor in term. If the log holds an entry of its index and
  term, what stands behind that stays; else all entries go (section 7, receiver's rules 6 and 7 of InstallSnapshot);
- entries are dense: the first has an index from one past the base to one past the end, the others follow it one by
  one;
- an entry's term is at least that of the entry before it (log matching, section 5.3). It may well be lower than the
  term of the entry it replaces: a new leader overwrites what an old one, of a later term than its entry, never
  committed.

A log that is read back from a segment in its middle begins with a *gap*: between its base and that segment there were
entries whose terms nobody knows any more. There the rules that need a term are not checked; the record itself says
whether its base found its entry.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from impl.raft.messages import NOBODY, Base, Entry, HardState


class Discontinuity(ValueError):
    """The record cannot follow; the message says which rule it breaks."""


def _of_one_term(entries: Sequence[Entry]) -> bool:
    """Whether they follow each other one by one in one term: nearly all batches do, and this is much quicker than to
    go through them in steps."""
    first = entries[0]
    return [entry.index for entry in entries] == list(range(first.index, first.index + len(entries))) and [
        entry.term for entry in entries
    ].count(first.term) == len(entries)


class LogEnd:
    """The end of a log, moved on record by record. By default that of an empty one."""

    def __init__(
        self, hard_state: HardState | None = None, base: Base | None = None, last_index: int = 0, last_term: int = 0
    ) -> None:
        self.hard_state = hard_state or HardState()
        self.base = base
        self.last_index = last_index
        # Where each term begins, behind the base and the gap: parallel lists, both ascending.
        self._run_indexes: list[int] = []
        self._run_terms: list[int] = []
        if last_index > self.base_index:
            self._run_indexes.append(last_index)
            self._run_terms.append(last_term)

    @property
    def base_index(self) -> int:
        return self.base.index if self.base is not None else 0

    @property
    def base_term(self) -> int:
        return self.base.term if self.base is not None else 0

    @property
    def last_term(self) -> int:
        return self._run_terms[-1] if self._run_terms else self.base_term

    def term_at(self, index: int) -> int | None:
        """The term of the entry at ``index``, from that of the base to ``last_index``; None in a gap."""
        if index == self.base_index:
            return self.base_term
        run = bisect_right(self._run_indexes, index)
        return self._run_terms[run - 1] if run else None

    def drops(self, base: Base) -> bool | None:
        """Whether all entries go when this base comes; None in a gap: only the record knows."""
        if base.index > self.last_index:
            return True
        term = self.term_at(base.index)
        return None if term is None else term != base.term

    def check(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        base: Base | None = None,
        *,
        drops: bool = False,
    ) -> None:
        """Raise ``Discontinuity`` if such a record cannot follow."""
        if base is not None:
            self._check_base(base, drops=drops)
        if hard_state is not None:
            was = self.hard_state
            if hard_state.term < was.term:
                raise Discontinuity(f"the term goes back from {was.term} to {hard_state.term}")
            if hard_state.term == was.term and was.voted_for not in (NOBODY, hard_state.voted_for):
                raise Discontinuity(
                    f"the vote of term {was.term} changes from node {was.voted_for} to {hard_state.voted_for}"
                )
        if entries:
            self._check_entries(entries, base, drops=drops)

    def _check_base(self, base: Base, *, drops: bool) -> None:
        if base.index < self.base_index:
            raise Discontinuity(f"the base goes back from {self.base_index} to {base.index}")
        if base.term < self.base_term:
            raise Discontinuity(f"the term of the base goes back from {self.base_term} to {base.term}")
        if not 0 <= base.configuration_index <= base.index:
            raise Discontinuity(f"the configuration of the base at {base.index} is from {base.configuration_index}")
        if base.index == self.base_index and base.term != self.base_term:
            raise Discontinuity(
                f"the base at {base.index} is of term {self.base_term} and of term {base.term}, which cannot both be"
            )
        if self.drops(base) is not None and self.drops(base) != drops:
            raise Discontinuity(
                f"the record says that the log {'does not hold' if drops else 'holds'} entry {base.index} of term "
                f"{base.term}, and that is not so"
            )

    def _check_entries(self, entries: Sequence[Entry], base: Base | None, *, drops: bool) -> None:
        base_index = self.base_index if base is None else base.index
        last_index = base_index if base is not None and drops else self.last_index
        first = entries[0].index
        if not 1 <= first <= last_index + 1:
            raise Discontinuity(f"entry {first} cannot follow entry {last_index}")
        if first <= base_index:
            raise Discontinuity(f"entry {first} is not behind the base at {base_index}")
        if base is not None and first == base_index + 1:
            term: int | None = base.term
        else:
            term = self.term_at(first - 1)
        if term is None:
            term = self.base_term  # no entry behind the base is of an earlier one
        if entries[0].term >= max(term, 1) and _of_one_term(entries):
            return
        expected_index = first
        for entry in entries:
            if entry.index != expected_index:
                raise Discontinuity(f"entry {entry.index} stands where entry {expected_index} must")
            if entry.term < term or entry.term < 1:
                raise Discontinuity(f"entry {entry.index} is of term {entry.term}, the one before it of term {term}")
            term = entry.term
            expected_index += 1

    def follow(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        base: Base | None = None,
        *,
        drops: bool = False,
    ) -> None:
        """Move past a record that ``check`` has passed; entries at or below ``last_index`` cut the suffix first."""
        if base is not None:
            self._follow_base(base, drops=drops)
        if hard_state is not None:
            self.hard_state = hard_state
        if not entries:
            return
        kept = bisect_right(self._run_indexes, entries[0].index - 1)
        del self._run_indexes[kept:], self._run_terms[kept:]
        if not (self._run_terms and self._run_terms[-1] == entries[0].term == entries[-1].term):
            for entry in entries:
                if not self._run_terms or self._run_terms[-1] != entry.term:
                    self._run_indexes.append(entry.index)
                    self._run_terms.append(entry.term)
        self.last_index = entries[-1].index

    def _follow_base(self, base: Base, *, drops: bool) -> None:
        if drops:
            self._run_indexes.clear()
            self._run_terms.clear()
            self.last_index = base.index
        else:
            gone = bisect_right(self._run_indexes, base.index)
            if gone and self.last_index > base.index:  # the last run that begins before the base goes on behind it
                gone -= 1
                if gone + 1 == len(self._run_indexes) or self._run_indexes[gone + 1] > base.index + 1:
                    self._run_indexes[gone] = base.index + 1
                else:
                    gone += 1
            del self._run_indexes[:gone], self._run_terms[:gone]
        self.base = base
