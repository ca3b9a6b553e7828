"""What must hold of snapshots of the chat state, as functions of the room: the real one passes, each mutant fails one.

Each takes the room and an empty directory, and raises ``AssertionError`` or whatever else a broken room raises.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import google_crc32c
import msgspec
import pytest

from impl.chat.commands import Posted, Send, decode_command
from impl.chat.logical_state import RETENTION_MS
from impl.chat.state_machine import write_of
from impl.chat.tests.logs import entries_of, random_log, stamp
from impl.chat.tests.room import Room
from impl.raft.messages import Entry
from impl.storage.disk import RealDisk

LENGTH = 160
MIDDLE = 97


@cache
def the_log() -> tuple[Entry, ...]:
    return tuple(random_log(seed=20_250_101, length=LENGTH))


@cache
def night_log() -> tuple[Entry, ...]:
    """Forty answers, most of which expire at the last entry, while their rows still wait to be deleted."""
    from impl.chat.commands import CreateChat, CreateUser

    ann, chat = stamp(1), stamp(2)
    sends = [Send(ann, chat, f"s{n}", "night", stamp(10)) for n in range(40)]
    morning = Send(ann, chat, "morning", "day", stamp(11 + RETENTION_MS))
    edge = Send(ann, chat, "edge", "dawn", stamp(11))  # its answer is the oldest that has not expired
    return tuple(entries_of([CreateUser("t", "ann", ann), CreateChat(ann, "t", "tea", chat), *sends, edge, morning]))


def applied(room: Room, path: Path | str, log: tuple[Entry, ...], size: int = 7) -> Any:
    """A machine that has applied the whole log, in batches of one size."""
    machine = room.ChatStateMachine.open(path)
    for start in range(machine.applied_index, len(log), size):
        machine.apply(log[start : start + size])
    return machine


def exported(machine: Any) -> list[bytes]:
    blocks: list[bytes] = []
    machine.export_snapshot(blocks.append)
    return blocks


def digest_after(log: tuple[Entry, ...], index: int) -> str:
    """By the real machine, in memory, whatever the room is."""
    from impl.chat.state_machine import ChatStateMachine

    machine = ChatStateMachine.open(":memory:")
    machine.apply(log[:index])
    digest = machine.digest()
    machine.close()
    return digest


# --- taking ------------------------------------------------------------------------------------------------------


def a_snapshot_is_the_state_when_it_was_opened(room: Room, folder: Path) -> None:
    """Entries applied before the first block is read, and between any two, are not in it."""
    log = the_log()
    for path in (folder / "chat.db", ":memory:"):
        machine = applied(room, path, log[:MIDDLE])
        with machine.open_snapshot() as snapshot:
            machine.apply(log[MIDDLE : MIDDLE + 20])
            blocks = []
            for number, block in enumerate(snapshot.blocks()):
                blocks.append(block)
                machine.apply(log[MIDDLE + 20 + number : MIDDLE + 21 + number])
            assert snapshot.applied_index == MIDDLE
        machine.close()
        prepared = room.prepare_state(":memory:", blocks, room.Origin())
        assert prepared.applied_index == MIDDLE
        assert prepared.digest == digest_after(log, MIDDLE)
        prepared.discard()


def replicas_export_the_same_bytes(room: Room, folder: Path) -> None:
    for log in (the_log(), night_log()):
        first = None
        for size in (1, 2, 9, LENGTH):
            machine = applied(room, folder / f"{len(log)}-{size}.db", log, size)
            blocks = b"".join(exported(machine))
            machine.close()
            assert first in (None, blocks), f"batches of {size} make another snapshot"
            first = blocks


def the_footer_has_the_digest_of_the_state(room: Room, folder: Path) -> None:
    for log in (the_log(), night_log()):
        machine = applied(room, folder / f"{len(log)}.db", log)
        last = exported(machine)[-1]
        assert digest_after(log, len(log)).encode() in last
        machine.close()


def checkpoints_wait_for_the_snapshot(room: Room, folder: Path) -> None:
    """While a second connection is open the first one does not touch the database file; afterwards it does."""
    path = folder / "chat.db"
    machine = applied(room, path, the_log()[:40])
    machine.database.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def automatic() -> int:
        return int(machine.database.conn.execute("PRAGMA wal_autocheckpoint").fetchone()[0])

    snapshot = machine.open_snapshot()
    before = path.read_bytes()
    for entry in the_log()[40:]:
        machine.apply([entry])
        assert automatic() == 0
    assert path.read_bytes() == before
    snapshot.close()
    machine.apply([Entry(LENGTH + 1, 99, b"")])
    assert automatic() > 0
    machine.close()


def a_snapshot_that_costs_too_much_is_ended(room: Room, folder: Path) -> None:
    machine = applied(room, folder / "chat.db", the_log()[:40])
    setattr(room.modules["state_machine"], "SNAPSHOT_WAL_BYTES", 0)  # noqa: B010 - a module built at run time
    try:
        snapshot = machine.open_snapshot()
        blocks = snapshot.blocks()
        next(blocks)
        for entry in the_log()[40:]:
            machine.apply([entry])
        statistics = machine.statistics()
        assert (statistics.snapshots_abandoned, statistics.open_snapshots) == (1, 0)
        with pytest.raises(room.SnapshotAbandoned, match="too much was written"):
            list(blocks)
    finally:
        setattr(room.modules["state_machine"], "SNAPSHOT_WAL_BYTES", 256 * 1024 * 1024)  # noqa: B010
        machine.close()


# --- importing ---------------------------------------------------------------------------------------------------


def an_import_has_everything(room: Room, folder: Path) -> None:
    """State, index, term and digest; and what is applied to it from there on ends in the same state."""
    log = the_log()
    machine = applied(room, folder / "chat.db", log[:MIDDLE])
    blocks = exported(machine)
    machine.close()
    for path in (folder / "other.db", ":memory:"):
        other = room.ChatStateMachine.open(path)
        other.install(room.prepare_state(path, blocks, room.Origin()))
        assert (other.applied_index, other.applied_term) == (MIDDLE, log[MIDDLE - 1].term)
        assert other.digest() == digest_after(log, MIDDLE)
        assert exported(other) == blocks
        other.apply(log[MIDDLE:])
        assert other.digest() == digest_after(log, LENGTH)
        other.close()
        if path != ":memory:":
            again = room.ChatStateMachine.open(path)
            assert again.digest() == digest_after(log, LENGTH)
            again.close()


def a_retry_after_the_import_gets_its_first_answer(room: Room, folder: Path) -> None:
    """Every write of the log, sent again to the machine that applied it and to one that got its snapshot."""
    log = the_log()
    machine = applied(room, folder / "chat.db", log)
    other = room.ChatStateMachine.open(folder / "other.db")
    other.install(room.prepare_state(folder / "other.db", exported(machine), room.Origin()))
    writes = [write_of(entry) for entry in log if entry.payload]
    retries = entries_of([msgspec.structs.replace(one, proposed_id=0) for one in writes], after=LENGTH, term=99)
    assert machine.apply(retries) == other.apply(retries)
    assert machine.statistics().repeated_answers == other.statistics().repeated_answers + _repeated(log)
    machine.close()
    other.close()


@cache
def _repeated(log: tuple[Entry, ...]) -> int:
    from impl.chat.state_machine import ChatStateMachine

    machine = ChatStateMachine.open(":memory:")
    machine.apply(log)
    count = machine.statistics().repeated_answers
    machine.close()
    return count


def a_retry_of_a_send_is_not_posted_twice(room: Room, folder: Path) -> None:
    machine = applied(room, folder / "chat.db", night_log())
    other = room.ChatStateMachine.open(folder / "other.db")
    other.install(room.prepare_state(folder / "other.db", exported(machine), room.Origin()))
    last = len(night_log())
    morning = decode_command(night_log()[-1].payload)
    assert isinstance(morning, Send)
    replies = [each.apply(entries_of([morning], after=last)) for each in (machine, other)]
    assert replies[0] == replies[1]
    assert isinstance(replies[1][0], Posted)
    assert replies[1][0].seq == 43
    machine.close()
    other.close()


def every_changed_byte_is_refused(room: Room, folder: Path) -> None:
    """One bit of each byte, in turn; the old state is untouched."""
    machine = applied(room, folder / "chat.db", the_log()[:30])
    data = b"".join(exported(machine))
    digest = machine.digest()
    for offset in range(len(data)):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << offset % 8
        with pytest.raises(room.SnapshotUnusable):
            room.prepare_state(":memory:", [bytes(damaged)], room.Origin())
    with pytest.raises(room.SnapshotUnusable, match=r"block 1 \(at byte 0\)"):
        room.prepare_state(folder / "chat.db", [bytes(damaged[:8]) + b"?" + data[9:]], room.Origin())
    assert machine.digest() == digest
    assert not (folder / "chat.db.new").exists()
    machine.close()


def every_cut_and_every_missing_block_is_refused(room: Room, folder: Path) -> None:
    machine = applied(room, folder / "chat.db", the_log())
    blocks = exported(machine)
    machine.close()
    data = b"".join(blocks)
    spoiled: list[list[bytes]] = [[data[:cut]] for cut in range(0, len(data), 101)]
    spoiled.append([data, b"?"])
    for number in range(len(blocks)):
        spoiled.append([*blocks[:number], *blocks[number + 1 :]])
        spoiled.append([*blocks[: number + 1], *blocks[number:]])
        if number + 1 < len(blocks):
            spoiled.append([*blocks[:number], blocks[number + 1], blocks[number], *blocks[number + 2 :]])
    for pieces in spoiled:
        with pytest.raises(room.SnapshotUnusable):
            room.prepare_state(":memory:", pieces, room.Origin())


def a_changed_row_with_a_right_checksum_is_refused(room: Room, folder: Path) -> None:
    """A byte of a name or a text changed and the block's checksum made anew: only the digest tells."""
    machine = applied(room, folder / "chat.db", the_log())
    blocks = exported(machine)
    machine.close()
    for number, old in ((1, b"user-"), (-3, b"create")):
        body = blocks[number][8:].replace(old, old.swapcase(), 1)
        assert body != blocks[number][8:]
        checksum = google_crc32c.extend(google_crc32c.value(struct.pack("<I", len(body))), body)
        block = struct.pack("<II", len(body), checksum) + body
        changed = list(blocks)
        changed[number] = block
        with pytest.raises(room.SnapshotUnusable, match="does not hold the state that was exported"):
            room.prepare_state(":memory:", changed, room.Origin())


