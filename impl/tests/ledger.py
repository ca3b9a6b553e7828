"""What clients of one chat were told, and whether it can all be true.

Theory of operation
-------------------
Every send has a transaction id of its own and a text that names it. The ledger is told of every request when it begins
and when it ends, and knows of one chat's log what replies have shown of it; positions never change, so each reply must
agree with all earlier ones:

- a position holds one text, and a text has one position;
- a read shows a log without gaps, and contains all that any reply had shown when the read began;
- nobody is refused what he may do, and a repetition gets the first answer.

At the end, ``close`` compares with the whole log: what was acknowledged is there, what was never sent is not, and of
what was only ever called *not done* there is no trace.

Raises ``Violation``, whose text begins with the name of the broken rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from impl.chat.commands import Message, Messages, Posted, Reply

FIRST_SEQ = 2
"""The first text's position: 1 is the creation of the chat."""


class Violation(AssertionError):
    """What clients were told, or what nodes said to each other, cannot be."""


@dataclass(slots=True)
class Sent:
    """All attempts of one transaction."""

    text: str
    posted: Posted | None = None
    unknown: bool = False  # of some attempt: it may be in the log


class Ledger:
    """One chat, written to by sends and read from its beginning."""

    def __init__(self) -> None:
        self.sent: dict[str, Sent] = {}
        self.length = FIRST_SEQ - 1  # of the log, as far as any reply has shown
        self.reads = 0
        self._at: dict[int, str] = {}  # position -> transaction
        self._position: dict[str, int] = {}

    def begin_send(self, txn_id: str, text: str) -> None:
        self.sent.setdefault(txn_id, Sent(text))

    def end_send(self, txn_id: str, reply: Reply) -> None:
        sent = self.sent[txn_id]
        if not isinstance(reply, Posted):
            raise Violation(f"refused: the send {txn_id} was told {reply}")
        if sent.posted not in (None, reply):
            raise Violation(f"first answer: {txn_id} was told {sent.posted} and then {reply}")
        sent.posted = reply
        self._agree(reply.seq, txn_id)

    def end_unknown(self, txn_id: str) -> None:
        self.sent[txn_id].unknown = True

    def begin_read(self) -> int:
        """How long a log the read that begins now has to show."""
        return self.length

    def end_read(self, floor: int, reply: Reply) -> None:
        if not isinstance(reply, Messages):
            raise Violation(f"refused: a read was told {reply}")
        if len(reply.items) < floor:
            raise Violation(f"stale read: it shows {len(reply.items)} messages, {floor} were known when it began")
        if reply.as_of != len(reply.items):
            raise Violation(f"as of: a read shows {len(reply.items)} messages as of {reply.as_of}")
        self.reads += 1
        self._show(reply.items)

    def close(self, log: Sequence[Message]) -> None:
        """The whole log, after everything has come to rest."""
        self._show(log)
        for txn_id, sent in self.sent.items():
            if sent.posted is not None and self._position.get(txn_id) != sent.posted.seq:
                raise Violation(f"lost: {txn_id} was told {sent.posted.seq}, is at {self._position.get(txn_id)}")
            if txn_id in self._position and sent.posted is None and not sent.unknown:
                raise Violation(f"not done and done: {txn_id} is at {self._position[txn_id]}")
        if len(log) != self.length:
            raise Violation(f"lost: the log has {len(log)} messages, {self.length} were shown before")

    def _show(self, items: Sequence[Message]) -> None:
        for seq, item in enumerate(items, 1):
            if item.seq != seq:
                raise Violation(f"gap: the message at {seq} says {item.seq}")
            if seq < FIRST_SEQ:
                continue
            sent = self.sent.get(item.txn_id)
            if sent is None or sent.text != item.text:
                raise Violation(f"never sent: {item.text!r} of {item.txn_id} at {seq}")
            self._agree(seq, item.txn_id)

    def _agree(self, seq: int, txn_id: str) -> None:
        if self._at.setdefault(seq, txn_id) != txn_id:
            raise Violation(f"one position, two texts: {seq} holds {self._at[seq]} and {txn_id}")
        if self._position.setdefault(txn_id, seq) != seq:
            raise Violation(f"one text, two positions: {txn_id} is at {self._position[txn_id]} and {seq}")
        self.length = max(self.length, seq)
