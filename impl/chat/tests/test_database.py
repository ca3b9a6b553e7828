"""The file behind the state machine: crashes, copies, replays, and files that must not be touched."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from impl.chat import database
from impl.chat.commands import Reply
from impl.chat.database import DATABASE_VERSION, StateUnusable
from impl.chat.state_machine import ChatStateMachine, Progress
from impl.chat.tests.logs import random_log
from impl.raft.messages import Entry

LENGTH = 160


@pytest.fixture(scope="module")
def log() -> list[Entry]:
    return random_log(seed=20_250_101, length=LENGTH)


@pytest.fixture(scope="module")
def digests(log: list[Entry]) -> list[str]:
    """The digest after each entry, applied one by one in memory; the first is that of the empty state."""
    machine = ChatStateMachine.open(":memory:")
    found = [machine.digest()]
    for entry in log:
        machine.apply([entry])
        found.append(machine.digest())
    machine.close()
    return found


def in_batches(machine: ChatStateMachine, log: list[Entry], size: int) -> None:
    for start in range(machine.applied_index, len(log), size):
        machine.apply(log[start : start + size])


def copy_of(path: Path, target: Path) -> Path:
    """The files as a crash at this moment would leave them: neither closed nor checkpointed."""
    target.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, target / file.name)
    return target / path.name


def test_the_log_exercises_the_state_machine(log: list[Entry], digests: list[str]) -> None:
    machine = ChatStateMachine.open(":memory:")
    machine.apply(log)
    statistics = machine.statistics()
    assert statistics.users > 3
    assert statistics.repeated_answers > 3
    assert statistics.rejections > 10
    assert len(set(digests)) == LENGTH + 1
    machine.close()


@pytest.mark.parametrize("size", [2, 7, 64, LENGTH])
def test_batches_make_no_difference(tmp_path: Path, log: list[Entry], digests: list[str], size: int) -> None:
    machine = ChatStateMachine.open(tmp_path / "chat.db")
    in_batches(machine, log, size)
    assert machine.digest() == digests[-1]
    machine.close()


def test_replies_do_not_depend_on_batches(log: list[Entry]) -> None:
    one, many = ChatStateMachine.open(":memory:"), ChatStateMachine.open(":memory:")
    assert one.apply(log) == [reply for entry in log for reply in many.apply([entry])]
    one.close()
    many.close()


def test_a_crash_after_any_batch_leaves_the_index_and_the_effects_agreed(
    tmp_path: Path, log: list[Entry], digests: list[str]
) -> None:
    """Every copy made between two batches opens at the batch's end, and replaying from there ends in the same state."""
    path = tmp_path / "chat.db"
    machine = ChatStateMachine.open(path)
    for number, start in enumerate(range(0, LENGTH, 9)):
        machine.apply(log[start : start + 9])
        survivor = ChatStateMachine.open(copy_of(path, tmp_path / f"crash-{number}"))
        assert survivor.applied_index == machine.applied_index
        assert survivor.applied_term == log[machine.applied_index - 1].term
        assert survivor.digest() == digests[machine.applied_index]
        in_batches(survivor, log, 13)
        assert survivor.digest() == digests[-1]
        survivor.close()
    machine.close()


class Crash(Exception):
    """The process is gone."""


class CrashesBeforeTheCommit(ChatStateMachine):
    """Copies its files when all effects of a batch are written and nothing is committed; then it stops."""

    survivor: Path

    def _save(self, progress: Progress) -> None:
        _, _, file = self.database.conn.execute("PRAGMA database_list").fetchone()  # main is the first
        self.survivor = copy_of(Path(file), Path(file).parent / "crash")
        raise Crash


def test_a_crash_inside_a_batch_leaves_nothing_of_it(tmp_path: Path, log: list[Entry], digests: list[str]) -> None:
    path = tmp_path / "chat.db"
    machine = ChatStateMachine.open(path)
    machine.apply(log[:40])
    crashing = CrashesBeforeTheCommit(machine.database)
    # So little cache that the transaction spills into the -wal file before it commits.
    machine.database.conn.execute("PRAGMA cache_size = 2")
    wal = tmp_path / "chat.db-wal"
    size_before = wal.stat().st_size
    with pytest.raises(Crash):
        crashing.apply(log[40:])
    spilled = crashing.survivor.parent / wal.name
    assert spilled.stat().st_size > size_before, "nothing of the batch had reached the file: this test shows nothing"
    machine.close()

    for survivor_path in (crashing.survivor, path):
        survivor = ChatStateMachine.open(survivor_path)
        assert survivor.applied_index == 40
        assert survivor.digest() == digests[40]
        survivor.close()


