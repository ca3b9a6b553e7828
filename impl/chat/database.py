"""The file behind the chat state machine: its tables, how it is opened, and when it is refused.

Theory of operation
-------------------
The file holds *applied* state only. Everything in it follows from the Raft log, which is synced before anything is
applied, and this decides every setting:

- ``journal_mode=WAL`` with ``synchronous=NORMAL``: SQLite then syncs at checkpoints and not at commits. A power cut
  may take the last transactions back, never damage the file or split a transaction; the applied index goes back
  together with the effects, and the log is replayed from there. (``OFF`` would be a little faster, but a power cut
  could leave a damaged file.) A log that was shortened meanwhile may begin too late for that; then the newest
  snapshot stands in for the file.
- ``locking_mode=NORMAL``: one connection writes and checkpoints, for as long as the file is open, and a snapshot of
  the state is read through a second one. That one is read-only, and while it is open nothing is checkpointed
  (``hold_checkpoints``), so that never do two connections write or checkpoint at a time: the WAL-reset bug of SQLite
  3.7.0 to 3.51.2 takes two that do. Our own lock file keeps a second node out. Another program may look at the data of
  a running node (``sqlite3 -readonly chat.db``); if one has *written*, the state machine notices and stops.
- ``journal_size_limit``: what a long snapshot has made of the ``-wal`` file is given back afterwards.
- ``application_id`` and ``user_version`` in the header say whose file it is and which tables it has. A file of
  another program or of a newer release is refused before anything is written.
- The table ``origin`` says which cluster's state it is. The file of another cluster, like one that is damaged, is
  *not ours to go on with*, but can be made anew from snapshot and log: ``StateDamaged``, a kind of ``StateUnusable``.

SQLite keeps no checksums over its pages: what is found when a file is opened is damage to its structure. A bit that
flips inside a text at rest is found by comparing with what snapshot and log say (``impl.chat.verify``).

Tables are STRICT: a value of the wrong type is an error and not a surprise. sqlite-utils requires the connection's
legacy transaction mode, which is the default: transactions begin and end in ``Database.atomic``.

What the tables leave out is as deliberate: the length of a chat's log is ``max(seq)`` of its messages, an index
look-up, and not a counter beside them that could disagree.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from sqlite_utils import Database

from impl.storage.disk import AlreadyLocked, Disk, DiskLock

IN_MEMORY: Final = ":memory:"

APPLICATION_ID: Final = 0x54475254
"""``TGRT`` in ASCII: marks the file as ours (SQLite header, offset 68)."""

DATABASE_VERSION: Final = 2
"""``user_version`` of the file. Version 1 did not say whose state it holds, and all of its log is still there: such a
file is made anew. A later version may bring a step that raises the tables of the one before."""

SQLITE_VERSION_MIN: Final = (3, 37, 0)
"""STRICT tables came with this one."""

LOCK_TIMEOUT_S: Final = 1.0
"""How long SQLite waits for another program that is just reading the file's header, say."""

LOCK_SUFFIX: Final = "-lock"
"""``chat.db-lock`` stands for the file while a state machine has it open."""

COMPANIONS: Final = ("-wal", "-journal", "-shm")
"""Files that SQLite keeps beside a database. They belong to *its* content: left beside another one, they destroy it."""

CHECKPOINT_PAGES: Final = 1000
"""SQLite's own default: the -wal file is copied into the database when it has grown to 4 MB."""

WAL_KEPT_BYTES: Final = 16 * 1024 * 1024
"""What remains of the -wal file after it was longer."""

_NOT_A_DATABASE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""SQLite's codes for a content that is not what it should be; the others are about the disk, the rights, the locks."""

