"""The schedule of faults: drawn from the seed before the run, so that the same seed breaks things at the same instants.

Theory of operation
-------------------
Three tracks. The first holds the faults that take nodes out of the quorum (kill, pause, partition), in slots of two to
three and a half seconds with a breath between them: a cluster that is never whole teaches little, and one that is never
allowed to finish an election teaches less. The second holds the short breaks of client links, one per window, and the
third the faults of disks, one per window too, each family in its turn: both on top of whatever the first one does.

Stratified drawing keeps the promise that a demo makes: the leader is hit by a kill, a partition and a pause, in slots
drawn by lot, before chance fills the rest. With 30 seconds there are always slots enough, so every family fires and
leadership has to move. In some of the other slots a second fault of another family starts inside the first; a slot ends
before the next begins, so never more than two of the first track overlap.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from harness.faults.families import FAMILIES
from harness.faults.plan import Draw, FaultPlan
from harness.params import FaultFamily, RunParams
from harness.randomness import substream

LEAD_IN_S = 2.0
"""Undisturbed at the start, so that a run shows what normal looks like; a tenth of short runs."""

LEAD_OUT_S = 1.0
"""Undisturbed at the end; a twentieth of short runs."""

SLOT_S = (2.0, 3.5)
"""An election takes some tenths of a second, and one more if the vote splits: two seconds let leadership move."""

BREATH_S = (0.7, 1.8)

CLIENT_WINDOW_S = 6.0
CLIENT_FAULT_S = (0.2, 1.2)
"""Shorter than a client's patience for one operation: most retries succeed, and only some outcomes stay unknown."""

DISK_WINDOW_S = 8.0
"""With 30 seconds every family of disk faults has its turn."""

DISK_FAULT_S = (1.0, 3.0)
"""A leader gives up its office over a disk that hangs for a second and a half: some faults are too short for that."""

DISK_FAMILIES: tuple[FaultFamily, ...] = ("disk-full", "disk-slow", "disk-hung")

DOUBLE_SHARE = 0.25
"""How often a second fault starts inside a slot that chance filled."""

LEADER_FAMILIES: tuple[FaultFamily, ...] = ("kill", "partition", "pause")
"""Those that must hit the leader once, the kill first of all if there are few slots."""


class Schedule(msgspec.Struct, frozen=True):
    """All faults of a run, in the order in which they start."""

    seed: int
    duration_s: float
    faults: tuple[FaultPlan, ...]

    def encode(self) -> bytes:
        """As written to schedule.json."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


@dataclass(frozen=True)
class Slot:
    start_s: float
    duration_s: float


@dataclass(frozen=True)
class Placed:
    """A fault that has its place in time and what its family drew."""

    slot: Slot
    family: FaultFamily
    draw: Draw


def draw_schedule(params: RunParams) -> Schedule:
    """The schedule of the run with these parameters: a function of them alone."""
    slot_rng = substream(params.seed, "schedule", "nodes")
    client_rng = substream(params.seed, "schedule", "clients")
    order_rng = substream(params.seed, "schedule", "order")
    removing = [name for name in params.faults if FAMILIES[name].removes_nodes]
    placed: list[Placed] = []
    if removing:
        placed += fill_slots(slot_rng, draw_slots(slot_rng, params.duration_s), removing, params.nodes)
    if "client-link" in params.faults:
        placed += client_faults(client_rng, params)
    placed += disk_faults(substream(params.seed, "schedule", "disks"), params)
    placed.sort(key=lambda p: (p.slot.start_s, p.family))
    faults = tuple(
        FaultPlan(
            index=index,
            start_ms=round(p.slot.start_s * 1000),
            duration_ms=round(p.slot.duration_s * 1000),
            family=p.family,
            kind=p.draw.kind,
            aim=p.draw.aim,
            count=p.draw.count,
            order=tuple(order_rng.sample(range(1, params.nodes + 1), params.nodes)),
            reset=p.draw.reset,
        )
        for index, p in enumerate(placed)
    )
    return Schedule(params.seed, params.duration_s, faults)


def undisturbed(duration_s: float) -> tuple[float, float]:
    """From when to when faults may be active, in seconds."""
    return min(LEAD_IN_S, duration_s / 10), duration_s - min(LEAD_OUT_S, duration_s / 20)


def draw_slots(rng: random.Random, duration_s: float) -> list[Slot]:
    """Slots that do not overlap; at least one, however short the run."""
    begin_s, end_s = undisturbed(duration_s)
    slots: list[Slot] = []
    at_s = begin_s
    while True:
        length_s = rng.uniform(*SLOT_S)
        if at_s + length_s > end_s:
            break
        slots.append(Slot(at_s, length_s))
        at_s += length_s + rng.uniform(*BREATH_S)
    return slots or [Slot(begin_s, (end_s - begin_s) * 0.8)]


def fill_slots(rng: random.Random, slots: list[Slot], removing: list[FaultFamily], nodes: int) -> list[Placed]:
    """One fault per slot: first those that must hit the leader, in slots drawn by lot, then whatever chance gives."""
    must = [name for name in LEADER_FAMILIES if name in removing]
    if must[:1] == ["kill"]:
        rest = must[1:]
        rng.shuffle(rest)
        must = ["kill", *rest]
    must = must[: len(slots)]
    where = rng.sample(range(len(slots)), len(must))
    fixed = dict(zip(where, must, strict=True))
    placed: list[Placed] = []
    for number, slot in enumerate(slots):
        if number in fixed:
            name = fixed[number]
            placed.append(Placed(slot, name, FAMILIES[name].on_leader()))
            continue
        name = rng.choice(removing)
        placed.append(Placed(slot, name, FAMILIES[name].draw(rng, nodes)))
        others = [other for other in removing if other != name]
        if others and rng.random() < DOUBLE_SHARE:
            second = rng.choice(others)
            inside = slot.duration_s * rng.uniform(0.2, 0.5)
            inner = Slot(slot.start_s + inside, (slot.duration_s - inside) * rng.uniform(0.4, 1.0))
            placed.append(Placed(inner, second, FAMILIES[second].draw(rng, nodes)))
    return placed


def client_faults(rng: random.Random, params: RunParams) -> list[Placed]:
    """One break of client links in each window."""
    family = FAMILIES["client-link"]
    slots = one_per_window(rng, params.duration_s, CLIENT_WINDOW_S, CLIENT_FAULT_S)
    return [Placed(slot, "client-link", family.draw(rng, params.nodes)) for slot in slots]


def disk_faults(rng: random.Random, params: RunParams) -> list[Placed]:
    """One fault of disks in each window; the families that were asked for take turns, in an order drawn by lot."""
    wanted = [name for name in DISK_FAMILIES if name in params.faults]
    if not wanted:
        return []
    rng.shuffle(wanted)
    slots = one_per_window(rng, params.duration_s, DISK_WINDOW_S, DISK_FAULT_S)
    turns = zip(slots, itertools.cycle(wanted), strict=False)
    return [Placed(slot, name, FAMILIES[name].draw(rng, params.nodes)) for slot, name in turns]


def one_per_window(
    rng: random.Random, duration_s: float, window_s: float, length_s: tuple[float, float]
) -> Iterator[Slot]:
    """The disturbed part of the run in equal windows of about this length, and one slot somewhere in each."""
    begin_s, end_s = undisturbed(duration_s)
    windows = max(1, int((end_s - begin_s) // window_s))
    width_s = (end_s - begin_s) / windows
    for window in range(windows):
        slot_s = min(rng.uniform(*length_s), width_s / 2)
        yield Slot(begin_s + window * width_s + rng.uniform(0, width_s - slot_s), slot_s)