def the_snapshot_of_another_cluster_is_refused(room: Room, folder: Path) -> None:
    machine = room.ChatStateMachine.open(folder / "chat.db", room.Origin("ours"))
    blocks = exported(machine)
    machine.close()
    for other in (room.Origin("theirs"), room.Origin("ours", 1)):
        with pytest.raises(room.SnapshotUnusable, match="cluster 'ours', and this node belongs to"):
            room.prepare_state(":memory:", blocks, other)
    room.prepare_state(":memory:", blocks, room.Origin("ours", 0, 77)).discard()


# --- installing --------------------------------------------------------------------------------------------------


class PowerOff(Exception):
    """The process is gone."""


class OffAfter(RealDisk):
    """Carries out so many changes, and none after them."""

    def __init__(self, changes: int) -> None:
        self.left = changes

    def _change(self) -> None:
        if self.left == 0:
            raise PowerOff
        self.left -= 1

    def rename(self, old: Path, new: Path) -> None:
        self._change()
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self._change()
        super().remove(path)

    def sync_directory(self, path: Path) -> None:
        self._change()
        super().sync_directory(path)

    def open_file(self, path: Path, *, create: bool = False) -> Any:
        self._change()
        return super().open_file(path, create=create)


def crash_points(attempt: Callable[[OffAfter], None]) -> Iterator[int]:
    """Make the attempt with the power going off after no change, one, two ... until it is carried out."""
    for changes in range(100):
        try:
            attempt(OffAfter(changes))
        except PowerOff:
            yield changes
        else:
            assert changes > 5, "next to nothing was done"
            yield changes
            return
    raise AssertionError("it is never done")


