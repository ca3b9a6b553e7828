"""The recorder: one history for everything that clients, the nemesis and the observer did and saw.

Theory of operation
-------------------
A history is a file of JSON lines in the order of ``index``, each ``{"index", "time", "process", "type", "f",
"value"}``, shaped like Jepsen's operations. ``time`` is in nanoseconds since the start of the run, from the monotonic
clock. A record is on its way to the file before the call it describes goes out (``invoke``), and after its outcome is
known (``ok``, ``fail``, ``info``): the interval in the history contains the real one, so a checker that finds no
explanation for the recorded intervals has found none for the real ones.

Lines are flushed one by one: a history cut short by a crash of the harness is still a history, with the operations
that were under way left pending, which means unknown.

The recorder refuses what would make a history meaningless: two operations of one process at the same time, a
completion without an invocation, and a process that goes on after an unknown outcome. After ``info`` a process takes a
new number, ``lanes`` higher, so that ``process % lanes`` still names the client.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, TypeAlias

import msgspec

Value: TypeAlias = dict[str, Any]
Outcome: TypeAlias = Literal["ok", "fail", "info"]
Process: TypeAlias = int | str

NEMESIS = "nemesis"
CLUSTER = "cluster"


class Misrecorded(RuntimeError):
    """The harness broke a rule of histories: a bug in the harness, never in the system under test."""


@dataclass
class Tally:
    """How the operations of one kind ended. ``rejected`` counts those among ``ok`` that the service refused."""

    ok: int = 0
    fail: int = 0
    unknown: int = 0
    pending: int = 0
    rejected: int = 0

    @property
    def completed(self) -> int:
        return self.ok + self.fail + self.unknown


class Recorder:
    """Writes one history. ``clock_ns`` is monotonic; ``lanes`` is the distance between a client's process numbers."""

    def __init__(self, stream: BinaryIO, *, lanes: int, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._stream = stream
        self._clock_ns = clock_ns
        self._started_ns = clock_ns()
        self._lanes = lanes
        self._next_index = 0
        self._open: dict[int, str] = {}  # process -> f of its operation under way
        self._retired: set[int] = set()
        self.tallies: dict[str, Tally] = {}

    def now_ns(self) -> int:
        """Nanoseconds since the start of the run."""
        return self._clock_ns() - self._started_ns

    @property
    def operations_completed(self) -> int:
        return sum(tally.completed for tally in self.tallies.values())

    def invoke(self, process: int, f: str, request: Value) -> int:
        """Record that ``process`` is about to call ``f``; returns the record's index."""
        if process in self._open:
            raise Misrecorded(f"process {process} invoked {f} while its {self._open[process]} is under way")
        if process in self._retired:
            raise Misrecorded(f"process {process} went on after an unknown outcome; it is {process + self._lanes} now")
        self._open[process] = f
        self.tallies.setdefault(f, Tally()).pending += 1
        return self._write(process, "invoke", f, request)

    def complete(self, process: int, outcome: Outcome, value: Value) -> int:
        """Record how the operation under way ended; returns the process number to go on with."""
        f = self._open.pop(process, None)
        if f is None:
            raise Misrecorded(f"process {process} completed an operation that it never invoked")
        tally = self.tallies[f]
        tally.pending -= 1
        if outcome == "ok":
            tally.ok += 1
            tally.rejected += value.get("reply", {}).get("type") == "rejected"
        elif outcome == "fail":
            tally.fail += 1
        else:
            tally.unknown += 1
        self._write(process, outcome, f, value)
        if outcome != "info":
            return process
        self._retired.add(process)
        return process + self._lanes

    def abandon(self, process: int) -> int:
        """Leave the operation under way pending for good; returns the process number to go on with."""
        if self._open.pop(process, None) is None:
            raise Misrecorded(f"process {process} abandoned an operation that it never invoked")
        self._retired.add(process)
        return process + self._lanes

    def nemesis(self, family: str, value: Value) -> int:
        """Record the start or the end of a fault."""
        return self._write(NEMESIS, "info", family, value)

    def leader(self, node: int, term: int) -> int:
        """Record that ``node`` was seen to lead ``term``."""
        return self._write(CLUSTER, "info", "leader", {"node": node, "term": term})

    def _write(self, process: Process, kind: str, f: str, value: Value) -> int:
        index = self._next_index
        self._next_index += 1
        record = {"index": index, "time": self.now_ns(), "process": process, "type": kind, "f": f, "value": value}
        self._stream.write(msgspec.json.encode(record) + b"\n")
        self._stream.flush()
        return index
