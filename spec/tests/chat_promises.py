"""What the specification of the chat service promises, as functions of one step; and random programs to hold them to.

A program is a list of commands in symbols (the second user, the first chat), so that it always makes sense. ``run``
carries it out and checks every promise after every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from spec import chat as spec
from spec.chat import (
    RETENTION_MS,
    TIME_SHIFT,
    ChatCreated,
    Chats,
    ChatSummary,
    Command,
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
    State,
    Unchanged,
    Write,
    initial,
)

EXAMPLES = settings(
    derandomize=True, database=None, deadline=None, max_examples=250, suppress_health_check=list(HealthCheck)
)
NAMES = ("ann", "bob", "cid")
TEXTS = ("one", "two")
TXN_IDS = ("t1", "t2", "t3")
UNKNOWN_ID = 1
LAST_SLOT = 4
FIRST_STAMP_MS = 100


class Symbol(NamedTuple):
    """One step of a program; each kind of command takes what it needs from it."""

    kind: str
    actor: int
    chat: int
    txn_id: str
    text: str
    pause_ms: int


KINDS = (
    "create_user",
    "create_chat",
    "join",
    "join",
    "leave",
    "send",
    "send",
    "send",
    "repeat",
    "read_messages",
    "list_members",
    "list_chats",
)
symbols = st.builds(
    Symbol,
    st.sampled_from(KINDS),
    st.integers(0, LAST_SLOT),
    st.integers(0, LAST_SLOT),
    st.sampled_from(TXN_IDS),
    st.sampled_from(TEXTS + NAMES),
    st.sampled_from((0, 0, 0, 1, 1, -2, RETENTION_MS // 3, RETENTION_MS)),
)
programs = st.lists(symbols, min_size=4, max_size=30)
OPENING = (
    Symbol("create_user", 0, 0, "t1", "ann", 0),
    Symbol("create_user", 0, 0, "t1", "bob", 0),
    Symbol("create_chat", 0, 0, "t1", "tea", 0),
)


class Step(NamedTuple):
    """One command carried out."""

    before: State
    command: Command
    reply: Reply
    after: State


def some_id(ids: tuple[int, ...], slot: int) -> int:
    """Mostly one that was given out."""
    return UNKNOWN_ID if slot == LAST_SLOT or not ids else ids[slot % len(ids)]


def command_of(symbol: Symbol, state: State, written: list[Write], now_ms: int) -> Command:
    """The symbol as a command in this state."""
    actor = some_id(tuple(u.user_id for u in state.users), symbol.actor)
    chat_id = some_id(tuple(c.chat_id for c in state.chats), symbol.chat)
    proposed_id = now_ms << TIME_SHIFT
    if symbol.kind == "create_user":
        return CreateUser(symbol.txn_id, symbol.text, proposed_id)
    if symbol.kind == "create_chat":
        return CreateChat(actor, symbol.txn_id, symbol.text, proposed_id)
    if symbol.kind == "join":
        return Join(actor, chat_id, symbol.txn_id, proposed_id)
    if symbol.kind == "leave":
        return Leave(actor, chat_id, symbol.txn_id, proposed_id)
    if symbol.kind == "repeat" and written:
        return written[-1 - symbol.actor % len(written)]._replace(proposed_id=proposed_id)
    if symbol.kind == "read_messages":
        return ReadMessages(actor, chat_id, symbol.chat - 1, symbol.chat)
    if symbol.kind == "list_members":
        return ListMembers(actor, chat_id)
    if symbol.kind == "list_chats":
        return ListChats(actor)
    return Send(actor, chat_id, symbol.txn_id, symbol.text, proposed_id)


def run(program: tuple[Symbol, ...], promises: tuple[Callable[[Step], None], ...]) -> list[Step]:
    """Carry out a program from the beginning and hold every step against the promises."""
    state, now_ms = initial(), FIRST_STAMP_MS
    written: list[Write] = []
    steps = []
    for symbol in program:
        now_ms = max(now_ms + symbol.pause_ms, 1)
        command = command_of(symbol, state, written, now_ms)
        after, reply = spec.apply(state, command)
        step = Step(state, command, reply, after)
        for promise in promises:
            promise(step)
        steps.append(step)
        state = after
        if isinstance(command, Write):
            written.append(command)
    return steps


def effects(state: State) -> tuple[object, ...]:
    """All of the state that a rejected or repeated command must leave alone."""
    return state.users, state.chats, state.last_id


def same(one: object, other: object) -> bool:
    """Equal in type and value: tuples of different types may be equal."""
    return type(one) is type(other) and one == other


def is_repeated(step: Step) -> bool:
    """Whether the reply was given before and only looked up."""
    if not isinstance(step.command, Write):
        return False
    scope = spec.scope_of(step.command)
    kept = [a for a in step.before.answers if a.scope == scope and a in step.after.answers]
    reused = isinstance(step.reply, Rejected) and step.reply.reason == "transaction-reused"
    return bool(kept) and not reused


# --- the promises ----------------------------------------------------------------------------------------------


def sequence_numbers_are_dense(step: Step) -> None:
    for chat in step.after.chats:
        assert [m.seq for m in chat.messages] == list(range(1, len(chat.messages) + 1))


def logs_only_grow(step: Step) -> None:
    for old in step.before.chats:
        new = spec.chat_of(step.after, old.chat_id)
        assert new.messages[: old.as_of] == old.messages
        assert new.as_of - old.as_of <= 1


def ids_are_unique_and_grow(step: Step) -> None:
    users = [u.user_id for u in step.after.users]
    messages = [m.message_id for c in step.after.chats for m in c.messages]
    assert len(set(users + messages)) == len(users + messages)
    assert all(0 < i <= step.after.last_id for i in users + messages)
    for chat in step.after.chats:
        ids = [m.message_id for m in chat.messages]
        assert ids == sorted(ids)
        assert chat.chat_id == ids[0]
    new = set(users + messages) - {u.user_id for u in step.before.users}
    new -= {m.message_id for c in step.before.chats for m in c.messages}
    assert all(i > step.before.last_id for i in new)


def as_of_is_the_length_of_the_log(step: Step) -> None:
    """For a reply that was decided now, rejections included; a repeated answer tells of the past."""
    command, reply = step.command, step.reply
    if isinstance(command, CreateUser | CreateChat | ListChats):
        length = len(step.after.users)
        if isinstance(reply, ChatCreated):
            length = 1
    else:
        length = spec.chat_of(step.after, command.chat_id).as_of
    if is_repeated(step):
        assert reply.as_of <= length
    else:
        assert reply.as_of == length


def membership_follows_from_the_log(step: Step) -> None:
    for chat in step.after.chats:
        members: set[int] = set()
        for message in chat.messages:
            if message.kind in ("create", "join"):
                assert message.author not in members
                members.add(message.author)
            else:
                assert message.author in members, "only members write and leave"
                if message.kind == "leave":
                    members.remove(message.author)
        assert chat.members == members


def a_rejection_has_no_effect(step: Step) -> None:
    if isinstance(step.reply, Rejected | Unchanged):
        assert effects(step.after) == effects(step.before)
    if isinstance(step.reply, Rejected):
        assert step.reply.reason in spec.REASONS


def a_query_changes_nothing(step: Step) -> None:
    if not isinstance(step.command, Write):
        assert step.after == step.before


def log_time_never_goes_back(step: Step) -> None:
    assert step.after.time_ms >= step.before.time_ms
    times = [a.time_ms for a in step.after.answers]
    assert times == sorted(times)
    assert all(step.after.time_ms - RETENTION_MS <= time_ms <= step.after.time_ms for time_ms in times)
    scopes = [a.scope for a in step.after.answers]
    assert len(set(scopes)) == len(scopes)


def a_retry_gets_the_first_answer(step: Step) -> None:
    """Every answer in the table, rejections included, is given again at any stamp that does not expire it."""
    for answer in step.after.answers:
        for stamp_ms in (0, step.after.time_ms, answer.time_ms + RETENTION_MS):
            retry = answer.command._replace(proposed_id=stamp_ms << TIME_SHIFT)
            state, reply = spec.apply(step.after, retry)
            assert (type(reply), reply) == (type(answer.reply), answer.reply)
            assert effects(state) == effects(step.after)
            assert answer in state.answers


def what_was_answered_is_remembered(step: Step) -> None:
    """Right after a writing command its answer stands in the table, unless the id belonged to another body."""
    if not isinstance(step.command, Write):
        return
    if isinstance(step.reply, Rejected) and step.reply.reason == "transaction-reused":
        first = [a for a in step.before.answers if a.scope == spec.scope_of(step.command)]
        assert first
        assert not same(first[0].command, step.command._replace(proposed_id=0))
        return
    given = [a for a in step.after.answers if a.scope == spec.scope_of(step.command)]
    assert [a.reply for a in given] == [step.reply]
    assert same(given[0].command, step.command._replace(proposed_id=0))


def a_write_says_what_it_did(step: Step) -> None:
    if not isinstance(step.reply, Posted) or effects(step.after) == effects(step.before):
        return
    assert isinstance(step.command, Join | Leave | Send)
    kind, text = {Join: ("join", ""), Leave: ("leave", ""), Send: ("text", getattr(step.command, "text", ""))}[
        type(step.command)
    ]
    assert spec.chat_of(step.after, step.command.chat_id).messages[-1] == Message(
        step.reply.seq, step.reply.message_id, kind, step.command.actor, step.command.txn_id, text
    )


def reads_show_the_log(step: Step) -> None:
    """``after`` and ``limit`` cut a piece out of the log; following the last seq reads all of it, each once."""
    for chat in step.after.chats:
        for reader in sorted(chat.members):
            for limit in (1, 2, chat.as_of + 1):
                seen: tuple[Message, ...] = ()
                while True:
                    after = seen[-1].seq if seen else 0
                    page = spec.query(step.after, ReadMessages(reader, chat.chat_id, after, limit))
                    assert isinstance(page, Messages)
                    assert page.as_of == chat.as_of
                    assert len(page.items) <= limit
                    if not page.items:
                        break
                    seen += page.items
                assert seen == chat.messages
            assert spec.query(step.after, ListMembers(reader, chat.chat_id)) == Members(
                tuple(sorted(chat.members)), chat.as_of
            )
    for user in step.after.users:
        mine = tuple(ChatSummary(c.chat_id, c.name, c.as_of) for c in step.after.chats if user.user_id in c.members)
        assert spec.query(step.after, ListChats(user.user_id)) == Chats(mine, len(step.after.users))


def values_are_pure_and_hashable(step: Step) -> None:
    assert hash(step.after) == hash(step.after._replace())
    assert hash(step.reply) is not None
    assert spec.apply(step.before, step.command) == (step.after, step.reply)


PROMISES = (
    sequence_numbers_are_dense,
    logs_only_grow,
    ids_are_unique_and_grow,
    as_of_is_the_length_of_the_log,
    membership_follows_from_the_log,
    a_rejection_has_no_effect,
    a_query_changes_nothing,
    log_time_never_goes_back,
    a_retry_gets_the_first_answer,
    what_was_answered_is_remembered,
    a_write_says_what_it_did,
    reads_show_the_log,
    values_are_pure_and_hashable,
)
