"""Disks whose syncs do not return: a leader with one must give up its office, and nothing may be said too early."""

from __future__ import annotations

from harness.faults.disk import DiskFamily
from harness.faults.plan import FaultPlan, World, words
from harness.faulty_disk import DiskState


class DiskHung(DiskFamily):
    name = "disk-hung"
    kinds = ("one", "minority")
    leader_share = 0.7

    def state(self, plan: FaultPlan) -> DiskState:
        return DiskState(hung=True)

    def describe(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> str:
        return f"the disk of {words(hit, world)} hangs"
