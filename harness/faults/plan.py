"""A fault as it is planned before the run, and as it is done when its time has come.

Theory of operation
-------------------
All chance is in the plan: which family and kind, when, for how long, how many nodes, in which order of preference. What
a plan cannot know is who leads when it fires. So it aims at a *role*: ``leader`` puts whoever leads then in front of
the drawn order, ``anyone`` takes the order as it is. The victims are the first ``count`` of that order, and the history
records who they were.

A family (``harness.faults.family``) turns a plan into a ``Fault``: the nodes it hits, what it does in words, how it
starts and how it heals.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from harness.cluster import Cluster
from harness.params import FaultFamily

Aim: TypeAlias = Literal["leader", "anyone"]


class FaultPlan(msgspec.Struct, frozen=True):
    """One fault of a schedule. Times in milliseconds from the start of the workload."""

    index: int
    start_ms: int
    duration_ms: int
    family: FaultFamily
    kind: str  # one of the family's kinds
    aim: Aim
    count: int  # how many nodes it hits
    order: tuple[int, ...]  # all node ids, the first victims first
    reset: bool  # whether connections it held are reset when it heals, instead of going on

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.duration_ms


@dataclass(frozen=True)
class World:
    """What faults act upon. ``leader`` says who was last seen to lead, or None."""

    cluster: Cluster
    leader: Callable[[], int | None]


@dataclass(frozen=True)
class Fault:
    """A fault that is about to start."""

    nodes: tuple[int, ...]
    description: str  # what it does, in words
    start: Callable[[], Awaitable[None]]
    heal: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Draw:
    """What a family chooses of a plan."""

    kind: str
    aim: Aim
    count: int
    reset: bool = False


def victims(plan: FaultPlan, world: World) -> tuple[int, ...]:
    """Who is hit now: the first ``count`` of the plan's order, with the leader in front if the plan aims at it."""
    leader = world.leader() if plan.aim == "leader" else None
    order = plan.order if leader is None else (leader, *(node for node in plan.order if node != leader))
    return order[: plan.count]


def words(nodes: tuple[int, ...], world: World) -> str:
    """``node 2 (leader)``, ``nodes 1 and 3``."""
    leader = world.leader()
    names = [f"{node} (leader)" if node == leader else str(node) for node in nodes]
    if len(names) == 1:
        return f"node {names[0]}"
    return f"nodes {', '.join(names[:-1])} and {names[-1]}"
