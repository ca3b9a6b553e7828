"""What the observer makes of the nodes' answers."""

from __future__ import annotations

import io
import json
from pathlib import Path

from harness.cluster import Cluster, Node
from harness.links import Links
from harness.observer import Observer, Status
from harness.recorder import Recorder

NOWHERE = ("127.0.0.1", 1)


def observer() -> tuple[Observer, io.BytesIO]:
    stream = io.BytesIO()
    nodes = {n: Node(n, NOWHERE, NOWHERE, Path("x"), Path("x"), Path("x"), []) for n in (1, 2, 3)}
    cluster = Cluster(nodes, Links(dict.fromkeys(nodes, NOWHERE), dict.fromkeys(nodes, NOWHERE)))
    return Observer(cluster, Recorder(stream, lanes=1)), stream


def says(watching: Observer, node: int, role: str, term: int) -> None:
    watching.note(node, Status(node_id=node, role=role, term=term, commit_index=0, applied_index=0))


def test_a_leader_is_recorded_once_per_term() -> None:
    watching, stream = observer()
    for _ in range(3):
        says(watching, 2, "leader", 1)
    says(watching, 2, "leader", 4)
    seen = [json.loads(line)["value"] for line in stream.getvalue().splitlines()]
    assert seen == [{"node": 2, "term": 1}, {"node": 2, "term": 4}]
    assert watching.leader_changes == 0


def test_changes_are_counted_in_the_order_of_terms_and_the_highest_term_leads() -> None:
    watching, _ = observer()
    assert watching.leader() is None
    says(watching, 1, "leader", 2)
    says(watching, 3, "leader", 5)
    says(watching, 2, "leader", 3)  # seen late, after a pause
    assert watching.leader() == 3
    assert watching.leader_changes == 2
    says(watching, 1, "follower", 5)
    assert watching.leader() == 3


def test_two_leaders_of_one_term_do_not_go_unnoticed() -> None:
    watching, _ = observer()
    says(watching, 1, "leader", 2)
    assert watching.split_terms == []
    says(watching, 3, "leader", 2)
    assert watching.split_terms == ["nodes 1 and 3 both led term 2"]
