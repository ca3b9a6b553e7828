"""Breaks between clients and nodes, after the request went out: what makes a client retry what was already done.

*lose-replies* lets requests through and holds the replies, then resets the connections: the service acts, and nobody
learns of it. *silence* holds both directions. *reset* ends all connections again and again. None of them takes a node
out of the quorum.
"""

from __future__ import annotations

import random

import trio

from harness.faults.family import LinkFamily
from harness.faults.plan import Draw, FaultPlan, World, words
from harness.proxy import BOTH, Direction

KINDS = ("lose-replies", "silence", "reset")

RESETS = 3
"""How often one *reset* fault ends all connections: enough to hit requests under way at 25 per second and client."""

RESET_INTERVAL_S = 0.07


class ClientLink(LinkFamily):
    name = "client-link"
    removes_nodes = False

    def draw(self, rng: random.Random, nodes: int) -> Draw:
        kind = rng.choice(KINDS)
        count = rng.randint(1, nodes)
        return Draw(kind, "leader", count, reset=kind == "lose-replies" or rng.random() < 0.5)

    def on_leader(self) -> Draw:
        return Draw("lose-replies", "leader", 1, reset=True)

    def describe(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> str:
        who = words(hit, world)
        return {
            "lose-replies": f"replies of {who} to clients are lost",
            "silence": f"clients and {who} hear nothing of each other",
            "reset": f"client connections to {who} are reset",
        }[plan.kind]

    async def start(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> None:
        links = world.cluster.links
        if plan.kind == "reset":
            for _ in range(RESETS):
                for node in hit:
                    links.client[node].reset_connections()
                await trio.sleep(RESET_INTERVAL_S)
        else:
            directions = (Direction.BACKWARD,) if plan.kind == "lose-replies" else BOTH
            links.cut_clients(self.holder(plan), hit, directions)
