"""The operations about the group itself: who belongs to it, changing that, its snapshots, its counters."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from impl.cluster_service import ClusterService
from impl.http import bodies, parse, problems, wire
from impl.http.endpoints import as_json
from impl.http.limits import CHANGE_TIMEOUT_S, SNAPSHOT_PIECE_BYTES, SNAPSHOT_TIMEOUT_S
from impl.http.problems import Problem
from impl.raft.messages import Member

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4"
"""The text format of Prometheus."""


class ClusterEndpoints:
    """The operations, bound to one node."""

    def __init__(
        self, service: ClusterService | None, metrics: Callable[[], bytes] | None, *, request_timeout_s: float
    ) -> None:
        self._cluster = service
        self._metrics = metrics
        self._request_timeout_s = request_timeout_s

    @property
    def _service(self) -> ClusterService:
        if self._cluster is None:
            raise Problem(problems.NOT_FOUND, "This server serves a chat service that is no cluster.")
        return self._cluster

    async def cluster(self, request: Request) -> Response:
        return as_json(bodies.cluster(await self._service.cluster(timeout_s=self._request_timeout_s)))

    async def change_cluster(self, request: Request) -> Response:
        service = self._service
        body = await parse.parse_body(request, bodies.ClusterChange)
        members = tuple(
            Member(member.node_id, _incarnation(member.incarnation), member.peer, member.url)
            for member in sorted(body.members, key=lambda member: member.node_id)
        )
        index = await service.reconfigure(
            body.expected_index, members, tuple(sorted(body.voters)), timeout_s=CHANGE_TIMEOUT_S
        )
        return as_json(bodies.ClusterChanged(configuration_index=index))

    async def transfer_leadership(self, request: Request) -> Response:
        service = self._service
        body = await parse.parse_body(request, bodies.LeadershipTransfer)
        await service.transfer(body.target, timeout_s=CHANGE_TIMEOUT_S)
        return as_json(bodies.LeadershipTransferred(target=body.target))

    async def download_snapshot(self, request: Request) -> Response:
        return _Download(self._service, fresh=parse.flag(request, "fresh"))

    async def metrics(self, request: Request) -> Response:
        if self._metrics is None:
            raise Problem(problems.NOT_FOUND, "This server counts nothing.")
        return Response(self._metrics(), media_type=METRICS_MEDIA_TYPE)


def _incarnation(text: str) -> int:
    number = parse.parse_id(text)
    if number is None:
        raise problems.invalid([("members.incarnation", f"{text[:64]!r} is no incarnation: take it from /v1/status")])
    return number


class _Download(Response):
    """A snapshot, piece by piece, as it is on disk. Its length is known, so that one that is cut short shows."""

    def __init__(self, service: ClusterService, *, fresh: bool) -> None:
        super().__init__(media_type="application/octet-stream")
        self._service = service
        self._fresh = fresh

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._service.backup(fresh=self._fresh, timeout_s=SNAPSHOT_TIMEOUT_S) as snapshot:
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(snapshot.view.size_bytes),
                wire.SNAPSHOT_INDEX_HEADER: str(snapshot.view.index),
                wire.CLUSTER_HEADER: snapshot.view.cluster,
            }
            raw = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": raw})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            offset = 0
            while offset < snapshot.view.size_bytes:
                piece = await snapshot.read(offset, SNAPSHOT_PIECE_BYTES)
                offset += len(piece)
                more = offset < snapshot.view.size_bytes
                await send({"type": "http.response.body", "body": piece, "more_body": more})
