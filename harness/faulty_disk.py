"""A real disk that is full, slow or hung on command, for nodes that the harness starts.

Theory of operation
-------------------
The harness writes what is wrong with a node's disk into a small file beside the node's log, the *control file*, and the
node's disk looks there. No file means a disk in order. ``DiskControl`` is the harness's end: several faults may hold
the same disk, and what one of them does stays while another one heals. ``FaultyDisk`` is the node's end, a ``RealDisk``
in everything else:

*full*: whatever needs room fails with ENOSPC, before anything is changed: new files and directories, and writes that
make a file grow. Writing where a file is already long enough, removing and truncating work, as they do on a real disk.

*slow*: each sync takes so many milliseconds longer.

*hung*: a sync does not return until the fault heals; at most ``HANG_MAX_S``, so that no process is stuck for ever.

Reading the control file costs one ``stat`` per ``LOOK_EVERY_S``; it is replaced atomically, and read again only when it
is another one. Only what goes through ``Disk`` is hit: the log and the snapshots. The state machine's database is
derived from them, and its errors are another matter.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Self

import msgspec

from impl.storage.disk import RealDisk, RealFile

LOOK_EVERY_S = 0.01
"""How long a fault may take to show: a tick of a node."""

HANG_MAX_S = 60.0
"""Longer than any fault of a schedule; for nodes whose harness is gone."""


class DiskState(msgspec.Struct, frozen=True):
    """What is wrong with a disk; nothing by default."""

    full: bool = False
    slow_ms: int = 0  # added to every sync
    hung: bool = False

    def and_also(self, other: DiskState) -> DiskState:
        """Both at once: the slower of two slow disks counts."""
        return DiskState(self.full or other.full, max(self.slow_ms, other.slow_ms), self.hung or other.hung)


IN_ORDER = DiskState()


class DiskControl:
    """The harness's end of one node's disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: dict[Hashable, DiskState] = {}

    @property
    def state(self) -> DiskState:
        """Everything that is wrong now."""
        state = IN_ORDER
        for held in self._held.values():
            state = state.and_also(held)
        return state

    def hold(self, holder: Hashable, state: DiskState) -> None:
        """Let this be wrong with the disk until ``holder`` releases it."""
        self._held[holder] = state
        self._write()

    def release(self, holder: Hashable) -> None:
        """Undo what ``holder`` did; nothing if it did nothing."""
        if self._held.pop(holder, None) is not None:
            self._write()

    def _write(self) -> None:
        fresh = self._path.with_name(f".{self._path.name}.new")
        fresh.write_bytes(msgspec.json.encode(self.state))
        fresh.replace(self._path)


class Faults:
    """The node's end: what is wrong with the disk right now. May be asked from any thread."""

    def __init__(
        self,
        path: Path,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._clock_s = clock_s
        self._sleep = sleep
        self._look_at_s = float("-inf")
        self._seen: tuple[int, int] | None = None
        self._state = IN_ORDER
        self._lock = threading.Lock()

    def state(self) -> DiskState:
        """As the control file says, at most ``LOOK_EVERY_S`` ago. An unreadable one is a bug in the harness: raises."""
        with self._lock:
            now_s = self._clock_s()
            if now_s >= self._look_at_s:
                self._look_at_s = now_s + LOOK_EVERY_S
                self._look()
            return self._state

    def _look(self) -> None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self._seen, self._state = None, IN_ORDER
            return
        seen = (found.st_ino, found.st_mtime_ns)
        if seen != self._seen:
            self._state = msgspec.json.decode(self._path.read_bytes(), type=DiskState)
            self._seen = seen

    def need_room(self, path: str) -> None:
        """Raises OSError (ENOSPC) while the disk is full."""
        if self.state().full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def before_sync(self) -> None:
        """Wait as long as the disk is slow or hung."""
        self._sleep(self.state().slow_ms / 1000)
        give_up_s = self._clock_s() + HANG_MAX_S
        while self.state().hung and self._clock_s() < give_up_s:
            self._sleep(LOOK_EVERY_S)


class FaultyFile(RealFile):
    """A file on a ``FaultyDisk``."""

    def __init__(self, descriptor: int, name: str, faults: Faults) -> None:
        super().__init__(descriptor)
        self._name = name
        self._faults = faults

    @classmethod
    def instead_of(cls, file: RealFile, name: str, faults: Faults) -> Self:
        """The same open file, from now on hit by faults; ``file`` is not to be used any more."""
        return cls(file._descriptor, name, faults)

    def write(self, offset: int, data: bytes) -> None:
        if offset + len(data) > os.fstat(self._descriptor).st_size:
            self._faults.need_room(self._name)
        super().write(offset, data)

    def allocate(self, size_bytes: int) -> None:
        self._faults.need_room(self._name)
        super().allocate(size_bytes)

    def sync(self) -> None:
        self._faults.before_sync()
        super().sync()


class FaultyDisk(RealDisk):
    """The operating system's files, on a disk that a control file makes full, slow or hung."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def make_directory(self, path: Path) -> None:
        self._faults.need_room(str(path))
        super().make_directory(path)

    def open_file(self, path: Path, *, create: bool = False) -> FaultyFile:
        if create:
            self._faults.need_room(str(path))
        return FaultyFile.instead_of(super().open_file(path, create=create), str(path), self._faults)

    def sync_directory(self, path: Path) -> None:
        self._faults.before_sync()
        super().sync_directory(path)
