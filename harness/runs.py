"""Run folders: everything needed to look at a run again, to check it again and to run it again.

    runs/
      latest -> demo/20260801T120000Z-7
      demo/
        latest -> 20260801T120000Z-7
        20260801T120000Z-7/
          replay.txt      the command that runs it again, on the first line
          params.json     what was asked for, and which versions ran
          schedule.json   the faults as drawn from the seed
          history.jsonl   what happened
          verdict.json    what it means
          report.html     the same, to look at
          nodes/          N.toml, N.log and N.data of each node

The folder and its links exist before anything starts, so that a run that was interrupted can be found too.
"""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from harness.faults.schedule import Schedule
from harness.params import RunParams

MAX_SAME_SECOND = 100
"""How many runs of one seed may start within one second before something is wrong."""


@dataclass(frozen=True)
class RunFolder:
    """One run's folder. ``root`` is what ``--out`` named."""

    root: Path
    path: Path

    @property
    def history(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def schedule(self) -> Path:
        return self.path / "schedule.json"

    @property
    def params(self) -> Path:
        return self.path / "params.json"

    @property
    def verdict(self) -> Path:
        return self.path / "verdict.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def error(self) -> Path:
        """Only if the harness itself failed: the traceback."""
        return self.path / "harness-error.txt"

    def write_json(self, path: Path, value: Any) -> None:
        """Write one JSON file of the folder, for people and programs."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


class NotARunFolder(ValueError):
    """A folder is not that of a run, or cannot be read."""


def create(out: Path, params: RunParams, schedule: Schedule, now: datetime | None = None) -> RunFolder:
    """Make the folder of a new run below ``out``, with everything that is known before it starts."""
    home = out / params.name
    home.mkdir(parents=True, exist_ok=True)
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    path = make_unique(home, f"{stamp}-{params.seed}")
    folder = RunFolder(out, path)
    (path / "nodes").mkdir()
    replay = params.replay_command(out)
    (path / "replay.txt").write_text(
        f"{replay}\n\n"
        f"Runs it again: the same faults at the same instants, the same draws of each client; the machine's own\n"
        f"timing differs. To check the recorded history again: telegraft check {folder.history} --model chat\n"
    )
    folder.write_json(folder.params, {**params.model_dump(mode="json"), **versions()})
    folder.schedule.write_bytes(schedule.encode())
    point(home / "latest", path.name)
    point(out / "latest", f"{params.name}/{path.name}")
    return folder


def make_unique(home: Path, name: str) -> Path:
    """A new folder called ``name``, or ``name`` with a number behind it if that exists."""
    for number in range(1, MAX_SAME_SECOND + 1):
        path = home / (name if number == 1 else f"{name}.{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise FileExistsError(f"{home / name} and {MAX_SAME_SECOND} more exist: choose another folder with --out")


def point(link: Path, target: str) -> None:
    """Let the symbolic link point at ``target``, at once; on systems without such links, do without."""
    with contextlib.suppress(OSError, NotImplementedError):
        fresh = link.with_name(f".{link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(link)


def load_params(path: Path) -> RunParams:
    """The parameters of the run in this folder. Raises ``NotARunFolder``."""
    file = path / "params.json"
    try:
        values = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        return RunParams.model_validate({key: values[key] for key in RunParams.model_fields if key in values})
    except (FileNotFoundError, NotADirectoryError):
        what = "has no params.json" if path.is_dir() else "is a file" if path.exists() else "does not exist"
        raise NotARunFolder(f"{path} {what}: name the folder of a run, for example runs/latest") from None
    except (OSError, ValueError) as error:
        raise NotARunFolder(f"{file} cannot be read: {error}") from None


def versions() -> dict[str, str]:
    """What ran: of the project, of Python and of the system."""
    return {
        "telegraft": metadata.version("telegraft"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
