"""The chat service as a state machine over SQLite: committed log entries in, replies out.

Theory of operation
-------------------
``apply`` carries out a batch of committed entries in one transaction, and the applied index is a row of the same
transaction. After a crash the file therefore holds the effects of exactly the entries up to its applied index: none
twice, none skipped, and the node goes on from ``applied_index + 1``. When anything fails inside the transaction is
rolled back and the exception propagates; the node stops, because it cannot know what the other replicas did.

The meaning of each command, down to the order of its checks, is that of the executable specification of the chat
service, to which this module is compared in lockstep. What is added here is only how to find things quickly.

*Determinism.* Every replica applies the same entries and must reach the same state and give the same replies. So
nothing here reads a clock, draws a random number or depends on the order of a set; time and ids enter as the stamp
that the leader put on the command (``proposed_id``). How entries fall into batches makes no difference either.
``digest`` names the logical state in 64 hex digits, for comparing replicas.

*First answers.* A writing command carries a transaction id. Its first answer, rejections included, is stored beside
the effect under the id's scope, with a digest of what the client asked for, and is given again to every repetition
until it expires by log time. It is in the database and not in memory because the retry that matters is the one that
arrives after a crash or at another leader. Expired answers are invisible at once, but their rows are deleted a few
at a time, so that no single batch pays for a quiet night.

The digest of the body covers the fields by name, not the encoded command: when a release adds a field, a repetition
that straddles the upgrade must still match.

*Ids.* SQLite holds signed 64-bit integers, a msgpack integer may be larger. No id outside ``1..ID_MAX`` is ever
given out, so a client that asks about one is told that it does not exist, and a stamp beyond is refused as damage.

*Snapshots.* ``open_snapshot`` fixes the state of this moment in a millisecond or so, to be read by another thread
while entries go on being applied; ``install`` puts a state that ``prepare_state`` made from a snapshot into the place
of this one. See ``impl.chat.snapshot``.

*What a power cut takes.* Applied state is synced now and then, not at every commit: after a power cut the file may be
at an earlier applied index, which the log makes up for. The rule for whoever shortens the log: only up to the index
of a *snapshot* that is durable. Then a file that has fallen back behind the beginning of the log is made anew from
that snapshot (``impl.chat.rebuild``). ``sync_to_disk`` before shortening makes this rare.

One connection, used from any one thread at a time: the node makes all calls from one worker. ``statistics`` and the
properties may be read from any thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Final, NamedTuple, Self, TypeAlias

import msgspec
from sqlite_utils import Database

from impl.chat.commands import (
    ChatCreated,
    Chats,
    ChatSummary,
    CreateChat,
    CreateUser,
    Join,
    Leave,
    ListChats,
    ListMembers,
    Members,
    Message,
    Messages,
    Posted,
    Query,
    ReadMessages,
    Rejected,
    Reply,
    Send,
    Unchanged,
    UnknownSchema,
    UserCreated,
    Write,
    decode_command,
    decode_reply,
    encode_reply,
)
from impl.chat.database import IN_MEMORY, Origin, StateUnusable, hold_checkpoints, lock_database, open_database
from impl.chat.logical_state import DIGEST_BYTES, RETENTION_MS, digest_of, progress_of
from impl.chat.snapshot import PreparedState, StateSnapshot, place_database
from impl.chat.snowflake import ID_MAX, TIME_SHIFT
from impl.raft.messages import NORMAL, Entry
from impl.storage.disk import Disk, DiskLock, RealDisk

PURGED_PER_ENTRY: Final = 2
"""Rows of expired answers deleted per entry applied. An entry adds at most one row, so two catch up with any backlog
without making a batch much longer."""

SNAPSHOT_WAL_BYTES: Final = 256 * 1024 * 1024
"""How long the -wal file may become while a snapshot is open, or as long as the database if that is more. A snapshot
is read in the time it takes to read the database: what writes more than that meanwhile leaves no hope of an end."""

NEW_CHATS: Final = "chats"
"""The scope of transactions that create a chat: no chat id, whatever ids clients make up."""

NEVER_AN_ID: Final = 0
"""An id that is never given out."""

QUERIES: Final = (ReadMessages, ListMembers, ListChats)

OnChat: TypeAlias = Join | Leave | Send


class OutOfOrder(ValueError):
    """The caller skipped an entry, repeated one, or went back to an earlier term. Nothing was applied."""


class UnusableEntry(Exception):
    """A committed entry that this release cannot carry out. No entry of the batch was applied; the node must stop.

    Every replica of this release stops at the same entry, so their states stay equal.
    """


class FirstAnswer(NamedTuple):
    """What a transaction was told, and the digest of what it had asked for."""

    body: bytes
    reply: bytes  # as of ``encode_reply``


class Standing(NamedTuple):
    """What a command on a chat needs to know before it is decided."""

    user_exists: bool
    as_of: int  # the length of the chat's log, 0 for a chat that does not exist
    is_member: bool


class Progress(msgspec.Struct):
    """How far the log is applied: the row ``progress``, and counters since the database was opened."""

    applied_index: int
    applied_term: int
    last_id: int
    time_ms: int
    users: int
    batches: int = 0
    entries: int = 0
    repeated_answers: int = 0
    rejections: int = 0
    snapshots: int = 0
    snapshots_abandoned: int = 0
    installs: int = 0


class StateMachineStatistics(msgspec.Struct, frozen=True):
    """One state machine at one instant, for people and metrics.

    The counters from ``batches`` to ``installs`` start at 0 when the database is opened.
    """

    applied_index: int  # of the last entry applied
    applied_term: int  # of the same entry
    last_id: int  # the greatest id given out
    time_ms: int  # log time, in ms since the Telegraft epoch
    users: int  # in the directory
    batches: int  # calls of ``apply`` with at least one entry
    entries: int  # entries applied
    repeated_answers: int  # retries that were told their first answer
    rejections: int  # commands refused, not counting repetitions of such an answer
    snapshots: int  # snapshots opened
    snapshots_abandoned: int  # of these, ended before they were read because the -wal file became too long
    installs: int  # times that another state took the place of this one
    open_snapshots: int  # being read now
    durable_index: int  # a power cut now leaves at least this applied index, as far as is known
    database_bytes: int  # size of the database file, or of the pages of one in memory
    wal_bytes: int  # size of the -wal file, 0 in memory


class ChatStateMachine:
    """The replicated state of the chat service. See the module's docstring; made by ``open``."""

    def __init__(
        self,
        database: Database,
        path: Path | None = None,
        origin: Origin = Origin(),  # noqa: B008
        lock: DiskLock | None = None,
    ) -> None:
        """Use ``open``. ``path`` is None in memory; ``lock`` is released when the machine is closed."""
        self.database = database
        self.origin: Final = origin
        self._path = path
        self._lock = lock
        self._progress = Progress(*progress_of(database.conn))
        self._snapshots: list[StateSnapshot] = []
        self._holds_checkpoints = False
        self._data_version = self._read_data_version()
        self._durable_index = 0

    @classmethod
    def open(
        cls,
        path: str | Path,
        origin: Origin = Origin(),  # noqa: B008
        disk: Disk | None = None,
    ) -> Self:
        """Open or create the database at ``path``; ``":memory:"`` makes one that vanishes on ``close``.

        ``origin`` says which cluster's state it is: written into a new file, compared with an old one. ``disk`` is
        for the lock file.

        Raises ``StateUnusable`` when the file belongs to another program, to a newer release or to a running node,
        or cannot be read; ``StateDamaged``, a kind of it, when it can be made anew (``impl.chat.rebuild``).
        """
        if str(path) == IN_MEMORY:
            return cls(open_database(path, origin), None, origin)
        file = Path(path)
        lock = lock_database(disk or RealDisk(), file)
        try:
            database = open_database(file, origin)
            try:
                return cls(database, file, origin, lock)
            except BaseException:
                database.conn.close()
                raise
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """End all snapshots and close the database. Everything applied is in the file; closing twice is harmless."""
        self._end_snapshots("the state machine was closed")
        self.database.conn.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def applied_index(self) -> int:
        """The index of the last entry applied, 0 before the first."""
        return self._progress.applied_index

    @property
    def applied_term(self) -> int:
        """The term of the last entry applied, 0 before the first."""
        return self._progress.applied_term

    @property
    def last_id(self) -> int:
        """The greatest id given out: what a new leader's Snowflakes continue from."""
        return self._progress.last_id

    def statistics(self) -> StateMachineStatistics:
        """What there is to know at a glance; cheap enough to ask every second. For any thread, unless in memory."""
        return StateMachineStatistics(
            **msgspec.structs.asdict(self._progress),
            open_snapshots=sum(snapshot.is_open for snapshot in tuple(self._snapshots)),
            durable_index=self._durable_index,
            database_bytes=self._database_bytes(),
            wal_bytes=self._wal_bytes(),
        )

    def _database_bytes(self) -> int:
        if self._path is None:
            (page_count,) = self.database.conn.execute("PRAGMA page_count").fetchone()
            (page_bytes,) = self.database.conn.execute("PRAGMA page_size").fetchone()
            return int(page_count) * int(page_bytes)
        return _size_of(self._path)

    def _wal_bytes(self) -> int:
        return 0 if self._path is None else _size_of(self._path.with_name(self._path.name + "-wal"))

    # --- applying the log --------------------------------------------------------------------------------------

    def apply(self, entries: Sequence[Entry]) -> list[Reply | None]:
        """Carry out committed entries, the first of them at ``applied_index + 1``, in one transaction.

        Returns one reply per entry; None for the empty entry that opens a term. Either all entries are applied or,
        when this raises, none: ``OutOfOrder`` for the caller's mistake, ``UnusableEntry`` for an entry that this
        release does not understand, ``StateUnusable`` when another program has written to the file,
        ``sqlite3.Error`` when the file cannot be written.
        """
        self._check_order(entries)
        if not entries:
            return []
        self._check_alone()
        self._look_after_snapshots()
        progress = copy(self._progress)
        with self.database.atomic():
            replies = [self._apply_entry(progress, entry) for entry in entries]
            self._purge(progress, PURGED_PER_ENTRY * len(entries))
            self._save(progress)
        progress.batches += 1
        progress.entries += len(entries)
        self._progress = progress
        return replies

    def _check_order(self, entries: Sequence[Entry]) -> None:
        index, term = self.applied_index, self.applied_term
        for entry in entries:
            if entry.index <= index:
                raise OutOfOrder(f"entry {entry.index} comes after entry {index} is applied: pass each entry once")
            if entry.index != index + 1:
                raise OutOfOrder(f"entry {entry.index} follows entry {index}: pass entry {index + 1} first")
            if entry.term < term:
                raise OutOfOrder(
                    f"entry {entry.index} has term {entry.term}, the one before it {term}: terms never go back "
                    "along a log, so this is not the log that was applied so far"
                )
            index, term = entry.index, entry.term

    def _apply_entry(self, progress: Progress, entry: Entry) -> Reply | None:
        progress.applied_index = entry.index
        progress.applied_term = entry.term
        if entry.kind != NORMAL or not entry.payload:
            return None  # it is about the group, or opens a term
        return self._execute(progress, write_of(entry))

    def _execute(self, progress: Progress, command: Write) -> Reply:
        """One writing command: its first answer if there is one, otherwise its effect."""
        progress.time_ms = max(progress.time_ms, command.proposed_id >> TIME_SHIFT)
        scope, body = scope_of(command), body_of(command)
        first = self.first_answer(scope, self._horizon_ms(progress))
        if first is not None:
            if first.body != body:
                progress.rejections += 1
                return Rejected("transaction-reused", self._as_of_subject(progress, command))
            progress.repeated_answers += 1
            return decode_reply(first.reply)

        new_id = max(progress.last_id + 1, command.proposed_id)
        if new_id > ID_MAX:
            raise UnusableEntry(
                f"log entry {progress.applied_index} needs the id {new_id}, ids end at {ID_MAX}: "
                "a leader with a broken clock has stamped it; restore the data from before that"
            )
        reply = self._write(progress, command, new_id)
        if isinstance(reply, Rejected):
            progress.rejections += 1
        self._remember(progress, scope, body, reply)
        return reply

    def _save(self, progress: Progress) -> None:
        self.database.conn.execute(
            "UPDATE progress SET applied_index = ?, applied_term = ?, last_id = ?, time_ms = ?, users = ?",
            (progress.applied_index, progress.applied_term, progress.last_id, progress.time_ms, progress.users),
        )

    # --- first answers -----------------------------------------------------------------------------------------

    def first_answer(self, scope: bytes, horizon_ms: int) -> FirstAnswer | None:
        """The first answer given in this scope, if it was given at ``horizon_ms`` (log time) or later.

        Everything that makes a retry safe goes through here: overriding it with ``return None`` is the planted bug
        "no dedupe".
        """
        row = self.database.conn.execute(
            "SELECT body, reply FROM answers WHERE scope = ? AND time_ms >= ?", (scope, horizon_ms)
        ).fetchone()
        return None if row is None else FirstAnswer(*row)

    def _horizon_ms(self, progress: Progress) -> int:
        """Answers older than this, in log time, are forgotten."""
        return progress.time_ms - RETENTION_MS

    def _remember(self, progress: Progress, scope: bytes, body: bytes, reply: Reply) -> None:
        # OR REPLACE: an expired answer of the same scope may still be waiting to be deleted.
        self.database.conn.execute(
            "INSERT OR REPLACE INTO answers (log_index, scope, body, reply, time_ms) VALUES (?, ?, ?, ?, ?)",
            (progress.applied_index, scope, body, encode_reply(reply), progress.time_ms),
        )

    def _purge(self, progress: Progress, rows_max: int) -> None:
        """Delete the oldest answers, as far as they have expired, ``rows_max`` at most."""
        self.database.conn.execute(
            """
            DELETE FROM answers WHERE log_index IN (
                SELECT log_index FROM (SELECT log_index, time_ms FROM answers ORDER BY log_index LIMIT ?)
                WHERE time_ms < ?
            )
            """,
            (rows_max, self._horizon_ms(progress)),
        )

    # --- the effects of commands -------------------------------------------------------------------------------

    def _write(self, progress: Progress, command: Write, new_id: int) -> Reply:
        """Carry out a writing command that was not answered before."""
        if isinstance(command, Send):
            return self._send(progress, command, new_id)
        if isinstance(command, Join):
            return self._join(progress, command, new_id)
        if isinstance(command, Leave):
            return self._leave(progress, command, new_id)
        if isinstance(command, CreateChat):
            return self._create_chat(progress, command, new_id)
        return self._create_user(progress, command, new_id)

    def _create_user(self, progress: Progress, command: CreateUser, new_id: int) -> Reply:
        connection = self.database.conn
        taken = connection.execute("SELECT 1 FROM users WHERE username = ?", (command.username,)).fetchone()
        if taken is not None:
            return Rejected("username-taken", progress.users)
        connection.execute("INSERT INTO users (user_id, username) VALUES (?, ?)", (new_id, command.username))
        progress.last_id = new_id
        progress.users += 1
        return UserCreated(new_id, progress.users)

    def _create_chat(self, progress: Progress, command: CreateChat, new_id: int) -> Reply:
        if not self._user_exists(command.actor):
            return Rejected("unknown-user", progress.users)
        self.database.conn.execute("INSERT INTO chats (chat_id, name) VALUES (?, ?)", (new_id, command.name))
        self._append(progress, new_id, 1, new_id, "create", command.actor, command.txn_id, command.name)
        self._add_member(new_id, command.actor)
        return ChatCreated(new_id, 1)

    def _send(self, progress: Progress, command: Send, new_id: int) -> Reply:
        standing = self._standing(command.actor, command.chat_id)
        refusal = refuse(standing)
        if refusal is not None:
            return refusal
        if not standing.is_member:
            return Rejected("not-a-member", standing.as_of)
        return self._post(progress, command, standing, new_id, "text", command.text)

    def _join(self, progress: Progress, command: Join, new_id: int) -> Reply:
        standing = self._standing(command.actor, command.chat_id)
        refusal = refuse(standing)
        if refusal is not None:
            return refusal
        if standing.is_member:
            return Unchanged(standing.as_of)
        self._add_member(command.chat_id, command.actor)
        return self._post(progress, command, standing, new_id, "join", "")

    def _leave(self, progress: Progress, command: Leave, new_id: int) -> Reply:
        standing = self._standing(command.actor, command.chat_id)
        refusal = refuse(standing)
        if refusal is not None:
            return refusal
        if not standing.is_member:
            return Unchanged(standing.as_of)
        self.database.conn.execute(
            "DELETE FROM members WHERE chat_id = ? AND user_id = ?", (command.chat_id, command.actor)
        )
        return self._post(progress, command, standing, new_id, "leave", "")

    def _post(
        self, progress: Progress, command: OnChat, standing: Standing, new_id: int, kind: str, text: str
    ) -> Posted:
        """Append one message to an existing chat."""
        seq = standing.as_of + 1
        self._append(progress, command.chat_id, seq, new_id, kind, command.actor, command.txn_id, text)
        return Posted(seq, new_id, seq)

    def _append(
        self,
        progress: Progress,
        chat_id: int,
        seq: int,
        new_id: int,
        kind: str,
        author: int,
        txn_id: str,
        text: str,
    ) -> None:
        self.database.conn.execute(
            "INSERT INTO messages (message_id, chat_id, seq, kind, author, txn_id, text) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (new_id, chat_id, seq, kind, author, txn_id, text),
        )
        progress.last_id = new_id

    def _add_member(self, chat_id: int, user_id: int) -> None:
        self.database.conn.execute("INSERT INTO members (chat_id, user_id) VALUES (?, ?)", (chat_id, user_id))

    # --- looking things up -------------------------------------------------------------------------------------

    def _user_exists(self, user_id: int) -> bool:
        row = self.database.conn.execute("SELECT 1 FROM users WHERE user_id = ?", (storable(user_id),)).fetchone()
        return row is not None

    def _standing(self, user_id: int, chat_id: int) -> Standing:
        row = self.database.conn.execute(
            """
            SELECT EXISTS (SELECT 1 FROM users WHERE user_id = ?1),
                   (SELECT coalesce(max(seq), 0) FROM messages WHERE chat_id = ?2),
                   EXISTS (SELECT 1 FROM members WHERE chat_id = ?2 AND user_id = ?1)
            """,
            (storable(user_id), storable(chat_id)),
        ).fetchone()
        return Standing(*row)

    def _as_of_subject(self, progress: Progress, command: Write) -> int:
        """The sequence number of what the command is about: its chat, or the directory."""
        if isinstance(command, CreateUser | CreateChat):
            return progress.users
        return self._standing(command.actor, command.chat_id).as_of

    # --- queries -----------------------------------------------------------------------------------------------

    def query(self, query: Query) -> Reply:
        """Answer a question about the applied state; nothing changes.

        ``ReadMessages.limit`` is taken as it comes: bounding it is the API's business.
        """
        if isinstance(query, ListChats):
            return self._list_chats(query)
        standing = self._standing(query.actor, query.chat_id)
        refusal = refuse(standing)
        if refusal is not None:
            return refusal
        if not standing.is_member:
            return Rejected("not-a-member", standing.as_of)
        if isinstance(query, ListMembers):
            rows = self.database.conn.execute(
                "SELECT user_id FROM members WHERE chat_id = ? ORDER BY user_id", (query.chat_id,)
            )
            return Members(tuple(user_id for (user_id,) in rows), standing.as_of)
        return self._read_messages(query, standing)

    def _list_chats(self, query: ListChats) -> Reply:
        if not self._user_exists(query.actor):
            return Rejected("unknown-user", self._progress.users)
        rows = self.database.conn.execute(
            """
            SELECT chat_id, name, (SELECT max(seq) FROM messages WHERE messages.chat_id = chats.chat_id)
            FROM members JOIN chats USING (chat_id) WHERE user_id = ? ORDER BY chat_id
            """,
            (query.actor,),
        )
        return Chats(tuple(ChatSummary(*row) for row in rows), self._progress.users)

    def _read_messages(self, query: ReadMessages, standing: Standing) -> Messages:
        # No sequence number exceeds as_of, so cutting both numbers there changes nothing and keeps them storable.
        after = min(max(query.after, 0), standing.as_of)
        limit = min(max(query.limit, 0), standing.as_of)
        rows = self.database.conn.execute(
            """
            SELECT seq, message_id, kind, author, txn_id, text FROM messages
            WHERE chat_id = ? AND seq > ? ORDER BY seq LIMIT ?
            """,
            (query.chat_id, after, limit),
        )
        return Messages(tuple(Message(*row) for row in rows), standing.as_of)

    # --- snapshots ---------------------------------------------------------------------------------------------

    def open_snapshot(self) -> StateSnapshot:
        """Fix the state as it is now, between two batches; cheap. Read it in another thread while this one goes on.

        Close it when it is read, or given up. Several may be open. Raises ``sqlite3.Error``.
        """
        self._look_after_snapshots()
        if not self._holds_checkpoints and self._path is not None:
            hold_checkpoints(self.database.conn, hold=True)
            self._holds_checkpoints = True
        snapshot = StateSnapshot.of(self.database, self._path, self.origin, self._horizon_ms(self._progress))
        self._snapshots.append(snapshot)
        self._progress.snapshots += 1
        return snapshot

    def export_snapshot(self, write: Callable[[bytes], object]) -> int:
        """Pass the state as it is now to ``write``, block by block. Returns its applied index. Raises as ``write``
        does, or ``sqlite3.Error``."""
        with self.open_snapshot() as snapshot:
            snapshot.write_to(write)
            return snapshot.applied_index

    def _look_after_snapshots(self) -> None:
        """Forget those that are done, end those that have cost too much, and let checkpoints go on after the last."""
        if not self._holds_checkpoints and not self._snapshots:
            return
        self._snapshots = [snapshot for snapshot in self._snapshots if snapshot.is_open]
        if self._snapshots and self._wal_bytes() > max(SNAPSHOT_WAL_BYTES, self._database_bytes()):
            self._progress.snapshots_abandoned += len(self._snapshots)
            self._end_snapshots("too much was written meanwhile; take a new one when less is going on")
        if self._holds_checkpoints and not self._snapshots:
            hold_checkpoints(self.database.conn, hold=False)
            self._holds_checkpoints = False

    def _end_snapshots(self, reason: str) -> None:
        for snapshot in self._snapshots:
            snapshot.end(reason)
        self._snapshots = []

    def install(self, prepared: PreparedState, disk: Disk | None = None) -> None:
        """Go on from a state that is further: put what ``prepare_state`` made into the place of this database.

        Open snapshots end. After a crash at any point the file holds the old state or the new one.

        Raises ``OutOfOrder`` when the state is not further than this one, ``StateUnusable`` when it is of another
        origin or kind; nothing has changed then. When ``OSError`` or another ``StateUnusable`` tells of a disk that
        does not do its work, the machine is closed, and the node must stop.
        """
        if prepared.applied_index <= self.applied_index:
            raise OutOfOrder(
                f"the snapshot of entry {prepared.applied_index} is not ahead of this state, in which entry "
                f"{self.applied_index} is applied: leave it out"
            )
        if prepared.origin != self.origin or (prepared.path is None) != (self._path is None):
            raise StateUnusable(f"the state prepared for {prepared.origin} is not for this machine of {self.origin}")
        counters = self._progress
        self._end_snapshots("another state was installed")
        self.database.conn.close()
        if prepared.path is None or self._path is None:
            assert prepared.database is not None
            self.database = Database(prepared.database, execute_plugins=False)
        else:
            place_database(disk or RealDisk(), prepared.path, self._path)
            self.database = open_database(self._path, self.origin, check=False)
        self._holds_checkpoints = False
        self._data_version = self._read_data_version()
        self._durable_index = prepared.applied_index
        self._progress = msgspec.structs.replace(
            counters, **progress_of(self.database.conn)._asdict(), installs=counters.installs + 1
        )

    # --- the file ----------------------------------------------------------------------------------------------

    def sync_to_disk(self) -> int:
        """Make durable what is applied, and return its index. Takes one sync of the -wal file.

        Raises ``sqlite3.Error``. Nothing depends on it for safety. Before the log is shortened it spares a node that
        loses power the rebuilding of its state from the snapshot.
        """
        connection = self.database.conn
        connection.execute("PRAGMA synchronous = FULL")
        try:
            with self.database.atomic():
                # SQLite does not write, nor sync, what does not change.
                connection.execute("UPDATE origin SET syncs = syncs + 1")
        finally:
            connection.execute("PRAGMA synchronous = NORMAL")
        self._durable_index = self.applied_index
        return self.applied_index

    def _check_alone(self) -> None:
        """Another program that writes to the file makes this replica another one: notice, and stop."""
        if self._read_data_version() != self._data_version:
            raise StateUnusable(
                f"{self._path} was written to by another program, so its state is not that of the log any more: stop "
                "that program, move the file and its -wal neighbour away and start the node again; it rebuilds the "
                "file from its newest snapshot and its log"
            )

    def _read_data_version(self) -> int:
        (version,) = self.database.conn.execute("PRAGMA data_version").fetchone()
        return int(version)

    def digest(self) -> str:
        """BLAKE2b-256 of the whole logical state, in hex: equal for two machines that applied the same entries.

        Reads every row: for tests, and for comparing replicas that have stopped at the same applied index.
        """
        return digest_of(self.database.conn, self._horizon_ms(self._progress))


