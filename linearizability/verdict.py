"""Verdicts: what a check found, per history and per partition.

Theory of operation
-------------------
There are three verdicts. ``valid``: an order was found, and replayed against the model, that explains every reply.
``invalid``: no order exists. ``unknown``: the check did not finish, or there was nothing to check; it is never
reported as one of the others, and ``progress`` says how far it got.

The history is invalid if one partition is, and valid only if all are.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass

from linearizability.history import Operation


class Verdict(enum.StrEnum):
    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PartitionResult:
    """What was found of one partition.

    ``operations`` how many it has; ``events`` how many of them returned, which is what must be explained in order;
    ``explained`` how many of these returns some order explains; ``configurations`` how many the search visited.
    ``offending``: if invalid, the operation whose return is the first that no order explains.
    ``witness``: if valid and asked for, the operations in an order that explains everything (unknown ones only if
    they are taken to have happened).
    """

    label: Hashable
    verdict: Verdict
    operations: int
    events: int
    explained: int
    configurations: int
    offending: Operation | None = None
    witness: tuple[Operation, ...] | None = None
    progress: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What was found of a history.

    ``operations`` how many were checked (``fail`` ones are not), ``seconds`` the time it took.
    ``core``: if invalid, operations that cannot all be true, as the model's ``partition`` gave them, in the order of
    their calls; ``core_is_minimal`` tells whether it was shown that none of them can be left out.
    ``anomaly``: the class of the violation, if the model has a name for it.
    ``reason``: the verdict in words; ``progress``: if unknown, how far the check got and why it ended.
    """

    verdict: Verdict
    model: str
    operations: int
    seconds: float
    partitions: tuple[PartitionResult, ...] = ()
    core: tuple[Operation, ...] = ()
    core_is_minimal: bool = False
    anomaly: str | None = None
    reason: str = ""
    progress: str = ""

    @property
    def offending(self) -> Operation | None:
        """The operation whose return is the first that no order explains (of the earliest such partition)."""
        found = [p.offending for p in self.partitions if p.offending is not None]
        return min(found, key=lambda op: (op.ret or 0, op.index), default=None)
