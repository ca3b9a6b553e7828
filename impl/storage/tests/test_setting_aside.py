"""A damaged directory is kept beside and formatted anew, for another incarnation, whatever comes between."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from impl.raft.messages import Base, HardState
from impl.storage.errors import LogDamaged, NotFormatted, WrongIdentity
from impl.storage.formatting import format_directory
from impl.storage.identity import Identity, read_identity
from impl.storage.setting_aside import set_aside
from impl.storage.simulated_disk import PowerLost, SimulatedDisk
from impl.storage.tests.crash_checks import IDENTITY, SCRIPT, SEGMENT_BYTES
from impl.storage.wal import Wal

DIRECTORY = Path("/d")


def damaged_disk() -> SimulatedDisk:
    disk = SimulatedDisk()
    wal, _ = Wal.open(disk, DIRECTORY, IDENTITY, segment_bytes=SEGMENT_BYTES, format_new=True)
    for step in SCRIPT:
        wal.append(*step)
        wal.sync()
    wal.close()
    disk.make_directory(DIRECTORY / "snapshots")
    disk.open_file(DIRECTORY / "snapshots" / "one", create=True).sync()
    disk.open_file(DIRECTORY / "chat.db", create=True).sync()
    disk.open_file(DIRECTORY / "node.toml", create=True).sync()
    disk.sync_directory(DIRECTORY / "snapshots")
    disk.sync_directory(DIRECTORY)
    first = next(name for name in disk.list_directory(DIRECTORY) if name.endswith(".segment"))
    disk.flip_bit(DIRECTORY / first, 100, 1)
    return disk


def test_everything_is_kept_and_the_node_has_promised_nothing() -> None:
    disk = damaged_disk()
    before = set(disk.list_directory(DIRECTORY))
    with pytest.raises(LogDamaged):
        Wal.open(disk, DIRECTORY, IDENTITY)
    done = set_aside(disk, DIRECTORY, segment_bytes=SEGMENT_BYTES)
    assert set(disk.list_directory(done.folder)) == before - {"lock", "node.toml"}
    assert done.before == IDENTITY
    assert (done.after.cluster, done.after.node_id, done.after.group) == ("town", 1, 0)
    assert done.after.incarnation not in (0, 1)
    with pytest.raises(WrongIdentity):
        Wal.open(disk, DIRECTORY, IDENTITY)
    wal, recovered = Wal.open(disk, DIRECTORY, done.after)
    assert (recovered.hard_state, recovered.base, recovered.entries) == (HardState(), Base(), [])
    wal.close()
    again = set_aside(disk, DIRECTORY, segment_bytes=SEGMENT_BYTES)
    assert again.folder.name == "damaged-2"
    assert again.after.incarnation != done.after.incarnation


def test_a_damaged_identity_is_found_in_the_segments() -> None:
    disk = damaged_disk()
    disk.flip_bit(DIRECTORY / "identity", 3, 1)
    assert set_aside(disk, DIRECTORY, segment_bytes=SEGMENT_BYTES).before == IDENTITY


def test_where_there_is_nothing_nothing_is_set_aside() -> None:
    with pytest.raises(NotFormatted):
        set_aside(SimulatedDisk(), DIRECTORY)
    disk = SimulatedDisk()
    disk.make_directory(DIRECTORY)
    with pytest.raises(NotFormatted):
        set_aside(disk, DIRECTORY)


def test_cut_short_anywhere_the_old_log_is_never_used_and_it_can_be_done_again() -> None:
    for n in range(100):
        disk = damaged_disk()
        disk.power_off_after(n)
        try:
            set_aside(disk, DIRECTORY, segment_bytes=SEGMENT_BYTES)
        except PowerLost:
            done = False
        else:
            done = True
        for seed in range(5):
            after = disk.crash(Random(seed))
            with pytest.raises((LogDamaged, NotFormatted, WrongIdentity)):
                Wal.open(after, DIRECTORY, IDENTITY)
            found = read_identity(after, DIRECTORY)
            if found is None:
                assert not done
                format_directory(after, DIRECTORY, Identity("town", 1, incarnation=99), Base())
            elif found == IDENTITY:
                assert not done
                set_aside(after, DIRECTORY, segment_bytes=SEGMENT_BYTES)
            found = read_identity(after, DIRECTORY)
            assert found is not None
            assert Wal.open(after, DIRECTORY, found)[1].entries == []
        if done:
            return
    raise AssertionError("it does not end")
