"""The node under random faults; on a failure the exception's notes name the line that replays it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from impl.tests.campaign import Campaign, run
from impl.tests.ledger import Violation
from impl.tests.mutants import MUTANTS, build

SEEDS = 20
"""In the default tier: well under half a minute."""

CHUNK = 5

MANY_SEEDS = 200
SLOW_CHUNK = 50

SEEN = ("send posted", "send unknown", "send not done: no-leader", "read answered", "power_cut", "power_cut_of_all")
"""What must happen in every chunk, or the runs show nothing."""


def run_all(seeds: range) -> None:
    seen: Counter[str] = Counter()
    for seed in seeds:
        seen.update(run(seed).events)
    assert [event for event in SEEN if not seen[event]] == []
    assert seen["send posted"] > 50 * len(seeds)


@pytest.mark.parametrize("chunk", range(SEEDS // CHUNK))
def test_seeds(chunk: int) -> None:
    run_all(range(chunk * CHUNK, (chunk + 1) * CHUNK))


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(MANY_SEEDS // SLOW_CHUNK))
def test_many_seeds(chunk: int) -> None:
    run_all(range(1000 + chunk * SLOW_CHUNK, 1000 + (chunk + 1) * SLOW_CHUNK))


def test_same_seed_same_run(tmp_path: Path) -> None:
    first, again = Campaign(7), Campaign(7)
    for number, campaign in enumerate((first, again)):
        (tmp_path / str(number)).mkdir()
        campaign.run(tmp_path / str(number))
    assert first.trace == again.trace
    assert first.journal == again.journal
    assert first.events == again.events
    assert first.digest == again.digest != ""


def test_failure_names_its_replay() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "timeout-of-a-forward-is-not-done")
    node_class = build(mutant)

    def run_until_it_fails() -> None:
        for seed in range(mutant.campaign):
            run(seed, node_class)

    with pytest.raises(Violation, match="not done and done") as caught:
        run_until_it_fails()
    replay, actions = caught.value.__notes__
    assert replay.startswith("replay: .venv/bin/python -m impl.tests.campaign ")
    assert actions.count("\n") >= 2
