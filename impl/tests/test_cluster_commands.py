"""An operator's commands against a group that is played: what they ask for, in which order, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from impl import cluster_commands
from impl.cluster_commands import Api, Group, OperatorError, backup, table

Json = dict[str, Any]


class PlayedGroup:
    """Three founders, nodes 1 to 3, and node 4 at http://new, behind one transport."""

    def __init__(self) -> None:
        self.index = 0
        self.members = {n: self.member(n, "1", "voter") for n in (1, 2, 3)}
        self.leader = 1
        self.changes: list[Json] = []
        self.newcomer: Json = {
            "cluster": "tea",
            "node_id": 4,
            "incarnation": "77",
            "membership": "waiting",
            "peer": "127.0.0.1:9104",
        }
        self.behind = [900, 300, 10]
        self.unavailable = 0
        self.snapshot = b"snapshot"

    @staticmethod
    def member(node_id: int, incarnation: str, role: str) -> Json:
        url = f"http://node-{node_id}"
        return {"node_id": node_id, "incarnation": incarnation, "peer": "", "url": url, "role": role, "behind": 0}

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.unavailable:
            self.unavailable -= 1
            return httpx2.Response(503, json={"detail": "no leader"})
        match (request.url.host, request.url.path):
            case ("new", "/v1/status"):
                return httpx2.Response(200, json=self.newcomer)
            case (_, "/v1/status"):
                return httpx2.Response(200, json={"leader_id": self.leader})
            case (_, "/v1/cluster"):
                return httpx2.Response(200, json=self.view())
            case (_, "/v1/cluster/transfer"):
                self.leader = json.loads(request.content)["target"] or 2
                return httpx2.Response(200, json={"target": self.leader})
            case (_, "/v1/cluster/snapshot"):
                headers = {"Telegraft-Snapshot-Index": "12", "Content-Length": "8"}
                return httpx2.Response(200, content=self.snapshot, headers=headers)
        return self.change(json.loads(request.content))

    def view(self) -> Json:
        for member in self.members.values():
            if member["role"] == "learner":
                member["behind"] = self.behind.pop(0) if self.behind else 0
        members = [{**member, "match_index": 5} for member in self.members.values()]
        shared = {"cluster": "tea", "changing": False, "leader_id": self.leader, "term": 3}
        return {**shared, "configuration_index": self.index, "members": members}

    def change(self, body: Json) -> httpx2.Response:
        if body["expected_index"] != self.index:
            return httpx2.Response(409, json={"detail": "the group has changed"})
        self.changes.append(body)
        self.index += 10
        self.members = {
            one["node_id"]: {**one, "role": "voter" if one["node_id"] in body["voters"] else "learner", "behind": 0}
            for one in body["members"]
        }
        return httpx2.Response(200, json={"configuration_index": self.index})


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> PlayedGroup:
    group = PlayedGroup()
    transport = httpx2.MockTransport(group.answer)
    make = Api.__init__
    monkeypatch.setattr(Api, "__init__", lambda self, url, transport=transport: make(self, url, transport))
    monkeypatch.setattr(cluster_commands, "POLL_S", 0.0)
    return group


def operate() -> tuple[Group, list[str]]:
    said: list[str] = []
    return Group(Api("http://node-2"), said.append), said


def roles(played: PlayedGroup) -> dict[int, str]:
    return {node_id: member["role"] for node_id, member in played.members.items()}


def test_a_new_node_learns_before_it_votes(played: PlayedGroup) -> None:
    group, _ = operate()
    assert group.add("http://new", learner=False) == 4
    assert [change["voters"] for change in played.changes] == [[1, 2, 3], [1, 2, 3, 4]]
    assert played.behind == []  # it has been waited for
    assert played.members[4]["incarnation"] == "77"
    group.add("http://new", learner=False)  # again: nothing is left to do
    assert len(played.changes) == 2


def test_a_learner_may_stay_one(played: PlayedGroup) -> None:
    group, _ = operate()
    group.add("http://new", learner=True)
    assert roles(played)[4] == "learner"
    group.promote(4)
    assert roles(played)[4] == "voter"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("cluster", "coffee", "belongs to cluster 'coffee'"), ("membership", "removed", "was a member once")],
)
def test_who_may_not_be_added(played: PlayedGroup, field: str, value: str, words: str) -> None:
    played.newcomer[field] = value
    with pytest.raises(OperatorError, match=words):
        operate()[0].add("http://new", learner=False)
    assert played.changes == []


def test_a_member_with_another_data_directory_has_to_leave_first(played: PlayedGroup) -> None:
    played.newcomer["node_id"] = 3
    with pytest.raises(OperatorError, match="member remove 3"):
        operate()[0].add("http://new", learner=False)


def test_replacing_swaps_both_in_one_change(played: PlayedGroup) -> None:
    assert operate()[0].replace(2, "http://new") == 4
    assert roles(played) == {1: "voter", 3: "voter", 4: "voter"}
    assert [len(change["members"]) for change in played.changes] == [4, 3]


def test_removing(played: PlayedGroup) -> None:
    group, _ = operate()
    group.remove(1)
    group.remove(2)
    with pytest.raises(OperatorError, match="only voter"):
        group.remove(3)
    with pytest.raises(OperatorError, match="no member"):
        group.remove(9)


def test_handing_over(played: PlayedGroup) -> None:
    group, said = operate()
    group.transfer(3)
    group.transfer(3)
    assert said == ["node 3 leads now", "node 3 leads already"]


def test_two_operators_at_once(played: PlayedGroup) -> None:
    group, _ = operate()
    seen = group.look()
    played.index += 1
    with pytest.raises(OperatorError, match="the group has changed"):
        group._change(seen, [], [])


def test_a_moment_without_a_leader_is_waited_out(played: PlayedGroup) -> None:
    played.unavailable = 3
    assert "1  voter" in table(operate()[0].look())


def test_a_backup_is_whole_or_not_there(played: PlayedGroup, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    assert backup(Api("http://node-1"), file, fresh=True) == (12, 8)
    assert file.read_bytes() == b"snapshot"
    file.unlink()
    played.snapshot = b"snap"
    with pytest.raises(OperatorError):
        backup(Api("http://node-1"), file, fresh=True)
    assert list(tmp_path.iterdir()) == []


def test_no_url() -> None:
    with pytest.raises(OperatorError, match="http://"):
        Api("127.0.0.1:8101")
