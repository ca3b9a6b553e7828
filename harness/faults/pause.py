"""SIGSTOP of some nodes, and SIGCONT: a process that sleeps, keeps its sockets, and wakes up believing the past.

The finder of leases that trust a clock: a leader that was stopped for seconds still believes that it leads.
"""

from __future__ import annotations

from harness.faults.family import ProcessFamily
from harness.faults.plan import FaultPlan, World, words


class Pause(ProcessFamily):
    name = "pause"
    kinds = ("one", "minority", "majority", "some")
    leader_share = 0.6  # a follower that sleeps is soon forgotten

    def describe(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> str:
        return f"SIGSTOP of {words(hit, world)}"

    async def start(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> None:
        for node in hit:
            world.cluster.nodes[node].pause()

    async def heal(self, plan: FaultPlan, hit: tuple[int, ...], world: World) -> None:
        for node in hit:
            world.cluster.nodes[node].resume()
