"""Verdicts: a violation stands, a doubt is unknown, and a run that did nothing is never valid."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from harness.judge import Judgement, read_judgement
from harness.params import RunParams
from harness.recorder import Tally
from harness.verdict import Findings, anomaly_of, decide, sanity_rows, verdict_record
from harness.workloads.chat import KINDS

PARAMS = RunParams(seed=1)


def findings(**changes: Any) -> Findings:
    """A run with nothing to object to, with these changes."""
    good: dict[str, Any] = {
        "judgement": Judgement("valid", "all is explained", 0.5, 2000),
        "operations": {kind: Tally(ok=200, rejected=3) for kind in KINDS},
        "faults": {"kill": 2, "pause": 1},
        "leader_changes": 2,
    }
    return Findings(**(good | changes))


def verdict(found: Findings, params: RunParams = PARAMS) -> tuple[str, str]:
    return decide(found, sanity_rows(params, found))


def test_a_good_run_is_valid() -> None:
    assert verdict(findings()) == ("valid", "all is explained")


def test_a_run_that_did_nothing_is_unknown_even_if_nothing_contradicts_it() -> None:
    word, reason = verdict(findings(operations={}, faults={}, leader_changes=0))
    assert word == "unknown"
    assert "operations that succeeded: 0" in reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_never_succeeded_is_a_doubt(kind: str) -> None:
    tallies = {name: Tally(ok=400) for name in KINDS} | {kind: Tally(ok=5, rejected=5, fail=100)}
    word, reason = verdict(findings(operations=tallies))
    assert word == "unknown"
    assert kind in reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"faults": {"kill": 0, "pause": 0}}, "faults that fired"),
        ({"leader_changes": 0}, "leader changes"),
        ({"judgement": Judgement("unknown", "the deadline passed")}, "the deadline passed"),
        ({"crashes": ["node 2 ended by itself"]}, "node 2 ended by itself"),
        ({"problems": ["node 1 did not come back"]}, "node 1 did not come back"),
        ({"liveness": "no write through node 3 succeeded"}, "no write through node 3"),
        ({"interrupted": True}, "interrupted"),
        ({"operations": {kind: Tally(ok=20) for kind in KINDS}}, "operations that succeeded: 160 of at least 500"),
    ],
)
def test_every_doubt_is_unknown_and_said(change: dict[str, Any], said: str) -> None:
    word, reason = verdict(findings(**change))
    assert word == "unknown"
    assert said in reason


def test_a_crash_that_kept_a_node_from_starting_is_told_once() -> None:
    crash = "node 2 ended by itself"
    assert verdict(findings(crashes=[crash], problems=[crash])) == ("unknown", crash)


def test_a_violation_stands_whatever_else_went_wrong() -> None:
    bad = Judgement("invalid", "message 7 was lost", core=[3, 9], anomaly="lost-write")
    found = findings(judgement=bad, operations={}, faults={}, crashes=["node 2 ended"], interrupted=True)
    assert verdict(found) == ("invalid", "message 7 was lost")
    assert anomaly_of(found) == "lost-write"


def test_two_leaders_of_one_term_are_a_violation_whatever_clients_saw() -> None:
    found = findings(split_terms=["nodes 1 and 2 both led term 4"])
    assert verdict(found)[0] == "invalid"
    assert anomaly_of(found) == "election-safety"


def test_a_control_run_without_faults_needs_neither_faults_nor_elections() -> None:
    params = RunParams(seed=1, faults=())
    assert verdict(findings(faults={}, leader_changes=0), params)[0] == "valid"


def test_the_record_counts_pending_operations_as_unknown() -> None:
    found = findings(operations={"send": Tally(ok=1, unknown=2, pending=3)})
    record = verdict_record(PARAMS, found, run_dir="runs/x", replay="telegraft demo --seed 1", duration_s=30.0)
    assert record["operations"]["send"] == {"ok": 1, "fail": 0, "unknown": 5, "rejected": 0}
    assert {"verdict", "operations", "faults", "leader_changes", "seed", "run_dir", "check_s"} <= record.keys()


@pytest.mark.parametrize("stdout", [b"", b"{", b'{"verdict": "splendid"}', b"[]"])
def test_a_judge_that_says_nothing_readable_is_unknown(stdout: bytes) -> None:
    died = subprocess.CompletedProcess(["judge"], -9, stdout, b"out of memory")
    judgement = read_judgement(died, 1.0)
    assert judgement.verdict == "unknown"
    assert "out of memory" in judgement.reason
