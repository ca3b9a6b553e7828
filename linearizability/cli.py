"""The command ``check``: a recorded history, a model, a verdict.

Theory of operation
-------------------
The exit code is the verdict: 0 valid, 1 invalid, 2 the history or the command cannot be understood, 3 unknown. With
``--json`` exactly one object goes to standard output, and words go to standard error. Nothing ends in a traceback: a
damaged file is named with its line, and a model that crashes leaves the verdict unknown, because nothing was shown.

The command adds itself to an application that somebody else owns, through ``register``.
"""

from __future__ import annotations

import json
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from linearizability import formats, models
from linearizability.checker import check, name_of
from linearizability.history import CheckError, History, HistoryError, Operation
from linearizability.model import Model
from linearizability.verdict import Result, Verdict

DEADLINE_S = 60.0
"""Long enough for any history that can be decided in practice, short enough to wait for."""

NANOSECONDS = 1_000_000_000


class ExitCode(IntEnum):
    VALID = 0
    INVALID = 1
    USAGE = 2
    UNKNOWN = 3


EXIT_CODES = {Verdict.VALID: ExitCode.VALID, Verdict.INVALID: ExitCode.INVALID, Verdict.UNKNOWN: ExitCode.UNKNOWN}


def register(app: typer.Typer) -> None:
    """Add ``check`` to this application."""
    app.command("check")(check_command)


def check_command(
    history: Annotated[Path, typer.Argument(help="The recorded history.", show_default=False)],
    model: Annotated[str, typer.Option(help="What the system should be, by name.", show_default=False)] = "",
    format: Annotated[str, typer.Option(help="The format of the file.", show_default="recognised")] = "",
    deadline: Annotated[float, typer.Option(help="Seconds after which to give up.", min=0)] = DEADLINE_S,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Also list what contradicts what.")] = False,
) -> None:
    """Check whether a recorded history is linearizable. Exit code: 0 valid, 1 invalid, 2 unusable input, 3 unknown."""
    try:
        chosen = models.find(model) if model else _no_model()
        recorded = formats.read(history, format or None)
    except CheckError as error:
        _refuse(error, history, as_json)
    except OSError as error:
        _refuse(HistoryError(f"cannot be read: {error.strerror}", source=str(history)), history, as_json)

    try:
        result = check(chosen, recorded.operations, deadline_s=deadline)
        told = report(chosen, recorded, result, explain)
        words = _in_words(chosen, result, explain)
    except HistoryError as error:
        _refuse(error, history, as_json)
    except Exception as error:
        why = f"the model {name_of(chosen)!r} failed on this history: {type(error).__name__}: {error}"
        result = Result(Verdict.UNKNOWN, name_of(chosen), len(recorded.operations), 0.0, reason=why, progress=why)
        told = report(chosen, recorded, result, False)
        words = _in_words(chosen, result, False)
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
    typer.echo("\n".join(words), err=as_json)
    raise typer.Exit(EXIT_CODES[result.verdict])


def report(model: Model[Any], recorded: History, result: Result, explain: bool) -> dict[str, Any]:
    """The object of ``--json``. ``core`` holds the indices of operations, ``seconds`` the time of the check alone."""
    offending = result.offending
    told: dict[str, Any] = {
        "verdict": str(result.verdict),
        "model": result.model,
        "history": recorded.source,
        "format": recorded.format,
        "operations": result.operations,
        "partitions": len(result.partitions),
        "seconds": round(result.seconds, 6),
        "class": result.anomaly,
        "core": [op.index for op in result.core],
        "core_is_minimal": result.core_is_minimal,
        "offending": offending.index if offending is not None else None,
        "reason": result.reason,
        "progress": result.progress,
    }
    if explain:
        told["contradiction"] = [_line(model, op) for op in result.core]
    return told


def _in_words(model: Model[Any], result: Result, explain: bool) -> list[str]:
    counted = f"{result.operations} operations, model {result.model}, {result.seconds:.2f} s"
    words = [f"{result.verdict} ({counted})", result.reason]
    if result.progress:
        words.append(result.progress)
    if explain and result.core:
        words.append(
            "what cannot all be true:" if result.core_is_minimal else "what cannot all be true (there may be less):"
        )
        words += ["  " + _line(model, op) for op in result.core]
    return words


def _line(model: Model[Any], op: Operation) -> str:
    call_s = op.call / NANOSECONDS
    span = f"from {call_s:.9f} s on" if op.ret is None else f"{call_s:.9f} to {op.ret / NANOSECONDS:.9f} s"
    return f"operation {op.index}, process {op.process}, {span}: {model.describe_operation(op)}"


def _no_model() -> NoReturn:
    raise CheckError(f"no model was named. Name one with --model; known models: {', '.join(models.names())}")


def _refuse(error: CheckError, history: Path, as_json: bool) -> NoReturn:
    """Say what cannot be used and end with the exit code of that."""
    source, line = (error.source, error.line) if isinstance(error, HistoryError) else ("", 0)
    message = str(error)
    if isinstance(error, HistoryError) and not source:
        message = f"{history}: {message}"
    if as_json:
        typer.echo(json.dumps({"error": message, "file": source or str(history), "line": line or None}))
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(ExitCode.USAGE)
