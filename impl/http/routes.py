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


_ALWAYS = (problems.INTERNAL,)
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
        (*_READ, *_CALLER),
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
        (*_READ, *_CALLER, problems.UNKNOWN_CHAT, problems.NOT_A_MEMBER),
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
