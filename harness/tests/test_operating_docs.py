"""The documents for operators name commands and options that exist, and metrics that a node has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from impl.cli import build

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/operating.md", "docs/benchmarks.md")

runner = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    return build()


def commands() -> list[str]:
    """Every line of a code block that begins with ``telegraft``, and every such span in the text, without doubles."""
    found: dict[str, None] = {}
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        for line in text.splitlines():
            if re.match(r"(    )?telegraft [a-z]", line):
                found[line.partition("#")[0].strip()] = None
        found |= dict.fromkeys(re.findall(r"`(telegraft [a-z][^`\n]*)`", text))
    return list(found)


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_documents_exists_with_its_options(line: str, app: typer.Typer) -> None:
    words = shlex.split(line)[1:]
    path: list[str] = []
    for word in words:  # as many words as name a command
        if word.startswith("-") or runner.invoke(app, [*path, word, "--help"]).exit_code != 0:
            break
        path.append(word)
        if "Commands" not in runner.invoke(app, [*path, "--help"]).output:
            break
    assert path, f"there is no command in {line!r}"
    usage = runner.invoke(app, [*path, "--help"])
    assert usage.exit_code == 0, usage.output
    rest = words[len(path) :]
    if "Commands" in usage.output:
        assert not rest, f"{line!r}: {' '.join(path)} has no command {rest[0]!r}"
    for word in rest:
        if word.startswith("--"):
            assert re.search(rf"{word}\b", usage.output), f"{line!r}: {' '.join(path)} has no option {word}"


def test_there_are_commands_to_look_at() -> None:
    assert len(commands()) > 15


def test_metrics_of_the_documents_exist() -> None:
    source = (ROOT / "impl" / "metrics.py").read_text(encoding="utf-8")
    named = set(re.findall(r"telegraft_[a-z_]+", (ROOT / "docs/operating.md").read_text(encoding="utf-8")))
    assert named
    assert {name for name in named if name not in source} == set()
