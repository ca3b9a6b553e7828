"""Reads one run folder and condenses it to what a report draws.

Theory of operation
-------------------
A run folder holds ``history.jsonl`` (what every client asked and was told, and every fault), ``verdict.json`` (what
the checker made of it) and ``params.json`` (how the run was set up). This module reads the three and returns one
``Run``: operations instead of pairs of records, intervals instead of start and end marks. It decides nothing about
correctness and draws nothing.

*Operations.* An invocation and the completion of the same process become one ``Operation``. A rejection by the state
machine is an answer like any other to the checker, yet a reader wants to see it, so it is an outcome of its own here.
An operation without a completion, or with an ``info`` completion, is *unknown*: it may take effect at any later time.

*Lanes.* A client takes a new process number after each unknown outcome, so that a long run has thousands of processes
and only a handful of clients. A process is drawn in the lane of the client that it continues: preferably the lane
that is congruent to it modulo the number of clients (``clients`` in params.json, Jepsen's rule), else the lane that
has been free for longest. Operations of one lane never overlap, but for one that its client abandoned without an end
and whose lane went on: it is drawn as far as the next one.

*Faults.* The start and the end of a fault are two records; they belong together when family, kind and nodes are the
same, the oldest start first. A fault that is never ended lasts until the end of the run. An end without a start is
kept as an instant, so that nothing which was recorded goes missing from the page.

*Leaders.* Each observation holds until another one differs from it in node or term.

Whatever cannot be read raises ``ReportError`` with the file, the line and what to do: a page built from half a
history would be believed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

NS_PER_S = 1_000_000_000


class ReportError(Exception):
    """The run folder cannot be made into a report. The message names the file and says what to do."""


class Outcome(StrEnum):
    """How an operation ended, as the client knows it."""

    OK = "ok"
    REJECTED = "rejected"  # answered by the state machine: no, and why
    FAIL = "fail"  # certainly not done
    UNKNOWN = "unknown"  # may be done, now or later


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one client. Times are nanoseconds from the start of the run."""

    index: int  # of the invocation's record in the history: what verdict.json's ``core`` names
    process: int
    lane: int  # index into Run.lanes
    call_ns: int
    ret_ns: int | None  # when the client was answered or gave up; None: neither before the history ends
    kind: str  # the record's ``f``
    outcome: Outcome
    request: Mapping[str, Any]
    reply: Mapping[str, Any] | None  # of ok and rejected
    error: str = ""  # of fail and unknown
    detail: str = ""
    node: int | None = None  # which node answered, where the client recorded it
    attempts: int | None = None

    @property
    def answered(self) -> bool:
        return self.outcome in (Outcome.OK, Outcome.REJECTED)

    @property
    def latency_ns(self) -> int | None:
        """From call to answer; None for an operation that was never answered."""
        return self.ret_ns - self.call_ns if self.answered and self.ret_ns is not None else None


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault from its start to its end."""

    family: str
    kind: str
    nodes: tuple[str, ...]
    description: str
    start_ns: int
    end_ns: int | None  # None: never ended in this history

    def until_ns(self, run_end_ns: int) -> int:
        return run_end_ns if self.end_ns is None else self.end_ns


@dataclass(frozen=True, slots=True)
class Leadership:
    """A stretch of time in which the same node was last seen to lead in the same term."""

    node: str
    term: int
    start_ns: int
    end_ns: int


class KindCounts(BaseModel):
    """One row of ``operations`` in verdict.json."""

    ok: int = 0
    fail: int = 0
    unknown: int = 0


class Requirement(BaseModel):
    """One row of ``sanity``: what a run must have seen to prove anything, and what it saw."""

    name: str
    required: int | float
    observed: int | float
    ok: bool


class Verdict(BaseModel):
    """verdict.json, as far as the report shows it. Keys that it does not know are left alone."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    verdict: Literal["valid", "invalid", "unknown"]
    operations: dict[str, KindCounts] = Field(default_factory=dict)
    faults: dict[str, int] = Field(default_factory=dict)
    leader_changes: int | None = None
    seed: int | str | None = None
    run_dir: str | None = None
    check_s: float | None = None
    duration_s: float | None = None
    reason: str | None = None
    violation: str | None = Field(default=None, alias="class")
    core: list[int] = Field(default_factory=list)
    replay: str | None = None
    bug: str | None = None  # the planted bug that was switched on
    progress: Any = None  # how far an undecided check got
    liveness: Any = None  # what did not make progress after everything was healed
    crashes: list[str] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    sanity: list[Requirement] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that the page is made from."""

    name: str
    operations: tuple[Operation, ...]  # by (call_ns, index)
    lanes: tuple[str, ...]
    faults: tuple[Fault, ...]  # by start_ns
    leaders: tuple[Leadership, ...]  # by start_ns
    start_ns: int  # time of the first record; 0 of an empty history
    end_ns: int  # time of the last record
    verdict: Verdict
    params: Mapping[str, Any]
    core: tuple[Operation, ...] = field(default=())  # the operations that verdict.json names, by (call_ns, index)


def read_run(run_dir: Path) -> Run:
    """Read the three files of a run folder. Raises ``ReportError``; params.json may be absent."""
    if not any((run_dir / name).exists() for name in ("verdict.json", "history.jsonl")):
        what = "holds no run" if run_dir.is_dir() else "is a file" if run_dir.exists() else "does not exist"
        raise ReportError(f"{run_dir} {what}: name the folder of a run, such as runs/latest.")
    verdict = _read_verdict(run_dir / "verdict.json")
    params = _read_params(run_dir / "params.json")
    clients = params.get("clients")
    reader = _History(run_dir / "history.jsonl", clients if type(clients) is int and clients > 0 else None)
    reader.read()
    operations = tuple(sorted(reader.operations, key=lambda op: (op.call_ns, op.index)))
    by_index = {op.index: op for op in operations}
    for index in verdict.core:
        if index not in by_index:
            raise ReportError(
                f"{run_dir / 'verdict.json'}: the contradiction names record {index}, but history.jsonl has no "
                f"invocation with that index. The two files are not of the same run: check the history again with "
                f"`telegraft check {run_dir / 'history.jsonl'} --model chat`."
            )
    core = sorted((by_index[index] for index in set(verdict.core)), key=lambda op: (op.call_ns, op.index))
    return Run(
        name=Path(verdict.run_dir).name if verdict.run_dir else run_dir.resolve().name,
        operations=operations,
        lanes=reader.lanes.names(),
        faults=tuple(sorted(reader.faults(), key=lambda fault: fault.start_ns)),
        leaders=reader.leaders(),
        start_ns=reader.start_ns or 0,
        end_ns=reader.end_ns,
        verdict=verdict,
        params=params,
        core=tuple(core),
    )


# --- verdict.json and params.json -----------------------------------------------------------------------------


def _read_verdict(path: Path) -> Verdict:
    advice = (
        "The harness writes it when the check of a run is done; `telegraft check HISTORY --model chat` checks again."
    )
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ReportError(f"{path} does not exist: a report needs a verdict. {advice}") from None
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return Verdict.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        place = f"{path}, key {where}" if where else f"{path}"
        raise ReportError(f"{place}: {first['msg']}. {advice}") from error


def _read_params(path: Path) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: {error}. Mend or remove the file: the report can do without it.") from error


# --- history.jsonl --------------------------------------------------------------------------------------------


class _Record(msgspec.Struct):
    index: int
    time: int
    process: int | str
    type: Literal["invoke", "ok", "fail", "info"]
    f: str
    value: dict[str, Any] = msgspec.field(default_factory=dict)


class _Lanes:
    """Which client a process number belongs to: see *Lanes* in the module's docstring."""

    def __init__(self, clients: int | None) -> None:
        self.clients = clients
        self.count = clients or 0
        self.of: dict[int, int] = {}  # process -> lane
        self.last: dict[int, int] = {}  # lane -> its newest process
        self.free: deque[int] = deque()  # lanes whose process ended, the longest free first

    def lane(self, process: int) -> int:
        known = self.of.get(process)
        if known is not None:
            return known
        chosen = self._home(process)
        if chosen is None and self.free:
            chosen = self.free[0]
        if chosen is None:
            chosen = self.count
            self.count += 1
        if chosen in self.free:
            self.free.remove(chosen)
        self.of[process] = chosen
        self.last[chosen] = process
        return chosen

    def _home(self, process: int) -> int | None:
        """The lane with the right remainder, if the number of clients is known and the lane's last process led here."""
        if self.clients is None:
            return None
        home = process % self.clients
        last = self.last.get(home)
        return home if last is None or process == last + self.clients else None

    def retire(self, process: int) -> None:
        self.free.append(self.of[process])

    def names(self) -> tuple[str, ...]:
        return tuple(f"client {lane}" for lane in range(self.count))


