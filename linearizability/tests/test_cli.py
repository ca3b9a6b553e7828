"""The command: one object on standard output, words beside it, the verdict as exit code, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from linearizability import Model, models
from linearizability.cli import register

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["check", *map(str, arguments)])

    return invoke


def history(tmp_path: Path, *values: int | None) -> Path:
    """A register is written 1 and then 2; then these values are read, one after the other."""
    calls = [("write", 1, 1), ("write", 2, 2), *(("read", None, value) for value in values)]
    lines = []
    for n, (f, asked, told) in enumerate(calls):
        common = {"process": 0, "f": f}
        lines.append({"index": 2 * n, "time": 2 * n, "type": "invoke", "value": asked, **common})
        lines.append({"index": 2 * n + 1, "time": 2 * n + 1, "type": "ok", "value": told, **common})
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def only_object(outcome: Result) -> dict[str, Any]:
    assert outcome.stdout.count("\n") == 1
    found = json.loads(outcome.stdout)
    assert isinstance(found, dict)
    return found


def test_valid(run: Run, tmp_path: Path) -> None:
    outcome = run(history(tmp_path, 2), "--model", "register", "--json")
    assert outcome.exit_code == 0
    found = only_object(outcome)
    seconds = found.pop("seconds")
    assert isinstance(seconds, float)
    assert found == {
        "verdict": "valid",
        "model": "register",
        "history": str(tmp_path / "history.jsonl"),
        "format": "jsonl",
        "operations": 3,
        "partitions": 1,
        "class": None,
        "core": [],
        "core_is_minimal": False,
        "offending": None,
        "reason": "one order explains all 3 operations; replayed against the model",
        "progress": "",
    }
    assert outcome.stderr.startswith("valid (3 operations, model register")


def test_invalid(run: Run, tmp_path: Path) -> None:
    outcome = run(history(tmp_path, 2, 1), "--model", "register", "--json", "--explain")
    assert outcome.exit_code == 1
    found = only_object(outcome)
    assert (found["verdict"], found["core"], found["offending"]) == ("invalid", [2, 6], 6)
    assert found["contradiction"] == [
        "operation 2, process 0, 0.000000002 to 0.000000003 s: write 2",
        "operation 6, process 0, 0.000000006 to 0.000000007 s: read 1",
    ]


def test_words(run: Run, tmp_path: Path) -> None:
    outcome = run(history(tmp_path, 2, 1), "--model", "register", "--explain")
    assert outcome.exit_code == 1
    assert outcome.stderr == ""
    assert outcome.stdout.splitlines()[0].startswith("invalid (4 operations, model register")
    assert outcome.stdout.splitlines()[-1] == "  operation 6, process 0, 0.000000006 to 0.000000007 s: read 1"


def test_unknown_at_the_deadline(run: Run, tmp_path: Path) -> None:
    outcome = run(history(tmp_path, 2), "--model", "register", "--deadline", "0", "--json")
    assert outcome.exit_code == 3
    assert only_object(outcome)["verdict"] == "unknown"
    assert "the deadline of 0 s" in only_object(outcome)["progress"]


def test_nothing_to_check_is_unknown(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"index":0,"time":0,"process":"nemesis","type":"info","f":"kill","value":null}\n')
    outcome = run(path, "--model", "register", "--json")
    assert outcome.exit_code == 3
    assert "nothing to check" in only_object(outcome)["progress"]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (None, ["--model", "register"], "cannot be read: No such file"),
        ("{}\n", ["--model", "register"], "history.jsonl, line 1: the record has no 'index'"),
        ("?\n", ["--model", "register"], "not recognised as any of the formats"),
        ("?\n", ["--model", "register", "--format", "edn"], "no format is called 'edn'"),
        ("{}\n", ["--model", "nonesuch"], "Known models: "),
        ("{}\n", [], "no model was named"),
    ],
)
def test_unusable_input(
    run: Run, tmp_path: Path, text: str | None, arguments: list[str], said: str, as_json: bool
) -> None:
    path = tmp_path / "history.jsonl"
    if text is not None:
        path.write_text(text)
    outcome = run(path, *arguments, *(["--json"] if as_json else []))
    assert outcome.exit_code == 2
    assert said in outcome.stderr
    assert "Traceback" not in outcome.output
    if as_json:
        assert said in only_object(outcome)["error"]
    else:
        assert outcome.stdout == ""


def test_history_of_another_model_names_the_file(run: Run, tmp_path: Path) -> None:
    outcome = run(history(tmp_path, 2), "--model", "kv", "--json")
    assert outcome.exit_code == 2
    assert only_object(outcome)["error"].startswith(f"{tmp_path / 'history.jsonl'}: operation 0: 'write' means nothing")


class Crashing(Model[int]):
    name = "crashing"

    def init(self) -> int:
        return 0

    def step(self, state: int, input: Any, output: Any) -> Iterable[int]:
        raise ZeroDivisionError("oh")


def test_a_model_that_crashes_is_unknown(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.BUILT_IN, "crashing", Crashing)
    outcome = run(history(tmp_path, 2), "--model", "crashing", "--json")
    assert outcome.exit_code == 3
    assert only_object(outcome)["reason"] == "the model 'crashing' failed on this history: ZeroDivisionError: oh"
    assert "Traceback" not in outcome.output
