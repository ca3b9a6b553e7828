"""What a run is: the parameters that, with the code, decide everything but the timing of the machine.

They are written to ``params.json`` in the run folder before anything starts, and read back for a replay.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field

FaultFamily: TypeAlias = Literal["kill", "pause", "partition", "client-link", "disk-full", "disk-slow", "disk-hung"]
FAMILY_NAMES: tuple[FaultFamily, ...] = get_args(FaultFamily)

MIN_DURATION_S = 2.0
"""Shorter runs end before the first fault does."""

MAX_DURATION_S = 3600.0
"""An hour of history is about what fits in memory when it is checked."""

MAX_NODES = 9
"""Links grow with the square of the nodes: nine nodes are 72 peer links, each with its own listener."""

MAX_CLIENTS = 64
"""Each client keeps a connection per node; more of them starve the nodes on one machine."""


class RunParams(BaseModel):
    """One run. Durations in seconds, rates in operations per second and client."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    seed: int = Field(ge=0)
    duration_s: float = Field(default=30.0, ge=MIN_DURATION_S, le=MAX_DURATION_S)
    nodes: int = Field(default=3, ge=1, le=MAX_NODES)
    clients: int = Field(default=8, ge=1, le=MAX_CLIENTS)
    chats: int = Field(default=4, ge=1, le=64)
    rate_per_client: float = Field(default=25.0, gt=0, le=1000)
    faults: tuple[FaultFamily, ...] = FAMILY_NAMES
    bug: str = ""  # a name in ``harness.planted_names``, or empty
    operation_timeout_s: float = Field(default=2.5, gt=0, le=60)
    check_deadline_s: float = Field(default=60.0, gt=0, le=3600)

    def replay_command(self, out: Path) -> str:
        """The shell command that starts this run again; its first faults come at the same instants."""
        defaults = RunParams(seed=self.seed)
        parts = ["telegraft", "demo"] if self.name == "demo" else ["telegraft", "harness", "run", "--name", self.name]
        parts += ["--seed", str(self.seed), "--duration", f"{self.duration_s:g}"]
        if self.nodes != defaults.nodes:
            parts += ["--nodes", str(self.nodes)]
        if self.name != "demo":
            parts += ["--clients", str(self.clients), "--chats", str(self.chats)]
            parts += ["--rate", f"{self.rate_per_client:g}", "--faults", ",".join(self.faults) or "none"]
        if self.bug:
            parts += ["--bug", self.bug]
        if out != Path("runs"):
            parts += ["--out", str(out)]
        return shlex.join(parts)
