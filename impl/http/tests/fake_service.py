"""A chat service in memory that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable

import trio

from impl.chat import commands
from impl.chat.commands import Command, Reply
from impl.chat.service import NodeStatus

STATUS = NodeStatus(
    cluster="test",
    node_id=2,
    incarnation="first",
    role="follower",
    term=7,
    leader_id=3,
    leader_url="http://127.0.0.1:8103",
    commit_index=12,
    applied_index=11,
    last_index=13,
    peers={2: "http://127.0.0.1:8102", 3: "http://127.0.0.1:8103"},
)

MESSAGE_ID = 1 << 22  # one millisecond after the epoch of ids

MESSAGES = (
    commands.Message(1, MESSAGE_ID, "create", 7, "t1", "a chat"),
    commands.Message(2, MESSAGE_ID + 1, "text", 7, "t2", "hello"),
)


def default_reply(command: Command) -> Reply:
    """A reply of the right type for each command."""
    match command:
        case commands.CreateUser():
            return commands.UserCreated(7, 1)
        case commands.CreateChat():
            return commands.ChatCreated(9, 1)
        case commands.Leave():
            return commands.Unchanged(4)
        case commands.ReadMessages():
            return commands.Messages(MESSAGES, 5)
        case commands.ListMembers():
            return commands.Members((7, 8), 5)
        case commands.ListChats():
            return commands.Chats((commands.ChatSummary(9, "a chat", 5),), 1)
        case _:
            return commands.Posted(5, MESSAGE_ID, 5)


class FakeService:
    """Implements ``ChatService``."""

    def __init__(self, answer: Callable[[Command], Reply] = default_reply, *, takes_s: float = 0.0) -> None:
        self.answer = answer
        self.takes_s = takes_s
        self.current = STATUS
        self.commands: list[Command] = []
        self.timeouts_s: list[float] = []

    def raises(self, error: Exception) -> None:
        def fail(command: Command) -> Reply:
            raise error

        self.answer = fail

    async def execute(self, command: Command, *, timeout_s: float) -> Reply:
        self.commands.append(command)
        self.timeouts_s.append(timeout_s)
        if self.takes_s:
            await trio.sleep(self.takes_s)
        return self.answer(command)

    def status(self) -> NodeStatus:
        return self.current
