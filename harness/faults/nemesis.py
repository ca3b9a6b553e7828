"""The nemesis: carries out a schedule, records each fault's start and end, and leaves nothing broken behind.

Theory of operation
-------------------
Each planned fault is a task that sleeps until its time. It finds its victims, records the start, breaks things, waits,
heals, records the end. The record of the start comes before the first effect and that of the end after the last, so the
band between them in a plot covers all that the fault explains.

Healing is in a ``finally`` and shielded: whatever ends the run early, a fault that started is healed. A heal that fails
(a node does not come back) is a *problem*: it is remembered, and the verdict of the run is then not ``valid``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import trio

from harness.cluster import NodeFailed
from harness.faults.families import FAMILIES
from harness.faults.plan import Fault, FaultPlan, World
from harness.faults.schedule import Schedule
from harness.recorder import Recorder

HEAL_TIMEOUT_S = 45.0
"""Longer than the restart of a node may take, so that a heal ends by its own bounds."""


class Nemesis:
    """Carries out one schedule. ``announce(plan, description, started)`` is called at each start and end."""

    def __init__(
        self,
        schedule: Schedule,
        world: World,
        recorder: Recorder,
        announce: Callable[[FaultPlan, str, bool], None] = lambda plan, description, started: None,
    ) -> None:
        self._schedule = schedule
        self._world = world
        self._recorder = recorder
        self._announce = announce
        self.fired: Counter[str] = Counter()
        self.active: dict[int, Fault] = {}
        self.problems: list[str] = []

    async def run(self) -> None:
        """Carry out every planned fault; cancellation heals what is active."""
        started_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            for plan in self._schedule.faults:
                nursery.start_soon(self._carry_out, plan, started_at)

    async def _carry_out(self, plan: FaultPlan, started_at: float) -> None:
        await trio.sleep_until(started_at + plan.start_ms / 1000)
        fault = FAMILIES[plan.family].prepare(plan, self._world)
        self.fired[plan.family] += 1
        self.active[plan.index] = fault
        self._record(plan, fault, "start")
        try:
            await fault.start()
            await trio.sleep_until(started_at + plan.end_ms / 1000)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + HEAL_TIMEOUT_S) as scope:
                try:
                    await fault.heal()
                except NodeFailed as failure:
                    self.problems.append(str(failure))
            if scope.cancelled_caught:
                self.problems.append(f"{fault.description}: not healed within {HEAL_TIMEOUT_S:g} s")
            del self.active[plan.index]
            self._record(plan, fault, "end")

    def _record(self, plan: FaultPlan, fault: Fault, phase: str) -> None:
        value = {"phase": phase, "kind": plan.kind, "nodes": list(fault.nodes), "description": fault.description}
        self._recorder.nemesis(plan.family, value)
        self._announce(plan, fault.description, phase == "start")
