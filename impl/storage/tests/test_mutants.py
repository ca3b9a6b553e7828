"""Logs with one bug planted in each: the checks must fail on every one, or they show nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from impl.raft.messages import Entry, HardState
from impl.storage.codec import Frame, Record
from impl.storage.disk import Disk, DiskFile
from impl.storage.errors import StorageFailed
from impl.storage.recovery import Recovery
from impl.storage.tests.crash_checks import (
    Violation,
    check_exchanged_frames,
    check_failed_syncs,
    check_flips,
    check_kills,
    check_power_losses,
)
from impl.storage.wal import Wal


class NeverSyncs(Wal):
    def sync(self) -> None:
        self._check_usable()
        self._unsynced = False


class AcknowledgesBeforeSync(Wal):
    """Syncs, but only when the next frame comes along."""

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        if self._unsynced:
            super().sync()
        super().append(hard_state, entries)

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

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        super().append(hard_state, [])
        super().append(None, entries)


class ForgetsTheDirectory(Wal):
    """Begins segments without syncing their names."""

    def _begin_segment(self) -> None:
        disk = self._disk
        self._disk = cast("Disk", _Without(disk, "sync_directory"))
        super()._begin_segment()
        self._disk = disk


class ForgetsTheHeader(Wal):
    """Leaves the sync of a new segment's header to its first frame."""

    def _begin_segment(self) -> None:
        disk = self._disk
        self._disk = cast("Disk", _WithoutFileSyncs(disk))
        super()._begin_segment()
        self._disk = disk
        assert self._file is not None
        self._file = cast("DiskFile", cast("_Without", self._file).inner)


class TrustsTheCache(Wal):
    """Reports what it has read without making it durable."""

    def _rewrite_last_frame(self, file: DiskFile, offset: int, frame: bytes) -> None:
        pass


class TrustsASecondSync(Wal):
    """Syncs what it has read, but does not write it again: after a failed sync the system takes it for clean."""

    def _rewrite_last_frame(self, file: DiskFile, offset: int, frame: bytes) -> None:
        file.sync()


class LeavesTheTornTail(Wal):
    """Appends over it, without cutting it."""

    def _settle(self, found: Recovery) -> None:
        found.cut_bytes = 0
        super()._settle(found)


class _ReplaysNoTruncation(Recovery):
    def _follow(self, record: Record) -> None:
        self.end.follow(record.hard_state, record.entries)
        known = {one.index for one in self.entries}
        self.entries.extend(one for one in record.entries if one.index not in known)


class ReplaysNoTruncation(Wal):
    _recovery = _ReplaysNoTruncation


class _ReplacesWithoutCutting(Recovery):
    """Entries replace those of the same index, but the rest of the old suffix stays."""

    def _follow(self, record: Record) -> None:
        self.end.follow(record.hard_state, record.entries)
        for one in record.entries:
            self.entries[one.index - 1 : one.index] = [one]


class ReplacesWithoutCutting(Wal):
    _recovery = _ReplacesWithoutCutting


class TakesAnyBreakForTheEnd(Recovery):
    def _check_torn(self, path: Path, data: bytes, offset: int, problem: str, *, newest: bool) -> None:
        pass


class LooksOnlyAtTheFile(Recovery):
    """Does not search for whole frames behind a broken one."""

    def _check_torn(self, path: Path, data: bytes, offset: int, problem: str, *, newest: bool) -> None:
        if not newest:
            super()._check_torn(path, data, offset, problem, newest=newest)


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
        (power_losses, LeavesTheTornTail),
        (power_losses, ReplaysNoTruncation),
        (power_losses, ReplacesWithoutCutting),
        (kills, TrustsTheCache),
        (failed_syncs, TrustsASecondSync),
        (failed_syncs, TriesTheSyncAgain),
        (failed_syncs, GoesOnAfterAFailedSync),
    ],
)
def test_a_log_with_a_planted_bug_is_caught(check: Callable[[type[Wal]], None], mutant: type[Wal]) -> None:
    with pytest.raises(Violation):
        check(mutant)


@pytest.mark.parametrize("mutant", [TakesAnyBreakForTheEnd, LooksOnlyAtTheFile])
def test_a_recovery_that_shortens_a_damaged_log_is_caught(mutant: type[Recovery]) -> None:
    with pytest.raises(Violation, match="read without a word"):
        check_flips(mutant, bits=[0])


def test_a_recovery_that_does_not_check_the_chain_is_caught() -> None:
    with pytest.raises(Violation):
        check_exchanged_frames(ChecksNoChain)
