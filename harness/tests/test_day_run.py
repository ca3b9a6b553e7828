"""A short scripted day with real nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.day.script import PHASES

PATIENCE_S = 600.0
"""Three to five nodes on a machine that does other things as well; on an idle one it takes less than a minute."""


@pytest.mark.slow
def test_a_cluster_survives_a_short_day(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "impl.cli", "harness", "day", "--json", "--seed", "1", "--duration-scale", "0.1"]
    command += ["--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    record = json.loads(done.stdout)
    assert record["history_verdict"] == "valid", record
    assert record["crashes"] == record["problems"] == []
    assert [phase["name"] for phase in record["phases"]] == [phase.name for phase in PHASES]
    assert record["day_passed"], record["phases"]
    assert record["filled"]["audited"] == record["filled"]["messages"] > 0
    snapshot = next(phase for phase in record["phases"] if phase["name"].startswith("transfer"))
    assert snapshot["facts"]["snapshot_bytes"] > 1_000_000
    assert (done.returncode, record["verdict"]) == (0, "valid")
    assert (tmp_path / "latest" / "report.html").stat().st_size > 0
