"""Calls and their ends, paired by process.

Theory of operation
-------------------
A recorder writes one record when a call starts and one when it ends. A process is one client that makes one call at a
time; so a record that ends a call belongs to the only open call of its process, and everything else is damage: an end
without a start, a second end, a start while another call is open. A call still open at the end of the file has an
unknown outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from linearizability.history import UNKNOWN, History, HistoryError, Operation, Outcome, Process, Record


@dataclass(slots=True)
class _Open:
    operation: Operation
    f: str
    line: int


class Pairing:
    """Collects the operations of one file, record by record, in the order of the file."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._open: dict[Process, _Open] = {}
        self._ended: dict[Process, tuple[int, str]] = {}
        self._done: list[Operation] = []
        self._failed: list[Operation] = []

    def invoke(self, line: int, index: int, time: int, process: Process, f: str, input: Any) -> None:
        """A call starts. Raises ``HistoryError`` if its process has another one open."""
        other = self._open.get(process)
        if other is not None:
            raise HistoryError(
                f"process {process} starts {f!r} while its {other.f!r} of line {other.line} is still open",
                source=self.source,
                line=line,
                advice="A process makes one call at a time; after an unknown outcome the client takes a new number",
            )
        operation = Operation(index, process, time, None, input, UNKNOWN, Outcome.UNKNOWN)
        self._open[process] = _Open(operation, f, line)

    def complete(self, line: int, time: int, process: Process, f: str, outcome: Outcome, output: Any) -> Operation:
        """A call ends. Raises ``HistoryError`` if its process has none open, or one of another name."""
        call = self._open.pop(process, None)
        if call is None:
            before = self._ended.get(process)
            past = f"; its last call ended at line {before[0]}" if before is not None else ""
            raise HistoryError(
                f"process {process} ends {f!r} but has no open call{past}",
                source=self.source,
                line=line,
                advice="Every call starts with an invoke record and ends at most once",
            )
        if call.f != f:
            raise HistoryError(
                f"process {process} ends {f!r}, but the call it has open since line {call.line} is {call.f!r}",
                source=self.source,
                line=line,
                advice="Records of two clients may have been mixed: give each its own process number",
            )
        self._ended[process] = (line, f)
        ret = None if outcome is Outcome.UNKNOWN else time
        operation = replace(call.operation, ret=ret, output=output, outcome=outcome)
        (self._failed if outcome is Outcome.FAIL else self._done).append(operation)
        return operation

    def history(
        self, records: int, format: str, faults: tuple[Record, ...] = (), observations: tuple[Record, ...] = ()
    ) -> History:
        """Everything collected; calls still open become operations of unknown outcome."""
        operations = [*self._done, *(call.operation for call in self._open.values())]
        return History(
            source=self.source,
            operations=tuple(sorted(operations, key=lambda op: (op.call, op.index))),
            failed=tuple(sorted(self._failed, key=lambda op: (op.call, op.index))),
            faults=faults,
            observations=observations,
            records=records,
            format=format,
        )
