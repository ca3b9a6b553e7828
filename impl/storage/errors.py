"""What can go wrong with a data directory, each said in words that end with what to do next.

Two families. ``StorageFailed`` is about now: an operation of the disk failed, and this process must stop, because
after a failed write or fsync nobody knows what is on the disk until the log has been read again from the start. The
others are about what was found at start: they refuse to start rather than guess, and never change the directory.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEEP_AND_REPLACE = (
    "Nothing was changed. Look with `telegraft doctor`; then restore the directory from an exact copy of this node's "
    "own disk as it was when it stopped, or replace the node: `telegraft doctor --set-aside` keeps what is here and "
    "says how. Do not empty the directory by hand and format it as the same member, and do not take an older copy: it "
    "could vote twice in one term and forget what it has acknowledged."
)


class StorageError(Exception):
    """Any of the refusals and failures of this package."""


class StorageFailed(StorageError):
    """An operation of the disk failed. The log takes no more work; the process must end and start again.

    ``operation`` is a word ("write", "sync", ...), ``file`` the path it was about, ``error`` the system's error.
    """

    def __init__(self, operation: str, file: Path, error: OSError) -> None:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "Free some space on this file system, then start the node again: nothing synced is lost."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "Give the user of this process the right to write there, then start the node again."
        else:
            advice = "Look at the disk (kernel log, SMART), then start the node again: it reads back what is there."
        super().__init__(f"{operation} of {file} failed: {error.strerror or error}. The node stops here. {advice}")
        self.operation = operation
        self.file = file
        self.error = error


class DiskFull(StorageError):
    """There is no room for the next segment (``file``) or for the next piece of a snapshot.

    Nothing was written: what was there before is as it was and usable, and the same call works again once there is
    room. ``needed_bytes``: how much was asked for.
    """

    def __init__(self, file: Path, needed_bytes: int, error: OSError) -> None:
        super().__init__(
            f"no room for {needed_bytes} bytes in {file}: {error.strerror or error}. Nothing is lost; free some space "
            "on this file system, and the node goes on by itself."
        )
        self.file = file
        self.needed_bytes = needed_bytes
        self.error = error


class LogDamaged(StorageError):
    """Bytes that were durable are not what was written. ``offset`` in bytes from the start of ``file``.

    ``good_frames`` and ``good_index``: how many frames, and entries up to which index, were read whole before it; None
    where nobody has counted.
    """

    def __init__(
        self, file: Path, offset: int, problem: str, *, good_frames: int | None = None, good_index: int | None = None
    ) -> None:
        known = (
            f" Whole before it: {good_frames} frames, entries up to {good_index}." if good_frames is not None else ""
        )
        super().__init__(f"{file} is damaged at byte {offset}: {problem}.{known} {KEEP_AND_REPLACE}")
        self.file = file
        self.offset = offset
        self.problem = problem
        self.good_frames = good_frames
        self.good_index = good_index


class SnapshotMissing(StorageError):
    """There is no such snapshot here, or not any more, or it was damaged and has been set aside: ``why`` says so."""

    def __init__(self, file: Path, why: str = "") -> None:
        super().__init__(f"there is no snapshot {file} (any more){f': {why}' if why else ''}")
        self.file = file


class SnapshotDamaged(StorageError):
    """A snapshot is not what was written. ``offset`` in bytes from the start of ``file``: that of the first block (or
    header, or footer) that is not whole; ``problem`` names it."""

    def __init__(self, file: Path, offset: int, problem: str) -> None:
        super().__init__(
            f"{file} is damaged at byte {offset}: {problem}. Move this file away: as long as the log or the state of "
            "the node does not depend on it, the node takes a new one by itself, or gets one from its leader."
        )
        self.file = file
        self.offset = offset
        self.problem = problem


class NotFormatted(StorageError):
    """The directory has never been made ready for a node (or that was cut short by a crash, which is the same)."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"{directory} has not been formatted for a node. Run `telegraft init --config FILE` for a founding member "
            "of a new group, or with `--join` for a node that is to be added to one. If this node has run before, look "
            "for its data first: this may be the wrong directory, or a disk that is not mounted."
        )
        self.directory = directory


class AlreadyFormatted(StorageError):
    """The directory belongs to a node already; ``found`` spells out which."""

    def __init__(self, directory: Path, found: str) -> None:
        super().__init__(
            f"{directory} has been formatted already, for {found}. Nothing was changed. Start that node, or give the "
            "new one a directory of its own."
        )
        self.directory = directory
        self.found = found


class FormatTooOld(StorageError):
    """``file`` was written by an earlier release, in format ``found``; this one reads from ``supported`` on."""

    def __init__(self, file: Path, found: int, supported: int) -> None:
        super().__init__(
            f"{file} is in format {found}, this release reads formats from {supported} on. Nothing was changed. Start "
            "this node with the release that wrote the directory, or move the directory away and add the node to its "
            "group anew: `telegraft member remove`, `telegraft init --join`, `telegraft member add`."
        )
        self.file = file
        self.found = found
        self.supported = supported


class FormatTooNew(StorageError):
    """``file`` was written by a later release, in format ``found``; this one reads up to ``supported``."""

    def __init__(self, file: Path, found: int, supported: int) -> None:
        super().__init__(
            f"{file} is in format {found}, this release reads formats up to {supported}. Nothing was changed. "
            "Start this node with the release that wrote the directory, or a later one."
        )
        self.file = file
        self.found = found
        self.supported = supported


class WrongIdentity(StorageError):
    """The directory belongs to another node. ``found`` and ``expected`` are both spelled out in the message."""

    def __init__(self, file: Path, found: str, expected: str) -> None:
        super().__init__(
            f"{file} belongs to {found}, but this process was started as {expected}. Nothing was changed. "
            "Give this node a data directory of its own, or correct its cluster name and node id."
        )
        self.file = file
        self.found = found
        self.expected = expected


class DirectoryInUse(StorageError):
    """Another process works in the directory; ``holder`` says who, as far as is known."""

    def __init__(self, directory: Path, holder: str) -> None:
        super().__init__(
            f"{directory} is in use by another process{f' ({holder})' if holder else ''}. "
            "Stop that one first, or give this node a data directory of its own."
        )
        self.directory = directory
        self.holder = holder


@contextmanager
def disk_operation(operation: str, file: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the enclosed disk operation into ``StorageFailed``, which names operation and file."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(operation, file, error) from error
