"""Every planted bug must be caught, by its scenario and by the campaign; ``pytest -s`` prints who caught what.

A mutant that survives says that the tests are too weak: look at more in the ledger, or add a scenario.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from impl.node import Node
from impl.tests.campaign import run
from impl.tests.ledger import Violation
from impl.tests.mutants import MUTANTS, Mutant, build
from impl.tests.scenarios import SCENARIOS, play

QUICK_SEEDS = 3
"""Of the campaign in the default tier: mutants that take longer to be seen run in the slow one."""

TABLE: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    print(f"\n{len(TABLE)} runs of mutants\n" + "\n".join(TABLE))


def caught_by_scenario(node_class: type[Node], name: str, folder: Path) -> str | None:
    try:
        play(name, folder, node_class)
    except (Exception, BaseExceptionGroup, pytest.fail.Exception) as error:  # whatever ends it has seen something
        first: BaseException = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        return str(first).partition("\n")[0][:70] or type(first).__name__
    return None


def caught_by_campaign(node_class: type[Node], seeds: int) -> str | None:
    for seed in range(seeds):
        try:
            run(seed, node_class)
        except Violation as violation:
            return f"seed {seed}: {violation}"[:90]
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_scenario_sees_it(mutant: Mutant, tmp_path: Path) -> None:
    seen = caught_by_scenario(build(mutant), mutant.scenario, tmp_path)
    TABLE.append(f"{mutant.name:36}{mutant.scenario}: {seen or 'SURVIVED'}")
    assert seen is not None, f"{mutant.name} survives {mutant.scenario}: it does not look at what the bug breaks"


def check_campaign(mutant: Mutant) -> None:
    seen = caught_by_campaign(build(mutant), mutant.campaign)
    TABLE.append(f"{mutant.name:36}{seen or 'SURVIVED'}")
    assert seen is not None, f"{mutant.name} survives {mutant.campaign} seeds: the ledger does not see what it breaks"


@pytest.mark.parametrize(
    "mutant", [one for one in MUTANTS if 0 < one.campaign <= QUICK_SEEDS], ids=lambda mutant: mutant.name
)
def test_the_campaign_sees_it_soon(mutant: Mutant) -> None:
    check_campaign(mutant)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant", [one for one in MUTANTS if one.campaign > QUICK_SEEDS], ids=lambda mutant: mutant.name
)
def test_the_campaign_sees_it(mutant: Mutant) -> None:
    check_campaign(mutant)


def test_mutants_are_distinct_and_apply() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    with pytest.raises(ValueError, match="not once"):
        build(Mutant("stale", "driver", "this text is not in the driver", "", "", 0))


def test_rebuilt_node_without_a_bug_behaves(tmp_path: Path) -> None:
    """The machinery of the mutants breaks nothing by itself."""
    node_class = build(Mutant("none", "driver", "MAX_INBOX = 4096", "MAX_INBOX = 4096", "", 0))
    assert node_class is not Node
    assert caught_by_campaign(node_class, 1) is None
    for name in SCENARIOS:
        (tmp_path / name).mkdir()
        assert caught_by_scenario(node_class, name, tmp_path / name) is None, name
