"""Client and server together: every command and every reply crosses HTTP unchanged."""

from __future__ import annotations

from functools import partial

import httpx2
import pytest
import trio

from impl.chat import commands
from impl.chat.commands import REASONS, Command, Rejected, Reply
from impl.chat.service import NotDone, OutcomeUnknown
from impl.client import errors
from impl.client.client import Client
from impl.http.app import create_app
from impl.http.server import serve
from impl.http.tests.fake_service import STATUS, FakeService

BIG = 2**63 - 1

EXCHANGES: list[tuple[Command, Reply]] = [
    (commands.CreateUser("t", "ann"), commands.UserCreated(BIG, 1)),
    (commands.CreateChat(BIG, "t", "a chat \N{SNOWMAN}"), commands.ChatCreated(BIG, 1)),
    (commands.Join(7, 9, "t"), commands.Posted(2, BIG, 2)),
    (commands.Join(7, 9, "t"), commands.Unchanged(2)),
    (commands.Leave(7, 9, "t"), commands.Posted(3, BIG, 3)),
    (commands.Leave(7, 9, "t"), commands.Unchanged(3)),
    (commands.Send(7, 9, "t", "hello"), commands.Posted(4, BIG, 4)),
    (commands.Send(7, 9, "t", '\0\N{GRINNING FACE}\u2028"\\</script>'), commands.Posted(4, BIG, 4)),
    (commands.ReadMessages(7, 9, 3, 250), commands.Messages((), 3)),
    (
        commands.ReadMessages(7, 9, 0, 2),
        commands.Messages(
            (
                commands.Message(1, 1, "create", 7, "t", "name"),
                commands.Message(2, BIG, "text", BIG, "!~", "\0\N{GRINNING FACE}"),
            ),
            9,
        ),
    ),
    (commands.ListMembers(7, 9), commands.Members((1, 7, BIG), 5)),
    (commands.ListChats(7), commands.Chats((commands.ChatSummary(9, "a", 5), commands.ChatSummary(BIG, "b", 1)), 8)),
]


def connected(service: FakeService) -> Client:
    return Client(["http://node"], transport=httpx2.ASGITransport(create_app(service)), user_id=7)


@pytest.mark.parametrize(("command", "reply"), EXCHANGES)
async def test_a_command_and_its_reply_cross_unchanged(command: Command, reply: Reply) -> None:
    service = FakeService(lambda asked: reply)
    async with connected(service) as client:
        answer = await client.call(command)
    assert service.commands == [command]
    assert (answer.reply, answer.attempts, answer.node) == (reply, 1, STATUS.node_id)


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("command", [command for command, _ in EXCHANGES])
async def test_a_rejection_crosses_unchanged(command: Command, reason: str) -> None:
    async with connected(FakeService(lambda asked: Rejected(reason, 42))) as client:
        assert await client.execute(command) == Rejected(reason, 42)


@pytest.mark.parametrize(
    "txn_id", ["a/b", "%2F", "a%b", "?", "#", "a;b=c&d+e", "~!@$^*()'\"<>[]{}|\\`", "...", "a/../b"]
)
async def test_every_transaction_id_crosses_unchanged_on_a_real_connection(txn_id: str) -> None:
    service = FakeService()
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(serve, create_app(service), "127.0.0.1:0"))
        async with Client([f"http://{address}"]) as client:
            await client.execute(commands.Send(7, 9, txn_id, "hello"))
            await client.execute(commands.Join(7, 9, txn_id))
        nursery.cancel_scope.cancel()
    assert service.commands == [commands.Send(7, 9, txn_id, "hello"), commands.Join(7, 9, txn_id)]


async def test_failures_cross_as_what_they_are() -> None:
    service = FakeService()
    async with connected(service) as client:
        service.raises(NotDone("no-leader", "No leader is known."))
        with pytest.raises(errors.NotDone, match="No leader is known") as caught:
            await client.execute(commands.Send(7, 9, "t", "a"), timeout_s=0.0001)
        assert caught.value.reason == "no-leader"
        service.raises(OutcomeUnknown("The leader was lost."))
        with pytest.raises(errors.OutcomeUnknown, match="The leader was lost"):
            await client.execute(commands.Send(7, 9, "t", "a"), timeout_s=0.0001)


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (commands.Send(7, 9, "t", "x" * 4_001), "4,000"),
        (commands.Send(7, 9, "t", "\ud800"), "surrogate"),
        (commands.CreateUser("t", "Ann"), "a-z"),
        (commands.ReadMessages(7, 9, 0, 1_001), "limit"),
        (commands.ListMembers(0, 9), "Telegraft-User"),
        (commands.ListMembers(7, -1), "-1"),
    ],
)
async def test_what_the_server_does_not_accept_is_an_error_that_says_why(command: Command, word: str) -> None:
    service = FakeService()
    async with connected(service) as client:
        with pytest.raises(errors.RequestInvalid, match=word):
            await client.execute(command)
    assert service.commands == []


async def test_the_operations_return_what_they_promise() -> None:
    service = FakeService()
    async with connected(service) as client:
        assert await client.create_user("ann") == commands.UserCreated(7, 1)
        assert await client.create_chat("a chat") == commands.ChatCreated(9, 1)
        assert isinstance(await client.join(9), commands.Posted)
        assert await client.leave(9) == commands.Unchanged(4)
        assert (await client.send(9, "hello", txn_id="t-1")).seq == 5
        assert [message.text for message in (await client.read(9, limit=2)).items] == ["a chat", "hello"]
        assert (await client.members(9)).user_ids == (7, 8)
        assert (await client.chats()).items[0].chat_id == 9
        assert await client.status() == STATUS
    assert len({getattr(command, "txn_id", n) for n, command in enumerate(service.commands)}) == 8
    assert service.commands[4] == commands.Send(7, 9, "t-1", "hello")
