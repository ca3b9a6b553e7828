"""To whom a data directory belongs, and the claim to it.

Theory of operation
-------------------
A node that starts in another node's directory would vote with that node's memory, or overwrite it. So the first start
writes down the cluster, node id and group in the file ``identity``, before anything else is stored, and every later
start compares. The file is made under another name, synced, renamed and its directory synced: after a crash it is
there entirely or not at all. It is one line of JSON, for people, and one with its checksum. The lock file beside it
keeps a second process out; the system releases it when the holder ends, so there are no stale locks to clear by hand.

The lock and the identity are for the whole directory: whoever opened the log owns the files of others (the chat
state) there too.
"""

from __future__ import annotations

import errno
from pathlib import Path

import google_crc32c
import msgspec

from impl.storage.disk import AlreadyLocked, Disk, DiskLock
from impl.storage.errors import DirectoryInUse, FormatTooNew, LogDamaged, WrongIdentity, disk_operation

LOCK_FILE = "lock"
IDENTITY_FILE = "identity"
IDENTITY_DRAFT = "identity.draft"

IDENTITY_FORMAT = 1

#: Directories further up that answer a sync like this are the system's: a first start has not made them.
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL)

#: The name is in every segment header, which has to stay small.
MAX_CLUSTER_NAME_BYTES = 255


class Identity(msgspec.Struct, frozen=True):
    """One replica of one Raft group: what a data directory belongs to."""

    cluster: str  # 1 to MAX_CLUSTER_NAME_BYTES bytes in UTF-8
    node_id: int  # positive
    group: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.cluster.encode()) <= MAX_CLUSTER_NAME_BYTES:
            raise ValueError(f"a cluster name has 1 to {MAX_CLUSTER_NAME_BYTES} bytes, not {self.cluster!r}")
        if self.node_id < 1:
            raise ValueError(f"a node id is positive, not {self.node_id}")
        if self.group < 0:
            raise ValueError(f"a group is not negative, like {self.group}")

    def __str__(self) -> str:
        return f"node {self.node_id}, group {self.group}, of cluster {self.cluster!r}"


class _IdentityLine(msgspec.Struct, frozen=True):
    format: int
    cluster: str
    node_id: int
    group: int


def encode_identity(identity: Identity, *, version: int = IDENTITY_FORMAT) -> bytes:
    """The content of the identity file."""
    line = msgspec.json.encode(_IdentityLine(version, identity.cluster, identity.node_id, identity.group))
    return line + b"\n" + _checksum_line(line)


def decode_identity(file: Path, content: bytes) -> Identity:
    """The inverse. Raises ``LogDamaged`` or ``FormatTooNew``, naming ``file``."""
    line, _, checksum_line = content.partition(b"\n")
    if checksum_line != _checksum_line(line):
        raise LogDamaged(file, 0, "the identity of the node does not match its checksum")
    try:
        if (found := msgspec.json.decode(line, type=_FormatOnly).format) > IDENTITY_FORMAT:
            raise FormatTooNew(file, found, IDENTITY_FORMAT)
        decoded = msgspec.json.decode(line, type=_IdentityLine)
        return Identity(decoded.cluster, decoded.node_id, decoded.group)
    except ValueError as error:  # msgspec's errors are ValueErrors too
        raise LogDamaged(file, 0, f"the identity of the node cannot be read: {error}") from error


class _FormatOnly(msgspec.Struct, frozen=True):
    format: int


def _checksum_line(line: bytes) -> bytes:
    return b"crc32c %08x\n" % google_crc32c.value(line)


def lock_directory(disk: Disk, directory: Path) -> DiskLock:
    """Make the directory if it is not there, with its parents, and take its lock. Raises ``DirectoryInUse``."""
    _make_with_parents(disk, directory)
    lock_path = directory / LOCK_FILE
    try:
        with disk_operation("lock", lock_path):
            return disk.lock(lock_path)
    except AlreadyLocked as error:
        raise DirectoryInUse(directory, error.holder) from error


def check_identity(disk: Disk, directory: Path, identity: Identity, *, holds_log: bool) -> None:
    """Compare the identity file with ``identity``, or write it if this is the first start.

    Call with the lock held. ``holds_log``: the directory holds segments, so an identity must be there.
    Raises ``WrongIdentity``, ``LogDamaged``, ``FormatTooNew``, ``StorageFailed``.
    """
    file = directory / IDENTITY_FILE
    with disk_operation("list", directory):
        known = IDENTITY_FILE in disk.list_directory(directory)
    if known:
        with disk_operation("read", file):
            content = disk.read_file(file)
        found = decode_identity(file, content)
        if found != identity:
            raise WrongIdentity(file, str(found), str(identity))
    elif holds_log:
        raise LogDamaged(file, 0, "the directory holds a log, but the file that says whose is missing")
    else:
        _sync_parents(disk, directory)
        _write_identity(disk, directory, identity)


def _sync_parents(disk: Disk, directory: Path) -> None:
    """Make the directory itself durable: this process, or an earlier first start that was cut short, has made it."""
    for above in directory.parents:
        with disk_operation("sync", above):
            try:
                disk.sync_directory(above)
            except OSError as error:
                if error.errno in _NOT_OURS and above != directory.parent:
                    return
                raise


def _write_identity(disk: Disk, directory: Path, identity: Identity) -> None:
    draft = directory / IDENTITY_DRAFT
    with disk_operation("remove", draft):
        if IDENTITY_DRAFT in disk.list_directory(directory):
            disk.remove(draft)
    with disk_operation("create", draft):
        file = disk.open_file(draft, create=True)
    try:
        with disk_operation("write", draft):
            file.write(0, encode_identity(identity))
        with disk_operation("sync", draft):
            file.sync()
    finally:
        file.close()
    with disk_operation("rename", draft):
        disk.rename(draft, directory / IDENTITY_FILE)
    with disk_operation("sync", directory):
        disk.sync_directory(directory)


def _make_with_parents(disk: Disk, directory: Path) -> None:
    with disk_operation("make", directory):
        try:
            disk.list_directory(directory)
        except FileNotFoundError:
            if directory != directory.parent:
                _make_with_parents(disk, directory.parent)
            disk.make_directory(directory)
