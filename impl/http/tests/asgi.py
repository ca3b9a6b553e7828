"""Calls an application as a server would, and checks every answer against the API's description.

Theory of operation
-------------------
``call`` speaks ASGI to the application, without a server or a network. Before it hands back an answer it looks the
operation up in ``/v1/openapi.json``'s source table: a status that is not described, a body that does not fit its model
or an error that is no problem fails the test that provoked it. So each test of this room is a test of the description.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.routing import Match, Route

from impl.http import bodies, wire
from impl.http.problems import KINDS
from impl.http.routes import OPERATIONS, Operation

UNIVERSAL_STATUSES = {404, 405}
"""What the router answers for anything that is no operation."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class NotDescribed(AssertionError):
    """The application answered something that the description of the API does not allow."""


async def call(
    app: Starlette,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] = b"",
    *,
    user: str | None = "7",
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request. ``path`` is decoded already, as servers give it, and may end in a query; ``body`` may be chunks."""
    path, _, query = path.partition("?")
    named = {k.lower(): v for k, v in (headers or {}).items()}
    if user is not None:
        named[wire.USER_HEADER.lower()] = user
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in named.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    chunks = [body] if isinstance(body, bytes) else list(body)
    incoming = [
        {"type": "http.request", "body": chunk, "more_body": i < len(chunks) - 1} for i, chunk in enumerate(chunks)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    answer = Answer(
        start["status"],
        {name.decode(): value.decode("latin-1") for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )
    if method != "HEAD":
        check_described(operation_of(app, scope), answer)
    return answer


def operation_of(app: Starlette, scope: dict[str, Any]) -> Operation | None:
    """The row of the table for a request, None where there is none."""
    for route in app.router.routes:
        if isinstance(route, Route) and route.matches(scope)[0] is Match.FULL:
            matching = (o for o in OPERATIONS if o.path == route.path and o.method == scope["method"])
            return next(matching, None)
    return None


def check_described(operation: Operation | None, answer: Answer) -> None:
    """Raises ``NotDescribed`` for an answer that a reader of the description could not expect."""
    if answer.status >= 400:
        _check_problem(operation, answer)
    elif operation is not None:
        if answer.status != operation.status:
            raise NotDescribed(f"{operation.endpoint} is described to answer {operation.status}, not {answer.status}")
        found = answer.headers.get("content-type", "").partition(";")[0]
        if found != operation.media_type:
            raise NotDescribed(f"{operation.endpoint} is described to answer {operation.media_type}, not {found}")
        if not operation.responses:
            return
        errors = []
        for model in operation.responses:
            try:
                TypeAdapter(model).validate_json(answer.body, strict=True)
                return
            except ValidationError as error:
                errors.append(error)
        raise NotDescribed(f"{operation.endpoint}: {answer.body!r} fits none of its models: {errors}")


def _check_problem(operation: Operation | None, answer: Answer) -> None:
    if answer.headers.get("content-type") != wire.PROBLEM_MEDIA_TYPE:
        raise NotDescribed(f"{answer.status} is no problem but {answer.headers.get('content-type')}")
    problem = bodies.ProblemDetails.model_validate_json(answer.body)
    if problem.status != answer.status or not problem.detail:
        raise NotDescribed(f"the problem says {problem.status}, the response {answer.status}")
    kinds = [kind for kind in KINDS if kind.type == problem.type]
    if [kind.status for kind in kinds] != [answer.status]:
        raise NotDescribed(f"{problem.type} is no known problem for {answer.status}")
    if operation is None:
        if answer.status not in UNIVERSAL_STATUSES:
            raise NotDescribed(f"{answer.status} for something that is no operation")
    elif kinds[0] not in operation.problems:
        raise NotDescribed(f"{operation.endpoint} is not described to answer {problem.type}")
