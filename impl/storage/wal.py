"""The write-ahead log: what a Raft node must not forget, in the order in which it came to know it.

Theory of operation
-------------------
A directory of segments (bytes in ``codec``). ``append`` writes one frame that holds the new hard state, the new
entries, or both; ``sync`` makes it durable. Term and vote travel in the same frame as the entries they go with, so no
crash can separate them. Nothing is ever rewritten: an entry at or below the last index means that the entries from
there on are replaced, and reading the log back replays that.

*One frame is in flight at a time.* ``append`` first syncs a frame that is still waiting, so at any moment all frames
but the last are durable. Recovery stands on this (see ``recovery``).

*Segments roll* when the next frame would pass ``segment_bytes``. The new file gets its header, is synced, and then its
directory is, before the first frame goes into it.

*Opening* reads everything, cuts a torn tail, and then makes durable what it is about to report: a process that was
killed, or whose fsync failed, leaves in the system's cache frames that look written and are not on the disk. The last
frame is therefore written once more, in place and with the same bytes, so that the system cannot take it for clean, and
is synced together with the cut before anything is appended. A crash during all this leaves a log that opens to the
same state, since each step only removes what was never acknowledged or repeats what is there.

*After an error of write or sync* the log is finished: every later call raises ``StorageFailed``, and none ever retries
a sync, because one that succeeds later proves nothing (the "fsyncgate" lesson of 2018). Start again and read back.

Not here yet: preallocated segments, removal of segments below a snapshot, opening without a full read.

One thread at a time may call ``append``, ``sync`` and ``close``; ``statistics`` may be called from any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from impl.raft.messages import Entry, HardState
from impl.storage.codec import (
    SegmentHeader,
    encode_frame,
    encode_record,
    encode_segment_header,
    first_sequence_of,
    frame_seed,
    segment_name,
)
from impl.storage.disk import Disk, DiskFile, DiskLock
from impl.storage.errors import StorageFailed, disk_operation
from impl.storage.identity import Identity, check_identity, lock_directory
from impl.storage.recovery import Recovery

#: Large enough that the two extra syncs of a new segment vanish beside its thousands of frames, small enough that one
#: is read into memory at once, and that space comes back in steps of a size nobody minds once old ones are removed.
DEFAULT_SEGMENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Recovered:
    """What the log held when it was opened. All of it is durable by the time the caller sees it."""

    hard_state: HardState  # HardState() in a new directory
    entries: list[Entry]  # dense from index 1
    cut_bytes: int  # of a write that a crash had torn; never acknowledged; 0 after a clean stop


@dataclass(frozen=True)
class WalStatistics:
    """The log at one instant."""

    frames: int  # in the log, those found at opening included
    bytes: int  # in all segments, headers included
    segments: int  # files that hold a frame or are about to
    syncs: int  # of frames, since opening
    last_index: int  # of the last entry, synced or not; 0 in an empty log


class Wal:
    """The log of one replica. Make one with ``open``."""

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
        self._frames = found.frames
        self._bytes = found.bytes
        self._segments = found.segments
        self._syncs = 0
        self._file: DiskFile | None = None  # the newest segment, None before the first
        self._path = directory
        self._size_bytes = 0
        self._unsynced = False
        self._failure: StorageFailed | None = None
        self._closed = False

    @classmethod
    def open(
        cls, disk: Disk, directory: Path, identity: Identity, *, segment_bytes: int = DEFAULT_SEGMENT_BYTES
    ) -> tuple[Self, Recovered]:
        """Claim the directory, making it if need be, read the log back and make ready to append.

        Raises ``DirectoryInUse``, ``WrongIdentity``, ``LogDamaged``, ``FormatTooNew`` (in these cases nothing was
        changed), or ``StorageFailed`` when the disk errs. Reads every segment: takes time and memory in proportion.
        """
        lock = lock_directory(disk, directory)
        try:
            with disk_operation("list", directory):
                names = [name for name in disk.list_directory(directory) if first_sequence_of(name) is not None]
            check_identity(disk, directory, identity, holds_log=bool(names))

            def read(path: Path) -> bytes:
                with disk_operation("read", path):
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
        return wal, Recovered(found.hard_state, found.entries, found.cut_bytes)

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Write one frame: the hard state, if given, then the entries. Durable only once ``sync`` has returned.

        Entries are dense; the first has an index from 1 to one past the end, and one at or below the last index
        replaces it and all behind it. With neither hard state nor entries there is nothing to do. Raises
        ``StorageFailed``; ``Discontinuity`` or ``RecordTooLarge`` (both ValueErrors: the caller's bug) without effect.
        """
        self._check_usable()
        if hard_state is None and not entries:
            return
        self._end.check(hard_state, entries)
        body = encode_record(hard_state, entries)
        frame, crc = self._encode(body)
        self.sync()
        if self._file is None or self._size_bytes + len(frame) > self._segment_bytes:
            self._begin_segment()
            frame, crc = self._encode(body)  # its predecessor is the new header
        with self._or_fail("write"):
            self._open_file.write(self._size_bytes, frame)
        self._unsynced = True
        self._size_bytes += len(frame)
        self._bytes += len(frame)
        self._frames += 1
        self._next_sequence += 1
        self._chain_crc = crc
        self._end.follow(hard_state, entries)

    def sync(self) -> None:
        """Make the last frame durable. Returns at once if it is. Raises ``StorageFailed``."""
        self._check_usable()
        if not self._unsynced:
            return
        with self._or_fail("sync"):
            self._open_file.sync()
        self._unsynced = False
        self._syncs += 1

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
        return WalStatistics(
            frames=self._frames,
            bytes=self._bytes,
            segments=self._segments,
            syncs=self._syncs,
            last_index=self._end.last_index,
        )

    # Behind the scenes

    @property
    def _open_file(self) -> DiskFile:
        assert self._file is not None
        return self._file

    def _encode(self, body: bytes) -> tuple[bytes, int]:
        return encode_frame(self._seed, self._next_sequence, self._chain_crc, body)

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
        if found.discarded is not None:
            path = self._directory / found.discarded
            with self._or_fail("remove", path):
                self._disk.remove(path)
        if found.tail is not None:
            self._path = self._directory / found.tail.name
            self._size_bytes = found.tail.size_bytes
            with self._or_fail("open"):
                self._file = self._disk.open_file(self._path)
            # A segment that is removed whole takes its torn frame with it.
            if found.cut_bytes and found.discarded is None:
                with self._or_fail("truncate"):
                    self._file.truncate(found.tail.size_bytes)
            self._rewrite_last_frame(self._file, found.tail.last_frame_offset, found.tail.last_frame)
        with self._or_fail("sync", self._directory):
            self._disk.sync_directory(self._directory)

    def _rewrite_last_frame(self, file: DiskFile, offset: int, frame: bytes) -> None:
        with self._or_fail("write"):
            file.write(offset, frame)
        with self._or_fail("sync"):
            file.sync()

    def _begin_segment(self) -> None:
        """Close the newest segment and begin the next. Everything in the old one is synced."""
        header, crc = encode_segment_header(
            SegmentHeader(
                cluster=self._identity.cluster,
                node_id=self._identity.node_id,
                group=self._identity.group,
                first_sequence=self._next_sequence,
                first_index=self._end.last_index + 1,
                previous_crc=self._chain_crc,
            )
        )
        old_file, self._file = self._file, None
        if old_file is not None:
            with self._or_fail("close"):
                old_file.close()
        self._path = self._directory / segment_name(self._next_sequence)
        with self._or_fail("create"):
            self._file = self._disk.open_file(self._path, create=True)
        with self._or_fail("write"):
            self._file.write(0, header)
        with self._or_fail("sync"):
            self._file.sync()
        with self._or_fail("sync", self._directory):
            self._disk.sync_directory(self._directory)
        self._size_bytes = len(header)
        self._bytes += len(header)
        self._segments += 1
        self._chain_crc = crc
