"""``telegraft member``, ``transfer`` and ``backup``: an operator's side of a group that runs.

Theory of operation
-------------------
Each command talks to one node, any of them, over HTTP; that node passes on to the leader what only the leader can do. A
change names the configuration that it starts from, so that two operators at work at once do not undo each other, and a
command that is repeated after an unclear end changes nothing twice.

Adding is done in the order that keeps the group safe: the node becomes a learner, gets the log or a snapshot, and votes
only once it has caught up. Replacing adds first and then swaps the two in one change.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from impl.http import wire

REQUEST_TIMEOUT_S = 15.0
"""For one answer: longer than a node takes over a change of the group."""

CATCH_UP_TIMEOUT_S = 600.0
"""For a new node to get the log or a snapshot: gigabytes over a common link."""

CAUGHT_UP_ENTRIES = 200
"""So few entries behind, a learner may vote: it gets them faster than they are made."""

POLL_S = 0.25
RETRY_TIMEOUT_S = 15.0
"""For a leader to be elected."""

PIECE_BYTES = 256 * 1024

Json = dict[str, Any]
Say = Callable[[str], None]


class OperatorError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


class Api:
    """One node's HTTP API. Raises ``OperatorError`` for whatever goes wrong."""

    def __init__(self, url: str, transport: httpx2.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise OperatorError(f"{url!r} is no URL of a node: write it like http://127.0.0.1:8101")
        # trust_env: a proxy from the environment must not come between an operator and the nodes.
        self.http = httpx2.Client(timeout=REQUEST_TIMEOUT_S, trust_env=False, transport=transport)

    def get(self, path: str) -> Json:
        return self._ask("GET", path, None)

    def post(self, path: str, body: Json) -> Json:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: Json | None) -> Json:
        """Ask until the answer is no passing 503."""
        deadline = time.monotonic() + RETRY_TIMEOUT_S
        while True:
            try:
                response = self.http.request(method, self.url + path, json=body)
            except httpx2.RequestError as error:
                raise OperatorError(
                    f"{self.url} does not answer ({type(error).__name__}): is a node running there? Any node will do"
                ) from error
            if response.status_code == 503 and time.monotonic() < deadline:
                time.sleep(POLL_S)
                continue
            answer = _json(response)
            if response.is_success:
                return answer
            raise OperatorError(answer.get("detail") or f"{self.url}{path} answered {response.status_code}")


def _json(response: httpx2.Response) -> Json:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {}


class Group:
    """The group, through one of its nodes."""

    def __init__(self, api: Api, say: Say) -> None:
        self.api = api
        self.say = say

    def look(self) -> Json:
        return self.api.get("/v1/cluster")

    def add(self, url: str, *, learner: bool) -> int:
        """Add the node at ``url``; it votes in the end unless it is to stay a learner. Returns its node id."""
        group = self.look()
        new = newcomer(Api(url).get("/v1/status"), group["cluster"], url)
        node_id = int(new["node_id"])
        there = member_of(group, node_id)
        if there is None:
            self._change(group, [*map(as_member, group["members"]), new], voters_of(group))
            self.say(f"node {node_id} is a learner now; it gets the log, or a snapshot and the log")
        elif there["incarnation"] != new["incarnation"]:
            raise OperatorError(
                f"node {node_id} is a member already, with another data directory (incarnation "
                f"{there['incarnation']}, this one has {new['incarnation']}): if the old directory is lost, remove the "
                f"member first (telegraft member remove {node_id}), then add it again"
            )
        else:
            self.say(f"node {node_id} is a {there['role']} already")
        if not learner:
            self.promote(node_id)
        return node_id

    def promote(self, node_id: int) -> None:
        """Make a learner a voter, once it has caught up."""
        group = self._caught_up(node_id)
        if node_id in voters_of(group):
            self.say(f"node {node_id} votes")
            return
        self._change(group, list(map(as_member, group["members"])), [*voters_of(group), node_id])
        self.say(f"node {node_id} votes now")

    def remove(self, node_id: int) -> None:
        """Take a member out of the group."""
        group = self.look()
        if member_of(group, node_id) is None:
            raise OperatorError(f"node {node_id} is no member: {names(group)}")
        if voters_of(group) == [node_id]:
            raise OperatorError(f"node {node_id} is the only voter: add another node first")
        self._change(
            group,
            [as_member(member) for member in group["members"] if member["node_id"] != node_id],
            [voter for voter in voters_of(group) if voter != node_id],
        )
        self.say(f"node {node_id} is no member any more; stop it, and keep or remove its data directory")

    def replace(self, old: int, url: str) -> int:
        """Put the node at ``url`` into the place of a member, in one change. Returns the new one's id."""
        group = self.look()
        if member_of(group, old) is None:
            raise OperatorError(f"node {old} is no member: {names(group)}")
        voted = old in voters_of(group)
        new = self.add(url, learner=True)
        if new == old:
            raise OperatorError(f"{url} is node {old} itself: give the URL of the node that takes its place")
        group = self._caught_up(new)
        stay = [voter for voter in voters_of(group) if voter not in (old, new)]
        self._change(
            group,
            [as_member(member) for member in group["members"] if member["node_id"] != old],
            [*stay, new] if voted else stay,
        )
        self.say(f"node {new} has taken the place of node {old}; stop the old one")
        return new

    def transfer(self, target: int) -> None:
        """Hand leadership over, and wait until somebody leads."""
        before = self.look()["leader_id"]
        if target and target == before:
            self.say(f"node {target} leads already")
            return
        self.api.post("/v1/cluster/transfer", {"target": target})
        deadline = time.monotonic() + RETRY_TIMEOUT_S
        while time.monotonic() < deadline:
            leader = self.api.get("/v1/status")["leader_id"]
            if leader and leader != before:
                self.say(f"node {leader} leads now")
                return
            time.sleep(POLL_S)
        raise OperatorError("leadership was handed over, but nobody else has been elected: see `telegraft member list`")

    def _caught_up(self, node_id: int) -> Json:
        """The group, as soon as this member is hardly behind."""
        deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
        said = 0.0
        while time.monotonic() < deadline:
            group = self.look()
            member = member_of(group, node_id)
            if member is None:
                raise OperatorError(f"node {node_id} is no member: {names(group)}")
            if not group["changing"] and member["match_index"] and member["behind"] <= CAUGHT_UP_ENTRIES:
                return group
            if time.monotonic() - said > 2:
                said = time.monotonic()
                self.say(f"node {node_id} is {member['behind']} entries behind")
            time.sleep(POLL_S)
        raise OperatorError(
            f"node {node_id} has not caught up in {CATCH_UP_TIMEOUT_S:g} s: look at its log and at the links to it; "
            f"it stays a learner, and `telegraft member promote {node_id}` goes on from here"
        )

    def _change(self, group: Json, members: list[Json], voters: list[int]) -> None:
        self.api.post(
            "/v1/cluster/changes",
            {"expected_index": group["configuration_index"], "members": members, "voters": sorted(voters)},
        )


