"""The group itself as the edges see it: who belongs to it, and how that is changed while it runs.

The HTTP API and the command line talk to this protocol; the node implements it, and passes on to the leader what only
the leader can do. Outcomes are those of ``impl.chat.service``: a value, *not done*, or *outcome unknown*.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from impl.raft.messages import Member, NodeId


class MemberView(msgspec.Struct, frozen=True):
    """One member, as the leader sees it."""

    node_id: NodeId
    incarnation: int
    peer: str  # where other nodes reach it; empty: as each node's own configuration says
    url: str  # where clients reach it
    role: str  # "voter", "learner", "joining" (votes once the change is done) or "leaving" (votes until then)
    match_index: int  # of the last entry that it is known to hold, durable; 0: unknown
    behind: int  # entries of the leader's log that it is not known to hold


class ClusterView(msgspec.Struct, frozen=True):
    """The group at one instant."""

    cluster: str
    configuration_index: int  # of the entry that made it so; 0: as it was founded. A change names it.
    changing: bool  # a change of voters is under way
    leader_id: NodeId
    term: int
    commit_index: int
    last_index: int
    members: tuple[MemberView, ...]


class BackupView(msgspec.Struct, frozen=True):
    """A snapshot that is about to be read."""

    cluster: str
    index: int
    size_bytes: int


class BackupReader(Protocol):
    """A snapshot, piece by piece, exactly as it is on disk."""

    @property
    def view(self) -> BackupView: ...

    async def read(self, offset: int, limit_bytes: int) -> bytes:
        """At most so many bytes from there. Raises ``NotDone`` if the snapshot is gone."""
        ...


class ClusterService(Protocol):
    async def cluster(self, *, timeout_s: float) -> ClusterView:
        """Who belongs to the group, and how far each is. Raises ``NotDone``."""
        ...

    async def reconfigure(
        self, expected_index: int, members: tuple[Member, ...], voters: tuple[NodeId, ...], *, timeout_s: float
    ) -> int:
        """Change the group to these members and voters, if its configuration is still the one of ``expected_index``.

        Returns the index of the new configuration once it is committed. Raises ``NotDone`` (``configuration-changed``,
        ``change-in-progress``, ``bad-change``, ``not-caught-up`` ...) or ``OutcomeUnknown``.
        """
        ...

    async def transfer(self, target: NodeId, *, timeout_s: float) -> None:
        """Hand leadership to this voter (0: the one that is furthest). Returns once it has begun its election.

        Raises ``NotDone`` (``unknown-member``, ``transfer-failed`` ...) or ``OutcomeUnknown``.
        """
        ...

    def backup(self, *, fresh: bool, timeout_s: float) -> AbstractAsyncContextManager[BackupReader]:
        """This node's newest snapshot, to be read; with ``fresh`` one that is taken now. Raises ``NotDone``."""
        ...
