"""Recorded histories as files: the formats by name, and how to tell them apart.

Theory of operation
-------------------
Each format is a module with ``NAME``, ``recognises(head)`` and ``read(path)``. The head of a file is enough to tell
them apart; where the guess would be wrong the caller names the format.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from linearizability.formats import jepsen_log, jsonl, porcupine_kv
from linearizability.history import History, HistoryError

HEAD_BYTES = 64 * 1024
"""How much of a file is looked at to recognise it: a log may begin with many lines that are no operations."""


class Format(NamedTuple):
    recognises: Callable[[str], bool]
    read: Callable[[Path], History]


FORMATS: dict[str, Format] = {
    jsonl.NAME: Format(jsonl.recognises, jsonl.read),
    porcupine_kv.NAME: Format(porcupine_kv.recognises, porcupine_kv.read),
    jepsen_log.NAME: Format(jepsen_log.recognises, jepsen_log.read),
}


def read(path: str | Path, format: str | None = None) -> History:
    """The history in this file, in the format of this name or else in the one that it is recognised as.

    Raises ``HistoryError`` for a file that is empty, of no known format or damaged, and for an unknown name of a
    format; ``OSError`` if the file cannot be read.
    """
    path = Path(path)
    known = ", ".join(FORMATS)
    if format is not None:
        if format not in FORMATS:
            raise HistoryError(f"no format is called {format!r}", advice=f"Known formats: {known}")
        return FORMATS[format].read(path)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES).decode("utf-8", errors="replace")
    if not head.strip():
        raise HistoryError(
            "the file is empty", source=str(path), advice="Nothing was recorded: look at what the recorder says"
        )
    for found in FORMATS.values():
        if found.recognises(head):
            return found.read(path)
    raise HistoryError(
        f"not recognised as any of the formats {known}", source=str(path), line=1, advice="Name one with --format"
    )
