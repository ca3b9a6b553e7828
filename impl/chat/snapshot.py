"""A snapshot of the chat state: taken while the machine goes on applying, and made into a database again.

Theory of operation
-------------------
*Taking.* ``StateSnapshot`` holds a second connection with a read transaction that began between two batches. SQLite's
write-ahead log gives it the state of that moment for as long as it is open, and the writer is not held up: new pages
go to the ``-wal`` file, where this reader does not look. The price is that the ``-wal`` file grows, so the machine
ends a snapshot that has cost too much (``SnapshotAbandoned`` for whoever reads it). A machine in memory has no second
connection; there the state is copied, which is what tests and simulations need.

One lock stands between the thread that reads and the one that ends the snapshot; it is held for a few dozen rows at a
time.

*Making.* ``prepare_state`` reads a snapshot into a new database beside the old one, which is not touched: its tables
have all their constraints, and when everything is in, the digest of what is now *in the tables* is compared with the
one that was exported. Only a database that passed, synced to the disk with its name, is a ``PreparedState``; putting
it into the old one's place is a rename (``place_database``). A crash before that leaves a stale file that the next
attempt removes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from sqlite_utils import Database

from impl.chat.database import COMPANIONS, IN_MEMORY, Origin, create_tables, open_reader
from impl.chat.logical_state import (
    LOGICAL_TABLES,
    RETENTION_MS,
    ROWS_AT_ONCE,
    Digest,
    LogicalTable,
    ProgressRow,
    Rows,
    digest_of,
    encode_rows,
    progress_of,
)
from impl.chat.snapshot_format import (
    BLOCK_BYTES,
    FOOTER,
    MAGIC,
    ROWS,
    SNAPSHOT_FORMAT,
    Block,
    Footer,
    Header,
    SnapshotUnusable,
    array_of,
    decode_footer,
    decode_header,
    encode_footer,
    encode_header,
    encode_rows_block,
    read_blocks,
)
from impl.storage.disk import Disk, RealDisk

NEW_SUFFIX: Final = ".new"
"""``chat.db.new`` is a database in the making, or one that waits to be put into place."""

IMPORT_CACHE_KIB: Final = 32 * 1024
"""Pages of the new database kept in memory while it is filled: its indexes are filled out of order."""


class SnapshotAbandoned(Exception):
    """A snapshot ended before it was read: the machine went on, was closed, or got another state. Take a new one."""


# --- taking ------------------------------------------------------------------------------------------------------


class StateSnapshot:
    """The state at one applied index, to be read once, in any one thread, while the machine goes on.

    Made by ``ChatStateMachine.open_snapshot``. Close it, or use it as a context manager: an open one holds on to disk
    space. Reading it to the end closes it, too.
    """

    def __init__(self, connection: sqlite3.Connection, origin: Origin, horizon_ms: int) -> None:
        """``connection`` sees the state in question and becomes the snapshot's own. ``horizon_ms``: log time before
        which answers have expired."""
        self._connection = connection
        self._origin = origin
        self._horizon_ms = horizon_ms
        self._lock = threading.Lock()
        self._ended = ""
        self._started = False
        self.progress: Final[ProgressRow] = progress_of(connection)

    @classmethod
    def of(cls, database: Database, path: Path | None, origin: Origin, horizon_ms: int) -> StateSnapshot:
        """The state as it is now; ``path`` is that of the database, or None for one in memory."""
        if path is not None:
            return cls(open_reader(path), origin, horizon_ms)
        copy = sqlite3.connect(IN_MEMORY, isolation_level=None, check_same_thread=False)
        database.conn.backup(copy)
        return cls(copy, origin, horizon_ms)

    @property
    def applied_index(self) -> int:
        """The index of the last entry in this state."""
        return self.progress.applied_index

    @property
    def applied_term(self) -> int:
        """The term of the last entry in this state."""
        return self.progress.applied_term

    @property
    def is_open(self) -> bool:
        return not self._ended

    def __enter__(self) -> StateSnapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the state; harmless when it is done already. For any thread."""
        self.end("it was closed")

    def end(self, reason: str) -> None:
        """Close, saying why: whoever goes on reading gets ``SnapshotAbandoned``. Waits for the rows being read."""
        with self._lock:
            if not self._ended:
                self._ended = reason
                self._connection.close()

    def blocks(self) -> Iterator[bytes]:
        """The state as a stream of blocks of about ``BLOCK_BYTES``, see ``snapshot_format``. Once.

        Raises ``SnapshotAbandoned`` when the snapshot ended meanwhile, ``sqlite3.Error`` when the file cannot be read.
        """
        if self._started:
            raise ValueError("a snapshot is read once: open another one")
        self._started = True
        try:
            yield encode_header(
                Header(MAGIC, SNAPSHOT_FORMAT, self._origin.cluster, self._origin.group, *self.progress)
            )
            digest = Digest(self.progress)
            counts = []
            for number, table in enumerate(LOGICAL_TABLES):
                count = 0
                for rows in self._in_blocks(table):
                    digest.add(rows.data)
                    count += rows.number
                    yield encode_rows_block(number, rows.number, rows.data)
                digest.end_table()
                counts.append(count)
            yield encode_footer(Footer(tuple(counts), digest.hexdigest()))
        finally:
            self.close()

    def write_to(self, write: Callable[[bytes], object]) -> int:
        """Pass all blocks to ``write`` and close. Returns how many bytes these were. Raises as ``blocks`` does."""
        total = 0
        for block in self.blocks():
            write(block)
            total += len(block)
        return total

    def _in_blocks(self, table: LogicalTable) -> Iterator[Rows]:
        """The rows of one table, as many together as make a block."""
        pending: list[memoryview] = []
        count = size = 0
        for rows in self._fetched(table):
            pending.append(rows.data)
            count += rows.number
            size += len(rows.data)
            if size >= BLOCK_BYTES:
                yield Rows(count, memoryview(b"".join(pending)))
                pending, count, size = [], 0, 0
        if count:
            yield Rows(count, memoryview(b"".join(pending)))

    def _fetched(self, table: LogicalTable) -> Iterator[Rows]:
        cursor: sqlite3.Cursor | None = None
        while True:
            with self._lock:
                if self._ended:
                    raise SnapshotAbandoned(
                        f"the snapshot of entry {self.applied_index} cannot be read any further: {self._ended}"
                    )
                if cursor is None:
                    cursor = self._connection.execute(table.select, {"horizon_ms": self._horizon_ms})
                fetched = cursor.fetchmany(ROWS_AT_ONCE)
            if not fetched:
                return
            yield encode_rows(fetched)


