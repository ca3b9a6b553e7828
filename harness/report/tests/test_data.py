"""Reading a run folder: operations, lanes, faults and leaders; and what is refused, by file and line."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from harness.report.data import Outcome, ReportError, read_run
from harness.report.tests.fixtures import MS, History
from harness.report.tests.synthetic import write_run


def test_outcomes_and_latencies(tmp_path: Path) -> None:
    history = History()
    history.send(10, 14, 0, "hello", 1)
    request = {"actor": "1", "chat": "2"}
    rejected = {"type": "rejected", "reason": "not-a-member", "as_of": 1}
    history.call(20, 21, 0, "list_members", request, rejected)
    history.add(30, 0, "invoke", "join", request)
    history.add(31, 0, "fail", "join", {"request": request, "error": "no-leader", "detail": "election"})
    history.add(40, 0, "invoke", "leave", request)
    history.add(90, 0, "info", "leave", {"request": request, "error": "timeout"})
    history.add(95, 2, "invoke", "join", request)
    operations = read_run(history.write(tmp_path)).operations
    assert [op.outcome for op in operations] == [
        Outcome.OK,
        Outcome.REJECTED,
        Outcome.FAIL,
        Outcome.UNKNOWN,
        Outcome.UNKNOWN,
    ]
    assert [op.latency_ns for op in operations] == [4 * MS, 1 * MS, None, None, None]
    assert operations[3].ret_ns == 90 * MS
    assert operations[4].ret_ns is None
    assert operations[2].error == "no-leader"


def test_a_client_keeps_its_lane_under_new_process_numbers(tmp_path: Path) -> None:
    history = History()
    for process, at in ((0, 1), (1, 2)):
        history.add(at, process, "invoke", "list_chats", {"actor": "1"})
        history.add(at + 5, process, "info", "list_chats", {"error": "timeout"})
    for process, at in ((3, 10), (2, 11)):  # in the other order: the remainder decides, not the time
        history.add(at, process, "invoke", "list_chats", {"actor": "1"})
    history.add(20, 5, "invoke", "list_chats", {"actor": "1"})  # the client of 1 and 3 abandoned its operation
    lanes = {op.process: op.lane for op in read_run(history.write(tmp_path)).operations}
    assert lanes == {0: 0, 1: 1, 2: 0, 3: 1, 5: 1}


def test_lanes_without_a_known_number_of_clients(tmp_path: Path) -> None:
    history = History()
    history.add(1, 10, "invoke", "list_chats", {"actor": "1"})
    history.add(2, 11, "invoke", "list_chats", {"actor": "1"})
    history.add(3, 10, "info", "list_chats", {"error": "timeout"})
    history.add(4, 12, "invoke", "list_chats", {"actor": "1"})
    folder = history.write(tmp_path)
    (folder / "params.json").unlink()
    run = read_run(folder)
    assert {op.process: op.lane for op in run.operations} == {10: 0, 11: 1, 12: 0}
    assert run.lanes == ("client 0", "client 1")


def test_faults_are_paired_by_family_kind_and_nodes(tmp_path: Path) -> None:
    history = History()
    history.fault(10, "start", "kill", [1])
    history.fault(20, "start", "kill", [2])
    history.fault(30, "end", "kill", [1])
    history.fault(35, "start", "kill", [1])
    history.fault(40, "start", "partition", [2], kind="halves")
    history.fault(50, "end", "partition", [2], kind="one-way")  # was never started
    history.send(1, 60, 0, "x", 1)
    run = read_run(history.write(tmp_path))
    spans = [
        (fault.family, fault.nodes, fault.start_ns // MS, fault.end_ns and fault.end_ns // MS) for fault in run.faults
    ]
    assert spans == [
        ("kill", ("1",), 10, 30),
        ("kill", ("2",), 20, None),
        ("kill", ("1",), 35, None),
        ("partition", ("2",), 40, None),
        ("partition", ("2",), 50, 50),
    ]
    assert run.faults[1].until_ns(run.end_ns) == 60 * MS


def test_leaders_hold_until_the_next_other_one(tmp_path: Path) -> None:
    history = History()
    for at, node, term in ((5, 1, 2), (6, 1, 2), (9, 3, 3)):
        history.add(at, "cluster", "info", "leader", {"node": node, "term": term})
    history.send(1, 20, 0, "x", 1)
    run = read_run(history.write(tmp_path))
    assert [(x.node, x.term, x.start_ns // MS, x.end_ns // MS) for x in run.leaders] == [
        ("1", 2, 5, 9),
        ("3", 3, 9, 20),
    ]


def test_every_operation_of_a_large_history_is_there(tmp_path: Path) -> None:
    made = write_run(tmp_path, seed=11, operations=1500)
    run = read_run(tmp_path)
    invoked = [record["index"] for record in made.records if record["type"] == "invoke"]
    assert sorted(op.index for op in run.operations) == invoked
    for lane in range(len(run.lanes)):
        mine = [op for op in run.operations if op.lane == lane]
        assert all(a.ret_ns is not None and a.ret_ns <= b.call_ns for a, b in pairwise(mine))


INVOKE = '{"index":0,"time":1,"process":0,"type":"invoke","f":"send","value":{}}'


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ('{"index":0,"ti', "line 2: (Input data was truncated|JSON is malformed)"),
        ("[1,2]", "line 2: Expected `object`, got `array`"),
        ('{"index":1,"time":1,"process":0,"type":"done","f":"send","value":{}}', "line 2: Invalid enum value 'done'"),
        ('{"index":1,"process":0,"type":"ok","f":"send","value":{}}', "line 2: Object missing required field `time`"),
        ('{"index":1,"time":2,"process":9,"type":"ok","f":"send","value":{}}', "line 2: process 9 is answered, but"),
        (INVOKE, "line 2: process 0 asks again before"),
        (
            '{"index":1,"time":0,"process":0,"type":"info","f":"send","value":{}}',
            "line 2: process 0 is answered before",
        ),
        ('{"index":1,"time":2,"process":0,"type":"ok","f":"send","value":{}}', "record 1 is ok, but holds no reply"),
        ("\udcff", "line 2: JSON is malformed"),
    ],
)
def test_a_damaged_history_is_refused_with_its_line(tmp_path: Path, damage: str, says: str) -> None:
    folder = History().write(tmp_path)
    text = (INVOKE + "\n" + damage + "\n").encode("utf-8", "surrogateescape")
    (folder / "history.jsonl").write_bytes(text)
    with pytest.raises(ReportError, match=says) as caught:
        read_run(folder)
    assert str(folder / "history.jsonl") in str(caught.value)
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist: a report needs a verdict"),
        ("", "Invalid JSON"),
        ('{"verdict": "valid"', "Invalid JSON"),
        ('{"seed": 3}', "key verdict: Field required"),
        ('{"verdict": "true"}', "key verdict: Input should be 'valid', 'invalid' or 'unknown'"),
        ('{"verdict": "valid", "core": ["x"]}', "key core.0: Input should be a valid integer"),
        ('{"verdict": "invalid", "core": [77]}', "the contradiction names record 77"),
        ("[]", "Input should be an object"),
    ],
)
def test_a_damaged_verdict_is_refused_with_its_key(tmp_path: Path, content: str | None, says: str) -> None:
    history = History()
    history.send(1, 2, 0, "x", 1)
    folder = history.write(tmp_path)
    path = folder / "verdict.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ReportError, match=says) as caught:
        read_run(folder)
    assert str(path) in str(caught.value)
    assert "telegraft check" in str(caught.value), "it says what to do next"


def test_params_may_be_absent_but_not_damaged(tmp_path: Path) -> None:
    folder = History().write(tmp_path)
    (folder / "params.json").write_text("{")
    with pytest.raises(ReportError, match=r"params\.json"):
        read_run(folder)
    (folder / "params.json").unlink()
    assert read_run(folder).params == {}


def test_a_missing_history_is_named(tmp_path: Path) -> None:
    folder = History().write(tmp_path)
    (folder / "history.jsonl").unlink()
    with pytest.raises(ReportError, match=r"history\.jsonl does not exist"):
        read_run(folder)


def test_a_verdict_with_more_keys_is_read(tmp_path: Path) -> None:
    folder = History().write(tmp_path)
    path = folder / "verdict.json"
    path.write_text(json.dumps({"verdict": "unknown", "something_new": {"x": 1}, "class": "stale-read"}))
    assert read_run(folder).verdict.violation == "stale-read"
