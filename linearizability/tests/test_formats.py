"""Files are read exactly or refused with the line and the fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from linearizability import HistoryError, Outcome, formats
from linearizability.formats import jsonl
from linearizability.history import UNKNOWN


def record(index: int, process: int | str, type: str, f: str = "write", value: Any = 7, **more: Any) -> dict[str, Any]:
    return {"index": index, "time": 10 * index, "process": process, "type": type, "f": f, "value": value, **more}


def written(tmp_path: Path, *lines: dict[str, Any] | str) -> Path:
    path = tmp_path / "history.jsonl"
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return path


def test_json_lines(tmp_path: Path) -> None:
    request = {"actor": "1"}
    path = written(
        tmp_path,
        record(0, 1, "invoke", node=2),
        record(1, "nemesis", "info", "kill", {"phase": "start"}),
        record(2, 2, "invoke", "read", request),
        record(3, 1, "ok"),
        record(5, 2, "ok", "read", {"request": request, "reply": {"type": "members"}, "attempts": 2}),
        record(6, 1, "invoke", "write", 8),
        record(7, 1, "fail", "write", {"error": "no-leader"}),
        record(8, 1, "invoke", "write", 9),
        record(9, 1, "info", "write", {"error": "timeout"}),
        record(10, "cluster", "info", "leader", {"node": 1}),
        record(11, 4, "invoke", "write", 10),
    )
    history = formats.read(path)
    assert history.format == "jsonl"
    told = [(op.index, op.process, op.call, op.ret, op.input, op.output, op.outcome) for op in history.operations]
    assert told == [
        (0, 1, 0, 30, ("write", 7), 7, Outcome.OK),
        (2, 2, 20, 50, ("read", request), {"type": "members"}, Outcome.OK),
        (8, 1, 80, None, ("write", 9), UNKNOWN, Outcome.UNKNOWN),
        (11, 4, 110, None, ("write", 10), UNKNOWN, Outcome.UNKNOWN),
    ]
    assert [(op.index, op.outcome) for op in history.failed] == [(6, Outcome.FAIL)]
    assert [(r.line, r.f) for r in history.faults] == [(2, "kill")]
    assert [(r.line, r.f) for r in history.observations] == [(10, "leader")]
    assert history.records == 11


GOOD = record(0, 1, "invoke")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"index": 1,\n', "not JSON at column"),
        ('{"index": NaN}\n', "not JSON"),
        ("\n", "the line is empty"),
        ("[1, 2]\n", "this is a list"),
        ("[" * 100_000 + "\n", "not JSON"),
        ({"index": 1}, "the record has no 'time', 'process'"),
        (record(1, 1, "ok") | {"index": "1"}, "'index' is \"1\""),
        (record(1, 1, "ok") | {"index": True}, "'index' is true"),
        (record(1, 1, "ok") | {"time": 1.5}, "'time' is 1.5"),
        (record(1, 1, "ok") | {"time": -1}, "'time' is -1"),
        (record(1, 1, "ok") | {"process": "client"}, "'process' is \"client\""),
        (record(1, 1, "ok") | {"process": None}, "'process' is null"),
        (record(1, 1, "okay"), "'type' is \"okay\""),
        (record(1, 1, "ok") | {"f": ""}, "'f' is \"\""),
        (record(1, "nemesis", "invoke"), "a record of process nemesis has the type 'invoke'"),
        (record(1, 2, "ok"), "process 2 ends 'write' but has no open call"),
        (record(1, 1, "ok", "read"), "the call it has open since line 1 is 'write'"),
        (record(1, 1, "invoke"), "process 1 starts 'write' while its 'write' of line 1 is still open"),
        (record(0, 1, "ok"), "index 0 comes after index 0"),
        (record(1, 1, "ok", value={"request": 8, "reply": 8}), "the reply is to another request"),
        (json.dumps(record(1, 1, "ok")), "the last line has no end"),
        (json.dumps(record(1, 1, "ok"))[:30], "the last line has no end"),
    ],
)
def test_damaged_line_is_named(tmp_path: Path, line: dict[str, Any] | str, fault: str) -> None:
    path = written(tmp_path, GOOD, line)
    with pytest.raises(HistoryError) as caught:
        jsonl.read(path)
    error = caught.value
    assert (error.source, error.line) == (str(path), 2)
    assert str(error).startswith(f"{path}, line 2: ")
    assert fault in error.fault
    assert error.advice


def test_second_end_and_time_going_backwards(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"line 3: process 1 ends 'write' but has no open call.*ended at line 2"):
        jsonl.read(written(tmp_path, GOOD, record(1, 1, "ok"), record(2, 1, "ok")))
    with pytest.raises(HistoryError, match="line 3: time goes backwards, from 10 to 9"):
        jsonl.read(written(tmp_path, GOOD, record(1, 1, "ok"), record(2, 1, "invoke") | {"time": 9}))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n\xff\xfe\n")
    with pytest.raises(HistoryError, match="line 2: byte 1 of the line is not UTF-8"):
        jsonl.read(path)


JEPSEN = """INFO  jepsen.core - Nodes are up
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:invoke\t:cas\t[1 2]
INFO  jepsen.util - 2\t:invoke\t:write\t4
INFO  jepsen.util - 0\t:fail\t:read\t:timed-out
INFO  jepsen.util - 1\t:fail\t:cas\t[1 2]
INFO  jepsen.util - 2\t:info\t:write\t:timed-out
INFO  jepsen.util - 3\t:invoke\t:read\tnil
INFO  jepsen.util - 3\t:ok\t:read\t4
"""


def test_jepsen_log(tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_text(JEPSEN)
    history = formats.read(path)
    assert history.format == "jepsen-log"
    assert [(op.call, op.ret, op.input, op.output, op.outcome) for op in history.operations] == [
        (2, 5, ("read", None), UNKNOWN, Outcome.OK),
        (3, 6, ("cas", (1, 2)), "mismatch", Outcome.OK),
        (4, None, ("write", 4), UNKNOWN, Outcome.UNKNOWN),
        (8, 9, ("read", None), 4, Outcome.OK),
    ]
    path.write_text(JEPSEN.replace("[1 2]", "[1 2 3]"))
    with pytest.raises(HistoryError, match=r"line 3: cannot read the value '\[1 2 3\]'"):
        formats.read(path)


PORCUPINE = """{:process 0, :type :invoke, :f :append, :key "0", :value "x 0 0 y"}
{:process 1, :type :invoke, :f :get, :key "0", :value nil}
{:process 1, :type :ok, :f :get, :key "0", :value "x 0 0 y"}
{:process 0, :type :ok, :f :append, :key "0", :value "x 0 0 y"}
"""


def test_porcupine_key_value(tmp_path: Path) -> None:
    path = tmp_path / "c01.txt"
    path.write_text(PORCUPINE)
    history = formats.read(path)
    assert history.format == "porcupine-kv"
    assert [(op.call, op.ret, op.input, op.output) for op in history.operations] == [
        (1, 4, ("append", ("0", "x 0 0 y")), None),
        (2, 3, ("get", "0"), "x 0 0 y"),
    ]
    path.write_text(PORCUPINE + "{:process 1}\n")
    with pytest.raises(HistoryError, match="line 5: not a record"):
        formats.read(path)


def test_what_is_no_history(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("")
    with pytest.raises(HistoryError, match="the file is empty"):
        formats.read(path)
    path.write_text("hello\n")
    with pytest.raises(HistoryError, match=r"not recognised.*--format"):
        formats.read(path)
    with pytest.raises(HistoryError, match=r"no format is called 'edn'. Known formats: jsonl"):
        formats.read(path, "edn")
    with pytest.raises(HistoryError, match="line 1: not JSON"):
        formats.read(path, "jsonl")
