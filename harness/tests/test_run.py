"""A run between its phases, with stand-ins for the nodes: what is found after the last phase still counts."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster, Node
from harness.display import Quiet
from harness.faults.schedule import draw_schedule
from harness.judge import Judgement
from harness.links import Links
from harness.params import RunParams
from harness.recorder import Recorder
from harness.run import Run
from harness.runs import create
from harness.verdict import decide

NOWHERE = ("127.0.0.1", 1)


async def stopped(manner: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run with nodes that behave in this manner, of which only the start and the stop are carried out."""
    params = RunParams(seed=1)
    schedule = draw_schedule(params)

    async def prepare(directory: Path, **options: Any) -> Cluster:
        command = [sys.executable, "-m", "harness.tests.standin", manner]
        ids = (1, 2)
        nodes = {
            i: Node(i, NOWHERE, NOWHERE, directory / "x", directory / f"{i}.log", directory / "d", command) for i in ids
        }
        links = Links(dict.fromkeys(ids, NOWHERE), dict.fromkeys(ids, NOWHERE))
        await links.open()
        return Cluster(nodes, links)

    async def nothing(self: Run, cluster: Cluster) -> None:
        pass

    monkeypatch.setattr("harness.run.prepare", prepare)
    monkeypatch.setattr(Run, "_with_nodes", nothing)
    run = Run(params, schedule, create(folder, params, schedule), Recorder(io.BytesIO(), lanes=1), Quiet())
    await run.live()
    return run


def doubts(run: Run) -> str:
    word, reason = decide(run.findings(Judgement("valid", "all is explained")), [])
    return reason if word == "unknown" else ""


async def test_nodes_that_end_in_order_leave_no_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doubts(await stopped("good", tmp_path, monkeypatch)) == ""


async def test_an_end_that_is_not_in_order_is_a_doubt_in_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = doubts(await stopped("untidy", tmp_path, monkeypatch))
    assert "node 1 did not end in order after SIGTERM (exit code 3)" in said
    assert "node 2 did not end in order after SIGTERM (exit code 3)" in said
