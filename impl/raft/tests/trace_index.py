"""Makes ``docs/traces.md``: how to read a golden trace, the commands, and what there is, by theme."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from impl.raft.tests.trace_language import FORMS, QUIETLY, Trace, parse
from impl.raft.tests.trace_runner import SETTINGS
from impl.raft.tests.trace_words import NOTATION

TRACES = Path(__file__).parent / "traces"
PAGE = Path(__file__).parents[3] / "docs" / "traces.md"

THEMES = {
    "elections": "Elections, votes, pre-vote and check-quorum",
    "replication": "Replication and commitment",
    "durability": "Disks, crashes and restarts",
    "reads": "Linearizable reads, leases, followers",
    "membership": "Changes of the group",
    "snapshots": "Compaction and snapshots",
    "transfer": "Handing over the leadership",
}
"""Folder and heading, in the order of the page."""

INTRODUCTION = """\
# Golden traces

A golden trace is a scenario in plain text under `impl/raft/tests/traces/`: commands, and under each block of them what
the cores said, wrote and decided. They are meant to be read, aloud if need be: each file shows one rule of Raft, says
where the rule comes from, and which mistakes of real implementations break it.

`pytest impl/raft/tests/test_traces.py` runs all of them on the real core. Every step is judged by the invariants of
the cluster, and the text must be the same to the letter; what differs is shown as a diff. After an intended change,

    pytest impl/raft/tests/test_traces.py --regenerate-traces

writes the outputs anew (and this page), and the change is reviewed as a diff. Lines that begin with `expect` say the
point of a file; they fail whatever the outputs are, so that a mistake cannot be regenerated into the files. Every file
names planted bugs (`mutants.py`, `rule_mutants.py`, `trace_mutants.py`) that it rejects, and a test shows that it does.

## How to read one

A line without indentation is something that happens: a message arrives, time passes, a write completes. The indented
lines below it are what follows. A message that is sent and arrives within one command is shown once, where it arrives.
"""


def load() -> list[Trace]:
    """All files, by theme and name. Raises ``TraceError`` at the first that cannot be understood."""
    return [parse(path, path.read_text(encoding="utf-8")) for path in sorted(TRACES.rglob("*.txt"))]


def page(traces: Sequence[Trace]) -> str:
    """The text of ``docs/traces.md``."""
    lines = [INTRODUCTION, *_table("notation", "meaning", [(f"`{sign}`", meaning) for sign, meaning in NOTATION])]
    lines += ["", "## Commands", "", f"`{QUIETLY}` before a command shows only the states after it.", ""]
    forms = [(f"`{form.usage}`".replace("|", "\\|"), form.meaning) for form in FORMS.values()]
    lines += [*_table("command", "what it does", forms), ""]
    lines += [f"Settings of `cluster`: {', '.join(f'`{name}`' for name in SETTINGS)}.", ""]
    lines += ["## The traces", "", f"{len(traces)} files. The bugs are those of the catalogue in `mutants.py`."]
    for theme, heading in THEMES.items():
        rows = [
            (f"[{trace.path.stem}](../impl/raft/tests/traces/{theme}/{trace.path.name})", trace.title, *_sources(trace))
            for trace in traces
            if trace.path.parent.name == theme
        ]
        lines += ["", f"### {heading}", "", *_table("file", "what it shows", rows, "from", "bugs")]
    return "\n".join(lines) + "\n"


def _sources(trace: Trace) -> tuple[str, str]:
    return trace.fields["from"], ", ".join(trace.bugs) or "-"


def _table(first: str, second: str, rows: Sequence[Sequence[str]], *more: str) -> list[str]:
    heads = (first, second, *more)
    return [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *(f"| {' | '.join(row)} |" for row in rows)]
