"""The command line: what it refuses and what it says then."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.cli import register
from harness.params import FAMILY_NAMES
from harness.planted_names import BUGS

app = typer.Typer()
register(app)
runner = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"})


def test_an_unknown_bug_is_answered_with_those_that_exist() -> None:
    result = runner.invoke(app, ["demo", "--bug", "stale-reads"])
    assert result.exit_code == 2
    assert "did you mean stale-read?" in result.output
    assert all(bug in result.output for bug in BUGS)
    assert result.stdout == ""


def test_an_unknown_fault_family_is_answered_with_those_that_exist() -> None:
    result = runner.invoke(app, ["harness", "run", "--faults", "kill,plague"])
    assert result.exit_code == 2
    assert "plague" in result.output
    assert all(name in result.output for name in FAMILY_NAMES)


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--duration", "1"],
        ["demo", "--nodes", "0"],
        ["demo", "--seed", "-1"],
        ["demo", "--seed", "x"],
        ["harness", "run", "--name", "../x"],
        ["harness", "run", "--clients", "0"],
    ],
)
def test_values_out_of_range_are_usage_errors(arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["replay", "report"])
@pytest.mark.parametrize("what", ["an-empty-folder", "a-file", "nothing"])
def test_a_folder_that_is_no_run_is_named(command: str, what: str, tmp_path: Path) -> None:
    named = tmp_path / what
    if what == "an-empty-folder":
        named.mkdir()
    elif what == "a-file":
        named.write_text("")
    result = runner.invoke(app, ["harness", command, str(named)])
    assert result.exit_code == 2, result.exception
    assert what in result.output
    assert "name the folder of a run" in result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""


@pytest.mark.parametrize(("command", "file"), [("replay", "params.json"), ("report", "verdict.json")])
def test_a_file_of_a_run_that_cannot_be_read_is_named(command: str, file: str, tmp_path: Path) -> None:
    (tmp_path / file).mkdir()
    result = runner.invoke(app, ["harness", command, str(tmp_path)])
    assert result.exit_code == 2, result.exception
    assert f"{file} cannot be read" in result.output


def test_an_out_that_is_a_file_is_said(tmp_path: Path) -> None:
    taken = tmp_path / "runs"
    taken.write_text("")
    result = runner.invoke(app, ["demo", "--out", str(taken), "--duration", "2"])
    assert result.exit_code == 2
    assert "--out" in result.output
