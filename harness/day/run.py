"""Carries out the script of the day, phase by phase, while clients chat, and says how each went.

A run like every other (``harness.run``): the same clients, the same recorder, the same judge. What differs is what
happens to the cluster meanwhile, and that the chats are filled with data besides, which is audited at the end.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import trio

from harness.cluster import Cluster, NodeFailed
from harness.day.cluster import FOUNDERS, SPARES, DayCluster, prepare_day
from harness.day.filling import Filling, FillingFailed
from harness.day.gaps import longest_gap_s, successful_writes
from harness.day.operator import Operator, OperatorFailed, as_voter, with_learner, without
from harness.day.params import DayParams
from harness.day.script import MAX_WRITE_GAP_S, PHASES, Phase
from harness.display import HEALED_COLOUR
from harness.faulty_disk import DiskState
from harness.observer import Observer
from harness.params import RunParams
from harness.run import Run, leaves
from harness.workloads.calls import RecordedCaller
from harness.workloads.service import ServiceCaller
from impl.client.client import Client

POLL_S = 0.1

LAG_ENTRIES = 200
"""How far behind a member may be in a cluster that is whole: clients never rest."""

ROOM_BYTES = 40_000_000
"""More than two segments of the log hold: writing so much on a full disk needs room that is not there."""

FULL_MAX_S = 10.0
"""Shorter than the filling's patience for one message."""


FILLING_PROCESS = 1_000_000
"""Of the history, in units of clients: far beyond the numbers that clients take after unknown outcomes."""


class PhaseOutcome(msgspec.Struct):
    """How a phase went. Times in seconds; ``begin_s`` since the start of the run."""

    name: str
    begin_s: float
    duration_s: float
    passed: bool
    why: str = ""  # if it did not pass
    longest_write_gap_s: float = 0.0
    facts: dict[str, Any] = {}


