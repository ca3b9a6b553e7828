"""SIGSTOP of some nodes, and SIGCONT: a process that sleeps, keeps its sockets, and wakes up believing the past.

The finder of leases that trust a clock: a leader that was stopped for seconds still believes that it leads.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from harness.faults.plan import Draw, Fault, FaultPlan, World, draw_size, victims, words
from harness.params import FaultFamily

KINDS = ("one", "minority", "majority", "some")

LEADER_SHARE = 0.6
"""How often a pause aims at the leader when it need not: a follower that sleeps is soon forgotten."""


@dataclass(frozen=True)
class Pause:
    name: FaultFamily = "pause"
    colour: str = "#8e44ad"
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
            for node in nodes:
                node.pause()

        async def heal() -> None:
            for node in nodes:
                node.resume()

        return Fault(hit, f"SIGSTOP of {words(hit, world)}", start, heal)
