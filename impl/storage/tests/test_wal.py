"""The log as its caller sees it, on the simulated disk and on a real one."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impl.raft.messages import Base, Entry, HardState
from impl.storage.codec import MAX_BODY_BYTES, RecordTooLarge
from impl.storage.continuity import Discontinuity
from impl.storage.disk import Disk, RealDisk
from impl.storage.errors import (
    AlreadyFormatted,
    DirectoryInUse,
    DiskFull,
    LogDamaged,
    NotFormatted,
    StorageFailed,
    WrongIdentity,
)
from impl.storage.formatting import format_directory
from impl.storage.identity import Identity, new_incarnation, read_identity
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
    base,
    entry,
    state_of,
    states_of,
)
from impl.storage.wal import DEFAULT_SEGMENT_BYTES, Wal, WalStatistics


@pytest.fixture(params=["simulated", "real"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, Path]:
    if request.param == "real":
        return RealDisk(), tmp_path / "data" / "node-1"
    return SimulatedDisk(), Path("/data/node-1")


def write(disk: Disk, directory: Path, script: Sequence[Step] = SCRIPT) -> WalStatistics:
    wal, _ = Wal.open(disk, directory, IDENTITY, segment_bytes=SEGMENT_BYTES, format_new=True)
    for step in script:
        wal.append(*step)
        wal.sync()
    wal.close()
    return wal.statistics()


def test_a_new_directory_is_empty_and_stays_so(place: tuple[Disk, Path]) -> None:
    for _ in range(2):
        wal, recovered = Wal.open(*place, IDENTITY, format_new=True)
        assert (state_of(recovered), recovered.cut_bytes) == (EMPTY, 0)
        found = wal.statistics()
        assert (found.frames, found.segments, found.syncs, found.last_index) == (1, 1, 0, 0)
        assert found.allocated_bytes == DEFAULT_SEGMENT_BYTES
        wal.close()


def test_what_was_written_comes_back(place: tuple[Disk, Path]) -> None:
    written = write(*place)
    wal, recovered = Wal.open(*place, IDENTITY, segment_bytes=SEGMENT_BYTES, format_new=True)
    assert (state_of(recovered), recovered.cut_bytes) == (STATES[-1], 0)
    found = wal.statistics()
    assert written.syncs == written.frames - 1 == len(SCRIPT)
    assert found == replace(written, syncs=0)
    disk, directory = place
    segments = [name for name in disk.list_directory(directory) if name.endswith(".segment")]
    assert found.segments == len(segments)
    contents = [disk.read_file(directory / name) for name in segments]
    assert found.allocated_bytes == sum(len(content) for content in contents)
    assert found.bytes - sum(len(content.rstrip(b"\0")) for content in contents) in range(8 * len(contents))
    wal.close()


def test_a_torn_tail_is_cut_and_counted(place: tuple[Disk, Path]) -> None:
    write(*place)
    disk, directory = place
    newest = directory / [name for name in disk.list_directory(directory) if name.endswith(".segment")][-1]
    file = disk.open_file(newest)
    before = disk.read_file(newest)
    end = (len(before.rstrip(b"\0")) + 7) // 8 * 8
    file.write(end, b"\xf5Tg torn")
    file.close()
    wal, recovered = Wal.open(disk, directory, IDENTITY, segment_bytes=SEGMENT_BYTES, format_new=True)
    assert (state_of(recovered), recovered.cut_bytes) == (STATES[-1], 8)
    assert disk.read_file(newest) == before
    wal.append(None, [entry(13, 8)])
    wal.close()
    wal, recovered = Wal.open(disk, directory, IDENTITY, segment_bytes=SEGMENT_BYTES, format_new=True)
    assert (len(recovered.entries), recovered.cut_bytes) == (13, 0)
    wal.close()


def test_nothing_to_append_writes_nothing() -> None:
    disk = SimulatedDisk()
    wal, _ = Wal.open(disk, Path("/d"), IDENTITY, format_new=True)
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
    wal, _ = Wal.open(disk, Path("/d"), IDENTITY, format_new=True)
    wal.append(None, [entry(1, 1)])
    wal.append(None, [entry(2, 1)])
    assert wal.statistics().syncs == 1
    _, recovered = Wal.open(disk.crash(Random(0)), Path("/d"), IDENTITY)
    assert recovered.entries[:1] == [entry(1, 1)]


def test_a_caller_that_breaks_the_rules_is_told_and_the_log_goes_on(place: tuple[Disk, Path]) -> None:
    wal, _ = Wal.open(*place, IDENTITY, format_new=True)
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
    wal, recovered = Wal.open(*place, IDENTITY, format_new=True)
    assert recovered.entries == [entry(1, 3), entry(2, 3)]
    wal.close()


def test_segments_roll_at_their_size_and_a_larger_frame_gets_one_of_its_own() -> None:
    disk = SimulatedDisk()
    wal, _ = Wal.open(disk, Path("/d"), IDENTITY, segment_bytes=1000, format_new=True)
    for index in range(1, 30):
        wal.append(None, [entry(index, 1, 5000 if index == 10 else 100)])
    wal.close()
    sizes = [len(disk.read_file(Path("/d") / name)) for name in disk.list_directory(Path("/d")) if "segment" in name]
    assert len(sizes) == wal.statistics().segments
    assert sum(size > 1000 for size in sizes) == 1
    assert max(sizes) < 5200 * 8 / 7


def test_two_cannot_work_in_one_directory(place: tuple[Disk, Path]) -> None:
    disk, directory = place
    wal, _ = Wal.open(disk, directory, IDENTITY, format_new=True)
    with pytest.raises(DirectoryInUse, match=r"is in use by another process.*Stop that one first") as caught:
        Wal.open(disk, directory, IDENTITY, format_new=True)
    assert str(directory) in str(caught.value)
    wal.append(None, [entry(1, 1)])
    wal.close()
    Wal.open(disk, directory, IDENTITY, format_new=True)[0].close()


def test_a_second_process_is_kept_out_and_the_lock_goes_with_the_first(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from impl.raft.messages import *; from impl.storage.disk import *\n"
            "from impl.storage.identity import *; from impl.storage.wal import *\n"
            "wal, _ = Wal.open(RealDisk(), Path(sys.argv[1]), Identity('town', 1), format_new=True)\n"
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
                Wal.open(RealDisk(), tmp_path, IDENTITY, format_new=True)
        finally:
            holder.kill()
    wal, recovered = Wal.open(RealDisk(), tmp_path, IDENTITY, format_new=True)
    assert state_of(recovered) == (HardState(1, 1), None, (Entry(1, 1, b"kept"),))
    wal.close()


@pytest.mark.parametrize(
    "other",
    [Identity("town", 2), Identity("city", 1), Identity("town", 1, group=3), Identity("town", 1, incarnation=2)],
)
def test_the_directory_of_another_node_is_refused(place: tuple[Disk, Path], other: Identity) -> None:
    write(*place)
    with pytest.raises(WrongIdentity) as caught:
        Wal.open(*place, other)
    for words in (str(IDENTITY), str(other), str(place[1]), "data directory of its own"):
        assert words in str(caught.value)
    Wal.open(*place, IDENTITY, format_new=True)[0].close()


def test_a_log_without_its_identity_file_is_refused(place: tuple[Disk, Path]) -> None:
    disk, directory = place
    write(disk, directory)
    disk.remove(directory / "identity")
    with pytest.raises(LogDamaged, match="the file that says whose is missing"):
        format_directory(disk, directory, IDENTITY, None)
    with pytest.raises(LogDamaged, match="the file that says whose is missing"):
        Wal.open(disk, directory, IDENTITY, format_new=True)


def test_files_of_others_in_the_directory_are_left_alone(place: tuple[Disk, Path]) -> None:
    disk, directory = place
    write(disk, directory)
    disk.open_file(directory / "chat.sqlite", create=True).close()
    wal, recovered = Wal.open(disk, directory, IDENTITY, format_new=True)
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
    wal, _ = Wal.open(disk, Path("/d"), IDENTITY, format_new=True)
    wal.append(None, [entry(1, 1)])
    disk.fail_nth_sync(1)
    for attempt in (wal.sync, wal.sync, lambda: wal.append(None, [entry(2, 1)])):
        with pytest.raises(StorageFailed, match=r"sync of /d/log-0+1\.segment failed"):
            attempt()
    wal.close()
    Wal.open(disk, Path("/d"), IDENTITY, format_new=True)[0].close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match=f"{tmp_path}/file"):
        format_directory(RealDisk(), tmp_path / "file" / "node", IDENTITY, None)


# Bases


def test_a_base_that_the_log_holds_keeps_what_is_behind_and_another_drops_all(place: tuple[Disk, Path]) -> None:
    format_directory(*place, IDENTITY, base(0, 0, 1))
    wal, recovered = Wal.open(*place, IDENTITY, segment_bytes=SEGMENT_BYTES)
    assert (recovered.base, recovered.entries) == (base(0, 0, 1), [])
    wal.append(HardState(2, 1), [entry(1, 1), entry(2, 1), entry(3, 2)])
    wal.append(None, [], base(2, 1, 1))
    wal.close()
    wal, recovered = Wal.open(*place, IDENTITY, segment_bytes=SEGMENT_BYTES)
    assert (recovered.base, recovered.entries) == (base(2, 1, 1), [entry(3, 2)])
    wal.append(None, [], base(3, 3, 1))
    wal.close()
    wal, recovered = Wal.open(*place, IDENTITY, segment_bytes=SEGMENT_BYTES)
    assert (recovered.hard_state, recovered.base, recovered.entries) == (HardState(2, 1), base(3, 3, 1), [])
    wal.close()


def test_a_base_that_breaks_the_rules_is_refused() -> None:
    wal, _ = Wal.open(SimulatedDisk(), Path("/d"), IDENTITY, format_new=True)
    wal.append(None, [entry(1, 1), entry(2, 3), entry(3, 3)])
    wal.append(None, [], base(2, 3))
    for wrong, problem in [
        (base(1, 3), "the base goes back from 2 to 1"),
        (base(3, 2), "the term of the base goes back from 3 to 2"),
        (base(2, 4), "the base at 2 is of term 3 and of term 4"),
        (Base(4, 4, configuration_index=5), "the configuration of the base at 4 is from 5"),
    ]:
        with pytest.raises(Discontinuity, match=problem):
            wal.append(None, [], wrong)
    with pytest.raises(Discontinuity, match="entry 2 is not behind the base at 2"):
        wal.append(None, [entry(2, 4)])
    with pytest.raises(Discontinuity, match="entry 5 cannot follow entry 3"):
        wal.append(None, [entry(5, 4)], base(3, 4))
    wal.append(None, [entry(4, 4)], base(3, 4))


def test_segments_go_when_the_base_is_durable_and_not_before() -> None:
    disk = SimulatedDisk()
    wal, _ = Wal.open(disk, Path("/d"), IDENTITY, segment_bytes=SEGMENT_BYTES, format_new=True)
    for index in range(1, 20):
        wal.append(None, [entry(index, 1, 100)])
    wal.sync()
    before = wal.statistics()
    wal.append(None, [], base(15, 1))
    assert wal.statistics().removed_segments == 0
    wal.sync()
    after = wal.statistics()
    assert after.segments in (before.segments - after.removed_segments, before.segments - after.removed_segments + 1)
    assert after.removed_segments > 3
    names = [name for name in disk.list_directory(Path("/d")) if name.endswith(".segment")]
    assert len(names) == after.segments
    assert wal.statistics() == after
    assert after.allocated_bytes == after.segments * SEGMENT_BYTES


def test_the_reserve_is_kept_for_votes_and_a_base_makes_room() -> None:
    disk = SimulatedDisk()
    wal, _ = Wal.open(disk, Path("/d"), IDENTITY, segment_bytes=2000, format_new=True)
    wal.append(HardState(1, 1), [entry(1, 1, 100)])
    disk.capacity_bytes = 0
    for index in range(2, 100):
        try:
            wal.append(None, [entry(index, 1, 100)])
        except DiskFull:
            break
    index -= 1
    assert wal.statistics().full
    for term in range(2, 6):
        wal.append(HardState(term, 0), [])
    wal.append(None, [], base(index, 1))
    wal.sync()
    disk.capacity_bytes = None
    wal.append(None, [entry(index + 1, 5, 100)])
    wal.sync()
    assert not wal.statistics().full
    assert wal.statistics().removed_segments == 1
    wal.close()
    wal, recovered = Wal.open(disk, Path("/d"), IDENTITY)
    assert (recovered.hard_state, recovered.base) == (HardState(5, 0), base(index, 1))
    assert recovered.entries == [entry(index + 1, 5, 100)]


# Formatting


def test_a_directory_that_was_never_formatted_is_refused_and_nothing_is_made(place: tuple[Disk, Path]) -> None:
    disk, directory = place
    with pytest.raises(NotFormatted, match=r"telegraft init --config FILE.*--join.*not mounted"):
        Wal.open(disk, directory, IDENTITY)
    format_directory(disk, directory / "other", IDENTITY, None)
    with pytest.raises(NotFormatted):
        Wal.open(disk, directory, IDENTITY)
    assert read_identity(disk, directory) is None


def test_a_directory_is_formatted_once(place: tuple[Disk, Path]) -> None:
    identity = Identity("town", 1, incarnation=new_incarnation())
    format_directory(*place, identity, Base())
    assert read_identity(*place) == identity
    with pytest.raises(AlreadyFormatted, match=f"incarnation {identity.incarnation}"):
        format_directory(*place, IDENTITY, None)
    with pytest.raises(WrongIdentity):
        Wal.open(*place, IDENTITY)
    wal, recovered = Wal.open(*place, identity)
    assert (recovered.base, recovered.hard_state, recovered.entries) == (Base(), HardState(), [])
    wal.close()


def test_a_log_that_vanished_is_damage_and_not_a_new_one(place: tuple[Disk, Path]) -> None:
    disk, directory = place
    write(disk, directory)
    for name in disk.list_directory(directory):
        if name.endswith(".segment"):
            disk.remove(directory / name)
    for _ in range(2):
        with pytest.raises(LogDamaged, match="its log is missing"):
            Wal.open(disk, directory, IDENTITY, format_new=True)


def test_formatting_is_all_or_nothing() -> None:
    """Cut short after every operation, and again: then it says so, and can be done again, even for another identity."""
    other = Identity("town", 1, incarnation=77)
    seen = set()
    for n in range(100):
        disk = SimulatedDisk()
        disk.power_off_after(n)
        try:
            format_directory(disk, Path("/d"), IDENTITY, base(0, 0, 1), segment_bytes=SEGMENT_BYTES)
        except PowerLost:
            done = False
        else:
            done = True
        for seed in range(30):
            after = disk.crash(Random(seed))
            try:
                _, recovered = Wal.open(after, Path("/d"), IDENTITY)
            except NotFormatted:
                assert not done
                seen.add("not formatted")
                format_directory(after, Path("/d"), other, Base(), segment_bytes=SEGMENT_BYTES)
                _, recovered = Wal.open(after.crash(Random(seed)), Path("/d"), other)
                assert recovered.base == Base()
            else:
                seen.add("formatted")
                assert recovered.base == base(0, 0, 1)
        if done:
            break
    assert seen == {"formatted", "not formatted"}


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
            terms = [0, *(one.term for one in states_of(steps)[-1][2])]
        steps.append((new_hard_state, new))
    return steps


@given(scripts(), st.integers(1, 1000), st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_history_survives_any_reopening(script: list[Step], segment_bytes: int, data: st.DataObject) -> None:
    disk, directory = SimulatedDisk(), Path("/d")
    wal, _ = Wal.open(disk, directory, IDENTITY, segment_bytes=segment_bytes, format_new=True)
    for step, state in zip(script, states_of(script)[1:], strict=True):
        wal.append(*step)
        wal.sync()
        if data.draw(st.booleans()):
            wal.close()
            wal, recovered = Wal.open(disk, directory, IDENTITY, segment_bytes=segment_bytes, format_new=True)
            assert (state_of(recovered), recovered.cut_bytes) == (state, 0)


@given(scripts(), st.integers(0, 80), st.randoms(use_true_random=False))
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
