"""What a day is: the parameters of a run, and how much of everything it takes."""

from __future__ import annotations

import shlex
from pathlib import Path

from pydantic import Field

from harness.params import RunParams

NAME = "day"

FILL_BYTES = 240_000_000
"""Of text, before the last transfer of a snapshot, at scale 1: the newest snapshot may be up to 2,000 messages of 16 kB
behind, and is more than 200 MB then, too."""

PAUSE_S = 5.0
"""How long a state of the cluster lasts for clients to see it, at scale 1."""

MIN_SCALE, MAX_SCALE = 0.02, 20.0


class DayParams(RunParams):
    """One day. ``duration_scale`` stretches the pauses and the amount of data, not what the cluster takes itself."""

    name: str = NAME
    nodes: int = Field(default=3, ge=3, le=3)  # at the beginning, and at the end
    clients: int = Field(default=6, ge=1, le=16)
    chats: int = Field(default=4, ge=1, le=64)
    rate_per_client: float = Field(default=8.0, gt=0, le=100)
    faults: tuple[()] = ()  # the script's are not drawn
    check_deadline_s: float = 300.0
    duration_scale: float = Field(default=1.0, ge=MIN_SCALE, le=MAX_SCALE)

    @property
    def pause_s(self) -> float:
        return PAUSE_S * self.duration_scale

    @property
    def fill_bytes(self) -> int:
        return int(FILL_BYTES * self.duration_scale)

    def replay_command(self, out: Path) -> str:
        """The shell command that starts this day again."""
        parts = ["telegraft", "harness", "day", "--seed", str(self.seed)]
        if self.duration_scale != 1:
            parts += ["--duration-scale", f"{self.duration_scale:g}"]
        if out != Path("runs"):
            parts += ["--out", str(out)]
        return shlex.join(parts)
