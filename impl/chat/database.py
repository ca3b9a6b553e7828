"""The file behind the chat state machine: its tables, how it is opened, and when it is refused.

Theory of operation
-------------------
The file holds *applied* state only. Everything in it follows from the Raft log, which is synced before anything is
applied, and this decides every setting:

- ``journal_mode=WAL`` with ``synchronous=NORMAL``: SQLite then syncs at checkpoints and not at commits. A power cut
  may take the last transactions back, never damage the file or split a transaction; the applied index goes back
  together with the effects, and the log is replayed from there. (``OFF`` would be a little faster, but a power cut
  could leave a damaged file.) Whoever shortens the log must first know that the state up to there is synced.
- ``locking_mode=EXCLUSIVE``: there is one connection, for as long as the file is open. A second program that writes
  or checkpoints is kept out, which also keeps clear of the WAL-reset bug of SQLite 3.7.0 to 3.51.2; no shared
  memory file is needed. To look at the data of a running node, copy the file and its ``-wal`` neighbour.
- ``application_id`` and ``user_version`` in the header say whose file it is and which tables it has. A file of
  another program or of a newer release is refused before anything is written.

Tables are STRICT: a value of the wrong type is an error and not a surprise. sqlite-utils requires the connection's
legacy transaction mode, which is the default: transactions begin and end in ``Database.atomic``.

What the tables leave out is as deliberate: the length of a chat's log is ``max(seq)`` of its messages, an index
look-up, and not a counter beside them that could disagree.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from sqlite_utils import Database

IN_MEMORY: Final = ":memory:"

APPLICATION_ID: Final = 0x54475254
"""``TGRT`` in ASCII: marks the file as ours (SQLite header, offset 68)."""

DATABASE_VERSION: Final = 1
"""``user_version`` of the file. Raise it together with a step that brings the tables of the version before up to it."""

SQLITE_VERSION_MIN: Final = (3, 37, 0)
"""STRICT tables came with this one."""

LOCK_TIMEOUT_S: Final = 1.0
"""How long opening waits for another process to let go of the file: longer than a killed node takes to vanish."""

TABLES: Final = (
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


def open_database(path: str | Path) -> Database:
    """Open the database at ``path``, creating the file and its tables where there are none; ``":memory:"`` works.

    The directory must exist. The connection may be used from any thread, one at a time. Raises ``StateUnusable``.
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
        _prepare(database, path)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise StateUnusable(_advice(path, error)) from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return database


def _prepare(database: Database, path: str | Path) -> None:
    """Check whose file it is, choose the settings, and create the tables in a new file."""
    connection = database.conn
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
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
    database.enable_wal()
    connection.execute("PRAGMA synchronous = NORMAL")
    if is_empty:
        with database.atomic():
            for statement in TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {DATABASE_VERSION}")
    # Reads the whole file. Checks its structure, not its content: SQLite keeps no checksums.
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"its structure is damaged: {found}")
    if connection.execute("SELECT count(*) FROM progress").fetchone() != (1,):
        raise sqlite3.DatabaseError("the row that says how far the log is applied is missing")


def _header_field(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _advice(path: str | Path, error: sqlite3.Error) -> str:
    """What went wrong when the file was opened, and what to do about it."""
    if "locked" in str(error):
        return f"{path} is in use by another process ({error}): stop that one first"
    if "unable to open" in str(error):
        return f"{path} cannot be opened ({error}): check that its directory exists and may be written to"
    return (
        f"{path} cannot be read as a database ({error}): move it and its -wal neighbour away and start again; "
        "the node rebuilds it from its log"
    )
