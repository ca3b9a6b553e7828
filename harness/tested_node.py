"""A node as the harness starts it: the real program, on a disk that can be broken, with or without a planted bug.

``python -m harness.tested_node --disk CONTROL [--bug BUG] --config FILE ...``. Disk faults and bugs are put on from
outside, by overriding what the node is made of: the implementation has no switch for either. Small segments of the log
make a full disk show within seconds. Everything else, from the log's format to the HTTP server, is what runs in
production.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from harness.faulty_disk import Faults, FaultyDisk
from harness.planted import VARIANTS
from harness.planted_names import BUGS
from impl import process
from impl.config import NodeConfig
from impl.node import Node
from impl.storage.disk import Disk


def on_faulty_disk(node_class: type[Node], control: Path) -> type[Node]:
    """The same node, on a disk that the control file breaks."""

    class OnFaultyDisk(node_class):  # type: ignore[valid-type, misc]
        def __init__(self, config: NodeConfig, disk: Disk, random: Random, clock_ms: Callable[[], int]) -> None:
            super().__init__(config, FaultyDisk(Faults(control)), random, clock_ms)

    return OnFaultyDisk


def with_segments(node_class: type[Node], segment_bytes: int) -> type[Node]:
    """The same node, whose log has segments of this size from now on."""

    class Segmented(node_class.wal_class):  # type: ignore[name-defined, misc]
        @classmethod
        def open(cls, disk: Disk, directory: Path, owner: Any, **options: Any) -> Any:
            return super().open(disk, directory, owner, **options | {"segment_bytes": segment_bytes})

    class WithSegments(node_class):  # type: ignore[valid-type, misc]
        wal_class = Segmented

    return WithSegments


def main(arguments: list[str]) -> int:
    """Run a node to its end. Returns the exit status; wrong usage raises ``SystemExit(2)``."""
    parser = argparse.ArgumentParser(prog="python -m harness.tested_node", description=__doc__)
    parser.add_argument("--disk", type=Path, required=True, help="the control file of its disk; it need not exist")
    parser.add_argument("--bug", choices=tuple(BUGS), help="run it with this planted bug")
    parser.add_argument("--segment-bytes", type=int, help="the size of the log's segments, if not the usual one")
    parser.add_argument("--config", type=Path, required=True, help="the node's configuration, a TOML file")
    parser.add_argument("--end-with-parent", action="store_true", help="end when the starting process ends")
    given = parser.parse_args(arguments)
    if given.end_with_parent:
        process.end_with_parent()
    node_class = VARIANTS[given.bug] if given.bug else Node
    if given.segment_bytes:
        node_class = with_segments(node_class, given.segment_bytes)
    return process.main(given.config, node_class=on_faulty_disk(node_class, given.disk))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
