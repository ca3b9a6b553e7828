"""Each operation when it succeeds: the command it becomes, the body it answers, the headers around it."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from impl.chat import commands
from impl.chat.commands import Command
from impl.http.app import create_app
from impl.http.limits import PAGE_DEFAULT_ITEMS, TEXT_MAX_CHARACTERS
from impl.http.routes import OPERATIONS
from impl.http.tests.asgi import Answer, NotDescribed, call, check_described
from impl.http.tests.fake_service import MESSAGE_ID, STATUS, FakeService

OF_THE_GROUP = {"cluster", "change_cluster", "transfer_leadership", "download_snapshot", "metrics"}
"""In ``test_cluster_operations``."""

TXN = {"Idempotency-Key": "t-1"}

SUCCESSES: list[tuple[str, str, str, bytes, Command, int, object]] = [
    (
        "create_user",
        "POST",
        "/v1/users",
        b'{"username": "ann"}',
        commands.CreateUser("t-1", "ann"),
        201,
        {"user_id": "7", "username": "ann", "as_of": 1},
    ),
    (
        "create_chat",
        "POST",
        "/v1/chats",
        b'{"name": "a chat"}',
        commands.CreateChat(7, "t-1", "a chat"),
        201,
        {"chat_id": "9", "name": "a chat", "as_of": 1},
    ),
    (
        "join",
        "PUT",
        "/v1/chats/9/members/me",
        b"",
        commands.Join(7, 9, "t-1"),
        200,
        {"chat_id": "9", "changed": True, "seq": 5, "message_id": str(MESSAGE_ID), "as_of": 5},
    ),
    (
        "leave",
        "DELETE",
        "/v1/chats/9/members/me",
        b"",
        commands.Leave(7, 9, "t-1"),
        200,
        {"changed": False, "as_of": 4},
    ),
    (
        "send",
        "PUT",
        "/v1/chats/9/messages/a/b%",
        b'{"text": "hello"}',
        commands.Send(7, 9, "a/b%", "hello"),
        201,
        {"seq": 5, "message_id": str(MESSAGE_ID), "as_of": 5},
    ),
    (
        "read",
        "GET",
        "/v1/chats/9/messages?after=0&limit=2",
        b"",
        commands.ReadMessages(7, 9, 0, 2),
        200,
        {
            "items": [
                {
                    "seq": 1,
                    "message_id": str(MESSAGE_ID),
                    "kind": "create",
                    "author": "7",
                    "txn_id": "t1",
                    "text": "a chat",
                    "sent_at": "2025-01-01T00:00:00.001Z",
                },
                {
                    "seq": 2,
                    "message_id": str(MESSAGE_ID + 1),
                    "kind": "text",
                    "author": "7",
                    "txn_id": "t2",
                    "text": "hello",
                    "sent_at": "2025-01-01T00:00:00.001Z",
                },
            ],
            "as_of": 5,
            "next": 2,
        },
    ),
    (
        "members",
        "GET",
        "/v1/chats/9/members",
        b"",
        commands.ListMembers(7, 9),
        200,
        {"items": ["7", "8"], "as_of": 5},
    ),
    (
        "chats",
        "GET",
        "/v1/users/me/chats",
        b"",
        commands.ListChats(7),
        200,
        {"items": [{"chat_id": "9", "name": "a chat", "as_of": 5}], "as_of": 1},
    ),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "command", "status", "answered"),
    [s[1:] for s in SUCCESSES],
    ids=[s[0] for s in SUCCESSES],
)
async def test_a_request_becomes_a_command_and_its_reply_a_body(
    method: str, path: str, body: bytes, command: Command, status: int, answered: object
) -> None:
    service = FakeService()
    answer = await call(create_app(service, request_timeout_s=1.5), method, path, body, headers=TXN)
    assert service.commands == [command]
    assert service.timeouts_s == [1.5]
    assert (answer.status, answer.json) == (status, answered)
    assert answer.headers["content-type"] == "application/json"


def test_every_operation_of_the_service_is_covered_above() -> None:
    covered = {name for name, *_ in SUCCESSES}
    assert covered | {"status", "livez", "readyz"} == {o.endpoint for o in OPERATIONS} - OF_THE_GROUP


async def test_ids_at_the_end_of_64_bits_pass_as_strings() -> None:
    big = 2**63 - 1
    service = FakeService(lambda command: commands.Posted(1, big, 1))
    answer = await call(create_app(service), "PUT", f"/v1/chats/{big}/messages/t", b'{"text":"x"}', user=str(big))
    assert service.commands == [commands.Send(big, big, "t", "x")]
    assert answer.json["message_id"] == str(big)


@pytest.mark.parametrize(
    ("items", "as_of", "following"), [(0, 0, None), (0, 5, None), (2, 2, None), (2, 3, 2)], ids=str
)
async def test_next_is_the_last_seq_of_a_page_that_is_not_the_last(
    items: int, as_of: int, following: int | None
) -> None:
    page = tuple(commands.Message(n + 1, MESSAGE_ID + n, "text", 7, "t", "x") for n in range(items))
    service = FakeService(lambda command: commands.Messages(page, as_of))
    answer = await call(create_app(service), "GET", "/v1/chats/9/messages")
    assert answer.json["next"] == following
    assert service.commands == [commands.ReadMessages(7, 9, 0, PAGE_DEFAULT_ITEMS)]


async def test_a_write_without_a_transaction_id_gets_one() -> None:
    service = FakeService()
    made = iter(["request-1", "txn-1"])
    await call(create_app(service, make_id=lambda: next(made)), "PUT", "/v1/chats/9/members/me")
    assert service.commands == [commands.Join(7, 9, "txn-1")]


async def test_creating_a_user_needs_no_caller() -> None:
    assert (await call(create_app(FakeService()), "POST", "/v1/users", b'{"username":"a"}', user=None)).status == 201


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50), st.booleans())
async def test_a_text_of_any_characters_arrives_unchanged(text: str, ascii_only: bool) -> None:
    service = FakeService()
    body = json.dumps({"text": text}, ensure_ascii=ascii_only).encode()
    answer = await call(create_app(service), "PUT", "/v1/chats/9/messages/t", body)
    assert answer.status == 201
    assert service.commands == [commands.Send(7, 9, "t", text)]


@pytest.mark.parametrize("text", ["\0", "\N{GRINNING FACE}" * TEXT_MAX_CHARACTERS, "\u202e\ufeff\u0301", "'; --"])
async def test_a_text_of_odd_characters_is_sent_and_read_unchanged(text: str) -> None:
    sent = FakeService()
    body = json.dumps({"text": text}).encode()
    assert (await call(create_app(sent), "PUT", "/v1/chats/9/messages/t", body)).status == 201
    assert sent.commands == [commands.Send(7, 9, "t", text)]

    message = commands.Message(1, MESSAGE_ID, "text", 7, "t", text)
    read = FakeService(lambda command: commands.Messages((message,), 1))
    assert (await call(create_app(read), "GET", "/v1/chats/9/messages")).json["items"][0]["text"] == text


async def test_a_body_in_pieces_is_one_body() -> None:
    service = FakeService()
    await call(create_app(service), "PUT", "/v1/chats/9/messages/t", [b'{"te', b"", b'xt":"a', b'"}'])
    assert service.commands == [commands.Send(7, 9, "t", "a")]


async def test_status_tells_all_that_the_node_knows() -> None:
    answer = await call(create_app(FakeService()), "GET", "/v1/status", user=None)
    fields = {field: getattr(STATUS, field) for field in STATUS.__struct_fields__}
    as_text = {"peers": {str(node): url for node, url in STATUS.peers.items()}, "incarnation": str(STATUS.incarnation)}
    assert answer.json == fields | as_text


async def test_health() -> None:
    service = FakeService()
    assert (await call(create_app(service), "GET", "/livez", user=None)).json == {"status": "alive"}
    assert (await call(create_app(service), "GET", "/readyz", user=None)).json == {"status": "ready"}


async def test_every_response_says_where_the_leader_is() -> None:
    for path, status in (("/livez", 200), ("/nowhere", 404), ("/v1/chats/x/members", 404)):
        answer = await call(create_app(FakeService()), "GET", path)
        assert answer.status == status
        assert answer.headers["telegraft-node"] == "2"
        assert answer.headers["telegraft-term"] == "7"
        assert answer.headers["telegraft-leader"] == "http://127.0.0.1:8103"
        assert answer.headers["telegraft-leader-id"] == "3"


async def test_no_leader_no_leader_headers() -> None:
    service = FakeService()
    service.current = msgspec.structs.replace(STATUS, role="candidate", leader_id=0, leader_url="")
    answer = await call(create_app(service), "GET", "/livez")
    assert "telegraft-leader" not in answer.headers
    assert "telegraft-leader-id" not in answer.headers


@pytest.mark.parametrize("given_id", ["abc-1", "~" * 128])
async def test_a_request_id_is_echoed(given_id: str) -> None:
    answer = await call(create_app(FakeService()), "GET", "/livez", headers={"X-Request-Id": given_id})
    assert answer.headers["x-request-id"] == given_id


@pytest.mark.parametrize("given_id", [None, "", "a b", "~" * 129, "\xe9"])
async def test_a_request_without_a_usable_id_gets_one(given_id: str | None) -> None:
    headers = {} if given_id is None else {"X-Request-Id": given_id}
    answer = await call(create_app(FakeService(), make_id=lambda: "made"), "GET", "/livez", headers=headers)
    assert answer.headers["x-request-id"] == "made"


async def test_head_is_answered_where_get_is() -> None:
    answer = await call(create_app(FakeService()), "HEAD", "/v1/status")
    assert (answer.status, answer.headers["telegraft-node"]) == (200, "2")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, {"content-type": "application/json"}, b'{"seq":1,"message_id":"5","as_of":1}'),
        Answer(201, {"content-type": "application/json"}, b'{"seq":1,"message_id":5,"as_of":1}'),
        Answer(201, {"content-type": "application/json"}, b'{"seq":1,"message_id":"5","as_of":1,"new":1}'),
        Answer(500, {"content-type": "text/plain"}, b"Internal Server Error"),
        Answer(409, {"content-type": "application/problem+json"}, b'{"type":"urn:telegraft:problem:username-taken"}'),
    ],
)
def test_the_check_of_the_description_notices_a_wrong_answer(answer: Answer) -> None:
    send = next(o for o in OPERATIONS if o.endpoint == "send")
    with pytest.raises((NotDescribed, ValueError)):
        check_described(send, answer)


@pytest.mark.parametrize("path", ["/v1/chats/9/messages", "/v1/chats/9/members", "/v1/users/me/chats"])
@pytest.mark.parametrize("consistency", ["linearizable", "lease", "stale"])
async def test_a_read_says_how_recent_it_must_be(path: str, consistency: str) -> None:
    service = FakeService()
    answer = await call(create_app(service), "GET", f"{path}?consistency={consistency}")
    assert (answer.status, service.consistencies) == (200, [consistency])


@pytest.mark.parametrize("path", ["/v1/chats/9/messages", "/v1/chats/9/members", "/v1/users/me/chats"])
async def test_a_read_is_linearizable_unless_it_says_otherwise(path: str) -> None:
    service = FakeService()
    await call(create_app(service), "GET", path)
    assert service.consistencies == ["linearizable"]
    answer = await call(create_app(service), "GET", f"{path}?consistency=eventual")
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "consistency")
