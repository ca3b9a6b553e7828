"""Every way in which a request can fail: the status, the problem's type, and words that name what to change."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from impl.chat import commands
from impl.chat.commands import REASONS, Command, Rejected, Reply
from impl.chat.service import NotDone, OutcomeUnknown
from impl.http import limits, problems
from impl.http.app import create_app
from impl.http.tests.asgi import Answer, call
from impl.http.tests.fake_service import STATUS, FakeService

SEND = "/v1/chats/9/messages/t"
USERS = "/v1/users"
BIG_TEXT = json.dumps({"text": "x" * 4_321}).encode()


async def failing(method: str, path: str, body: bytes = b"", **how: Any) -> Answer:
    """A request that must fail before the service is asked."""
    service = FakeService()
    answer = await call(create_app(service), method, path, body, **how)
    assert service.commands == []
    return answer


REFUSED: list[tuple[str, str, str, bytes, int, str, list[str]]] = [
    # what, method, path, body, status, type, words of the detail
    ("no such path", "GET", "/nowhere", b"", 404, "not-found", ["/nowhere", "openapi.json"]),
    ("trailing slash", "GET", "/v1/chats/", b"", 404, "not-found", ["/v1/chats/"]),
    ("path of another version", "GET", "/v2/chats", b"", 404, "not-found", ["/v2/chats"]),
    ("wrong method", "PATCH", "/v1/chats/9/members/me", b"", 405, "method-not-allowed", ["PATCH", "DELETE, PUT"]),
    ("chat not a number", "GET", "/v1/chats/general/members", b"", 404, "unknown-chat", ["'general'"]),
    ("chat negative", "PUT", "/v1/chats/-1/members/me", b"", 404, "unknown-chat", ["'-1'"]),
    ("chat beyond 64 bits", "DELETE", f"/v1/chats/{2**63}/members/me", b"", 404, "unknown-chat", [str(2**63)]),
    ("chat with a zero in front", "GET", "/v1/chats/09/messages", b"", 404, "unknown-chat", ["'09'"]),
    ("chat in other digits", "GET", "/v1/chats/\u0669/messages", b"", 404, "unknown-chat", []),
    ("after no integer", "GET", "/v1/chats/9/messages?after=x", b"", 422, "invalid-request", ["after", "'x'"]),
    ("after negative", "GET", "/v1/chats/9/messages?after=-1", b"", 422, "invalid-request", ["after", "-1"]),
    ("after empty", "GET", "/v1/chats/9/messages?after=", b"", 422, "invalid-request", ["after"]),
    ("limit fraction", "GET", "/v1/chats/9/messages?limit=1.5", b"", 422, "invalid-request", ["limit", "'1.5'"]),
    ("limit 0", "GET", "/v1/chats/9/messages?limit=0", b"", 422, "invalid-request", ["limit", "250"]),
    ("limit 251", "GET", "/v1/chats/9/messages?limit=251", b"", 422, "invalid-request", ["limit", "251", "250"]),
    ("limit huge", "GET", f"/v1/chats/9/messages?limit={'9' * 5000}", b"", 422, "invalid-request", ["limit"]),
    ("both", "GET", "/v1/chats/9/messages?limit=a&after=b", b"", 422, "invalid-request", ["limit", "after"]),
    ("empty body", "PUT", SEND, b"", 400, "malformed-json", ["empty", "text"]),
    ("cut JSON", "PUT", SEND, b'{"text": "a', 400, "malformed-json", ["line 1 column 11"]),
    ("bad JSON on line 2", "PUT", SEND, b'{\n"text": nope}', 400, "malformed-json", ["line 2 column 10"]),
    ("two JSON values", "PUT", SEND, b'{"text":"a"} 1', 400, "malformed-json", ["column 14"]),
    ("not UTF-8", "PUT", SEND, b'{"text":"\xff"}', 400, "malformed-json", ["column 10"]),
    ("surrogate in UTF-8", "PUT", SEND, b'{"text":"\xed\xa0\x80"}', 400, "malformed-json", ["column 10"]),
    ("raw control character", "PUT", SEND, b'{"text":"\x00"}', 400, "malformed-json", ["control character"]),
    ("deep", "PUT", SEND, b"[" * 60_000, 400, "malformed-json", ["recursion"]),
    ("byte order mark", "PUT", SEND, b'\xef\xbb\xbf{"text":"a"}', 400, "malformed-json", ["column 1"]),
    ("lone high surrogate", "PUT", SEND, b'{"text":"ab\\ud800"}', 422, "invalid-request", ["text", "\\ud800", "2"]),
    ("lone low surrogate", "PUT", SEND, b'{"text":"\\udc00!"}', 422, "invalid-request", ["text", "\\udc00"]),
    ("reversed pair", "PUT", SEND, b'{"text":"\\ude00\\ud83d"}', 422, "invalid-request", ["text", "\\ude00"]),
    ("surrogate in a name", "PUT", SEND, b'{"\\ud800":"a"}', 422, "invalid-request", ["body", "\\ud800"]),
    ("surrogate in the username", "POST", USERS, b'{"username":"\\ud800"}', 422, "invalid-request", ["username"]),
    ("array", "PUT", SEND, b"[]", 422, "invalid-request", ["body", "object"]),
    ("null", "PUT", SEND, b"null", 422, "invalid-request", ["body", "object"]),
    ("missing field", "PUT", SEND, b"{}", 422, "invalid-request", ["text", "missing"]),
    ("unknown field", "PUT", SEND, b'{"text":"a","txt":"b"}', 422, "invalid-request", ["txt", "no such field"]),
    ("text a number", "PUT", SEND, b'{"text":5}', 422, "invalid-request", ["text", "string"]),
    ("text null", "PUT", SEND, b'{"text":null}', 422, "invalid-request", ["text", "string"]),
    ("text empty", "PUT", SEND, b'{"text":""}', 422, "invalid-request", ["text", "at least 1"]),
    ("text too long", "PUT", SEND, BIG_TEXT, 422, "invalid-request", ["text", "4,000", "4,321"]),
    ("txn id empty", "PUT", "/v1/chats/9/messages/", b'{"text":"a"}', 422, "invalid-request", ["txn_id", "1 to 128"]),
    ("txn id long", "PUT", SEND + "t" * 128, b'{"text":"a"}', 422, "invalid-request", ["txn_id", "128", "129"]),
    ("txn id with a space", "PUT", SEND + " ", b'{"text":"a"}', 422, "invalid-request", ["txn_id", "visible"]),
    ("txn id not ASCII", "PUT", SEND + "\xe9", b'{"text":"a"}', 422, "invalid-request", ["txn_id", "ASCII"]),
    ("username empty", "POST", USERS, b'{"username":""}', 422, "invalid-request", ["username", "at least 1"]),
    ("username long", "POST", USERS, b'{"username":"%s"}' % (b"a" * 65), 422, "invalid-request", ["64", "65"]),
    ("username in capitals", "POST", USERS, b'{"username":"Ann"}', 422, "invalid-request", ["username", "a-z"]),
    ("username with newline", "POST", USERS, b'{"username":"ann\\n"}', 422, "invalid-request", ["username", "a-z"]),
    ("username with a dot first", "POST", USERS, b'{"username":".ann"}', 422, "invalid-request", ["first"]),
    ("chat name empty", "POST", "/v1/chats", b'{"name":""}', 422, "invalid-request", ["name", "at least 1"]),
    ("chat name long", "POST", "/v1/chats", b'{"name":"%s"}' % (b"a" * 201), 422, "invalid-request", ["200", "201"]),
    ("body over the cap", "PUT", SEND, b" " * 65_537, 413, "body-too-large", ["65,536"]),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "type_", "words"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
async def test_a_request_at_fault_is_told_so(
    method: str, path: str, body: bytes, status: int, type_: str, words: list[str]
) -> None:
    answer = await failing(method, path, body)
    assert (answer.status, answer.json["type"]) == (status, f"urn:telegraft:problem:{type_}")
    for word in words:
        assert word in answer.json["detail"]
    assert "as_of" not in answer.json  # that would make it a reply of the state machine


async def test_every_field_at_fault_is_named() -> None:
    answer = await failing("PUT", SEND, b'{"a":1,"b":2}')
    assert [error["field"] for error in answer.json["errors"]] == ["text", "a", "b"]


async def test_a_refusal_does_not_quote_a_long_input() -> None:
    answer = await failing("PUT", SEND, json.dumps({"text": "x" * 60_000}).encode())
    assert len(answer.body) < 1_000


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_allow_lists_every_method_of_the_path(method: str) -> None:
    assert (await failing(method, "/v1/chats")).headers["allow"] == "POST"
    assert (await failing("POST", "/v1/chats/9/members/me")).headers["allow"] == "DELETE, PUT"
    assert (await failing("DELETE", "/v1/status")).headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("user", [None, "", "ann", "-7", "0", "07", "7 ", "7,8", str(2**63)])
async def test_an_unknown_caller_is_told_what_to_send(user: str | None) -> None:
    answer = await failing("GET", "/v1/users/me/chats", user=user)
    assert answer.status == 401
    assert "Telegraft-User" in answer.json["detail"]
    assert "POST /v1/users" in answer.json["detail"]
    assert answer.headers["www-authenticate"] == "Telegraft-User"


@pytest.mark.parametrize("txn_id", ["", "a b", "t" * 129, "\xe9"])
async def test_a_bad_idempotency_key_is_named(txn_id: str) -> None:
    answer = await failing("POST", "/v1/users", b'{"username":"ann"}', headers={"Idempotency-Key": txn_id})
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "Idempotency-Key"


async def test_the_body_is_capped_while_it_is_read() -> None:
    """The second piece crosses the cap: the third is never asked for."""
    asked = 0
    sent: list[Any] = []
    scope = {"type": "http", "method": "PUT", "path": SEND, "headers": [(b"telegraft-user", b"7")], "query_string": b""}

    async def receive() -> Any:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b" " * limits.BODY_MAX_BYTES, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    await create_app(FakeService())(scope, receive, send)
    assert (asked, sent[0]["status"], json.loads(sent[1]["body"])["limit_bytes"]) == (2, 413, limits.BODY_MAX_BYTES)


async def test_a_body_declared_far_too_large_is_not_read() -> None:
    declared = str(limits.BODY_DRAIN_MAX_BYTES + 1)
    answer = await failing("PUT", SEND, headers={"Content-Length": declared})
    assert answer.status == 413
    assert "1,048,577" in answer.json["detail"]
    assert answer.headers["connection"] == "close"


async def test_a_body_of_exactly_the_cap_is_taken() -> None:
    body = b'{"text":"a"}'.ljust(limits.BODY_MAX_BYTES)
    assert (await call(create_app(FakeService()), "PUT", SEND, body)).status == 201


async def test_a_body_that_does_not_come_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    app = create_app(FakeService())
    sent: list[Any] = []
    scope = {"type": "http", "method": "PUT", "path": SEND, "headers": [(b"telegraft-user", b"7")]}

    async def receive() -> Any:
        await trio.sleep(limits.BODY_TIMEOUT_S * 0.6)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope | {"query_string": b""}, receive, send)
    assert trio.current_time() == pytest.approx(limits.BODY_TIMEOUT_S)
    assert (sent[0]["status"], json.loads(sent[1]["body"])["type"]) == (408, "urn:telegraft:problem:body-timeout")


async def test_a_client_that_leaves_during_its_body_is_not_answered() -> None:
    service = FakeService()
    app = create_app(service)
    sent: list[Any] = []
    scope = {"type": "http", "method": "PUT", "path": SEND, "headers": [(b"telegraft-user", b"7")], "query_string": b""}

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert (sent, service.commands) == ([], [])


# --- what the service says ---------------------------------------------------------------------------------------

REJECTED = [
    ("unknown-user", 401, "POST /v1/users"),
    ("unknown-chat", 404, "9"),
    ("username-taken", 409, "another"),
    ("not-a-member", 403, "PUT /v1/chats/9/members/me"),
    ("transaction-reused", 409, "new id"),
]


@pytest.mark.parametrize(("reason", "status", "word"), REJECTED)
async def test_a_rejection_is_a_problem_that_carries_the_whole_reply(reason: str, status: int, word: str) -> None:
    service = FakeService(lambda command: Rejected(reason, 42))
    answer = (
        await call(create_app(service), "POST", "/v1/users", b'{"username":"a"}')
        if reason == "username-taken"
        else await call(create_app(service), "PUT", SEND, b'{"text":"a"}')
    )
    assert answer.status == status
    assert answer.json["type"] == f"urn:telegraft:problem:{reason}"
    assert Rejected(answer.json["reason"], answer.json["as_of"]) == Rejected(reason, 42)
    assert word in answer.json["detail"]


def test_every_reason_has_its_problem() -> None:
    assert set(problems.REJECTIONS) == set(REASONS) == {reason for reason, *_ in REJECTED}


@pytest.mark.parametrize("method", ["PUT", "GET"])
async def test_not_done_is_503_with_a_reason_and_a_time_to_retry(method: str) -> None:
    service = FakeService()
    service.raises(NotDone("no-leader", "No leader is known."))
    path = SEND if method == "PUT" else "/v1/chats/9/messages"
    answer = await call(create_app(service), method, path, b'{"text":"a"}')
    assert (answer.status, answer.json["type"]) == (503, "urn:telegraft:problem:not-done")
    assert (answer.json["reason"], answer.json["detail"]) == ("no-leader", "No leader is known.")
    assert answer.headers["retry-after"] == "1"
    assert "as_of" not in answer.json


async def test_outcome_unknown_is_504_and_says_how_to_find_out() -> None:
    service = FakeService()
    service.raises(OutcomeUnknown("The leader was lost."))
    answer = await call(create_app(service), "PUT", SEND, b'{"text":"a"}')
    assert (answer.status, answer.json["type"]) == (504, "urn:telegraft:problem:outcome-unknown")
    assert "same transaction id" in answer.json["detail"]
    assert "retry-after" not in answer.headers


async def test_a_bug_is_500_without_a_traceback_on_the_wire_and_with_one_in_the_log() -> None:
    service = FakeService()
    service.raises(RuntimeError("secret detail"))
    with capture_logs() as logged:
        answer = await call(create_app(service, make_id=lambda: "r-1"), "PUT", SEND, b'{"text":"a"}')
    assert (answer.status, answer.json["type"]) == (500, "urn:telegraft:problem:internal-error")
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert "r-1" in answer.json["detail"]
    assert [(entry["log_level"], entry["request_id"]) for entry in logged] == [("error", "r-1")]


async def test_a_reply_to_another_command_is_a_bug() -> None:
    def wrong(command: Command) -> Reply:
        return commands.Members((), 0)

    with capture_logs() as logged:
        for method, path in (("PUT", SEND), ("PUT", "/v1/chats/9/members/me")):
            assert (await call(create_app(FakeService(wrong)), method, path, b'{"text":"a"}')).status == 500
    assert len(logged) == 2


async def test_not_ready_without_a_leader() -> None:
    service = FakeService()
    service.current = msgspec.structs.replace(STATUS, role="candidate", leader_id=0, leader_url="")
    answer = await call(create_app(service), "GET", "/readyz", user=None)
    assert (answer.status, answer.json["type"]) == (503, "urn:telegraft:problem:not-ready")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/chats/9/messages?after=1&limits=5", "limits"),
        ("/v1/chats/9/members?after=1", "after"),
        ("/v1/status?consistency=stale", "consistency"),
        ("/v1/chats/9/messages?after=1&after=2", "after"),
    ],
)
async def test_a_parameter_that_is_not_known_or_there_twice_is_named(path: str, named: str) -> None:
    service = FakeService()
    answer = await call(create_app(service), "GET", path)
    assert (answer.status, answer.json["type"]) == (400, "urn:telegraft:problem:unknown-parameter")
    assert repr(named) in answer.json["detail"]
    assert service.commands == []


async def test_a_name_that_is_there_twice_in_a_body_is_refused() -> None:
    service = FakeService()
    body = b'{"text": "one", "text": "other"}'
    answer = await call(create_app(service), "PUT", "/v1/chats/9/messages/t", body)
    assert (answer.status, answer.json["type"]) == (400, "urn:telegraft:problem:malformed-json")
    assert "'text'" in answer.json["detail"]
    assert service.commands == []
