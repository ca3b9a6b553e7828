"""Logs for the tests of the chat state machine: entries by hand, and long random ones from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec

from impl.chat.commands import CreateChat, CreateUser, Join, Leave, Send, Write, encode_command
from impl.chat.logical_state import RETENTION_MS
from impl.chat.snowflake import TIME_SHIFT
from impl.chat.state_machine import ChatStateMachine
from impl.raft.messages import Entry


def stamp(time_ms: int) -> int:
    """A stamp that shows this log time."""
    return time_ms << TIME_SHIFT


def entries_of(commands: Iterable[Write | None], after: int = 0, term: int = 1) -> list[Entry]:
    """Entries from index ``after + 1``; None stands for a no-op."""
    return [
        Entry(index, term, b"" if command is None else encode_command(command))
        for index, command in enumerate(commands, start=after + 1)
    ]


def random_log(seed: int, length: int) -> list[Entry]:
    """A log over few users, chats and transactions, with repetitions and a pause or two beyond the retention.

    The ids in it are those that the log itself gives out: it is grown on a state machine in memory.
    """
    chance = random.Random(seed)
    machine = ChatStateMachine.open(":memory:")
    users, chats = [0], [0]
    now_ms = 1_000
    log: list[Entry] = []
    written: list[Write] = []
    for index in range(1, length + 1):
        now_ms += RETENTION_MS if chance.random() < 0.02 else chance.choice((0, 0, 1, 7))
        actor, chat_id, txn_id = chance.choice(users), chance.choice(chats[-3:]), f"t{chance.randrange(12)}"
        proposed_id = stamp(now_ms - chance.choice((0, 0, 3)))
        command: Write | None = chance.choice(
            (
                None,
                CreateUser(txn_id, f"user-{chance.randrange(9)}", proposed_id),
                CreateChat(actor, txn_id, "chat", proposed_id),
                Join(actor, chat_id, txn_id, proposed_id),
                Leave(actor, chat_id, txn_id, proposed_id),
                *(Send(actor, chat_id, txn_id, text, proposed_id) for text in ("one", "two", "three")),
            )
        )
        if written and chance.random() < 0.15:
            command = msgspec.structs.replace(chance.choice(written[-5:]), proposed_id=proposed_id)
        if command is not None:
            written.append(command)
        entry = Entry(index, 1 + index // 20, b"" if command is None else encode_command(command))
        machine.apply([entry])
        log.append(entry)
        users = [0, *(row[0] for row in machine.database.conn.execute("SELECT user_id FROM users"))]
        chats = [0, *(row[0] for row in machine.database.conn.execute("SELECT chat_id FROM chats ORDER BY chat_id"))]
    machine.close()
    return log
