"""The verdict on one screen: what was found, in words first, and where to look next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

HEADLINES = {
    "valid": ("VALID", "bold green", "Every reply that every client got can be explained by one order of events."),
    "invalid": ("INVALID", "bold red", "The cluster has told its clients things that cannot all be true."),
    "unknown": ("UNKNOWN", "bold yellow", "The run does not show whether the cluster is right."),
}


def summary(record: dict[str, Any]) -> Group:
    """What to show of a verdict.json."""
    word, style, meaning = HEADLINES[record["verdict"]]
    parts: list[RenderableType] = [Text.assemble((word, style), "  ", meaning), Text(record["reason"])]
    if record["core"]:
        named = ", ".join(f"#{index}" for index in record["core"])
        parts.append(Text(f"The contradiction: operations {named} of the history ({record['class']})."))
    if "phases" in record:
        parts += [Text(""), phases_table(record)]
    parts += [Text(""), operations_table(record), Text("")]
    parts.append(facts_table(record))
    return Group(*parts)


def operations_table(record: dict[str, Any]) -> Table:
    """How many operations of each kind ended how."""
    table = Table(box=None, pad_edge=False)
    for column in ("operations", "ok", "of these rejected", "not done", "unknown"):
        table.add_column(column, justify="left" if column == "operations" else "right")
    keys = ("ok", "rejected", "fail", "unknown")
    for kind, counts in record["operations"].items():
        table.add_row(kind, *(str(counts[key]) for key in keys))
    totals = (str(sum(counts[key] for counts in record["operations"].values())) for key in keys)
    table.add_row("total", *totals, style="bold")
    return table


def phases_table(record: dict[str, Any]) -> Table:
    """The phases of a scripted day."""
    table = Table(box=None, pad_edge=False)
    for column in ("phase", "seconds", "longest without a write", ""):
        table.add_column(column, justify="left" if column in {"phase", ""} else "right")
    for phase in record["phases"]:
        word = Text("passed", "green") if phase["passed"] else Text("FAILED", "bold red")
        gap = f"{phase['longest_write_gap_s']:.2f} s"
        table.add_row(phase["name"], f"{phase['duration_s']:.1f}", gap, word)
    return table


def facts_table(record: dict[str, Any]) -> Table:
    """Faults, leader changes, seed, and where everything is."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    faults = ", ".join(f"{family} {count}" for family, count in record["faults"].items())
    if record["bug"]:
        table.add_row("planted bug", record["bug"])
    table.add_row("faults", faults or "none")
    table.add_row("leader changes", str(record["leader_changes"]))
    table.add_row("checked in", f"{record['check_s']:.2f} s")
    table.add_row("seed", str(record["seed"]))
    table.add_row("run it again", record["replay"])
    table.add_row("run folder", record["run_dir"])
    report = Path(record["run_dir"]) / "report.html"
    if "report" in record:
        table.add_row("report", str(report))
    elif "report_error" in record:
        table.add_row("no report", record["report_error"])
    return table


def show(record: dict[str, Any], console: Console) -> None:
    """Print the summary; paths and commands are not broken up on narrow terminals."""
    console.print(summary(record), highlight=False)
