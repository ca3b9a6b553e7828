"""kill -9 of some nodes, and their restart: what was not synced is gone, and so is everything in memory."""

from __future__ import annotations

import trio

from harness.faults.family import ProcessFamily
from harness.faults.plan import FaultPlan, World, words


class Kill(ProcessFamily):
    name = "kill"
    kinds = ("one", "minority", "majority", "some", "all")
    leader_share = 0.5  # without it two of three kills hit a follower

    def describe(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> str:
        return f"kill -9 of {words(hit, world)}"

    async def start(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> None:
        async with trio.open_nursery() as nursery:
            for node in hit:
                nursery.start_soon(world.cluster.nodes[node].kill)

    async def heal(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> None:
        await world.cluster.start(hit)
