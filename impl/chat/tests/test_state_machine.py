"""The chat state machine by itself: replies, retries, order of entries, and what it refuses.

That it means what the specification says is checked elsewhere, in lockstep with the specification.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator

import pytest

from impl.chat.commands import (
    ChatCreated,
    Chats,
    ChatSummary,
    CreateChat,
    CreateUser,
    Join,
    Leave,
    ListChats,
    ListMembers,
    Members,
    Message,
    Messages,
    Posted,
    ReadMessages,
    Rejected,
    Reply,
    Send,
    Unchanged,
    UserCreated,
    Write,
    encode_command,
)
from impl.chat.logical_state import RETENTION_MS
from impl.chat.snowflake import ID_MAX
from impl.chat.state_machine import (
    PURGED_PER_ENTRY,
    ChatStateMachine,
    OutOfOrder,
    StateMachineStatistics,
    UnusableEntry,
)
from impl.chat.tests.logs import entries_of, stamp
from impl.raft.messages import Entry

ANN, BOB, CHAT = stamp(1), stamp(2), stamp(3)


@pytest.fixture
def machine() -> Iterator[ChatStateMachine]:
    """In memory, with Ann's chat, of which Bob is no member: applied up to entry 3."""
    machine = ChatStateMachine.open(":memory:")
    machine.apply(
        entries_of([CreateUser("t", "ann", ANN), CreateUser("t", "bob", BOB), CreateChat(ANN, "t", "tea", CHAT)])
    )
    yield machine
    machine.close()


def told(machine: ChatStateMachine, *commands: Write) -> list[Reply | None]:
    return machine.apply(entries_of(commands, after=machine.applied_index))


def test_a_new_machine_has_applied_nothing() -> None:
    machine = ChatStateMachine.open(":memory:")
    assert (machine.applied_index, machine.applied_term, machine.last_id) == (0, 0, 0)
    machine.close()


def test_an_afternoon_in_a_chat(machine: ChatStateMachine) -> None:
    assert told(
        machine,
        Join(BOB, CHAT, "j", stamp(4)),
        Send(BOB, CHAT, "s", "hello", stamp(5)),
        Join(BOB, CHAT, "j2", stamp(6)),
        Leave(BOB, CHAT, "l", stamp(7)),
        Leave(BOB, CHAT, "l2", stamp(8)),
        Send(BOB, CHAT, "s2", "still there?", stamp(9)),
    ) == [
        Posted(2, stamp(4), 2),
        Posted(3, stamp(5), 3),
        Unchanged(3),
        Posted(4, stamp(7), 4),
        Unchanged(4),
        Rejected("not-a-member", 4),
    ]
    assert machine.query(ReadMessages(ANN, CHAT, 1, 2)) == Messages(
        (Message(2, stamp(4), "join", BOB, "j", ""), Message(3, stamp(5), "text", BOB, "s", "hello")), 4
    )
    assert machine.query(ListMembers(ANN, CHAT)) == Members((ANN,), 4)
    assert machine.query(ListChats(ANN)) == Chats((ChatSummary(CHAT, "tea", 4),), 2)
    assert machine.query(ListChats(BOB)) == Chats((), 2)


def test_replies_to_creations() -> None:
    machine = ChatStateMachine.open(":memory:")
    assert told(
        machine, CreateUser("t", "ann", ANN), CreateUser("t2", "ann", BOB), CreateChat(ANN, "t", "tea", CHAT)
    ) == [UserCreated(ANN, 1), Rejected("username-taken", 1), ChatCreated(CHAT, 1)]
    machine.close()


def test_a_retry_gets_the_first_answer_and_has_no_effect(machine: ChatStateMachine) -> None:
    (first,) = told(machine, Send(ANN, CHAT, "s", "once", stamp(4)))
    before = machine.query(ReadMessages(ANN, CHAT, 0, 10))
    again = told(machine, Send(ANN, CHAT, "s", "once", stamp(5)), Send(ANN, CHAT, "s", "once", stamp(6)))
    assert again == [first, first]
    assert machine.query(ReadMessages(ANN, CHAT, 0, 10)) == before


def test_a_rejection_is_a_first_answer_too(machine: ChatStateMachine) -> None:
    send = Send(BOB, CHAT, "s", "let me in", stamp(4))
    assert told(machine, send, Join(BOB, CHAT, "j", stamp(5)), send) == [
        Rejected("not-a-member", 1),
        Posted(2, stamp(5), 2),
        Rejected("not-a-member", 1),
    ]