def newcomer(status: Json, cluster: str, url: str) -> Json:
    """What a node says of itself, as a member to be."""
    if status["cluster"] != cluster:
        raise OperatorError(
            f"the node at {url} belongs to cluster {status['cluster']!r}, and this is {cluster!r}: format its data "
            "directory with the right cluster name (telegraft init --join)"
        )
    if status["membership"] == "removed":
        raise OperatorError(
            f"the node at {url} was a member once, with this very data directory: stop it, move the directory away, "
            "format a new one (telegraft init --join), start it and add it again"
        )
    return {"node_id": status["node_id"], "incarnation": status["incarnation"], "peer": status["peer"], "url": url}


def as_member(member: Json) -> Json:
    return {field: member[field] for field in ("node_id", "incarnation", "peer", "url")}


def member_of(group: Json, node_id: int) -> Json | None:
    return next((member for member in group["members"] if member["node_id"] == node_id), None)


def voters_of(group: Json) -> list[int]:
    return [member["node_id"] for member in group["members"] if member["role"] in ("voter", "joining")]


def names(group: Json) -> str:
    return "members are " + ", ".join(str(member["node_id"]) for member in group["members"])


def table(group: Json) -> str:
    """The members, one in each line."""
    lines = [f"cluster {group['cluster']}, configuration {group['configuration_index']}, term {group['term']}"]
    for member in group["members"]:
        leads = " (leads)" if member["node_id"] == group["leader_id"] else ""
        lines.append(
            f"{member['node_id']:>5}  {member['role']:<8} {member['behind']:>8} behind  "
            f"{member['url'] or '-'}{leads}  incarnation {member['incarnation']}"
        )
    return "\n".join(lines)


def backup(api: Api, file: Path, *, fresh: bool) -> tuple[int, int]:
    """Download a node's snapshot into a new file: the index at which it ends, and its size in bytes."""
    query = "?fresh=true" if fresh else ""
    draft = file.with_name(file.name + ".part")
    try:
        with (
            api.http.stream("GET", f"{api.url}/v1/cluster/snapshot{query}", timeout=CATCH_UP_TIMEOUT_S) as response,
            draft.open("wb") as out,
        ):
            if not response.is_success:
                response.read()
                raise OperatorError(_json(response).get("detail") or f"{api.url} answered {response.status_code}")
            for piece in response.iter_bytes(PIECE_BYTES):
                out.write(piece)
        size_bytes = draft.stat().st_size
        if size_bytes != int(response.headers["Content-Length"]):
            raise OperatorError(f"the backup was cut short after {size_bytes} bytes: ask again")
        draft.rename(file)
    except httpx2.RequestError as error:
        raise OperatorError(
            f"{api.url} stopped answering ({type(error).__name__}): ask again, or another node"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return int(response.headers[wire.SNAPSHOT_INDEX_HEADER]), size_bytes
