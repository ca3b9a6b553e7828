"""A fault as it is planned before the run, and as it is done when its time has come.

Theory of operation
-------------------
All chance is in the plan: which family and kind, when, for how long, how many nodes, in which order of preference. What
a plan cannot know is who leads when it fires. So it aims at a *role*: ``leader`` puts whoever leads then in front of
the drawn order, ``anyone`` takes the order as it is. The victims are the first ``count`` of that order, and the history
records who they were.

A family turns a plan into a ``Fault``: the nodes it hits, what it does in words, how it starts and how it heals.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

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


class Family(Protocol):
    """One family of faults: a module of this package provides one of these, and ``FAMILIES`` lists them."""

    @property
    def name(self) -> FaultFamily: ...

    @property
    def colour(self) -> str:
        """Of its bands in plots, as #rrggbb."""
        ...

    @property
    def removes_nodes(self) -> bool:
        """Whether it takes nodes out of the quorum: at most two such faults overlap."""
        ...

    def draw(self, rng: random.Random, nodes: int) -> Draw:
        """Choose a kind and its size for a cluster of this many nodes."""
        ...

    def on_leader(self) -> Draw:
        """The kind that takes the leader, and nobody else, out of the quorum."""
        ...

    def prepare(self, plan: FaultPlan, world: World) -> Fault:
        """Find the victims and say what will be done; nothing is done yet."""
        ...


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
