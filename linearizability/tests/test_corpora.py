"""Recorded histories with known verdicts, where they are at hand: Porcupine's test data, 108 histories."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from linearizability import Verdict, check, formats
from linearizability.models import find

PROJECT = Path(__file__).parents[2]
CORPORA = Path(os.environ.get("TELEGRAFT_CORPORA", PROJECT / ".." / "shared" / "corpora"))
MODELS = {"jepsen": "cas-register", "kv": "kv"}


def test_all_verdicts_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    folder = CORPORA / "porcupine"
    if not (folder / "expected.json").is_file():
        with capsys.disabled():
            print(f"\nnote: no recorded histories at {folder}, nothing compared; TELEGRAFT_CORPORA names their folder")
        return
    expected: dict[str, str] = json.loads((folder / "expected.json").read_text())
    wrong: list[str] = []
    for name, verdict in expected.items():
        model = find(MODELS[name.partition("/")[0]])
        found = check(model, formats.read(folder / name).operations, explain=False)
        if found.verdict is not Verdict(verdict):
            wrong.append(f"{name}: {found.verdict}, not {verdict}. {found.reason}")
    assert wrong == []
    assert len(expected) == 108


def test_explanations_of_the_etcd_logs_are_short() -> None:
    for path in sorted((CORPORA / "porcupine" / "jepsen").glob("etcd_0[0-2]*.log")):
        result = check(find("cas-register"), formats.read(path).operations)
        if result.verdict is Verdict.INVALID:
            assert result.core_is_minimal, path
            assert len(result.core) <= 6, path
