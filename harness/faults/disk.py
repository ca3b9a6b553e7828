"""What the families of disk faults have in common: a state of the disk, held in the name of one fault.

The processes stay up and the links whole; what suffers is whatever waits for a disk. Plans draw few victims: a cluster
in which most disks fail shows that nothing goes on, which is seen soon.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Hashable
from typing import ClassVar

from harness.faults.family import Family, draw_size
from harness.faults.plan import Draw, FaultPlan, World
from harness.faulty_disk import DiskState


class DiskFamily(Family):
    """Breaks the disks of some nodes until the fault heals."""

    removes_nodes = False
    kinds: ClassVar[tuple[str, ...]]  # of victim sets, see ``draw_size``
    leader_share: ClassVar[float]  # how often it aims at the leader

    @abstractmethod
    def state(self, plan: FaultPlan) -> DiskState:
        """What is wrong with the disks that this plan hits."""

    def draw(self, rng: random.Random, nodes: int) -> Draw:
        kind, count = draw_size(rng, nodes, self.kinds)
        return Draw(kind, "leader" if rng.random() < self.leader_share else "anyone", count)

    def on_leader(self) -> Draw:
        return Draw("one", "leader", 1)

    def holder(self, plan: FaultPlan) -> Hashable:
        """In whose name the disks of this fault are broken."""
        return self.name, plan.index

    async def start(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> None:
        for node in hit:
            world.cluster.nodes[node].disk.hold(self.holder(plan), self.state(plan))

    async def heal(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> None:
        for node in hit:
            world.cluster.nodes[node].disk.release(self.holder(plan))
