"""The recorder writes what happened, at once and in order, and refuses what would be no history."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from harness.recorder import Misrecorded, Recorder


class Clock:
    def __init__(self) -> None:
        self.ns = 1_000

    def __call__(self) -> int:
        self.ns += 10
        return self.ns


def fresh() -> tuple[Recorder, io.BytesIO]:
    stream = io.BytesIO()
    return Recorder(stream, lanes=4, clock_ns=Clock()), stream


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_records_have_dense_indices_and_times_that_never_go_back() -> None:
    recorder, stream = fresh()
    recorder.invoke(0, "read", {"after": 0})
    recorder.nemesis("kill", {"phase": "start"})
    recorder.leader(2, 5)
    recorder.complete(0, "ok", {"request": {"after": 0}, "reply": {"type": "messages"}})
    records = lines(stream)
    assert [record["index"] for record in records] == [0, 1, 2, 3]
    assert [record["time"] for record in records] == sorted(record["time"] for record in records)
    assert records[0] == {
        "index": 0,
        "time": records[0]["time"],
        "process": 0,
        "type": "invoke",
        "f": "read",
        "value": {"after": 0},
    }
    assert records[2]["process"] == "cluster"
    assert records[2]["value"] == {"node": 2, "term": 5}
    assert records[1]["process"] == "nemesis"


def test_every_record_is_in_the_stream_when_the_call_returns() -> None:
    recorder, stream = fresh()
    recorder.invoke(1, "send", {})
    assert stream.getvalue().endswith(b"\n")


def test_a_process_takes_a_new_number_after_an_unknown_outcome() -> None:
    recorder, _ = fresh()
    recorder.invoke(3, "send", {})
    assert recorder.complete(3, "info", {"error": "timeout"}) == 7
    with pytest.raises(Misrecorded, match="it is 7 now"):
        recorder.invoke(3, "send", {})
    recorder.invoke(7, "send", {})
    assert recorder.complete(7, "ok", {"reply": {"type": "posted"}}) == 7


def test_an_abandoned_operation_stays_pending() -> None:
    recorder, stream = fresh()
    recorder.invoke(0, "send", {})
    assert recorder.abandon(0) == 4
    assert [record["type"] for record in lines(stream)] == ["invoke"]
    assert recorder.tallies["send"].pending == 1
    with pytest.raises(Misrecorded):
        recorder.invoke(0, "send", {})


def test_two_operations_of_one_process_at_a_time_are_refused() -> None:
    recorder, _ = fresh()
    recorder.invoke(0, "send", {})
    with pytest.raises(Misrecorded, match="while its send is under way"):
        recorder.invoke(0, "read", {})


def test_a_completion_without_an_invocation_is_refused() -> None:
    recorder, _ = fresh()
    with pytest.raises(Misrecorded, match="never invoked"):
        recorder.complete(0, "ok", {})
    with pytest.raises(Misrecorded, match="never invoked"):
        recorder.abandon(0)


def test_tallies_count_outcomes_per_kind() -> None:
    recorder, _ = fresh()
    recorder.invoke(0, "send", {})
    recorder.complete(0, "ok", {"reply": {"type": "rejected"}})
    recorder.invoke(0, "send", {})
    recorder.complete(0, "fail", {"error": "no-leader"})
    recorder.invoke(0, "send", {})
    recorder.complete(0, "info", {"error": "timeout"})
    tally = recorder.tallies["send"]
    assert (tally.ok, tally.rejected, tally.fail, tally.unknown, tally.pending) == (1, 1, 1, 1, 0)
    assert recorder.operations_completed == 3