def test_a_transaction_id_cannot_be_used_for_something_else(machine: ChatStateMachine) -> None:
    replies = told(machine, Send(ANN, CHAT, "s", "one", stamp(4)), Send(ANN, CHAT, "s", "two", stamp(5)))
    assert replies == [Posted(2, stamp(4), 2), Rejected("transaction-reused", 2)]


def test_a_leave_is_not_a_retry_of_a_join(machine: ChatStateMachine) -> None:
    assert told(machine, Join(BOB, CHAT, "m", stamp(4)), Leave(BOB, CHAT, "m", stamp(5))) == [
        Posted(2, stamp(4), 2),
        Rejected("transaction-reused", 2),
    ]


def test_answers_expire_by_log_time_and_not_before(machine: ChatStateMachine) -> None:
    send = Send(ANN, CHAT, "s", "tick", stamp(10))
    at_the_edge = Send(ANN, CHAT, "s", "tick", stamp(10 + RETENTION_MS))
    beyond = Send(ANN, CHAT, "s", "tick", stamp(10 + RETENTION_MS + 1))
    assert told(machine, send, at_the_edge, beyond) == [
        Posted(2, stamp(10), 2),
        Posted(2, stamp(10), 2),
        Posted(3, stamp(10 + RETENTION_MS + 1), 3),
    ]


def test_expired_answers_are_deleted_a_few_at_a_time(machine: ChatStateMachine) -> None:
    count = 20
    told(machine, *(Send(ANN, CHAT, f"s{n}", "night", stamp(10)) for n in range(count)))

    def rows() -> int:
        (number,) = machine.database.conn.execute("SELECT count(*) FROM answers").fetchone()
        return int(number)

    before = rows()
    told(machine, Send(ANN, CHAT, "morning", "day", stamp(11 + RETENTION_MS)))
    assert rows() == before + 1 - PURGED_PER_ENTRY
    machine.apply(entries_of([None] * count, after=machine.applied_index))
    assert rows() == 1


def test_ids_grow_although_the_clock_does_not(machine: ChatStateMachine) -> None:
    assert told(machine, Send(ANN, CHAT, "a", "late", stamp(9)), Send(ANN, CHAT, "b", "early", stamp(1))) == [
        Posted(2, stamp(9), 2),
        Posted(3, stamp(9) + 1, 3),
    ]
    assert machine.last_id == stamp(9) + 1


@pytest.mark.parametrize("unknown", [0, -1, 7, 2**63, 2**64 - 1, -(2**63)])
def test_an_id_that_nobody_was_given_is_unknown_however_large(machine: ChatStateMachine, unknown: int) -> None:
    assert told(
        machine, Send(unknown, CHAT, "s", "", 0), Join(ANN, unknown, "s", 0), CreateChat(unknown, "u", "", 0)
    ) == [
        Rejected("unknown-user", 1),
        Rejected("unknown-chat", 0),
        Rejected("unknown-user", 2),
    ]
    assert machine.query(ListMembers(unknown, unknown)) == Rejected("unknown-user", 0)
    assert machine.query(ListChats(unknown)) == Rejected("unknown-user", 2)
    assert machine.query(ReadMessages(ANN, CHAT, unknown, unknown)).as_of == 1


def test_text_is_kept_to_the_letter(machine: ChatStateMachine) -> None:
    text = "a\x00b \N{GRINNING FACE} 'quoted' -- \N{COMBINING ACUTE ACCENT}"
    told(machine, Send(ANN, CHAT, "s", text, stamp(4)))
    reply = machine.query(ReadMessages(ANN, CHAT, 1, 1))
    assert isinstance(reply, Messages)
    assert reply.items[0].text == text


# --- the log ---------------------------------------------------------------------------------------------------


def test_a_no_op_moves_the_applied_index_and_says_nothing(machine: ChatStateMachine) -> None:
    assert machine.apply([Entry(4, 7, b"")]) == [None]
    assert (machine.applied_index, machine.applied_term) == (4, 7)


def test_an_empty_batch_is_nothing(machine: ChatStateMachine) -> None:
    digest = machine.digest()
    assert machine.apply([]) == []
    assert machine.digest() == digest


@pytest.mark.parametrize(
    ("entries", "advice"),
    [
        ([Entry(5, 1, b"")], "pass entry 4 first"),
        ([Entry(4, 1, b""), Entry(6, 1, b"")], "pass entry 5 first"),
        ([Entry(3, 1, b"")], "pass each entry once"),
        ([Entry(4, 1, b""), Entry(4, 1, b"")], "pass each entry once"),
        ([Entry(4, 0, b"")], "terms never go back"),
        ([Entry(4, 2, b""), Entry(5, 1, b"")], "terms never go back"),
    ],
)
def test_entries_out_of_order_are_refused(machine: ChatStateMachine, entries: list[Entry], advice: str) -> None:
    digest = machine.digest()
    with pytest.raises(OutOfOrder, match=advice):
        machine.apply(entries)
    assert machine.digest() == digest