def after_a_crash_there_is_the_old_state_or_the_new(room: Room, folder: Path) -> None:
    log = the_log()
    source = applied(room, ":memory:", log)
    blocks = exported(source)
    source.close()
    number = 0
    outcomes: list[int] = []
    path = folder / "none"

    def attempt(disk: OffAfter) -> None:
        nonlocal number, path
        number += 1
        (folder / str(number)).mkdir()
        path = folder / str(number) / "chat.db"
        machine = applied(room, path, log[:MIDDLE])
        try:
            machine.install(room.prepare_state(path, blocks, room.Origin(), disk), disk)
        finally:
            machine.close()

    for _ in crash_points(attempt):
        assert [name.name for name in path.parent.glob("chat.db-*")] == ["chat.db-lock"]
        survivor = room.ChatStateMachine.open(path)
        assert survivor.applied_index in (MIDDLE, LENGTH)
        assert survivor.digest() == digest_after(log, survivor.applied_index)
        outcomes.append(survivor.applied_index)
        # Nothing that the crash has left behind is in the way.
        if survivor.applied_index == MIDDLE:
            survivor.install(room.prepare_state(path, blocks, room.Origin()))
        assert survivor.digest() == digest_after(log, LENGTH)
        survivor.close()
    assert outcomes[0] == MIDDLE
    assert outcomes[-1] == LENGTH


