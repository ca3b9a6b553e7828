"""Counts and latencies per kind of operation.

Quantiles are nearest-rank: every number in the table is the latency of an operation that exists. They are taken over
answered operations (ok and rejected); how long a client waited before it gave up says more about its patience than
about the cluster, and is drawn in the latency plot instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from harness.report.data import Operation, Outcome, Run
from harness.report.words import CHAT_KINDS

QUANTILES = (0.50, 0.95, 0.99, 1.00)
"""Those of Jepsen's latency plots, which readers of such reports know."""


@dataclass(frozen=True, slots=True)
class KindRow:
    """One row of the table of operations. ``latencies_ns`` stands beside ``QUANTILES``; None: nothing was answered."""

    kind: str
    counts: dict[Outcome, int]
    latencies_ns: tuple[int | None, ...]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def quantile(ascending: Sequence[int], share: float) -> int | None:
    """The smallest value that at least ``share`` of the values do not exceed; None of nothing."""
    if not ascending:
        return None
    return ascending[max(0, ceil(share * len(ascending)) - 1)]


def kinds_in_order(run: Run) -> list[str]:
    """The chat's kinds in their fixed order, then any others by name. Kinds that never ran are not listed."""
    present = {op.kind for op in run.operations} | set(run.verdict.operations)
    return [kind for kind in CHAT_KINDS if kind in present] + sorted(present - set(CHAT_KINDS))


def row(kind: str, operations: Iterable[Operation]) -> KindRow:
    counts = dict.fromkeys(Outcome, 0)
    latencies_ns: list[int] = []
    for op in operations:
        counts[op.outcome] += 1
        if op.latency_ns is not None:
            latencies_ns.append(op.latency_ns)
    latencies_ns.sort()
    return KindRow(kind, counts, tuple(quantile(latencies_ns, share) for share in QUANTILES))


def table(run: Run) -> tuple[list[KindRow], KindRow]:
    """One row per kind of operation, and the row of all."""
    rows = [row(kind, (op for op in run.operations if op.kind == kind)) for kind in kinds_in_order(run)]
    return rows, row("all", run.operations)


def differs_from_verdict(run: Run) -> bool:
    """Whether verdict.json counted other operations than the history holds: the files are then not of one run."""
    if not run.verdict.operations:
        return False
    counted: Counter[tuple[str, str]] = Counter()
    for op in run.operations:
        counted[op.kind, "ok" if op.answered else op.outcome.value] += 1
    claimed: Counter[tuple[str, str]] = Counter()
    for kind, counts in run.verdict.operations.items():
        claimed.update({(kind, "ok"): counts.ok, (kind, "fail"): counts.fail, (kind, "unknown"): counts.unknown})
    return +counted != +claimed
