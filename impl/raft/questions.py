"""A follower's questions to its leader: from where on may I serve reads?

Theory of operation
-------------------
Dissertation 6.4: a follower that wants to serve a linearizable read asks the leader for a read index and waits until
it has applied that far. One question is under way at a time; reads that arrive meanwhile share the next. A read may
only be answered by a question that was asked *after* it arrived, so every question has a number of its own, and a
process that starts again draws another ``run_id``: no late answer fits.

Whatever happens to the question, its reads end: answered, refused by the leader, given up after an election timeout,
or dropped with the leader that was asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from impl.raft.events import Token
from impl.raft.settings import Settings


class Questions:
    """The reads of one follower that wait for its leader."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_ticks = settings.election_ticks
        self._max_pending = settings.max_pending_reads
        self._context = 0
        self._asked: list[Token] = []
        self._next: list[Token] = []
        self._ticks = 0  # since the question that is under way was asked

    @property
    def pending(self) -> int:
        return len(self._asked) + len(self._next)

    def add(self, tokens: Sequence[Token]) -> Sequence[Token]:
        """Take reads in; returns those for which there is no room."""
        room = max(self._max_pending - self.pending, 0)
        self._next.extend(tokens[:room])
        return tokens[room:]

    def begin(self) -> int | None:
        """The number of a new question for all that wait; None if one is under way, or nothing waits."""
        if self._asked or not self._next:
            return None
        self._asked, self._next = self._next, []
        self._context += 1
        self._ticks = 0
        return self._context

    def answered(self, context: int) -> list[Token]:
        """The reads that this answer is for: none, unless it answers the question that is under way."""
        if context != self._context:
            return []
        tokens, self._asked = self._asked, []
        return tokens

    def tick(self) -> list[Token]:
        """Time passes; returns the reads that have waited too long."""
        if not self.pending:
            return []
        self._ticks += 1
        return self.drop() if self._ticks >= self._timeout_ticks else []

    def drop(self) -> list[Token]:
        """Give up; returns all reads. The answer, if it still comes, is nobody's."""
        tokens = self._asked + self._next
        self._asked, self._next = [], []
        self._ticks = 0
        return tokens
