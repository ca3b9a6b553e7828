"""Planted bugs without a cluster of processes: each does the harm that it is named for, and the real node does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from harness.planted import LostVote
from impl.config import NodeConfig
from impl.network.wire import WireMessage
from impl.node import Node
from impl.raft.configuration import founding
from impl.raft.messages import AppendEntries, AppendEntriesResponse, Base, Entry, RequestVote, RequestVoteResponse
from impl.storage.formatting import format_directory
from impl.storage.identity import Identity
from impl.storage.simulated_disk import SimulatedDisk
from impl.tests.memory_cluster import InPlace

TERM = 7

SOON_S = 0.05
"""In virtual time: for a message to be dealt with, well below an election timeout."""


QUIET_S = 0.31
"""An election timeout: for so long a member that has just been started votes for nobody."""


class Life:
    """Node 1 of three, started anew with each ``with``, and everything that it ever sent. The others are the test."""

    def __init__(self, folder: Path, node_class: type[Node]) -> None:
        self.node_class = node_class
        self.database = folder / "chat.db"
        self.disk = SimulatedDisk()
        self.sent: list[WireMessage] = []
        self.config = NodeConfig(
            cluster="planted",
            node_id=1,
            data_dir=Path("/node-1"),
            http="127.0.0.1:1",
            peer="127.0.0.1:2",
            peers=dict.fromkeys((1, 2, 3), "127.0.0.1:2"),
            peer_urls={member: f"http://node-{member}" for member in (1, 2, 3)},
            check_invariants=True,
        )

        founders = Base(configuration=founding((1, 2, 3)))
        format_directory(self.disk, self.config.data_dir, Identity("planted", 1), founders)

    def set_peers(self, peers: Mapping[int, tuple[str, int]]) -> None:
        pass

    def send(self, message: WireMessage) -> bool:
        self.sent.append(message)
        return True

    async def live(self, *heard: WireMessage) -> Node:
        """Start the node, let it hear these messages one after the other, and kill it. Returns it as it was then."""
        node = self.node_class(
            self.config, self.disk, Random(1), lambda: 1, database=self.database, run_blocking=InPlace()
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run, self)
            await trio.sleep(QUIET_S)
            for message in heard:
                await node.deliver(message)
                await trio.sleep(SOON_S)
            nursery.cancel_scope.cancel()
        return node

    def votes(self) -> list[int]:
        """For whom it voted in ``TERM``, as far as anybody was told."""
        answers = [m for m in self.sent if isinstance(m, RequestVoteResponse)]
        return [m.target for m in answers if m.granted and not m.pre_vote and m.term == TERM]


def candidacy(candidate: int, last_log_index: int = 0, last_log_term: int = 0) -> RequestVote:
    return RequestVote(0, candidate, 1, TERM, last_log_index, last_log_term)


@pytest.mark.parametrize(("node_class", "votes"), [(LostVote, [2, 3]), (Node, [2])])
async def test_a_lost_vote_is_given_again_in_the_same_term(
    node_class: type[Node], votes: list[int], tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    life = Life(tmp_path, node_class)
    await life.live(candidacy(2))
    await life.live(candidacy(3))
    assert life.votes() == votes


async def test_a_node_that_forgets_votes_keeps_its_entries_and_knows_their_term(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    life = Life(tmp_path, LostVote)
    entries = (Entry(1, 2, b""), Entry(2, 3, b""))
    await life.live(AppendEntries(0, 2, 1, 5, 0, 0, entries, 0, 1))
    assert any(isinstance(m, AppendEntriesResponse) and m.term == 5 for m in life.sent)
    again = await life.live()
    assert (again.status().term, again.status().last_index) == (3, 2)
    await life.live(candidacy(2, 2, 3))
    await life.live(candidacy(3, 2, 3))
    assert life.votes() == [2, 3]
