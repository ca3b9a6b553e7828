"""The chat workload against the specification itself, in virtual time: what it does, and what its history shows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from harness.judge import check_history
from harness.params import RunParams
from harness.recorder import Recorder, Value
from harness.tests.specified import SpecifiedService
from harness.workloads import chat
from harness.workloads.calls import Completion
from harness.workloads.chat import KINDS, ChatWorkload, SetUpFailed

PARAMS = RunParams(seed=5, duration_s=20, clients=4)


async def recorded(service: Any, params: RunParams = PARAMS) -> tuple[Recorder, bytes, str]:
    """One run of the workload; the recorder, the history, and what its end had to complain about."""
    stream = io.BytesIO()
    recorder = Recorder(stream, lanes=params.clients, clock_ns=lambda: round(trio.current_time() * 1e9))
    workload = ChatWorkload(params, recorder, service.caller_of)
    await workload.set_up()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(workload.run)
        await trio.sleep(params.duration_s)
        workload.stop()
    complaint = await workload.wait_for_progress() or await workload.read_everything()
    return recorder, stream.getvalue(), complaint


def records(history: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in history.splitlines()]


async def test_every_kind_of_operation_succeeds_and_refusals_happen(autojump_clock: trio.testing.MockClock) -> None:
    recorder, history, complaint = await recorded(SpecifiedService())
    assert complaint == ""
    assert set(recorder.tallies) == set(KINDS)
    assert all(tally.ok > tally.rejected for tally in recorder.tallies.values())
    reasons = {
        record["value"]["reply"]["reason"]
        for record in records(history)
        if record["type"] == "ok" and record["value"]["reply"]["type"] == "rejected"
    }
    assert reasons == {"not-a-member", "transaction-reused", "unknown-chat", "username-taken"}


async def test_clients_keep_the_pace(autojump_clock: trio.testing.MockClock) -> None:
    recorder, _, _ = await recorded(SpecifiedService())
    paced = PARAMS.clients * PARAMS.rate_per_client * PARAMS.duration_s
    assert 0.6 * paced < recorder.operations_completed < 1.3 * paced


async def test_repeated_sends_get_the_first_answer(autojump_clock: trio.testing.MockClock) -> None:
    _, history, _ = await recorded(SpecifiedService())
    answers: dict[str, list[dict[str, Any]]] = {}
    for record in records(history):
        if record["type"] == "ok" and record["f"] == "send":
            request = record["value"]["request"]
            key = json.dumps([request["actor"], request["chat"], request["txn_id"], request["text"]])
            answers.setdefault(key, []).append(record["value"]["reply"])
    repeated = [replies for replies in answers.values() if len(replies) > 1]
    assert len(repeated) > 10
    assert all(reply == replies[0] for replies in repeated for reply in replies)


async def test_the_history_ends_with_every_chat_read_to_its_end(autojump_clock: trio.testing.MockClock) -> None:
    service = SpecifiedService()
    _, history, _ = await recorded(service)
    seen: dict[str, set[int]] = {}
    for record in records(history):
        if record["type"] == "ok" and record["f"] == "read" and record["value"]["reply"]["type"] == "messages":
            chat_id = record["value"]["request"]["chat"]
            seen.setdefault(chat_id, set()).update(item["seq"] for item in record["value"]["reply"]["items"])
    assert len(service.state.chats) >= PARAMS.chats
    for existing in service.state.chats:
        assert seen[str(existing.chat_id)] == set(range(1, existing.as_of + 1))


async def test_what_the_specification_answers_is_judged_valid(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    _, history, _ = await recorded(SpecifiedService(lost_share=0.02))
    path = tmp_path / "history.jsonl"
    path.write_bytes(history)
    judgement = check_history(path, 60)
    assert (judgement.verdict, judgement.core) == ("valid", []), judgement.reason


async def test_a_service_that_forgets_its_answers_is_found_out(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    _, history, _ = await recorded(SpecifiedService(forgets_answers=True))
    path = tmp_path / "history.jsonl"
    path.write_bytes(history)
    judgement = check_history(path, 60)
    assert judgement.verdict == "invalid"
    assert 1 <= len(judgement.core) <= 4


class Deaf:
    """A service that never answers, or that answers nothing but a refusal."""

    def __init__(self, answer: Completion | None = None) -> None:
        self._answer = answer

    def caller_of(self, lane: int) -> Deaf:
        return self

    async def call(self, f: str, request: Value, *, node: int | None, timeout_s: float) -> Completion:
        if self._answer is None:
            await trio.sleep_forever()
        await trio.sleep(0.1)
        assert self._answer is not None
        return self._answer


async def test_set_up_gives_up_in_time(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    with pytest.raises(SetUpFailed, match="within 30 s"):
        await recorded(Deaf(Completion("fail", {"error": "no-leader"})))
    assert trio.current_time() - began <= chat.SET_UP_TIMEOUT_S + 1


async def test_a_refused_set_up_is_said_at_once(autojump_clock: trio.testing.MockClock) -> None:
    refusal = Completion("ok", {"reply": {"type": "rejected", "reason": "username-taken", "as_of": 1}})
    with pytest.raises(ExceptionGroup) as caught:
        await recorded(Deaf(refusal))
    assert caught.group_contains(SetUpFailed, match="username-taken", depth=None)


async def test_a_cluster_without_progress_is_said_in_words(autojump_clock: trio.testing.MockClock) -> None:
    service = SpecifiedService()
    stream = io.BytesIO()
    recorder = Recorder(stream, lanes=4, clock_ns=lambda: round(trio.current_time() * 1e9))
    lanes: list[Any] = [service] * 4
    workload = ChatWorkload(PARAMS, recorder, lambda lane: Switch(lanes, lane))
    await workload.set_up()
    lanes[:] = [Deaf()] * 4
    began = trio.current_time()
    complaint = await workload.wait_for_progress()
    assert complaint == "no write through node 1 succeeded within 15 s after all faults healed"
    assert trio.current_time() - began == pytest.approx(chat.PROGRESS_TIMEOUT_S)
    assert recorder.tallies["send"].pending == 1  # cut off, and therefore still pending in the history


class Switch:
    """Calls whatever stands in a list at the time of the call."""

    def __init__(self, lanes: list[Any], lane: int) -> None:
        self._lanes, self._lane = lanes, lane

    async def call(self, f: str, request: Value, *, node: int | None, timeout_s: float) -> Completion:
        completion: Completion = await self._lanes[self._lane].call(f, request, node=node, timeout_s=timeout_s)
        return completion