TABLES: Final = (
    # Whose state it is; not part of the replicated state. ``syncs`` is counted up to have something to sync.
    """
    CREATE TABLE origin (
        only_row     INTEGER PRIMARY KEY CHECK (only_row = 1),
        cluster      TEXT NOT NULL,
        group_number INTEGER NOT NULL,
        incarnation  INTEGER NOT NULL,
        syncs        INTEGER NOT NULL
    ) STRICT
    """,
    # How far the log is applied, and what the next entry needs to know: exactly one row.
    """
    CREATE TABLE progress (
        only_row      INTEGER PRIMARY KEY CHECK (only_row = 1),
        applied_index INTEGER NOT NULL,
        applied_term  INTEGER NOT NULL,
        last_id       INTEGER NOT NULL,  -- the greatest id given out
        time_ms       INTEGER NOT NULL,  -- log time: the greatest time that a stamp has shown
        users         INTEGER NOT NULL   -- the length of the directory
    ) STRICT
    """,
    "INSERT INTO progress VALUES (1, 0, 0, 0, 0, 0)",
    """
    CREATE TABLE users (
        user_id  INTEGER PRIMARY KEY,
        username TEXT NOT NULL UNIQUE
    ) STRICT
    """,
    """
    CREATE TABLE chats (
        chat_id INTEGER PRIMARY KEY,
        name    TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE members (
        chat_id INTEGER NOT NULL,
        user_id INTEGER NOT NULL,
        PRIMARY KEY (chat_id, user_id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX members_by_user ON members (user_id, chat_id)",
    # Message ids grow with the log, so rows are appended at the end of the table's tree.
    """
    CREATE TABLE messages (
        message_id INTEGER PRIMARY KEY,
        chat_id    INTEGER NOT NULL,
        seq        INTEGER NOT NULL,
        kind       TEXT NOT NULL,
        author     INTEGER NOT NULL,
        txn_id     TEXT NOT NULL,
        text       TEXT NOT NULL,
        UNIQUE (chat_id, seq)
    ) STRICT
    """,
    # The first answer to each transaction. Log time never goes back, so the order of log_index is that of time_ms,
    # and the oldest answers are found without an index on time.
    """
    CREATE TABLE answers (
        log_index INTEGER PRIMARY KEY,
        scope     BLOB NOT NULL UNIQUE,
        body      BLOB NOT NULL,  -- digest of the command as the client meant it
        reply     BLOB NOT NULL,
        time_ms   INTEGER NOT NULL
    ) STRICT
    """,
)


class StateUnusable(Exception):
    """The database cannot be opened; the message says why and what to do. Nothing was written to it."""


class StateDamaged(StateUnusable):
    """What the file holds is not the state of this node: damaged, of another cluster, of an earlier layout.

    The state can be made anew from the newest snapshot and the log.
    """


class Origin(NamedTuple):
    """Whose state a database holds: the names are those of the node's data directory.

    ``incarnation`` tells the data directories that a node has had apart. The defaults are for machines on their own.
    """

    cluster: str = ""
    group: int = 0
    incarnation: int = 1

    def __str__(self) -> str:
        return f"group {self.group} of cluster {self.cluster!r}, incarnation {self.incarnation}"


def lock_database(disk: Disk, path: Path) -> DiskLock:
    """Claim the file at ``path``, there or not, for one state machine. Raises ``StateUnusable`` if somebody has it."""
    lock = path.with_name(path.name + LOCK_SUFFIX)
    try:
        return disk.lock(lock)
    except AlreadyLocked as error:
        holder = f" ({error.holder})" if error.holder else ""
        raise StateUnusable(f"{path} is in use by another process{holder}: stop that one first") from error
    except OSError as error:
        raise StateUnusable(
            f"{path} cannot be opened ({error}): check that its directory exists and may be written to"
        ) from error


def open_database(path: str | Path, origin: Origin = Origin(), *, check: bool = True) -> Database:  # noqa: B008
    """Open the database at ``path``, creating the file and its tables where there are none; ``":memory:"`` works.

    The directory must exist. ``origin`` is written into a new file and compared with that of an old one. ``check``
    reads the whole file and checks its structure. The connection may be used from any thread, one at a time. Raises
    ``StateUnusable``, of which ``StateDamaged`` means that the state can be made anew.
    """
    if sqlite3.sqlite_version_info < SQLITE_VERSION_MIN:
        wanted = ".".join(map(str, SQLITE_VERSION_MIN))
        raise StateUnusable(
            f"this Python brings SQLite {sqlite3.sqlite_version}, Telegraft needs {wanted}: use a newer Python"
        )
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(str(path), timeout=LOCK_TIMEOUT_S, check_same_thread=False)
        # Plugins of sqlite-utils could change what SQL means here, and differ between nodes.
        database = Database(connection, execute_plugins=False)
        _prepare(database, path, origin)
        if check:
            check_structure(connection)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise _refusal(path, error) from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return database


def open_reader(path: Path) -> sqlite3.Connection:
    """A second, read-only connection to a database that is open, with a transaction begun: from now on it sees the
    state as it is now, whatever the writer does. For any thread, one at a time. Never checkpoints."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=LOCK_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        connection.execute("SELECT applied_index FROM progress").fetchone()  # BEGIN alone does not fix the moment
    except BaseException:
        connection.close()
        raise
    return connection


def hold_checkpoints(connection: sqlite3.Connection, *, hold: bool) -> None:
    """Have the writer leave the -wal file alone while somebody else reads, or take care of it again."""
    connection.execute(f"PRAGMA wal_autocheckpoint = {0 if hold else CHECKPOINT_PAGES}")


def create_tables(connection: sqlite3.Connection, origin: Origin) -> None:
    """The tables of an empty database, its marks, and its origin; within the caller's transaction."""
    for statement in TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO origin VALUES (1, ?, ?, ?, 0)", origin)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {DATABASE_VERSION}")


