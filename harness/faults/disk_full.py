"""Disks without room: nothing new can be written, what is there can be read, and room comes back."""

from __future__ import annotations

from harness.faults.disk import DiskFamily
from harness.faults.plan import FaultPlan, World, words
from harness.faulty_disk import DiskState


class DiskFull(DiskFamily):
    name = "disk-full"
    kinds = ("one", "minority", "some", "all")
    leader_share = 0.6

    def state(self, plan: FaultPlan) -> DiskState:
        return DiskState(full=True)

    def describe(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> str:
        return f"no room on the disk of {words(hit, world)}"
