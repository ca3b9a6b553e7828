"""Power losses, kills and disk errors at every boundary of a scripted log."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from impl.storage.tests.crash_checks import (
    SCRIPT,
    STATES,
    check_failed_syncs,
    check_failed_writes,
    check_full_disk,
    check_kills,
    check_power_losses,
    check_power_losses_in_recovery,
    closed_image,
    count_operations,
    interrupted_lives,
    state_of,
)
from impl.storage.wal import Wal


def test_power_lost_after_every_operation() -> None:
    check_power_losses(Wal, seeds=30)


def test_power_lost_again_after_every_operation_of_the_recovery() -> None:
    check_power_losses_in_recovery(Wal, seeds=5)


def test_what_was_reported_after_a_kill_is_durable() -> None:
    check_kills(Wal, seeds=12)


def test_a_failed_sync_stops_the_log_and_the_next_process_makes_durable_what_it_reports() -> None:
    check_failed_syncs(Wal, seeds=25)


def test_a_failed_write_stops_the_log() -> None:
    check_failed_writes(Wal, seeds=12)


def test_a_full_disk_loses_nothing_and_the_log_goes_on_once_there_is_space() -> None:
    check_full_disk(Wal, stride=5)


@pytest.mark.slow
def test_power_losses_with_many_survivors() -> None:
    check_power_losses(Wal, seeds=500)
    check_power_losses_in_recovery(Wal, seeds=30)


def test_the_crashes_reach_what_they_are_for() -> None:
    """Guards against checks that pass because nothing interesting happens."""
    seen: Counter[str] = Counter()
    for _, life in interrupted_lives(Wal):
        for seed in range(20):
            after = life.next(life.disk.crash(Random(seed)))
            removed: list[str] = []
            after.disk.observe = lambda _n, name, path, removed=removed: removed.append(f"{name} {path.name}")
            recovered = after.open()
            state = state_of(recovered)
            seen["torn tail cut"] += recovered.cut_bytes > 0
            if life.attempted > life.acknowledged and STATES[life.attempted] != STATES[life.acknowledged]:
                seen["last frame survived"] += state == STATES[life.attempted]
                seen["last frame lost"] += state == STATES[life.acknowledged]
            seen["segment discarded"] += any(line.startswith("remove log") for line in removed)
    assert all(seen[kind] >= 10 for kind in seen), seen
    assert set(seen) == {"torn tail cut", "last frame survived", "last frame lost", "segment discarded"}


def test_the_script_fills_several_segments_and_replaces_suffixes() -> None:
    assert len(closed_image().segments) >= 5
    assert count_operations(Wal) > 3 * len(SCRIPT)
    replaced = [
        step
        for step in range(1, len(SCRIPT) + 1)
        if SCRIPT[step - 1][1] and SCRIPT[step - 1][1][0].index <= len(STATES[step - 1][1])
    ]
    assert len(replaced) == 4
