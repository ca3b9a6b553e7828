"""Run folders: complete from the start, never shared, and found through their links."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.faults.schedule import draw_schedule
from harness.params import RunParams
from harness.runs import NotARunFolder, create, load_params

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)


def make(out: Path, params: RunParams) -> Path:
    return create(out, params, draw_schedule(params), NOON).path


def test_a_folder_says_how_to_run_it_again_before_anything_started(tmp_path: Path) -> None:
    params = RunParams(seed=7, duration_s=12, bug="early-ack")
    path = make(tmp_path, params)
    assert path == tmp_path / "demo" / "20260801T120000Z-7"
    first_line = (path / "replay.txt").read_text().splitlines()[0]
    assert first_line == f"telegraft demo --seed 7 --duration 12 --bug early-ack --out {tmp_path}"
    assert json.loads((path / "params.json").read_text())["seed"] == 7
    assert (path / "schedule.json").read_bytes() == draw_schedule(params).encode()


def test_latest_points_at_the_newest_run_and_two_runs_of_one_second_do_not_share(tmp_path: Path) -> None:
    first, second = make(tmp_path, RunParams(seed=7)), make(tmp_path, RunParams(seed=7))
    assert first != second
    assert (tmp_path / "latest").resolve() == second.resolve()
    other = make(tmp_path, RunParams(name="long", seed=8))
    assert (tmp_path / "latest").resolve() == other.resolve()
    assert (tmp_path / "demo" / "latest").resolve() == second.resolve()


def test_parameters_come_back_for_a_replay(tmp_path: Path) -> None:
    params = RunParams(name="mine", seed=9, nodes=5, clients=2, faults=("kill", "pause"), rate_per_client=3)
    assert load_params(make(tmp_path, params)) == params


def test_a_run_with_choices_of_its_own_is_replayed_by_harness_run() -> None:
    params = RunParams(name="mine", seed=9, clients=2, faults=())
    command = params.replay_command(Path("runs"))
    assert command.startswith("telegraft harness run --name mine --seed 9")
    assert "--clients 2" in command
    assert "--faults none" in command


@pytest.mark.parametrize("content", [None, "{", "[]", '{"seed": -1}', "{}"])
def test_a_folder_that_is_none_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "params.json").write_text(content)
    with pytest.raises(NotARunFolder, match=str(tmp_path)):
        load_params(tmp_path)
