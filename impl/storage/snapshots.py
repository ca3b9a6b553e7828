"""Snapshots on disk: one file each, written once, checked whenever it is read.

Theory of operation
-------------------
The file ``snapshot-<index>-<term>`` stands in for the log up to that index::

    header  = magic (8 bytes) | length (4, big-endian, of the body) | CRC32C of the body (4) | body, a ``Header``
    block   = length (4, not 0) | CRC32C (4) | data
    footer  = 0 (4) | CRC32C (4) | number of blocks (8) | length of the payload (8)

The CRC of each block continues from the one before it, the first from that of the header, so a block that is whole but
stands in the wrong place does not fit. Damage is found at the block where it is, and named.

*Taking.* A draft is written, synced, renamed, and the directory synced: under its name a snapshot is complete.

*Sending.* A snapshot is read once and checked before the first piece of it goes out. One that is damaged is set aside
under another name and is missing from then on, so that a new one takes its place.

*Receiving.* The file travels as it is. What has come of it is in ``snapshot-<index>-<term>.part``. After a restart that
is read again and goes on behind the last block that is whole: a power loss may have torn what follows. When all is
there it is read once more and checked, synced, and gets its name. A part that turns out to be damaged is removed, and
the transfer begins again; so is one whose sync failed, because a second sync would prove nothing. The first piece of a
snapshot removes what came of others.

A full disk raises ``DiskFull``: what was begun is removed, what was there before is as it was.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

import google_crc32c
import msgspec

from impl.raft.messages import Base
from impl.storage.disk import Disk, DiskFile
from impl.storage.errors import DiskFull, FormatTooNew, SnapshotDamaged, SnapshotMissing, StorageFailed
from impl.storage.identity import Identity

MAGIC = b"tgrtsnap"
SNAPSHOT_FORMAT = 1

BLOCK_BYTES = 256 * 1024
"""Payload of one block: what is held in memory at a time, and lost to the search when one is damaged."""

MAX_HEADER_BYTES = 1024 * 1024
"""A configuration of the largest group is far below; a longer length is damage."""

MAX_PIECE_BYTES = 4 * 1024 * 1024
"""What is read or stored at once."""

PREFIX_BYTES = 8
FOOTER_BYTES = PREFIX_BYTES + 16
DRAFT_SUFFIX = ".draft"
PART_SUFFIX = ".part"
DAMAGED_SUFFIX = ".damaged"

_NAME = re.compile(r"snapshot-(\d{20})-(\d{20})")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Header(msgspec.Struct, frozen=True, array_like=True):
    """Whose state it is, and up to where."""

    format: int
    cluster: str
    group: int
    base: Base


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(Header)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A complete snapshot."""

    base: Base
    size_bytes: int  # of the file
    path: Path


@dataclass(frozen=True, slots=True)
class ReceivedSoFar:
    """How far a snapshot that is being received has come."""

    bytes: int  # from its beginning, without a gap
    complete: bool  # verified, durable, under its name


@dataclass(frozen=True, slots=True)
class SnapshotStoreStatistics:
    """Counters since the store was opened."""

    written: int  # snapshots taken here
    received: int  # snapshots completed from pieces
    started_over: int  # transfers that had to, because of damage
    set_aside: int  # snapshots found damaged


def snapshot_name(base: Base) -> str:
    return f"snapshot-{base.index:020}-{base.term:020}"


