"""The disk as the storage room sees it: a dozen synchronous operations, and what each promises about a power loss.

Theory of operation
-------------------
Everything that must survive goes through ``Disk`` and ``DiskFile``, which have two implementations: ``RealDisk`` here,
and ``SimulatedDisk``, which forgets, tears, errs and fills up on command. The promises are those of POSIX and no more:

- what was written is durable after ``DiskFile.sync`` has returned, and in any mixture of old and new before;
- a file's name is durable after ``Disk.sync_directory`` of its directory, whatever was done to the file itself;
- ``rename`` is atomic: after a crash a name leads to the old file or to the new one;
- after an error of ``write`` or ``sync`` nothing is known about the bytes since the last successful ``sync``, and a
  second ``sync`` that succeeds says nothing about them either (the kernel may have dropped the dirty pages).

All operations block; callers on trio run them in a worker thread. All errors are ``OSError``.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import Protocol

#: Chat logs are private: readable by the account that runs the node, and by nobody else.
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

_ZEROS_BYTES = 1024 * 1024


class AlreadyLocked(Exception):
    """Somebody else holds the lock. ``holder`` is what they wrote into it, or empty."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is locked{f' by {holder}' if holder else ''}")
        self.path = path
        self.holder = holder


class DiskFile(Protocol):
    """An open file. Offsets and sizes in bytes."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of ``data`` at ``offset``, growing the file if need be. Not durable yet."""
        ...

    def truncate(self, size_bytes: int) -> None:
        """Drop everything from ``size_bytes`` on. Not durable yet."""
        ...

    def allocate(self, size_bytes: int) -> None:
        """Fill an empty file with ``size_bytes`` zeros, for which the disk has then set room aside: writes within need
        no more of it, and a later ``sync`` of them writes only data. Not durable yet. A full disk is met here; then an
        unknown part is there."""
        ...

    def sync(self) -> None:
        """Make all writes and truncations so far durable (fdatasync)."""
        ...

    def close(self) -> None:
        """Give the file back to the system. Makes nothing durable."""
        ...


class DiskLock(Protocol):
    def release(self) -> None:
        """Let others in. The system does so itself when the process ends, however it ends."""
        ...


class Disk(Protocol):
    def list_directory(self, path: Path) -> list[str]:
        """The names in a directory, sorted. ``FileNotFoundError`` if there is none."""
        ...

    def make_directory(self, path: Path) -> None:
        """Make one directory; its parent must exist. ``FileExistsError`` if the name is taken."""
        ...

    def read_file(self, path: Path) -> bytes:
        """The whole content of a file. ``FileNotFoundError`` if there is none."""
        ...

    def read_ahead(self, path: Path) -> None:
        """This file is read next: the disk may begin, while its caller still works on another one. Promises nothing."""
        ...

    def read_at(self, path: Path, offset: int, size_bytes: int) -> bytes:
        """At most ``size_bytes`` from ``offset``: less only at the end of the file. ``FileNotFoundError``."""
        ...

    def file_size(self, path: Path) -> int:
        """In bytes. ``FileNotFoundError`` if there is none."""
        ...

    def open_file(self, path: Path, *, create: bool = False) -> DiskFile:
        """Open a file for writing; with ``create`` it must not exist yet (``FileExistsError``), without it must."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name in the same directory, atomically replacing what had that name.

        A file or directory may also move to another directory of the same file system, where the name must be free.
        """
        ...

    def remove(self, path: Path) -> None:
        """Remove a file. ``FileNotFoundError`` if there is none."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Make the names in this directory durable: files and directories made, renamed and removed."""
        ...

    def lock(self, path: Path) -> DiskLock:
        """Take the exclusive lock that this file stands for, making the file if need be. Does not wait.

        Raises ``AlreadyLocked`` while another process, or another caller in this process, holds it.
        """
        ...


class RealFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, offset: int, data: bytes) -> None:
        written = os.pwrite(self._descriptor, data, offset)
        while written < len(data):  # the system may take less than all, near a full disk for one
            written += os.pwrite(self._descriptor, data[written:], offset + written)

    def truncate(self, size_bytes: int) -> None:
        os.ftruncate(self._descriptor, size_bytes)

    def allocate(self, size_bytes: int) -> None:
        if hasattr(os, "posix_fallocate"):  # all of the room or an error, before anything is written
            os.posix_fallocate(self._descriptor, 0, size_bytes)
        # Blocks that are only set aside change from "unwritten" to "written" when they are first used, which is
        # metadata that every fdatasync would have to write. So they are used now.
        for offset in range(0, size_bytes, _ZEROS_BYTES):
            self.write(offset, bytes(min(_ZEROS_BYTES, size_bytes - offset)))

    def sync(self) -> None:
        if sys.platform == "darwin":
            # There fsync stops at the drive's cache; only this request goes through it.
            fcntl.fcntl(self._descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class RealLock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        os.close(self._descriptor)


class RealDisk:
    """The operating system's files."""

    def list_directory(self, path: Path) -> list[str]:
        return sorted(os.listdir(path))

    def make_directory(self, path: Path) -> None:
        os.mkdir(path, DIRECTORY_MODE)

    def read_file(self, path: Path) -> bytes:
        return path.read_bytes()

    def read_ahead(self, path: Path) -> None:
        if hasattr(os, "posix_fadvise"):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)

    def read_at(self, path: Path, offset: int, size_bytes: int) -> bytes:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            pieces = []
            while size_bytes and (piece := file.read(size_bytes)):
                pieces.append(piece)
                size_bytes -= len(piece)
            return b"".join(pieces)

    def file_size(self, path: Path) -> int:
        return path.stat().st_size

    def open_file(self, path: Path, *, create: bool = False) -> RealFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        return RealFile(os.open(path, flags, FILE_MODE))

    def rename(self, old: Path, new: Path) -> None:
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        os.unlink(path)

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: Path) -> RealLock:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()}".encode(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace")
            os.close(descriptor)
            raise AlreadyLocked(path, holder) from None
        except BaseException:
            os.close(descriptor)
            raise
        return RealLock(descriptor)
