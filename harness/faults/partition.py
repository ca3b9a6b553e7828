"""Cuts between nodes: one node alone, two halves, or one direction only. Clients still reach every node.

*isolate-one* cuts one node off from all others. *halves* cuts the first ``count`` nodes off from the rest.
*one-way-out* lets nobody hear one node, which hears everybody; *one-way-in* lets one node hear nobody, while everybody
hears it: the cuts that make an old leader and a restless follower.
"""

from __future__ import annotations

import random

from harness.faults.family import LinkFamily
from harness.faults.plan import Aim, Draw, FaultPlan, World, words

KINDS = ("isolate-one", "halves", "one-way-out", "one-way-in")

LEADER_SHARE = 0.6
"""How often a partition aims at the leader when it need not."""

RESET_SHARE = 0.5
"""How often held connections are reset when it heals, instead of delivering what they held."""


class Partition(LinkFamily):
    name = "partition"

    def draw(self, rng: random.Random, nodes: int) -> Draw:
        kind = rng.choice(KINDS)
        count = rng.choice((nodes // 2, nodes - nodes // 2)) if kind == "halves" else 1
        aim: Aim = "leader" if rng.random() < LEADER_SHARE else "anyone"
        return Draw(kind, aim, max(1, count), reset=rng.random() < RESET_SHARE)

    def on_leader(self) -> Draw:
        return Draw("isolate-one", "leader", 1)

    def describe(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> str:
        rest = others(hit, world)
        who, whom = words(hit, world), words(rest, world) if rest else "nobody"
        return {
            "isolate-one": f"{who} cut off from all others",
            "halves": f"{who} cut off from {whom}",
            "one-way-out": f"nobody hears {who}, which hears everybody",
            "one-way-in": f"{who} hears nobody, and is heard by everybody",
        }[plan.kind]

    async def start(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> None:
        outward = [(i, j) for i in hit for j in others(hit, world)]
        inward = [(j, i) for i, j in outward]
        pairs = {"one-way-out": outward, "one-way-in": inward}.get(plan.kind, outward + inward)
        world.cluster.links.cut(self.holder(plan), pairs)


def others(hit: tuple[int, ...], world: World) -> tuple[int, ...]:
    """The nodes on the other side."""
    return tuple(node for node in world.cluster.node_ids if node not in hit)
