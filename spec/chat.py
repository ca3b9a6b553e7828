"""The chat service as one sequential object: what every client may see, and nothing about how.

Theory of operation
-------------------
The service is a *directory* of users and a set of *chats*. A chat is an append-only log of messages with dense
sequence numbers 1, 2, 3 ... Everything that changes a chat is a message of that log: message 1 is its creation
(kind ``create``), joining and leaving are messages (``join``, ``leave``), and what people write is a message
(``text``). The state of a chat is therefore a function of the length of its log, and that length is what every
reply about the chat carries as ``as_of``, rejections included. A client finds gaps by comparing integers, and a
checker knows at which instant of the log each reply was decided.

``apply(state, command)`` is the whole specification. It is total: a command that cannot be carried out is answered
``Rejected(reason, as_of)`` and changes nothing but the table of answers.

*Transactions.* Each writing command carries a transaction id chosen by the client. The first answer to it is kept,
and the same command with the same id gets that answer again without any effect: a client whose reply was lost may
retry for as long as it likes. The same id with another body is rejected (``transaction-reused``). Ids are scoped: by
actor and chat for commands on a chat, by actor for the creation of a chat, by username for the creation of a user.
Answers expire by log time, ``RETENTION_MS`` after they were given.

*Stamps.* The service's only sources of non-determinism, the clock and the generation of ids, enter as data: the
leader stamps each writing command with ``proposed_id``, a Snowflake id whose upper bits are milliseconds. The id
given out is ``max(last id + 1, proposed_id)``, so that ids grow in the order of the log whatever the clocks do, and
log time is the time inside the ids.

Values are NamedTuples, tuples and frozensets: hashable, comparable, and open to symbolic execution.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

TIME_SHIFT = 22
"""Snowflake ids: the milliseconds stand above 10 bits of group and 12 bits of sequence."""

RETENTION_MS = 24 * 60 * 60 * 1000
"""How long, in log time, the first answer to a transaction is remembered: longer than any client retries."""

NEW_CHATS = "chats"
"""The scope of transactions that create a chat: no chat id, whatever ids clients make up."""


# --- what a chat is made of ------------------------------------------------------------------------------------


class Message(NamedTuple):
    """One entry of a chat's log. ``seq`` is dense from 1; ``message_id`` is unique, and grows with seq."""

    seq: int
    message_id: int
    kind: str  # "create", "join", "leave" or "text"
    author: int  # user id
    txn_id: str
    text: str  # the chat's name in "create", empty in "join" and "leave"


class User(NamedTuple):
    user_id: int
    username: str


class Chat(NamedTuple):
    chat_id: int
    name: str
    messages: tuple[Message, ...]
    members: frozenset[int]  # user ids

    @property
    def as_of(self) -> int:
        """The length of the log: the sequence number of the last message."""
        return len(self.messages)


class Answer(NamedTuple):
    """The first answer to a transaction, and the command it answered, for as long as it is remembered."""

    scope: tuple[int | str, ...]
    command: Write
    reply: Reply
    time_ms: int


class State(NamedTuple):
    users: tuple[User, ...] = ()
    chats: tuple[Chat, ...] = ()
    answers: tuple[Answer, ...] = ()  # in the order of time_ms
    last_id: int = 0  # the greatest id given out
    time_ms: int = 0  # log time: the greatest time that a stamp has shown


# --- what a client may ask -------------------------------------------------------------------------------------


class CreateUser(NamedTuple):
    txn_id: str
    username: str
    proposed_id: int = 0


class CreateChat(NamedTuple):
    actor: int
    txn_id: str
    name: str
    proposed_id: int = 0


class Join(NamedTuple):
    actor: int
    chat_id: int
    txn_id: str
    proposed_id: int = 0


class Leave(NamedTuple):
    actor: int
    chat_id: int
    txn_id: str
    proposed_id: int = 0


class Send(NamedTuple):
    actor: int
    chat_id: int
    txn_id: str
    text: str
    proposed_id: int = 0


