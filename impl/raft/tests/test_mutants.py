"""Every planted bug must be caught, by its script and by the campaign; ``pytest -s`` prints who caught what.

A mutant that survives says that the tests are too weak: strengthen the world's invariants or add a script.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from impl.raft.core import Core
from impl.raft.tests.campaign import CAMPAIGNS
from impl.raft.tests.group_mutants import GROUP_MUTANTS
from impl.raft.tests.mutants import MUTANTS, Mutant, build
from impl.raft.tests.scenarios import SCENARIOS
from impl.raft.tests.world import Violation

SEEDS = 40
"""Runs of each size within which a campaign must catch a mutant; most fall within the first three."""

TABLE: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    print(f"\n{len(TABLE)} mutants\n" + "\n".join(TABLE))


def caught_by_scenario(core_class: type[Core], name: str) -> str | None:
    try:
        SCENARIOS[name](core_class)
    except Violation as violation:
        return str(violation) if violation.invariant == "scenario" else violation.invariant
    except AssertionError as violation:  # the core's own
        return str(violation)
    return None


def caught_by_campaign(core_class: type[Core], kind: str, seeds: int) -> str | None:
    for seed in range(seeds):
        for nodes in (3, 5, 4):
            try:
                CAMPAIGNS[kind](seed, nodes, core_class).run()
            except Violation as violation:
                return f"{violation.invariant} ({kind} {seed}, {nodes} nodes)"
            except AssertionError as violation:  # the core's own
                return f"{violation} ({kind} {seed}, {nodes} nodes)"
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_caught(mutant: Mutant) -> None:
    core_class = build(mutant)
    assert mutant.scenario or mutant.campaign
    script = caught_by_scenario(core_class, mutant.scenario) if mutant.scenario else "-"
    run = caught_by_campaign(core_class, mutant.campaign, SEEDS) if mutant.campaign else "-"
    TABLE.append(f"{mutant.name:46}{mutant.source:14}{run or 'SURVIVED':52}{mutant.scenario}: {script or 'SURVIVED'}")
    assert script is not None, f"{mutant.name} survives {mutant.scenario}: the script does not look at what it breaks"
    assert run is not None, (
        f"{mutant.name} survives {SEEDS} seeds of the campaign: the world does not see what it breaks"
    )


@pytest.mark.parametrize("mutant", GROUP_MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_of_a_changing_group_is_caught(mutant: Mutant) -> None:
    script = caught_by_scenario(build(mutant), mutant.scenario)
    TABLE.append(f"{mutant.name:46}{mutant.source:14}{'-':52}{mutant.scenario}: {script or 'SURVIVED'}")
    assert script is not None, f"{mutant.name} survives {mutant.scenario}: the script does not look at what it breaks"


def test_mutants_are_distinct_and_apply() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    with pytest.raises(ValueError, match="not once"):
        build(Mutant("stale", "-", "core", "this text is not in the core", ""))


def test_rebuilt_core_without_a_bug_behaves() -> None:
    """The machinery of the mutants breaks nothing by itself."""
    core_class = build(Mutant("none", "-", "core", "MAX_GATED_MESSAGES = 1024", "MAX_GATED_MESSAGES = 1024"))
    assert core_class is not Core
    for seed in range(3):
        assert caught_by_campaign(core_class, "faults", 1) is None, seed
    for name in SCENARIOS:
        assert caught_by_scenario(core_class, name) is None, name


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_matrix(mutant: Mutant) -> None:
    """Who else catches it: all scripts, and the first seeds of every campaign."""
    core_class = build(mutant)
    scripts = [name for name in SCENARIOS if caught_by_scenario(core_class, name)]
    runs = [run for kind in CAMPAIGNS if (run := caught_by_campaign(core_class, kind, SEEDS // 4))]
    TABLE.append(f"{mutant.name:46}{mutant.source:14}{'; '.join(runs)} | {', '.join(scripts)}")
    assert runs or scripts
