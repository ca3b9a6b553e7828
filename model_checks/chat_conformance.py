"""Does the chat state machine do what ``spec.chat`` says? Both run side by side and are compared at every step.

Theory of operation
-------------------
Commands are written in the words of the specification (NamedTuples), translated into the structs of the
implementation, encoded into log entries as a leader would, and given to both sides. After each entry the replies are
compared, and on request the whole logical state: users, chats with their logs and members, remembered answers, the
last id and log time.

The translation is by position. The two vocabularies have the same names and the same fields in the same order, and
that is asserted when this module is imported: a field added on one side only is found here first.

NamedTuples of different types are equal when their fields are (``Members((), 1) == Chats((), 1)``), so every
comparison of replies goes through ``same``, which looks at the types as well.

Answers are compared by scope and digest of the body, since the database keeps no more of the command than that;
expired answers whose rows still wait to be deleted are not part of the logical state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from impl.chat import commands as impl
from impl.chat.logical_state import RETENTION_MS
from impl.chat.state_machine import ChatStateMachine, body_of, scope_of
from impl.raft.messages import Entry
from spec import chat as spec

NO_OP = None
"""In a batch: the empty entry with which a leader opens its term."""

Step: TypeAlias = spec.Write | None

IMPL_COMMANDS: dict[type[spec.Command], type[impl.Command]] = {
    spec.CreateUser: impl.CreateUser,
    spec.CreateChat: impl.CreateChat,
    spec.Join: impl.Join,
    spec.Leave: impl.Leave,
    spec.Send: impl.Send,
    spec.ReadMessages: impl.ReadMessages,
    spec.ListMembers: impl.ListMembers,
    spec.ListChats: impl.ListChats,
}

IMPL_REPLIES: dict[type[spec.Reply], type[impl.Reply]] = {
    spec.UserCreated: impl.UserCreated,
    spec.ChatCreated: impl.ChatCreated,
    spec.Posted: impl.Posted,
    spec.Unchanged: impl.Unchanged,
    spec.Messages: impl.Messages,
    spec.Members: impl.Members,
    spec.Chats: impl.Chats,
    spec.Rejected: impl.Rejected,
}

SPEC_REPLIES: dict[type[impl.Reply], type[spec.Reply]] = {theirs: ours for ours, theirs in IMPL_REPLIES.items()}


def _assert_same_vocabulary() -> None:
    pairs: list[tuple[type, type]] = [
        *IMPL_COMMANDS.items(),
        *IMPL_REPLIES.items(),
        (spec.Message, impl.Message),
        (spec.ChatSummary, impl.ChatSummary),
    ]
    for ours, theirs in pairs:
        ours_fields, theirs_fields = tuple(ours.__annotations__), tuple(theirs.__annotations__)
        assert ours_fields == theirs_fields, (
            f"{ours.__name__} has the fields {ours_fields} in spec.chat and {theirs_fields} in "
            "impl.chat.commands: give both the same, in the same order"
        )
    assert spec.REASONS == impl.REASONS
    assert spec.RETENTION_MS == RETENTION_MS


_assert_same_vocabulary()


class Divergence(AssertionError):
    """Specification and implementation disagree; the message shows where, and what each says."""


def same(ours: object, theirs: object) -> bool:
    """Equal in type and value."""
    return type(ours) is type(theirs) and ours == theirs


# --- translation -----------------------------------------------------------------------------------------------


def to_impl(command: spec.Command) -> impl.Command:
    """A command of the specification as the struct that goes into the log."""
    return IMPL_COMMANDS[type(command)](*command)


def to_spec(reply: impl.Reply) -> spec.Reply:
    """A reply of the state machine in the words of the specification."""
    if isinstance(reply, impl.Messages):
        return spec.Messages(tuple(message_to_spec(item) for item in reply.items), reply.as_of)
    if isinstance(reply, impl.Chats):
        items = tuple(spec.ChatSummary(item.chat_id, item.name, item.as_of) for item in reply.items)
        return spec.Chats(items, reply.as_of)
    kind = SPEC_REPLIES[type(reply)]
    values = [getattr(reply, field) for field in reply.__struct_fields__]
    return kind(*values)


def message_to_spec(message: impl.Message) -> spec.Message:
    return spec.Message(message.seq, message.message_id, message.kind, message.author, message.txn_id, message.text)


# --- logical states --------------------------------------------------------------------------------------------


class LogicalAnswer(NamedTuple):
    scope: bytes
    body: bytes
    reply_kind: str  # because NamedTuples of different types may be equal
    reply: spec.Reply
    time_ms: int


class LogicalState(NamedTuple):
    """What both sides can say about their state."""

    users: tuple[spec.User, ...]
    chats: tuple[spec.Chat, ...]
    answers: tuple[LogicalAnswer, ...]
    last_id: int
    time_ms: int


def specified_state(state: spec.State) -> LogicalState:
    """The logical state as the specification has it."""
    answers = []
    for answer in state.answers:
        command = to_impl(answer.command)
        assert isinstance(command, impl.Write)
        kind = type(answer.reply).__name__
        answers.append(LogicalAnswer(scope_of(command), body_of(command), kind, answer.reply, answer.time_ms))
    return LogicalState(state.users, state.chats, tuple(answers), state.last_id, state.time_ms)


def implemented_state(machine: ChatStateMachine) -> LogicalState:
    """The logical state as it stands in the database; reads every row."""
    connection = machine.database.conn
    users = tuple(spec.User(*row) for row in connection.execute("SELECT user_id, username FROM users ORDER BY user_id"))
    chats = []
    for chat_id, name in connection.execute("SELECT chat_id, name FROM chats ORDER BY chat_id").fetchall():
        messages = connection.execute(
            "SELECT seq, message_id, kind, author, txn_id, text FROM messages WHERE chat_id = ? ORDER BY message_id",
            (chat_id,),
        )
        members = connection.execute("SELECT user_id FROM members WHERE chat_id = ?", (chat_id,))
        log = tuple(spec.Message(*row) for row in messages)
        chats.append(spec.Chat(chat_id, name, log, frozenset(user_id for (user_id,) in members)))
    ((last_id, time_ms),) = connection.execute("SELECT last_id, time_ms FROM progress").fetchall()
    answers = []
    for scope, body, encoded, answered_ms in connection.execute(
        "SELECT scope, body, reply, time_ms FROM answers WHERE time_ms >= ? ORDER BY log_index",
        (time_ms - RETENTION_MS,),
    ):
        reply = to_spec(impl.decode_reply(encoded))
        answers.append(LogicalAnswer(scope, body, type(reply).__name__, reply, answered_ms))
    return LogicalState(users, tuple(chats), tuple(answers), last_id, time_ms)


# --- lockstep --------------------------------------------------------------------------------------------------


class Lockstep:
    """One specification and one state machine that are given the same log.

    The machine must be new. ``machine`` may be replaced by another one on the same file: a reopened database must
    go on where the old one stopped.
    """

    def __init__(self, machine: ChatStateMachine) -> None:
        self.machine = machine
        self.state = spec.initial()
        self.last_index = machine.applied_index
        self.term = 1
        self.agrees = True
        """Whether the last comparison came out well; after a divergence both sides are of no more use."""
        assert self.last_index == 0, "lockstep begins with an empty database"

    def apply(self, steps: Sequence[Step]) -> list[spec.Reply | None]:
        """Give both sides one batch of entries. A no-op begins a new term. Raises ``Divergence``."""
        self.agrees = False
        entries = [self._entry(step) for step in steps]
        replies = self.machine.apply(entries)
        if len(replies) != len(entries):
            raise Divergence(f"{len(entries)} entries were applied, {len(replies)} replies came back")
        expected: list[spec.Reply | None] = []
        for step, entry, reply in zip(steps, entries, replies, strict=True):
            wanted: spec.Reply | None = None
            if step is not None:
                self.state, wanted = spec.apply(self.state, step)
            self._compare(f"entry {entry.index}, {step}", wanted, None if reply is None else to_spec(reply))
            expected.append(wanted)
        self._compare("the applied index", self.last_index, self.machine.applied_index)
        self.agrees = True
        return expected

    def ask(self, query: spec.Query) -> spec.Reply:
        """Put one question to both sides. Raises ``Divergence``."""
        command = to_impl(query)
        assert isinstance(command, impl.Query)
        wanted = spec.query(self.state, query)
        self._compare(str(query), wanted, to_spec(self.machine.query(command)))
        return wanted

    def compare_states(self) -> None:
        """Compare all that either side knows. Raises ``Divergence`` naming the first part that differs."""
        wanted, found = specified_state(self.state), implemented_state(self.machine)
        for field in LogicalState._fields:
            self._compare(f"{field} after entry {self.last_index}", getattr(wanted, field), getattr(found, field))

    def _entry(self, step: Step) -> Entry:
        self.last_index += 1
        if step is None:
            self.term += 1
            return Entry(self.last_index, self.term, b"")
        return Entry(self.last_index, self.term, impl.encode_command(to_impl(step)))

    def _compare(self, what: str, wanted: object, found: object) -> None:
        if not same(wanted, found):
            self.agrees = False
            if type(wanted) is tuple and type(found) is tuple:
                at = next((n for n, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), None)
                at = min(len(wanted), len(found)) if at is None else at
                what, wanted, found = f"{what}, number {at}", wanted[at : at + 1], found[at : at + 1]
            raise Divergence(f"{what}:\n  the specification says {wanted}\n  the state machine says {found}")
