"""To whom a data directory belongs, and the claim to it.

Theory of operation
-------------------
A node that starts in another node's directory would vote with that node's memory, or overwrite it. So the directory
is formatted (see ``formatting``): the file ``identity`` holds the cluster, node id, group and incarnation, and every
start compares. It is one line of JSON, for people, and one with its checksum. The lock file beside it keeps a second
process out; the system releases it when the holder ends, so there are no stale locks to clear by hand.

The *incarnation* names one data directory of a node. A node whose directory is lost comes back with another one under
the same node id, and its group, which knows members by both, does not count it for the one that had voted and
acknowledged before.

The lock and the identity are for the whole directory: whoever opened the log owns the files of others (the chat
state) there too.
"""

from __future__ import annotations

import errno
import secrets
from pathlib import Path

import google_crc32c
import msgspec

from impl.storage.disk import AlreadyLocked, Disk, DiskLock
from impl.storage.errors import (
    DirectoryInUse,
    FormatTooNew,
    FormatTooOld,
    LogDamaged,
    NotFormatted,
    StorageFailed,
    WrongIdentity,
    disk_operation,
)

LOCK_FILE = "lock"
IDENTITY_FILE = "identity"
IDENTITY_DRAFT = "identity.draft"

IDENTITY_FORMAT = 2

#: Directories further up that answer a sync like this are the system's: formatting has not made them.
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL)

FIRST_INCARNATION = 1

#: The name is in every segment header, which has to stay small.
MAX_CLUSTER_NAME_BYTES = 255


class Identity(msgspec.Struct, frozen=True):
    """One replica of one Raft group: what a data directory belongs to."""

    cluster: str  # 1 to MAX_CLUSTER_NAME_BYTES bytes in UTF-8
    node_id: int  # positive
    group: int = 0
    incarnation: int = FIRST_INCARNATION  # of founding members; a node that joins draws its own, see new_incarnation

    def __post_init__(self) -> None:
        if not 1 <= len(self.cluster.encode()) <= MAX_CLUSTER_NAME_BYTES:
            raise ValueError(f"a cluster name has 1 to {MAX_CLUSTER_NAME_BYTES} bytes, not {self.cluster!r}")
        if self.node_id < 1:
            raise ValueError(f"a node id is positive, not {self.node_id}")
        if self.group < 0:
            raise ValueError(f"a group is not negative, like {self.group}")
        if not 1 <= self.incarnation < 2**63:
            raise ValueError(f"an incarnation is from 1 to 2^63 - 1, not {self.incarnation}")

    def __str__(self) -> str:
        return f"node {self.node_id}, incarnation {self.incarnation}, group {self.group}, of cluster {self.cluster!r}"


def new_incarnation() -> int:
    """For a directory that is formatted to join a group: never drawn before, and not that of a founding member."""
    return FIRST_INCARNATION + 1 + secrets.randbelow(2**63 - FIRST_INCARNATION - 1)


class _IdentityLine(msgspec.Struct, frozen=True):
    format: int
    cluster: str
    node_id: int
    group: int
    incarnation: int


def encode_identity(identity: Identity, *, version: int = IDENTITY_FORMAT) -> bytes:
    """The content of the identity file."""
    line = msgspec.json.encode(
        _IdentityLine(version, identity.cluster, identity.node_id, identity.group, identity.incarnation)
    )
    return line + b"\n" + _checksum_line(line)


def decode_identity(file: Path, content: bytes) -> Identity:
    """The inverse. Raises ``LogDamaged``, ``FormatTooNew`` or ``FormatTooOld``, naming ``file``."""
    line, _, checksum_line = content.partition(b"\n")
    if checksum_line != _checksum_line(line):
        raise LogDamaged(file, 0, "the identity of the node does not match its checksum")
    try:
        if (found := msgspec.json.decode(line, type=_FormatOnly).format) > IDENTITY_FORMAT:
            raise FormatTooNew(file, found, IDENTITY_FORMAT)
        if found < IDENTITY_FORMAT:
            raise FormatTooOld(file, found, IDENTITY_FORMAT)
        decoded = msgspec.json.decode(line, type=_IdentityLine)
        return Identity(decoded.cluster, decoded.node_id, decoded.group, decoded.incarnation)
    except ValueError as error:  # msgspec's errors are ValueErrors too
        raise LogDamaged(file, 0, f"the identity of the node cannot be read: {error}") from error


class _FormatOnly(msgspec.Struct, frozen=True):
    format: int


def _checksum_line(line: bytes) -> bytes:
    return b"crc32c %08x\n" % google_crc32c.value(line)


def lock_directory(disk: Disk, directory: Path, *, make: bool = False) -> DiskLock:
    """Take the lock of the directory; with ``make``, make it if it is not there, with its parents.

    Raises ``DirectoryInUse``; ``NotFormatted`` if there is no directory.
    """
    if make:
        _make_with_parents(disk, directory)
    else:
        with disk_operation("list", directory):
            try:
                disk.list_directory(directory)
            except FileNotFoundError:
                raise NotFormatted(directory) from None
    lock_path = directory / LOCK_FILE
    try:
        with disk_operation("lock", lock_path):
            return disk.lock(lock_path)
    except AlreadyLocked as error:
        raise DirectoryInUse(directory, error.holder) from error


def read_identity(disk: Disk, directory: Path) -> Identity | None:
    """To whom the directory belongs; None if it has no identity file. Needs no lock.

    Raises ``LogDamaged``, ``FormatTooNew``, ``FormatTooOld``, ``StorageFailed``.
    """
    file = directory / IDENTITY_FILE
    try:
        content = disk.read_file(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageFailed("read", file, error) from error
    return decode_identity(file, content)


def check_identity(disk: Disk, directory: Path, identity: Identity) -> None:
    """Compare the identity file, which must be there, with ``identity``. Raises as ``read_identity``,
    and ``WrongIdentity``."""
    found = read_identity(disk, directory)
    if found != identity:
        raise WrongIdentity(directory / IDENTITY_FILE, str(found), str(identity))


def sync_parents(disk: Disk, directory: Path) -> None:
    """Make the directory itself durable: this process, or an earlier one that was cut short, has made it."""
    for above in directory.parents:
        with disk_operation("sync", above):
            try:
                disk.sync_directory(above)
            except OSError as error:
                if error.errno in _NOT_OURS and above != directory.parent:
                    return
                raise


def _make_with_parents(disk: Disk, directory: Path) -> None:
    with disk_operation("make", directory):
        try:
            disk.list_directory(directory)
        except FileNotFoundError:
            if directory != directory.parent:
                _make_with_parents(disk, directory.parent)
            disk.make_directory(directory)
