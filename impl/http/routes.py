"""The operations of the API as data: the router is built from this table, and so is the API's description.

Theory of operation
-------------------
One row per operation. ``impl.http.app`` groups the rows by path, so that a wrong method is answered with every method
that the path knows; ``impl.http.openapi`` writes the same rows down as OpenAPI. An operation that is served but not
described cannot be expressed.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel

from impl.http import bodies, problems
from impl.http.problems import Kind


class Operation(NamedTuple):
    """One operation. ``endpoint`` names a method of ``Endpoints``."""

    method: str
    path: str  # as the router writes it: a parameter may carry a convertor, {txn_id:path}
    endpoint: str
    summary: str
    status: int  # of success
    responses: tuple[type[BaseModel], ...]  # the body of success is one of them
    problems: tuple[Kind, ...]
    request: type[BaseModel] | None = None
    identified: bool = True  # acts for the calling user
    idempotency_key: bool = False  # takes its transaction id from the header
    paged: bool = False  # takes after and limit
    consistent: bool = False  # takes consistency
    parameters: tuple[str, ...] = ()  # further ones, true or false
    media_type: str = "application/json"  # of success; anything else has no body model

    @property
    def query_names(self) -> tuple[str, ...]:
        """All parameters that the query may have."""
        paged = ("after", "limit") if self.paged else ()
        return (*paged, *(("consistency",) if self.consistent else ()), *self.parameters)


_ALWAYS = (problems.INTERNAL, problems.UNKNOWN_PARAMETER)
_SERVED = (*_ALWAYS, problems.NOT_DONE, problems.OUTCOME_UNKNOWN)
_READ = (*_ALWAYS, problems.NOT_DONE)
_CALLER = (problems.UNAUTHENTICATED, problems.UNKNOWN_USER)
_BODY = (
    problems.MALFORMED_JSON,
    problems.BODY_TIMEOUT,
    problems.BODY_TOO_LARGE,
    problems.INVALID_REQUEST,
    problems.TRANSACTION_REUSED,
)

OPERATIONS = (
    Operation(
        "POST",
        "/v1/users",
        "create_user",
        "Create a user.",
        201,
        (bodies.User,),
        (*_SERVED, *_BODY, problems.USERNAME_TAKEN),
        request=bodies.NewUser,
        identified=False,
        idempotency_key=True,
    ),
    Operation(
        "GET",
        "/v1/users/me/chats",
        "chats",
        "List the chats of which the caller is a member.",
        200,
        (bodies.ChatList,),
        (*_READ, *_CALLER, problems.INVALID_REQUEST),
        consistent=True,
    ),
    Operation(
        "POST",
        "/v1/chats",
        "create_chat",
        "Create a chat; the caller becomes its first member.",
        201,
        (bodies.Chat,),
        (*_SERVED, *_CALLER, *_BODY),
        request=bodies.NewChat,
        idempotency_key=True,
    ),
    Operation(
        "GET",
        "/v1/chats/{chat}/members",
        "members",
        "List the members of a chat.",
        200,
        (bodies.MemberList,),
        (*_READ, *_CALLER, problems.UNKNOWN_CHAT, problems.NOT_A_MEMBER, problems.INVALID_REQUEST),
        consistent=True,
    ),
    Operation(
        "PUT",
        "/v1/chats/{chat}/members/me",
        "join",
        "Join a chat.",
        200,
        (bodies.MembershipChanged, bodies.MembershipUnchanged),
        (*_SERVED, *_CALLER, problems.UNKNOWN_CHAT, problems.TRANSACTION_REUSED, problems.INVALID_REQUEST),
        idempotency_key=True,
    ),
    Operation(
        "DELETE",
        "/v1/chats/{chat}/members/me",
        "leave",
        "Leave a chat.",
        200,
        (bodies.MembershipChanged, bodies.MembershipUnchanged),
        (*_SERVED, *_CALLER, problems.UNKNOWN_CHAT, problems.TRANSACTION_REUSED, problems.INVALID_REQUEST),
        idempotency_key=True,
    ),
    Operation(
        "GET",
        "/v1/chats/{chat}/messages",
        "read",
        "Read the messages after a sequence number, the oldest first.",
        200,
        (bodies.MessagePage,),
        (*_READ, *_CALLER, problems.UNKNOWN_CHAT, problems.NOT_A_MEMBER, problems.INVALID_REQUEST),
        paged=True,
        consistent=True,
    ),
    Operation(
        "PUT",
        "/v1/chats/{chat}/messages/{txn_id:path}",
        "send",
        "Send a message. Sending it again under the same transaction id has no effect and the same answer.",
        201,
        (bodies.Sent,),
        (*_SERVED, *_CALLER, *_BODY, problems.UNKNOWN_CHAT, problems.NOT_A_MEMBER),
        request=bodies.NewMessage,
    ),
    Operation(
        "GET",
        "/v1/status",
        "status",
        "What this node knows of itself and its cluster.",
        200,
        (bodies.Status,),
        _ALWAYS,
        identified=False,
    ),
    Operation(
        "GET",
        "/v1/cluster",
        "cluster",
        "Who belongs to the group, and how far each member is; answered by the leader, through any node.",
        200,
        (bodies.Cluster,),
        (*_READ, problems.NOT_FOUND),
        identified=False,
    ),
    Operation(
        "POST",
        "/v1/cluster/changes",
        "change_cluster",
        "Make the group these members and voters, if it is still the one that the change starts from.",
        200,
        (bodies.ClusterChanged,),
        (*_SERVED, *_BODY[:-1], problems.CHANGE_REFUSED, problems.NOT_FOUND),
        request=bodies.ClusterChange,
        identified=False,
    ),
    Operation(
        "POST",
        "/v1/cluster/transfer",
        "transfer_leadership",
        "Hand leadership over to another voter.",
        200,
        (bodies.LeadershipTransferred,),
        (*_SERVED, *_BODY[:-1], problems.CHANGE_REFUSED, problems.NOT_FOUND),
        request=bodies.LeadershipTransfer,
        identified=False,
    ),
    Operation(
        "GET",
        "/v1/cluster/snapshot",
        "download_snapshot",
        "This node's newest snapshot, as `telegraft restore` takes it; with `fresh` one that is taken now.",
        200,
        (),
        (*_READ, problems.INVALID_REQUEST, problems.NOT_FOUND),
        identified=False,
        parameters=("fresh",),
        media_type="application/octet-stream",
    ),
    Operation(
        "GET",
        "/metrics",
        "metrics",
        "Counters and gauges of this node, for Prometheus.",
        200,
        (),
        (*_ALWAYS, problems.NOT_FOUND),
        identified=False,
        media_type="text/plain",
    ),
    Operation(
        "GET",
        "/livez",
        "livez",
        "The process serves requests.",
        200,
        (bodies.Health,),
        _ALWAYS,
        identified=False,
    ),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "The node knows a leader.",
        200,
        (bodies.Health,),
        (*_ALWAYS, problems.NOT_READY),
        identified=False,
    ),
)
