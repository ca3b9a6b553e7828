"""Seeded random runs: all invariants after every step, and progress after healing or behind cut links.

A failure says how to replay it with every action and state printed::

    .venv/bin/python -m impl.raft.tests.campaign SEED --nodes N --kind faults|partial|membership|leases
"""

from __future__ import annotations

from collections import Counter

import pytest

from impl.raft.invariants import CheckedCore
from impl.raft.tests.campaign import CAMPAIGNS, Campaign
from impl.raft.tests.mutants import MUTANTS, build
from impl.raft.tests.world import Violation

CHUNK = 25
"""Seeds per test: small enough that a failing one is near in the output."""

SEEN = (
    "leader",
    "commit",
    "truncation",
    "restart",
    "crash that lost a write",
    "read released",
    "proposal acknowledged",
    "proposal lost",
    "refused: not-leader",
    "refused: overloaded",
    "refused: lost-leadership",
)
"""What every chunk has to reach: runs in which nothing happens prove nothing."""


def run(kind: str, nodes: int, seeds: range) -> Counter[str]:
    reached: Counter[str] = Counter()
    for seed in seeds:
        reached.update(CAMPAIGNS[kind](seed, nodes).run().reached)
    return reached


@pytest.mark.parametrize("chunk", range(8))
@pytest.mark.parametrize("nodes", [3, 5])
def test_faults(nodes: int, chunk: int) -> None:
    reached = run("faults", nodes, range(chunk * CHUNK, (chunk + 1) * CHUNK))
    assert [event for event in SEEN if not reached[event]] == []


@pytest.mark.parametrize("nodes", [1, 2, 4, 7])
def test_faults_in_groups_of_other_sizes(nodes: int) -> None:
    assert run("faults", nodes, range(15))["proposal acknowledged"] > 0


@pytest.mark.parametrize("nodes", [3, 4, 5])
def test_partial_connectivity(nodes: int) -> None:
    assert run("partial", nodes, range(CHUNK))["read released"] > 0


SEEN_IN_CHANGING_GROUPS = (
    *SEEN,
    "joint",
    "final",
    "learners",
    "change completed",
    "transfer completed",
    "wipe",
    "compact",
    "snapshot received",
    "restore",
    "follower read",
    "refused: configuration-changed",
    "refused: change-in-progress",
    "refused: not-caught-up",
    "refused: transferring",
    "refused: transfer-failed",
)
"""The same for runs in which the group changes."""


@pytest.mark.parametrize("nodes", [3, 5])
def test_membership(nodes: int) -> None:
    reached = run("membership", nodes, range(2 * CHUNK))
    assert [event for event in SEEN_IN_CHANGING_GROUPS if not reached[event]] == []


@pytest.mark.parametrize("nodes", [1, 2, 4, 7])
def test_membership_from_other_sizes(nodes: int) -> None:
    assert run("membership", nodes, range(15))["change completed"] > 0


@pytest.mark.parametrize("nodes", [3, 5])
def test_leases(nodes: int) -> None:
    assert run("leases", nodes, range(CHUNK))["lease read"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", CAMPAIGNS)
@pytest.mark.parametrize("chunk", range(10))
def test_many_seeds(chunk: int, kind: str) -> None:
    reached: Counter[str] = Counter()
    for nodes in (3, 5):
        reached.update(run(kind, nodes, range(1000 + chunk * 200, 1000 + (chunk + 1) * 200)))
    if kind == "faults":
        assert [event for event in SEEN if not reached[event]] == []


def test_same_seed_same_run() -> None:
    first, second = Campaign(7, 3), Campaign(7, 3)
    first.run()
    second.run()
    assert first.world.journal == second.world.journal
    assert first.world.describe() == second.world.describe()


def test_self_checking_core_agrees() -> None:
    """``CheckedCore`` is what a node runs with ``check_invariants``: the same behaviour."""
    plain, checked = Campaign(3, 3), Campaign(3, 3, CheckedCore)
    plain.run()
    checked.run()
    assert plain.world.journal == checked.world.journal


def test_failure_names_its_replay() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "leader-counts-before-fsync")
    with pytest.raises(Violation, match="committed_is_durable") as caught:
        Campaign(3, 5, build(mutant)).run()
    replay, actions = caught.value.__notes__
    assert replay.startswith("replay: .venv/bin/python -m impl.raft.tests.campaign ")
    assert "--nodes 5 --kind faults" in replay
    assert actions.count("\n") >= 2
