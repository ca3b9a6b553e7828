"""The write-ahead log: what a Raft node must not forget, in the order in which it came to know it.

Theory of operation
-------------------
A directory of segments (bytes in ``codec``, files in ``segments``), made by ``formatting``. ``append`` writes one frame
that holds a new base, the new hard state, the new entries, or any of them; ``sync`` makes it durable. Term and vote
travel in the same frame as the entries they go with, so no crash can separate them. Nothing is ever rewritten: an entry
at or below the last index means that the entries from there on are replaced, a base that the entries up to it are gone,
and reading the log back replays that.

*One frame is in flight at a time.* ``append`` first syncs a frame that is still waiting, so at any moment all frames
but the last are durable. Recovery stands on this (see ``recovery``).

*Segments roll* when the next frame would pass the end of the newest. The new file is made as a draft and has its whole
size, its header and its name on the disk before the first frame goes into it.

*Segments go* once a frame with a base is durable: those that hold nothing behind it, the oldest first, each removal
synced before the next, so that what remains is always the end of the log.

*A full disk* is met when the next segment is made, hence before anything is written: ``append`` raises ``DiskFull``,
the log is as before, and the same call works once there is room. The last bytes of every segment are a reserve for
frames without entries: a node on a full disk still votes, and a base, which makes room, can be written.

*Opening* reads everything, overwrites a torn tail with zeros, and then makes durable what it is about to report: a
process that was killed, or whose fsync failed, leaves in the system's cache frames that look written and are not on the
disk. The last frame is therefore written once more, in place and with the same bytes, so that the system cannot take it
for clean, and is synced together with the zeros before anything is appended. A crash during all this leaves a log that
opens to the same state, since each step only removes what was never acknowledged or repeats what is there.

*After an error of write or sync* the log is finished: every later call raises ``StorageFailed``, and none ever retries
a sync, because one that succeeds later proves nothing (the "fsyncgate" lesson of 2018). Start again and read back.

One thread at a time may call ``append``, ``sync`` and ``close``; ``statistics`` may be called from any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from impl.raft.messages import Base, Entry, HardState
from impl.storage.codec import (
    MAX_BODY_BYTES,
    RecordTooLarge,
    encode_frame,
    encode_record,
    encode_segment_header,
    frame_bytes,
    frame_seed,
    segment_name,
)
from impl.storage.disk import Disk, DiskFile, DiskLock
from impl.storage.errors import DiskFull, NotFormatted, StorageFailed, disk_operation
from impl.storage.formatting import DEFAULT_SEGMENT_BYTES, check_formatted, format_directory
from impl.storage.identity import Identity, check_identity, lock_directory
from impl.storage.recovery import Recovery, segment_header
from impl.storage.segments import DRAFT_NAME, Segment, make_draft, remove_draft

__all__ = ["DEFAULT_SEGMENT_BYTES", "Recovered", "Wal", "WalStatistics"]

#: Room for frames without entries at the end of each segment: a thousand votes.
RESERVE_BYTES = 64 * 1024

#: At most this part of a segment is reserve.
RESERVE_PART = 8


@dataclass(frozen=True)
class Recovered:
    """What the log held when it was opened. All of it is durable by the time the caller sees it."""

    hard_state: HardState  # HardState() in a new directory
    base: Base | None  # None: the directory was formatted without one, and none has come since
    entries: list[Entry]  # dense from one past the base, or from 1
    cut_bytes: int  # of a write that a crash had torn; never acknowledged; 0 after a clean stop


@dataclass(frozen=True)
class WalStatistics:
    """The log at one instant."""

    frames: int  # in the segments that are left, those found at opening included
    bytes: int  # used in these segments, headers included
    segments: int  # files
    syncs: int  # of frames, since opening
    last_index: int  # of the last entry, synced or not; that of the base if there is none behind it
    base_index: int = 0  # of the newest base, synced or not
    allocated_bytes: int = 0  # what these files take on the disk, used or not
    removed_segments: int = 0  # since opening, after a base
    full: bool = False  # the last append met a full disk, or had to use the reserve


class Wal:
    """The log of one replica. Make one with ``open``, in a directory made by ``format_directory``."""

    _recovery: type[Recovery] = Recovery

    def __init__(
        self, disk: Disk, directory: Path, identity: Identity, lock: DiskLock, segment_bytes: int, found: Recovery
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._identity = identity
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._seed = frame_seed(identity)
        self._end = found.end
        self._next_sequence = found.next_sequence
        self._chain_crc = found.chain_crc
        self._segments = found.segments
        self._removed = 0
        self._syncs = 0
        self._full = False
        self._file: DiskFile | None = None  # the newest segment; None once it is closed
        self._path = directory / found.tail.name
        self._unsynced = False
        self._failure: StorageFailed | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: Path,
        identity: Identity,
        *,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        format_new: bool = False,
    ) -> tuple[Self, Recovered]:
        """Claim the directory, read the log back and make ready to append.

        ``format_new``: format a directory that was never formatted, without a base, instead of refusing it; for callers
        that know it to be new, tests above all. Segments that are made from now on have ``segment_bytes``; those that
        are there may have had another size.

        Raises ``NotFormatted``, ``DirectoryInUse``, ``WrongIdentity``, ``LogDamaged``, ``FormatTooNew``,
        ``FormatTooOld`` (in these cases nothing was changed), or ``StorageFailed`` when the disk errs. Reads every
        segment: takes time in proportion, and memory for the entries behind the base.
        """
        if format_new and not _formatted(disk, directory):
            format_directory(disk, directory, identity, None, segment_bytes=segment_bytes)
        lock = lock_directory(disk, directory)
        try:
            names = check_formatted(disk, directory)
            check_identity(disk, directory, identity)

            def read(path: Path) -> bytes:
                with disk_operation("read", path):
                    for name in names[names.index(path.name) + 1 :][:1]:
                        disk.read_ahead(directory / name)
                    return disk.read_file(path)

            found = cls._recovery(directory, names, read, identity)
            found.run()
        except BaseException:
            lock.release()
            raise
        wal = cls(disk, directory, identity, lock, segment_bytes, found)
        try:
            wal._settle(found)
        except BaseException:
            wal._let_go()
            raise
        return wal, Recovered(found.hard_state, found.base, found.entries, found.cut_bytes)

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], base: Base | None = None) -> None:
        """Write one frame: the base, if given, then the hard state, then the entries. Durable only after ``sync``.

        Entries are dense; the first has an index from one past the base to one past the end, and one at or below the
        last index replaces it and all behind it. A base whose index and term are those of an entry of the log, or of
        its base, leaves what stands behind; another drops all entries. With nothing given there is nothing to do.

        Raises ``StorageFailed``; ``DiskFull`` without effect: call again once there is room; ``Discontinuity`` or
        ``RecordTooLarge`` (both ValueErrors: the caller's bug) without effect.
        """
        self._check_usable()
        if hard_state is None and not entries and base is None:
            return
        drops = base is not None and bool(self._end.drops(base))
        self._end.check(hard_state, entries, base, drops=drops)
        body = encode_record(hard_state, entries, base, drops=drops)
        if len(body) > MAX_BODY_BYTES:
            raise RecordTooLarge(len(body))
        self.sync()
        self._make_room(frame_bytes(len(body)), spare_reserve=bool(entries) and base is None)
        frame, crc = encode_frame(self._seed, self._next_sequence, self._chain_crc, body)
        with self._or_fail("write"):
            self._open_file.write(self._segments.newest.used_bytes, frame)
        self._unsynced = True
        self._segments.follow(len(frame), entries, drops=drops)
        self._next_sequence += 1
        self._chain_crc = crc
        self._end.follow(hard_state, entries, base, drops=drops)

    def sync(self) -> None:
        """Make the last frame durable; then remove segments that its base has made superfluous.

        Returns at once if it is durable. Raises ``StorageFailed``.
        """
        self._check_usable()
        if not self._unsynced:
            return
        with self._or_fail("sync"):
            self._open_file.sync()
        self._unsynced = False
        self._syncs += 1
        self._remove_superfluous()

    def close(self) -> None:
        """Sync what waits, unless the log has failed, and let go of the directory. May be called again."""
        if self._closed:
            return
        try:
            if self._failure is None:
                self.sync()
        finally:
            self._let_go()

    def statistics(self) -> WalStatistics:
        files = list(self._segments.files)
        return WalStatistics(
            frames=sum(segment.frames for segment in files),
            bytes=sum(segment.used_bytes for segment in files),
            segments=len(files),
            syncs=self._syncs,
            last_index=self._end.last_index,
            base_index=self._end.base_index,
            allocated_bytes=sum(segment.size_bytes for segment in files),
            removed_segments=self._removed,
            full=self._full,
        )

    # Behind the scenes

    @property
    def _open_file(self) -> DiskFile:
        assert self._file is not None
        return self._file

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise StorageFailed(self._failure.operation, self._failure.file, self._failure.error) from self._failure
        if self._closed:
            raise ValueError("the log is closed: open it again to append")

    @contextmanager
    def _or_fail(self, operation: str, path: Path | None = None) -> Iterator[None]:
        """Like ``disk_operation``, and remember the failure for ever."""
        try:
            with disk_operation(operation, path or self._path):
                yield
        except StorageFailed as failure:
            self._failure = failure
            raise

    def _let_go(self) -> None:
        self._closed = True
        if self._file is not None:
            with suppress(OSError):  # what counts is synced by now, or the log has failed already
                self._file.close()
        self._lock.release()

    def _settle(self, found: Recovery) -> None:
        """Carry out what recovery found, and make durable what it reports."""
        tail = found.tail
        remove_draft(self._disk, self._directory / DRAFT_NAME)
        with self._or_fail("open"):
            self._file = self._disk.open_file(self._path)
        if found.cut_bytes:
            self._clear_torn_tail(self._file, tail.size_bytes, found.cut_bytes)
        self._rewrite_last_frame(self._file, tail.last_frame_offset, tail.last_frame)
        with self._or_fail("sync", self._directory):
            self._disk.sync_directory(self._directory)
        self._remove_superfluous()

    def _clear_torn_tail(self, file: DiskFile, offset: int, size_bytes: int) -> None:
        with self._or_fail("write"):
            file.write(offset, bytes(size_bytes))

    def _rewrite_last_frame(self, file: DiskFile, offset: int, frame: bytes) -> None:
        """A newest segment without a frame needs none: it was begun after the frame before it was synced."""
        if frame:
            with self._or_fail("write"):
                file.write(offset, frame)
        with self._or_fail("sync"):
            file.sync()

    def _make_room(self, needed_bytes: int, *, spare_reserve: bool) -> None:
        """Begin a segment if the frame does not fit into the newest. Raises ``DiskFull`` if that cannot be done and
        the frame does not fit into the reserve, or is none of those that it is for."""
        newest = self._segments.newest
        reserve = min(RESERVE_BYTES, newest.size_bytes // RESERVE_PART)
        if newest.used_bytes + needed_bytes <= newest.size_bytes - reserve:
            return
        try:
            self._begin_segment(needed_bytes)
        except DiskFull:
            self._full = True
            if spare_reserve or newest.used_bytes + needed_bytes > newest.size_bytes:
                raise
        else:
            self._full = False

    def _begin_segment(self, first_frame_bytes: int) -> None:
        """Make the next segment and close the newest. Everything in that one is synced."""
        header, crc = encode_segment_header(
            segment_header(self._identity, self._next_sequence, self._chain_crc, self._end)
        )
        needed_bytes = len(header) + first_frame_bytes
        reserve = min(RESERVE_BYTES, needed_bytes // (RESERVE_PART - 1) + 1)  # that a segment just as large would have
        size_bytes = max(self._segment_bytes, needed_bytes + reserve)
        draft, path = self._directory / DRAFT_NAME, self._directory / segment_name(self._next_sequence)
        with self._or_fail("make"):
            file = make_draft(self._disk, draft, header, size_bytes)
        with self._or_fail("rename", draft):
            self._disk.rename(draft, path)
        with self._or_fail("sync", self._directory):
            self._disk.sync_directory(self._directory)
        old_file, self._file, self._path = self._open_file, file, path
        with self._or_fail("close"):
            old_file.close()
        self._segments.begin(Segment(path.name, self._next_sequence, size_bytes, len(header)))
        self._chain_crc = crc

    def _remove_superfluous(self) -> None:
        """Remove the segments that hold nothing behind the base, which is durable."""
        for _ in range(self._segments.removable(self._end.base_index)):
            path = self._directory / self._segments.files[0].name
            with self._or_fail("remove", path):
                self._disk.remove(path)
            with self._or_fail("sync", self._directory):
                self._disk.sync_directory(self._directory)
            del self._segments.files[0]
            self._removed += 1
            self._full = False


def _formatted(disk: Disk, directory: Path) -> bool:
    try:
        check_formatted(disk, directory)
    except (NotFormatted, StorageFailed):
        return False
    return True
