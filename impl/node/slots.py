"""Where the outcome of a request arrives, whoever brings it.

Theory of operation
-------------------
A request that waits for the core, for the log or for another node opens a slot and gives its token away. Whoever comes
to know how it ended puts the outcome in; the first counts, later ones are dropped. A slot is closed with its request,
so there are as many as there are requests in progress, and a late answer finds none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import trio

from impl.raft.events import Token

T = TypeVar("T")


class Overtaken(Exception):
    """The node that was to carry out a request has lost its leadership, or the link to it broke, before it answered."""


class Slot(Generic[T]):
    """Of one request."""

    __slots__ = ("_arrived", "_outcome", "token")

    def __init__(self, token: Token) -> None:
        self.token = token
        self._arrived = trio.Event()
        self._outcome: T | Exception | None = None

    @property
    def is_open(self) -> bool:
        """Nothing has arrived."""
        return self._outcome is None

    def put(self, outcome: T | Exception) -> None:
        """Bring the outcome, an exception to be raised or a value to be returned. The first one counts."""
        if self._outcome is None:
            self._outcome = outcome
            self._arrived.set()

    async def wait(self) -> T:
        """The outcome, once it is there."""
        await self._arrived.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome


class Tokens:
    """Names for everything that this node asks of its core or of other nodes, never used twice in its life."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> Token:
        self._last += 1
        return self._last


class Slots(Generic[T]):
    """The open slots of one kind of request."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._open: dict[Token, Slot[T]] = {}

    @contextmanager
    def open(self) -> Iterator[Slot[T]]:
        slot: Slot[T] = Slot(self._tokens.next())
        self._open[slot.token] = slot
        try:
            yield slot
        finally:
            del self._open[slot.token]

    def get(self, token: Token) -> Slot[T] | None:
        return self._open.get(token)

    def put(self, token: Token, outcome: T | Exception) -> bool:
        """Bring an outcome. False if nobody waits under this token."""
        slot = self._open.get(token)
        if slot is not None:
            slot.put(outcome)
        return slot is not None

    def __iter__(self) -> Iterator[Slot[T]]:
        return iter(self._open.values())

    def __len__(self) -> int:
        return len(self._open)
