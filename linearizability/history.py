"""Histories: what clients asked of a system, what they were told, and when.

Theory of operation
-------------------
An *operation* is one call of one client: the interval from the instant before the request left (``call``) to the
instant after the reply had arrived (``ret``), the request (``input``) and the reply (``output``). Operation *a*
precedes *b* if and only if ``a.ret < b.call``: intervals are closed, and two operations that share an instant are
concurrent.

Every operation ends in one of three ways, and the difference decides verdicts:

* **ok**: it happened, and ``output`` is what the client was told.
* **fail**: it certainly did not happen. The checker drops it.
* **unknown**: the client gave up, or never heard. It may have happened, may happen at any later time, or never: such
  an operation has no ``ret``, its interval is open to the right and it is never forced to take effect. A call that
  was still pending when the recording ended is unknown too. Where it is known that the operation cannot happen any
  more after some instant, that instant may be given as its ``ret``: it happened by then, or never.

An unknown *output* is written with the sentinel ``UNKNOWN``. The two are independent: an operation that was
acknowledged without its reply being recorded is ok with the output ``UNKNOWN``; a pending one of which it is known
what it would have answered is unknown with that output.

A *history* is the operations of one recording, together with the records that are no operations of clients: faults
injected meanwhile (process ``nemesis``) and what was observed of the system (process ``cluster``). They take no part
in the verdict and are kept for reports.

A damaged history is refused by a ``HistoryError`` that names the file, the line and the fault. A verdict on a history
that was read wrongly is worth nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Process: TypeAlias = int | str


class Unknown(enum.Enum):
    """The type of the sentinel ``UNKNOWN``; an enumeration, so that it survives pickling and type checkers know it."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown.UNKNOWN
"""The output of an operation whose reply is not known: a model must allow every reply that it could have had."""


class Outcome(enum.StrEnum):
    """How an operation ended; see the module's theory of operation."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class CheckError(Exception):
    """The base of all errors that this library raises on purpose; its message says what to do next."""


class HistoryError(CheckError):
    """A history that cannot be checked. Names the file and line, or the operation, what is wrong, and what to do.

    ``source`` is the file's path ("" for operations that came from no file), ``line`` counts from 1 (0: no line),
    ``fault`` is what is wrong and ``advice`` what to do about it.
    """

    def __init__(self, fault: str, *, source: str = "", line: int = 0, advice: str = "") -> None:
        place = source + (f", line {line}" if line else "")
        super().__init__((f"{place}: " if place else "") + fault + (f". {advice}" if advice else ""))
        self.fault = fault
        self.source = source
        self.line = line
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one client.

    ``index``   unique in its history and how reports name it; in recorded files the index of the ``invoke`` record.
    ``process`` who called.
    ``call``, ``ret`` integer instants of one clock, usually nanoseconds; ``ret`` is None if the operation may still
    happen at any later time.
    ``input``, ``output`` whatever the model understands; ``output`` is ``UNKNOWN`` if the reply is not known.
    """

    index: int
    process: Process
    call: int
    ret: int | None
    input: Any
    output: Any = UNKNOWN
    outcome: Outcome = Outcome.OK

    def precedes(self, other: Operation) -> bool:
        """Whether this operation had returned before the other was called (strictly: ties are concurrent)."""
        return self.ret is not None and self.ret < other.call


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a recorded history: the start or the end of a call, a fault, or an observation.

    ``time`` in ns from the start of the run; ``type`` is "invoke", "ok", "fail" or "info"; ``line`` is where it stood.
    """

    index: int
    time: int
    process: Process
    type: str
    f: str
    value: Any
    line: int = 0


Event: TypeAlias = Record


@dataclass(frozen=True, slots=True)
class History:
    """The operations of one recording, in the order of their calls.

    ``operations`` are those that happened or may have happened (ok and unknown): what a checker takes.
    ``failed`` are those that certainly did not happen, ``faults`` the records of process ``nemesis``, ``observations``
    those of process ``cluster``, ``records`` the number of lines read.
    """

    source: str
    operations: tuple[Operation, ...]
    failed: tuple[Operation, ...] = ()
    faults: tuple[Record, ...] = ()
    observations: tuple[Record, ...] = ()
    records: int = 0
    format: str = field(default="jsonl")


def validated(operations: Iterable[Operation]) -> list[Operation]:
    """The operations that a checker has to explain, in the order of their calls; ``fail`` ones are left out.

    Raises ``HistoryError`` naming the operation if an index is used twice, a return lies before its call, or a return
    is missing from an operation that is ok.
    """
    seen: set[int] = set()
    kept: list[Operation] = []
    for op in operations:
        if op.index in seen:
            raise HistoryError(
                f"two operations have the index {op.index}", advice="Number the operations of a history uniquely"
            )
        seen.add(op.index)
        if op.outcome is Outcome.FAIL:
            continue
        if op.outcome is Outcome.OK and op.ret is None:
            raise HistoryError(
                f"operation {op.index} of process {op.process} is ok but has no return",
                advice="Give the instant of its return, or the outcome unknown if there was none",
            )
        if op.ret is not None and op.ret < op.call:
            raise HistoryError(
                f"operation {op.index} of process {op.process} returns at {op.ret}, before its call at {op.call}",
                advice="Take both instants from one monotonic clock, in the task that makes the call",
            )
        kept.append(op)
    kept.sort(key=lambda op: (op.call, op.index))
    return kept
