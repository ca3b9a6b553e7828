"""From what was found to one verdict: ``valid``, ``invalid`` or ``unknown``.

Theory of operation
-------------------
A violation stands, whatever else went wrong: if the history cannot be explained, or two nodes led one term, the verdict
is ``invalid``. Everything that leaves a doubt makes it ``unknown``: a check that did not end, a node that ended by
itself or not in order, a fault that could not be healed, a cluster that made no progress afterwards, and a run that
proves little. The last is what the *sanity rows* are for: each names something that a run must have seen, how much of
it was required and how much there was. A run that did nothing has nothing to be proud of.

``history_verdict`` keeps what the history alone says: the same as ``telegraft check`` will say of it elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from harness.judge import Judgement
from harness.params import FaultFamily, RunParams
from harness.recorder import Tally
from harness.workloads.chat import KINDS

Word: TypeAlias = Literal["valid", "invalid", "unknown"]

EXIT_CODES: dict[Word, int] = {"valid": 0, "invalid": 1, "unknown": 3}

MIN_SHARE_OF_PACE = 1 / 12
"""The least share of the operations that the pace allows for: 500 in a demo of 30 s. Faults cost a third or so, a busy
machine another; a run that loses more than this was standing still."""

LEADER_CHANGE_FROM_S = 20.0
"""From this duration on the schedule has room to hit the leader often enough that leadership must have moved."""

LEADER_FAMILIES: frozenset[FaultFamily] = frozenset({"kill", "pause", "partition"})
"""Those of which the schedule aims one at the leader, and takes it out of the quorum."""


class SanityRow(msgspec.Struct, frozen=True):
    """Something that a run must have seen, to prove anything."""

    name: str
    required: int
    observed: int

    @property
    def ok(self) -> bool:
        return self.observed >= self.required


class Findings(msgspec.Struct):
    """Everything that was found out about one run."""

    judgement: Judgement
    operations: dict[str, Tally]
    faults: dict[str, int]  # family -> how often it fired
    leader_changes: int
    split_terms: list[str] = []  # in words: terms that two nodes led
    crashes: list[str] = []  # in words: nodes that ended by themselves, or not in order
    problems: list[str] = []  # in words: what the harness could not do
    liveness: str = ""  # what did not make progress after everything was healed, or empty
    interrupted: bool = False


def sanity_rows(params: RunParams, findings: Findings) -> list[SanityRow]:
    """What this run must have seen, and what it saw."""
    tallies = findings.operations
    required = int(params.clients * params.rate_per_client * params.duration_s * MIN_SHARE_OF_PACE)
    rows = [SanityRow("operations that succeeded", required, sum(t.ok for t in tallies.values()))]
    for kind in KINDS:
        tally = tallies.get(kind, Tally())
        rows.append(SanityRow(f"{kind} that succeeded and was not rejected", 1, tally.ok - tally.rejected))
    rows.append(SanityRow("faults that fired", 1 if params.faults else 0, sum(findings.faults.values())))
    if params.nodes > 1 and params.duration_s >= LEADER_CHANGE_FROM_S and set(params.faults) & LEADER_FAMILIES:
        rows.append(SanityRow("leader changes", 1, findings.leader_changes))
    return rows


def decide(findings: Findings, rows: Sequence[SanityRow]) -> tuple[Word, str]:
    """The verdict and the reason for it, in words."""
    judgement = findings.judgement
    if judgement.verdict == "invalid":
        return "invalid", judgement.reason
    if findings.split_terms:
        return "invalid", f"election safety is broken: {'; '.join(findings.split_terms)}"
    doubts = doubts_about(findings, rows)
    if doubts:
        return "unknown", "; ".join(doubts)
    return "valid", judgement.reason


def doubts_about(findings: Findings, rows: Sequence[SanityRow]) -> list[str]:
    """Every reason not to call the run valid, the weightiest first."""
    doubts = ["the run was interrupted"] if findings.interrupted else []
    doubts += dict.fromkeys([*findings.crashes, *findings.problems])  # a crash may also be why a node did not start
    if findings.liveness:
        doubts.append(f"no progress: {findings.liveness}")
    if findings.judgement.verdict == "unknown":
        doubts.append(findings.judgement.reason)
    doubts += [f"too few {row.name}: {row.observed} of at least {row.required}" for row in rows if not row.ok]
    return doubts


def anomaly_of(findings: Findings) -> str:
    """The class of the violation, or an empty string."""
    if findings.judgement.verdict == "invalid":
        return findings.judgement.anomaly or "not-linearizable"
    return "election-safety" if findings.split_terms else ""


def verdict_record(
    params: RunParams, findings: Findings, *, run_dir: str, replay: str, duration_s: float
) -> dict[str, Any]:
    """The content of verdict.json, which is also what ``--json`` prints."""
    rows = sanity_rows(params, findings)
    word, reason = decide(findings, rows)
    judgement = findings.judgement
    return {
        "verdict": word,
        "reason": reason,
        "class": anomaly_of(findings),
        "core": judgement.core,
        "operations": operation_counts(findings.operations),
        "faults": dict(findings.faults),
        "leader_changes": findings.leader_changes,
        "seed": params.seed,
        "bug": params.bug,
        "run_dir": run_dir,
        "duration_s": round(duration_s, 3),
        "check_s": judgement.check_s,
        "history_verdict": judgement.verdict,
        "progress": judgement.progress,
        "liveness": findings.liveness,
        "crashes": findings.crashes,
        "problems": findings.problems,
        "sanity": [{"name": r.name, "required": r.required, "observed": r.observed, "ok": r.ok} for r in rows],
        "replay": replay,
    }


def operation_counts(tallies: Mapping[str, Tally]) -> dict[str, dict[str, int]]:
    """Per kind how many ended how. A pending operation is unknown; ``rejected`` are among ``ok``."""
    return {
        kind: {
            "ok": tally.ok,
            "fail": tally.fail,
            "unknown": tally.unknown + tally.pending,
            "rejected": tally.rejected,
        }
        for kind, tally in sorted(tallies.items())
    }
