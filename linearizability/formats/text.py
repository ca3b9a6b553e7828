"""Lines of a text file, numbered, with what can go wrong on the way named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from linearizability.history import HistoryError


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file with their numbers from 1, each with its newline if it has one.

    Raises ``HistoryError`` for bytes that are not UTF-8, naming the line, and ``OSError`` if the file cannot be read.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise HistoryError(
                    f"byte {error.start + 1} of the line is not UTF-8 text",
                    source=str(path),
                    line=number,
                    advice="The file is damaged, or not a history: record it again",
                ) from None
