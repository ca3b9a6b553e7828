"""The JSON bodies of the HTTP API as models: what it accepts, what it answers. The API's description is made from them.

Theory of operation
-------------------
Ids are 64-bit integers inside and decimal strings here: JavaScript's numbers stop being exact at 2^53. Requests forbid
fields that are not listed, so that a misspelt one is an error and not a silent default. ``sent_at`` is no stored
column: it is the time inside the message's Snowflake id.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from impl.chat import commands
from impl.chat.service import NodeStatus
from impl.chat.snowflake import unix_ms
from impl.http.limits import CHAT_NAME_MAX_CHARACTERS, TEXT_MAX_CHARACTERS, USERNAME_MAX_CHARACTERS, USERNAME_PATTERN

Id = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,18}$", description="A 64-bit id, in decimal.")]
AsOf = Annotated[
    int,
    Field(ge=0, description="The sequence number of the chat (or the size of the directory) at which it was decided."),
]
Seq = Annotated[int, Field(ge=1, description="The place in the chat's log: 1, 2, 3 ... without gaps.")]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# --- requests ----------------------------------------------------------------------------------------------------


class NewUser(_Body):
    username: str = Field(min_length=1, max_length=USERNAME_MAX_CHARACTERS, pattern=USERNAME_PATTERN)


class NewChat(_Body):
    name: str = Field(min_length=1, max_length=CHAT_NAME_MAX_CHARACTERS)


class NewMessage(_Body):
    text: str = Field(min_length=1, max_length=TEXT_MAX_CHARACTERS)


# --- responses ---------------------------------------------------------------------------------------------------


class User(_Body):
    user_id: Id
    username: str
    as_of: AsOf


class Chat(_Body):
    chat_id: Id
    name: str
    as_of: AsOf


class MembershipChanged(_Body):
    """The caller was no member before a join, or was one before a leave: a message of the chat says so."""

    chat_id: Id
    changed: Literal[True] = True
    seq: Seq
    message_id: Id
    as_of: AsOf


class MembershipUnchanged(_Body):
    """The wish was already true."""

    changed: Literal[False] = False
    as_of: AsOf


class Sent(_Body):
    seq: Seq
    message_id: Id
    as_of: AsOf


class MessageItem(_Body):
    seq: Seq
    message_id: Id
    kind: Literal["create", "join", "leave", "text"]
    author: Id
    txn_id: str
    text: str
    sent_at: str = Field(description="RFC 3339, UTC, in milliseconds.")


class MessagePage(_Body):
    items: tuple[MessageItem, ...]
    as_of: AsOf
    next: Seq | None = Field(description="Send it as `after` to get the following page; null on the last page.")


class MemberList(_Body):
    items: tuple[Id, ...]
    as_of: AsOf


class ChatList(_Body):
    items: tuple[Chat, ...]
    as_of: AsOf


class Status(_Body):
    """What one node knows of itself and its cluster, at one instant."""

    cluster: str
    node_id: int
    incarnation: str = Field(description="Changes at every start of the process.")
    role: str
    term: int
    leader_id: int = Field(description="0 while none is known.")
    leader_url: str = Field(description="Empty while none is known.")
    commit_index: int
    applied_index: int
    last_index: int
    peers: dict[int, str] = Field(description="Node id to HTTP address, this node included.")


class Health(_Body):
    status: Literal["alive", "ready"]


class FieldError(BaseModel):
    field: str
    detail: str


class ProblemDetails(BaseModel):
    """RFC 9457. `type` never changes once published; `reason` and `as_of` together are the state machine's refusal."""

    type: str
    title: str
    status: int
    detail: str
    reason: str | None = None
    as_of: int | None = None
    errors: tuple[FieldError, ...] | None = None


# --- from replies ------------------------------------------------------------------------------------------------


class _EncodedItem(msgspec.Struct):
    """``MessageItem`` on its way out."""

    seq: int
    message_id: str
    kind: str
    author: str
    txn_id: str
    text: str
    sent_at: str


class _EncodedPage(msgspec.Struct):
    """``MessagePage`` on its way out."""

    items: list[_EncodedItem]
    as_of: int
    next: int | None


_page_encoder = msgspec.json.Encoder()


def message_page(reply: commands.Messages) -> bytes:
    """A page of messages as JSON, in the shape of ``MessagePage``.

    A page has up to a thousand items and is built while all other requests wait. Structs take a third of the time
    that models take; every test that reads a page holds it against the model.
    """
    last_seq = reply.items[-1].seq if reply.items else 0
    items = [
        _EncodedItem(m.seq, str(m.message_id), m.kind, str(m.author), m.txn_id, m.text, sent_at(m.message_id))
        for m in reply.items
    ]
    return _page_encoder.encode(_EncodedPage(items, reply.as_of, last_seq if 0 < last_seq < reply.as_of else None))


def sent_at(message_id: int) -> str:
    """The time inside a Snowflake id as RFC 3339, UTC, in milliseconds."""
    moment = _EPOCH + timedelta(milliseconds=unix_ms(message_id))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def status(node: NodeStatus) -> Status:
    return Status(**{field: getattr(node, field) for field in node.__struct_fields__})