class DayRun(Run):
    """One day."""

    params: DayParams
    founders = FOUNDERS
    spares = SPARES

    filling: Filling
    _operator: Operator

    @functools.cached_property
    def outcomes(self) -> list[PhaseOutcome]:
        """Of the phases so far."""
        return []

    @property
    def day_cluster(self) -> DayCluster:
        assert isinstance(self.cluster, DayCluster)
        return self.cluster

    # --- as a run ----------------------------------------------------------------------------------------------------

    async def prepared(self) -> Cluster:
        return prepare_day(self.folder.path, self.params.name)

    async def while_chatting(self, cluster: Cluster, observer: Observer) -> None:
        async with Client(cluster.client_urls()) as client, httpx2.AsyncClient(trust_env=False) as http:
            caller = RecordedCaller(ServiceCaller(client, {}), self.recorder, FILLING_PROCESS * self.params.clients)
            self.filling = Filling(client, caller, self.params.seed)
            self._operator = Operator(http, self._urls)
            for phase in PHASES:
                if not await self._carry_out(phase):
                    return

    async def after_chatting(self) -> None:
        self.enter("auditing the data that the chats were filled with")
        assert self.cluster is not None
        async with Client(self.cluster.client_urls()) as client:
            self.filling.through(client)
            try:
                self.problems += await self.filling.audit()
            except FillingFailed as failure:
                self.problems.append(str(failure))

    @property
    def params_judged(self) -> RunParams:
        return self.params.model_copy(update={"duration_s": self.duration_s})

    def more_to_tell(self) -> dict[str, Any]:
        writes = successful_writes(self.folder.history)
        for outcome in self.outcomes:
            outcome.longest_write_gap_s = round(
                longest_gap_s(writes, outcome.begin_s, outcome.begin_s + outcome.duration_s), 3
            )
            if outcome.passed and outcome.longest_write_gap_s > MAX_WRITE_GAP_S:
                outcome.passed = False
                outcome.why = f"nobody could write for {outcome.longest_write_gap_s:.1f} s"
        filled = {"bytes": 0, "messages": 0, "audited": 0}
        if hasattr(self, "filling"):
            filled = {"bytes": self.filling.bytes, "messages": self.filling.messages, "audited": self.filling.audited}
        complete = len(self.outcomes) == len(PHASES) and all(outcome.passed for outcome in self.outcomes)
        return {
            "phases": [msgspec.structs.asdict(outcome) for outcome in self.outcomes],
            "filled": filled,
            "day_passed": complete,
        }

    # --- phases ------------------------------------------------------------------------------------------------------

    async def _carry_out(self, phase: Phase) -> bool:
        """One phase; returns whether the day can go on."""
        self.enter(phase.name)
        began, begin_s = trio.current_time(), self.recorder.now_ns() / 1e9
        value = {"kind": phase.name, "nodes": [], "description": phase.name}
        if phase.family:
            self.recorder.nemesis(phase.family, {"phase": "start", **value})
        why, facts = "", {}
        try:
            with trio.move_on_after(phase.bound_s * max(1.0, self.params.duration_scale)) as scope:
                facts = await phase.carry_out(self)
                await self.whole()
            if scope.cancelled_caught:
                why = f"not done within {phase.bound_s:g} s; the last that was said: {self._operator.last_words}"
        except* (NodeFailed, FillingFailed, OperatorFailed) as failures:
            why = "; ".join(str(failure) for failure in leaves(failures))
        if phase.family:
            self.recorder.nemesis(phase.family, {"phase": "end", **value})
        duration_s = trio.current_time() - began
        self.outcomes.append(PhaseOutcome(phase.name, begin_s, round(duration_s, 3), not why, why, 0.0, facts))
        if why:
            self.problems.append(f"{phase.name}: {why}")
            return False
        self._note(f"done in {duration_s:.1f} s: {phase.name}", HEALED_COLOUR)
        return True

    # --- what the script asks for ------------------------------------------------------------------------------------

    async def pause(self) -> None:
        await trio.sleep(self.params.pause_s)

    def _url(self, node: int) -> str:
        return self.day_cluster.client_urls()[node]

    def _urls(self) -> list[str]:
        up = [node for node in sorted(self.day_cluster.members) if self.day_cluster.nodes[node].state == "up"]
        return [self._url(node) for node in up]

    async def group(self) -> dict[str, Any]:
        """The group as its leader sees it, as soon as one can tell."""
        while True:
            found = await self._operator.group()
            if found is not None:
                return found
            await trio.sleep(POLL_S)

    async def members(self) -> list[int]:
        return sorted(member["node_id"] for member in (await self.group())["members"])

    async def leader(self) -> int:
        return int((await self.group())["leader_id"])

    async def follower(self) -> int:
        leader = await self.leader()
        return next(node for node in reversed(FOUNDERS) if node != leader)

    async def whole(self) -> None:
        """Wait until the group is as it is meant to be, nobody changes it, and all members follow closely."""
        while True:
            group = await self.group()
            voters = {member["node_id"] for member in group["members"] if member["role"] == "voter"}
            behind = max(member["behind"] for member in group["members"])
            if voters == self.day_cluster.members and not group["changing"] and behind <= LAG_ENTRIES:
                return
            await trio.sleep(POLL_S)

    async def add(self, node: int) -> dict[str, Any]:
        """Start a fresh node, add it as a learner, wait until it has caught up, and let it vote."""
        process = self.day_cluster.nodes[node]
        process.joins = True
        await process.start()
        said = await self._operator.status(self._url(node))
        if said is None:
            raise OperatorFailed(f"node {node} does not say who it is: {self._operator.last_words}")
        newcomer = {key: said[key] for key in ("node_id", "incarnation", "peer", "url")}
        await self._operator.make(lambda group: with_learner(group, newcomer))
        await self._operator.make(lambda group: as_voter(group, node))
        self.day_cluster.members.add(node)
        snapshots = [path.stat().st_size for path in (process.data_dir / "snapshots").glob("*") if path.is_file()]
        return {"snapshot_bytes": max(snapshots, default=0)}

    async def remove(self, node: int) -> None:
        """Take a member out of the group, and end its process."""
        self.day_cluster.members.discard(node)
        await self._operator.make(lambda group: without(group, node))
        await self.day_cluster.nodes[node].stop()

    async def transfer(self, node: int) -> None:
        await self._operator.transfer(node)

    async def replace(self, node: int) -> dict[str, Any]:
        """Lose a node and its disk, and put a fresh one with a new directory in its place."""
        await self.day_cluster.nodes[node].kill()
        self.day_cluster.members.discard(node)
        await self._operator.make(lambda group: without(group, node))
        self.day_cluster.renew(node)
        facts = await self.add(node)
        await self.whole()
        return facts

    async def restart(self, node: int) -> None:
        """End a node in order, start it again, and wait until the cluster is whole."""
        await self.day_cluster.nodes[node].stop()
        await self.day_cluster.nodes[node].start()
        await self.whole()

    def set_option(self, node: int, key: str, value: Any) -> None:
        self.day_cluster.set_option(node, key, value)

    @contextlib.contextmanager
    def disk(self, node: int, state: DiskState) -> Iterator[None]:
        """The disk of a node is in this state meanwhile."""
        control = self.day_cluster.nodes[node].disk
        control.hold("day", state)
        try:
            yield
        finally:
            control.release("day")

    async def meet_full_disk(self, node: int) -> None:
        """Write until the node says that its disk is full, and go on for a while. What cannot be written now is
        written later."""
        log = self.day_cluster.nodes[node].log_path
        before = log.stat().st_size
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.filling.fill, self.filling.bytes + ROOM_BYTES)
            while not says_full(log, before):  # noqa: ASYNC110 - a log file has no event
                await trio.sleep(POLL_S)
            await trio.sleep(min(self.params.pause_s, FULL_MAX_S))
            nursery.cancel_scope.cancel()


def says_full(log: Path, offset: int) -> bool:
    """Whether a node has said in its log, from this byte on, that its disk is full."""
    with log.open("rb") as file:
        file.seek(offset)
        return b"disk full" in file.read()