def nothing_of_the_old_database_is_replayed_into_the_new(room: Room, folder: Path) -> None:
    """A process that was killed leaves a -wal file; so does a damaged database that is rebuilt."""
    log = the_log()
    source = applied(room, ":memory:", log[:MIDDLE])
    blocks = exported(source)
    source.close()
    path = folder / "chat.db"
    machine = applied(room, path, log)
    files = {suffix: (folder / f"chat.db{suffix}").read_bytes() for suffix in ("", "-wal")}
    machine.close()
    for suffix, content in files.items():
        (folder / f"chat.db{suffix}").write_bytes(content)
    room.rebuild(path, room.Origin(), blocks, extent(room, log, MIDDLE, LENGTH))
    assert (folder / "chat.db.set-aside-wal").read_bytes() == files["-wal"]
    again = room.ChatStateMachine.open(path)
    assert (again.applied_index, again.digest()) == (MIDDLE, digest_after(log, MIDDLE))
    again.close()


def a_leftover_wal_is_gone_before_the_rename(room: Room, folder: Path) -> None:
    path = folder / "chat.db"
    prepared = room.prepare_state(path, None, room.Origin())
    for suffix in ("", "-wal", "-journal", "-shm"):
        (folder / f"chat.db{suffix}").write_bytes(b"old")
    steps: list[str] = []

    class Watched(RealDisk):
        def rename(self, old: Path, new: Path) -> None:
            assert not list(folder.glob("chat.db-*")), "companions of the old database are still there"
            steps.append("rename")
            super().rename(old, new)

        def sync_directory(self, path: Path) -> None:
            steps.append("sync")
            super().sync_directory(path)

    room.place_database(Watched(), prepared.path, path)
    assert steps == ["sync", "rename", "sync"]


# --- rebuilding --------------------------------------------------------------------------------------------------


def extent(room: Room, log: tuple[Entry, ...], base: int, last: int) -> Any:
    return room.LogExtent(base, last, lambda index: log[index - 1].term)


def a_state_that_does_not_go_with_the_log_is_made_anew(room: Room, folder: Path) -> None:
    log = the_log()
    origin = room.Origin("ours", 0, 7)
    source = room.ChatStateMachine.open(":memory:", origin)
    source.apply(log[:MIDDLE])
    blocks = exported(source)
    source.close()
    path = folder / "chat.db"
    fits = extent(room, log, MIDDLE, LENGTH)
    other_terms = room.LogExtent(10, LENGTH, lambda index: 1000)

    def remove() -> None:
        for file in folder.glob("chat.db*"):
            file.unlink()

    def write(index: int, whose: Any = origin) -> None:
        remove()
        machine = room.ChatStateMachine.open(path, whose)
        machine.apply(log[:index])
        machine.close()

    def damage() -> None:
        write(LENGTH)
        content = bytearray(path.read_bytes())
        for offset in range(5000, len(content), 97):
            content[offset] ^= 0xFF
        path.write_bytes(content)

    def older_layout() -> None:
        write(LENGTH)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 1")
        connection.close()

    cases: tuple[tuple[Callable[[], None], Any, str | None], ...] = (
        (lambda: write(MIDDLE), fits, None),
        (lambda: write(LENGTH), fits, None),
        (lambda: write(MIDDLE - 1), fits, "the log begins only after"),
        (lambda: write(LENGTH), extent(room, log, MIDDLE, LENGTH - 1), "the log ends at"),
        (lambda: write(MIDDLE), other_terms, "has term 1000"),
        (lambda: write(LENGTH, room.Origin("theirs", 0, 7)), fits, "of cluster 'theirs'"),
        (lambda: write(LENGTH, room.Origin("ours", 1, 7)), fits, "of group 1 of"),
        (lambda: write(LENGTH, room.Origin("ours", 0, 8)), fits, "incarnation 8"),
        (damage, fits, "cannot be read as a database"),
        (older_layout, fits, "database version 1"),
        (remove, fits, "up to 0, and the log begins"),
    )
    for make, log_extent, expected in cases:
        make()
        reason = room.needs_rebuild(path, origin, log_extent)
        assert (reason is None) == (expected is None), reason
        assert expected is None or expected in reason, reason
        if log_extent is other_terms:
            continue  # the snapshot is that of another log, too
        make()
        machine, why = room.open_or_rebuild(room.ChatStateMachine, path, origin, log_extent, lambda: blocks)
        assert why == reason
        machine.apply(log[machine.applied_index :])
        assert machine.digest() == digest_after(log, LENGTH)
        machine.close()


