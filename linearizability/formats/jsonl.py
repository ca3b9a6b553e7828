"""Histories as JSON lines, shaped like Jepsen's operations: one record per line.

    {"index": 0, "time": 12345, "process": 3, "type": "invoke", "f": "write", "value": 7}
    {"index": 1, "time": 20010, "process": 3, "type": "ok", "f": "write", "value": 7}

Theory of operation
-------------------
``index`` grows from line to line, ``time`` (ns from the start of the run) never goes back. ``process`` is an integer
for a client. Its records pair up: an ``invoke``, then at most one of ``ok`` (it happened; ``value`` is the reply),
``fail`` (it certainly did not happen) and ``info`` (outcome unknown). A call without an end has an unknown outcome.
Records of process ``nemesis`` (faults) and ``cluster`` (observations) have the type ``info`` and are kept apart.

An operation's ``input`` is ``(f, value)`` of its invoke record, and its ``output`` the value of its ok record. Where
that value is an object with the keys ``request`` and ``reply``, the output is the reply, and the request has to be
what was invoked.

Reading is strict. A line that is not exactly this is refused with its number: a history that is half read gives half
a verdict. Other keys in a record are allowed and ignored. A last line without a newline was cut off while it was being
written, so it is refused too, whether or not what is left of it makes sense.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from linearizability.formats.pairing import Pairing
from linearizability.formats.text import lines_of
from linearizability.history import UNKNOWN, History, HistoryError, Outcome, Record

NAME = "jsonl"

KEYS = ("index", "time", "process", "type", "f", "value")
TYPES = ("invoke", "ok", "fail", "info")
OUTCOMES = {"ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.UNKNOWN}
NO_REQUEST = object()
"""Stands where a reply does not say what it is a reply to; a request may be anything that JSON has, null included."""

NEMESIS, CLUSTER = "nemesis", "cluster"

SHOWN_CHARACTERS = 60
"""How much of a bad line an error shows."""


def recognises(head: str) -> bool:
    """Whether a file that begins like this is of this format: its first line begins a JSON object."""
    first = head.lstrip()
    return first.startswith("{") and not first.startswith("{:")


def read(path: str | Path) -> History:
    """The history in this file.

    Raises ``HistoryError`` naming the file, the line, what is wrong and what to do; ``OSError`` if the file cannot be
    read.
    """
    path = Path(path)
    pairing = Pairing(str(path))
    faults: list[Record] = []
    observations: list[Record] = []
    previous: Record | None = None
    line = 0
    for line, text in lines_of(path):
        record = parse(text, str(path), line)
        if previous is not None:
            _in_order(previous, record, str(path))
        previous = record
        if isinstance(record.process, str):
            (faults if record.process == NEMESIS else observations).append(record)
        elif record.type == "invoke":
            pairing.invoke(line, record.index, record.time, record.process, record.f, (record.f, record.value))
        else:
            outcome = OUTCOMES[record.type]
            request, output = _taken_apart(record.value) if outcome is Outcome.OK else (NO_REQUEST, UNKNOWN)
            operation = pairing.complete(line, record.time, record.process, record.f, outcome, output)
            if request is not NO_REQUEST and request != operation.input[1]:
                raise HistoryError(
                    f"the reply is to another request than process {record.process} made (record {operation.index})",
                    source=str(path),
                    line=line,
                    advice="The recorder mixed up two calls: mend it and record again",
                )
    return pairing.history(line, NAME, tuple(faults), tuple(observations))


def parse(text: str, source: str, line: int) -> Record:
    """One line as a record. Raises ``HistoryError``."""

    def refuse(fault: str, advice: str) -> NoReturn:
        raise HistoryError(fault, source=source, line=line, advice=advice)

    if not text.endswith("\n"):
        refuse(
            f"the last line has no end: {text[:SHOWN_CHARACTERS]!r}",
            "The recording was cut off: finish the recording, or remove the line",
        )
    if not text.strip():
        refuse("the line is empty", "Remove it; one record per line")
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        where = f" at column {error.colno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else f": {error}"
        refuse(f"not JSON{where}: {text.strip()[:SHOWN_CHARACTERS]!r}", "The line is damaged: mend it, or record again")
    if not isinstance(found, dict):
        refuse(f"a record is an object, and this is {_kind(found)}", f"Give an object with the keys {', '.join(KEYS)}")
    missing = [key for key in KEYS if key not in found]
    if missing:
        refuse(f"the record has no {', '.join(repr(key) for key in missing)}", "Every record has all of " + str(KEYS))

    index, time, process, kind, f = (found[key] for key in KEYS[:-1])
    for key, number in (("index", index), ("time", time)):
        if type(number) is not int or number < 0:
            refuse(f"{key!r} is {_shown(number)}", "Give an integer that is not negative")
    if type(process) is not int and process not in (NEMESIS, CLUSTER):
        refuse(f"'process' is {_shown(process)}", f'Give an integer for a client, or "{NEMESIS}" or "{CLUSTER}"')
    if kind not in TYPES:
        refuse(f"'type' is {_shown(kind)}", f"Give one of {', '.join(TYPES)}")
    if type(f) is not str or not f:
        refuse(f"'f' is {_shown(f)}", "Give the name of the operation")
    if isinstance(process, str) and kind != "info":
        refuse(f"a record of process {process} has the type {kind!r}", "Only clients make calls: give info")
    return Record(index, time, process, kind, f, found["value"], line)


def _taken_apart(value: Any) -> tuple[Any, Any]:
    """The request and the reply that the value of an ok record holds."""
    if isinstance(value, dict) and "request" in value and "reply" in value:
        return value["request"], value["reply"]
    return NO_REQUEST, value


def _in_order(previous: Record, record: Record, source: str) -> None:
    if record.index <= previous.index:
        raise HistoryError(
            f"index {record.index} comes after index {previous.index}",
            source=source,
            line=record.line,
            advice="Indices grow from line to line: lines were swapped, repeated, or joined from two recordings",
        )
    if record.time < previous.time:
        raise HistoryError(
            f"time goes backwards, from {previous.time} to {record.time}",
            source=source,
            line=record.line,
            advice="Take all times from one monotonic clock, and write records in the order in which they were taken",
        )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    return json.dumps(value)[:SHOWN_CHARACTERS]
