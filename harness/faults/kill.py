"""kill -9 of some nodes, and their restart: what was not synced is gone, and so is everything in memory."""

from __future__ import annotations

import random
from dataclasses import dataclass

import trio

from harness.faults.plan import Draw, Fault, FaultPlan, World, draw_size, victims, words
from harness.params import FaultFamily

KINDS = ("one", "minority", "majority", "some", "all")

LEADER_SHARE = 0.5
"""How often a kill aims at the leader when it need not: without it two of three kills hit a follower."""


@dataclass(frozen=True)
class Kill:
    name: FaultFamily = "kill"
    colour: str = "#c0392b"
    removes_nodes: bool = True

    def draw(self, rng: random.Random, nodes: int) -> Draw:
        kind, count = draw_size(rng, nodes, KINDS)
        return Draw(kind, "leader" if rng.random() < LEADER_SHARE else "anyone", count)

    def on_leader(self) -> Draw:
        return Draw("one", "leader", 1)

    def prepare(self, plan: FaultPlan, world: World) -> Fault:
        hit = victims(plan, world)
        nodes = [world.cluster.nodes[node] for node in hit]

        async def start() -> None:
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(node.kill)

        async def heal() -> None:
            await world.cluster.start(hit)

        return Fault(hit, f"kill -9 of {words(hit, world)}", start, heal)
