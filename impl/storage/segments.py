"""The files of a log: which of them hold live entries, and how one is made.

Theory of operation
-------------------
*Made at once.* A segment is made under the name of a draft: allocated in full, filled with zeros, given its header (and
what else is known), synced, and only then renamed. So what has the name of a segment has its whole size and a whole
header; a full disk is met while the draft is made, when nothing depends on it; and a write into a segment neither needs
room nor changes anything but data.

*Kept as long as needed.* Entries replace each other from the end of the log, so what a segment still holds of the log
is one range of indexes, and these ranges ascend from segment to segment. Only their upper ends are kept here. A segment
goes when all it holds is at or below the base and so are all before it: removal is always from the front.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from impl.raft.messages import Entry
from impl.storage.disk import Disk, DiskFile
from impl.storage.errors import DiskFull, StorageFailed

DRAFT_NAME = "log.draft"

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class Segment:
    """One file of the log."""

    name: str
    first_sequence: int
    size_bytes: int  # of the file: up to here frames may go
    used_bytes: int  # header and frames
    frames: int = 0
    last_index: int = 0  # no entry that is part of the log and in this segment has a higher one


class Segments:
    """All files of the log, oldest first."""

    def __init__(self) -> None:
        self.files: list[Segment] = []

    @property
    def newest(self) -> Segment:
        return self.files[-1]

    def begin(self, segment: Segment) -> None:
        """A new file at the end; it holds nothing yet."""
        self.files.append(segment)

    def follow(self, size_bytes: int, entries: Sequence[Entry], *, drops: bool) -> None:
        """A frame of ``size_bytes`` has come to the end of the newest segment."""
        if drops:
            self._cut(0)
        if entries:
            self._cut(entries[0].index - 1)
            self.newest.last_index = entries[-1].index
        self.newest.used_bytes += size_bytes
        self.newest.frames += 1

    def _cut(self, last_index: int) -> None:
        for segment in reversed(self.files):
            segment.last_index = min(segment.last_index, last_index)

    def removable(self, base_index: int) -> int:
        """How many of the oldest are not needed any more once a base at ``base_index`` is durable."""
        count = 0
        while count + 1 < len(self.files) and self.files[count].last_index <= base_index:
            count += 1
        return count


def make_draft(disk: Disk, path: Path, content: bytes, size_bytes: int) -> DiskFile:
    """A new file of ``size_bytes``, durable but for its name: ``content`` and then zeros.

    Raises ``DiskFull``, and then it is gone again, or ``StorageFailed``.
    """
    operation = "create"
    file: DiskFile | None = None
    try:
        file = disk.open_file(path, create=True)
        operation = "allocation"
        file.allocate(size_bytes)
        operation = "write"
        file.write(0, content)
        operation = "sync"
        file.sync()
    except OSError as error:
        if file is not None:
            with suppress(OSError):
                file.close()
        if error.errno not in NO_ROOM:
            raise StorageFailed(operation, path, error) from error
        remove_draft(disk, path)
        raise DiskFull(path, size_bytes, error) from error
    return file


def remove_draft(disk: Disk, path: Path) -> None:
    """Remove a draft that a crash or a full disk has left, if there is one. Raises ``StorageFailed``."""
    try:
        disk.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StorageFailed("remove", path, error) from error
