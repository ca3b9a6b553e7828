"""Making a directory ready for a node, once: before that no log is opened, so none is begun by mistake.

Theory of operation
-------------------
A node whose disk was not mounted, or whose data somebody removed, must not begin again from nothing: it would vote with
no memory. So a directory is formatted by a step of its own, and a start never does it.

Formatted means that the file ``identity`` is there, and it comes last: first its draft and that of the first segment,
which holds the base, are made and synced; then the segment gets its name; then the identity does, atomically. A draft
of the identity beside a missing one thus says that formatting was cut short; then everything there is of it, and may be
made again. A log without either is a log whose identity somebody removed, and refused.
"""

from __future__ import annotations

from pathlib import Path

from impl.raft.messages import Base
from impl.storage.codec import (
    encode_frame,
    encode_record,
    encode_segment_header,
    first_sequence_of,
    frame_seed,
    segment_name,
)
from impl.storage.continuity import LogEnd
from impl.storage.disk import Disk
from impl.storage.errors import AlreadyFormatted, LogDamaged, NotFormatted, disk_operation
from impl.storage.identity import (
    IDENTITY_DRAFT,
    IDENTITY_FILE,
    Identity,
    encode_identity,
    lock_directory,
    read_identity,
    sync_parents,
)
from impl.storage.recovery import segment_header
from impl.storage.segments import DRAFT_NAME, make_draft, remove_draft

#: Small enough that making one stops the log for milliseconds only and that space comes back in small steps, large
#: enough that its two extra syncs vanish beside those of its frames.
DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024

FIRST_SEQUENCE = 1


def format_directory(
    disk: Disk,
    directory: Path,
    identity: Identity,
    base: Base | None,
    *,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> None:
    """Make the directory, with its parents, and in it an empty log that belongs to ``identity`` and begins at ``base``.

    ``base`` of a founding member: at index 0, with the founding configuration; of a node that joins: ``Base()``. With
    None the log begins without one. After a crash the directory is formatted or it is not.

    Raises ``AlreadyFormatted``, ``LogDamaged`` (a log without an identity), ``DirectoryInUse``, ``DiskFull``,
    ``StorageFailed``.
    """
    lock = lock_directory(disk, directory, make=True)
    try:
        try:
            check_formatted(disk, directory)
        except NotFormatted:
            _remove_what_was_begun(disk, directory)
        else:
            raise AlreadyFormatted(directory, str(read_identity(disk, directory)))
        sync_parents(disk, directory)
        draft, identity_draft = directory / DRAFT_NAME, directory / IDENTITY_DRAFT
        first = _first_segment(identity, base)
        make_draft(disk, draft, first, max(segment_bytes, len(first))).close()
        line = encode_identity(identity)
        make_draft(disk, identity_draft, line, len(line)).close()
        with disk_operation("sync", directory):
            disk.sync_directory(directory)
        with disk_operation("rename", draft):
            disk.rename(draft, directory / segment_name(FIRST_SEQUENCE))
        with disk_operation("sync", directory):
            disk.sync_directory(directory)
        with disk_operation("rename", identity_draft):
            disk.rename(identity_draft, directory / IDENTITY_FILE)
        with disk_operation("sync", directory):
            disk.sync_directory(directory)
    finally:
        lock.release()


def check_formatted(disk: Disk, directory: Path) -> list[str]:
    """The names of the segments, sorted, of a directory that was formatted.

    Raises ``NotFormatted``; ``LogDamaged`` if half of what formatting makes is missing and no crash can have done that.
    """
    with disk_operation("list", directory):
        names = disk.list_directory(directory)
    segments = [name for name in names if first_sequence_of(name) is not None]
    if IDENTITY_FILE in names:
        if not segments:
            raise LogDamaged(
                directory / segment_name(FIRST_SEQUENCE), 0, "the directory was formatted, but its log is missing"
            )
        return segments
    if segments and IDENTITY_DRAFT not in names:
        raise LogDamaged(
            directory / IDENTITY_FILE, 0, "the directory holds a log, but the file that says whose is missing"
        )
    raise NotFormatted(directory)


def _remove_what_was_begun(disk: Disk, directory: Path) -> None:
    """What an earlier formatting that was cut short has left; the draft of the identity, which says so, goes last."""
    first = directory / segment_name(FIRST_SEQUENCE)
    for path in (directory / DRAFT_NAME, first):
        remove_draft(disk, path)
    with disk_operation("sync", directory):
        disk.sync_directory(directory)
    remove_draft(disk, directory / IDENTITY_DRAFT)


def _first_segment(identity: Identity, base: Base | None) -> bytes:
    header, crc = encode_segment_header(segment_header(identity, FIRST_SEQUENCE, 0, LogEnd()))
    drops = base is not None and base.index > 0
    frame, _ = encode_frame(frame_seed(identity), FIRST_SEQUENCE, crc, encode_record(None, (), base, drops=drops))
    return header + frame
