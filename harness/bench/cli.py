"""``telegraft bench``: thin over the modules that measure.

Exit codes: 0 the figures were measured, whether or not they keep their bounds; 2 usage; 1 a measurement broke.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer

MAX_TRIALS = 1000

bench_app = typer.Typer(help="Measure, and say beside each figure which bound it has to keep.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``bench`` to the ``telegraft`` command."""
    app.add_typer(bench_app, name="bench")


@bench_app.callback()
def bench() -> None:
    """Commands are named, even while there is only one."""


@bench_app.command("core")
def core_command(
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, words on stderr.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer runs, smaller files: a look, not a result.")] = False,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=0, max=MAX_TRIALS, help="Failovers; 0 for none. Default 50, 5 with --quick."),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", help="Where files are written and removed again: the disk that is measured."),
    ] = None,
) -> None:
    """Raft, log, recovery and failover: medians, each beside its bound."""
    from rich.console import Console

    from harness.bench import core_figures
    from harness.bench.failover_bench import QUICK_TRIALS, TRIALS, NoFailover
    from harness.bench.figures import judged, shown
    from harness.cluster import NodeFailed
    from impl.storage.errors import StorageError

    words = Console(stderr=True)

    def told(line: str) -> None:
        words.print(line, markup=False, highlight=False, soft_wrap=True)

    if trials is None:
        trials = QUICK_TRIALS if quick else TRIALS
    if directory is not None and not directory.is_dir():
        raise typer.BadParameter(f"{directory} is not a folder: name one that exists", param_hint="--directory")
    with tempfile.TemporaryDirectory(prefix="telegraft-bench-", dir=directory) as folder:
        try:
            figures = list(core_figures.core(quick=quick, told=told))
            figures += core_figures.storage(Path(folder), quick=quick, told=told)
            if trials:
                figures += core_figures.failover(Path(folder), trials, told=told)
        except (NoFailover, NodeFailed, StorageError, OSError) as error:
            typer.echo(f"telegraft: {error}", err=True)
            raise typer.Exit(1) from None
    if json:
        answer = {"figures": [figure.record() for figure in figures], "summary": judged(figures), "quick": quick}
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    else:
        Console().print(shown(figures), highlight=False)
