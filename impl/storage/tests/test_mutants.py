"""Logs with one bug planted in each: the checks must fail on every one, or they show nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from impl.raft.messages import Base, Entry, HardState
from impl.storage.codec import Frame, Record
from impl.storage.continuity import LogEnd
from impl.storage.disk import Disk, DiskFile
from impl.storage.errors import StorageFailed, WrongIdentity
from impl.storage.formatting import format_directory
from impl.storage.identity import Identity
from impl.storage.recovery import Recovery, end_of_data
from impl.storage.simulated_disk import SimulatedDisk
from impl.storage.tests.crash_checks import (
    BASE_SCRIPT,
    DIRECTORY,
    IDENTITY,
    Violation,
    check_exchanged_frames,
    check_failed_syncs,
    check_flips,
    check_full_disk,
    check_kills,
    check_power_losses,
    empty_disk,
    new_life,
)
from impl.storage.wal import Wal


class NeverSyncs(Wal):
    def sync(self) -> None:
        self._check_usable()
        self._unsynced = False


class AcknowledgesBeforeSync(Wal):
    """Syncs, but only when the next frame comes along."""

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], base: Base | None = None) -> None:
        if self._unsynced:
            super().sync()
        super().append(hard_state, entries, base)

    def sync(self) -> None:
        pass


class TriesTheSyncAgain(Wal):
    """The mistake behind "fsyncgate"."""

    def sync(self) -> None:
        try:
            super().sync()
        except StorageFailed:
            self._failure = None
            super().sync()


class GoesOnAfterAFailedSync(Wal):
    def sync(self) -> None:
        try:
            super().sync()
        except StorageFailed:
            self._failure = None
            raise


class SplitsTermAndEntries(Wal):
    """Two frames for what one append was given."""

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], base: Base | None = None) -> None:
        super().append(hard_state, [], base)
        super().append(None, entries)


class ForgetsTheDirectory(Wal):
    """Begins segments without syncing their names."""

    def _begin_segment(self, first_frame_bytes: int) -> None:
        disk = self._disk
        self._disk = cast("Disk", _Without(disk, "sync_directory"))
        super()._begin_segment(first_frame_bytes)
        self._disk = disk


class ForgetsTheHeader(Wal):
    """Gives a segment its name before its content is synced."""

    def _begin_segment(self, first_frame_bytes: int) -> None:
        disk = self._disk
        self._disk = cast("Disk", _WithoutFileSyncs(disk))
        super()._begin_segment(first_frame_bytes)
        self._disk = disk
        assert self._file is not None
        self._file = cast("DiskFile", cast("_Without", self._file).inner)


class WritesWhereThereIsNoRoom(Wal):
    """Does not make room before it writes: a full disk is met in the middle of a frame."""

    def _make_room(self, needed_bytes: int, *, spare_reserve: bool) -> None:
        if self._segments.newest.used_bytes + needed_bytes > self._segments.newest.size_bytes:
            self._segments.newest.size_bytes = self._segments.newest.used_bytes + needed_bytes


class KeepsNoReserve(Wal):
    """Entries may use the room that is kept for votes."""

    def _make_room(self, needed_bytes: int, *, spare_reserve: bool) -> None:
        super()._make_room(needed_bytes, spare_reserve=False)


class DropsTheBase(Wal):
    """Does not write a base down."""

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], base: Base | None = None) -> None:
        super().append(hard_state or (self._end.hard_state if base is not None else None), entries)


class _KeepsWhatDoesNotMatch(LogEnd):
    """Keeps the suffix behind a base that it does not hold."""

    def drops(self, base: Base) -> bool | None:
        return base.index > self.last_index


class KeepsWhatDoesNotMatch(Wal):
    def append(self, hard_state: HardState | None, entries: Sequence[Entry], base: Base | None = None) -> None:
        self._end.__class__ = _KeepsWhatDoesNotMatch
        super().append(hard_state, entries, base)


class DropsWhatMatches(Wal):
    """Takes every base for one that the log does not hold."""

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], base: Base | None = None) -> None:
        if base is not None and base.index < self._end.last_index and not entries:
            super().append(hard_state, [Entry(base.index + 1, base.term + 9, b"")], base)
        else:
            super().append(hard_state, entries, base)


class RemovesTooEarly(Wal):
    """Removes segments when a base is written, not when it is durable."""

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], base: Base | None = None) -> None:
        super().append(hard_state, entries, base)
        self._remove_superfluous()


class RemovesTooMuch(Wal):
    """Removes a segment that still holds an entry behind the base."""

    def _remove_superfluous(self) -> None:
        for segment in self._segments.files:
            segment.last_index -= 1
        super()._remove_superfluous()
        for segment in self._segments.files:
            segment.last_index += 1


class RemovesWithoutSync(Wal):
    """Removes several segments at once: after a power loss one in between may be missing."""

    def _remove_superfluous(self) -> None:
        disk = self._disk
        self._disk = cast("Disk", _Without(disk, "sync_directory"))
        super()._remove_superfluous()
        self._disk = disk


class BeginsWithoutState(Wal):
    """The header of a segment does not say what stood before: hard state and base are lost with older segments."""

    def _begin_segment(self, first_frame_bytes: int) -> None:
        end = self._end
        self._end = LogEnd(HardState(), None, end.last_index, end.last_term)
        super()._begin_segment(first_frame_bytes)
        self._end = end


class TrustsTheCache(Wal):
    """Reports what it has read without making it durable."""

    def _rewrite_last_frame(self, file: DiskFile, offset: int, frame: bytes) -> None:
        pass


class TrustsASecondSync(Wal):
    """Syncs what it has read, but does not write it again: after a failed sync the system takes it for clean."""

    def _rewrite_last_frame(self, file: DiskFile, offset: int, frame: bytes) -> None:
        with self._or_fail("sync"):
            file.sync()


class LeavesTheTornTail(Wal):
    """Appends over it, without cutting it."""

    def _clear_torn_tail(self, file: DiskFile, offset: int, size_bytes: int) -> None:
        pass


class _ReplaysNoTruncation(Recovery):
    def _follow(self, record: Record) -> None:
        self.end.follow(record.hard_state, record.entries, record.base, drops=record.drops)
        known = {one.index for one in self.entries}
        self.entries.extend(one for one in record.entries if one.index not in known)


class ReplaysNoTruncation(Wal):
    _recovery = _ReplaysNoTruncation


class _ReplacesWithoutCutting(Recovery):
    """Entries replace those of the same index, but the rest of the old suffix stays."""

    def _follow(self, record: Record) -> None:
        self.end.follow(record.hard_state, record.entries, record.base, drops=record.drops)
        for one in record.entries:
            self.entries[one.index - 1 : one.index] = [one]


class ReplacesWithoutCutting(Wal):
    _recovery = _ReplacesWithoutCutting


class TakesAnyBreakForTheEnd(Recovery):
    def _check_torn(self, path: Path, data: bytes, offset: int, problem: str) -> None:
        self.cut_bytes = end_of_data(data, offset) - offset


class ChecksNoChain(Recovery):
    def _check_place(self, path: Path, frame: Frame) -> None:
        pass


class _Without:
    """``inner``, one method of which does nothing."""

    def __init__(self, inner: Any, name: str) -> None:
        self.inner = inner
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            return lambda *_args: None
        return getattr(self.inner, name)


class _WithoutFileSyncs(_Without):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner, "")

    def open_file(self, path: Path, *, create: bool = False) -> Any:
        return _Without(self.inner.open_file(path, create=create), "sync")


def power_losses(mutant: type[Wal]) -> None:
    check_power_losses(mutant, seeds=30)


def power_losses_with_bases(mutant: type[Wal]) -> None:
    check_power_losses(mutant, seeds=30, script=BASE_SCRIPT)


def full_disks(mutant: type[Wal]) -> None:
    check_full_disk(mutant, stride=5)


def whole_life(mutant: type[Wal]) -> None:
    """No mishap at all."""
    life = new_life(mutant, BASE_SCRIPT, empty_disk())
    life.open()
    life.finish("nothing happened")


def kills(mutant: type[Wal]) -> None:
    check_kills(mutant, seeds=12)


def failed_syncs(mutant: type[Wal]) -> None:
    check_failed_syncs(mutant, seeds=25)


@pytest.mark.parametrize(
    ("check", "mutant"),
    [
        (power_losses, NeverSyncs),
        (power_losses, AcknowledgesBeforeSync),
        (power_losses, SplitsTermAndEntries),
        (power_losses, ForgetsTheDirectory),
        (power_losses, ForgetsTheHeader),
        (full_disks, WritesWhereThereIsNoRoom),
        (full_disks, KeepsNoReserve),
        (whole_life, DropsTheBase),
        (power_losses_with_bases, KeepsWhatDoesNotMatch),
        (whole_life, DropsWhatMatches),
        (power_losses_with_bases, RemovesTooEarly),
        (whole_life, RemovesTooMuch),
        (power_losses_with_bases, RemovesWithoutSync),
        (whole_life, BeginsWithoutState),
        (power_losses, ReplaysNoTruncation),
        (power_losses, ReplacesWithoutCutting),
        (kills, TrustsTheCache),
        (failed_syncs, TrustsASecondSync),
        (failed_syncs, TriesTheSyncAgain),
        (failed_syncs, GoesOnAfterAFailedSync),
    ],
)
def test_a_log_with_a_planted_bug_is_caught(check: Callable[[type[Wal]], None], mutant: type[Wal]) -> None:
    with pytest.raises((Violation, ValueError)):
        check(mutant)


@pytest.mark.parametrize("mutant", [TakesAnyBreakForTheEnd])
def test_a_recovery_that_shortens_a_damaged_log_is_caught(mutant: type[Recovery]) -> None:
    with pytest.raises(Violation, match="read without a word"):
        check_flips(mutant, bits=[0])


def test_a_recovery_that_does_not_check_the_chain_is_caught() -> None:
    with pytest.raises(Violation):
        check_exchanged_frames(ChecksNoChain)


def test_a_start_that_does_not_compare_incarnations_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a wiped node would do that comes back under its old identity."""
    anew = Identity("town", 1, incarnation=5)
    disk = SimulatedDisk()
    format_directory(disk, DIRECTORY, anew, Base())
    with pytest.raises(WrongIdentity):
        Wal.open(disk, DIRECTORY, IDENTITY)
    monkeypatch.setattr("impl.storage.wal.check_identity", lambda *_args: None)
    with pytest.raises(WrongIdentity, match=r"segment belongs to .*incarnation 5"):
        Wal.open(disk, DIRECTORY, IDENTITY)  # the segments say so, too