def check_structure(connection: sqlite3.Connection) -> None:
    """Read the whole file and check its structure, not its content. Raises ``sqlite3.DatabaseError``."""
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"its structure is damaged: {found}")


def _prepare(database: Database, path: str | Path, origin: Origin) -> None:
    """Check whose file it is, choose the settings, and create the tables in a new file."""
    connection = database.conn
    application_id = _header_field(connection, "application_id")
    version = _header_field(connection, "user_version")
    is_empty = _header_field(connection, "schema_version") == 0
    if not is_empty and application_id != APPLICATION_ID:
        raise StateUnusable(
            f"{path} is a database of another program: give the node a data directory of its own, or move the file away"
        )
    if version > DATABASE_VERSION:
        raise StateUnusable(
            f"{path} has database version {version}, this release knows versions up to {DATABASE_VERSION}: "
            "run the release that wrote it, or a newer one"
        )
    if not is_empty and version < DATABASE_VERSION:
        raise StateDamaged(
            f"{path} has database version {version}, of an earlier release: the node makes it anew from its log"
        )
    if not is_empty:
        _check_rows(connection, path, origin)
    database.enable_wal()
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
    hold_checkpoints(connection, hold=False)
    if is_empty:
        with database.atomic():
            create_tables(connection, origin)


def _check_rows(connection: sqlite3.Connection, path: str | Path, origin: Origin) -> None:
    """Check the two rows without which the others mean nothing."""
    if connection.execute("SELECT count(*) FROM progress").fetchone() != (1,):
        raise sqlite3.DatabaseError("the row that says how far the log is applied is missing")
    row = connection.execute("SELECT cluster, group_number, incarnation FROM origin").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("the row that says whose state it is is missing")
    found = Origin(*row)
    if found != origin:
        raise StateDamaged(
            f"{path} holds the state of {found}, and this node belongs to {origin}: check the name of the cluster and "
            "the data directory in the node's configuration"
        )


def _header_field(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _refusal(path: str | Path, error: sqlite3.Error) -> StateUnusable:
    """What went wrong when the file was opened, and what to do about it."""
    if "locked" in str(error):
        return StateUnusable(f"{path} is in use by another process ({error}): stop that one first")
    if "unable to open" in str(error):
        return StateUnusable(
            f"{path} cannot be opened ({error}): check that its directory exists and may be written to"
        )
    # Errors that this module raises itself have no code: they are about the content.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code not in _NOT_A_DATABASE:
        return StateUnusable(
            f"{path} cannot be opened ({error}): check the disk, its free space and the rights of the node's account"
        )
    return StateDamaged(
        f"{path} cannot be read as a database ({error}): move it and its -wal neighbour away and start again; "
        "the node rebuilds it from its newest snapshot and its log"
    )