class _History:
    """One pass over history.jsonl."""

    def __init__(self, path: Path, clients: int | None) -> None:
        self.path = path
        self.line = 0
        self.lanes = _Lanes(clients)
        self.operations: list[Operation] = []
        self.start_ns: int | None = None
        self.end_ns = 0
        self._pending: dict[int, _Record] = {}
        self._open: dict[tuple[str, str, tuple[str, ...]], deque[tuple[int, str]]] = {}
        self._faults: list[Fault] = []
        self._leaders: list[tuple[int, str, int]] = []  # start_ns, node, term

    def wrong(self, what: str) -> ReportError:
        return ReportError(
            f"{self.path}, line {self.line}: {what}. The history is damaged or not one of ours: "
            f"restore the file, or run again with the seed of the run."
        )

    def read(self) -> None:
        decoder = msgspec.json.Decoder(_Record)
        try:
            with self.path.open("rb") as lines:
                for line in lines:
                    self.line += 1
                    if not line.strip():
                        continue
                    try:
                        record = decoder.decode(line)
                    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                        raise self.wrong(str(error).rstrip(".")) from error
                    self._take(record)
        except FileNotFoundError:
            raise ReportError(f"{self.path} does not exist: name the folder of a run, such as runs/latest.") from None
        except OSError as error:
            raise ReportError(f"{self.path} cannot be read: {error.strerror}.") from error
        for record in self._pending.values():  # never completed
            self._operation(record, None)

    def _take(self, record: _Record) -> None:
        self.start_ns = record.time if self.start_ns is None else min(self.start_ns, record.time)
        self.end_ns = max(self.end_ns, record.time)
        if isinstance(record.process, str):
            if record.process == "nemesis":
                self._nemesis(record)
            elif record.process == "cluster" and record.f == "leader":
                self._leader(record)
            return  # other observers may write into the history: no client waits for them
        if record.type == "invoke":
            if record.process in self._pending:
                raise self.wrong(f"process {record.process} asks again before its last operation has ended")
            self.lanes.lane(record.process)
            self._pending[record.process] = record
            return
        invocation = self._pending.pop(record.process, None)
        if invocation is None:
            raise self.wrong(f"process {record.process} is answered, but has asked nothing")
        if record.time < invocation.time:
            raise self.wrong(f"process {record.process} is answered before it asked (record {invocation.index})")
        self._operation(invocation, record)
        if record.type == "info":
            self.lanes.retire(record.process)

    def _operation(self, invocation: _Record, completion: _Record | None) -> None:
        assert isinstance(invocation.process, int)
        value = completion.value if completion else {}
        reply = value.get("reply")
        outcome = Outcome.UNKNOWN
        if completion and completion.type == "ok":
            if not isinstance(reply, dict):
                raise self.wrong(f"record {completion.index} is ok, but holds no reply")
            outcome = Outcome.REJECTED if reply.get("type") == "rejected" else Outcome.OK
        elif completion and completion.type == "fail":
            outcome = Outcome.FAIL
        node, attempts = value.get("node"), value.get("attempts")
        self.operations.append(
            Operation(
                index=invocation.index,
                process=invocation.process,
                lane=self.lanes.lane(invocation.process),
                call_ns=invocation.time,
                ret_ns=completion.time if completion else None,
                kind=invocation.f,
                outcome=outcome,
                request=invocation.value,
                reply=reply if isinstance(reply, dict) else None,
                error=str(value.get("error") or ""),
                detail=str(value.get("detail") or ""),
                node=node if isinstance(node, int) else None,
                attempts=attempts if isinstance(attempts, int) else None,
            )
        )

    def _nemesis(self, record: _Record) -> None:
        value = record.value
        nodes = value.get("nodes") or []
        if not isinstance(nodes, list):
            raise self.wrong(f"the nodes of fault {record.f} are not a list")
        kind = str(value.get("kind") or record.f)
        key = (record.f, kind, tuple(str(node) for node in nodes))
        words = str(value.get("description") or "")
        phase = value.get("phase")
        if phase == "start":
            self._open.setdefault(key, deque()).append((record.time, words))
        elif phase == "end" and self._open.get(key):
            start_ns, started = self._open[key].popleft()
            self._faults.append(Fault(*key, started or words, start_ns, record.time))
        else:
            self._faults.append(Fault(*key, words, record.time, record.time))

    def faults(self) -> list[Fault]:
        unclosed = [Fault(*key, words, at, None) for key, starts in self._open.items() for at, words in starts]
        return self._faults + unclosed

    def _leader(self, record: _Record) -> None:
        node, term = record.value.get("node"), record.value.get("term")
        if not isinstance(term, int) or node is None:
            raise self.wrong("a leader observation needs node and term")
        if not self._leaders or self._leaders[-1][1:] != (str(node), term):
            self._leaders.append((record.time, str(node), term))

    def leaders(self) -> tuple[Leadership, ...]:
        marks = [*self._leaders, (self.end_ns, "", 0)]
        return tuple(Leadership(node, term, start, end) for (start, node, term), (end, _, _) in pairwise(marks))
