"""RFC 9457 problems: the one shape in which the HTTP API says that something went wrong.

Theory of operation
-------------------
Code that finds something wrong raises ``Problem``; ``impl.http.app`` turns it into a response. A problem's kind is a
row of ``KINDS``: status, URN and title stand together there, the documentation of the API is generated from it, and
only ``detail`` (what to do next, in this case) and extension members are written where the error is found.

The chat service's own answers map here too: a rejection by the state machine becomes a problem that carries the
rejection whole (``reason`` and ``as_of``), ``NotDone`` becomes 503 with ``Retry-After``, ``OutcomeUnknown`` 504.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.responses import Response

from impl.chat.commands import Rejected
from impl.chat.service import NotDone, OutcomeUnknown
from impl.http import wire
from impl.http.limits import RETRY_AFTER_S


class Kind(NamedTuple):
    """A kind of problem: what is the same each time it happens."""

    type: str
    status: int
    title: str


def _kind(name: str, status: int, title: str) -> Kind:
    return Kind(wire.PROBLEM_PREFIX + name, status, title)


MALFORMED_REQUEST = _kind("malformed-request", 400, "Not a well-formed HTTP request")
MALFORMED_JSON = _kind("malformed-json", 400, "The body is not JSON")
UNKNOWN_PARAMETER = _kind("unknown-parameter", 400, "The query has a parameter that this path does not know")
UNAUTHENTICATED = _kind("unauthenticated", 401, "The request does not say who is calling")
UNKNOWN_USER = _kind("unknown-user", 401, "The calling user does not exist")
NOT_A_MEMBER = _kind("not-a-member", 403, "The caller is not a member of the chat")
NOT_FOUND = _kind("not-found", 404, "There is nothing at this path")
UNKNOWN_CHAT = _kind("unknown-chat", 404, "There is no such chat")
METHOD_NOT_ALLOWED = _kind("method-not-allowed", 405, "This path does not know the method")
BODY_TIMEOUT = _kind("body-timeout", 408, "The body did not arrive in time")
USERNAME_TAKEN = _kind("username-taken", 409, "The username is taken")
TRANSACTION_REUSED = _kind("transaction-reused", 409, "The transaction id was used for another request")
CHANGE_REFUSED = _kind("change-refused", 409, "The group cannot be changed so, or not now")
BODY_TOO_LARGE = _kind("body-too-large", 413, "The body is too large")
INVALID_REQUEST = _kind("invalid-request", 422, "A field of the request is missing or out of bounds")
HEADERS_TOO_LARGE = _kind("headers-too-large", 431, "The headers are too large")
INTERNAL = _kind("internal-error", 500, "The node failed to carry out the request")
NOT_DONE = Kind(wire.NOT_DONE, 503, "Certainly not done: safe to send again")
NOT_READY = _kind("not-ready", 503, "The node does not serve yet")
OUTCOME_UNKNOWN = Kind(wire.OUTCOME_UNKNOWN, 504, "It may have been done, or may still be")

KINDS = (
    MALFORMED_REQUEST,
    MALFORMED_JSON,
    UNKNOWN_PARAMETER,
    UNAUTHENTICATED,
    UNKNOWN_USER,
    NOT_A_MEMBER,
    NOT_FOUND,
    UNKNOWN_CHAT,
    METHOD_NOT_ALLOWED,
    BODY_TIMEOUT,
    USERNAME_TAKEN,
    TRANSACTION_REUSED,
    CHANGE_REFUSED,
    BODY_TOO_LARGE,
    INVALID_REQUEST,
    HEADERS_TOO_LARGE,
    INTERNAL,
    NOT_DONE,
    NOT_READY,
    OUTCOME_UNKNOWN,
)

REJECTIONS: Mapping[str, tuple[Kind, str]] = {
    "unknown-user": (UNKNOWN_USER, "No user has this id: create one with POST /v1/users and send the id it answers."),
    "unknown-chat": (UNKNOWN_CHAT, "No chat has the id {chat}: GET /v1/users/me/chats lists the caller's chats."),
    "username-taken": (USERNAME_TAKEN, "Somebody else has this username: choose another."),
    "not-a-member": (NOT_A_MEMBER, "Join the chat first: PUT /v1/chats/{chat}/members/me."),
    "transaction-reused": (
        TRANSACTION_REUSED,
        "This transaction id was first sent with another body, and keeps its first answer: "
        "choose a new id for a new request.",
    ),
}
"""The problem for each reason for which the state machine refuses, and what to do next."""


class Problem(Exception):
    """One problem that happened; raised by endpoints, answered by the application."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.members = dict(members or {})
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The problem as JSON in ASCII: a detail may quote anything that a client sent."""
        known = {"type": self.kind.type, "title": self.kind.title, "status": self.kind.status, "detail": self.detail}
        return json.dumps(known | self.members).encode("ascii")

    def response(self) -> Response:
        return Response(
            self.body(), status_code=self.kind.status, headers=self.headers, media_type=wire.PROBLEM_MEDIA_TYPE
        )


def unauthenticated(detail: str) -> Problem:
    """401; RFC 9110 section 15.5.2 wants the header that names a way to authenticate."""
    return Problem(UNAUTHENTICATED, detail, headers={"WWW-Authenticate": wire.USER_HEADER})


def invalid(errors: list[tuple[str, str]]) -> Problem:
    """422 for fields at fault, each as (name, what is wrong with it)."""
    detail = "; ".join(f"{field}: {what}" for field, what in errors)
    return Problem(INVALID_REQUEST, detail, members={"errors": [{"field": f, "detail": what} for f, what in errors]})


def unknown_chat(text: str) -> Problem:
    """404 for a chat id that cannot be one. No ``as_of``: it was not the state machine that said so."""
    return Problem(
        UNKNOWN_CHAT, f"{text[:64]!r} is no chat id: chat ids are decimal numbers, as POST /v1/chats answers."
    )


def rejection(reply: Rejected, chat: int | None) -> Problem:
    """The state machine's refusal, whole: a client rebuilds the reply from ``reason`` and ``as_of``."""
    kind, detail = REJECTIONS[reply.reason]
    headers = {"WWW-Authenticate": wire.USER_HEADER} if kind.status == 401 else {}
    return Problem(
        kind,
        detail.format(chat=chat),
        members={"reason": reply.reason, "as_of": reply.as_of},
        headers=headers,
    )


REFUSED_CHANGES = frozenset(
    {
        "configuration-changed",
        "change-in-progress",
        "bad-change",
        "not-caught-up",
        "unknown-member",
        "transfer-failed",
    }
)
"""Reasons for which a change of the group, or of its leadership, is refused: the same request again would be, too."""


def not_done(reason: NotDone) -> Problem:
    """503, or 409 where somebody has to decide anew."""
    if reason.reason in REFUSED_CHANGES:
        return Problem(CHANGE_REFUSED, f"Not done: {reason.detail}.", members={"reason": reason.reason})
    return Problem(
        NOT_DONE, reason.detail, members={"reason": reason.reason}, headers={"Retry-After": str(RETRY_AFTER_S)}
    )


def outcome_unknown(reason: OutcomeUnknown) -> Problem:
    return Problem(OUTCOME_UNKNOWN, f"{reason.detail} Send it again with the same transaction id to learn the outcome.")
