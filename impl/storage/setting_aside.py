"""Giving up a damaged directory without losing it: what is there is kept beside, and the node joins its group anew.

Theory of operation
-------------------
A log that has lost what it had acknowledged can be repaired from the other members, but not in place: this node might
vote a second time in a term, or count as having entries that it has no more. So the directory is formatted for another
*incarnation* of the node, one that has promised nothing. Its group does not count it until it has been removed and
added again; then it gets everything from its peers.

Everything that belongs to the node moves into a folder ``damaged-<n>``: state, segments, oldest first, snapshots, and
the file ``identity`` last. Cut short by a crash it can simply be done again: as long as ``identity`` is there the
directory is refused as damaged, and without it as not formatted, and then it is formatted to join like any other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from impl.raft.messages import Base
from impl.storage.codec import (
    MAX_SEGMENT_BODY_BYTES,
    SEGMENT_PREAMBLE_BYTES,
    NewerFormat,
    NotRecognised,
    OlderFormat,
    decode_segment_header,
    first_sequence_of,
)
from impl.storage.disk import Disk
from impl.storage.errors import LogDamaged, NotFormatted, disk_operation
from impl.storage.formatting import DEFAULT_SEGMENT_BYTES, format_directory
from impl.storage.identity import IDENTITY_FILE, Identity, lock_directory, new_incarnation, read_identity

FOLDER = re.compile(r"damaged-(\d+)", re.ASCII)

OURS = ("log-", "log.", "chat.db", "snapshots", "identity")
"""How the names begin of what a node keeps in its directory."""

_HEADER_BYTES = SEGMENT_PREAMBLE_BYTES + MAX_SEGMENT_BODY_BYTES + 8


@dataclass(frozen=True)
class SetAside:
    """What was done."""

    folder: Path  # where everything is now
    before: Identity
    after: Identity  # the same node, another incarnation


def set_aside(disk: Disk, directory: Path, *, segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> SetAside:
    """Move the node's files into a folder beside, and format the directory as one that is to join its group.

    Raises ``NotFormatted`` (nothing is there), ``LogDamaged`` (neither identity nor segments say whose it is),
    ``DirectoryInUse``, ``DiskFull``, ``StorageFailed``.
    """
    lock = lock_directory(disk, directory)
    try:
        with disk_operation("list", directory):
            names = disk.list_directory(directory)
        before = _whose(disk, directory, names)
        number = 1 + max((int(match[1]) for name in names if (match := FOLDER.fullmatch(name))), default=0)
        folder = directory / f"damaged-{number}"
        with disk_operation("make", folder):
            disk.make_directory(folder)
            disk.sync_directory(directory)
        moving = [name for name in names if name.startswith(OURS)]
        for name in sorted(moving, key=lambda name: (name == IDENTITY_FILE, name)):
            with disk_operation("move", directory / name):
                disk.rename(directory / name, folder / name)
        with disk_operation("sync", folder):
            disk.sync_directory(folder)
            disk.sync_directory(directory)
    finally:
        lock.release()
    after = replace_incarnation(before)
    format_directory(disk, directory, after, Base(), segment_bytes=segment_bytes)
    return SetAside(folder, before, after)


def replace_incarnation(identity: Identity) -> Identity:
    return Identity(identity.cluster, identity.node_id, identity.group, new_incarnation())


def _whose(disk: Disk, directory: Path, names: list[str]) -> Identity:
    """As the identity file says, or else any segment that can be read."""
    unreadable: LogDamaged | None = None
    try:
        found = read_identity(disk, directory)
    except LogDamaged as error:
        found, unreadable = None, error
    if found is not None:
        return found
    segments = [name for name in names if first_sequence_of(name) is not None]
    for name in segments:
        with disk_operation("read", directory / name):
            beginning = disk.read_at(directory / name, 0, _HEADER_BYTES)
        try:
            return decode_segment_header(beginning)[0].identity
        except (NotRecognised, NewerFormat, OlderFormat):
            continue
    if unreadable is None and not segments:
        raise NotFormatted(directory)
    raise unreadable or LogDamaged(directory / IDENTITY_FILE, 0, "neither it nor a segment says whose directory it is")