@pytest.mark.parametrize(
    "payload",
    [
        b"\x02",  # a later schema version
        b"\x01",
        b"\x01\xff",
        b"\x01\x93\x63\x01\x02",  # a command of a kind that is not known
        b"\x01\x95\x05\x01\x02\xa1t\xa2\xff\xfe",  # text that is not UTF-8
        b"\x01" + b"\x91" * 5_000,
        encode_command(ListChats(ANN)),
    ],
    ids=["schema", "empty", "no-msgpack", "unknown-kind", "no-utf8", "nested", "query"],
)
def test_an_entry_that_is_not_understood_stops_the_node(machine: ChatStateMachine, payload: bytes) -> None:
    digest = machine.digest()
    with pytest.raises(UnusableEntry, match=r"log entry 5 of term 1 .* upgrade this node"):
        machine.apply([*entries_of([Send(ANN, CHAT, "s", "before", stamp(4))], after=3), Entry(5, 1, payload)])
    assert machine.digest() == digest
    assert machine.applied_index == 3


def test_a_stamp_beyond_the_last_id_stops_the_node(machine: ChatStateMachine) -> None:
    with pytest.raises(UnusableEntry, match="broken clock"):
        told(machine, Send(ANN, CHAT, "s", "", ID_MAX + 1))
    assert told(machine, Send(ANN, CHAT, "s", "", ID_MAX)) == [Posted(2, ID_MAX, 2)]
    with pytest.raises(UnusableEntry, match="ids end at"):
        told(machine, Send(ANN, CHAT, "s2", "", stamp(4)))


class BreaksAtTheSecondSend(ChatStateMachine):
    """A disk that fills up in the middle of a batch."""

    sends = 0

    def _send(self, *arguments: object) -> Reply:
        self.sends += 1
        if self.sends == 2:
            raise sqlite3.OperationalError("database or disk is full")
        return super()._send(*arguments)  # type: ignore[arg-type]


def test_a_batch_that_fails_leaves_nothing_behind(machine: ChatStateMachine) -> None:
    broken = BreaksAtTheSecondSend(machine.database)
    digest, statistics = broken.digest(), broken.statistics()
    batch = entries_of([Send(ANN, CHAT, f"s{n}", "text", stamp(4 + n)) for n in range(3)], after=3)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        broken.apply(batch)
    assert broken.digest() == digest
    assert broken.statistics() == statistics
    assert not machine.database.conn.in_transaction
    assert machine.apply(batch) == [Posted(2 + n, stamp(4 + n), 2 + n) for n in range(3)]


# --- around it -------------------------------------------------------------------------------------------------


def test_statistics_count_what_was_applied(machine: ChatStateMachine) -> None:
    send = Send(ANN, CHAT, "s", "hello", stamp(4))
    told(machine, send, send, Send(BOB, CHAT, "s", "hello", stamp(5)))
    statistics = machine.statistics()
    assert statistics == StateMachineStatistics(
        applied_index=6,
        applied_term=1,
        last_id=stamp(4),
        time_ms=5,
        users=2,
        batches=2,
        entries=6,
        repeated_answers=1,
        rejections=1,
        snapshots=0,
        snapshots_abandoned=0,
        installs=0,
        open_snapshots=0,
        durable_index=0,
        wal_bytes=0,
        database_bytes=statistics.database_bytes,
    )
    assert statistics.database_bytes > 0


def test_calls_may_come_from_any_one_thread(machine: ChatStateMachine) -> None:
    replies: list[Reply | None] = []
    thread = threading.Thread(target=lambda: replies.extend(told(machine, Send(ANN, CHAT, "s", "hi", stamp(4)))))
    thread.start()
    thread.join()
    assert replies == [Posted(2, stamp(4), 2)]


def test_the_planted_bug_no_dedupe_is_one_method(machine: ChatStateMachine) -> None:
    class NoDedupe(ChatStateMachine):
        def first_answer(self, scope: bytes, horizon_ms: int) -> None:
            return None

    planted = NoDedupe(machine.database)
    send = Send(ANN, CHAT, "s", "twice", stamp(4))
    assert told(planted, send, send) == [Posted(2, stamp(4), 2), Posted(3, stamp(4) + 1, 3)]
