"""The operations about the group: what is asked of the service, what is answered, what is refused."""

from __future__ import annotations

import json

import pytest

from impl.chat.service import NotDone, OutcomeUnknown
from impl.http.app import create_app
from impl.http.tests.asgi import call
from impl.http.tests.fake_service import CLUSTER, FakeCluster, FakeService
from impl.raft.messages import Member

CHANGE = {
    "expected_index": 5,
    "members": [
        {"node_id": 3, "incarnation": "1", "peer": "", "url": ""},
        {"node_id": 2, "incarnation": str(2**62 + 1), "peer": "127.0.0.1:9102", "url": "http://127.0.0.1:8102"},
    ],
    "voters": [3, 2],
}


async def test_the_group_is_shown_whole_and_its_incarnations_as_strings() -> None:
    answer = await call(create_app(FakeService(), cluster=FakeCluster()), "GET", "/v1/cluster", user=None)
    assert answer.status == 200
    assert answer.json["configuration_index"] == CLUSTER.configuration_index
    assert [member["incarnation"] for member in answer.json["members"]] == [str(2**62 + 1), "1"]
    assert [member["role"] for member in answer.json["members"]] == ["voter", "learner"]


async def test_a_change_is_passed_on_sorted() -> None:
    cluster = FakeCluster()
    body = json.dumps(CHANGE).encode()
    answer = await call(create_app(FakeService(), cluster=cluster), "POST", "/v1/cluster/changes", body, user=None)
    assert (answer.status, answer.json) == (200, {"configuration_index": 15})
    members = (Member(2, 2**62 + 1, "127.0.0.1:9102", "http://127.0.0.1:8102"), Member(3, 1, "", ""))
    assert cluster.asked == [(5, members, (2, 3))]


@pytest.mark.parametrize(
    ("error", "status", "type_"),
    [
        (NotDone("configuration-changed", "words"), 409, "change-refused"),
        (NotDone("not-caught-up", "words"), 409, "change-refused"),
        (NotDone("no-leader", "words"), 503, "not-done"),
        (OutcomeUnknown("words"), 504, "outcome-unknown"),
    ],
)
async def test_how_a_change_can_end_otherwise(error: Exception, status: int, type_: str) -> None:
    cluster = FakeCluster()
    cluster.error = error
    app = create_app(FakeService(), cluster=cluster)
    answer = await call(app, "POST", "/v1/cluster/changes", json.dumps(CHANGE).encode(), user=None)
    assert (answer.status, answer.json["type"]) == (status, f"urn:telegraft:problem:{type_}")


async def test_leadership_is_handed_over() -> None:
    cluster = FakeCluster()
    app = create_app(FakeService(), cluster=cluster)
    answer = await call(app, "POST", "/v1/cluster/transfer", b'{"target": 2}', user=None)
    assert (answer.status, answer.json, cluster.asked) == (200, {"target": 2}, [2])
    answer = await call(app, "POST", "/v1/cluster/transfer", b'{"target": -1}', user=None)
    assert answer.status == 422


async def test_a_snapshot_is_downloaded_whole() -> None:
    cluster = FakeCluster()
    app = create_app(FakeService(), cluster=cluster)
    answer = await call(app, "GET", "/v1/cluster/snapshot?fresh=true", user=None)
    assert (answer.status, answer.body, cluster.asked) == (200, cluster.content, [True])
    assert answer.headers["content-length"] == str(len(cluster.content))
    assert answer.headers["telegraft-snapshot-index"] == "12"
    answer = await call(app, "HEAD", "/v1/cluster/snapshot", user=None)
    assert (answer.status, answer.body) == (200, b"")


async def test_a_snapshot_that_is_not_to_be_had_is_a_problem() -> None:
    cluster = FakeCluster()
    cluster.error = NotDone("no-snapshot", "words")
    answer = await call(create_app(FakeService(), cluster=cluster), "GET", "/v1/cluster/snapshot", user=None)
    assert (answer.status, answer.json["reason"]) == (503, "no-snapshot")


async def test_a_snapshot_that_goes_away_meanwhile_is_cut_short_and_not_made_up_for() -> None:
    cluster = FakeCluster()
    cluster.gone_at = 300_000
    answer = await call(create_app(FakeService(), cluster=cluster), "GET", "/v1/cluster/snapshot", user=None)
    assert len(answer.body) < int(answer.headers["content-length"])


async def test_metrics_are_text() -> None:
    answer = await call(create_app(FakeService(), metrics=lambda: b"telegraft_x 1\n"), "GET", "/metrics", user=None)
    assert (answer.status, answer.body) == (200, b"telegraft_x 1\n")


@pytest.mark.parametrize("path", ["/v1/cluster", "/v1/cluster/snapshot", "/metrics"])
async def test_a_service_that_is_no_cluster_says_so(path: str) -> None:
    assert (await call(create_app(FakeService()), "GET", path, user=None)).status == 404
