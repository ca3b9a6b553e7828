"""The golden traces: every file runs, reads as written, and rejects the planted bugs that it names."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from impl.raft.core import Core
from impl.raft.tests.mutants import build
from impl.raft.tests.trace_index import PAGE, THEMES, load, page
from impl.raft.tests.trace_language import FORMS, Trace, TraceError, parse
from impl.raft.tests.trace_mutants import ALL_MUTANTS
from impl.raft.tests.trace_runner import Runner, difference
from impl.raft.tests.world import Violation

TRACES = load()

BY_NAME = {mutant.name: mutant for mutant in ALL_MUTANTS}

SMALL = """\
# A small file
#
# It shows nothing in particular.
#
# from: this test
# descriptive: it tests the language

cluster nodes=3
campaign 1
----
"""


def name(trace: Trace) -> str:
    return f"{trace.path.parent.name}/{trace.path.stem}"


@functools.cache
def mutated(mutant: str) -> type[Core]:
    return build(BY_NAME[mutant])


def rejection(trace: Trace, core_class: type[Core]) -> str | None:
    """Who says no to this core, if anybody does: an invariant, an expectation, the script, or only the text."""
    try:
        outputs = Runner(trace, core_class).outputs()
    except Violation as violation:
        return violation.invariant
    except TraceError:
        return "the script cannot go on"
    return None if [list(block.output) for block in trace.blocks] == outputs else "the text differs"


@pytest.mark.parametrize("trace", TRACES, ids=name)
def test_trace(trace: Trace, request: pytest.FixtureRequest) -> None:
    text = trace.path.read_text(encoding="utf-8")
    if request.config.getoption("regenerate_traces", default=False):
        trace.path.write_text(Runner(trace).text(), encoding="utf-8")
        return
    difference_found = difference(trace, text)
    if difference_found:
        pytest.fail(f"\n{difference_found}\n\nIf this is as it should be: pytest --regenerate-traces", pytrace=False)


def test_index(request: pytest.FixtureRequest) -> None:
    assert {trace.path.parent.name for trace in TRACES} == set(THEMES), "every folder has a heading, and the reverse"
    if request.config.getoption("regenerate_traces", default=False):
        PAGE.write_text(page(TRACES), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(TRACES), "docs/traces.md is stale: pytest --regenerate-traces"


@pytest.mark.parametrize("trace", [trace for trace in TRACES if trace.rejects], ids=name)
def test_trace_rejects_planted_bugs(trace: Trace) -> None:
    unknown = [mutant for mutant in trace.rejects if mutant not in BY_NAME]
    assert not unknown, f"{name(trace)} names {unknown}, which no table of planted bugs has"
    accepted = [mutant for mutant in trace.rejects if rejection(trace, mutated(mutant)) is None]
    assert not accepted, f"{name(trace)} runs unchanged with {accepted} planted"


def test_names_of_planted_bugs_are_distinct() -> None:
    assert len(BY_NAME) == len(ALL_MUTANTS)


@pytest.mark.slow
def test_matrix() -> None:
    """Who rejects what: printed with ``pytest -s``."""
    found: dict[str, list[str]] = {mutant.name: [] for mutant in ALL_MUTANTS}
    for trace in TRACES:
        for mutant in ALL_MUTANTS:
            said = rejection(trace, mutated(mutant.name))
            if said is not None:
                found[mutant.name].append(f"{name(trace)} ({said})")
    print("\n" + "\n".join(f"{mutant:46}{len(by):3}  {', '.join(by[:4])}" for mutant, by in found.items()))
    silent = [name(trace) for trace in TRACES if not any(name(trace) in " ".join(by) for by in found.values())]
    assert not silent, f"no planted bug changes {silent}"


# --- the language ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("deliver 1=>2", "deliver 1->2 [all|2|#2]"),
        ("deliver 1->2 some", "deliver 1->2 [all|2|#2]"),
        ("tick", "tick 1 2|all [x5] [timeout=19]"),
        ("tick 1 2x", "tick 1 2|all [x5] [timeout=19]"),
        ("crash", "crash 1 [survive=1] [applied=3]"),
        ("hold 1->2", "hold 1->2 [#2] as NAME"),
        ("show everything", "show state|log|progress|links|disk"),
        ("expect 1 king", "expect no leader"),
        ("propose 1 X", "propose 1 x y z1..z9"),
        ("propose 1 z9..z1", "write x1..x9"),
        ("expel 1", "there are: cluster, recover, tick"),
        ("quietly", "there are: cluster, recover, tick"),
        ("tick  1", "separated by one blank"),
        ("cluster nodes=3", "there is one cluster"),
        ("tick 1 timeout=12 timeout=13", "timeout is given twice"),
    ],
)
def test_malformed_commands_are_refused(line: str, said: str) -> None:
    text = SMALL + "\n# a remark\n" + line + "\n----\n"
    with pytest.raises(TraceError) as caught:
        parse(Path("small.txt"), text)
    assert str(caught.value).startswith("small.txt:13: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tick 4", "there is no node 4; there are: 1, 2, 3"),
        ("tick 1 timeout=20", "timeouts are 10 to 19 ticks here"),
        ("tick 1 patience=3", "there are: timeout"),
        ("deliver 2->1", "0 messages are in flight from 2 to 1"),
        ("deliver 1->2 #2", "1 messages are in flight from 1 to 2"),
        ("flush 2", "node 2 has nothing to write"),
        ("restart 1", "node 1 is up"),
        ("late letter", "no message named letter is held; there are: none"),
        ("propose 1 x x", "the name x is used already"),
        ("expect x committed", "nothing is named x"),
        ("crash 1 survive=1", "only 0 writes are under way"),
        ("wake 1", "the disk of node 1 does not hang"),
    ],
)
def test_commands_that_cannot_be_carried_out_are_refused(line: str, said: str) -> None:
    trace = parse(Path("small.txt"), SMALL + "\n" + line + "\n----\n")
    with pytest.raises(TraceError) as caught:
        Runner(trace).outputs()
    assert str(caught.value).startswith("small.txt:12: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("# A small file", "#", "begins with its title"),
        ("# It shows nothing in particular.\n", "", "a paragraph"),
        ("# from: this test\n", "", "needs a line '# from: ...'"),
        ("# descriptive: it tests the language\n", "", "either '# rejects: a, b'"),
        ("# from: this test\n", "# from: this test\n# rejects: a\n", "either '# rejects: a, b'"),
        ("# from: this test\n", "# from: this test\n# from: another\n", "a second 'from'"),
        ("# from: this test\n", "# from: this test\n# and more\n", "after the fields only fields"),
        ("cluster nodes=3\n", "", "the first command must be: cluster nodes=3"),
        ("----\n", "", "a block needs a line '----'"),
        ("campaign 1\n----\n", "----\n\n# a remark\n----\n", "a block without a command"),
    ],
)
def test_malformed_files_are_refused(old: str, new: str, said: str) -> None:
    assert SMALL.count(old) == 1
    with pytest.raises(TraceError, match=r"^small\.txt:\d+: ") as caught:
        parse(Path("small.txt"), SMALL.replace(old, new))
    assert said in str(caught.value)


def test_a_message_that_is_held_must_be_used() -> None:
    trace = parse(Path("small.txt"), SMALL + "\nhold 1->2 as letter\n----\n")
    with pytest.raises(TraceError, match=r"held and never used: \['letter'\]"):
        Runner(trace).outputs()


def test_difference_is_readable_and_regenerated_text_has_none() -> None:
    trace = parse(Path("small.txt"), SMALL)
    found = difference(trace, SMALL)
    assert found.startswith("--- small.txt (file)\n+++ small.txt (run)\n@@")
    assert "\n+  1->2 prevote? t1 log 0/0" in found
    text = Runner(trace).text()
    assert difference(parse(Path("small.txt"), text), text) == ""
    assert difference(parse(Path("small.txt"), text), text.replace("log 0/0", "log 1/1", 1)).count("\n-") == 1


def test_expectations_cannot_be_regenerated_away() -> None:
    for line in ("expect 1 leader", "expect 1 pre-candidate t1", "expect 2 log 1", "propose 2 x\nexpect x committed"):
        trace = parse(Path("small.txt"), SMALL + "\n" + line + "\n----\n")
        with pytest.raises(Violation, match=r"small\.txt:\d+: expect .*not so"):
            Runner(trace).text()


def test_every_command_is_carried_out_somewhere() -> None:
    used = {command.name for trace in TRACES for block in trace.blocks for command in block.commands}
    assert used == set(FORMS)


def test_runs_are_deterministic() -> None:
    for trace in TRACES[::7]:
        assert Runner(trace).text() == Runner(trace).text()
