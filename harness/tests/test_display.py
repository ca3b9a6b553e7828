"""What is shown: the picture, the plain lines, and the verdict on one screen."""

from __future__ import annotations

import io
from typing import Any

import pytest
import trio
import trio.testing
from rich.console import Console

from harness.display import FAULT_COLOUR, LivePicture, PlainLines, View
from harness.params import RunParams
from harness.recorder import Recorder
from harness.summary import show

RECORD: dict[str, Any] = {
    "verdict": "invalid",
    "reason": "message 'm7' was acknowledged and is gone",
    "class": "lost-write",
    "core": [12, 40],
    "operations": {"send": {"ok": 10, "rejected": 1, "fail": 2, "unknown": 3}},
    "faults": {"kill": 2, "pause": 0},
    "leader_changes": 4,
    "check_s": 0.25,
    "seed": 77,
    "bug": "early-ack",
    "replay": "telegraft demo --seed 77 --duration 30",
    "run_dir": "runs/demo/x",
    "report": "runs/demo/x/report.html",
}


def shown(record: dict[str, Any]) -> str:
    stream = io.StringIO()
    show(record, Console(file=stream, width=100))
    return stream.getvalue()


def test_a_verdict_says_what_was_found_and_where_to_look() -> None:
    text = shown(RECORD)
    for part in (
        "INVALID",
        RECORD["reason"],
        "#12, #40",
        "lost-write",
        "kill 2",
        "77",
        RECORD["replay"],
        "report.html",
    ):
        assert part in text
    assert len(text.splitlines()) <= 24


@pytest.mark.parametrize("word", ["valid", "unknown"])
def test_other_verdicts_name_no_contradiction(word: str) -> None:
    text = shown(RECORD | {"verdict": word, "core": [], "class": ""})
    assert word.upper() in text
    assert "contradiction" not in text


def view() -> View:
    recorder = Recorder(io.BytesIO(), lanes=2)
    recorder.invoke(0, "send", {})
    recorder.complete(0, "ok", {"reply": {"type": "posted"}})
    return View(RunParams(seed=3, bug="early-ack"), recorder=recorder)


async def test_plain_lines_are_plain_and_progress_comes_every_few_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream = io.StringIO()
    lines, seen = PlainLines(Console(file=stream, width=60)), view()
    lines.phase(seen)
    seen.workload_began = trio.current_time()
    for _ in range(48):
        seen.sample()
        lines.refresh(seen)
        await trio.sleep(0.25)
    lines.event(
        seen, "kill -9 of node 2 (leader), [bold]which is a text without markup[/bold], however long", FAULT_COLOUR
    )
    said = stream.getvalue()
    assert said.count("1 operations") == 3
    assert "[bold]which is a text without markup[/bold], however long\n" in said
    assert "\x1b" not in said


async def test_a_live_picture_shows_the_run_at_every_stage(autojump_clock: trio.testing.MockClock) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    picture, seen = LivePicture(console), view()
    picture.phase(seen)
    seen.workload_began = trio.current_time()
    seen.events.append((1.0, "SIGSTOP of node 1", FAULT_COLOUR))
    picture.refresh(seen)
    picture.close()
    picture.close()
    plain = Console(file=io.StringIO(), width=100)
    plain.print(picture.picture(seen))
    text = plain.file.getvalue()  # type: ignore[attr-defined]
    for part in ("seed 3", "planted bug: early-ack", "SIGSTOP of node 1", "1 operations"):
        assert part in text


async def test_the_rate_is_that_of_the_last_second(autojump_clock: trio.testing.MockClock) -> None:
    seen = view()
    assert seen.recorder is not None
    for _ in range(40):
        for _ in range(5):
            seen.recorder.invoke(1, "read", {})
            seen.recorder.complete(1, "ok", {"reply": {"type": "messages"}})
        seen.sample()
        await trio.sleep(0.1)
    assert seen.rate == pytest.approx(50, rel=0.1)
