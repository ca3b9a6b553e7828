"""Power losses, kills and disk errors at every boundary of a scripted log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from impl.storage.tests.crash_checks import (
    BASE_SCRIPT,
    BASE_STATES,
    DIRECTORY,
    SCRIPT,
    STATES,
    Step,
    check_failed_syncs,
    check_failed_writes,
    check_full_disk,
    check_kills,
    check_power_losses,
    check_power_losses_in_recovery,
    closed_image,
    count_operations,
    empty_disk,
    interrupted_lives,
    new_life,
    state_of,
)
from impl.storage.wal import Wal

both = pytest.mark.parametrize("script", [SCRIPT, BASE_SCRIPT], ids=["entries", "bases"])


@both
def test_power_lost_after_every_operation(script: Sequence[Step]) -> None:
    check_power_losses(Wal, seeds=30, script=script)


@both
def test_power_lost_again_after_every_operation_of_the_recovery(script: Sequence[Step]) -> None:
    check_power_losses_in_recovery(Wal, seeds=5, script=script)


@both
def test_what_was_reported_after_a_kill_is_durable(script: Sequence[Step]) -> None:
    check_kills(Wal, seeds=12, script=script)


@both
def test_a_failed_sync_stops_the_log_and_the_next_process_makes_durable_what_it_reports(script: Sequence[Step]) -> None:
    check_failed_syncs(Wal, seeds=25, script=script)


@both
def test_a_failed_write_stops_the_log(script: Sequence[Step]) -> None:
    check_failed_writes(Wal, seeds=12, script=script)


@both
def test_a_full_disk_loses_nothing_and_the_log_goes_on_once_there_is_space(script: Sequence[Step]) -> None:
    check_full_disk(Wal, stride=5, script=script)


@pytest.mark.slow
@both
def test_power_losses_with_many_survivors(script: Sequence[Step]) -> None:
    check_power_losses(Wal, seeds=500, script=script)
    check_power_losses_in_recovery(Wal, seeds=30, script=script)


def test_the_crashes_reach_what_they_are_for() -> None:
    """Guards against checks that pass because nothing interesting happens."""
    seen: Counter[str] = Counter()
    for script, states in ((SCRIPT, STATES), (BASE_SCRIPT, BASE_STATES)):
        for _, life in interrupted_lives(Wal, script=script):
            for seed in range(10):
                after = life.next(life.disk.crash(Random(seed)))
                shown: list[str] = []
                after.disk.observe = lambda _n, name, path, shown=shown: shown.append(f"{name} {path.name}")
                recovered = after.open()
                state = state_of(recovered)
                seen["torn tail cut"] += recovered.cut_bytes > 0
                if life.attempted > life.acknowledged and states[life.attempted] != states[life.acknowledged]:
                    seen["last frame survived"] += state == states[life.attempted]
                    seen["last frame lost"] += state == states[life.acknowledged]
                seen["draft removed"] += "remove log.draft" in shown
                seen["formatted anew"] += "remove identity.draft" in shown
                seen["segment removed late"] += any(line.startswith("remove log-") for line in shown)
                assert after.wal is not None
                seen["begins in the middle"] += "log-00000000000000000001.segment" not in after.disk.list_directory(
                    DIRECTORY
                )
    assert all(seen[kind] >= 10 for kind in seen), seen
    assert len(seen) == 7


def test_bases_let_segments_go() -> None:
    life = new_life(Wal, BASE_SCRIPT, empty_disk())
    life.open()
    life.run()
    assert life.wal is not None
    statistics = life.wal.statistics()
    assert statistics.removed_segments >= 10
    assert statistics.segments <= 3
    assert (statistics.base_index, statistics.last_index) == (31, 33)


def test_the_script_fills_several_segments_and_replaces_suffixes() -> None:
    assert len(closed_image().segments) >= 5
    assert count_operations(Wal) > 3 * len(SCRIPT)
    replaced = [
        step
        for step in range(1, len(SCRIPT) + 1)
        if SCRIPT[step - 1][1] and SCRIPT[step - 1][1][0].index <= len(STATES[step - 1][2])
    ]
    assert len(replaced) == 4
