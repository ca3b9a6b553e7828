"""The HTTP API as one ASGI application over a chat service.

Theory of operation
-------------------
``create_app`` builds a Starlette application from the table of operations. Around the router stands ``Edge``, which
sees every request and every response: it names the request (``X-Request-Id``), adds the headers that tell a client
where the cluster's leader is, and is the last to catch an exception, so that a bug is a 500 without a traceback on the
wire and with one in the log. Between the two, the exception handlers turn what endpoints raise into problems.

All that the application knows of the cluster are the protocols ``ChatService`` and ``ClusterService``. It holds no
state of its own: an application can be served by several servers, and a test can call it without any.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from impl.chat.service import ChatService, NotDone, OutcomeUnknown
from impl.cluster_service import ClusterService
from impl.http import openapi, parse, problems, wire
from impl.http.cluster_endpoints import ClusterEndpoints
from impl.http.endpoints import Endpoints
from impl.http.limits import REQUEST_ID_MAX_CHARACTERS, REQUEST_TIMEOUT_S
from impl.http.parse import Disconnected
from impl.http.problems import Problem
from impl.http.routes import OPERATIONS, Operation

log = structlog.get_logger("telegraft.http")

Endpoint = Callable[[Request], Awaitable[Response]]

MADE_ID_BYTES = 16
"""Of the ids that the server makes for requests and transactions without one: 128 random bits never collide."""

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,%d}" % REQUEST_ID_MAX_CHARACTERS)


def make_random_id() -> str:
    return secrets.token_hex(MADE_ID_BYTES)


def create_app(
    service: ChatService,
    *,
    cluster: ClusterService | None = None,
    metrics: Callable[[], bytes] | None = None,
    request_timeout_s: float = REQUEST_TIMEOUT_S,
    make_id: Callable[[], str] = make_random_id,
) -> Starlette:
    """The application.

    Without ``cluster`` or ``metrics`` (the text that Prometheus reads) their paths answer that there is nothing.
    ``request_timeout_s`` is what the service gets to answer one command. ``make_id`` makes the ids of requests and
    transactions that come without one; tests and simulations give a deterministic one.
    """
    rooms = (
        Endpoints(service, request_timeout_s=request_timeout_s, make_id=make_id),
        ClusterEndpoints(cluster, metrics, request_timeout_s=request_timeout_s),
    )
    by_path: dict[str, dict[str, Endpoint]] = {}
    for operation in OPERATIONS:
        endpoint = next(getattr(room, operation.endpoint) for room in rooms if hasattr(room, operation.endpoint))
        by_path.setdefault(operation.path, {})[operation.method] = _only_known_parameters(operation, endpoint)
    by_path[openapi.PATH] = {"GET": _describe}

    app = Starlette(
        routes=[Route(path, _by_method(methods), methods=list(methods)) for path, methods in by_path.items()],
        middleware=[Middleware(Edge, service=service, make_id=make_id)],
        exception_handlers={
            Problem: _answer_problem,
            NotDone: _answer_not_done,
            OutcomeUnknown: _answer_outcome_unknown,
            HTTPException: _answer_http_exception,
        },
    )
    app.router.redirect_slashes = False  # a redirected write loses its body in many clients: 404 is plainer
    return app


def _by_method(methods: dict[str, Endpoint]) -> Endpoint:
    async def dispatch(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await methods[method](request)

    return dispatch


def _only_known_parameters(operation: Operation, endpoint: Endpoint) -> Endpoint:
    async def checked(request: Request) -> Response:
        parse.only_parameters(request, operation.query_names)
        return await endpoint(request)

    return checked


async def _describe(request: Request) -> Response:
    return Response(openapi.document(), media_type="application/json")


# --- what endpoints raise ----------------------------------------------------------------------------------------


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _answer_not_done(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotDone)
    return problems.not_done(error).response()


async def _answer_outcome_unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, OutcomeUnknown)
    return problems.outcome_unknown(error).response()


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """What the router raises: 404 for a path and 405 for a method that is not in the table."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        detail = f"{path} does not know {request.method[:32]}; it knows {allowed}."
        return Problem(problems.METHOD_NOT_ALLOWED, detail, headers={"Allow": allowed}).response()
    detail = f"Nothing is at {path}: {openapi.PATH} describes what there is."
    return Problem(problems.NOT_FOUND, detail).response()


# --- around everything -------------------------------------------------------------------------------------------


class Edge:
    """Pure ASGI middleware around the router: request ids, the cluster's headers, the last resort for exceptions."""

    def __init__(self, app: ASGIApp, *, service: ChatService, make_id: Callable[[], str]) -> None:
        self._app = app
        self._service = service
        self._make_id = make_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._request_id(scope)
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *self._headers(request_id)]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Disconnected:
            return
        except Exception:
            log.exception("request failed", request_id=request_id, method=scope["method"], path=scope["path"])
            if started:
                return  # half a response is out: the server closes the connection, and the client sees it cut
            detail = f"This is a bug of the node; its log says more under the request id {request_id}."
            response = Problem(problems.INTERNAL, detail).response()
            await response(scope, receive, send_with_headers)

    def _request_id(self, scope: Scope) -> str:
        wanted = wire.REQUEST_ID_HEADER.lower().encode()
        for name, value in scope["headers"]:
            if name == wanted and _REQUEST_ID.fullmatch(value):
                return bytes(value).decode("ascii")
        return self._make_id()

    def _headers(self, request_id: str) -> list[tuple[bytes, bytes]]:
        """Read when the response starts, so that they are as fresh as the answer."""
        status = self._service.status()
        named = [
            (wire.REQUEST_ID_HEADER, request_id),
            (wire.NODE_HEADER, str(status.node_id)),
            (wire.TERM_HEADER, str(status.term)),
        ]
        if status.leader_id:
            named.append((wire.LEADER_ID_HEADER, str(status.leader_id)))
        if status.leader_url:
            named.append((wire.LEADER_HEADER, status.leader_url))
        return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in named]
