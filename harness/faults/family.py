"""What all fault families have in common, those that hit processes, and those that cut links.

Theory of operation
-------------------
A family draws plans before the run; when a plan's time has come, ``prepare`` finds the victims and ties the family's
``start`` and ``heal`` to them. A module of this package is one family: it says what it draws and what it does to
whom.

``ProcessFamily`` hits some nodes themselves: how many is drawn by the name of a size, and half or more of its faults
aim at the leader. ``LinkFamily`` cuts links in the name of one fault and heals them all at once: what one fault has cut
stays cut when another one heals.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Hashable
from functools import partial
from typing import ClassVar

from harness.faults.plan import Draw, Fault, FaultPlan, World, victims
from harness.params import FaultFamily


class Family(ABC):
    """One family of faults; ``FAMILIES`` lists them."""

    name: ClassVar[FaultFamily]
    removes_nodes: ClassVar[bool] = True
    """Whether it takes nodes out of the quorum: at most two such faults overlap."""

    @abstractmethod
    def draw(self, rng: random.Random, nodes: int) -> Draw:
        """Choose a kind and its size for a cluster of this many nodes."""

    @abstractmethod
    def on_leader(self) -> Draw:
        """The kind that hits the leader, and nobody else; if it removes nodes, it takes it out of the quorum."""

    @abstractmethod
    def describe(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> str:
        """What the fault does, in words."""

    @abstractmethod
    async def start(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> None:
        """Break what the plan says, for these victims."""

    @abstractmethod
    async def heal(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> None:
        """Mend what ``start`` broke, however far it came. May raise ``NodeFailed``."""

    def prepare(self, plan: FaultPlan, world: World) -> Fault:
        """Find the victims and say what will be done; nothing is done yet."""
        hit = victims(plan, world)
        return Fault(
            hit,
            self.describe(plan, hit, world),
            partial(self.start, plan, hit, world),
            partial(self.heal, plan, hit, world),
        )


class ProcessFamily(Family):
    """Hits the processes of some nodes."""

    kinds: ClassVar[tuple[str, ...]]  # of victim sets, see ``draw_size``
    leader_share: ClassVar[float]  # how often it aims at the leader when it need not

    def draw(self, rng: random.Random, nodes: int) -> Draw:
        kind, count = draw_size(rng, nodes, self.kinds)
        return Draw(kind, "leader" if rng.random() < self.leader_share else "anyone", count)

    def on_leader(self) -> Draw:
        return Draw("one", "leader", 1)


class LinkFamily(Family):
    """Cuts links until the fault heals; connections that were held are then reset, or go on, as the plan says."""

    def holder(self, plan: FaultPlan) -> Hashable:
        """In whose name the links of this fault are cut."""
        return self.name, plan.index

    async def heal(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> None:
        world.cluster.links.heal(self.holder(plan), reset=plan.reset)


def draw_size(rng: random.Random, nodes: int, kinds: tuple[str, ...]) -> tuple[str, int]:
    """A kind of victim set and its size: ``one``, ``minority``, ``majority``, ``some`` (any size but all), ``all``."""
    kind = rng.choice(kinds)
    sizes = {
        "one": 1,
        "minority": max(1, (nodes - 1) // 2),
        "majority": nodes // 2 + 1,
        "some": rng.randint(1, max(1, nodes - 1)),
        "all": nodes,
    }
    return kind, min(sizes[kind], nodes)
