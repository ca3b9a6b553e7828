"""Both disks behave alike while nothing goes wrong; the simulated one goes wrong as it says."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

import pytest

from impl.storage.disk import AlreadyLocked, Disk, RealDisk
from impl.storage.simulated_disk import PowerLost, SimulatedDisk, SimulatedFile

ROOT = Path("/d")
FILE = ROOT / "file"


@pytest.fixture(params=["simulated", "real"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, Path]:
    if request.param == "real":
        return RealDisk(), tmp_path
    disk = SimulatedDisk()
    disk.make_directory(ROOT)
    return disk, ROOT


def simulated(content: bytes = b"", *, synced: bool = True) -> tuple[SimulatedDisk, SimulatedFile]:
    """A disk with one file whose name is durable."""
    disk = SimulatedDisk()
    disk.make_directory(ROOT)
    file = disk.open_file(FILE, create=True)
    file.write(0, content)
    if synced:
        file.sync()
    disk.sync_directory(ROOT)
    disk.sync_directory(Path("/"))
    return disk, file


def test_files_and_names(place: tuple[Disk, Path]) -> None:
    disk, root = place
    file = disk.open_file(root / "one", create=True)
    file.write(0, b"hello")
    file.write(3, b"p me")
    file.write(10, b"!")
    file.sync()
    assert disk.read_file(root / "one") == b"help me\0\0\0!"
    file.truncate(7)
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.sync()
    disk.make_directory(root / "sub")
    disk.open_file(root / "two", create=True).close()
    disk.rename(root / "one", root / "two")
    disk.sync_directory(root)
    assert disk.list_directory(root) == ["sub", "two"]
    assert disk.read_file(root / "two") == b"help me"
    disk.remove(root / "two")
    assert disk.list_directory(root) == ["sub"]


def test_the_errors_of_names(place: tuple[Disk, Path]) -> None:
    disk, root = place
    disk.open_file(root / "file", create=True).close()
    with pytest.raises(FileExistsError):
        disk.open_file(root / "file", create=True)
    with pytest.raises(FileExistsError):
        disk.make_directory(root / "file")
    with pytest.raises(NotADirectoryError):
        disk.list_directory(root / "file")
    with pytest.raises(FileNotFoundError):
        disk.open_file(root / "none")
    with pytest.raises(FileNotFoundError):
        disk.read_file(root / "none")
    with pytest.raises(FileNotFoundError):
        disk.list_directory(root / "none")
    with pytest.raises(FileNotFoundError):
        disk.rename(root / "none", root / "other")
    with pytest.raises(FileNotFoundError):
        disk.remove(root / "none")


def test_locks(place: tuple[Disk, Path]) -> None:
    disk, root = place
    lock = disk.lock(root / "lock")
    with pytest.raises(AlreadyLocked):
        disk.lock(root / "lock")
    lock.release()
    disk.lock(root / "lock").release()


def test_what_was_synced_survives_and_anything_else_may() -> None:
    disk, file = simulated(b"durable ")
    file.write(8, b"abcdefgh" * 200)
    survivors = {disk.crash(Random(seed)).read_file(FILE) for seed in range(300)}
    assert all(content.startswith(b"durable ") for content in survivors)
    assert b"durable " in survivors
    assert b"durable " + b"abcdefgh" * 200 in survivors
    holes = [content for content in survivors if content[8:16] != b"abcdefgh" and content[-8:] == b"abcdefgh"]
    assert any(len(content) == 1608 for content in holes), "a later piece survives without an earlier one"
    assert any(content[8:16] == bytes(8) for content in holes), "holes may be zeros"
    assert any(content[8:12] == b"abcd" and content[12:16] != b"efgh" for content in survivors), "torn within a word"
    assert len(survivors) > 100
    assert disk.read_file(FILE) == b"durable " + b"abcdefgh" * 200, "the crashed disk is left as it was"


def test_a_truncation_may_be_lost_until_it_is_synced() -> None:
    disk, file = simulated(b"one two")
    file.truncate(3)
    assert disk.read_file(FILE) == b"one"
    assert {disk.crash(Random(seed)).read_file(FILE) for seed in range(50)} == {b"one", b"one two"}
    file.sync()
    assert {disk.crash(Random(seed)).read_file(FILE) for seed in range(50)} == {b"one"}


def test_names_may_be_lost_until_their_directory_is_synced() -> None:
    disk, _ = simulated(b"old")
    other = disk.open_file(ROOT / "other", create=True)
    other.write(0, b"new")
    other.sync()
    disk.rename(ROOT / "other", FILE)
    outcomes = set()
    for seed in range(200):
        after = disk.crash(Random(seed))
        outcomes.add((tuple(after.list_directory(ROOT)), after.read_file(FILE)))
    assert outcomes == {(("file",), b"old"), (("file",), b"new"), (("file", "other"), b"old")}
    disk.sync_directory(ROOT)
    assert {disk.crash(Random(seed)).read_file(FILE) for seed in range(50)} == {b"new"}


def test_a_directory_may_be_lost_with_all_that_is_in_it() -> None:
    disk = SimulatedDisk()
    disk.make_directory(ROOT)
    disk.open_file(FILE, create=True).sync()
    disk.sync_directory(ROOT)
    assert {bool(disk.crash(Random(seed)).list_directory(Path("/"))) for seed in range(50)} == {False, True}


def test_a_crash_is_the_same_for_the_same_seed() -> None:
    disk, _ = simulated(bytes(range(256)) * 20, synced=False)
    assert disk.crash(Random(5)).read_file(FILE) == disk.crash(Random(5)).read_file(FILE)


def test_a_failed_sync_loses_pages_and_calls_them_clean() -> None:
    outcomes = set()
    for seed in range(50):
        disk = SimulatedDisk(seed)
        disk.make_directory(ROOT)
        file = disk.open_file(FILE, create=True)
        disk.sync_directory(ROOT)
        disk.sync_directory(Path("/"))
        file.write(0, b"precious")
        disk.fail_nth_sync(1)
        with pytest.raises(OSError, match="Input/output error"):
            file.sync()
        assert disk.read_file(FILE) == b"precious", "reads show what the disk does not hold"
        file.sync()
        outcomes.add(disk.crash(Random(seed)).read_file(FILE) == b"precious")
        file.write(0, b"precious")
        file.sync()
        assert disk.crash(Random(seed)).read_file(FILE) == b"precious", "written anew it is dirty again"
        assert disk.failures == 1
    assert outcomes == {False, True}


def test_a_failed_write_leaves_a_part() -> None:
    parts = set()
    for seed in range(50):
        disk = SimulatedDisk(seed)
        disk.make_directory(ROOT)
        file = disk.open_file(FILE, create=True)
        disk.fail_nth_write(2)
        file.write(0, b"one ")
        with pytest.raises(OSError, match="Input/output error"):
            file.write(4, b"two")
        parts.add(disk.read_file(FILE))
    assert parts == {b"one ", b"one t", b"one tw", b"one two"}


def test_a_full_disk_takes_what_fits_and_lets_old_bytes_be_written_over() -> None:
    disk, file = simulated(b"12345")
    disk.capacity_bytes = 8
    with pytest.raises(OSError, match="No space left") as caught:
        file.write(5, b"6789")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(FILE)
    assert disk.read_file(FILE) == b"12345678"
    file.write(0, b"abcdefgh")
    with pytest.raises(OSError, match="No space left"):
        file.write(6, b"GHI")
    assert disk.read_file(FILE) == b"abcdefGH"
    disk.capacity_bytes = None
    file.write(6, b"ghi")
    assert disk.read_file(FILE) == b"abcdefghi"


def test_a_flipped_bit_is_there_before_and_after_a_crash() -> None:
    disk, _ = simulated(b"abc")
    disk.flip_bit(FILE, 1, 0)
    assert disk.read_file(FILE) == b"acc"
    assert disk.crash(Random(1)).read_file(FILE) == b"acc"
    with pytest.raises(IndexError):
        disk.flip_bit(FILE, 3, 0)


def test_the_power_goes_off_between_two_operations() -> None:
    disk, file = simulated()
    disk.power_off_after(2)
    file.write(0, b"a")
    file.sync()
    assert disk.read_file(FILE) == b"a"
    for _ in range(2):
        with pytest.raises(PowerLost):
            file.write(1, b"b")
    with pytest.raises(PowerLost):
        disk.read_file(FILE)
    assert disk.crash(Random(0)).read_file(FILE) == b"a"


def test_a_kill_ends_handles_and_locks_but_keeps_what_was_written() -> None:
    disk, file = simulated(b"abc", synced=False)
    disk.lock(ROOT / "lock")
    disk.kill()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write(0, b"x")
    assert disk.read_file(FILE) == b"abc"
    disk.lock(ROOT / "lock")


def test_operations_are_counted_and_shown_beforehand() -> None:
    disk, file = simulated()
    shown: list[tuple[int, str, Path, bytes]] = []
    disk.observe = lambda number, name, path: shown.append((number, name, path, disk.read_file(FILE)))
    before = disk.operations
    file.write(0, b"a")
    file.sync()
    file.truncate(0)
    disk.remove(FILE)
    assert [line[1:] for line in shown[:3]] == [("write", FILE, b""), ("sync", FILE, b"a"), ("truncate", FILE, b"a")]
    assert [line[0] for line in shown] == [before + 1, before + 2, before + 3, before + 4]
    assert disk.operations == before + 4