_encoder = msgspec.msgpack.Encoder()


def _size_of(file: Path) -> int:
    """In bytes; 0 for a file that is not there."""
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


def write_of(entry: Entry) -> Write:
    """The writing command in an entry that is not empty. Raises ``UnusableEntry``."""
    try:
        command = decode_command(entry.payload)
    except (UnknownSchema, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnusableEntry(
            f"log entry {entry.index} of term {entry.term} cannot be decoded ({error}): "
            "upgrade this node to the release that wrote it, or a newer one"
        ) from error
    if isinstance(command, QUERIES):
        raise UnusableEntry(
            f"log entry {entry.index} of term {entry.term} is a query ({type(command).__name__}), and queries never "
            "enter the log: upgrade this node to the release that wrote it"
        )
    return command


def scope_of(command: Write) -> bytes:
    """Where the command's transaction id counts, as a key: two commands share an id only within one scope.

    msgpack keeps strings, integers and their boundaries apart, so different scopes have different keys.
    """
    if isinstance(command, CreateUser):
        return _encoder.encode(("user", command.username, command.txn_id))
    if isinstance(command, CreateChat):
        return _encoder.encode((NEW_CHATS, command.actor, command.txn_id))
    return _encoder.encode((command.chat_id, command.actor, command.txn_id))


def body_of(command: Write) -> bytes:
    """A digest of the command as the client meant it: without the stamp, which differs between attempts.

    Only what the scope does not already say goes in.
    """
    if isinstance(command, Send):
        content = ("send", command.text)
    elif isinstance(command, CreateChat):
        content = ("create_chat", command.name)
    elif isinstance(command, CreateUser):
        content = ("create_user", "")
    else:
        content = ("join" if isinstance(command, Join) else "leave", "")
    return hashlib.blake2b(_encoder.encode(content), digest_size=DIGEST_BYTES).digest()


def refuse(standing: Standing) -> Rejected | None:
    """Why a command on a chat cannot even be considered, or None."""
    if not standing.user_exists:
        return Rejected("unknown-user", standing.as_of)
    if standing.as_of == 0:
        return Rejected("unknown-chat", 0)
    return None


def storable(some_id: int) -> int:
    """The id itself if SQLite can hold it, otherwise one that names nothing: both are equally unknown."""
    return some_id if -ID_MAX <= some_id <= ID_MAX else NEVER_AN_ID
