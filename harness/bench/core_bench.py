"""What the Raft core alone costs: three of them in one process, without disk, network and clock.

Theory of operation
-------------------
The *pump* is the smallest driver that keeps the rules of ``impl.raft.events``: one queue of messages, delivered in the
order in which they were sent, and a disk on which everything is durable at once, so that every batch is reported in the
moment in which it is given out. What is measured is therefore the core, and a few lines of loop around it.

An entry counts as committed when the leader has handed it out to be applied. A round proposes one batch and pumps until
nobody has anything to say. Ticks come between rounds, as many as a driver would have sent in that time: heartbeats are
part of the price.

Measurements that are compared are *interleaved*: one run of each, again and again, each with cores of its own, and the
median of each is taken. A machine that slows down for a while then slows down all of them.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from impl.raft import Core, Settings
from impl.raft.events import Effects, Event, Persisted, Propose, Receive, Tick
from impl.raft.messages import Entry, HardState

NODES = (1, 2, 3)

PAYLOAD = b"x" * 100
"""About what a short chat message takes as a command."""

ELECTION_TICKS = 30
HEARTBEAT_TICKS = 6
TICK_S = 0.01
"""Those of a node's default configuration."""

RUN_BATCHES = 200
"""Batches of one run: some tens of milliseconds, long beside the clock's resolution, short beside the machine's moods,
and so few that a log of a thousand entries is still a short one afterwards."""

RUNS = 15

ELECTION_PATIENCE_TICKS = 1000
"""Three cores that hear each other elect a leader within two election timeouts or so."""

Key = TypeVar("Key", bound=Hashable)


class NoLeader(RuntimeError):
    """Three cores that hear each other have elected nobody: the core is broken."""


class Pump:
    """Three cores that hear each other at once and remember everything at once."""

    def __init__(self, log: Sequence[Entry] = ()) -> None:
        """``log``: what all three have in their logs, committed and applied; of term 1, dense from 1."""
        hard_state = HardState(term=1) if log else None
        self._cores = {
            node: Core(
                Settings(node, NODES, election_ticks=ELECTION_TICKS, heartbeat_ticks=HEARTBEAT_TICKS),
                hard_state,
                log,
                len(log),
            )
            for node in NODES
        }
        self._under_way: deque[tuple[Core, Event]] = deque()
        self.leader = self._cores[NODES[0]]
        self.committed = 0  # entries that the leader has handed out to be applied
        self.leader = self._elect()

    def _elect(self) -> Core:
        for _ in range(ELECTION_PATIENCE_TICKS):
            for node, core in self._cores.items():
                self._carry_out(core, core.step(Tick(entropy=7 * node)))  # different timeouts: nobody splits the vote
                self._run()
                if core.role == "leader":
                    return core
        raise NoLeader(f"three cores elected nobody within {ELECTION_PATIENCE_TICKS} ticks")

    def propose(self, proposals: tuple[tuple[int, bytes], ...]) -> None:
        """Propose one batch at the leader, and go on until nobody has anything to say."""
        self._carry_out(self.leader, self.leader.step(Propose(proposals)))
        self._run()

    def tick(self) -> None:
        """One tick for each."""
        for core in self._cores.values():
            self._carry_out(core, core.step(Tick(entropy=1)))
        self._run()

    def _run(self) -> None:
        under_way = self._under_way
        while under_way:
            core, event = under_way.popleft()
            self._carry_out(core, core.step(event))

    def _carry_out(self, core: Core, effects: Effects) -> None:
        cores, under_way = self._cores, self._under_way
        while True:
            for message in effects.send:
                under_way.append((cores[message.target], Receive(message)))
            if effects.apply and core is self.leader:
                self.committed += len(effects.apply)
            if effects.persist is None:
                return
            effects = core.step(Persisted(effects.persist.sequence))


class NotCommitted(RuntimeError):
    """Entries were proposed and not committed: the figure would be about something else."""


def seconds_per_entry(pump: Pump, batch: int, batches: int = RUN_BATCHES) -> float:
    """Commit this many batches of this many entries; returns the seconds per entry. Raises ``NotCommitted``."""
    proposals = tuple((token, PAYLOAD) for token in range(1, batch + 1))
    before = pump.committed
    gc.collect()
    began = time.perf_counter()
    next_tick = began + TICK_S
    for _ in range(batches):
        pump.propose(proposals)
        now = time.perf_counter()
        if now >= next_tick:
            pump.tick()
            next_tick = now + TICK_S
    seconds = time.perf_counter() - began
    committed = pump.committed - before
    if committed != batches * batch:
        raise NotCommitted(f"{committed} of {batches * batch} entries were committed")
    return seconds / committed


def by_batch(sizes: Iterable[int], *, runs: int = RUNS) -> dict[int, float]:
    """Batch size -> median seconds per entry, over interleaved runs."""
    cells: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(runs):
        for size, seconds in cells.items():
            seconds.append(seconds_per_entry(Pump(), size))
    return medians(cells)


def by_log_length(lengths: Sequence[int], *, batch: int = 64, runs: int = RUNS) -> dict[int, float]:
    """Entries in the log beforehand -> median seconds per entry, over interleaved runs."""
    everything = [Entry(index, 1, PAYLOAD) for index in range(1, max(lengths) + 1)]
    logs = {length: everything[:length] for length in lengths}
    cells: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(runs):
        for length, seconds in cells.items():
            seconds.append(seconds_per_entry(Pump(logs[length]), batch))
    return medians(cells)


def medians(cells: dict[Key, list[float]]) -> dict[Key, float]:
    return {cell: statistics.median(values) for cell, values in cells.items()}
