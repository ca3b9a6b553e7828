"""The figures of ``telegraft bench core``: what is measured, and the bound that each has to keep."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import trio

from harness.bench import core_bench, failover_bench, storage_bench
from harness.bench.figures import Figure

BATCH = 64
BATCHES = (1, 8, 64, 512)

MIN_ENTRIES_PER_S = 50_000

SHORT_LOG, LONG_LOG = 10**3, 10**6

MAX_GROWTH = 1.1
"""Of the cost per entry, from the short log to the long one."""

FAILOVER_TIMEOUTS = 3
"""The worst failover stays below this many election timeouts."""

MAX_APPEND_RATIO = 1.3
MAX_RECOVERY_RATIO = 1.5

RECOVERY_BYTES = 1_000_000_000
QUICK_RECOVERY_BYTES = 64_000_000

QUICK_RUNS = 5
QUICK_APPENDS = 100

Told = Callable[[str], None]


def core(*, quick: bool, told: Told) -> Iterator[Figure]:
    """The core alone: entries per second, and how the cost per entry depends on the batch and on the log."""
    runs = QUICK_RUNS if quick else core_bench.RUNS
    told("three cores in one process, by batch")
    cost = core_bench.by_batch(BATCHES, runs=runs)
    detail = f"three cores without input and output, batches of {BATCH}, median of {runs} runs"
    yield Figure("committed entries", 1 / cost[BATCH], "entries/s", "at least", MIN_ENTRIES_PER_S, detail)
    for smaller, larger in itertools.pairwise(BATCHES):
        yield Figure(
            f"cost of an entry, batch {larger} to batch {smaller}",
            cost[larger] / cost[smaller],
            "",
            "below",
            1.0,
            f"{cost[larger] * 1e6:.2f} and {cost[smaller] * 1e6:.2f} microseconds",
        )
    told("three cores in one process, by length of the log")
    cost = core_bench.by_log_length((SHORT_LOG, LONG_LOG), batch=BATCH, runs=runs)
    yield Figure(
        f"cost of an entry, log of {LONG_LOG:,} to log of {SHORT_LOG:,}",
        cost[LONG_LOG] / cost[SHORT_LOG],
        "",
        "at most",
        MAX_GROWTH,
        f"{cost[LONG_LOG] * 1e6:.2f} and {cost[SHORT_LOG] * 1e6:.2f} microseconds, batches of {BATCH}",
    )


def storage(directory: Path, *, quick: bool, told: Told) -> Iterator[Figure]:
    """The log on a real disk, below ``directory``. Raises ``StorageError``."""
    told("appending to a log, and to a bare file")
    appended = storage_bench.append_ratio(directory, appends=QUICK_APPENDS if quick else storage_bench.APPENDS)
    yield Figure(
        f"log append of {storage_bench.BATCH} entries to a bare write and fdatasync",
        appended["ratio"],
        "",
        "at most",
        MAX_APPEND_RATIO,
        f"{appended['append_s'] * 1e6:.0f} and {appended['bare_s'] * 1e6:.0f} microseconds "
        f"for {appended['bytes']:.0f} bytes",
    )
    told("opening a log, and reading its files with their checksums")
    opened = storage_bench.recovery_ratio(directory, QUICK_RECOVERY_BYTES if quick else RECOVERY_BYTES)
    yield Figure(
        "opening a log to reading its files and their checksums",
        opened["ratio"],
        "",
        "at most",
        MAX_RECOVERY_RATIO,
        f"{opened['open_s']:.2f} and {opened['read_s']:.2f} s for {opened['bytes'] / 1e6:.0f} MB, "
        f"{opened['entries']:,.0f} entries",
    )


def failover(directory: Path, trials: int, *, told: Told) -> Iterator[Figure]:
    """The time without a leader after ``kill -9`` of the leader. Raises ``NoFailover`` or ``NodeFailed``."""
    timeout_ms = failover_bench.election_timeout_ms()
    found = trio.run(lambda: failover_bench.failovers(directory, trials, told=told))
    measured = (
        ("on /v1/status", found.by_status_ms, "until a survivor says that it leads"),
        ("for a client", found.by_client_ms, "until a write is answered again"),
    )
    for where, values, how in measured:
        yield Figure(f"failover {where}, median", statistics.median(values), "ms", detail=f"{how}; {trials} trials")
        yield Figure(
            f"failover {where}, worst",
            max(values),
            "ms",
            "below",
            FAILOVER_TIMEOUTS * timeout_ms,
            f"bound: {FAILOVER_TIMEOUTS} election timeouts of {timeout_ms} ms",
        )
