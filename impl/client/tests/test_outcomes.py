"""The classification of attempts, as a table; and that the table notices a wrong classification."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import trio

from impl.chat import commands
from impl.client import outcomes
from impl.client.outcomes import Attempt, Outcome, of_error, of_response, of_timeout
from impl.client.requests import request_of

WRITE = request_of(commands.Send(7, 9, "t", "hello"))
REPLY, INVALID, NOT_DONE, UNKNOWN = Outcome.REPLY, Outcome.INVALID, Outcome.NOT_DONE, Outcome.UNKNOWN

SENT = {"seq": 5, "message_id": "55", "as_of": 5}


def response(status: int, body: Any) -> Callable[[], Attempt]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda: of_response(WRITE, status, content)


def error(raised: httpx2.TransportError) -> Callable[[], Attempt]:
    return lambda: of_error(raised)


def urn(name: str, **members: Any) -> dict[str, Any]:
    return {"type": f"urn:telegraft:problem:{name}", "detail": "words", **members}


ATTEMPTS: list[tuple[str, Callable[[], Attempt], Outcome, str]] = [
    # what, how, outcome of a write, reason
    ("created", response(201, SENT), REPLY, ""),
    ("created, with a field of a later version", response(201, SENT | {"new": 1}), REPLY, ""),
    ("a 200", response(200, SENT), REPLY, ""),
    ("success without a body", response(201, b""), UNKNOWN, "failed"),
    ("success with half a body", response(201, b'{"seq":5,"mess'), UNKNOWN, "failed"),
    ("success with a page of some proxy", response(200, b"<html>"), UNKNOWN, "failed"),
    ("success with an id that is no number", response(201, SENT | {"message_id": "x"}), UNKNOWN, "failed"),
    ("rejected", response(403, urn("not-a-member", reason="not-a-member", as_of=4)), REPLY, ""),
    ("rejected for a reason of a later version", response(409, urn("x", reason="x", as_of=4)), REPLY, ""),
    ("no such chat, said by the edge", response(404, urn("unknown-chat")), INVALID, ""),
    ("too long", response(422, urn("invalid-request")), INVALID, ""),
    ("no caller", response(401, urn("unauthenticated")), INVALID, ""),
    ("not found at some other server", response(404, b"nothing here"), INVALID, ""),
    ("body late", response(408, urn("body-timeout")), NOT_DONE, "timeout"),
    ("too many requests", response(429, b""), NOT_DONE, "overloaded"),
    ("certainly not done", response(503, urn("not-done", reason="no-leader")), NOT_DONE, "no-leader"),
    ("certainly not done, no reason", response(503, urn("not-done")), NOT_DONE, "failed"),
    ("503 with a rejection's members", response(503, urn("x", reason="x", as_of=4)), UNKNOWN, "failed"),
    ("503 of a proxy, which may have passed it on", response(503, b"upstream died"), UNKNOWN, "failed"),
    ("503 with another problem", response(503, urn("not-ready")), UNKNOWN, "failed"),
    ("outcome unknown", response(504, urn("outcome-unknown")), UNKNOWN, "timeout"),
    ("504 of a proxy", response(504, b""), UNKNOWN, "failed"),
    ("502 of a proxy", response(502, b"[]"), UNKNOWN, "failed"),
    ("a bug of the node", response(500, urn("internal-error")), UNKNOWN, "failed"),
    ("a redirect", response(307, b""), UNKNOWN, "failed"),
    ("refused", error(httpx2.ConnectError("refused")), NOT_DONE, "unreachable"),
    ("no route in time", error(httpx2.ConnectTimeout("")), NOT_DONE, "unreachable"),
    ("no free connection in time", error(httpx2.PoolTimeout("")), NOT_DONE, "unreachable"),
    ("an address of another scheme", error(httpx2.UnsupportedProtocol("")), NOT_DONE, "unreachable"),
    ("reset while sending", error(httpx2.WriteError("")), UNKNOWN, "connection-lost"),
    ("reset while waiting", error(httpx2.ReadError("")), UNKNOWN, "connection-lost"),
    ("closed without an answer", error(httpx2.RemoteProtocolError("")), UNKNOWN, "connection-lost"),
    ("slow while sending", error(httpx2.WriteTimeout("")), UNKNOWN, "timeout"),
    ("slow to answer", error(httpx2.ReadTimeout("")), UNKNOWN, "timeout"),
    ("given up", lambda: of_timeout(2.0), UNKNOWN, "timeout"),
]


@pytest.mark.parametrize(("attempt", "outcome", "reason"), [a[1:] for a in ATTEMPTS], ids=[a[0] for a in ATTEMPTS])
def test_an_attempt_is_classified(attempt: Callable[[], Attempt], outcome: Outcome, reason: str) -> None:
    found = attempt()
    assert (found.outcome, found.reason) == (outcome, reason)
    assert (found.value is not None) == (outcome is REPLY)
    assert bool(found.detail) == (outcome is not REPLY)


@pytest.mark.parametrize(("attempt", "outcome"), [a[1:3] for a in ATTEMPTS], ids=[a[0] for a in ATTEMPTS])
def test_a_query_has_nothing_to_be_unsure_of(attempt: Callable[[], Attempt], outcome: Outcome) -> None:
    assert attempt().of_query().outcome is (NOT_DONE if outcome is UNKNOWN else outcome)


def test_a_rejection_is_rebuilt_exactly() -> None:
    found = of_response(WRITE, 409, json.dumps(urn("x", reason="transaction-reused", as_of=17)).encode())
    assert found.value == commands.Rejected("transaction-reused", 17)


MUTANTS: list[tuple[str, Any]] = [
    ("NOTHING_SENT", (*outcomes.NOTHING_SENT, httpx2.ReadTimeout)),
    ("NOTHING_SENT", (*outcomes.NOTHING_SENT, httpx2.RemoteProtocolError)),
    ("NOTHING_SENT", (httpx2.ConnectError,)),
    ("RETRYABLE_REFUSALS", (408,)),
    ("RETRYABLE_REFUSALS", (*outcomes.RETRYABLE_REFUSALS, 404)),
]


@pytest.mark.parametrize(("name", "value"), MUTANTS)
def test_the_table_notices_a_wrong_classification(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, name, value)
    assert any(attempt().outcome is not outcome for _, attempt, outcome, _ in ATTEMPTS)


# --- what the HTTP library raises, on real sockets ---------------------------------------------------------------


async def attempt_on(port: int) -> Attempt:
    async with httpx2.AsyncClient(trust_env=False) as http:
        try:
            answer = await http.put(f"http://127.0.0.1:{port}/v1/chats/9/messages/t", content=WRITE.body)
        except httpx2.TransportError as raised:
            return of_error(raised)
        return of_response(WRITE, answer.status_code, answer.content)


async def test_a_refused_connection_is_not_done() -> None:
    with socket.socket() as reserved:  # bound, but nobody listens
        reserved.bind(("127.0.0.1", 0))
        assert (await attempt_on(reserved.getsockname()[1])).outcome is NOT_DONE


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 20", b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{", b"SSH-2.0-OpenSSH_9.2\r\n"],
    ids=["nothing", "half a head", "half a body", "another protocol"],
)
async def test_a_connection_that_ends_before_the_answer_is_unknown(said: bytes) -> None:
    async def server(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(said)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, server, 0)
        port = listeners[0].socket.getsockname()[1]
        assert (await attempt_on(port)).outcome is UNKNOWN
        nursery.cancel_scope.cancel()
