"""The log as its caller sees it, on the simulated disk and on a real one."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impl.raft.messages import Entry, HardState
from impl.storage.codec import MAX_BODY_BYTES, RecordTooLarge
from impl.storage.continuity import Discontinuity
from impl.storage.disk import Disk, RealDisk
from impl.storage.errors import DirectoryInUse, LogDamaged, StorageFailed, WrongIdentity
from impl.storage.identity import Identity
from impl.storage.simulated_disk import PowerLost, SimulatedDisk
from impl.storage.tests.crash_checks import (
    EMPTY,
    IDENTITY,
    SCRIPT,
    SEGMENT_BYTES,
    STATES,
    Life,
    State,
    Step,
    entry,
    state_of,
    states_of,
)
from impl.storage.wal import Wal, WalStatistics


@pytest.fixture(params=["simulated", "real"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, Path]:
    if request.param == "real":
        return RealDisk(), tmp_path / "data" / "node-1"
    return SimulatedDisk(), Path("/data/node-1")


def write(disk: Disk, directory: Path, script: Sequence[Step] = SCRIPT) -> WalStatistics:
    wal, _ = Wal.open(disk, directory, IDENTITY, segment_bytes=SEGMENT_BYTES)
    for step in script:
        wal.append(*step)
        wal.sync()
    wal.close()
    return wal.statistics()


def test_a_new_directory_is_empty_and_stays_so(place: tuple[Disk, Path]) -> None:
    for _ in range(2):
        wal, recovered = Wal.open(*place, IDENTITY)
        assert (state_of(recovered), recovered.cut_bytes) == (EMPTY, 0)
        assert wal.statistics() == WalStatistics(frames=0, bytes=0, segments=0, syncs=0, last_index=0)
        wal.close()


def test_what_was_written_comes_back(place: tuple[Disk, Path]) -> None:
    written = write(*place)
    wal, recovered = Wal.open(*place, IDENTITY, segment_bytes=SEGMENT_BYTES)
    assert (state_of(recovered), recovered.cut_bytes) == (STATES[-1], 0)
    found = wal.statistics()
    assert written.syncs == written.frames == len(SCRIPT)
    assert found == WalStatistics(written.frames, written.bytes, written.segments, 0, written.last_index)
    disk, directory = place
    segments = [name for name in disk.list_directory(directory) if name.endswith(".segment")]
    assert found.segments == len(segments)
    assert found.bytes == sum(len(disk.read_file(directory / name)) for name in segments)
    wal.close()


def test_a_torn_tail_is_cut_and_counted(place: tuple[Disk, Path]) -> None:
    write(*place)
    disk, directory = place
    newest = directory / [name for name in disk.list_directory(directory) if name.endswith(".segment")][-1]
    file = disk.open_file(newest)
    file.write(size := len(disk.read_file(newest)), b"\xf5Tg torn")
    file.close()
    wal, recovered = Wal.open(disk, directory, IDENTITY, segment_bytes=SEGMENT_BYTES)
    assert (state_of(recovered), recovered.cut_bytes) == (STATES[-1], 8)
    assert len(disk.read_file(newest)) == size
    wal.append(None, [entry(13, 8)])
    wal.close()
    wal, recovered = Wal.open(disk, directory, IDENTITY, segment_bytes=SEGMENT_BYTES)
    assert (len(recovered.entries), recovered.cut_bytes) == (13, 0)
    wal.close()


def test_nothing_to_append_writes_nothing() -> None:
    disk = SimulatedDisk()
    wal, _ = Wal.open(disk, Path("/d"), IDENTITY)
    before = disk.operations
    wal.append(None, [])
    wal.sync()
    wal.close()
    wal.close()
    assert disk.operations == before
    with pytest.raises(ValueError, match="the log is closed"):
        wal.append(None, [entry(1, 1)])


def test_a_second_append_syncs_the_first() -> None:
    disk = SimulatedDisk()
    wal, _ = Wal.open(disk, Path("/d"), IDENTITY)
    wal.append(None, [entry(1, 1)])
    wal.append(None, [entry(2, 1)])
    assert wal.statistics().syncs == 1
    _, recovered = Wal.open(disk.crash(Random(0)), Path("/d"), IDENTITY)
    assert recovered.entries[:1] == [entry(1, 1)]


def test_a_caller_that_breaks_the_rules_is_told_and_the_log_goes_on(place: tuple[Disk, Path]) -> None:
    wal, _ = Wal.open(*place, IDENTITY)
    wal.append(HardState(3, 1), [entry(1, 3)])
    before = wal.statistics()
    with pytest.raises(Discontinuity, match="entry 3 cannot follow entry 1"):
        wal.append(None, [entry(3, 3)])
    with pytest.raises(Discontinuity, match="the term goes back from 3 to 2"):
        wal.append(HardState(2, 1), [])
    with pytest.raises(RecordTooLarge, match="append in parts"):
        wal.append(None, [Entry(2, 3, bytes(MAX_BODY_BYTES))])
    assert wal.statistics() == before
    wal.append(None, [entry(2, 3)])
    wal.close()
    wal, recovered = Wal.open(*place, IDENTITY)
    assert recovered.entries == [entry(1, 3), entry(2, 3)]
    wal.close()


def test_segments_roll_at_their_size_and_a_larger_frame_gets_one_of_its_own() -> None:
    disk = SimulatedDisk()
    wal, _ = Wal.open(disk, Path("/d"), IDENTITY, segment_bytes=1000)
    for index in range(1, 30):
        wal.append(None, [entry(index, 1, 5000 if index == 10 else 100)])
    wal.close()
    sizes = [len(disk.read_file(Path("/d") / name)) for name in disk.list_directory(Path("/d")) if "segment" in name]
    assert len(sizes) == wal.statistics().segments
    assert sum(size > 1000 for size in sizes) == 1
    assert max(sizes) < 5200


def test_two_cannot_work_in_one_directory(place: tuple[Disk, Path]) -> None:
    disk, directory = place
    wal, _ = Wal.open(disk, directory, IDENTITY)
    with pytest.raises(DirectoryInUse, match=r"is in use by another process.*Stop that one first") as caught:
        Wal.open(disk, directory, IDENTITY)
    assert str(directory) in str(caught.value)
    wal.append(None, [entry(1, 1)])
    wal.close()
    Wal.open(disk, directory, IDENTITY)[0].close()


def test_a_second_process_is_kept_out_and_the_lock_goes_with_the_first(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from impl.raft.messages import *; from impl.storage.disk import *\n"
            "from impl.storage.identity import *; from impl.storage.wal import *\n"
            "wal, _ = Wal.open(RealDisk(), Path(sys.argv[1]), Identity('town', 1))\n"
            "wal.append(HardState(1, 1), [Entry(1, 1, b'kept')]); wal.sync()\n"
            "print('ready', flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"ready\n"
            with pytest.raises(DirectoryInUse, match=f"pid {holder.pid}"):
                Wal.open(RealDisk(), tmp_path, IDENTITY)
        finally:
            holder.kill()
    wal, recovered = Wal.open(RealDisk(), tmp_path, IDENTITY)
    assert state_of(recovered) == (HardState(1, 1), (Entry(1, 1, b"kept"),))
    wal.close()


@pytest.mark.parametrize("other", [Identity("town", 2), Identity("city", 1), Identity("town", 1, group=3)])
def test_the_directory_of_another_node_is_refused(place: tuple[Disk, Path], other: Identity) -> None:
    write(*place)
    with pytest.raises(WrongIdentity) as caught:
        Wal.open(*place, other)
    for words in (str(IDENTITY), str(other), str(place[1]), "data directory of its own"):
        assert words in str(caught.value)
    Wal.open(*place, IDENTITY)[0].close()


def test_a_log_without_its_identity_file_is_refused(place: tuple[Disk, Path]) -> None:
    disk, directory = place
    write(disk, directory)
    disk.remove(directory / "identity")
    with pytest.raises(LogDamaged, match="the file that says whose is missing"):
        Wal.open(disk, directory, IDENTITY)


def test_files_of_others_in_the_directory_are_left_alone(place: tuple[Disk, Path]) -> None:
    disk, directory = place
    write(disk, directory)
    disk.open_file(directory / "chat.sqlite", create=True).close()
    wal, recovered = Wal.open(disk, directory, IDENTITY)
    assert state_of(recovered) == STATES[-1]
    wal.close()
    assert "chat.sqlite" in disk.list_directory(directory)


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "Free some space"), (errno.EROFS, "the right to write"), (errno.EIO, "Look at the disk")],
)
def test_a_failure_names_operation_file_and_advice(number: int, advice: str) -> None:
    error = OSError(number, "what the system says")
    failure = StorageFailed("write", Path("/d/log"), error)
    for words in ("write of /d/log failed", "what the system says", advice):
        assert words in str(failure)


def test_a_log_that_failed_keeps_saying_so_and_lets_go_of_the_directory() -> None:
    disk = SimulatedDisk()
    wal, _ = Wal.open(disk, Path("/d"), IDENTITY)
    wal.append(None, [entry(1, 1)])
    disk.fail_nth_sync(1)
    for attempt in (wal.sync, wal.sync, lambda: wal.append(None, [entry(2, 1)])):
        with pytest.raises(StorageFailed, match=r"sync of /d/log-0+1\.segment failed"):
            attempt()
    wal.close()
    Wal.open(disk, Path("/d"), IDENTITY)[0].close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match=f"{tmp_path}/file"):
        Wal.open(RealDisk(), tmp_path / "file" / "node", IDENTITY)


# Any history


@st.composite
def scripts(draw: st.DrawFn) -> list[Step]:
    """Any steps that a correct core could take."""
    steps: list[Step] = []
    hard_state, terms = HardState(), [0]
    for _ in range(draw(st.integers(1, 8))):
        new_hard_state = None
        if draw(st.booleans()):
            vote_open = hard_state.voted_for == 0
            rise = draw(st.integers(0 if vote_open else 1, 2))
            new_hard_state = hard_state = HardState(hard_state.term + rise, draw(st.integers(0, 3)))
        del terms[max(1, len(terms) - draw(st.integers(0, 3))) :]
        first = len(terms)
        for _ in range(draw(st.integers(0 if new_hard_state else 1, 4))):
            terms.append(max(1, terms[-1] + draw(st.integers(0, 2))))
        new = [Entry(index, terms[index], draw(st.binary(max_size=200))) for index in range(first, len(terms))]
        if not new:  # then nothing was replaced either
            terms = [0, *(one.term for one in states_of(steps)[-1][1])]
        steps.append((new_hard_state, new))
    return steps


@given(scripts(), st.integers(1, 1000), st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_history_survives_any_reopening(script: list[Step], segment_bytes: int, data: st.DataObject) -> None:
    disk, directory = SimulatedDisk(), Path("/d")
    wal, _ = Wal.open(disk, directory, IDENTITY, segment_bytes=segment_bytes)
    for step, state in zip(script, states_of(script)[1:], strict=True):
        wal.append(*step)
        wal.sync()
        if data.draw(st.booleans()):
            wal.close()
            wal, recovered = Wal.open(disk, directory, IDENTITY, segment_bytes=segment_bytes)
            assert (state_of(recovered), recovered.cut_bytes) == (state, 0)


@given(scripts(), st.integers(0, 60), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_history_survives_any_power_loss(script: list[Step], operations: int, random: Random) -> None:
    life = Life(Wal, SimulatedDisk(), script=script, states=states_of(script))
    life.disk.power_off_after(operations)
    try:
        life.open()
        life.run()
    except PowerLost:
        pass
    after = life.next(life.disk.crash(random))
    state: State = after.reopen(f"power lost after operation {operations}")
    assert state in life.states
    after.run()
