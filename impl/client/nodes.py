"""The nodes of a cluster as a client reaches them, and which of them it asks next.

Theory of operation
-------------------
A client may reach the nodes under other addresses than they advertise (through proxies, port forwarding, names that
only resolve inside). So it only ever asks the addresses that it was given, and matches the leader's *id*, which every
response names, to one of them: by the mapping that it was given, or by the ids with which the nodes have answered so
far. Where no id is known, the advertised address of the leader counts if it is among the given ones.

Any node answers any request, as followers forward: the leader is merely the shortest way. When an attempt fails, the
next goes to the leader, if the failing node named one that has not failed in this call, or else to the next node in
the ring; when all have failed, to each of them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Nodes:
    """The addresses of a cluster; ``current`` is the one to ask first."""

    def __init__(self, nodes: Sequence[str] | Mapping[int, str]) -> None:
        """``nodes``: base URLs, in any order, or node id -> base URL. Raises ``ValueError`` when there are none."""
        if isinstance(nodes, str):
            raise ValueError(f"give the nodes as a list of URLs, not as the string {nodes!r}")
        self._url_of: dict[int, str] = {}
        if isinstance(nodes, Mapping):
            self._url_of = {node_id: _base(url) for node_id, url in nodes.items()}
        self._ids_given = bool(self._url_of)
        given = self._url_of.values() if isinstance(nodes, Mapping) else map(_base, nodes)
        self.urls = tuple(dict.fromkeys(given))
        if not self.urls:
            raise ValueError("a client needs the URL of at least one node, like http://127.0.0.1:8101")
        self.current = self.urls[0]

    def id_of(self, url: str) -> int:
        """The id of the node at an address, 0 when it is not known."""
        return next((node_id for node_id, known in self._url_of.items() if known == url), 0)

    def url_of(self, node_id: int) -> str | None:
        """The address of a node, None when it is not known."""
        return self._url_of.get(node_id)

    def learn(self, url: str, node_id: int) -> None:
        """The node at ``url`` answered with this id. An explicit mapping is not overruled."""
        if self._ids_given or self._url_of.get(node_id) == url:
            return
        self._url_of = {known: at for known, at in self._url_of.items() if at != url}
        self._url_of[node_id] = url

    def leader(self, leader_id: int, leader_url: str) -> str | None:
        """Where to reach the leader of this id and advertised address, None when that is not known."""
        known = self._url_of.get(leader_id)
        if known is not None:
            return known
        advertised = _base(leader_url)
        return advertised if advertised in self.urls and not self._ids_given else None

    def after(self, failed: str, leader: str | None, failed_in_call: set[str]) -> str:
        """The node to ask after ``failed``. Forgets ``failed_in_call`` when it holds all nodes."""
        if leader is not None and leader not in failed_in_call:
            return leader
        if len(failed_in_call) >= len(self.urls):
            failed_in_call.clear()
        start = self.urls.index(failed) + 1
        ring = self.urls[start:] + self.urls[:start]
        return next((url for url in ring if url not in failed_in_call), ring[0])


def _base(url: str) -> str:
    return url.rstrip("/")
