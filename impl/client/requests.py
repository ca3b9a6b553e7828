"""Each command as an HTTP request: method, path, body, and how its answer becomes a reply.

Theory of operation
-------------------
Pure functions from command to request and from body to reply; no network. Writes carry their transaction id in the
path or in the ``Idempotency-Key`` header, so that the request, sent again, is the same request. ``proposed_id`` is
never sent: the leader stamps it.

Answers are decoded into structs that list every field that is read: an answer that lacks one is no answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from impl.chat import commands
from impl.chat.commands import Command, Reply
from impl.chat.service import Consistency, NodeStatus
from impl.http import wire

_TXN_ID = re.compile(wire.TXN_ID_PATTERN)


class Request(NamedTuple):
    """One request, without the node it goes to."""

    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]
    actor: int | None  # the user in whose name it is made
    is_write: bool
    decode: Callable[[bytes], Any]  # the body of a 2xx to a reply; raises ValueError or msgspec.MsgspecError


class Unsendable(ValueError):
    """The command cannot be put into a request; nothing was sent."""


def request_of(command: Command, consistency: Consistency = "linearizable") -> Request:
    """The request for a command; ``consistency`` is that of a query. Raises ``Unsendable`` for a transaction id that no
    request can carry."""
    fresh = consistency == "linearizable"  # as the server has it when nothing is said
    wish = "" if fresh else f"?consistency={consistency}"
    if isinstance(command, commands.CreateUser):
        return _post("/v1/users", {"username": command.username}, command.txn_id, None, _user_created)
    if isinstance(command, commands.CreateChat):
        return _post("/v1/chats", {"name": command.name}, command.txn_id, command.actor, _chat_created)
    if isinstance(command, commands.ListChats):
        return Request("GET", f"/v1/users/me/chats{wish}", None, {}, command.actor, False, _chats)

    chat = f"/v1/chats/{command.chat_id}"
    if isinstance(command, commands.ReadMessages):
        path = f"{chat}/messages?after={command.after}&limit={command.limit}{wish.replace('?', '&')}"
        return Request("GET", path, None, {}, command.actor, False, _messages)
    if isinstance(command, commands.ListMembers):
        return Request("GET", f"{chat}/members{wish}", None, {}, command.actor, False, _members)
    if isinstance(command, commands.Send):
        path = f"{chat}/messages/{quote(_checked(command.txn_id), safe='')}"
        headers = {"Content-Type": "application/json"}
        return Request("PUT", path, _encode({"text": command.text}), headers, command.actor, True, _posted)
    headers = {wire.TXN_HEADER: _checked(command.txn_id)}
    method = "PUT" if isinstance(command, commands.Join) else "DELETE"
    return Request(method, f"{chat}/members/me", None, headers, command.actor, True, _membership)


def status_request() -> Request:
    """The request for a node's ``NodeStatus``."""
    return Request("GET", "/v1/status", None, {}, None, False, _status_decoder.decode)


def _post(path: str, body: dict[str, str], txn_id: str, actor: int | None, decode: Callable[[bytes], Reply]) -> Request:
    headers = {"Content-Type": "application/json", wire.TXN_HEADER: _checked(txn_id)}
    return Request("POST", path, _encode(body), headers, actor, True, decode)


def _encode(body: dict[str, str]) -> bytes:
    """JSON in ASCII: a text that is no Unicode (half a surrogate pair) reaches the server, which says what is wrong."""
    return json.dumps(body).encode("ascii")


def _checked(txn_id: str) -> str:
    if _TXN_ID.fullmatch(txn_id) is None or txn_id in (".", ".."):
        raise Unsendable(
            f"{txn_id[:64]!r} cannot be a transaction id: take 1 to 128 visible ASCII characters, "
            "and neither '.' nor '..', which a path cannot hold"
        )
    return txn_id


# --- answers -----------------------------------------------------------------------------------------------------


class _UserBody(msgspec.Struct):
    user_id: str
    as_of: int


class _ChatBody(msgspec.Struct):
    chat_id: str
    name: str
    as_of: int


class _SentBody(msgspec.Struct):
    seq: int
    message_id: str
    as_of: int


class _MembershipBody(msgspec.Struct):
    changed: bool
    as_of: int
    seq: int = 0
    message_id: str = "0"


class _MessageBody(msgspec.Struct):
    seq: int
    message_id: str
    kind: str
    author: str
    txn_id: str
    text: str


class _MessagesBody(msgspec.Struct):
    items: tuple[_MessageBody, ...]
    as_of: int


class _MembersBody(msgspec.Struct):
    items: tuple[str, ...]
    as_of: int


class _ChatsBody(msgspec.Struct):
    items: tuple[_ChatBody, ...]
    as_of: int


_status_decoder = msgspec.json.Decoder(NodeStatus, strict=False)  # 64-bit numbers come as strings
_user_decoder = msgspec.json.Decoder(_UserBody)
_chat_decoder = msgspec.json.Decoder(_ChatBody)
_sent_decoder = msgspec.json.Decoder(_SentBody)
_membership_decoder = msgspec.json.Decoder(_MembershipBody)
_messages_decoder = msgspec.json.Decoder(_MessagesBody)
_members_decoder = msgspec.json.Decoder(_MembersBody)
_chats_decoder = msgspec.json.Decoder(_ChatsBody)


def _user_created(body: bytes) -> Reply:
    answer = _user_decoder.decode(body)
    return commands.UserCreated(int(answer.user_id), answer.as_of)


def _chat_created(body: bytes) -> Reply:
    answer = _chat_decoder.decode(body)
    return commands.ChatCreated(int(answer.chat_id), answer.as_of)


def _posted(body: bytes) -> Reply:
    answer = _sent_decoder.decode(body)
    return commands.Posted(answer.seq, int(answer.message_id), answer.as_of)


def _membership(body: bytes) -> Reply:
    answer = _membership_decoder.decode(body)
    if not answer.changed:
        return commands.Unchanged(answer.as_of)
    return commands.Posted(answer.seq, int(answer.message_id), answer.as_of)


def _messages(body: bytes) -> Reply:
    answer = _messages_decoder.decode(body)
    items = tuple(
        commands.Message(m.seq, int(m.message_id), m.kind, int(m.author), m.txn_id, m.text) for m in answer.items
    )
    return commands.Messages(items, answer.as_of)


def _members(body: bytes) -> Reply:
    answer = _members_decoder.decode(body)
    return commands.Members(tuple(int(user_id) for user_id in answer.items), answer.as_of)


def _chats(body: bytes) -> Reply:
    answer = _chats_decoder.decode(body)
    items = tuple(commands.ChatSummary(int(c.chat_id), c.name, c.as_of) for c in answer.items)
    return commands.Chats(items, answer.as_of)
