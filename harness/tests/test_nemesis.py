"""The nemesis: faults start and end in the history, hit who they should, and are healed whatever happens."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from harness.cluster import Cluster, Node, NodeFailed
from harness.faults.disk_slow import SLOW_MS
from harness.faults.families import FAMILIES
from harness.faults.family import draw_size
from harness.faults.nemesis import Nemesis
from harness.faults.plan import FaultPlan, World, victims
from harness.faults.schedule import Schedule, draw_schedule
from harness.faulty_disk import IN_ORDER, DiskControl, DiskState
from harness.links import Links
from harness.params import FaultFamily, RunParams
from harness.randomness import substream
from harness.recorder import Recorder
from harness.report.palette import FAMILY_SLOTS

NOWHERE = ("127.0.0.1", 1)


class PaperNode(Node):
    """A node without a process: only its state."""

    comes_back = True

    async def start(self) -> None:
        await trio.sleep(0.1)
        if not self.comes_back:
            raise NodeFailed(f"node {self.node_id} does not come back")
        self.state = "up"

    async def kill(self) -> None:
        self.state = "down"

    def pause(self) -> None:
        if self.state == "up":
            self.state = "paused"

    def resume(self) -> None:
        if self.state == "paused":
            self.state = "up"


class PaperDisk(DiskControl):
    """A disk whose control file nobody reads."""

    def _write(self) -> None: ...


def world(nodes: int = 3, leader: int | None = 2) -> World:
    ids = range(1, nodes + 1)
    made: dict[int, Node] = {
        n: PaperNode(n, NOWHERE, NOWHERE, Path("x"), Path("x"), Path("x"), [], state="up") for n in ids
    }
    for node in made.values():
        node.disk = PaperDisk(Path("x"))
    return World(Cluster(made, Links(dict.fromkeys(ids, NOWHERE), dict.fromkeys(ids, NOWHERE))), lambda: leader)


def plan(family: FaultFamily, kind: str, **changes: Any) -> FaultPlan:
    values: dict[str, Any] = {
        "index": 0,
        "start_ms": 1000,
        "duration_ms": 2000,
        "aim": "leader",
        "count": 1,
        "order": (3, 1, 2),
        "reset": False,
    }
    return FaultPlan(family=family, kind=kind, **(values | changes))


def state(here: World) -> tuple[list[str], set[str]]:
    """States of the nodes, and the closed valves as ``link/direction`` and broken disks as ``node N: what``."""
    shut = {
        f"{link.name}/{direction.value}"
        for link in here.cluster.links.every
        for direction, valve in link.valves.items()
        if not valve.is_open
    }
    for node in here.cluster.nodes.values():
        if node.disk.state != IN_ORDER:
            shut.add(f"node {node.node_id}: {node.disk.state}")
    return [node.state for node in here.cluster.nodes.values()], shut


ALL_OF_2 = {f"{a}->{b}/{d}" for a, b in ((1, 2), (2, 1), (2, 3), (3, 2)) for d in ("forward", "backward")}

EFFECTS: list[tuple[FaultPlan, list[str], set[str], list[int]]] = [
    (plan("kill", "one"), ["up", "down", "up"], set(), [2]),
    (plan("kill", "all", count=3), ["down"] * 3, set(), [2, 3, 1]),
    (plan("pause", "minority", aim="anyone"), ["up", "up", "paused"], set(), [3]),
    (plan("partition", "isolate-one"), ["up"] * 3, ALL_OF_2, [2]),
    (plan("partition", "halves", aim="anyone", count=2), ["up"] * 3, ALL_OF_2, [3, 1]),
    (
        plan("partition", "one-way-out"),
        ["up"] * 3,
        {"2->1/forward", "1->2/backward", "2->3/forward", "3->2/backward"},
        [2],
    ),
    (
        plan("partition", "one-way-in"),
        ["up"] * 3,
        {"1->2/forward", "2->1/backward", "3->2/forward", "2->3/backward"},
        [2],
    ),
    (plan("client-link", "lose-replies"), ["up"] * 3, {"clients->2/backward"}, [2]),
    (plan("client-link", "silence"), ["up"] * 3, {"clients->2/backward", "clients->2/forward"}, [2]),
    (plan("client-link", "reset", count=3), ["up"] * 3, set(), [2, 3, 1]),
    (plan("disk-full", "one"), ["up"] * 3, {f"node 2: {DiskState(full=True)}"}, [2]),
    (plan("disk-slow", "one", aim="anyone"), ["up"] * 3, {f"node 3: {DiskState(slow_ms=SLOW_MS[0])}"}, [3]),
    (plan("disk-hung", "some", count=2), ["up"] * 3, {f"node {n}: {DiskState(hung=True)}" for n in (2, 3)}, [2, 3]),
]


@pytest.mark.parametrize(
    ("fault", "nodes", "valves", "hit"), EFFECTS, ids=[f"{p.family}-{p.kind}" for p, *_ in EFFECTS]
)
async def test_each_fault_does_what_it_says_and_undoes_it(
    fault: FaultPlan, nodes: list[str], valves: set[str], hit: list[int], autojump_clock: trio.testing.MockClock
) -> None:
    here, stream = world(), io.BytesIO()
    nemesis = Nemesis(Schedule(1, 10, (fault,)), here, Recorder(stream, lanes=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(nemesis.run)
        await trio.sleep(0.9)
        assert state(here) == (["up"] * 3, set())
        assert not nemesis.active
        await trio.sleep(1)
        assert state(here) == (nodes, valves)
        assert nemesis.active
    assert state(here) == (["up"] * 3, set())
    start, end = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (start["process"], start["type"], start["f"]) == ("nemesis", "info", fault.family)
    assert (start["value"]["phase"], end["value"]["phase"]) == ("start", "end")
    assert start["value"]["nodes"] == end["value"]["nodes"] == hit
    assert start["value"]["description"]
    assert nemesis.fired == {fault.family: 1}


async def test_cancellation_heals_what_is_active(autojump_clock: trio.testing.MockClock) -> None:
    here, stream = world(), io.BytesIO()
    faults = (plan("kill", "one"), plan("partition", "isolate-one", index=1), plan("pause", "one", start_ms=9000))
    nemesis = Nemesis(Schedule(1, 10, faults), here, Recorder(stream, lanes=1))
    with trio.move_on_after(2):
        await nemesis.run()
    assert state(here) == (["up"] * 3, set())
    phases = [json.loads(line)["value"]["phase"] for line in stream.getvalue().splitlines()]
    assert phases == ["start", "start", "end", "end"]


async def test_what_one_fault_has_cut_stays_cut_when_another_heals(autojump_clock: trio.testing.MockClock) -> None:
    here = world()
    long, short = plan("partition", "isolate-one", duration_ms=4000), plan("partition", "one-way-out", index=1)
    nemesis = Nemesis(Schedule(1, 10, (long, short)), here, Recorder(io.BytesIO(), lanes=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(nemesis.run)
        await trio.sleep(4)
        assert list(nemesis.active) == [0]
        assert state(here) == (["up"] * 3, ALL_OF_2)
    assert state(here) == (["up"] * 3, set())


async def test_a_node_that_does_not_come_back_is_a_problem(autojump_clock: trio.testing.MockClock) -> None:
    here = world()
    broken = here.cluster.nodes[2]
    assert isinstance(broken, PaperNode)
    broken.comes_back = False
    nemesis = Nemesis(Schedule(1, 10, (plan("kill", "one"),)), here, Recorder(io.BytesIO(), lanes=1))
    await nemesis.run()
    assert nemesis.problems == ["node 2 does not come back"]


async def test_a_whole_schedule_leaves_nothing_broken(autojump_clock: trio.testing.MockClock) -> None:
    for seed in range(10):
        here = world()
        schedule = draw_schedule(RunParams(seed=seed))
        nemesis = Nemesis(schedule, here, Recorder(io.BytesIO(), lanes=1))
        await nemesis.run()
        assert state(here) == (["up"] * 3, set())
        assert sum(nemesis.fired.values()) == len(schedule.faults)
        assert nemesis.problems == []


def test_the_leader_comes_first_only_if_the_plan_aims_at_it_and_it_is_known() -> None:
    assert victims(plan("kill", "some", count=2), world()) == (2, 3)
    assert victims(plan("kill", "some", count=2, aim="anyone"), world()) == (3, 1)
    assert victims(plan("kill", "some", count=2), world(leader=None)) == (3, 1)


@pytest.mark.parametrize("nodes", [1, 2, 3, 5, 7])
def test_victim_sets_have_the_size_that_their_name_says(nodes: int) -> None:
    rng = substream(1, "sizes")
    for _ in range(100):
        kind, count = draw_size(rng, nodes, ("one", "minority", "majority", "some", "all"))
        assert 1 <= count <= nodes
        if kind == "minority" and nodes > 2:
            assert 2 * count < nodes
        if kind == "majority":
            assert 2 * count > nodes
        if kind == "some" and nodes > 1:
            assert count < nodes


def test_every_family_has_a_colour_of_its_own_in_every_report() -> None:
    assert FAMILIES.keys() <= FAMILY_SLOTS.keys()
    assert len(set(FAMILY_SLOTS.values())) == len(FAMILY_SLOTS)
