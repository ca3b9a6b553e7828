"""Where the other nodes are, and what is said of one's own place.

Theory of operation
-------------------
The group's configuration says who belongs to it and, of those that were added to it, where they are. Founding members
are in it by their ids alone: each node's own configuration file says where it reaches them, because that may differ
from node to node (port forwarding, proxies). What ``dial`` says goes before both. A node that joined may thus know no
address of a founder; the founder knows its, keeps a stream to it, and is answered as the network answers strangers.
"""

from __future__ import annotations

from impl.config import NodeConfig, parse_address
from impl.raft.messages import Configuration, NodeId

Address = tuple[str, int]


def peers_of(configuration: Configuration, config: NodeConfig) -> dict[NodeId, Address]:
    """Whom to keep a stream to: every other member whose address is known."""
    peers = {}
    for member in configuration.members:
        at = config.dial.get(member.node_id) or member.peer or config.peers.get(member.node_id)
        if member.node_id != config.node_id and at:
            peers[member.node_id] = parse_address(at)
    return peers


def known(config: NodeConfig) -> dict[NodeId, Address]:
    """What the configuration file says of others, members or not."""
    return {
        node_id: parse_address(at)
        for node_id, at in {**config.peers, **config.dial}.items()
        if node_id != config.node_id
    }


def urls_of(configuration: Configuration, config: NodeConfig) -> dict[NodeId, str]:
    """Where clients reach the members, as far as that is known."""
    urls = {}
    for member in configuration.members:
        url = config.peer_urls.get(member.node_id) or member.url
        if member.node_id == config.node_id:
            url = url or config.url
        if url:
            urls[member.node_id] = url
    return urls
