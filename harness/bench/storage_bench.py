"""What the log costs on a real disk, as ratios to what the disk itself asks for the same bytes.

Theory of operation
-------------------
*Append*: a batch of entries is appended to the log and synced; a bare file of the same kind (allocated beforehand, its
blocks written once) takes the same number of bytes with one write and one fdatasync. The two take turns, operation by
operation, so that whatever else the disk does meets both, and the medians are compared.

*Recovery*: a log is written, and then opened, in turn with the least that any log must do to trust its files: read them
and compute their checksums. Both find the files on the disk, as after the crash of a machine: the system is asked to
forget them before each turn. With the files in its cache, as after the crash of a process, the disk costs nothing and
what remains is the making of every entry; that is told beside (``cached_ratio``).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from impl.raft.messages import Entry, HardState
from impl.storage.codec import encode_record, frame_bytes
from impl.storage.disk import RealDisk
from impl.storage.formatting import DEFAULT_SEGMENT_BYTES
from impl.storage.identity import Identity
from impl.storage.wal import Wal

BATCH = 64

APPEND_PAYLOAD = b"m" * 100
"""About what a short chat message takes as a command."""

RECOVERY_PAYLOAD = b"m" * 1024

APPENDS = 400
OPENINGS = 3

IDENTITY = Identity("bench", 1)


def batches(payload: bytes, count: int) -> Iterator[list[Entry]]:
    """So many batches of entries, dense from index 1."""
    for number in range(count):
        first = number * BATCH + 1
        yield [Entry(index, 1, payload) for index in range(first, first + BATCH)]


def append_ratio(directory: Path, *, appends: int = APPENDS) -> dict[str, float]:
    """The cost of a durable append of one batch, and of a bare write and fdatasync of as many bytes.

    Returns ``ratio``, ``append_s``, ``bare_s`` (medians, in seconds) and ``bytes`` of one frame.
    """
    wal, _ = Wal.open(RealDisk(), directory / "append", IDENTITY, format_new=True)
    wal.append(HardState(1, 0), ())
    wal.sync()
    size_bytes = frame_bytes(len(encode_record(None, next(batches(APPEND_PAYLOAD, 1)), None, drops=False)))
    blob = bytes(size_bytes)
    bare = os.open(directory / "bare", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    append_s: list[float] = []
    bare_s: list[float] = []
    try:
        room = bytes(1024 * 1024)
        for offset in range(0, size_bytes * (appends + 1), len(room)):
            os.pwrite(bare, room, offset)
        os.fsync(bare)
        for number, batch in enumerate(batches(APPEND_PAYLOAD, appends)):
            began = time.perf_counter()
            wal.append(None, batch)
            wal.sync()
            append_s.append(time.perf_counter() - began)
            began = time.perf_counter()
            os.pwrite(bare, blob, number * size_bytes)
            os.fdatasync(bare)
            bare_s.append(time.perf_counter() - began)
    finally:
        os.close(bare)
        wal.close()
    mine, theirs = statistics.median(append_s), statistics.median(bare_s)
    return {"ratio": mine / theirs, "append_s": mine, "bare_s": theirs, "bytes": size_bytes}


def recovery_ratio(directory: Path, size_bytes: int, *, openings: int = OPENINGS) -> dict[str, float]:
    """The cost of opening a log of about so many bytes, and of reading its files and computing their checksums.

    Returns ``ratio``, ``open_s``, ``read_s`` (medians, in seconds), ``cached_ratio``, ``bytes`` and ``entries``.
    """
    home = directory / "recovery"
    wal, _ = Wal.open(RealDisk(), home, IDENTITY, format_new=True)
    wal.append(HardState(1, 0), ())
    for batch in batches(RECOVERY_PAYLOAD, max(size_bytes // (BATCH * len(RECOVERY_PAYLOAD)), 1)):
        wal.append(None, batch)
        if wal.statistics().last_index % (BATCH * 64) == 0:
            wal.sync()
    wal.close()
    files = sorted(path for path in home.iterdir() if path.stat().st_size >= min(DEFAULT_SEGMENT_BYTES, size_bytes))
    mine, theirs, entries = _open_and_read(home, files, openings, forget=True)
    cached_mine, cached_theirs, _ = _open_and_read(home, files, openings, forget=False)
    return {
        "ratio": mine / theirs,
        "open_s": mine,
        "read_s": theirs,
        "cached_ratio": cached_mine / cached_theirs,
        "bytes": sum(path.stat().st_size for path in files),
        "entries": entries,
    }


def _open_and_read(home: Path, files: list[Path], openings: int, *, forget: bool) -> tuple[float, float, int]:
    """Median seconds of opening the log and of reading its files with checksums; and how many entries it holds."""
    open_s: list[float] = []
    read_s: list[float] = []
    entries = 0
    for _ in range(openings):
        if forget:
            _forget(files)
        began = time.perf_counter()
        for path in files:
            google_crc32c.value(path.read_bytes())
        read_s.append(time.perf_counter() - began)
        if forget:
            _forget(files)
        began = time.perf_counter()
        wal, found = Wal.open(RealDisk(), home, IDENTITY)
        open_s.append(time.perf_counter() - began)
        entries = len(found.entries)
        wal.close()
        del found
    return statistics.median(open_s), statistics.median(read_s), entries


def _forget(files: list[Path]) -> None:
    """Ask the system to drop files, which are synced, from its cache."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in files:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
