"""Every planted bug of ``rule_mutants`` is seen by a test of a rule; ``pytest -s`` prints by which.

Each test of one member runs against the modules with the bug in them, the cheap ones first, until one fails. A bug
that nobody sees says that a rule has no test, or that the code it is in is not needed.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from impl.raft.tests import (
    single,
    test_configuration,
    test_log,
    test_log_model,
    test_membership,
    test_paper,
    test_progress,
    test_quorum,
    test_reads,
    test_snapshots,
    test_transfer,
)
from impl.raft.tests.mutants import MODULES, MUTANTS, Mutant, rebuilt
from impl.raft.tests.rule_mutants import RULE_MUTANTS

RULES = (
    test_membership,
    test_snapshots,
    test_reads,
    test_transfer,
    test_paper,
    test_progress,
    test_log,
    test_configuration,
    test_quorum,
    test_log_model,
)
"""Cheap first."""

DEFAULT_SHARE = 3
"""Every so many of them run in the default tier; all of them in the slow one."""

SECTIONS = {
    "5_1": "terms",
    "5_2": "elections",
    "5_3": "replication",
    "5_4_2": "entries of earlier terms",
    "5_5": "idempotence",
    "6": "changes of the group",
    "7": "snapshots",
    "7_figure_13_1": "an old term",
    "7_figure_13_2_to_4": "pieces",
    "7_figure_13_5": "older snapshots",
    "7_figure_13_6": "a log that goes on behind it",
    "7_figure_13_7": "a log that does not",
    "7_figure_13_8": "the state and the configuration",
    "d3_10": "handing over",
    "d4_1": "one change at a time, the correction of 2015",
    "d4_2_1": "catching up",
    "d4_2_2": "removing the current leader",
    "d4_2_3": "disruptive servers",
    "d6_2": "check-quorum",
    "d6_4": "reads",
    "d6_4_1": "leases",
    "d9_6": "pre-vote",
    "d10_2_1": "writing in parallel",
}
"""Of the paper, and (d) of the dissertation. 5.4.1 and 5.4.3 take two logs: ``scenarios.py`` and ``test_log.py``;
section 8 is the chat's (``impl/chat``), but for the no-op and the reads, which are here."""

TABLE: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    print(f"\n{len(TABLE)} mutants\n" + "\n".join(TABLE))


def rules() -> list[tuple[str, Callable[..., None]]]:
    """All tests of rules, by name."""
    return [
        (name, value)
        for module in RULES
        for name, value in vars(module).items()
        if name.startswith("test_") and inspect.isfunction(value) and value.__module__ == module.__name__
    ]


def cases(test: Callable[..., None]) -> Iterator[dict[str, object]]:
    """What its ``parametrize`` marks say to call it with."""
    axes = []
    for mark in getattr(test, "pytestmark", []):
        names = [name.strip() for name in mark.args[0].split(",")] if isinstance(mark.args[0], str) else mark.args[0]
        axes.append([dict(zip(names, v if len(names) > 1 else (v,), strict=True)) for v in mark.args[1]])
    for chosen in itertools.product(*axes):
        yield {name: value for part in chosen for name, value in part.items()}


def plant(patch: pytest.MonkeyPatch, modules: dict[str, ModuleType]) -> None:
    """Put the classes and functions with the bug where the tests have the real ones."""
    for module in (single, *RULES):
        for name, value in list(vars(module).items()):
            origin = getattr(value, "__module__", None) or ""
            part = origin.removeprefix("impl.raft.")
            if part in modules and hasattr(modules[part], getattr(value, "__name__", "")):
                patch.setattr(module, name, getattr(modules[part], value.__name__))


def seen_by(mutant: Mutant) -> str | None:
    """The first test that fails with the bug."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, rebuilt(mutant))
        for name, test in rules():
            for case in cases(test):
                try:
                    test(**case)
                except (Exception, pytest.fail.Exception):
                    return name
    return None


@pytest.mark.parametrize("mutant", RULE_MUTANTS[::DEFAULT_SHARE], ids=lambda mutant: mutant.name)
def test_mutant_is_seen(mutant: Mutant) -> None:
    name = seen_by(mutant)
    TABLE.append(f"{mutant.name:46}{mutant.source:14}{name}")
    assert name, f"{mutant.name} is seen by no test of a rule"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", RULE_MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_seen(mutant: Mutant) -> None:
    test_mutant_is_seen(mutant)


def test_the_tests_pass_without_a_bug() -> None:
    """The machinery plants nothing by itself."""
    assert seen_by(Mutant("none", "-", "core", "MAX_GATED_MESSAGES = 1024", "MAX_GATED_MESSAGES = 1024")) is None


def test_mutants_are_distinct_and_fit() -> None:
    names = [mutant.name for mutant in (*MUTANTS, *RULE_MUTANTS)]
    assert len(set(names)) == len(names)
    assert len(names) >= 200
    for mutant in RULE_MUTANTS:
        assert mutant.module in MODULES
        rebuilt(mutant)


def test_every_section_has_its_tests() -> None:
    """And every test of a rule names a section that is in the list."""
    found = set()
    for name, _ in rules():
        rest = name.removeprefix("test_")
        section = max((s for s in SECTIONS if rest.startswith(s + "_")), key=len, default=None)
        if rest[0].isdigit() or (rest[0] == "d" and rest[1].isdigit()):
            assert section, f"{name} names a section that SECTIONS does not have"
        if section:
            found.add(section)
    assert sorted(set(SECTIONS) - found) == []
