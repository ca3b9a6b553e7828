"""What happens in a day: a list of phases, each with what it does and how one knows that it is done.

Every phase is carried out with the means that an operator has: the processes, the configuration files, and the
``telegraft`` command. A phase is over when the cluster is whole again: every member up, following one leader, and not
behind. One that is not over within its bound has failed, and with it the day.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.faulty_disk import DiskState

if TYPE_CHECKING:
    from harness.day.run import DayRun

Facts: TypeAlias = dict[str, Any]

SLOW_MS = 100
"""Added to each sync of a slow disk: ten times what a bad one takes."""

OPTION = "heartbeat_ticks"
OPTION_VALUE = 5
"""What the second rolling restart changes."""

MAX_WRITE_GAP_S = 10.0
"""Longer than this nobody may be without a successful write, whatever the operator does: several elections on a machine
that is busy with three to five nodes and their snapshots."""


@dataclass(frozen=True)
class Phase:
    """``family`` is what the report files it under; ``bound_s`` is for the phase at scale 1."""

    name: str
    family: str
    bound_s: float
    carry_out: Callable[[DayRun], Awaitable[Facts]]


async def quiet(day: DayRun) -> Facts:
    await day.pause()
    return {}


async def grow(day: DayRun) -> Facts:
    for node in day.spares:
        await day.add(node)
        await day.pause()
    return {"members": await day.members()}


async def shrink(day: DayRun) -> Facts:
    first, last = day.spares
    await day.remove(first)
    await day.pause()
    await day.transfer(last)  # so that the one that is removed leads
    await day.remove(last)
    await day.pause()
    return {"members": await day.members()}


async def replace_each(day: DayRun) -> Facts:
    replaced = {}
    for node in day.founders:
        replaced[str(node)] = await day.replace(node)
        await day.pause()
    return {"replaced": replaced}


async def rolling_restart(day: DayRun) -> Facts:
    for node in day.founders:
        await day.restart(node)
    await day.pause()
    return {"restarted": len(day.founders)}


async def rolling_change(day: DayRun) -> Facts:
    for node in day.founders:
        day.set_option(node, OPTION, OPTION_VALUE)
        await day.restart(node)
    await day.pause()
    return {OPTION: OPTION_VALUE}


async def full_disk(day: DayRun) -> Facts:
    facts: Facts = {}
    for who, node in (("leader", await day.leader()), ("follower", await day.follower())):
        with day.disk(node, DiskState(full=True)):
            await day.meet_full_disk(node)
        await day.whole()
        facts[who] = node
    return facts


async def slow_disk(day: DayRun) -> Facts:
    facts: Facts = {}
    for who, node in (("leader", await day.leader()), ("follower", await day.follower())):
        with day.disk(node, DiskState(slow_ms=SLOW_MS)):
            await day.pause()
        await day.whole()
        facts[who] = node
    return facts


async def fill(day: DayRun) -> Facts:
    await day.filling.fill(day.params.fill_bytes)
    return {"bytes": day.filling.bytes, "messages": day.filling.messages}


async def transfer_snapshot(day: DayRun) -> Facts:
    """A fresh node needs everything that there is, and the log alone no longer has it."""
    return await day.replace(await day.follower())


PHASES: tuple[Phase, ...] = (
    Phase("nothing in particular", "", 60, quiet),
    Phase("grow from 3 to 5 members", "membership", 180, grow),
    Phase("shrink from 5 to 3 members", "membership", 120, shrink),
    Phase("replace each node by a fresh one", "membership", 240, replace_each),
    Phase("restart each node in turn", "restart", 180, rolling_restart),
    Phase("change an option of each node in turn", "restart", 180, rolling_change),
    Phase("a full disk", "disk-full", 120, full_disk),
    Phase("a slow disk", "disk-slow", 120, slow_disk),
    Phase("fill the chats", "", 300, fill),
    Phase("transfer the whole state to a fresh node", "membership", 300, transfer_snapshot),
    Phase("nothing in particular again", "", 60, quiet),
)
