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
    "Nothing was changed. Keep the directory as it is; restore it from an exact copy of this node's own disk, or "
    "replace the node by one with a new node id. Do not start it with an emptied directory under the same node id: it "
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


class LogDamaged(StorageError):
    """Bytes that were durable are not what was written. ``offset`` in bytes from the start of ``file``."""

    def __init__(self, file: Path, offset: int, problem: str) -> None:
        super().__init__(f"{file} is damaged at byte {offset}: {problem}. {KEEP_AND_REPLACE}")
        self.file = file
        self.offset = offset
        self.problem = problem


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
