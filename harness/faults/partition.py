"""Cuts between nodes: one node alone, two halves, or one direction only. Clients still reach every node.

*isolate-one* cuts one node off from all others. *halves* cuts the first ``count`` nodes off from the rest.
*one-way-out* lets nobody hear one node, which hears everybody; *one-way-in* lets one node hear nobody, while everybody
hears it: the cuts that make an old leader and a restless follower.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from harness.faults.plan import Aim, Draw, Fault, FaultPlan, World, victims, words
from harness.params import FaultFamily

KINDS = ("isolate-one", "halves", "one-way-out", "one-way-in")

LEADER_SHARE = 0.6
"""How often a partition aims at the leader when it need not."""

RESET_SHARE = 0.5
"""How often held connections are reset when it heals, instead of delivering what they held."""


@dataclass(frozen=True)
class Partition:
    name: FaultFamily = "partition"
    colour: str = "#2980b9"
    removes_nodes: bool = True

    def draw(self, rng: random.Random, nodes: int) -> Draw:
        kind = rng.choice(KINDS)
        count = rng.choice((nodes // 2, nodes - nodes // 2)) if kind == "halves" else 1
        aim: Aim = "leader" if rng.random() < LEADER_SHARE else "anyone"
        return Draw(kind, aim, max(1, count), reset=rng.random() < RESET_SHARE)

    def on_leader(self) -> Draw:
        return Draw("isolate-one", "leader", 1)

    def prepare(self, plan: FaultPlan, world: World) -> Fault:
        hit = victims(plan, world)
        rest = tuple(node for node in world.cluster.node_ids if node not in hit)
        outward = [(i, j) for i in hit for j in rest]
        inward = [(j, i) for i, j in outward]
        pairs = {"one-way-out": outward, "one-way-in": inward}.get(plan.kind, outward + inward)
        who, others = words(hit, world), words(rest, world) if rest else "nobody"
        description = {
            "isolate-one": f"{who} cut off from all others",
            "halves": f"{who} cut off from {others}",
            "one-way-out": f"nobody hears {who}, which hears everybody",
            "one-way-in": f"{who} hears nobody, and is heard by everybody",
        }[plan.kind]
        links = world.cluster.links
        holder = ("partition", plan.index)

        async def start() -> None:
            links.cut(holder, pairs)

        async def heal() -> None:
            links.heal(holder, reset=plan.reset)

        return Fault(hit, description, start, heal)
