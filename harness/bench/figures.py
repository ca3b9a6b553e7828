"""One measured figure beside the bound that it has to keep, and how both are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Sense: TypeAlias = Literal["at least", "at most", "below"]


class Figure(msgspec.Struct, frozen=True):
    """A figure. Without a ``bound`` it is shown and not judged."""

    name: str  # what was measured
    value: float
    unit: str  # "entries/s", "ms", ...; empty for a ratio
    sense: Sense = "at most"
    bound: float | None = None
    detail: str = ""  # how it was come by, or what it is made of

    @property
    def met(self) -> bool | None:
        """Whether the bound is kept; None without one."""
        if self.bound is None:
            return None
        if self.sense == "at least":
            return self.value >= self.bound
        return self.value < self.bound if self.sense == "below" else self.value <= self.bound

    def record(self) -> dict[str, Any]:
        """The figure as ``--json`` prints it."""
        return {**msgspec.structs.asdict(self), "met": self.met}


def judged(figures: Sequence[Figure]) -> str:
    """One line: how many bounds there are, and which are not met."""
    bounds = [figure for figure in figures if figure.met is not None]
    missed = [figure.name for figure in bounds if not figure.met]
    if not missed:
        return f"all {len(bounds)} bounds are met"
    return f"{len(missed)} of {len(bounds)} bounds are NOT MET: {'; '.join(missed)}"


def shown(figures: Sequence[Figure]) -> Group:
    """The figures as a table, and the line that judges them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("bound", justify="right")
    table.add_column("")
    for figure in figures:
        verdict = {True: Text("met", "green"), False: Text("NOT MET", "bold red"), None: Text("")}[figure.met]
        bound = "" if figure.bound is None else f"{figure.sense} {number(figure.bound)}"
        what = Text.assemble(figure.name, (f"\n  {figure.detail}", "dim")) if figure.detail else Text(figure.name)
        table.add_row(what, f"{number(figure.value)} {figure.unit}".strip(), bound, verdict)
    parts: list[RenderableType] = [table, Text(""), Text(judged(figures))]
    return Group(*parts)


def number(value: float) -> str:
    """Three significant digits, and no more than are known."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
