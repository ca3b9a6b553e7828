"""The key-value histories that come with Porcupine's tests.

    {:process 0, :type :invoke, :f :append, :key "0", :value "x 0 0 y"}

Theory of operation
-------------------
One EDN map per line, always with these keys in this order. A line has no time: its number is the instant.
"""

from __future__ import annotations

import re
from pathlib import Path

from linearizability.formats.pairing import Pairing
from linearizability.formats.text import lines_of
from linearizability.history import UNKNOWN, History, HistoryError, Outcome

NAME = "porcupine-kv"

LINE = re.compile(
    r'^\{:process (\d+), :type :(invoke|ok|fail|info), :f :(get|put|append), :key "([^"]*)", :value (nil|"([^"]*)")\}$'
)
OUTCOMES = {"ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.UNKNOWN}


def recognises(head: str) -> bool:
    """Whether a file that begins like this is of this format."""
    return LINE.match(head.partition("\n")[0].strip()) is not None


def read(path: str | Path) -> History:
    """The history in this file. Raises ``HistoryError`` naming the line, ``OSError`` if it cannot be read."""
    path = Path(path)
    pairing = Pairing(str(path))
    records = 0
    for number, line in lines_of(path):
        if not line.strip():
            continue
        records += 1
        match = LINE.match(line.strip())
        if match is None:
            raise HistoryError(
                f"not a record of a key-value history: {line.strip()[:60]!r}",
                source=str(path),
                line=number,
                advice='Expected {:process 0, :type :invoke, :f :get, :key "0", :value nil}',
            )
        process, kind, f, key, value = int(match[1]), match[2], match[3], match[4], match[6]
        if kind == "invoke":
            pairing.invoke(number, number, number, process, f, (f, key if f == "get" else (key, value or "")))
        else:
            reply = (value or "") if kind == "ok" and f == "get" else None if kind == "ok" else UNKNOWN
            pairing.complete(number, number, process, f, OUTCOMES[kind], reply)
    return pairing.history(records, NAME)
