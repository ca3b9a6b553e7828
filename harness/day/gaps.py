"""The longest time without a successful write: what an operator's work costs those who write meanwhile.

Taken from the recorded history, after the run: every completion of a write that was done and not rejected, whoever of
the clients it was for. With constant load from several clients, a gap that is much longer than the mean time between
two writes is one in which nobody could write.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from harness.workloads.calls import READS

NS_PER_S = 1_000_000_000


class _Record(msgspec.Struct):
    time: int
    process: int | str
    type: str
    f: str
    value: Any = None


def successful_writes(history: Path) -> list[float]:
    """When each write was answered, in seconds since the start of the run, ascending."""
    decoder = msgspec.json.Decoder(_Record)
    found: list[float] = []
    with history.open("rb") as lines:
        for line in lines:
            record = decoder.decode(line)
            if record.type != "ok" or not isinstance(record.process, int) or record.f in READS:
                continue
            if record.value["reply"]["type"] != "rejected":
                found.append(record.time / NS_PER_S)
    return found


def longest_gap_s(writes: Sequence[float], begin_s: float, end_s: float) -> float:
    """The longest stretch between ``begin_s`` and ``end_s`` without a write. ``writes`` are ascending."""
    inside = writes[bisect_left(writes, begin_s) : bisect_right(writes, end_s)]
    return max(after - before for before, after in pairwise([begin_s, *inside, end_s]))
