"""The node's counters as Prometheus reads them, named after etcd's so that dashboards and habits carry over.

Theory of operation
-------------------
Nothing is counted here. The parts of a node count for themselves and say so in frozen records (``statistics()``); when
Prometheus asks, a collector of our own registry turns these records into samples. What concerns one Raft group carries
the label ``group``; what concerns one other node carries ``peer``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from impl.chat.service import NodeStatus
from impl.network.tcp import NetworkStatistics
from impl.node.node import NodeStatistics
from impl.node.persistence import SYNC_BUCKETS_S

GROUP = "0"
"""One group for each process, so far."""


class NodeCollector(Collector):
    """Samples of one node."""

    def __init__(
        self,
        node: Callable[[], NodeStatistics],
        network: Callable[[], NetworkStatistics],
        status: Callable[[], NodeStatus],
    ) -> None:
        self._node = node
        self._network = network
        self._status = status

    def collect(self) -> Iterator[Metric]:
        node, status = self._node(), self._status()
        raft = node.raft
        driver, applying, snapshots, persistence = node.driver, node.applying, node.snapshots, node.persistence
        counters = {
            "telegraft_server_leader_changes_seen": ("Leaders that this node has known.", driver.leader_changes),
            "telegraft_server_proposals_committed": ("The commit index.", raft.commit_index),
            "telegraft_server_proposals_applied": ("Entries applied: the applied index.", status.applied_index),
            "telegraft_server_proposals_failed": ("Requests that ended as not done or unknown.", node.failed_requests),
            "telegraft_server_reads": ("Queries answered from this node's state.", applying.queries),
            "telegraft_server_forwarded_requests": ("Requests sent on to the leader.", node.forwarding.forwarded),
            "telegraft_server_snapshots_taken": ("Snapshots taken here.", snapshots.taken),
            "telegraft_server_snapshots_failed": ("Snapshots given up.", snapshots.failed),
            "telegraft_server_snapshots_restored": ("States replaced by a received snapshot.", applying.restored),
            "telegraft_server_snapshot_sent_bytes": ("Pieces of snapshots sent.", snapshots.sent_bytes),
            "telegraft_server_snapshot_received_bytes": ("Pieces of snapshots stored.", snapshots.received_bytes),
            "telegraft_disk_wal_write_bytes": ("Payload of entries written to the log.", persistence.written_bytes),
        }  # fmt: skip
        gauges = {
            "telegraft_server_has_leader": ("1 if this node knows a leader.", int(raft.leader_id != 0)),
            "telegraft_server_is_leader": ("1 if this node leads.", int(raft.role == "leader")),
            "telegraft_server_is_learner": ("1 if this node is a learner.", int(status.membership == "learner")),
            "telegraft_server_term": ("The term of this node.", raft.term),
            "telegraft_server_proposals_pending": ("Entries in the log and not committed.", raft.uncommitted_entries),
            "telegraft_server_apply_backlog": ("Committed entries to be applied.", applying.backlog),
            "telegraft_server_open_requests": ("Requests in progress.", node.open_requests),
            "telegraft_server_snapshot_index": ("Where the newest snapshot ends.", snapshots.newest_index),
            "telegraft_server_snapshot_bytes": ("Size of the newest snapshot.", snapshots.newest_bytes),
            "telegraft_server_snapshot_seconds": ("How long the last one took.", snapshots.last_seconds),
            "telegraft_server_configuration_index": ("Of the group as it is.", raft.configuration_index),
            "telegraft_disk_wal_bytes": ("Bytes in the segments of the log.", persistence.log.bytes),
            "telegraft_disk_state_bytes": ("Bytes of the state machine's file.", applying.machine.database_bytes),
        }  # fmt: skip
        for name, (words, count) in counters.items():
            counter = CounterMetricFamily(name, words, labels=("group",))
            counter.add_metric((GROUP,), count)
            yield counter
        for name, (words, value) in gauges.items():
            gauge = GaugeMetricFamily(name, words, labels=("group",))
            gauge.add_metric((GROUP,), value)
            yield gauge
        yield self._syncs(node)
        yield from self._peers()

    def _syncs(self, node: NodeStatistics) -> Metric:
        histogram = HistogramMetricFamily(
            "telegraft_disk_wal_fsync_duration_seconds", "Writing and syncing one frame of the log.", labels=("group",)
        )
        below = 0
        buckets = []
        for bound, count in zip((*SYNC_BUCKETS_S, None), node.persistence.sync_counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound is None else str(bound), float(below)))
        histogram.add_metric((GROUP,), buckets, node.persistence.sync_seconds)
        return histogram

    def _peers(self) -> Iterator[Metric]:
        network = self._network()
        sent = CounterMetricFamily("telegraft_network_peer_sent_bytes", "Bytes sent to a peer.", labels=("peer",))
        dropped = CounterMetricFamily(
            "telegraft_network_peer_dropped_messages", "Messages that could not be sent to a peer.", labels=("peer",)
        )
        up = GaugeMetricFamily("telegraft_network_active_peers", "1 while a stream to it is up.", labels=("peer",))
        for peer, link in network.links.items():
            sent.add_metric((str(peer),), link.sent_bytes)
            dropped.add_metric((str(peer),), link.dropped_messages)
            up.add_metric((str(peer),), int(link.connected))
        received = CounterMetricFamily(
            "telegraft_network_peer_received_bytes", "Bytes received from a peer.", labels=("peer",)
        )
        for peer, count in network.received_bytes.items():
            received.add_metric((str(peer),), count)
        yield from (sent, dropped, up, received)


def metrics_of(
    node: Callable[[], NodeStatistics], network: Callable[[], NetworkStatistics], status: Callable[[], NodeStatus]
) -> Callable[[], bytes]:
    """What ``GET /metrics`` answers, as a function."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(node, network, status))
    return lambda: generate_latest(registry)
