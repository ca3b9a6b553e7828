"""``telegraft demo`` with real nodes: a short run, a planted bug, an interruption, and a harness that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.planted_names import BUGS
from harness.tested_node import main as start_node

DEMO = [sys.executable, "-m", "impl.cli", "demo", "--json"]

PATIENCE_S = 90.0
"""For one short run on a machine that does other things as well."""


def demo(out: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the object on stdout, and the words on stderr."""
    command = [*DEMO, "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_short_run_is_recorded_judged_and_reported(tmp_path: Path) -> None:
    code, record, words = demo(tmp_path, "--seed", "1", "--duration", "4")
    # A busy machine may do too little for "valid"; it never makes the history wrong.
    assert record["history_verdict"] == "valid", record
    assert record["crashes"] == record["problems"] == []
    assert code == {"valid": 0, "unknown": 3}[record["verdict"]]
    assert record["seed"] == 1
    assert sum(record["faults"].values()) >= 2
    assert sum(counts["ok"] for counts in record["operations"].values()) > 20
    assert {"verdict", "operations", "faults", "leader_changes", "seed", "run_dir", "check_s"} <= record.keys()
    run_dir = Path(record["run_dir"])
    assert (tmp_path / "latest").resolve() == run_dir.resolve()
    for name in ("history.jsonl", "schedule.json", "params.json", "verdict.json", "report.html", "replay.txt"):
        assert (run_dir / name).stat().st_size > 0, name
    assert {path.name for path in (run_dir / "nodes").glob("*.log")} == {"1.log", "2.log", "3.log"}
    assert "chatting under faults" in words
    again = json.loads((run_dir / "verdict.json").read_text())
    assert again == record


def test_a_planted_bug_is_found_and_named_in_few_operations(tmp_path: Path) -> None:
    code, record, _ = demo(tmp_path, "--seed", "1", "--duration", "4", "--bug", "no-dedupe")
    assert (code, record["verdict"], record["bug"]) == (1, "invalid", "no-dedupe")
    assert 1 <= len(record["core"]) <= 4
    assert "twice" in record["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["stale-read", "early-ack", "no-dedupe"])
def test_each_planted_bug_is_found_within_three_seeds(tmp_path: Path, bug: str) -> None:
    for seed in (1, 2, 3):
        code, record, _ = demo(tmp_path, "--seed", str(seed), "--duration", "15", "--bug", bug, "--no-report")
        if code == 1:
            assert 1 <= len(record["core"]) <= 4
            return
    pytest.fail(f"{bug} was not found: {record}")


def start_and_wait_until_chatting(out: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A demo whose workload has begun, and the process ids of its nodes."""
    command = [*DEMO, "--seed", "1", "--duration", "60", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "chatting" in line:
            break
    logs = (out / "latest" / "nodes").resolve().glob("*.log")
    ready = [json.loads(line) for log in logs for line in log.read_text().splitlines() if '"ready"' in line]
    return process, [record["pid"] for record in ready]


def gone(pid: int) -> bool:
    """Whether no process has this id, or only one that waits to be reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while not all(map(gone, pids)):
        assert time.monotonic() < deadline, [pid for pid in pids if not gone(pid)]
        time.sleep(0.02)


def test_an_interrupted_run_ends_its_nodes_and_keeps_its_folder(tmp_path: Path) -> None:
    process, pids = start_and_wait_until_chatting(tmp_path)
    assert len(pids) == 3
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=PATIENCE_S)
    record = json.loads(stdout)
    assert process.returncode == 130
    assert record["verdict"] == "unknown"
    assert "interrupted" in record["reason"]
    wait_until_gone(pids)
    assert (tmp_path / "latest" / "history.jsonl").stat().st_size > 0
    assert (tmp_path / "latest" / "verdict.json").exists()


def test_nodes_end_with_a_harness_that_is_killed_even_if_they_are_stopped(tmp_path: Path) -> None:
    process, pids = start_and_wait_until_chatting(tmp_path)
    assert len(pids) == 3
    os.kill(pids[0], signal.SIGSTOP)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    wait_until_gone(pids)


@pytest.mark.parametrize("bug", ["no-such-bug", ""])
def test_the_program_of_a_tested_node_names_its_bugs(bug: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        start_node(["--disk", "x", "--config", "x", "--bug", bug])
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert all(bug in said for bug in BUGS)
