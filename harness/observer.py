"""The observer: asks every node, on its own port and past all proxies, who it thinks it is.

Theory of operation
-------------------
Each node is polled several times a second with a short patience: a node that is down, stopped or busy answers nothing,
and that is an answer. A node that says it leads a term is recorded in the history the first time, and is the leader
that faults aim at: the one of the highest term seen.

The polls also give a check for free. Raft's first promise is that a term has at most one leader. A node reports role
and term at one instant of its own, so two nodes that ever reported to lead the same term have broken that promise,
whatever clients saw of it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import httpx2
import msgspec
import trio

from harness.cluster import Cluster
from harness.recorder import Recorder

POLL_INTERVAL_S = 0.15
"""A leader that leads for less may go unseen; polling faster costs the two-core machine more than it shows."""

POLL_TIMEOUT_S = 0.5
"""A healthy node answers in milliseconds."""


@dataclass
class NodeView:
    """What a node last said of itself. ``answers`` is False while it says nothing."""

    answers: bool = False
    role: str = ""
    term: int = 0
    commit_index: int = 0
    applied_index: int = 0


class Status(msgspec.Struct):
    """The part of a node's status that the harness reads."""

    node_id: int
    role: str
    term: int
    commit_index: int
    applied_index: int


class Observer:
    """Polls a cluster and keeps what it learnt."""

    def __init__(self, cluster: Cluster, recorder: Recorder) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self.views = {node: NodeView() for node in cluster.node_ids}
        self.leaders: dict[int, set[int]] = {}  # term -> nodes seen to lead it
        self._leader: int | None = None
        self._leader_term = -1

    def leader(self) -> int | None:
        """Who was seen to lead the highest term so far."""
        return self._leader

    @property
    def leader_changes(self) -> int:
        """How often, in the order of terms, the leader was another node than that of the term before."""
        nodes = [min(self.leaders[term]) for term in sorted(self.leaders)]
        return sum(a != b for a, b in itertools.pairwise(nodes))

    @property
    def split_terms(self) -> list[str]:
        """Broken promises: every term that more than one node was seen to lead, in words."""
        return [
            f"nodes {' and '.join(map(str, sorted(nodes)))} both led term {term}"
            for term, nodes in sorted(self.leaders.items())
            if len(nodes) > 1
        ]

    async def run(self) -> None:
        """Poll until cancelled."""
        async with httpx2.AsyncClient(timeout=POLL_TIMEOUT_S, trust_env=False) as http, trio.open_nursery() as nursery:
            for node in self._cluster.node_ids:
                nursery.start_soon(self._poll, http, node)

    async def _poll(self, http: httpx2.AsyncClient, node: int) -> None:
        host, port = self._cluster.nodes[node].http
        while True:
            if self._cluster.nodes[node].state != "up":
                self.views[node].answers = False
            else:
                try:
                    response = await http.get(f"http://{host}:{port}/v1/status")
                    self.note(node, msgspec.json.decode(response.content, type=Status))
                except (httpx2.HTTPError, msgspec.DecodeError):
                    self.views[node].answers = False
            await trio.sleep(POLL_INTERVAL_S)

    def note(self, node: int, status: Status) -> None:
        """Take in one answer."""
        self.views[node] = NodeView(True, status.role, status.term, status.commit_index, status.applied_index)
        if status.role != "leader":
            return
        seen = self.leaders.setdefault(status.term, set())
        if node not in seen:
            seen.add(node)
            self._recorder.leader(node, status.term)
        if status.term > self._leader_term:
            self._leader, self._leader_term = node, status.term
