"""The report of a fault-injection run: one HTML file that says what happened, to people who were not there.

``write_report(run_dir)`` reads ``history.jsonl``, ``verdict.json`` and ``params.json`` of a run folder and writes
``report.html`` beside them; ``contradiction_text(run_dir)`` is the same contradiction for a terminal. The page loads
nothing, works from disk, and the same inputs give the same bytes. Neither function judges: the verdict is the
checker's.

How it is made: ``data`` reads and condenses, ``words`` puts operations into sentences, ``contradiction`` draws the few
operations that cannot all be true, ``tables`` and ``page`` write the rest of the document, ``payload`` packs what the
scripts in ``assets/`` draw.
"""

from __future__ import annotations

import os
from pathlib import Path

from harness.report.contradiction import as_text
from harness.report.data import ReportError, read_run
from harness.report.page import render
from harness.report.words import Names

__all__ = ["ReportError", "contradiction_text", "write_report"]


def write_report(run_dir: Path) -> Path:
    """Write ``run_dir/report.html`` and return its path.

    The file appears whole or not at all. Raises ``ReportError`` when the folder cannot be read as a run, or the file
    cannot be written.
    """
    target = run_dir / "report.html"
    text = render(read_run(run_dir))
    unfinished = run_dir / "report.html.unfinished"
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        os.replace(unfinished, target)
    except OSError as error:
        raise ReportError(f"{target} cannot be written: {error.strerror}.") from error
    return target


def contradiction_text(run_dir: Path) -> str:
    """The contradiction of a run as plain text; empty when the verdict names no operations. Raises ``ReportError``."""
    run = read_run(run_dir)
    return as_text(run, Names(run.operations))
