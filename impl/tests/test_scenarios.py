"""The node passes every scenario."""

from __future__ import annotations

from pathlib import Path

import pytest

from impl.tests.scenarios import SCENARIOS, play


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, tmp_path: Path) -> None:
    play(name, tmp_path)
