"""Options of this room's tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-traces",
        action="store_true",
        default=False,
        help="write the outputs of the golden traces, and their index, anew; then review the difference",
    )