# --- making ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PreparedState:
    """A complete database that was made from a snapshot, checked and durable, but not yet in place.

    ``path`` is where it is now, None for one in memory. ``digest`` is that of the logical state.
    """

    origin: Origin
    progress: ProgressRow
    digest: str
    path: Path | None
    database: sqlite3.Connection | None = None

    @property
    def applied_index(self) -> int:
        """The index of the last entry in this state."""
        return self.progress.applied_index

    def discard(self, disk: Disk | None = None) -> None:
        """Remove it, when it is not wanted after all. Raises ``OSError``."""
        if self.database is not None:
            self.database.close()
        if self.path is not None:
            remove_database(disk or RealDisk(), self.path)


def prepare_state(
    path: str | Path, blocks: Iterable[bytes] | None, origin: Origin, disk: Disk | None = None
) -> PreparedState:
    """Make a database from a snapshot, for the place of the one at ``path``; that one is neither read nor touched.

    ``blocks`` is the stream in pieces of any size; None makes the state before the first entry. One call at a time for
    one ``path``; it may run while a machine works on the database there. Takes about as much disk space as the
    database will have, and a few dozen megabytes of memory.

    Raises ``SnapshotUnusable`` saying what is wrong with the snapshot, ``sqlite3.Error`` or ``OSError`` when the new
    file cannot be written, and what ``blocks`` raises. Nothing stays behind then.
    """
    disk = disk or RealDisk()
    new = None if str(path) == IN_MEMORY else Path(path).with_name(Path(path).name + NEW_SUFFIX)
    if new is not None:
        remove_database(disk, new)  # a crash may have left one
    connection = sqlite3.connect(new or IN_MEMORY, isolation_level=None, check_same_thread=False)
    try:
        try:
            progress, digest = _fill(connection, blocks, origin)
            if new is None:
                connection.execute("PRAGMA journal_mode = MEMORY")  # from now on a batch may be taken back
                connection.isolation_level = "DEFERRED"  # what sqlite-utils wants
                return PreparedState(origin, progress, digest, None, connection)
            connection.execute("PRAGMA journal_mode = WAL")  # a property of the file, as the machine wants it
        except BaseException:
            connection.close()
            raise
        connection.close()
        file = disk.open_file(new)
        try:
            file.sync()
        finally:
            file.close()
        disk.sync_directory(new.parent)
    except BaseException:
        if new is not None:
            with suppress(OSError):  # the next attempt removes it; the error that counts is the first one
                remove_database(disk, new)
        raise
    return PreparedState(origin, progress, digest, new)


