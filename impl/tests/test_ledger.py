"""The ledger sees each kind of lie, and believes the truth."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from impl.chat.commands import Message, Messages, Posted, Rejected
from impl.tests.ledger import Ledger, Violation


def log(*txn_ids: str) -> Messages:
    """A chat's log: its creation, then one text for each transaction."""
    texts = [Message(seq, seq, "text", 1, txn_id, f"text of {txn_id}") for seq, txn_id in enumerate(txn_ids, 2)]
    return Messages((Message(1, 1, "create", 1, "t-chat", "tea"), *texts), as_of=1 + len(texts))


def posted(seq: int) -> Posted:
    return Posted(seq, seq, seq)


@pytest.fixture
def ledger() -> Ledger:
    """Three sends, ``a`` answered at 2, ``b`` not done, ``c`` unknown, and a read that shows ``a``."""
    ledger = Ledger()
    for txn_id in "abc":
        ledger.begin_send(txn_id, f"text of {txn_id}")
    ledger.end_send("a", posted(2))
    ledger.end_unknown("c")
    ledger.end_read(ledger.begin_read(), log("a"))
    return ledger


@pytest.mark.parametrize("final", [log("a"), log("a", "c")])
def test_the_truth_is_believed(ledger: Ledger, final: Messages) -> None:
    ledger.close(final.items)


def test_what_was_not_done_may_be_done_by_a_later_attempt(ledger: Ledger) -> None:
    ledger.end_send("b", posted(3))
    ledger.close(log("a", "b").items)


def shortened(ledger: Ledger) -> None:
    """A text that a read has shown is gone at the end."""
    ledger.end_read(0, log("a", "c"))
    ledger.close(log("a").items)


LIES: dict[str, Callable[[Ledger], None]] = {
    "lost": lambda ledger: ledger.close(log().items),
    "lost: the log has": shortened,
    "not done and done": lambda ledger: ledger.close(log("a", "b").items),
    "never sent": lambda ledger: ledger.close(log("a", "x").items),
    "one text, two positions": lambda ledger: ledger.close(log("a", "a").items),
    "one position, two texts": lambda ledger: ledger.end_send("c", posted(2)),
    "gap": lambda ledger: ledger.end_read(0, Messages(log("a").items[1:], 1)),
    "stale read": lambda ledger: ledger.end_read(ledger.begin_read(), log()),
    "as of": lambda ledger: ledger.end_read(0, Messages(log("a").items, 5)),
    "first answer": lambda ledger: ledger.end_send("a", posted(3)),
    "refused: the send": lambda ledger: ledger.end_send("c", Rejected("not-a-member", 1)),
    "refused: a read": lambda ledger: ledger.end_read(0, Rejected("not-a-member", 1)),
}


@pytest.mark.parametrize("rule", LIES)
def test_a_lie_is_seen(ledger: Ledger, rule: str) -> None:
    with pytest.raises(Violation, match=rule):
        LIES[rule](ledger)
