"""Slow disks: every sync takes tens or hundreds of milliseconds longer, which is worse than none to many systems."""

from __future__ import annotations

from harness.faults.disk import DiskFamily
from harness.faults.plan import FaultPlan, World, words
from harness.faulty_disk import DiskState

SLOW_MS = (40, 150, 400)
"""Added to a sync: a busy disk, a bad one, and one that takes longer than an election timeout begins with. Which one is
decided by the plan's place in the schedule."""


class DiskSlow(DiskFamily):
    name = "disk-slow"
    kinds = ("one", "majority", "all")
    leader_share = 0.7

    def state(self, plan: FaultPlan) -> DiskState:
        return DiskState(slow_ms=self.slow_ms(plan))

    def slow_ms(self, plan: FaultPlan) -> int:
        """By how much this fault slows each sync."""
        return SLOW_MS[plan.index % len(SLOW_MS)]

    def describe(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> str:
        return f"syncs of {words(hit, world)} take {self.slow_ms(plan)} ms longer"
