"""A real disk that is full, slow or hung on command: what fails then, what does not, and when it ends."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import faulty_disk
from harness.faulty_disk import IN_ORDER, DiskControl, DiskState, Faults, FaultyDisk


class Clock:
    """Time that passes only by being slept through, and what happens at some instants."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.at_s: dict[float, Callable[[], None]] = {}

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        for due_s in [due_s for due_s in self.at_s if self.now_s >= due_s]:
            self.at_s.pop(due_s)()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def control(tmp_path: Path) -> DiskControl:
    return DiskControl(tmp_path / "1.disk")


@pytest.fixture
def disk(tmp_path: Path, clock: Clock) -> FaultyDisk:
    return FaultyDisk(Faults(tmp_path / "1.disk", clock_s=clock, sleep=clock.sleep))


def look_again(clock: Clock) -> None:
    clock.now_s += faulty_disk.LOOK_EVERY_S


def test_a_full_disk_refuses_what_needs_room_and_changes_nothing(
    tmp_path: Path, disk: FaultyDisk, control: DiskControl, clock: Clock
) -> None:
    path = tmp_path / "log"
    file = disk.open_file(path, create=True)
    file.write(0, b"0123456789")
    control.hold("test", DiskState(full=True))
    look_again(clock)
    needing_room: list[Callable[[], object]] = [
        lambda: file.write(8, b"abc"),
        lambda: file.allocate(100),
        lambda: disk.open_file(tmp_path / "new", create=True),
        lambda: disk.make_directory(tmp_path / "folder"),
    ]
    for attempt in needing_room:
        with pytest.raises(OSError, match="No space") as full:
            attempt()
        assert full.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"0123456789"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["1.disk", "log"]
    file.write(7, b"abc")  # there is room for that
    file.sync()
    file.truncate(3)
    disk.rename(path, tmp_path / "other")
    disk.remove(tmp_path / "other")
    control.release("test")
    look_again(clock)
    file.write(0, b"longer than before")
    file.close()


def test_a_slow_disk_takes_longer_for_each_sync_and_nothing_else(
    tmp_path: Path, disk: FaultyDisk, control: DiskControl, clock: Clock
) -> None:
    control.hold("test", DiskState(slow_ms=150))
    file = disk.open_file(tmp_path / "log", create=True)
    file.write(0, b"x")
    assert clock.now_s == 0
    file.sync()
    file.sync()
    disk.sync_directory(tmp_path)
    assert clock.now_s == pytest.approx(0.45)
    file.close()


def test_a_hung_disk_hangs_until_it_is_released(
    tmp_path: Path, disk: FaultyDisk, control: DiskControl, clock: Clock
) -> None:
    control.hold("test", DiskState(hung=True))
    clock.at_s[2.0] = lambda: control.release("test")
    file = disk.open_file(tmp_path / "log", create=True)
    file.sync()
    assert 2.0 <= clock.now_s <= 2.0 + 3 * faulty_disk.LOOK_EVERY_S
    file.close()


def test_a_hung_disk_does_not_hang_for_ever(
    tmp_path: Path, disk: FaultyDisk, control: DiskControl, clock: Clock
) -> None:
    control.hold("test", DiskState(hung=True))
    disk.sync_directory(tmp_path)
    assert faulty_disk.HANG_MAX_S <= clock.now_s <= faulty_disk.HANG_MAX_S + 1


def test_what_one_fault_does_to_a_disk_stays_while_another_heals(control: DiskControl) -> None:
    control.hold("a", DiskState(slow_ms=40))
    control.hold("b", DiskState(full=True, slow_ms=150))
    assert control.state == DiskState(full=True, slow_ms=150)
    control.release("b")
    assert control.state == DiskState(slow_ms=40)
    control.release("b")
    control.release("a")
    assert control.state == IN_ORDER


def test_the_control_file_is_looked_at_once_per_interval(
    tmp_path: Path, disk: FaultyDisk, control: DiskControl, clock: Clock
) -> None:
    file = disk.open_file(tmp_path / "log", create=True)
    control.hold("test", DiskState(full=True))
    file.write(0, b"not seen yet")
    look_again(clock)
    with pytest.raises(OSError, match="No space"):
        file.write(0, b"x" * 100)
    file.close()
