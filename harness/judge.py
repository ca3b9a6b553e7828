"""The judge: checks a recorded history against the chat model, in a process of its own.

``python -m harness.judge HISTORY DEADLINE_S`` prints one JSON object. A process, because a checker that runs out of
memory, loops in compiled code or crashes must not take the run's verdict with it: whatever happens to the judge, the
answer to "is it valid?" is then ``unknown``. The same check as ``telegraft check HISTORY --model chat``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec
import trio

GRACE_S = 30.0
"""On top of the checker's own deadline: to start, to read the history and to look for the core of a violation."""

ERROR_CHARACTERS = 400


class Judgement(msgspec.Struct):
    """What the check of a history alone came to. ``core`` holds indices of ``invoke`` records."""

    verdict: Literal["valid", "invalid", "unknown"]
    reason: str
    check_s: float = 0.0
    operations: int = 0
    core: list[int] = []
    anomaly: str = ""
    progress: str = ""


async def judge(history: Path, deadline_s: float) -> Judgement:
    """Check the history in a separate process; never raises for what becomes of that process."""
    command = [sys.executable, "-m", "harness.judge", str(history), str(deadline_s)]
    started = trio.current_time()
    with trio.move_on_after(deadline_s + GRACE_S):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        return read_judgement(done, trio.current_time() - started)
    seconds = trio.current_time() - started
    return Judgement("unknown", f"the checker did not end within {seconds:.0f} s and was stopped", check_s=seconds)


def read_judgement(done: subprocess.CompletedProcess[bytes], seconds: float) -> Judgement:
    """What the judge's process said; ``unknown`` with its last words if it said nothing that can be read."""
    try:
        return msgspec.json.decode(done.stdout, type=Judgement)
    except msgspec.DecodeError:
        said = done.stderr.decode(errors="replace").strip()[-ERROR_CHARACTERS:]
        return Judgement("unknown", f"the checker crashed (exit code {done.returncode}): {said}", check_s=seconds)


def check_history(history: Path, deadline_s: float) -> Judgement:
    """Check the history here and now."""
    from harness.chat_model import chat_model
    from linearizability import HistoryError, check
    from linearizability.formats import jsonl

    try:
        recorded = jsonl.read(history)
        result = check(chat_model(), recorded.operations, deadline_s=deadline_s)
    except HistoryError as error:
        return Judgement("unknown", f"the history cannot be read: {error}")
    return Judgement(
        verdict=result.verdict.value,
        reason=result.reason,
        check_s=round(result.seconds, 3),
        operations=result.operations,
        core=[operation.index for operation in result.core],
        anomaly=result.anomaly or "",
        progress=result.progress,
    )


def main(arguments: list[str]) -> None:
    history, deadline_s = arguments
    answer: Any = check_history(Path(history), float(deadline_s))
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
