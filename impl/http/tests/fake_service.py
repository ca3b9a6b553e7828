"""A chat service in memory that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from impl.chat import commands
from impl.chat.commands import Command, Reply
from impl.chat.service import Consistency, NodeStatus, NotDone
from impl.cluster_service import BackupReader, BackupView, ClusterView, MemberView
from impl.raft.messages import Member

STATUS = NodeStatus(
    cluster="test",
    node_id=2,
    run_id="first",
    incarnation=2**62 + 1,  # no number that JavaScript can hold
    membership="voter",
    role="follower",
    term=7,
    leader_id=3,
    leader_url="http://127.0.0.1:8103",
    commit_index=12,
    applied_index=11,
    last_index=13,
    configuration_index=5,
    peer="127.0.0.1:9102",
    url="http://127.0.0.1:8102",
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
        self.consistencies: list[Consistency] = []

    def raises(self, error: Exception) -> None:
        def fail(command: Command) -> Reply:
            raise error

        self.answer = fail

    async def execute(self, command: Command, *, timeout_s: float, consistency: Consistency = "linearizable") -> Reply:
        self.commands.append(command)
        self.consistencies.append(consistency)
        self.timeouts_s.append(timeout_s)
        if self.takes_s:
            await trio.sleep(self.takes_s)
        return self.answer(command)

    def status(self) -> NodeStatus:
        return self.current


CLUSTER = ClusterView(
    cluster="test",
    configuration_index=5,
    changing=False,
    leader_id=3,
    term=7,
    commit_index=12,
    last_index=13,
    members=(
        MemberView(2, 2**62 + 1, "127.0.0.1:9102", "http://127.0.0.1:8102", "voter", 11, 2),
        MemberView(3, 1, "", "http://127.0.0.1:8103", "learner", 13, 0),
    ),
)


class FakeBackup:
    """A snapshot of known bytes."""

    def __init__(self, content: bytes, gone_at: int | None) -> None:
        self.view = BackupView("test", 12, len(content))
        self._content = content
        self._gone_at = gone_at

    async def read(self, offset: int, limit_bytes: int) -> bytes:
        if self._gone_at is not None and offset >= self._gone_at:
            raise NotDone("snapshot-gone", "it is gone")
        return self._content[offset : offset + limit_bytes]


class FakeCluster:
    """Implements ``ClusterService``."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.error: Exception | None = None
        self.content = b"snapshot " * 100_000
        self.gone_at: int | None = None

    def _note(self, asked: object) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error

    async def cluster(self, *, timeout_s: float) -> ClusterView:
        self._note("cluster")
        return CLUSTER

    async def reconfigure(
        self, expected_index: int, members: tuple[Member, ...], voters: tuple[int, ...], *, timeout_s: float
    ) -> int:
        self._note((expected_index, members, voters))
        return 15

    async def transfer(self, target: int, *, timeout_s: float) -> None:
        self._note(target)

    @asynccontextmanager
    async def backup(self, *, fresh: bool, timeout_s: float) -> AsyncIterator[BackupReader]:
        self._note(fresh)
        yield FakeBackup(self.content, self.gone_at)
