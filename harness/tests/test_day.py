"""The parts of the scripted day that need no cluster: gaps between writes, changes of the group, the audit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from harness.day.filling import LANES, Filling
from harness.day.gaps import longest_gap_s, successful_writes
from harness.day.operator import as_voter, with_learner, without
from harness.day.params import DayParams
from harness.recorder import Outcome, Recorder, Value
from harness.workloads.calls import Completion, RecordedCaller
from impl.chat import commands


def test_the_longest_gap_counts_from_the_beginning_and_to_the_end() -> None:
    writes = [1.0, 2.0, 5.0, 5.5]
    assert longest_gap_s(writes, 1.0, 5.5) == 3.0
    assert longest_gap_s(writes, 5.2, 9.5) == 4.0
    assert longest_gap_s(writes, 2.5, 4.5) == 2.5 - 0.5
    assert longest_gap_s([], 1.0, 3.0) == 2.0


ENDS: tuple[tuple[str, Outcome, Value], ...] = (
    ("send", "ok", {"reply": {"type": "posted"}}),
    ("send", "ok", {"reply": {"type": "rejected"}}),
    ("read", "ok", {"reply": {"type": "messages"}}),
    ("send", "fail", {}),
    ("join", "ok", {"reply": {"type": "unchanged"}}),
)


def test_only_writes_that_were_done_count(tmp_path: Path) -> None:
    stream = io.BytesIO()
    recorder = Recorder(stream, lanes=1, clock_ns=iter(range(0, 10**12, 10**9)).__next__)
    for f, outcome, value in ENDS:
        recorder.invoke(0, f, {})
        recorder.complete(0, outcome, value)
    recorder.leader(1, 1)
    (tmp_path / "history.jsonl").write_bytes(stream.getvalue())
    assert successful_writes(tmp_path / "history.jsonl") == [2.0, 10.0]


def group(**roles: str) -> dict[str, Any]:
    """A group of members named ``n1`` ... with these roles; the incarnation of node N is N0."""
    members = [
        {"node_id": int(name[1:]), "incarnation": f"{name[1:]}0", "peer": "p", "url": "u", "role": role, "behind": 0}
        for name, role in roles.items()
    ]
    return {"members": members}


def newcomer(node: int, incarnation: str) -> dict[str, Any]:
    return {"node_id": node, "incarnation": incarnation, "peer": "p", "url": "u"}


def test_a_newcomer_is_a_learner_first_and_a_voter_then() -> None:
    members, voters = with_learner(group(n1="voter", n2="voter"), newcomer(3, "30")) or ([], [])
    assert ([member["node_id"] for member in members], voters) == ([1, 2, 3], [1, 2])
    joined = group(n1="voter", n2="voter", n3="learner")
    assert with_learner(joined, newcomer(3, "30")) is None
    assert (as_voter(joined, 3) or ([], []))[1] == [1, 2, 3]
    assert as_voter(group(n3="voter"), 3) is None


def test_a_node_that_lost_its_data_leaves_before_it_comes_back() -> None:
    members, voters = with_learner(group(n1="voter", n2="voter", n3="voter"), newcomer(3, "31")) or ([], [])
    assert ([member["node_id"] for member in members], voters) == ([1, 2], [1, 2])
    assert without(group(n1="voter"), 3) is None


class FakeClient:
    """Chats in memory."""

    def __init__(self) -> None:
        self.chats: dict[int, list[commands.Message]] = {}
        self.users = 0

    async def execute(self, command: commands.Command, *, timeout_s: float) -> commands.Reply:
        match command:
            case commands.Send(actor, chat, txn_id, text):
                seq = len(self.chats[chat]) + 1
                self.chats[chat].append(commands.Message(seq, seq, "text", actor, txn_id, text))
                return commands.Posted(seq, seq, seq)
            case commands.ReadMessages(_, chat, after, limit):
                items = [message for message in self.chats[chat] if message.seq > after]
                return commands.Messages(tuple(items[:limit]), len(self.chats[chat]))
        raise AssertionError(command)

    async def call(self, f: str, request: Value, *, node: int | None, timeout_s: float) -> Completion:
        if f == "create_user":
            self.users += 1
            return Completion("ok", {"reply": {"type": "user_created", "user_id": str(self.users)}})
        actor = int(request["actor"])
        self.chats[actor] = [commands.Message(1, 1, "create", actor, "c", "chat")]
        return Completion("ok", {"reply": {"type": "chat_created", "chat_id": str(actor)}})


async def filled() -> tuple[Filling, FakeClient]:
    client = FakeClient()
    caller = RecordedCaller(client, Recorder(io.BytesIO(), lanes=1), 7)
    filling = Filling(client, caller, 1)  # type: ignore[arg-type]
    for part in range(1, 4 * LANES):  # nothing here waits: a lane alone would do all of one part
        await filling.fill(part * 15_000)
    return filling, client


async def test_the_audit_finds_every_acknowledged_message() -> None:
    filling, _ = await filled()
    assert await filling.audit() == []
    assert filling.audited == filling.messages > 0
    assert filling.bytes >= (4 * LANES - 1) * 15_000


@pytest.mark.parametrize("harm", ["lost", "changed", "doubled", "unasked"])
async def test_the_audit_finds_what_is_wrong(harm: str) -> None:
    filling, client = await filled()
    number, chat = max(client.chats.items(), key=lambda item: len(item[1]))
    last = chat[-1]
    if harm == "lost":
        del chat[-1]
    elif harm == "changed":
        chat[-1] = commands.Message(last.seq, last.seq, "text", number, last.txn_id, "other")
    elif harm == "doubled":
        chat.append(commands.Message(last.seq + 1, 9, "text", number, last.txn_id, last.text))
    else:
        chat.append(commands.Message(last.seq + 1, 9, "text", number, "strange", "text"))
    (wrong,) = await filling.audit()
    assert f"chat {number}" in wrong


def test_the_command_that_replays_a_day_names_what_is_not_default() -> None:
    assert DayParams(seed=3).replay_command(Path("runs")) == "telegraft harness day --seed 3"
    assert DayParams(seed=3, duration_scale=0.1).replay_command(Path("x")).endswith("--duration-scale 0.1 --out x")