KILLED_BETWEEN_BATCHES = """
import os, signal, sys
from impl.chat.state_machine import ChatStateMachine
from impl.chat.tests.logs import random_log
log = random_log(seed=20_250_101, length=160)
machine = ChatStateMachine.open(sys.argv[1])
machine.apply(log[:50])
machine.apply(log[50:77])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_nothing_that_was_applied(tmp_path: Path, log: list[Entry], digests: list[str]) -> None:
    path = tmp_path / "chat.db"
    done = subprocess.run([sys.executable, "-c", KILLED_BETWEEN_BATCHES, str(path)], timeout=60, check=False)
    assert done.returncode == -9
    machine = ChatStateMachine.open(path)
    assert (machine.applied_index, machine.digest()) == (77, digests[77])
    in_batches(machine, log, 5)
    assert machine.digest() == digests[-1]
    machine.close()


@pytest.mark.parametrize("index", [0, 1, 50, LENGTH - 1, LENGTH])
def test_replay_goes_on_from_any_applied_index(
    tmp_path: Path, log: list[Entry], digests: list[str], index: int
) -> None:
    path = tmp_path / "chat.db"
    machine = ChatStateMachine.open(path)
    machine.apply(log[:index])
    machine.close()
    machine = ChatStateMachine.open(path)
    assert machine.applied_index == index
    machine.apply(log[index:])
    assert machine.digest() == digests[-1]
    machine.close()


class IndexApartFromTheEffects(ChatStateMachine):
    """The planted bug: the applied index is committed by itself after the effects, and the crash falls in between."""

    survivor: Path

    def apply(self, entries: Sequence[Entry]) -> list[Reply | None]:
        replies = super().apply(entries)
        _, _, file = self.database.conn.execute("PRAGMA database_list").fetchone()  # main is the first
        self.survivor = copy_of(Path(file), Path(file).parent / "crash")
        with self.database.atomic():
            super()._save(self._progress)
        return replies

    def _save(self, progress: Progress) -> None:
        pass


def test_an_index_saved_apart_from_the_effects_would_be_found(
    tmp_path: Path, log: list[Entry], digests: list[str]
) -> None:
    machine = IndexApartFromTheEffects.open(tmp_path / "chat.db")
    machine.apply(log[:60])
    machine.close()
    survivor = ChatStateMachine.open(machine.survivor)
    assert survivor.digest() != digests[survivor.applied_index]
    survivor.close()


def test_the_digest_sees_every_column(log: list[Entry], digests: list[str]) -> None:
    machine = ChatStateMachine.open(":memory:")
    machine.apply(log)
    connection = machine.database.conn
    (user_id,) = connection.execute("SELECT max(user_id) FROM users").fetchone()
    for planted in (
        "UPDATE progress SET applied_term = applied_term + 1",
        f"UPDATE users SET username = 'mallory' WHERE user_id = {user_id}",
        "UPDATE chats SET name = 'other'",
        "DELETE FROM members",
        "UPDATE messages SET text = text || '.' WHERE kind = 'text'",
        "UPDATE messages SET author = author + 1",
        "UPDATE answers SET reply = x'00' WHERE log_index = (SELECT max(log_index) FROM answers)",
    ):
        connection.execute("SAVEPOINT before")
        changed = connection.execute(planted).rowcount
        assert changed > 0
        assert machine.digest() != digests[-1], planted
        connection.execute("ROLLBACK TO before")
        connection.execute("RELEASE before")
    assert machine.digest() == digests[-1]
    machine.close()


# --- files that are refused --------------------------------------------------------------------------------------


def test_the_settings_are_those_that_were_reasoned_about(tmp_path: Path) -> None:
    machine = ChatStateMachine.open(tmp_path / "chat.db")
    settings = {
        name: machine.database.conn.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "locking_mode", "application_id", "user_version")
    }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 1,
        "locking_mode": "normal",
        "application_id": database.APPLICATION_ID,
        "user_version": DATABASE_VERSION,
    }
    machine.close()


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    ChatStateMachine.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {DATABASE_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateUnusable, match="database version 3, this release knows versions up to 2: run"):
        ChatStateMachine.open(path)
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE progress (secret TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateUnusable, match="another program"):
        ChatStateMachine.open(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    path.write_bytes(b"these are not the rows you are looking for" * 50)
    with pytest.raises(StateUnusable, match="the node rebuilds it from its newest snapshot and its log"):
        ChatStateMachine.open(path)
    assert path.read_bytes().startswith(b"these are not")


def test_a_database_without_its_applied_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    ChatStateMachine.open(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DELETE FROM progress")
    connection.close()
    with pytest.raises(StateUnusable, match=r"how far the log is applied is missing.*from its newest snapshot"):
        ChatStateMachine.open(path)


def test_a_file_in_use_is_refused(tmp_path: Path) -> None:
    machine = ChatStateMachine.open(tmp_path / "chat.db")
    with pytest.raises(StateUnusable, match="in use by another process"):
        ChatStateMachine.open(tmp_path / "chat.db")
    machine.close()
    ChatStateMachine.open(tmp_path / "chat.db").close()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="check that its directory exists"):
        ChatStateMachine.open(tmp_path / "nowhere" / "chat.db")


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "SQLITE_VERSION_MIN", (99, 0, 0))
    with pytest.raises(StateUnusable, match=r"Telegraft needs 99\.0\.0: use a newer Python"):
        ChatStateMachine.open(tmp_path / "chat.db")


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    machine = ChatStateMachine.open(tmp_path / "chat.db")
    machine.close()
    machine.close()


def test_damage_to_the_structure_is_found_when_the_file_is_opened(tmp_path: Path, log: list[Entry]) -> None:
    """Bytes changed throughout the file. What changes inside a text alone is not found: SQLite keeps no checksums."""
    path = tmp_path / "chat.db"
    machine = ChatStateMachine.open(path)
    machine.apply(log)
    machine.close()
    content = bytearray(path.read_bytes())
    for offset in range(5000, len(content), 97):
        content[offset] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(StateUnusable, match="move it and its -wal neighbour away"):
        ChatStateMachine.open(path)
    assert path.read_bytes() == content
