"""Calls of the service under test, through the client that everybody else uses.

Theory of operation
-------------------
Requests of the history become commands, replies become JSON; in between works ``impl.client``, with its retries, its
search for the leader and its reuse of the transaction id. Its three outcomes are those of the history: a reply is *ok*
(a rejection too), not done is *fail*, unknown is *info*. A request that the server refuses for its form is *fail* too,
with the server's words; the workload makes none.

Every lane starts with another node. Even lanes follow the leader, odd ones stay with the node that last answered, which
forwards to the leader: at any time some clients talk to followers. An operation that names a node goes through a client
that knows no other.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import trio

from harness.recorder import Outcome, Value
from harness.workloads.calls import Completion
from impl.chat import commands
from impl.chat.commands import Command, Reply
from impl.client.client import Client
from impl.client.errors import NotDone, OutcomeUnknown, RequestInvalid

REQUESTS: dict[str, Callable[[Value], Command]] = {
    "create_user": lambda r: commands.CreateUser(r["txn_id"], r["username"]),
    "create_chat": lambda r: commands.CreateChat(int(r["actor"]), r["txn_id"], r["name"]),
    "join": lambda r: commands.Join(int(r["actor"]), int(r["chat"]), r["txn_id"]),
    "leave": lambda r: commands.Leave(int(r["actor"]), int(r["chat"]), r["txn_id"]),
    "send": lambda r: commands.Send(int(r["actor"]), int(r["chat"]), r["txn_id"], r["text"]),
    "read": lambda r: commands.ReadMessages(int(r["actor"]), int(r["chat"]), r["after"], r["limit"]),
    "list_members": lambda r: commands.ListMembers(int(r["actor"]), int(r["chat"])),
    "list_chats": lambda r: commands.ListChats(int(r["actor"])),
}
"""From a request of the history to a command of the service."""


def command_of(f: str, request: Value) -> Command:
    """The command for one operation of the history."""
    return REQUESTS[f](request)


def reply_value(reply: Reply) -> Value:
    """A reply as the history has it: ids are decimal strings, sequence numbers integers."""
    match reply:
        case commands.UserCreated(user_id, as_of):
            return {"type": "user_created", "user_id": str(user_id), "as_of": as_of}
        case commands.ChatCreated(chat_id, as_of):
            return {"type": "chat_created", "chat_id": str(chat_id), "as_of": as_of}
        case commands.Posted(seq, message_id, as_of):
            return {"type": "posted", "seq": seq, "message_id": str(message_id), "as_of": as_of}
        case commands.Unchanged(as_of):
            return {"type": "unchanged", "as_of": as_of}
        case commands.Messages(items, as_of):
            return {"type": "messages", "items": [message_value(item) for item in items], "as_of": as_of}
        case commands.Members(user_ids, as_of):
            return {"type": "members", "user_ids": [str(user_id) for user_id in user_ids], "as_of": as_of}
        case commands.Chats(chats, as_of):
            listed = [{"chat_id": str(c.chat_id), "name": c.name, "as_of": c.as_of} for c in chats]
            return {"type": "chats", "items": listed, "as_of": as_of}
        case commands.Rejected(reason, as_of):
            return {"type": "rejected", "reason": reason, "as_of": as_of}


def message_value(message: commands.Message) -> Value:
    return {
        "seq": message.seq,
        "message_id": str(message.message_id),
        "kind": message.kind,
        "author": str(message.author),
        "txn_id": message.txn_id,
        "text": message.text,
    }


ATTEMPT_TIMEOUT_S = 1.0
"""For one request: an operation of 2.5 s then tries at least two nodes."""


class Service:
    """The clients of a run. ``urls`` maps node ids to where clients reach them. An async context manager."""

    def __init__(self, urls: dict[int, str], lanes: int) -> None:
        self._through = {node: Client({node: url}, attempt_timeout_s=ATTEMPT_TIMEOUT_S) for node, url in urls.items()}
        self._of_lane = [
            Client(rotated(urls, lane), attempt_timeout_s=ATTEMPT_TIMEOUT_S, follow_leader=lane % 2 == 0)
            for lane in range(lanes)
        ]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            for client in (*self._of_lane, *self._through.values()):
                await client.aclose()

    def caller_of(self, lane: int) -> ServiceCaller:
        return ServiceCaller(self._of_lane[lane], self._through)


class ServiceCaller:
    """The calls of one lane."""

    def __init__(self, client: Client, through: dict[int, Client]) -> None:
        self._client = client
        self._through = through

    async def call(self, f: str, request: Value, *, node: int | None, timeout_s: float) -> Completion:
        """Carry out one operation; see ``harness.workloads.calls.Caller``."""
        client = self._client if node is None else self._through[node]
        try:
            answer = await client.call(command_of(f, request), timeout_s=timeout_s)
        except NotDone as error:
            return failed("fail", request, error.reason, error.detail, error.attempts, error.node)
        except OutcomeUnknown as error:
            return failed("info", request, "unknown", error.detail, error.attempts, error.node)
        except RequestInvalid as error:
            return failed("fail", request, f"http-{error.status}", str(error), error.attempts, error.node)
        reply = reply_value(answer.reply)
        return Completion("ok", {"request": request, "reply": reply, "node": answer.node, "attempts": answer.attempts})


def failed(outcome: Outcome, request: Value, error: str, detail: str, attempts: int, node: int) -> Completion:
    """The completion of an operation without a reply."""
    value: dict[str, Any] = {"request": request, "error": error, "detail": detail, "attempts": attempts}
    return Completion(outcome, value | ({"node": node} if node else {}))


def rotated(urls: dict[int, str], steps: int) -> dict[int, str]:
    """The same nodes, beginning with another one."""
    nodes = sorted(urls)
    first = steps % len(nodes)
    return {node: urls[node] for node in nodes[first:] + nodes[:first]}