def after_a_crash_a_rebuild_is_begun_again_or_done(room: Room, folder: Path) -> None:
    log = the_log()
    source = applied(room, ":memory:", log[:MIDDLE])
    blocks = exported(source)
    source.close()
    fits = extent(room, log, MIDDLE, LENGTH)
    number = 0
    path = folder / "none"

    def attempt(disk: OffAfter) -> None:
        nonlocal number, path
        number += 1
        (folder / str(number)).mkdir()
        path = folder / str(number) / "chat.db"
        applied(room, path, log[: MIDDLE - 1]).close()
        room.rebuild(path, room.Origin(), blocks, fits, disk)

    reasons = []
    for _ in crash_points(attempt):
        reasons.append(room.needs_rebuild(path, room.Origin(), fits))
        machine, _ = room.open_or_rebuild(room.ChatStateMachine, path, room.Origin(), fits, lambda: blocks)
        assert (machine.applied_index, machine.digest()) == (MIDDLE, digest_after(log, MIDDLE))
        machine.close()
    assert reasons[0] is not None
    assert reasons[-1] is None


def a_snapshot_behind_the_log_is_no_way_out(room: Room, folder: Path) -> None:
    log = the_log()
    source = applied(room, ":memory:", log[: MIDDLE - 1])
    blocks = exported(source)
    source.close()
    applied(room, folder / "chat.db", log[:5]).close()
    for newest in (blocks, None):
        with pytest.raises(room.StateUnusable, match="Replace this node by a new one"):
            room.rebuild(folder / "chat.db", room.Origin(), newest, extent(room, log, MIDDLE, LENGTH))
    assert not (folder / "chat.db.new").exists()
    machine = room.ChatStateMachine.open(folder / "chat.db")
    assert machine.digest() == digest_after(log, 5)
    machine.close()


def a_flipped_bit_in_a_text_is_found_on_request(room: Room, folder: Path) -> None:
    log = the_log()
    path = folder / "chat.db"
    machine = applied(room, path, log[:MIDDLE])
    blocks = exported(machine)
    machine.apply(log[MIDDLE:])
    for snapshot, place in ((blocks, path), (blocks, None), (None, path)):
        assert room.verify(machine, snapshot, log, place).problems == ()
        assert room.verify(machine, snapshot, log, place).digest == digest_after(log, LENGTH)
    for table, planted in (
        ("users", "UPDATE users SET username = username || '.' WHERE user_id = (SELECT max(user_id) FROM users)"),
        (
            "messages",
            "UPDATE messages SET text = text || '.' WHERE seq = 1",
        ),
        ("answers", "UPDATE answers SET reply = x'00' WHERE log_index = (SELECT max(log_index) FROM answers)"),
        ("members", "DELETE FROM members"),
        ("chats", "UPDATE chats SET name = 'other'"),
        ("progress", "UPDATE progress SET last_id = last_id + 1"),
    ):
        machine.database.conn.execute("SAVEPOINT before")
        machine.database.conn.execute(planted)
        (problem,) = room.verify(machine, blocks, log).problems
        assert table in problem
        machine.database.conn.execute("ROLLBACK TO before")
        machine.database.conn.execute("RELEASE before")
    assert not list(folder.glob("*verify*"))
    machine.close()


def another_program_that_writes_is_noticed(room: Room, folder: Path) -> None:
    machine = applied(room, folder / "chat.db", the_log()[:40])
    reader = sqlite3.connect(folder / "chat.db")
    assert reader.execute("SELECT count(*) FROM users").fetchone()[0] > 0
    machine.apply(the_log()[40:50])  # one that reads does no harm
    with reader:
        reader.execute("UPDATE users SET username = username || '?'")
    with pytest.raises(room.StateUnusable, match="written to by another program"):
        machine.apply(the_log()[50:60])
    assert machine.applied_index == 50
    reader.close()
    machine.close()


def what_is_synced_is_said(room: Room, folder: Path) -> None:
    machine = applied(room, folder / "chat.db", the_log()[:40])
    assert machine.statistics().durable_index == 0
    syncs = machine.database.conn.execute("SELECT syncs FROM origin").fetchone()
    with machine.open_snapshot() as snapshot:
        assert machine.sync_to_disk() == 40
        assert machine.statistics().durable_index == 40
        assert machine.statistics().open_snapshots == 1
        assert machine.database.conn.execute("SELECT syncs FROM origin").fetchone() == (syncs[0] + 1,)
        assert machine.database.conn.execute("PRAGMA synchronous").fetchone() == (1,)
        assert snapshot.applied_index == 40
    assert machine.digest() == digest_after(the_log(), 40)
    machine.close()
