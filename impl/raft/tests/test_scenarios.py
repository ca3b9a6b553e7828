"""The scripted histories, with the core as it is."""

import pytest

from impl.raft.core import Core
from impl.raft.invariants import CheckedCore
from impl.raft.tests.scenarios import SCENARIOS


@pytest.mark.parametrize("core_class", [Core, CheckedCore])
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_holds(name: str, core_class: type[Core]) -> None:
    SCENARIOS[name](core_class)