class ReadMessages(NamedTuple):
    """The messages with ``seq > after``, the oldest first, at most ``limit`` of them."""

    actor: int
    chat_id: int
    after: int
    limit: int


class ListMembers(NamedTuple):
    actor: int
    chat_id: int


class ListChats(NamedTuple):
    """The chats of which the actor is a member."""

    actor: int


Write: TypeAlias = CreateUser | CreateChat | Join | Leave | Send
Query: TypeAlias = ReadMessages | ListMembers | ListChats
Command: TypeAlias = Write | Query


# --- what it may be told ---------------------------------------------------------------------------------------


class UserCreated(NamedTuple):
    user_id: int
    as_of: int  # of the directory: users so far


class ChatCreated(NamedTuple):
    chat_id: int
    as_of: int  # always 1: the creation is the chat's first message


class Posted(NamedTuple):
    """A message was appended: the reply to send, and to a join or leave that changed something."""

    seq: int
    message_id: int
    as_of: int  # always seq


class Unchanged(NamedTuple):
    """A join by a member or a leave by somebody who is none: the wish was already true."""

    as_of: int


class Messages(NamedTuple):
    items: tuple[Message, ...]
    as_of: int


class Members(NamedTuple):
    user_ids: tuple[int, ...]  # ascending
    as_of: int


class ChatSummary(NamedTuple):
    chat_id: int
    name: str
    as_of: int  # of that chat


class Chats(NamedTuple):
    items: tuple[ChatSummary, ...]  # ascending by chat id
    as_of: int  # of the directory


class Rejected(NamedTuple):
    """Refused, for good: the command had no effect and, under this transaction id, never will."""

    reason: str  # one of REASONS
    as_of: int


REASONS = ("unknown-user", "unknown-chat", "username-taken", "not-a-member", "transaction-reused")

Reply: TypeAlias = UserCreated | ChatCreated | Posted | Unchanged | Messages | Members | Chats | Rejected


# --- the specification -----------------------------------------------------------------------------------------


def initial() -> State:
    """No users, no chats."""
    return State()


def apply(state: State, command: Command) -> tuple[State, Reply]:
    """Carry out one command. Total and pure; a query returns the state it was given."""
    if isinstance(command, ReadMessages | ListMembers | ListChats):
        return state, query(state, command)

    scope = scope_of(command)
    state = advance(state, command.proposed_id >> TIME_SHIFT)
    first = next((a for a in state.answers if a.scope == scope), None)
    if first is not None:
        # Tuples of different types may be equal: a join and a leave with the same fields are.
        if type(first.command) is not type(command) or first.command != body_of(command):
            return state, Rejected("transaction-reused", as_of_subject(state, command))
        return state, first.reply

    state, reply = write(state, command, max(state.last_id + 1, command.proposed_id))
    answer = Answer(scope, body_of(command), reply, state.time_ms)
    return state._replace(answers=(*state.answers, answer)), reply


def write(state: State, command: Write, new_id: int) -> tuple[State, Reply]:
    """Carry out a writing command that was not answered before."""
    if isinstance(command, CreateUser):
        if any(u.username == command.username for u in state.users):
            return state, Rejected("username-taken", len(state.users))
        users = (*state.users, User(new_id, command.username))
        return state._replace(users=users, last_id=new_id), UserCreated(new_id, len(users))

    if isinstance(command, CreateChat):
        if not user_exists(state, command.actor):
            return state, Rejected("unknown-user", len(state.users))
        creation = Message(1, new_id, "create", command.actor, command.txn_id, command.name)
        chat = Chat(new_id, command.name, (creation,), frozenset({command.actor}))
        return state._replace(chats=(*state.chats, chat), last_id=new_id), ChatCreated(new_id, 1)

    refusal = refuse(state, command.actor, command.chat_id)
    if refusal is not None:
        return state, refusal
    chat = chat_of(state, command.chat_id)
    is_member = command.actor in chat.members

    if isinstance(command, Send):
        if not is_member:
            return state, Rejected("not-a-member", chat.as_of)
        return post(state, chat, new_id, "text", command, command.text, chat.members)
    if isinstance(command, Join):
        if is_member:
            return state, Unchanged(chat.as_of)
        return post(state, chat, new_id, "join", command, "", chat.members | {command.actor})
    if not is_member:
        return state, Unchanged(chat.as_of)
    return post(state, chat, new_id, "leave", command, "", chat.members - {command.actor})


