"""Snapshots of the chat state: every check against the room as it is, and planted bugs that the checks must catch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from inspect import getmembers, isfunction
from pathlib import Path
from random import Random

import pytest

from impl.chat.database import Origin, StateUnusable
from impl.chat.snapshot import SnapshotAbandoned, prepare_state
from impl.chat.state_machine import ChatStateMachine, OutOfOrder
from impl.chat.tests import snapshot_checks
from impl.chat.tests.room import Mutant, Room
from impl.chat.tests.snapshot_checks import LENGTH, MIDDLE, applied, digest_after, exported, the_log

CHECKS: dict[str, Callable[[Room, Path], None]] = {
    name: function
    for name, function in getmembers(snapshot_checks, isfunction)
    if function.__module__ == snapshot_checks.__name__ and list(function.__annotations__)[:2] == ["room", "folder"]
}

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "answers-left-out",
        "snapshot",
        "for number, table in enumerate(LOGICAL_TABLES):",
        "for number, table in enumerate(LOGICAL_TABLES[:4]):",
        "a_retry_of_a_send_is_not_posted_twice",
    ),
    Mutant(
        "answers-not-inserted",
        "snapshot",
        "    _insert(connection, block, table.insert, rows)\n",
        '    if table.name != "answers":\n        _insert(connection, block, table.insert, rows)\n',
        "a_retry_of_a_send_is_not_posted_twice",
    ),
    Mutant(
        "expired-answers-kept",
        "logical_state",
        '"time_ms >= :horizon_ms"',
        '":horizon_ms IS NOT NULL"',
        "replicas_export_the_same_bytes",
    ),
    Mutant(
        "expired-one-early",
        "logical_state",
        '"time_ms >= :horizon_ms"',
        '"time_ms > :horizon_ms"',
        "the_footer_has_the_digest_of_the_state",
    ),
    Mutant(
        "rows-in-no-order",
        "logical_state",
        " ORDER BY {self.key}",
        " ORDER BY random()",
        "replicas_export_the_same_bytes",
    ),
    Mutant(
        "applied-index-not-restored",
        "snapshot",
        "progress = ProgressRow(header.applied_index, ",
        "progress = ProgressRow(0, ",
        "an_import_has_everything",
    ),
    Mutant(
        "last-id-not-restored",
        "snapshot",
        "header.applied_term, header.last_id, ",
        "header.applied_term, 0, ",
        "an_import_has_everything",
    ),
    Mutant(
        "digest-not-checked",
        "snapshot",
        "footer is not None and footer.digest != digest",
        "footer is not None and not footer.digest",
        "a_changed_row_with_a_right_checksum_is_refused",
    ),
    Mutant(
        "checksum-not-checked",
        "snapshot_format",
        "    if _checksum(body) != checksum:",
        "    if False:",
        "every_changed_byte_is_refused",
    ),
    Mutant(
        "end-not-checked",
        "snapshot_format",
        "    if buffer:\n",
        "    if False:\n",
        "every_cut_and_every_missing_block_is_refused",
    ),
    Mutant(
        "anything-behind-the-end",
        "snapshot",
        "        if footer is not None:\n            raise",
        "        if footer is not None and block.kind != FOOTER:\n            raise",
        "every_cut_and_every_missing_block_is_refused",
    ),
    Mutant(
        "cluster-not-checked",
        "snapshot",
        "if (header.cluster, header.group) != (origin.cluster, origin.group):",
        "if header.cluster != origin.cluster:",
        "the_snapshot_of_another_cluster_is_refused",
    ),
    Mutant(
        "moment-not-fixed",
        "snapshot",
        "            return cls(open_reader(path), origin, horizon_ms)",
        "            return cls(database.conn, origin, horizon_ms)",
        "a_snapshot_is_the_state_when_it_was_opened",
    ),
    Mutant(
        "moment-fixed-late",
        "database",
        '        connection.execute("BEGIN")\n        connection.execute("SELECT',
        '        connection.execute("SELECT',
        "a_snapshot_is_the_state_when_it_was_opened",
    ),
    Mutant(
        "checkpoints-go-on",
        "database",
        "{0 if hold else CHECKPOINT_PAGES}",
        "{1 if hold else CHECKPOINT_PAGES}",
        "checkpoints_wait_for_the_snapshot",
    ),
    Mutant(
        "checkpoints-never-come-back",
        "state_machine",
        "            hold_checkpoints(self.database.conn, hold=False)\n            self._holds",
        "            self._holds",
        "checkpoints_wait_for_the_snapshot",
    ),
    Mutant(
        "wal-without-bound",
        "state_machine",
        "self._wal_bytes() > max(SNAPSHOT_WAL_BYTES, self._database_bytes())",
        "self._wal_bytes() < 0",
        "a_snapshot_that_costs_too_much_is_ended",
    ),
    Mutant(
        "replaced-before-complete",
        "snapshot",
        "    return PreparedState(origin, progress, digest, new)",
        "    disk.rename(new, Path(path))\n    disk.open_file(Path(path)).sync()\n"
        "    _remove_all(disk, new, COMPANIONS)\n    disk.rename(Path(path), new)\n"
        "    return PreparedState(origin, progress, digest, new)",
        "after_a_crash_there_is_the_old_state_or_the_new",
    ),
    Mutant(
        "old-removed-first",
        "snapshot",
        "    _remove_all(disk, path, COMPANIONS)\n    disk.sync",
        '    _remove_all(disk, path, ("", *COMPANIONS))\n    disk.sync',
        "after_a_crash_there_is_the_old_state_or_the_new",
    ),
    Mutant(
        "stale-new-is-taken",
        "snapshot",
        "        remove_database(disk, new)  # a crash may have left one",
        "        pass",
        "after_a_crash_there_is_the_old_state_or_the_new",
    ),
    Mutant(
        "companions-left",
        "snapshot",
        "    _remove_all(disk, path, COMPANIONS)\n    disk.sync",
        "    disk.sync",
        "a_leftover_wal_is_gone_before_the_rename",
    ),
    Mutant(
        "removal-not-synced",
        "snapshot",
        "    _remove_all(disk, path, COMPANIONS)\n    disk.sync_directory(path.parent)\n",
        "    _remove_all(disk, path, COMPANIONS)\n",
        "a_leftover_wal_is_gone_before_the_rename",
    ),
    Mutant(
        "name-not-synced",
        "snapshot",
        "    disk.rename(new, path)\n    disk.sync_directory(path.parent)\n",
        "    disk.rename(new, path)\n",
        "a_leftover_wal_is_gone_before_the_rename",
    ),
    Mutant(
        "behind-the-log-not-seen",
        "rebuild",
        "    if applied_index < log.base_index:",
        "    if applied_index < log.base_index - 1:",
        "a_state_that_does_not_go_with_the_log_is_made_anew",
    ),
    Mutant(
        "ahead-of-the-log-not-seen",
        "rebuild",
        "    if applied_index > log.last_index:",
        "    if applied_index > log.last_index + 1:",
        "a_state_that_does_not_go_with_the_log_is_made_anew",
    ),
    Mutant(
        "term-not-compared",
        "rebuild",
        "    if applied_index and log.term_at(applied_index) != applied_term:",
        "    if False:",
        "a_state_that_does_not_go_with_the_log_is_made_anew",
    ),
    Mutant(
        "origin-not-compared",
        "database",
        "    if found != origin:",
        "    if found[:2] != origin[:2]:",
        "a_state_that_does_not_go_with_the_log_is_made_anew",
    ),
    Mutant(
        "any-snapshot-will-do",
        "rebuild",
        "        if reason is not None:\n            prepared",
        "        if False:\n            prepared",
        "a_snapshot_behind_the_log_is_no_way_out",
    ),
    Mutant(
        "data-version-not-watched",
        "state_machine",
        "        self._check_alone()\n",
        "",
        "another_program_that_writes_is_noticed",
    ),
    Mutant(
        "verify-trusts-the-texts",
        "verify",
        "enumerate(LOGICAL_TABLES)",
        "enumerate(LOGICAL_TABLES[:3])",
        "a_flipped_bit_in_a_text_is_found_on_request",
    ),
)


@pytest.mark.parametrize("check", CHECKS)
def test_what_must_hold_of_snapshots(check: str, tmp_path: Path) -> None:
    CHECKS[check](Room(), tmp_path)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    room = Room(mutant)
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - a bug may trip over anything
        CHECKS[mutant.check](room, tmp_path)
    assert not isinstance(caught.value, AttributeError | TypeError | NameError), "the mutant does not run at all"


def test_every_check_is_worth_a_planted_bug() -> None:
    without = set(CHECKS) - {mutant.check for mutant in MUTANTS}
    assert without <= {
        # These rest on what other checks break: the same import, the same footer, the same files.
        "a_retry_after_the_import_gets_its_first_answer",
        "nothing_of_the_old_database_is_replayed_into_the_new",
        "after_a_crash_a_rebuild_is_begun_again_or_done",
        "what_is_synced_is_said",
    }


def test_the_stream_may_come_in_pieces_of_any_size(tmp_path: Path) -> None:
    machine = applied(Room(), tmp_path / "chat.db", the_log())
    data = b"".join(exported(machine))
    machine.close()
    chance = Random(5)
    for size_max in (1, 3, 100, 5_000, len(data)):
        pieces, start = [], 0
        while start < len(data):
            size = chance.randint(0, size_max)
            pieces.append(data[start : start + size])
            start += size
        prepared = prepare_state(":memory:", pieces, Origin())
        assert prepared.digest == digest_after(the_log(), LENGTH)
        prepared.discard()


def test_a_snapshot_is_read_in_one_thread_while_another_applies(tmp_path: Path) -> None:
    """However the two are interleaved, it is the state of the moment at which it was opened."""
    machine = applied(Room(), tmp_path / "chat.db", the_log()[:MIDDLE])
    snapshot = machine.open_snapshot()
    blocks: list[bytes] = []
    reading = threading.Thread(target=lambda: blocks.extend(snapshot.blocks()))
    reading.start()
    for entry in the_log()[MIDDLE:]:
        machine.apply([entry])
    reading.join()
    assert machine.digest() == digest_after(the_log(), LENGTH)
    machine.close()
    prepared = prepare_state(":memory:", blocks, Origin())
    assert (prepared.applied_index, prepared.digest) == (MIDDLE, digest_after(the_log(), MIDDLE))
    prepared.discard()


def test_closing_the_machine_ends_its_snapshots(tmp_path: Path) -> None:
    machine = applied(Room(), tmp_path / "chat.db", the_log())
    blocks = machine.open_snapshot().blocks()
    next(blocks)
    machine.close()
    with pytest.raises(SnapshotAbandoned, match=f"entry {LENGTH} cannot be read any further: the state machine was"):
        list(blocks)
    assert not (tmp_path / "chat.db-wal").exists()


def test_a_snapshot_is_read_once(tmp_path: Path) -> None:
    machine = applied(Room(), tmp_path / "chat.db", the_log())
    snapshot = machine.open_snapshot()
    list(snapshot.blocks())
    assert not snapshot.is_open
    with pytest.raises(ValueError, match="read once"):
        list(snapshot.blocks())
    machine.close()


def test_a_state_that_is_not_ahead_is_not_installed(tmp_path: Path) -> None:
    machine = ChatStateMachine.open(tmp_path / "chat.db")
    machine.apply(the_log()[:MIDDLE])
    prepared = prepare_state(tmp_path / "chat.db", exported(machine), Origin())
    with pytest.raises(OutOfOrder, match="leave it out"):
        machine.install(prepared)
    prepared.discard()
    machine.apply(the_log()[MIDDLE:])
    ahead = prepare_state(tmp_path / "chat.db", exported(machine), Origin("", 0, 5))
    early = ChatStateMachine.open(tmp_path / "early.db")
    with pytest.raises(StateUnusable, match="is not for this machine"):
        early.install(ahead)
    early.apply(the_log()[:3])
    early.close()
    machine.close()


def test_an_install_keeps_the_counters_and_ends_snapshots(tmp_path: Path) -> None:
    source = applied(Room(), ":memory:", the_log())
    machine = applied(Room(), tmp_path / "chat.db", the_log()[:MIDDLE])
    snapshot = machine.open_snapshot()
    before = machine.statistics()
    machine.install(prepare_state(tmp_path / "chat.db", exported(source), Origin()))
    after = machine.statistics()
    assert (after.installs, after.entries, after.snapshots) == (1, before.entries, 1)
    assert (after.applied_index, after.durable_index, after.open_snapshots) == (LENGTH, LENGTH, 0)
    with pytest.raises(SnapshotAbandoned, match="another state was installed"):
        list(snapshot.blocks())
    source.close()
    machine.close()


def test_a_full_disk_during_an_import_leaves_nothing_behind(tmp_path: Path) -> None:
    machine = applied(Room(), tmp_path / "chat.db", the_log())
    blocks = exported(machine)

    def breaking() -> list[bytes]:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        prepare_state(tmp_path / "chat.db", (piece for piece in [*blocks[:2], b""] if piece or breaking()), Origin())
    assert not list(tmp_path.glob("chat.db.new*"))
    machine.close()
