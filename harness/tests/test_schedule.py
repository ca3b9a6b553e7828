"""Schedules: a function of the seed alone, and what they promise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.faults.families import FAMILIES
from harness.faults.schedule import draw_schedule, undisturbed
from harness.params import FaultFamily, RunParams

SEEDS = range(150)


def test_the_same_seed_gives_the_same_bytes_in_any_process() -> None:
    program = (
        "import sys; from harness.params import RunParams; from harness.faults.schedule import draw_schedule; "
        "sys.stdout.buffer.write(b''.join(draw_schedule(RunParams(seed=s)).encode() for s in range(5)))"
    )
    here = b"".join(draw_schedule(RunParams(seed=seed)).encode() for seed in range(5))
    for hash_seed in ("0", "1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
        assert there.stdout == here


def test_different_seeds_give_different_schedules() -> None:
    assert len({draw_schedule(RunParams(seed=seed)).encode() for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("nodes", [3, 5])
def test_a_demo_fires_every_family_and_hits_the_leader_by_kill_partition_and_pause(nodes: int) -> None:
    for seed in SEEDS:
        faults = draw_schedule(RunParams(seed=seed, nodes=nodes)).faults
        assert {fault.family for fault in faults} == set(FAMILIES)
        on_leader = {
            fault.family for fault in faults if fault.aim == "leader" and fault.count == 1 and fault.duration_ms >= 2000
        }
        assert {"kill", "partition", "pause"} <= on_leader


def test_at_most_two_faults_that_remove_nodes_overlap_and_never_of_one_family() -> None:
    for seed in SEEDS:
        faults = [f for f in draw_schedule(RunParams(seed=seed)).faults if FAMILIES[f.family].removes_nodes]
        for moment in (fault.start_ms for fault in faults):
            active = [fault.family for fault in faults if fault.start_ms <= moment < fault.end_ms]
            assert len(active) <= 2
            assert len(set(active)) == len(active)


@pytest.mark.parametrize("duration_s", [2.0, 4.0, 10.0, 30.0, 120.0])
def test_faults_stay_inside_the_disturbed_part_of_the_run(duration_s: float) -> None:
    for seed in range(40):
        begin_s, end_s = undisturbed(duration_s)
        faults = draw_schedule(RunParams(seed=seed, duration_s=duration_s)).faults
        assert faults
        assert all(begin_s * 1000 - 1 <= fault.start_ms and fault.end_ms <= end_s * 1000 + 1 for fault in faults)
        assert [fault.start_ms for fault in faults] == sorted(fault.start_ms for fault in faults)


def test_victims_are_possible_and_the_order_names_every_node() -> None:
    for seed in SEEDS:
        for fault in draw_schedule(RunParams(seed=seed, nodes=5)).faults:
            assert sorted(fault.order) == [1, 2, 3, 4, 5]
            assert 1 <= fault.count <= 5


@pytest.mark.parametrize("chosen", [(), ("pause",), ("client-link",), ("partition", "client-link")])
def test_only_the_families_asked_for(chosen: tuple[FaultFamily, ...]) -> None:
    for seed in range(20):
        schedule = draw_schedule(RunParams(seed=seed, faults=chosen))
        assert {fault.family for fault in schedule.faults} == set(chosen)


def test_one_part_of_a_schedule_does_not_depend_on_the_others() -> None:
    everything = draw_schedule(RunParams(seed=3)).faults
    clients_only = draw_schedule(RunParams(seed=3, faults=("client-link",))).faults

    def when(faults: object) -> list[tuple[int, int, str]]:
        assert isinstance(faults, tuple)
        return [(f.start_ms, f.duration_ms, f.kind) for f in faults if f.family == "client-link"]

    assert when(everything) == when(clients_only)
