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
from impl.cluster_service import ClusterView
from impl.http.limits import (
    ADDRESS_MAX_CHARACTERS,
    CHAT_NAME_MAX_CHARACTERS,
    MAX_NODE_ID,
    MEMBERS_MAX,
    TEXT_MAX_CHARACTERS,
    USERNAME_MAX_CHARACTERS,
    USERNAME_PATTERN,
)

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


class MemberBody(_Body):
    """One member of the group as it is to be."""

    node_id: int = Field(ge=1, le=MAX_NODE_ID)
    incarnation: Id = Field(description="Of the node's data directory, as its /v1/status says.")
    peer: str = Field("", max_length=ADDRESS_MAX_CHARACTERS, description="host:port at which other nodes reach it.")
    url: str = Field("", max_length=ADDRESS_MAX_CHARACTERS, description="Where clients reach it.")


class ClusterChange(_Body):
    """The whole group as it is to be: members that are not listed leave; members that are no voters are learners."""

    expected_index: int = Field(ge=0, description="The `configuration_index` of the group that this changes.")
    members: tuple[MemberBody, ...] = Field(min_length=1, max_length=MEMBERS_MAX)
    voters: tuple[Annotated[int, Field(ge=1, le=MAX_NODE_ID)], ...] = Field(min_length=1, max_length=MEMBERS_MAX)


class LeadershipTransfer(_Body):
    target: int = Field(ge=0, le=MAX_NODE_ID, description="The node id of a voter; 0: whoever is furthest.")


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
    run_id: str = Field(description="Changes at every start of the process.")
    incarnation: Id = Field(description="Of the data directory: each that was ever formatted has its own.")
    membership: Literal["voter", "learner", "waiting", "removed"] = Field(
        description="What this node is in the group; `waiting`: to be added for the first time."
    )
    role: str
    term: int
    leader_id: int = Field(description="0 while none is known.")
    leader_url: str = Field(description="Empty while none is known.")
    commit_index: int
    applied_index: int
    last_index: int
    configuration_index: int = Field(description="Of the log entry that made the group as it is; 0: as founded.")
    peer: str = Field(description="The address at which other nodes reach this one.")
    url: str = Field(description="The address at which clients reach this one.")
    peers: dict[int, str] = Field(description="Node id to HTTP address, this node included.")


class MemberState(_Body):
    """One member as the leader sees it."""

    node_id: int
    incarnation: Id
    peer: str
    url: str
    role: Literal["voter", "learner", "joining", "leaving"]
    match_index: int = Field(description="Of the last log entry that it is known to hold, durable; 0: unknown.")
    behind: int = Field(description="Entries of the leader's log that it is not known to hold.")


class Cluster(_Body):
    """The group at one instant, as the leader sees it."""

    cluster: str
    configuration_index: int
    changing: bool = Field(description="A change of voters is under way.")
    leader_id: int
    term: int
    commit_index: int
    last_index: int
    members: tuple[MemberState, ...]


class ClusterChanged(_Body):
    configuration_index: int = Field(description="Of the log entry that made the group as it is now; committed.")


class LeadershipTransferred(_Body):
    """Another election has begun; `GET /v1/status` says who leads."""

    target: int


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
    values = {field: getattr(node, field) for field in node.__struct_fields__}
    return Status(**values | {"incarnation": str(node.incarnation)})


def cluster(view: ClusterView) -> Cluster:
    members = tuple(
        MemberState(**msgspec.structs.asdict(member) | {"incarnation": str(member.incarnation)})
        for member in view.members
    )
    return Cluster(**msgspec.structs.asdict(view) | {"members": members})
