"""Jepsen's text log of one CAS register, as its early etcd tests wrote it.

    INFO  jepsen.util - 3<TAB>:invoke<TAB>:cas<TAB>[3 0]

Theory of operation
-------------------
A line has no time: its number is the instant. Lines of other shapes are log messages of other parts and are passed
over. How operations end:

* ``:ok`` as everywhere.
* ``:fail :cas`` *asserts* that the value was not the expected one: it is an operation that happened, and found a
  mismatch.
* ``:fail :read :timed-out`` happened within its interval, but its value is not known.
* ``:info`` and unfinished operations have an unknown outcome.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from linearizability.formats.pairing import Pairing
from linearizability.formats.text import lines_of
from linearizability.history import UNKNOWN, History, HistoryError, Outcome
from linearizability.models.cas_register import MISMATCH

NAME = "jepsen-log"

LINE = re.compile(r"^INFO\s+jepsen\.util - (\d+)\s+:(invoke|ok|fail|info)\s+:(\w+)\s+(.*?)\s*$")


def recognises(head: str) -> bool:
    """Whether a file that begins like this is of this format."""
    return any(LINE.match(line) for line in head.splitlines())


def read(path: str | Path) -> History:
    """The history in this file. Raises ``HistoryError`` naming the line, ``OSError`` if it cannot be read."""
    path = Path(path)
    pairing = Pairing(str(path))
    records = 0
    for number, line in lines_of(path):
        match = LINE.match(line)
        if match is None:
            continue
        records += 1
        process, kind, f, text = int(match[1]), match[2], match[3], match[4]
        if kind == "invoke":
            pairing.invoke(number, number, number, process, f, (f, _value(text, path, number)))
        elif kind == "ok":
            pairing.complete(number, number, process, f, Outcome.OK, _value(text, path, number))
        elif kind == "info":
            pairing.complete(number, number, process, f, Outcome.UNKNOWN, UNKNOWN)
        elif f == "cas":
            pairing.complete(number, number, process, f, Outcome.OK, MISMATCH)
        elif f == "read":
            pairing.complete(number, number, process, f, Outcome.OK, UNKNOWN)
        else:
            pairing.complete(number, number, process, f, Outcome.FAIL, UNKNOWN)
    return pairing.history(records, NAME)


def _value(text: str, path: Path, line: int) -> Any:
    if text == "nil":
        return None
    pair = re.fullmatch(r"\[(-?\d+) (-?\d+)\]", text)
    if pair is not None:
        return int(pair[1]), int(pair[2])
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    raise HistoryError(f"cannot read the value {text!r}", source=str(path), line=line, advice="Known are nil, 1, [1 2]")
