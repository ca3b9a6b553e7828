"""The operator of the day: asks the group who belongs to it, changes that, and hands leadership over.

Through the HTTP API for operators (``/v1/cluster``), on whichever node answers. A change names the configuration that
it starts from, so a request that may have been carried out already is looked up before it is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import msgspec
import trio

CALL_TIMEOUT_S = 30.0
"""For one request: the node itself gives up earlier, and says how it ended."""

PAUSE_S = 0.2


class OperatorFailed(RuntimeError):
    """The group did not become what it was to be in time. The message quotes the last answer."""


class Operator:
    """``urls`` gives the nodes that may answer now."""

    def __init__(self, http: httpx2.AsyncClient, urls: Callable[[], Sequence[str]]) -> None:
        self._http = http
        self._urls = urls
        self._said = "nobody answered"

    async def status(self, url: str) -> dict[str, Any] | None:
        """What one node says of itself; None while it says nothing."""
        return await self._get(f"{url}/v1/status")

    async def group(self) -> dict[str, Any] | None:
        """The group as its leader sees it; None while nobody can tell."""
        for url in self._urls():
            found = await self._get(f"{url}/v1/cluster")
            if found is not None:
                return found
        return None

    async def make(self, change: Callable[[dict[str, Any]], tuple[list[dict[str, Any]], list[int]] | None]) -> None:
        """Change the group until ``change`` of it is None; else it gives the members and voters that are wanted.

        Raises nothing: whoever asks sets a deadline, and ``last_words`` tell what stood in the way.
        """
        while True:
            group = await self.group()
            if group is not None:
                wanted = change(group)
                if wanted is None and not group["changing"]:
                    return
                if wanted is not None and not group["changing"]:
                    members, voters = wanted
                    body = {"expected_index": group["configuration_index"], "members": members, "voters": voters}
                    await self._post("/v1/cluster/changes", body)
            await trio.sleep(PAUSE_S)

    async def transfer(self, target: int) -> None:
        """Hand leadership over until the target leads."""
        while True:
            group = await self.group()
            if group is not None and group["leader_id"] == target:
                return
            await self._post("/v1/cluster/transfer", {"target": target})
            await trio.sleep(PAUSE_S)

    @property
    def last_words(self) -> str:
        """The last answer that was no success, for an error message."""
        return self._said

    async def _get(self, url: str) -> dict[str, Any] | None:
        return await self._request("GET", url, None)

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        for url in self._urls():
            if await self._request("POST", url + path, body) is not None:
                return

    async def _request(self, method: str, url: str, body: dict[str, Any] | None) -> dict[str, Any] | None:
        content = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            response = await self._http.request(method, url, content=content, headers=headers, timeout=CALL_TIMEOUT_S)
            if response.status_code == 200:
                return msgspec.json.decode(response.content, type=dict[str, Any])
            self._said = f"{method} {url}: {response.status_code} {response.text[:300]}"
        except (httpx2.HTTPError, msgspec.DecodeError) as error:
            self._said = f"{method} {url}: {type(error).__name__}: {error}"
        return None


def as_member(state: dict[str, Any]) -> dict[str, Any]:
    """A member of the group as a change lists it."""
    return {key: state[key] for key in ("node_id", "incarnation", "peer", "url")}


def with_learner(group: dict[str, Any], newcomer: dict[str, Any]) -> tuple[list[dict[str, Any]], list[int]] | None:
    """The group and one more that does not vote yet; None if this incarnation of it belongs to the group already.

    A member of the same id and another incarnation leaves first: it is a node whose data is gone.
    """
    members = [as_member(member) for member in group["members"]]
    voters = [member["node_id"] for member in group["members"] if member["role"] == "voter"]
    known = next((member for member in members if member["node_id"] == newcomer["node_id"]), None)
    if known is None:
        return [*members, newcomer], voters
    if known["incarnation"] == newcomer["incarnation"]:
        return None
    return without(group, newcomer["node_id"])


def as_voter(group: dict[str, Any], node: int) -> tuple[list[dict[str, Any]], list[int]] | None:
    """The group with this member among the voters; None if it votes."""
    members = [as_member(member) for member in group["members"]]
    voters = [member["node_id"] for member in group["members"] if member["role"] == "voter"]
    return None if node in voters else (members, sorted([*voters, node]))


def without(group: dict[str, Any], node: int) -> tuple[list[dict[str, Any]], list[int]] | None:
    """The group without this member; None if it does not belong to it."""
    members = [as_member(member) for member in group["members"] if member["node_id"] != node]
    voters = [m["node_id"] for m in group["members"] if m["role"] == "voter" and m["node_id"] != node]
    return None if len(members) == len(group["members"]) else (members, voters)
