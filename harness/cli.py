"""``telegraft demo`` and ``telegraft harness``: thin over ``harness.run`` and ``harness.report``.

Exit codes: 0 valid, 1 a violation was found, 2 usage, 3 unknown, 130 interrupted.
"""

from __future__ import annotations

import difflib
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from harness.params import FAMILY_NAMES, MAX_CLIENTS, MAX_DURATION_S, MAX_NODES, MIN_DURATION_S, RunParams
from harness.planted_names import BUGS

if TYPE_CHECKING:
    from harness.run import Run

RUNS = Path("runs")

SEEDS = 1_000_000
"""Seeds that the command draws by itself are below: short enough to be typed again."""

Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Decides the faults; drawn and shown if left out.")]
Bug = Annotated[str, typer.Option("--bug", help=f"Run nodes with a planted bug: {', '.join(BUGS)}.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, words on stderr.")]
Duration = Annotated[
    float,
    typer.Option("--duration", min=MIN_DURATION_S, max=MAX_DURATION_S, help="Seconds of workload and faults."),
]
Out = Annotated[Path, typer.Option("--out", help="Where run folders are kept.")]
Nodes = Annotated[int, typer.Option("--nodes", min=1, max=MAX_NODES, help="How many nodes.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.html.")]
RunDir = Annotated[Path, typer.Argument(help="The folder of a run, for example runs/latest.")]

harness_app = typer.Typer(help="Break real clusters, and judge what they said meanwhile.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``demo`` and ``harness`` to the ``telegraft`` command."""
    app.command()(demo)
    app.add_typer(harness_app, name="harness")


def demo(
    seed: Seed = None,
    bug: Bug = "",
    json: Json = False,
    duration: Duration = 30.0,
    out: Out = RUNS,
    nodes: Nodes = 3,
    no_report: NoReport = False,
) -> None:
    """Real nodes, clients that chat, random faults, and a verdict on everything the clients were told."""
    params = RunParams(seed=chosen(seed), bug=known(bug), duration_s=duration, nodes=nodes)
    raise typer.Exit(carry_out(params, out, json=json, report=not no_report))


@harness_app.command("run")
def run_command(
    seed: Seed = None,
    bug: Bug = "",
    json: Json = False,
    duration: Duration = 30.0,
    out: Out = RUNS,
    nodes: Nodes = 3,
    no_report: NoReport = False,
    name: Annotated[str, typer.Option("--name", help="The folder of runs of this kind.")] = "run",
    clients: Annotated[int, typer.Option("--clients", min=1, max=MAX_CLIENTS)] = 8,
    chats: Annotated[int, typer.Option("--chats", min=1, max=64)] = 4,
    rate: Annotated[float, typer.Option("--rate", min=0.1, max=1000, help="Operations per second and client.")] = 25.0,
    faults: Annotated[
        str, typer.Option("--faults", help=f"Families, separated by commas: {', '.join(FAMILY_NAMES)}; or none.")
    ] = ",".join(FAMILY_NAMES),
) -> None:
    """A run with everything to choose."""
    try:
        params = RunParams(
            name=name,
            seed=chosen(seed),
            bug=known(bug),
            duration_s=duration,
            nodes=nodes,
            clients=clients,
            chats=chats,
            rate_per_client=rate,
            faults=families(faults),
        )
    except ValueError:
        raise typer.BadParameter(
            f"{name!r} cannot name a folder: use letters, digits, dots, dashes and underscores", param_hint="--name"
        ) from None
    raise typer.Exit(carry_out(params, out, json=json, report=not no_report))


@harness_app.command("replay")
def replay_command(run_dir: RunDir, json: Json = False, out: Out = RUNS, no_report: NoReport = False) -> None:
    """Run again what a run folder says: same seed, same faults at the same instants. The machine's timing differs."""
    from harness.runs import NotARunFolder, load_params

    try:
        params = load_params(run_dir)
    except NotARunFolder as error:
        raise typer.BadParameter(str(error), param_hint="RUN_DIR") from None
    raise typer.Exit(carry_out(params, out, json=json, report=not no_report))


@harness_app.command("report")
def report_command(run_dir: RunDir, json: Json = False) -> None:
    """Write the report.html of a run folder again, from its history and its verdict."""
    from harness.report import ReportError, write_report

    try:
        path = write_report(run_dir)
    except (ReportError, OSError) as error:
        typer.echo(f"telegraft: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(to_json({"report": str(path)}) if json else str(path))


@harness_app.command("day")
def day_command(
    seed: Seed = None,
    json: Json = False,
    duration_scale: Annotated[
        float,
        typer.Option("--duration-scale", min=0.02, max=20.0, help="Of the pauses and of the data; 1 is 200 MB."),
    ] = 1.0,
    out: Out = RUNS,
    no_report: NoReport = False,
) -> None:
    """A scripted day under load: grow, shrink, replace, restart, full and slow disks, 200 MB of snapshot."""
    from harness.day.params import DayParams
    from harness.day.run import DayRun

    params = DayParams(seed=chosen(seed), duration_scale=duration_scale)
    raise typer.Exit(carry_out(params, out, json=json, report=not no_report, kind=DayRun))


def carry_out(params: RunParams, out: Path, *, json: bool, report: bool, kind: type[Run] | None = None) -> int:
    """Run, show the verdict, and return the exit code."""
    import trio
    from rich.console import Console

    from harness.display import LivePicture, PlainLines
    from harness.run import EXIT_INTERRUPTED, run
    from harness.summary import show

    words = Console(stderr=True)
    display = LivePicture(words) if words.is_terminal and not words.is_dumb_terminal else PlainLines(words)
    try:
        outcome = trio.run(lambda: run(params, out, display, report=report, kind=kind))
    except KeyboardInterrupt:
        typer.echo("telegraft: interrupted before the run's verdict was written", err=True)
        return EXIT_INTERRUPTED
    except OSError as error:
        typer.echo(f"telegraft: the run cannot be recorded: {error}. Name another folder with --out", err=True)
        return 2
    finally:
        display.close()
    if json:
        sys.stdout.write(to_json(outcome.record) + "\n")
    else:
        show(outcome.record, Console())
    return outcome.exit_code


def chosen(seed: int | None) -> int:
    """The seed asked for, or one drawn now."""
    return random.SystemRandom().randrange(SEEDS) if seed is None else seed


def known(bug: str) -> str:
    """The name of a planted bug, or empty. Raises ``BadParameter`` naming those that exist."""
    if bug and bug not in BUGS:
        near = difflib.get_close_matches(bug, BUGS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        listed = "; ".join(f"{name} ({what})" for name, what in BUGS.items())
        raise typer.BadParameter(f"there is no planted bug {bug!r}: {hint}Known are {listed}", param_hint="--bug")
    return bug


def families(text: str) -> tuple[Any, ...]:
    """The fault families named in a list with commas. Raises ``BadParameter`` naming those that exist."""
    names = [name.strip() for name in text.split(",") if name.strip() not in {"", "none"}]
    strange = [name for name in names if name not in FAMILY_NAMES]
    if strange:
        raise typer.BadParameter(
            f"there is no fault family {strange[0]!r}: known are {', '.join(FAMILY_NAMES)}, and none",
            param_hint="--faults",
        )
    return tuple(name for name in FAMILY_NAMES if name in names)


def to_json(value: dict[str, Any]) -> str:
    """One line of JSON."""
    return msgspec.json.encode(value).decode()
