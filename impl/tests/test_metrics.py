"""The metrics of a node that has done something."""

from __future__ import annotations

from pathlib import Path

import trio
from prometheus_client.parser import text_string_to_metric_families

from impl.metrics import metrics_of
from impl.network.tcp import LinkStatistics, NetworkStatistics
from impl.tests.memory_cluster import MemoryCluster
from impl.tests.scenarios import make_chat, send_many


async def test_a_leader_counts(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    network = NetworkStatistics({2: LinkStatistics(True, 1, 7, 700, 3, 0)}, {2: 900}, 0)
    async with MemoryCluster(tmp_path, 3, seed=1, snapshot_entries=20).running() as cluster:
        leader = await cluster.leader()
        user, chat = await make_chat(leader)
        await send_many(leader, user, chat, "a", 50)
        await cluster.settled()
        text = metrics_of(leader.statistics, lambda: network, leader.status)().decode()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["telegraft_server_has_leader", "0"] == samples["telegraft_server_is_leader", "0"] == 1
    assert samples["telegraft_server_leader_changes_seen_total", "0"] == 1
    assert samples["telegraft_server_proposals_committed_total", "0"] == 53
    assert samples["telegraft_server_proposals_applied_total", "0"] == 53
    assert samples["telegraft_server_snapshots_taken_total", "0"] >= 2
    assert samples["telegraft_disk_wal_fsync_duration_seconds_count", "0"] >= 40
    assert samples["telegraft_network_peer_sent_bytes_total", "2"] == 700
    assert samples["telegraft_network_peer_received_bytes_total", "2"] == 900