def post(
    state: State,
    chat: Chat,
    new_id: int,
    kind: str,
    command: Join | Leave | Send,
    text: str,
    members: frozenset[int],
) -> tuple[State, Reply]:
    """Append one message to a chat."""
    message = Message(chat.as_of + 1, new_id, kind, command.actor, command.txn_id, text)
    grown = chat._replace(messages=(*chat.messages, message), members=members)
    chats = tuple(grown if c.chat_id == chat.chat_id else c for c in state.chats)
    return state._replace(chats=chats, last_id=new_id), Posted(message.seq, new_id, message.seq)


def query(state: State, command: Query) -> Reply:
    """Answer a question; nothing changes."""
    if isinstance(command, ListChats):
        if not user_exists(state, command.actor):
            return Rejected("unknown-user", len(state.users))
        mine = (ChatSummary(c.chat_id, c.name, c.as_of) for c in state.chats if command.actor in c.members)
        return Chats(tuple(sorted(mine)), len(state.users))

    refusal = refuse(state, command.actor, command.chat_id)
    if refusal is not None:
        return refusal
    chat = chat_of(state, command.chat_id)
    if command.actor not in chat.members:
        return Rejected("not-a-member", chat.as_of)
    if isinstance(command, ListMembers):
        return Members(tuple(sorted(chat.members)), chat.as_of)
    start = max(command.after, 0)
    return Messages(chat.messages[start : start + max(command.limit, 0)], chat.as_of)


# --- its parts -------------------------------------------------------------------------------------------------


def user_exists(state: State, user_id: int) -> bool:
    return any(u.user_id == user_id for u in state.users)


def chat_of(state: State, chat_id: int) -> Chat:
    """The chat with this id, or an empty one that stands for a chat that does not exist (``as_of`` 0)."""
    for chat in state.chats:
        if chat.chat_id == chat_id:
            return chat
    return Chat(0, "", (), frozenset())


def refuse(state: State, actor: int, chat_id: int) -> Rejected | None:
    """Why a command on a chat cannot even be considered, or None."""
    chat = chat_of(state, chat_id)
    if not user_exists(state, actor):
        return Rejected("unknown-user", chat.as_of)
    if chat.as_of == 0:
        return Rejected("unknown-chat", 0)
    return None


def scope_of(command: Write) -> tuple[int | str, ...]:
    """Where the command's transaction id counts: two commands share an id only within one scope."""
    if isinstance(command, CreateUser):
        return ("user", command.username, command.txn_id)
    if isinstance(command, CreateChat):
        return (NEW_CHATS, command.actor, command.txn_id)
    return (command.chat_id, command.actor, command.txn_id)


def body_of(command: Write) -> Write:
    """The command as the client meant it: without the stamp, which differs between attempts."""
    return command._replace(proposed_id=0)


def as_of_subject(state: State, command: Write) -> int:
    """The sequence number of what the command is about: its chat, or the directory."""
    if isinstance(command, CreateUser | CreateChat):
        return len(state.users)
    return chat_of(state, command.chat_id).as_of


def advance(state: State, time_ms: int) -> State:
    """Move log time forward, never back, and drop the answers that it leaves too far behind."""
    now_ms = max(state.time_ms, time_ms)
    kept = tuple(a for a in state.answers if a.time_ms >= now_ms - RETENTION_MS)
    return state._replace(time_ms=now_ms, answers=kept)
