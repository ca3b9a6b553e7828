"""Which colour slot a fault family, a kind of operation or a node takes.

The colours themselves are CSS variables (``--fault-0`` ...), light and dark, so that drawings made here and drawings
made in the browser agree. The slots are those of a palette that people with any common colour blindness can tell
apart; no meaning rests on colour alone: families have labelled strips, outcomes have shapes and patterns.
"""

from __future__ import annotations

from collections.abc import Iterable

SLOTS = 8
"""Colours per palette: as many as can be told apart side by side."""

FAMILY_SLOTS = {
    "kill": 0, "pause": 1, "partition": 2, "client-link": 3,
    "disk-full": 4, "disk-slow": 5, "disk-hung": 6, "membership": 7,
}  # fmt: skip
"""A family keeps its colour from one report to the next."""


def family_slots(families: Iterable[str]) -> dict[str, int]:
    """Family -> colour slot; families without a fixed one take the free slots, by name."""
    present = sorted(set(families))
    slots = {family: FAMILY_SLOTS[family] for family in present if family in FAMILY_SLOTS}
    free = [slot for slot in reversed(range(SLOTS)) if slot not in slots.values()] or list(range(SLOTS))
    for position, family in enumerate(family for family in present if family not in FAMILY_SLOTS):
        slots[family] = free[position % len(free)]
    return slots


def node_slots(nodes: Iterable[str]) -> dict[str, int]:
    """Node -> colour slot, in the order of the nodes' names."""
    return {node: position % SLOTS for position, node in enumerate(sorted(set(nodes), key=lambda n: (len(n), n)))}
