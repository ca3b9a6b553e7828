"""Writes on the node that leads: proposed to the core, answered when their entry has been applied.

Theory of operation
-------------------
A write is stamped, proposed, and waits until the entry at its index has been applied. If that entry has its term, the
state machine's reply is the answer; if it has another, the write is certainly lost. A change of leader overtakes all
writes that are in the log: they may yet be carried out, under the next leader.

A write whose time is up before the core has accepted it is withdrawn, and certainly not done. One that is in the log
when its time is up is *unknown*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import trio

from impl.chat.commands import Reply, Write, encode_command
from impl.chat.service import NotDone, OutcomeUnknown
from impl.chat.snowflake import Snowflakes
from impl.node.driver import Driver
from impl.node.slots import Overtaken, Slots, Tokens
from impl.raft.events import Accepted, Refused, Token
from impl.raft.messages import Base, Entry


class Writes:
    """Those in progress on this node."""

    def __init__(self, driver: Driver, tokens: Tokens, clock_ms: Callable[[], int], group: int = 0) -> None:
        self._driver = driver
        self._slots: Slots[Reply] = Slots(tokens)
        self._snowflakes = Snowflakes(clock_ms, group=group)
        self._in_log: set[Token] = set()  # from here on a write may be carried out whatever becomes of this node
        self._by_index: dict[int, tuple[int, Token]] = {}  # log index -> (term, token) of a write of this node

    async def write(self, command: Write, deadline: float) -> Reply:
        """Carry out a write. Raises ``NotDone``, ``OutcomeUnknown`` or ``Overtaken``."""
        stamped = msgspec.structs.replace(command, proposed_id=self._snowflakes.next())
        with self._slots.open() as slot:
            self._driver.propose(slot.token, encode_command(stamped))
            try:
                with trio.move_on_at(deadline):
                    return await slot.wait()
                if slot.token in self._in_log:
                    raise OutcomeUnknown("the write is in the leader's log, not committed in time: it may be, later")
            finally:
                if slot.token in self._in_log:
                    self._in_log.remove(slot.token)
                else:
                    self._driver.withdraw(slot.token)
        raise NotDone("overloaded", "the write did not reach the leader's log in time")

    def answer(self, token: Token, reply: Reply) -> None:
        """Answer one write, if it still waits."""
        self._slots.put(token, reply)

    # --- what the core and the state machine say ---------------------------------------------------------------------

    def accepted(self, accepted: Accepted) -> None:
        if self._slots.get(accepted.token) is not None:
            self._in_log.add(accepted.token)
            self._by_index[accepted.index] = (accepted.term, accepted.token)

    def refused(self, refused: Refused) -> bool:
        """Whether the refusal was of a write."""
        return self._slots.put(refused.token, NotDone(refused.reason, f"the leader refused it: {refused.reason}"))

    def overtake(self) -> None:
        """There is another leader, or none."""
        for token in self._in_log:
            self._slots.put(token, Overtaken())

    def applied(self, entries: Sequence[Entry], replies: Sequence[Reply | None]) -> None:
        """Answer whoever waits for these entries."""
        for entry, reply in zip(entries, replies, strict=True):
            if entry.index in self._by_index:
                self._resolve(entry, reply)

    def _resolve(self, entry: Entry, reply: Reply | None) -> None:
        term, token = self._by_index.pop(entry.index)
        if term == entry.term and reply is not None:
            self._slots.put(token, reply)
        else:
            self._slots.put(token, NotDone("lost-leadership", "another leader's entry took its place in the log"))

    def restored(self, base: Base) -> None:
        """Entries up to the base are applied and their replies unknown: whoever waits must ask again."""
        for index in [index for index in self._by_index if index <= base.index]:
            _, token = self._by_index.pop(index)
            self._slots.put(token, Overtaken())
