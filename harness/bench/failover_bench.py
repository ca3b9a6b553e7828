"""How long a cluster of real processes is without a leader after ``kill -9`` of the one it had.

Theory of operation
-------------------
Three nodes with the default configuration, talking to each other directly. Again and again the leader is killed, two
watchers take the time, the node is started again, and after a pause drawn by lot (so that kills do not keep step with
heartbeats) the next trial begins. Two things are measured from the instant of the kill:

*by status*: until a survivor says on ``/v1/status`` that it leads a later term; polled every ``POLL_S``.

*by a client*: until a client with default settings, which writes one message after the other, has a reply again. It
counts a reply only if the write began after the kill or was tried again after it: one that the old leader had answered
with its last breath says nothing. This is what users feel: it includes the client's search for the new leader and the
first commit of the new term.

Every wait has its bound; a cluster that does not come back raises ``NoFailover``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx2
import msgspec
import trio

from harness.cluster import Cluster
from harness.direct import prepare_direct
from harness.observer import Status
from impl.chat.commands import Send
from impl.client.client import Client
from impl.client.errors import NotDone, OutcomeUnknown
from impl.config import NodeConfig

NODES = 3

TRIALS = 50
QUICK_TRIALS = 5

POLL_S = 0.01
"""How finely the time is taken by status: a tick of the node."""

STATUS_TIMEOUT_S = 0.3

WRITE_PAUSE_S = 0.01

PATIENCE_S = 30.0
"""For a new leader, and for a cluster to be whole again: ten times what the bound allows for."""

LAG_ENTRIES = 100
"""How far behind a follower may be that counts as whole: the writer never rests."""

REST_S = (0.3, 0.6)
"""Between two trials: longer than an election timeout, so that the new leader's term is an ordinary one."""


class NoFailover(RuntimeError):
    """The cluster had no new leader, or was not whole again, within ``PATIENCE_S``."""


@dataclass
class Failovers:
    """The time without a leader of each trial, in milliseconds."""

    by_status_ms: list[float] = field(default_factory=list)
    by_client_ms: list[float] = field(default_factory=list)


def election_timeout_ms() -> int:
    """The longest election timeout of a node with the default configuration."""
    defaults = {name: field.default for name, field in NodeConfig.model_fields.items()}
    return (2 * int(defaults["election_ticks"]) - 1) * int(defaults["tick_ms"])


async def failovers(
    directory: Path, trials: int, *, told: Callable[[str], None] = lambda words: None, seed: int = 1
) -> Failovers:
    """Kill the leader this many times. ``told`` hears of each trial. Raises ``NoFailover`` or ``NodeFailed``."""
    cluster = prepare_direct(directory, nodes=NODES, name="bench")
    rng = Random(seed)
    found = Failovers()
    try:
        await cluster.start()
        async with (
            Client(cluster.client_urls()) as client,
            httpx2.AsyncClient(timeout=STATUS_TIMEOUT_S, trust_env=False) as http,
            trio.open_nursery() as nursery,
        ):
            watch = _Watch(cluster, http)
            user = await client.create_user("bench")
            writer = _Writer(client.as_user(user.user_id), user.user_id)
            await writer.set_up()
            nursery.start_soon(writer.run)
            for trial in range(1, trials + 1):
                leader, term = await watch.whole()
                await trio.sleep(rng.uniform(*REST_S))
                killed_at = trio.current_time()
                await cluster.nodes[leader].kill()
                writer.wait_from(killed_at)
                with trio.move_on_after(PATIENCE_S) as scope:
                    leader_at = await watch.leader_after(term)
                    replied_at = await writer.reply()
                if scope.cancelled_caught:
                    raise NoFailover(f"no new leader within {PATIENCE_S:g} s after kill -9 of node {leader}")
                found.by_status_ms.append((leader_at - killed_at) * 1000)
                found.by_client_ms.append((replied_at - killed_at) * 1000)
                told(
                    f"trial {trial}: a new leader after {found.by_status_ms[-1]:.0f} ms, "
                    f"a write answered after {found.by_client_ms[-1]:.0f} ms"
                )
                await cluster.start([leader])
            nursery.cancel_scope.cancel()
    finally:
        await cluster.stop()
        cluster.kill_now()
    return found


class _Watch:
    """Asks the nodes who leads."""

    def __init__(self, cluster: Cluster, http: httpx2.AsyncClient) -> None:
        self._cluster = cluster
        self._http = http

    async def _status(self, node: int) -> Status | None:
        host, port = self._cluster.nodes[node].http
        try:
            response = await self._http.get(f"http://{host}:{port}/v1/status")
            return msgspec.json.decode(response.content, type=Status)
        except (httpx2.HTTPError, msgspec.DecodeError):
            return None

    async def whole(self) -> tuple[int, int]:
        """Wait until one node leads and all have applied what it has committed; returns it and its term."""
        with trio.move_on_after(PATIENCE_S):
            while True:
                seen = [await self._status(node) for node in self._cluster.node_ids]
                known = [status for status in seen if status is not None]
                leaders = [status for status in known if status.role == "leader"]
                if len(known) == len(seen) and len(leaders) == 1:
                    (leader,) = leaders
                    if all(status.term == leader.term for status in known) and all(
                        status.applied_index >= leader.commit_index - LAG_ENTRIES for status in known
                    ):
                        return leader.node_id, leader.term
                await trio.sleep(POLL_S)
        raise NoFailover(f"the cluster was not whole again within {PATIENCE_S:g} s")

    async def leader_after(self, term: int) -> float:
        """When a node was first seen to lead a later term, on trio's clock."""
        seen_at: list[float] = []

        async def poll(node: int) -> None:
            while not seen_at:
                status = await self._status(node)
                if status is not None and status.role == "leader" and status.term > term:
                    seen_at.append(trio.current_time())
                await trio.sleep(POLL_S)

        async with trio.open_nursery() as nursery:
            for node, process in self._cluster.nodes.items():
                if process.state == "up":
                    nursery.start_soon(poll, node)
        return seen_at[0]


class _Writer:
    """A client that writes one message after the other, and the first reply after an instant."""

    def __init__(self, client: Client, user_id: int) -> None:
        self._client = client
        self._user_id = user_id
        self._chat_id = 0
        self._from: float | None = None
        self._replied = trio.Event()
        self._replied_at = 0.0

    async def set_up(self) -> None:
        self._chat_id = (await self._client.create_chat("bench")).chat_id

    def wait_from(self, instant: float) -> None:
        self._from, self._replied = instant, trio.Event()

    async def reply(self) -> float:
        """When the first reply since ``wait_from`` came, on trio's clock."""
        await self._replied.wait()
        return self._replied_at

    async def run(self) -> None:
        number = 0
        while True:
            number += 1
            began = trio.current_time()
            command = Send(self._user_id, self._chat_id, f"t{number}", f"message {number}")
            try:
                answer = await self._client.call(command)
            except (NotDone, OutcomeUnknown):
                continue
            now = trio.current_time()
            if self._from is not None and now > self._from and (began > self._from or answer.attempts > 1):
                self._from, self._replied_at = None, now
                self._replied.set()
            await trio.sleep(WRITE_PAUSE_S)
