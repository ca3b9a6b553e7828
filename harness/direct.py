"""A cluster without proxies: nodes and clients reach each other directly, so that nothing but the nodes takes time.

For benchmarks, and for the scripted day, whose faults are not those of links. The nodes are started as all others of
the harness (``harness.cluster``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from harness.cluster import HOST, Cluster, Node, node_command, text
from harness.links import Links
from harness.ports import free_ports
from harness.proxy import Address


class DirectCluster(Cluster):
    """Nodes that are reached where they listen."""

    def __init__(self, nodes: dict[int, Node]) -> None:
        super().__init__(nodes, Links({}, {}))

    def client_urls(self) -> dict[int, str]:
        return {node_id: f"http://{text(node.http)}" for node_id, node in self.nodes.items()}


def prepare_direct(
    directory: Path, *, nodes: int, name: str, spares: int = 0, bug: str = "", options: dict[str, Any] | None = None
) -> DirectCluster:
    """Choose ports and write the config files below ``directory``/nodes; ``options`` are keys that all of them have.

    The first ``nodes`` found the group, the ``spares`` behind them are to join it. Nothing is started yet.
    """
    home = directory / "nodes"
    home.mkdir(parents=True, exist_ok=True)
    ports = free_ports(2 * (nodes + spares))
    ids = range(1, nodes + spares + 1)
    founders = range(1, nodes + 1)
    http: dict[int, Address] = {i: (HOST, ports[2 * i - 2]) for i in ids}
    peer: dict[int, Address] = {i: (HOST, ports[2 * i - 1]) for i in ids}
    members: dict[int, Node] = {}
    for i in ids:
        config_path, data_dir = home / f"{i}.toml", home / f"{i}.data"
        config = {
            "cluster": name,
            "node_id": i,
            "data_dir": str(data_dir.resolve()),
            "http": text(http[i]),
            "peer": text(peer[i]),
            "peers": {str(j): text(peer[j]) for j in founders} if i in founders else {},
            "peer_urls": {str(j): f"http://{text(http[j])}" for j in founders} if i in founders else {},
            **(options or {}),
        }
        config_path.write_text(tomli_w.dumps(config))
        members[i] = Node(
            node_id=i,
            http=http[i],
            peer=peer[i],
            config_path=config_path,
            log_path=home / f"{i}.log",
            data_dir=data_dir,
            command=node_command(config_path, bug),
        )
    return DirectCluster(members)
