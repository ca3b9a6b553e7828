"""Queries, answered by this node from its own state, whoever leads.

Theory of operation
-------------------
How recent the state must be is the caller's choice (``impl.chat.service.Consistency``):

*linearizable*: the core gives a read index, at a follower by asking the leader, and the query waits until this node
has applied it (dissertation 6.4). *lease*: the same, but a leader that holds a lease gives the index at once, by the
clock. *stale*: the state as it is; nobody is asked.

A read that the core cannot confirm is refused and certainly not done. Queries have no effect and are never unknown.
"""

from __future__ import annotations

import trio

from impl.chat.commands import Query, Reply
from impl.chat.service import Consistency, NotDone
from impl.node.applying import Applying
from impl.node.driver import Driver
from impl.node.slots import Slots, Tokens
from impl.raft.events import ReadReady, Refused

AS_IT_IS = 0
"""The read index of a query that any state may answer."""


class Reads:
    """Those in progress on this node."""

    def __init__(self, driver: Driver, applying: Applying, tokens: Tokens) -> None:
        self._driver = driver
        self._applying = applying
        self._slots: Slots[int] = Slots(tokens)

    async def query(self, query: Query, consistency: Consistency, deadline: float) -> Reply:
        """Answer a query. Raises ``NotDone``."""
        with trio.move_on_at(deadline):
            index = AS_IT_IS if consistency == "stale" else await self.read_index(lease=consistency == "lease")
            return await self._applying.query(query, index)
        raise NotDone("read-timeout", "the read could not be confirmed in time: this node may be cut off")

    async def read_index(self, *, lease: bool = False) -> int:
        """An index such that a state which has applied it is recent enough for a read that begins now.

        Raises ``NotDone`` where that cannot be confirmed.
        """
        with self._slots.open() as slot:
            self._driver.read(slot.token, lease=lease)
            return await slot.wait()

    # --- what the core says ------------------------------------------------------------------------------------------

    def ready(self, ready: ReadReady) -> None:
        self._slots.put(ready.token, ready.index)

    def refused(self, refused: Refused) -> bool:
        """Whether the refusal was of a read."""
        return self._slots.put(refused.token, NotDone(refused.reason, f"the read was refused: {refused.reason}"))
