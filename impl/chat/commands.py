"""What a client may ask of the chat service and what it may be told: the payloads of log entries and of replies.

Theory of operation
-------------------
Raft carries opaque bytes. For the chat service these bytes are one of the ``Write`` structs below, encoded as a
msgpack array behind a schema version, because entries outlive releases. Queries never enter the log, but travel
between nodes (a follower forwards them to the leader), so they have the same encoding. New fields go to the end, with
a default: an older entry then still decodes.

The names and meanings are those of the executable specification of the chat service; ids are 64-bit integers here
and strings in the HTTP API.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

SCHEMA_VERSION = 1


class CreateUser(msgspec.Struct, frozen=True, array_like=True, tag=1):
    txn_id: str
    username: str
    proposed_id: int = 0


class CreateChat(msgspec.Struct, frozen=True, array_like=True, tag=2):
    actor: int
    txn_id: str
    name: str
    proposed_id: int = 0


class Join(msgspec.Struct, frozen=True, array_like=True, tag=3):
    actor: int
    chat_id: int
    txn_id: str
    proposed_id: int = 0


class Leave(msgspec.Struct, frozen=True, array_like=True, tag=4):
    actor: int
    chat_id: int
    txn_id: str
    proposed_id: int = 0


class Send(msgspec.Struct, frozen=True, array_like=True, tag=5):
    actor: int
    chat_id: int
    txn_id: str
    text: str
    proposed_id: int = 0


class ReadMessages(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The messages with ``seq > after``, the oldest first, at most ``limit`` of them."""

    actor: int
    chat_id: int
    after: int
    limit: int


class ListMembers(msgspec.Struct, frozen=True, array_like=True, tag=7):
    actor: int
    chat_id: int


class ListChats(msgspec.Struct, frozen=True, array_like=True, tag=8):
    actor: int


Write: TypeAlias = CreateUser | CreateChat | Join | Leave | Send
Query: TypeAlias = ReadMessages | ListMembers | ListChats
Command: TypeAlias = Write | Query


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of a chat's log; ``seq`` is dense from 1."""

    seq: int
    message_id: int
    kind: str  # "create", "join", "leave" or "text"
    author: int
    txn_id: str
    text: str


class ChatSummary(msgspec.Struct, frozen=True, array_like=True, gc=False):
    chat_id: int
    name: str
    as_of: int


class UserCreated(msgspec.Struct, frozen=True, array_like=True, tag=1):
    user_id: int
    as_of: int


class ChatCreated(msgspec.Struct, frozen=True, array_like=True, tag=2):
    chat_id: int
    as_of: int


class Posted(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A message was appended: the reply to a send, and to a join or leave that changed something."""

    seq: int
    message_id: int
    as_of: int


class Unchanged(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A join by a member, or a leave by somebody who is none."""

    as_of: int


class Messages(msgspec.Struct, frozen=True, array_like=True, tag=5):
    items: tuple[Message, ...]
    as_of: int


class Members(msgspec.Struct, frozen=True, array_like=True, tag=6):
    user_ids: tuple[int, ...]
    as_of: int


class Chats(msgspec.Struct, frozen=True, array_like=True, tag=7):
    items: tuple[ChatSummary, ...]
    as_of: int


class Rejected(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Refused, for good. ``reason`` is one of ``REASONS``."""

    reason: str
    as_of: int


REASONS = ("unknown-user", "unknown-chat", "username-taken", "not-a-member", "transaction-reused")

Reply: TypeAlias = UserCreated | ChatCreated | Posted | Unchanged | Messages | Members | Chats | Rejected


class UnknownSchema(ValueError):
    """An entry was written by a release whose schema this one does not know."""


_encoder = msgspec.msgpack.Encoder()
_command_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode_command(command: Command) -> bytes:
    """The command as the payload of a log entry: one byte of schema version, then msgpack."""
    return bytes((SCHEMA_VERSION,)) + _encoder.encode(command)


def decode_command(payload: bytes) -> Command:
    """The inverse of ``encode_command``.

    Raises ``UnknownSchema`` for another schema version and ``msgspec.DecodeError`` for bytes that are no command.
    """
    if not payload or payload[0] != SCHEMA_VERSION:
        found = payload[0] if payload else "none"
        raise UnknownSchema(
            f"log entry has schema version {found}, this release knows {SCHEMA_VERSION}: "
            "run the release that wrote it, or a newer one"
        )
    return _command_decoder.decode(payload[1:])


def encode_reply(reply: Reply) -> bytes:
    """A reply as bytes, for the table of first answers and for forwarding between nodes."""
    return _encoder.encode(reply)


def decode_reply(payload: bytes) -> Reply:
    """The inverse of ``encode_reply``. Raises ``msgspec.DecodeError`` for bytes that are no reply."""
    return _reply_decoder.decode(payload)
