"""What ``telegraft doctor`` says of directories in every condition; it changes none of them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from impl.cli import app
from impl.doctor import examine, main
from impl.raft.messages import Base, Configuration, Entry, HardState, Member
from impl.storage.disk import RealDisk
from impl.storage.formatting import format_directory
from impl.storage.identity import Identity, read_identity
from impl.storage.snapshots import SnapshotStore
from impl.storage.wal import Wal

IDENTITY = Identity("town", 1)
GROUP = Configuration((Member(1), Member(2), Member(3)), (1, 2))
SEGMENT_BYTES = 4096


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A node that has 30 entries behind a base at 20, a snapshot there, and a state."""
    path = tmp_path / "node-1"
    format_directory(RealDisk(), path, IDENTITY, Base(0, 0, GROUP), segment_bytes=SEGMENT_BYTES)
    wal, _ = Wal.open(RealDisk(), path, IDENTITY, segment_bytes=SEGMENT_BYTES)
    wal.append(HardState(3, 2), [])
    for index in range(1, 51):
        wal.append(None, [Entry(index, 1 + index // 25, b"x" * 300)])
    wal.append(None, [], Base(20, 1, GROUP, 0))
    wal.close()
    writer = SnapshotStore(RealDisk(), path / "snapshots", IDENTITY).create(Base(20, 1, GROUP, 0))
    writer.write(b"state" * 1000)
    writer.finish()
    with closing(sqlite3.connect(path / "chat.db")) as database:
        database.execute("CREATE TABLE progress (applied_index INTEGER)")
        database.execute("INSERT INTO progress VALUES (42)")
        database.commit()
    return path


def content_of(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != "lock"}


def newest_segment(directory: Path) -> Path:
    return max(directory.glob("log-*.segment"))


def said(directory: Path, capsys: pytest.CaptureFixture[str]) -> str:
    main(directory)
    return capsys.readouterr().out


def test_a_healthy_directory(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content_of(directory)
    report = examine(directory)
    assert (report.verdict, report.identity, report.term, report.voted_for) == ("healthy", IDENTITY, 3, 2)
    assert report.base == Base(20, 1, GROUP, 0)
    assert (report.last_index, report.applied_index) == (50, 42)
    assert len(report.segments) == len(list(directory.glob("log-*.segment"))) > 2
    assert sum(segment.frames for segment in report.segments) >= 31
    assert report.segments[-1].last_index == 50
    assert all(segment.used_bytes + segment.free_bytes == SEGMENT_BYTES for segment in report.segments)
    assert [(snapshot.index, snapshot.problem) for snapshot in report.snapshots] == [(20, "")]
    words = said(directory, capsys)
    for part in (
        "healthy",
        "node 1, incarnation 1",
        "term 3, voted for node 2",
        "base: entry 20, term 1; voters 1, 2; learners 3",
        "verified",
        "applied up to entry 42",
    ):
        assert part in words
    assert main(directory) == 0
    assert content_of(directory) == before


def test_as_json(directory: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", str(directory), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["verdict"] == "healthy"


def test_a_torn_tail_is_named_and_left(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = newest_segment(directory)
    used = examine(directory).segments[-1].used_bytes
    torn = bytearray(segment.read_bytes())
    torn[used : used + 5] = b"\xf5Tg\1\1"
    segment.write_bytes(bytes(torn))
    before = content_of(directory)
    assert main(directory) == 0
    assert "torn tail" in said(directory, capsys)
    assert examine(directory).torn_bytes == 5
    assert content_of(directory) == before


def test_damage_is_named_with_what_to_do(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = min(directory.glob("log-*.segment"))
    content = bytearray(segment.read_bytes())
    content[1000] ^= 1
    segment.write_bytes(bytes(content))
    before = content_of(directory)
    assert main(directory) == 1
    report = examine(directory)
    assert report.damaged_file == str(segment)
    assert 0 < report.damaged_offset <= 1000
    words = said(directory, capsys)
    for part in (str(segment), f"byte {report.damaged_offset}", "--set-aside", "Whole before it"):
        assert part in words
    assert content_of(directory) == before


def test_setting_aside_prints_the_steps(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(directory, aside=True) == 2, "a healthy one is left alone"
    assert "nothing was set aside" in capsys.readouterr().err
    (directory / "identity").write_text("rubbish")
    assert main(directory, aside=True) == 0
    words = capsys.readouterr().out
    for part in ("damaged-1", "telegraft member remove 1", "telegraft member add", "telegraft node --config"):
        assert part in words
    found = read_identity(RealDisk(), directory)
    assert found is not None
    assert found.incarnation > 1
    assert examine(directory).verdict == "healthy"
    assert "no members yet" in said(directory, capsys)


def test_a_damaged_snapshot_is_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((directory / "snapshots").iterdir())
    content = bytearray(path.read_bytes())
    content[2000] ^= 4
    path.write_bytes(bytes(content))
    assert main(directory) == 1
    assert "block 1 fails its checksum" in said(directory, capsys)
    assert str(path) in said(directory, capsys)


def test_directories_that_hold_nothing_or_are_in_use(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for empty in (tmp_path / "none", tmp_path):
        assert main(empty) == 2
        assert "telegraft init" in capsys.readouterr().out
    wal, _ = Wal.open(RealDisk(), directory, IDENTITY)
    assert main(directory) == 2
    assert "in use by another process" in said(directory, capsys)
    wal.close()
    assert main(directory) == 0
