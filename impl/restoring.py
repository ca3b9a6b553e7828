"""``telegraft restore``: a new group that begins with the state of a backup.

Theory of operation
-------------------
A backup is a snapshot file of the group that was. Every founding member of the new group is made from the same backup,
each with its own configuration: a data directory that is formatted with the base at which the snapshot ends, in which
the new members stand in for the old ones, and the state as a snapshot of the new group. The members' incarnations
follow from the backup and the name of the new cluster, so that all of them agree without speaking to each other, and
nobody of the old group, should a node of it still run, is taken for one of them.

Everything is made beside the place where it belongs and put there by one rename, so a restore that is cut short leaves
nothing that would start.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from impl.chat.database import Origin, open_reader
from impl.chat.logical_state import RETENTION_MS
from impl.chat.snapshot import StateSnapshot, prepare_state
from impl.config import NodeConfig
from impl.node.opening import DATABASE, SNAPSHOTS
from impl.raft.configuration import founding
from impl.raft.messages import Base, Configuration, HardState, NodeId
from impl.storage.disk import Disk, RealDisk
from impl.storage.formatting import format_directory
from impl.storage.identity import Identity
from impl.storage.snapshots import SnapshotStore, payload, read_header
from impl.storage.wal import Wal

MAKING_SUFFIX = ".restoring"

HASH_BYTES = 1024 * 1024


class CannotRestore(Exception):
    """The restore is refused; the message says why and what to do. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was made."""

    cluster_before: str
    index: int
    voters: tuple[NodeId, ...]


def restore(config: NodeConfig, backup: Path, *, same_name: bool = False, disk: Disk | None = None) -> Restored:
    """Make the data directory of one founding member out of a backup.

    Raises ``CannotRestore``, ``StorageError`` and ``SnapshotUnusable``.
    """
    disk = disk or RealDisk()
    if not backup.is_file():
        raise CannotRestore(f"{backup} is not there: name a file that `telegraft backup` has written")
    header, _ = read_header(disk, backup)
    if header.cluster == config.cluster and not same_name:
        raise CannotRestore(
            f"the backup is of a cluster that is called {header.cluster!r} too: choose another name in the "
            "configuration, so that nodes and clients of the old one cannot take the new one for it; or, if the old "
            "one is gone for good, say --same-name"
        )
    target = config.data_dir
    if target.exists() and any(target.iterdir()):
        raise CannotRestore(f"{target} is not empty: move it away, or name another data_dir")
    making = target.with_name(target.name + MAKING_SUFFIX)
    if making.exists():
        raise CannotRestore(f"{making} is left of a restore that was cut short: remove it, and restore again")
    configuration = members_of(config, digest_of(backup))
    member = configuration.member(config.node_id)
    assert member is not None
    identity = Identity(config.cluster, config.node_id, header.group, member.incarnation)
    base = Base(header.base.index, header.base.term, configuration)
    format_directory(disk, making, identity, base)
    remember_term(disk, making, identity, base.term)
    take_over(disk, making, backup, Origin(header.cluster, header.group), identity, base)
    if target.exists():
        target.rmdir()
    disk.rename(making, target)
    disk.sync_directory(target.parent)
    return Restored(header.cluster, base.index, config.voters)


def digest_of(backup: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    with backup.open("rb") as file:
        while piece := file.read(HASH_BYTES):
            digest.update(piece)
    return digest.digest()


def members_of(config: NodeConfig, digest: bytes) -> Configuration:
    """The new group: the voters of the configuration, with incarnations that are those of no other group."""
    group = founding(config.voters)

    def incarnation(node_id: NodeId) -> int:
        named = hashlib.blake2b(f"{config.cluster} {node_id} ".encode() + digest, digest_size=8).digest()
        return (int.from_bytes(named, "big") >> 1) | 2  # below 2^63, and never that of a founding member

    members = tuple(
        msgspec.structs.replace(member, incarnation=incarnation(member.node_id)) for member in group.members
    )
    return msgspec.structs.replace(group, members=members)


def remember_term(disk: Disk, directory: Path, identity: Identity, term: int) -> None:
    """The term that the state is of, so that the new group's terms go on from it."""
    wal, _ = Wal.open(disk, directory, identity, format_new=False)
    try:
        wal.append(HardState(term), [])
        wal.sync()
    finally:
        wal.close()


def take_over(disk: Disk, directory: Path, backup: Path, before: Origin, identity: Identity, base: Base) -> None:
    """Write the backup's state as a snapshot of the new group; what is in it is checked on the way."""
    origin = Origin(identity.cluster, identity.group, identity.incarnation)
    prepared = prepare_state(directory / DATABASE, payload(disk, backup), before, disk)
    try:
        assert prepared.path is not None
        horizon_ms = prepared.progress.time_ms - RETENTION_MS
        writer = SnapshotStore(disk, directory / SNAPSHOTS, identity).create(base)
        try:
            with StateSnapshot(open_reader(prepared.path), origin, horizon_ms) as state:
                state.write_to(writer.write)
            writer.finish()
        except BaseException:
            writer.abort()
            raise
    finally:
        prepared.discard(disk)
