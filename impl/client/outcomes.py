"""What one attempt tells: the classification of answers and of broken connections, apart from any network.

Theory of operation
-------------------
An attempt ends in one of four ways, and only the first two end the call:

=========  =====================================================================================================
REPLY      the state machine answered; rejections are replies
INVALID    the server refused the request itself
NOT_DONE   this attempt certainly had no effect: no connection, or the server says so (503 with *its* problem type)
UNKNOWN    this attempt may have had an effect, or may have one later
=========  =====================================================================================================

The doubtful falls to UNKNOWN: a 503 from some proxy on the way, an answer that does not parse, a connection that broke
after the first byte of the request. For a query the difference vanishes, since there is no effect to be unsure of:
``Attempt.of_query`` turns UNKNOWN into NOT_DONE.
"""

from __future__ import annotations

import enum
import json
from typing import Any, NamedTuple

import httpx2
import msgspec

from impl.chat.commands import Rejected
from impl.client.requests import Request
from impl.http import wire

NOTHING_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
"""What the HTTP library raises before the first byte of a request is written."""

RETRYABLE_REFUSALS = (408, 429)
"""4xx that are about the moment and not about the request; the server did not carry it out."""


class Outcome(enum.Enum):
    REPLY = "reply"
    INVALID = "invalid"
    NOT_DONE = "not-done"
    UNKNOWN = "unknown"


class Attempt(NamedTuple):
    """How one attempt ended. ``reason`` is a short stable word, ``detail`` a sentence, both empty for a reply."""

    outcome: Outcome
    reason: str = ""
    detail: str = ""
    value: Any = None  # for REPLY: what the request's ``decode`` made of the body, or Rejected
    status: int = 0  # for INVALID
    problem: dict[str, Any] | None = None  # for INVALID

    def of_query(self) -> Attempt:
        """The same, for a request without effect."""
        return self._replace(outcome=Outcome.NOT_DONE) if self.outcome is Outcome.UNKNOWN else self


def of_response(request: Request, status: int, body: bytes) -> Attempt:
    """The attempt that ended with a complete response."""
    if 200 <= status < 300:
        try:
            return Attempt(Outcome.REPLY, value=request.decode(body))
        except (ValueError, msgspec.MsgspecError) as error:
            return Attempt(Outcome.UNKNOWN, "failed", f"the answer {status} does not parse: {error}")
    problem = _problem(body)
    type_, reason, as_of = problem.get("type"), problem.get("reason"), problem.get("as_of")
    detail = str(problem.get("detail", f"the server answered {status} without saying why"))
    if 400 <= status < 500:
        if isinstance(reason, str) and isinstance(as_of, int):
            return Attempt(Outcome.REPLY, value=Rejected(reason, as_of))
        if status in RETRYABLE_REFUSALS:
            return Attempt(Outcome.NOT_DONE, "overloaded" if status == 429 else "timeout", detail)
        return Attempt(Outcome.INVALID, detail=detail, status=status, problem=problem)
    if status == 503 and type_ == wire.NOT_DONE:
        return Attempt(Outcome.NOT_DONE, reason if isinstance(reason, str) else "failed", detail)
    return Attempt(Outcome.UNKNOWN, "timeout" if type_ == wire.OUTCOME_UNKNOWN else "failed", detail)


def of_error(error: httpx2.RequestError) -> Attempt:
    """The attempt that ended without a complete response."""
    detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, NOTHING_SENT):
        return Attempt(Outcome.NOT_DONE, "unreachable", detail)
    reason = "timeout" if isinstance(error, httpx2.TimeoutException) else "connection-lost"
    return Attempt(Outcome.UNKNOWN, reason, detail)


def of_timeout(timeout_s: float) -> Attempt:
    """The attempt that was given up."""
    return Attempt(Outcome.UNKNOWN, "timeout", f"no answer within {timeout_s:g} s")


def _problem(body: bytes) -> dict[str, Any]:
    """The members of a problem; empty for a body that is none."""
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}
