"""The cluster of the day: three nodes that found a group, two that join it later, and fresh ones instead of any."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w

from harness.cluster import Node
from harness.direct import DirectCluster, prepare_direct

FOUNDERS = (1, 2, 3)
SPARES = (4, 5)

OPTIONS: dict[str, Any] = {"snapshot_entries": 2_000, "keep_entries": 200}
"""Snapshots are taken often, and little of the log is kept: who joins needs one."""


class DayCluster(DirectCluster):
    """``members`` are the nodes that are meant to be up; the others are not started yet, or have been removed."""

    def __init__(self, nodes: dict[int, Node]) -> None:
        super().__init__(nodes)
        self.members = set(FOUNDERS)
        self._lives = dict.fromkeys(nodes, 1)

    async def start(self, node_ids: Iterable[int] | None = None) -> None:
        await super().start(sorted(self.members) if node_ids is None else node_ids)

    def renew(self, node: int) -> None:
        """From its next start on, the node is a fresh one that joins, in a new directory. It must be down."""
        self._lives[node] += 1
        process = self.nodes[node]
        process.data_dir = process.data_dir.with_name(f"{node}.data-{self._lives[node]}")
        process.joins = True
        self.set_option(node, "data_dir", str(process.data_dir.resolve()))

    def set_option(self, node: int, key: str, value: Any) -> None:
        """Change one key of a node's configuration file; the node reads it when it starts."""
        path = self.nodes[node].config_path
        path.write_text(tomli_w.dumps({**tomllib.loads(path.read_text()), key: value}))


def prepare_day(directory: Path, name: str) -> DayCluster:
    """Choose ports and write the config files of founders and spares. Nothing is started yet."""
    return DayCluster(
        prepare_direct(directory, nodes=len(FOUNDERS), spares=len(SPARES), name=name, options=OPTIONS).nodes
    )
