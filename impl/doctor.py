"""``telegraft doctor``: what the data directory of a stopped node holds, and whether it is as it was written.

Theory of operation
-------------------
The directory is read as a start would read it, by the same code, but nothing is changed: no torn tail is cut and no
draft removed; only its lock is held meanwhile. One segment, and one block of a snapshot, is in memory at a time;
entries are looked at and dropped. Where a log is damaged, what was whole before that is told all the same.

The database of the chat state is opened without its journal, so that not even a file beside it is made: what it says
of itself is as of the last checkpoint, and may be older than what a start finds.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from impl.raft.messages import Base, Configuration
from impl.storage.codec import Record
from impl.storage.disk import RealDisk
from impl.storage.errors import (
    DirectoryInUse,
    FormatTooNew,
    LogDamaged,
    NotFormatted,
    SnapshotDamaged,
    StorageError,
    disk_operation,
)
from impl.storage.formatting import check_formatted
from impl.storage.identity import IDENTITY_FORMAT, Identity, lock_directory, read_identity
from impl.storage.recovery import Recovery
from impl.storage.setting_aside import SetAside, set_aside
from impl.storage.snapshots import PART_SUFFIX, payload, read_header, whole_bytes

Verdict: TypeAlias = Literal["healthy", "torn tail", "damaged", "not formatted", "in use", "unreadable"]

EXIT_STATUS: dict[Verdict, int] = {
    "healthy": 0,
    "torn tail": 0,
    "damaged": 1,
    "not formatted": 2,
    "in use": 2,
    "unreadable": 2,
}


class SegmentReport(msgspec.Struct):
    """One file of the log. Sizes in bytes; indexes and terms are those of the entries in it, 0 if there are none."""

    name: str
    first_index: int = 0
    last_index: int = 0
    first_term: int = 0
    last_term: int = 0
    frames: int = 0
    used_bytes: int = 0
    free_bytes: int = 0


class SnapshotReport(msgspec.Struct):
    """One snapshot, or a part of one that is being received."""

    name: str
    size_bytes: int
    index: int = 0
    term: int = 0
    complete: bool = True
    problem: str = ""  # empty: every block was read and verified


class Report(msgspec.Struct):
    """What was found."""

    directory: str
    verdict: Verdict = "healthy"
    advice: str = ""
    identity: Identity | None = None
    format: int = IDENTITY_FORMAT
    segments: list[SegmentReport] = []
    term: int = 0
    voted_for: int = 0
    last_index: int = 0
    base: Base | None = None
    torn_bytes: int = 0
    damaged_file: str = ""
    damaged_offset: int = 0
    snapshots: list[SnapshotReport] = []
    applied_index: int | None = None  # of the chat state, at the last checkpoint; None: there is no readable database


class Inspection(Recovery):
    """Reads a log without keeping its entries."""

    def __init__(self, directory: Path, names: list[str], read: Callable[[Path], bytes], identity: Identity) -> None:
        super().__init__(directory, names, read, identity)
        self.reports: dict[str, SegmentReport] = {}

    def _follow(self, record: Record) -> None:
        entries = record.entries
        super()._follow(Record(record.hard_state, (), record.base, record.drops))
        if entries:
            self.end.follow(None, entries)
            self.first_index = min(self.first_index, entries[0].index)
            name = self.segments.newest.name
            report = self.reports.setdefault(name, SegmentReport(name, entries[0].index, 0, entries[0].term, 0))
            report.first_index = min(report.first_index, entries[0].index)
            report.last_index, report.last_term = entries[-1].index, entries[-1].term

    def segment_reports(self) -> list[SegmentReport]:
        found = []
        for segment in self.segments.files:
            report = self.reports.get(segment.name, SegmentReport(segment.name))
            report.frames, report.used_bytes = segment.frames, segment.used_bytes
            report.free_bytes = segment.size_bytes - segment.used_bytes
            found.append(report)
        return found


def examine(directory: Path) -> Report:
    """Look at everything. Never raises for what it finds; changes nothing."""
    report = Report(str(directory))
    disk = RealDisk()
    try:
        lock = lock_directory(disk, directory)
    except DirectoryInUse as error:
        return _judged(report, "in use", str(error))
    except NotFormatted as error:
        return _judged(report, "not formatted", str(error))
    except StorageError as error:
        return _judged(report, "unreadable", str(error))
    try:
        _examine_snapshots(disk, directory / "snapshots", report)
        report.applied_index = _applied_index(directory / "chat.db")
        _examine_log(disk, directory, report)
    except NotFormatted as error:
        _judged(report, "not formatted", str(error))
    except LogDamaged as error:
        report.damaged_file, report.damaged_offset = str(error.file), error.offset
        _judged(report, "damaged", str(error))
    except StorageError as error:
        _judged(report, "unreadable", str(error))
    finally:
        lock.release()
    return report


def _judged(report: Report, verdict: Verdict, advice: str) -> Report:
    report.verdict, report.advice = verdict, advice
    return report


def _examine_log(disk: RealDisk, directory: Path, report: Report) -> None:
    names = check_formatted(disk, directory)
    report.identity = read_identity(disk, directory)
    assert report.identity is not None

    def read(path: Path) -> bytes:
        with disk_operation("read", path):
            return disk.read_file(path)

    found = Inspection(directory, names, read, report.identity)
    try:
        found.run()
    finally:
        report.segments = found.segment_reports()
        report.term, report.voted_for = found.hard_state.term, found.hard_state.voted_for
        report.base, report.last_index, report.torn_bytes = found.base, found.end.last_index, found.cut_bytes
    if report.torn_bytes:
        _judged(
            report,
            "torn tail",
            f"{report.torn_bytes} bytes of a write that a crash has cut short stand at the end of the log. They were "
            "never acknowledged; the next start removes them. There is nothing to do.",
        )
    damaged = next((snapshot for snapshot in report.snapshots if snapshot.complete and snapshot.problem), None)
    if damaged is not None:
        report.damaged_file = str(directory / "snapshots" / damaged.name)
        _judged(report, "damaged", damaged.problem)


def _examine_snapshots(disk: RealDisk, directory: Path, report: Report) -> None:
    try:
        names = disk.list_directory(directory)
    except FileNotFoundError:
        return
    for name in names:
        path = directory / name
        found = SnapshotReport(name, disk.file_size(path), complete="." not in name)
        report.snapshots.append(found)
        try:
            header, _ = read_header(disk, path)
            found.index, found.term = header.base.index, header.base.term
            if found.complete:
                for _ in payload(disk, path):
                    pass
            elif name.endswith(PART_SUFFIX):
                found.problem = f"being received: {whole_bytes(disk, path)} bytes of it are whole"
            else:
                found.problem = "never finished, or set aside"
        except (SnapshotDamaged, FormatTooNew) as error:
            found.problem = str(error)


def _applied_index(database: Path) -> int | None:
    if not database.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            row = connection.execute("SELECT applied_index FROM progress").fetchone()
    except sqlite3.Error:
        return None
    return int(row[0]) if row is not None else None


def in_words(configuration: Configuration) -> str:
    """Who belongs to the group."""
    if not configuration.members:
        return "no members yet"
    words = f"voters {', '.join(map(str, configuration.voters))}"
    if configuration.outgoing:
        words += f" together with the outgoing {', '.join(map(str, configuration.outgoing))}"
    if configuration.learners:
        words += f"; learners {', '.join(map(str, configuration.learners))}"
    return words


def lines_of(report: Report) -> list[str]:
    """The report for people."""
    lines = [f"{report.directory}: {report.verdict}"]
    if report.identity is not None:
        lines.append(f"  {report.identity}; format {report.format}")
        vote = f"voted for node {report.voted_for}" if report.voted_for else "no vote given"
        lines.append(f"  hard state: term {report.term}, {vote}")
        if report.base is None:
            lines.append("  base: none")
        else:
            base = report.base
            lines.append(
                f"  base: entry {base.index}, term {base.term}; {in_words(base.configuration)} (since entry "
                f"{base.configuration_index})"
            )
        lines.append(f"  log: up to entry {report.last_index}, {len(report.segments)} segments")
    for segment in report.segments:
        held = (
            f"entries {segment.first_index}-{segment.last_index}, terms {segment.first_term}-{segment.last_term}"
            if segment.last_index
            else "no entries"
        )
        lines.append(
            f"    {segment.name}: {held}, {segment.frames} frames, {segment.used_bytes:,} bytes used, "
            f"{segment.free_bytes:,} free"
        )
    for snapshot in report.snapshots:
        state = snapshot.problem or "verified"
        lines.append(
            f"  snapshot {snapshot.name}: entry {snapshot.index}, term {snapshot.term}, {snapshot.size_bytes:,} bytes, "
            f"{state}"
        )
    if report.applied_index is not None:
        lines.append(f"  chat.db: applied up to entry {report.applied_index} at least")
    if report.advice:
        lines.append(report.advice)
    return lines


def steps_after(done: SetAside) -> list[str]:
    """What the operator does next."""
    node_id = done.before.node_id
    return [
        f"Everything is kept in {done.folder}; the directory is formatted as {done.after}.",
        "It has promised nothing and does not vote until it is a member again. On any node of the group that works:",
        f"  1. telegraft member remove {node_id} --cluster URL",
        "  2. start this node: telegraft node --config FILE",
        "  3. telegraft member add URL_OF_THIS_NODE --cluster URL",
        "It then gets everything from its peers. Keep the folder until it has caught up (telegraft member list).",
    ]


def main(directory: Path, *, as_json: bool = False, aside: bool = False) -> int:
    """``telegraft doctor``. Returns the exit status: 0 healthy, 1 damaged, 2 nothing to look at."""
    if aside:
        found = examine(directory)
        if found.verdict in ("healthy", "torn tail", "in use"):
            print(f"telegraft: {directory} is {found.verdict}: nothing was set aside.", file=sys.stderr)
            return 2
        try:
            done = set_aside(RealDisk(), directory)
        except StorageError as error:
            print(f"telegraft: {error}", file=sys.stderr)
            return 2
        print("\n".join(steps_after(done)))
        return 0
    report = examine(directory)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        print("\n".join(lines_of(report)))
    return EXIT_STATUS[report.verdict]
