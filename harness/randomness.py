"""Named substreams of one seed: every part of a run draws from its own, so that none disturbs another.

Theory of operation
-------------------
A run has one seed. Each part that needs chance (the schedule of faults, each client of the workload) names itself and
gets a generator of its own, seeded by seed and name. Adding a draw to one part then changes nothing in the others,
and a schedule can be drawn again from the seed alone.

``random.Random`` seeds from a string through SHA-512, not through ``hash()``: the streams are the same in every
process, whatever ``PYTHONHASHSEED`` says.
"""

from __future__ import annotations

import random


def substream(seed: int, *names: str | int) -> random.Random:
    """The generator of the part that calls itself ``names`` in the run with this seed."""
    return random.Random("/".join(("telegraft", str(seed), *map(str, names))))
