"""Is what stands in ``chat.db`` what the log says? For ``telegraft doctor``, and on request.

Theory of operation
-------------------
SQLite has no checksums over its pages, so a bit that flips inside a text at rest is served as it stands. But the state
can be made a second time: from a snapshot, whose blocks have checksums, and the entries behind it, whose frames have
theirs. ``verify`` does so beside the database, and compares table by table.

*Covered*: every column of every logical row, progress and remembered answers included, and (by SQLite's
``integrity_check``) that each index has exactly the rows of its table. *Not covered*: pages that nothing uses; a
snapshot that was wrong when it was taken, on a node whose memory or program is at fault: compare the digests of two
nodes for that. Without a snapshot the whole log has to be there.

It costs what importing the snapshot and applying the entries cost, and as much disk space as the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from sqlite_utils import Database

from impl.chat.database import IN_MEMORY, open_database
from impl.chat.logical_state import LOGICAL_TABLES, RETENTION_MS, Digest, ProgressRow, digest_of, progress_of, rows_of
from impl.chat.snapshot import prepare_state
from impl.chat.state_machine import ChatStateMachine
from impl.raft.messages import Entry
from impl.storage.disk import Disk, RealDisk

SCRATCH_SUFFIX: Final = ".verify"
"""``chat.db.verify.new`` is the state that is made a second time."""

ENTRIES_AT_ONCE: Final = 512
"""Applied in one transaction."""


class Verification(NamedTuple):
    """What came of it. ``problems`` is empty when the database holds what it should, otherwise each is a sentence."""

    applied_index: int
    digest: str
    problems: tuple[str, ...]


def verify(
    machine: ChatStateMachine,
    blocks: Iterable[bytes] | None,
    entries: Iterable[Entry],
    path: Path | None = None,
    disk: Disk | None = None,
) -> Verification:
    """Compare the state of ``machine`` with the one made from a snapshot and the entries behind it.

    ``blocks`` is a snapshot at or before the machine's applied index, None for the state before entry 1; ``entries``
    follow it, and those beyond the applied index are left out. ``path`` is that of the machine's database: the second
    state is made beside it, or in memory without it. The machine must not apply anything meanwhile.

    Raises ``SnapshotUnusable`` for a snapshot that is damaged itself, ``ValueError`` when it is ahead of the state or
    ``entries`` do not lead up to it, ``sqlite3.Error`` or ``OSError`` when the second state cannot be written.
    """
    disk = disk or RealDisk()
    wanted = machine.applied_index
    scratch = IN_MEMORY if path is None else path.with_name(path.name + SCRATCH_SUFFIX)
    prepared = prepare_state(scratch, blocks, machine.origin, disk)
    try:
        if prepared.applied_index > wanted:
            raise ValueError(
                f"the snapshot ends at entry {prepared.applied_index}, and the state at {wanted}: take an older one"
            )
        if prepared.path is None:
            assert prepared.database is not None
            second = ChatStateMachine(Database(prepared.database, execute_plugins=False), None, machine.origin)
        else:
            second = ChatStateMachine(open_database(prepared.path, machine.origin), prepared.path, machine.origin)
        try:
            for batch in _batches(entries, prepared.applied_index, wanted):
                second.apply(batch)
            if second.applied_index != wanted:
                raise ValueError(
                    f"the entries end at {second.applied_index}, and the state at {wanted}: pass all entries between"
                )
            return _compare(machine, second)
        finally:
            second.close()
    finally:
        prepared.discard(disk)


def _batches(entries: Iterable[Entry], after: int, up_to: int) -> Iterator[list[Entry]]:
    wanted = (entry for entry in entries if after < entry.index <= up_to)
    while batch := list(islice(wanted, ENTRIES_AT_ONCE)):
        yield batch


def _compare(machine: ChatStateMachine, second: ChatStateMachine) -> Verification:
    ours, theirs = machine.database.conn, second.database.conn
    problems = []
    horizon_ms = second.statistics().time_ms - RETENTION_MS
    try:
        if progress_of(ours) != progress_of(theirs):
            problems.append(f"its progress is {progress_of(ours)}, and the log says {progress_of(theirs)}")
        for number, table in enumerate(LOGICAL_TABLES):
            found, made = (_digest_of_table(connection, number, horizon_ms) for connection in (ours, theirs))
            if found != made:
                problems.append(f"the rows of its table {table.name} are not those that the log says")
        broken = ours.execute("PRAGMA integrity_check(10)").fetchall()
        problems += [f"SQLite finds {line}" for (line,) in broken if line != "ok"]
    except sqlite3.DatabaseError as error:
        problems.append(f"it cannot be read to its end: {error}")
    return Verification(machine.applied_index, digest_of(theirs, horizon_ms), tuple(problems))


def _digest_of_table(connection: sqlite3.Connection, number: int, horizon_ms: int) -> str:
    digest = Digest(ProgressRow(0, 0, 0, 0, 0))
    for rows in rows_of(connection, LOGICAL_TABLES[number], horizon_ms):
        digest.add(rows.data)
    return digest.hexdigest()
