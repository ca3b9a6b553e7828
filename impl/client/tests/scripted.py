"""A network that does what a script says: one step per attempt, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import httpx2
import trio

Step = Callable[[httpx2.Request], httpx2.Response | Exception | float]
"""What happens to a request: a response, an error, or as many seconds without an answer (then a broken connection)."""


class Seen(NamedTuple):
    """One attempt, as it reached the network."""

    at_s: float
    node: str  # scheme, host and port
    method: str
    target: str  # path and query as sent
    headers: dict[str, str]
    body: bytes


class ScriptedTransport(httpx2.AsyncBaseTransport):
    """Plays the steps in order, and the last of them for ever."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = list(steps)
        self.seen: list[Seen] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        node = f"{request.url.scheme}://{request.url.netloc.decode()}"
        headers = {name.lower(): value for name, value in request.headers.items()}
        target = request.url.raw_path.decode()
        self.seen.append(Seen(trio.current_time(), node, request.method, target, headers, body))
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        result = step(request)
        await trio.lowlevel.checkpoint()
        if isinstance(result, float):
            await trio.sleep(result)
            raise httpx2.ReadError("broken after a long silence")
        if isinstance(result, Exception):
            raise result
        return result


def answers(status: int, body: dict[str, Any] | bytes, node: int = 0, leader: int = 0, url: str = "") -> Step:
    """A response, with the headers of a node that knows a leader."""
    headers = {"content-type": "application/json"}
    headers |= {"telegraft-node": str(node)} if node else {}
    headers |= {"telegraft-leader-id": str(leader)} if leader else {}
    headers |= {"telegraft-leader": url} if url else {}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda request: httpx2.Response(status, headers=headers, content=content)


def posted(node: int = 0, leader: int = 0, url: str = "") -> Step:
    return answers(201, {"seq": 5, "message_id": "55", "as_of": 5}, node, leader, url)


def problem(status: int, name: str, node: int = 0, leader: int = 0, url: str = "", **members: Any) -> Step:
    body = {"type": f"urn:telegraft:problem:{name}", "title": "", "status": status, "detail": f"about {name}"}
    return answers(status, body | members, node, leader, url)


def not_done(node: int = 0, leader: int = 0, url: str = "", reason: str = "no-leader") -> Step:
    return problem(503, "not-done", node, leader, url, reason=reason)


def unknown(node: int = 0, leader: int = 0, url: str = "") -> Step:
    return problem(504, "outcome-unknown", node, leader, url)


def fails(error: Exception) -> Step:
    return lambda request: error


def silent() -> Step:
    """No answer for longer than anybody waits."""
    return lambda request: 1e6


REFUSED = fails(httpx2.ConnectError("connection refused"))
LOST = fails(httpx2.ReadError("connection reset"))