class SnapshotStore:
    """The snapshots of one replica, in a directory of their own. For any thread; one that writes at a time for each
    snapshot."""

    def __init__(self, disk: Disk, directory: Path, identity: Identity) -> None:
        """``identity`` is that of the data directory: a snapshot of another cluster or group is refused."""
        self._disk = disk
        self._directory = directory
        self._identity = identity
        self._verified: set[Path] = set()  # complete ones that were read through since the start
        self._parts: dict[Path, int] = {}  # bytes of those that are being received, whole blocks at the start
        self._names_durable = False
        self._lock = RLock()  # around these, and around whatever changes parts
        self._written = self._received = self._started_over = self._set_aside = 0

    # --- what is there -----------------------------------------------------------------------------------------------

    def newest(self) -> Snapshot | None:
        """The newest complete snapshot, None if there is none. Raises ``SnapshotDamaged``, ``FormatTooNew``."""
        names = [name for name in self._names() if _NAME.fullmatch(name)]
        if not names:
            return None
        self._make_names_durable()
        path = self._directory / max(names)
        with self._operation("read", path):
            header, _ = read_header(self._disk, path)
            size_bytes = self._disk.file_size(path)
        self._check_owner(path, header)
        return Snapshot(header.base, size_bytes, path)

    def read(self, base: Base, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        """At most so many bytes, and ``MAX_PIECE_BYTES``, of the file from ``offset``, and the size of the whole.

        Raises ``SnapshotMissing``, also for one that turns out to be damaged.
        """
        path = self._path(base)
        try:
            self._verify(path)
            with self._operation("read", path):
                return self._disk.read_at(path, offset, min(limit_bytes, MAX_PIECE_BYTES)), self._disk.file_size(path)
        except FileNotFoundError:
            raise SnapshotMissing(path) from None
        except SnapshotDamaged as damage:
            raise SnapshotMissing(path, str(damage)) from damage

    def _verify(self, path: Path) -> None:
        """Read a complete one through, once; set it aside if it is damaged, and raise ``SnapshotDamaged``."""
        with self._lock:
            if path in self._verified:
                return
            try:
                with self._operation("read", path):
                    for _ in payload(self._disk, path):
                        pass
            except SnapshotDamaged:
                with self._operation("rename", path):
                    self._disk.rename(path, path.with_name(path.name + DAMAGED_SUFFIX))
                    self._disk.sync_directory(self._directory)
                self._set_aside += 1
                raise
            self._verified.add(path)

    def open(self, base: Base) -> Iterator[bytes]:
        """The payload in pieces, each checked before it is given out. Raises ``SnapshotMissing``, and
        ``SnapshotDamaged`` where it is damaged."""
        path = self._path(base)
        try:
            with self._operation("read", path):
                header, _ = read_header(self._disk, path)
        except FileNotFoundError:
            raise SnapshotMissing(path) from None
        self._check_owner(path, header)
        if header.base != base:
            raise SnapshotDamaged(path, 0, "it says that it ends somewhere else")
        return payload(self._disk, path)

    # --- taking ------------------------------------------------------------------------------------------------------

    def create(self, base: Base) -> SnapshotWriter:
        """Begin a snapshot. Raises ``DiskFull``."""
        self._make_directory()
        header = Header(SNAPSHOT_FORMAT, self._identity.cluster, self._identity.group, base)
        return SnapshotWriter(self, self._disk, self._path(base), header)

    # --- receiving ---------------------------------------------------------------------------------------------------

    def received(self, base: Base) -> int:
        """How many bytes of this snapshot are here already."""
        with self._lock:
            with suppress(FileNotFoundError), self._operation("read", self._path(base)):
                return self._disk.file_size(self._path(base))
            part = self._part(base)
            if part not in self._parts:
                self._parts[part] = self._take_up(part)
            return self._parts[part]

    def _take_up(self, part: Path) -> int:
        """How much of a part from before a restart is whole; the rest is cut off."""
        with self._operation("read", part):
            try:
                have = whole_bytes(self._disk, part)
            except FileNotFoundError:
                return 0
        if have == 0:
            self._remove(part)
            return 0
        with self._operation("truncate", part):
            file = self._disk.open_file(part)
            try:
                file.truncate(have)
            finally:
                file.close()
        return have

    def store(self, base: Base, offset: int, data: bytes, total_bytes: int) -> ReceivedSoFar:
        """Put a piece where it belongs, if that is where the snapshot goes on; say how far it has come in any case.

        Raises ``DiskFull``, and then what is here is as before; ``ValueError`` for a piece above ``MAX_PIECE_BYTES``.
        """
        if len(data) > MAX_PIECE_BYTES:
            raise ValueError(f"a piece of {len(data)} bytes: at most {MAX_PIECE_BYTES} are taken at once")
        with self._lock:
            return self._store(base, offset, data, total_bytes)

    def _store(self, base: Base, offset: int, data: bytes, total_bytes: int) -> ReceivedSoFar:
        with suppress(FileNotFoundError), self._operation("read", self._path(base)):
            return ReceivedSoFar(self._disk.file_size(self._path(base)), True)
        part = self._part(base)
        have = self.received(base)
        if offset == have and data:
            self._make_directory()
            with self._operation("write", part, len(data)):
                if have == 0:
                    for name in self._names():
                        if name.endswith(PART_SUFFIX):
                            self._remove(self._directory / name)
                file = self._disk.open_file(part, create=have == 0)
                try:
                    file.write(offset, data)
                except OSError:
                    with suppress(OSError):
                        file.truncate(have)
                    raise
                finally:
                    file.close()
            have = self._parts[part] = have + len(data)
        if have < total_bytes:
            return ReceivedSoFar(have, False)
        if self._accept(base, part):
            self._received += 1
            return ReceivedSoFar(have, True)
        self._started_over += 1
        return ReceivedSoFar(0, False)

    def _accept(self, base: Base, part: Path) -> bool:
        """Check a snapshot that is all there and give it its name; one that is damaged is removed."""
        try:
            with self._operation("read", part):
                header, _ = read_header(self._disk, part)
                self._check_owner(part, header)
                if header.base != base:
                    raise SnapshotDamaged(part, 0, "it is not the snapshot that was announced")
                for _ in payload(self._disk, part):
                    pass
        except SnapshotDamaged:
            self._remove(part)
            return False
        try:
            with self._operation("sync", part):
                file = self._disk.open_file(part)
                try:
                    file.sync()
                finally:
                    file.close()
        except StorageFailed:
            self._remove(part)
            raise
        self._parts.pop(part, None)
        self.publish(part, self._path(base))
        return True

    def publish(self, draft: Path, path: Path) -> None:
        """Give a file that is complete and synced its name."""
        self._verified.discard(path)
        with self._operation("rename", path):
            self._disk.rename(draft, path)
            self._disk.sync_directory(self._directory)

    def statistics(self) -> SnapshotStoreStatistics:
        return SnapshotStoreStatistics(self._written, self._received, self._started_over, self._set_aside)

    def retain(self, newest: int) -> None:
        """Remove snapshots that end before index ``newest``, and what was begun of others up to there."""
        for name in self._names():
            stem = name.removesuffix(PART_SUFFIX).removesuffix(DRAFT_SUFFIX)
            match = _NAME.fullmatch(stem)
            if match and (int(match[1]) < newest or (stem != name and int(match[1]) <= newest)):
                self._remove(self._directory / name)

    # --- behind the scenes -------------------------------------------------------------------------------------------

    def _path(self, base: Base) -> Path:
        return self._directory / snapshot_name(base)

    def _part(self, base: Base) -> Path:
        return self._directory / (snapshot_name(base) + PART_SUFFIX)

    def _names(self) -> list[str]:
        with self._operation("list", self._directory):
            try:
                return self._disk.list_directory(self._directory)
            except FileNotFoundError:
                return []

    def _make_directory(self) -> None:
        with self._operation("make", self._directory), suppress(FileExistsError):
            self._disk.make_directory(self._directory)
        self._make_names_durable()

    def _make_names_durable(self) -> None:
        """Once, of what a process before this one may have left unsynced, and of the directory itself."""
        if not self._names_durable:
            with self._operation("sync", self._directory):
                self._disk.sync_directory(self._directory.parent)
                self._disk.sync_directory(self._directory)
            self._names_durable = True

    def _remove(self, path: Path) -> None:
        self._parts.pop(path, None)
        self._verified.discard(path)
        with self._operation("remove", path), suppress(FileNotFoundError):
            self._disk.remove(path)

    def _check_owner(self, path: Path, header: Header) -> None:
        if (header.cluster, header.group) != (self._identity.cluster, self._identity.group):
            raise SnapshotDamaged(path, 0, f"it is that of group {header.group} of cluster {header.cluster!r}")

    @contextmanager
    def _operation(self, operation: str, path: Path, needed_bytes: int = 0) -> Iterator[None]:
        """Say what failed: no room, or the disk. A file that is not there is left to the caller."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in _FULL:
                raise DiskFull(path, needed_bytes, error) from error
            raise StorageFailed(operation, path, error) from error


class SnapshotWriter:
    """A snapshot that is being taken. ``finish`` or ``abort`` ends it."""

    def __init__(self, store: SnapshotStore, disk: Disk, path: Path, header: Header) -> None:
        self._store = store
        self._disk = disk
        self._path = path
        self._draft = path.with_name(path.name + DRAFT_SUFFIX)
        self._header = header
        self._pending = bytearray()
        self._blocks = self._payload_bytes = self._offset = 0
        self._file: DiskFile | None = None
        with store._operation("create", self._draft):
            with suppress(FileNotFoundError):
                disk.remove(self._draft)
            self._file = disk.open_file(self._draft, create=True)
        body = _encoder.encode(header)
        self._crc = int(google_crc32c.value(body))
        self._put(MAGIC + len(body).to_bytes(4, "big") + self._crc.to_bytes(4, "big") + body)

    def write(self, data: bytes) -> None:
        """Append to the payload. Raises ``DiskFull``: then call ``abort``."""
        self._pending += data
        while len(self._pending) >= BLOCK_BYTES:
            self._put_block(bytes(self._pending[:BLOCK_BYTES]))
            del self._pending[:BLOCK_BYTES]

    def finish(self) -> Snapshot:
        """Make it durable and give it its name."""
        if self._pending:
            self._put_block(bytes(self._pending))
        counts = self._blocks.to_bytes(8, "big") + self._payload_bytes.to_bytes(8, "big")
        crc = int(google_crc32c.extend(self._crc, counts))
        self._put(bytes(4) + crc.to_bytes(4, "big") + counts)
        assert self._file is not None
        with self._store._operation("sync", self._draft):
            self._file.sync()
        self._file.close()
        self._file = None
        self._store.publish(self._draft, self._path)
        self._store._written += 1
        return Snapshot(self._header.base, self._offset, self._path)

    def abort(self) -> None:
        """Drop it; harmless after ``finish``."""
        if self._file is not None:
            self._file.close()
            self._file = None
            with suppress(OSError):  # what remains is removed with the next snapshot
                self._disk.remove(self._draft)

    def _put_block(self, data: bytes) -> None:
        self._crc = int(google_crc32c.extend(self._crc, data))
        self._put(len(data).to_bytes(4, "big") + self._crc.to_bytes(4, "big") + data)
        self._blocks += 1
        self._payload_bytes += len(data)

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        with self._store._operation("write", self._draft, len(data)):
            self._file.write(self._offset, data)
        self._offset += len(data)


def read_header(disk: Disk, path: Path) -> tuple[Header, int]:
    """The header, and where it ends. Raises ``SnapshotDamaged``, ``FormatTooNew``, and ``OSError``."""
    start = disk.read_at(path, 0, len(MAGIC) + PREFIX_BYTES)
    length = int.from_bytes(start[8:12], "big")
    if start[:8] != MAGIC or len(start) < len(MAGIC) + PREFIX_BYTES or length > MAX_HEADER_BYTES:
        raise SnapshotDamaged(path, 0, "it does not begin like a snapshot")
    body = disk.read_at(path, len(start), length)
    if len(body) < length or int(google_crc32c.value(body)) != int.from_bytes(start[12:16], "big"):
        raise SnapshotDamaged(path, len(start), "its header fails its checksum")
    try:
        found = msgspec.msgpack.decode(body)[0]
        if isinstance(found, int) and found > SNAPSHOT_FORMAT:
            raise FormatTooNew(path, found, SNAPSHOT_FORMAT)
        return _header_decoder.decode(body), len(start) + length
    except (msgspec.MsgspecError, IndexError, TypeError) as error:
        raise SnapshotDamaged(path, len(start), f"its header cannot be read: {error}") from error


def whole_bytes(disk: Disk, path: Path) -> int:
    """How many bytes from the beginning are whole: header, blocks, footer. Raises ``OSError``, ``FormatTooNew``."""
    try:
        _, whole = read_header(disk, path)
        for block in payload(disk, path):
            whole += PREFIX_BYTES + len(block)
        return whole + FOOTER_BYTES
    except SnapshotDamaged as damage:
        return damage.offset if damage.offset > len(MAGIC) + PREFIX_BYTES else 0


def payload(disk: Disk, path: Path) -> Iterator[bytes]:
    """The payload, block by block, each checked. Raises ``SnapshotDamaged`` naming the block, and ``OSError``."""
    _, offset = read_header(disk, path)
    start = disk.read_at(path, 0, len(MAGIC) + PREFIX_BYTES)
    crc = int.from_bytes(start[12:16], "big")
    blocks = payload_bytes = 0
    while True:
        prefix = disk.read_at(path, offset, PREFIX_BYTES)
        length, said = int.from_bytes(prefix[:4], "big"), int.from_bytes(prefix[4:], "big")
        if len(prefix) < PREFIX_BYTES or length > BLOCK_BYTES:
            raise SnapshotDamaged(path, offset, f"block {blocks + 1} is cut off or has no possible length")
        data = disk.read_at(path, offset + PREFIX_BYTES, length or 16)
        crc = int(google_crc32c.extend(crc, data))
        if len(data) < (length or 16) or crc != said:
            raise SnapshotDamaged(path, offset, f"block {blocks + 1} fails its checksum")
        offset += PREFIX_BYTES + len(data)
        if length == 0:
            break
        blocks += 1
        payload_bytes += length
        yield data
    if (int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")) != (blocks, payload_bytes):
        raise SnapshotDamaged(path, offset, "its footer counts other blocks than there are")
    if disk.file_size(path) != offset:
        raise SnapshotDamaged(path, offset, "something stands behind its end")
