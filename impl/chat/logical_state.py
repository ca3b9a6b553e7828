"""The logical state of the chat service as rows in one order, whatever pages SQLite has put them on.

Theory of operation
-------------------
Two replicas that have applied the same entries hold the same rows, but not the same files. What travels between them
and what they are compared by is therefore this: the progress row, then each of ``LOGICAL_TABLES`` in the order of its
primary key, each row as a msgpack array of its columns. msgpack has one encoding for each value here, so equal states
are equal bytes. Answers that have expired by log time are no part of the state: when their rows are deleted depends on
the batches that a replica happened to apply.

Rows are fetched and encoded ``ROWS_AT_ONCE`` at a time, so memory stays bounded, and as the encoding of a list is that
of its rows behind a short header, one call encodes them all.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

RETENTION_MS: Final = 24 * 60 * 60 * 1000
"""How long, in log time, the first answer to a transaction is remembered: longer than any client retries."""

ROWS_AT_ONCE: Final = 64
"""Fetched by one call: enough to make the call cheap, few enough that 64 of the longest rows are a few megabytes."""

DIGEST_BYTES: Final = 32
"""BLAKE2b-256: nobody finds two states, or two bodies of a transaction, that pass for the same."""

ARRAY_HEADERS: Final = ((15, 1), (65535, 3))
"""msgpack: an array of up to so many items has a header of so many bytes; a longer one has 5."""

_encoder = msgspec.msgpack.Encoder()
END_OF_TABLE: Final = _encoder.encode(None)


class ProgressRow(NamedTuple):
    """The replicated columns of the table ``progress``."""

    applied_index: int
    applied_term: int
    last_id: int
    time_ms: int
    users: int


class LogicalTable(NamedTuple):
    """One table: its columns in order, the first of them (``key``) sorting it, and what a row of it must look like."""

    name: str
    key: str
    columns: tuple[str, ...]
    rows: msgspec.msgpack.Decoder[Any]
    condition: str = "1"

    @property
    def select(self) -> str:
        return f"SELECT {', '.join(self.columns)} FROM {self.name} WHERE {self.condition} ORDER BY {self.key}"

    @property
    def insert(self) -> str:
        return f"INSERT INTO {self.name} ({', '.join(self.columns)}) VALUES ({', '.join('?' * len(self.columns))})"


LOGICAL_TABLES: Final = (
    LogicalTable("users", "user_id", ("user_id", "username"), msgspec.msgpack.Decoder(list[tuple[int, str]])),
    LogicalTable("chats", "chat_id", ("chat_id", "name"), msgspec.msgpack.Decoder(list[tuple[int, str]])),
    LogicalTable("members", "chat_id, user_id", ("chat_id", "user_id"), msgspec.msgpack.Decoder(list[tuple[int, int]])),
    LogicalTable(
        "messages",
        "message_id",
        ("message_id", "chat_id", "seq", "kind", "author", "txn_id", "text"),
        msgspec.msgpack.Decoder(list[tuple[int, int, int, str, int, str, str]]),
    ),
    LogicalTable(
        "answers",
        "log_index",
        ("log_index", "scope", "body", "reply", "time_ms"),
        msgspec.msgpack.Decoder(list[tuple[int, bytes, bytes, bytes, int]]),
        "time_ms >= :horizon_ms",
    ),
)


class Rows(NamedTuple):
    """Some consecutive rows of a table: their number, and their encodings one behind the other."""

    number: int
    data: memoryview


def progress_of(connection: sqlite3.Connection) -> ProgressRow:
    """How far the log is applied, and what the next entry needs to know."""
    return ProgressRow(*connection.execute(f"SELECT {', '.join(ProgressRow._fields)} FROM progress").fetchone())


def encode_rows(rows: list[tuple[object, ...]]) -> Rows:
    """Rows as they go into a digest and a snapshot: without anything that says how many were encoded together."""
    encoded = _encoder.encode(rows)
    header_bytes = next((size for most, size in ARRAY_HEADERS if len(rows) <= most), 5)
    return Rows(len(rows), memoryview(encoded)[header_bytes:])


def rows_of(connection: sqlite3.Connection, table: LogicalTable, horizon_ms: int) -> Iterator[Rows]:
    """All rows of one table, in order. ``horizon_ms``: log time before which answers have expired."""
    cursor = connection.execute(table.select, {"horizon_ms": horizon_ms})
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        yield encode_rows(rows)


class Digest:
    """BLAKE2b-256 over a logical state that is passed by piece by piece, in its order."""

    def __init__(self, progress: ProgressRow) -> None:
        self._digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._digest.update(_encoder.encode(tuple(progress)))
        self.end_table()

    def add(self, data: bytes | memoryview) -> None:
        """Encoded rows, however many."""
        self._digest.update(data)

    def end_table(self) -> None:
        """The table that was being added is complete; an empty one is only this."""
        self._digest.update(END_OF_TABLE)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def digest_of(connection: sqlite3.Connection, horizon_ms: int) -> str:
    """The digest of the state that the connection sees, in 64 hex digits. Reads every row."""
    digest = Digest(progress_of(connection))
    for table in LOGICAL_TABLES:
        for rows in rows_of(connection, table, horizon_ms):
            digest.add(rows.data)
        digest.end_table()
    return digest.hexdigest()