def place_database(disk: Disk, new: Path, path: Path) -> None:
    """Put the complete database ``new`` into the place of the one at ``path``, which nobody has open.

    After a crash at any point there is the old one or the new one, whole: the old one's companions are gone for good
    before the new one takes its name, because SQLite would replay them into it. Raises ``OSError``.
    """
    _remove_all(disk, path, COMPANIONS)
    disk.sync_directory(path.parent)
    disk.rename(new, path)
    disk.sync_directory(path.parent)


def remove_database(disk: Disk, path: Path) -> None:
    """Remove a database and its companions, as far as they are there. Raises ``OSError``."""
    _remove_all(disk, path, (*COMPANIONS, ""))


def _remove_all(disk: Disk, path: Path, suffixes: Iterable[str]) -> None:
    for suffix in suffixes:
        with suppress(FileNotFoundError):
            disk.remove(path.with_name(path.name + suffix))


def _fill(connection: sqlite3.Connection, blocks: Iterable[bytes] | None, origin: Origin) -> tuple[ProgressRow, str]:
    """Fill an empty database from a snapshot, or with the state before the first entry."""
    # Until it is complete and synced it counts for nothing, so it needs no protection of its own.
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute(f"PRAGMA cache_size = -{IMPORT_CACHE_KIB}")
    connection.execute("BEGIN")
    create_tables(connection, origin)
    footer = None if blocks is None else _load(connection, blocks, origin)
    connection.execute("COMMIT")
    progress = progress_of(connection)
    digest = digest_of(connection, progress.time_ms - RETENTION_MS)
    if footer is not None and footer.digest != digest:
        raise SnapshotUnusable(
            f"the snapshot of entry {progress.applied_index} does not hold the state that was exported (digest "
            f"{digest} instead of {footer.digest}): take a new one on another node"
        )
    return progress, digest


def _load(connection: sqlite3.Connection, pieces: Iterable[bytes], origin: Origin) -> Footer:
    """Insert everything in the stream, checking that it is whole and in order. Returns its footer."""
    stream = read_blocks(pieces)
    first = next(stream, None)
    if first is None:
        raise SnapshotUnusable("the snapshot is empty: fetch it again")
    header = decode_header(first)
    if (header.cluster, header.group) != (origin.cluster, origin.group):
        raise SnapshotUnusable(
            f"the snapshot is that of group {header.group} of cluster {header.cluster!r}, and this node belongs to "
            f"{origin}: take one of its own cluster"
        )
    progress = ProgressRow(header.applied_index, header.applied_term, header.last_id, header.time_ms, header.users)
    _insert(
        connection, first, f"UPDATE progress SET {', '.join(f'{name} = ?' for name in progress._fields)}", [progress]
    )
    counts = [0] * len(LOGICAL_TABLES)
    reached = 0
    footer: Footer | None = None
    for block in stream:
        if footer is not None:
            raise SnapshotUnusable(f"{block.place} stands behind the end of the snapshot: fetch it again")
        if block.kind == FOOTER:
            footer = decode_footer(block)
            continue
        if block.kind != ROWS or not block.content or not reached <= block.content[0] < len(LOGICAL_TABLES):
            raise SnapshotUnusable(f"{block.place} is out of place: fetch the snapshot again")
        reached = block.content[0]
        counts[reached] += _insert_rows(connection, block, LOGICAL_TABLES[reached])
    if footer is None:
        raise SnapshotUnusable("the snapshot has no end: fetch it again")
    if footer.rows != tuple(counts):
        raise SnapshotUnusable(
            f"the snapshot has {counts} rows by table, and {footer.rows} were exported: fetch it again"
        )
    return footer


def _insert_rows(connection: sqlite3.Connection, block: Block, table: LogicalTable) -> int:
    try:
        rows = table.rows.decode(array_of(block.content))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotUnusable(f"{block.place} does not hold rows of the table {table.name}: {error}") from error
    _insert(connection, block, table.insert, rows)
    return len(rows)


def _insert(connection: sqlite3.Connection, block: Block, statement: str, rows: list[tuple[object, ...]]) -> None:
    try:
        connection.executemany(statement, rows)
    except (sqlite3.IntegrityError, OverflowError) as error:
        raise SnapshotUnusable(f"{block.place} holds what cannot be ({error}): take a new snapshot") from error
