"""What Raft nodes say to each other and what they keep: log entries, hard state, and the messages of the protocol.

These structs are both the vocabulary of the core and the records on the wire and in the write-ahead log: msgpack
arrays, fields append-only, tagged by small integers. Names follow the Raft paper (figure 2) and raft.tla; pre-vote
is from section 9.6 of Ongaro's dissertation, ReadIndex from section 6.4. Every message carries the group it
belongs to and the sender's term at the moment it was made; a reply also carries what it is a reply to (``round``),
so that a late one can never be mistaken for an answer to something newer.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

NodeId: TypeAlias = int
"""Positive; 0 stands for none."""

NOBODY: NodeId = 0


NORMAL = 0
CONFIGURATION = 1

NO_OP = b""
"""The payload of the entry that opens a leader's term."""

NO_ROUND = 0
"""The round of an answer to an append of an older term: rounds of a term begin at 1, so it confirms nothing."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One log entry. Of kind ``NORMAL`` the ``payload`` is opaque to Raft, and the empty one is the no-op that opens a
    leader's term; of kind ``CONFIGURATION`` it is an encoded ``Configuration``."""

    index: int  # dense from 1
    term: int
    payload: bytes
    kind: int = NORMAL


class Member(msgspec.Struct, frozen=True, array_like=True):
    """One node of a group. ``peer`` and ``url`` are where other nodes and clients reach it; empty: the driver knows.

    ``incarnation`` names one data directory: a node that lost its own comes back with another, and answers of an
    incarnation that the configuration does not name are not counted. 1 is that of the founding members.
    """

    node_id: NodeId
    incarnation: int = 1
    peer: str = ""
    url: str = ""


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """Who belongs to the group (paper section 6). ``members`` and both sets of voters are sorted by id.

    While ``outgoing`` is not empty the configuration is *joint*: every decision takes a majority of ``voters``, the
    new ones, and a majority of ``outgoing``, the old ones. Members that vote in neither are learners. ``leaving`` are
    those who are no members any more once the joint configuration is left.
    """

    members: tuple[Member, ...] = ()
    voters: tuple[NodeId, ...] = ()
    outgoing: tuple[NodeId, ...] = ()
    leaving: tuple[NodeId, ...] = ()

    @property
    def joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def learners(self) -> tuple[NodeId, ...]:
        return tuple(m.node_id for m in self.members if m.node_id not in self.voters and m.node_id not in self.outgoing)

    def member(self, node_id: NodeId) -> Member | None:
        return next((member for member in self.members if member.node_id == node_id), None)


class Base(msgspec.Struct, frozen=True, array_like=True):
    """What stands in for the entries 1..index once they are gone: at the start of a log, and with every snapshot.

    ``configuration`` is the one in force at ``index``; its entry was at ``configuration_index`` <= index, 0 for the
    one that the group was founded with.
    """

    index: int = 0
    term: int = 0
    configuration: Configuration = Configuration()
    configuration_index: int = 0


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a node must remember before it speaks: figure 2, "persistent state on all servers"."""

    term: int = 0
    voted_for: NodeId = NOBODY


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Ask for a vote, or with ``pre_vote`` for the promise of one: then ``term`` is the term that would be begun."""

    group: int
    source: NodeId
    target: NodeId
    term: int
    last_log_index: int
    last_log_term: int
    pre_vote: bool = False
    transfer: bool = False
    """The leader itself asked for this election: having heard from a leader lately is no reason to refuse."""


class RequestVoteResponse(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """``round`` is the ``term`` of the request that this answers; ``term`` is the voter's own."""

    group: int
    source: NodeId
    target: NodeId
    term: int
    round: int
    granted: bool
    pre_vote: bool = False
    incarnation: int = 1


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Entries after ``prev_log_index``; empty as a heartbeat. ``round`` grows with every confirmation of leadership."""

    group: int
    source: NodeId
    target: NodeId
    term: int
    prev_log_index: int
    prev_log_term: int
    entries: tuple[Entry, ...]
    leader_commit: int
    round: int


class AppendEntriesResponse(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """``index``: on success the last index known to match, durable at the sender; on failure ``prev_log_index`` of the
    request, and then ``hint_index`` / ``hint_term`` say where the logs may still agree. ``round`` is that of the
    request, or 0 where the request was of an older term than ``term``: such an answer tells the term and no more."""

    group: int
    source: NodeId
    target: NodeId
    term: int
    success: bool
    index: int
    hint_index: int
    hint_term: int
    round: int
    incarnation: int = 1


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A piece of the snapshot that ends at ``base``: ``data`` stands at ``offset`` of ``total_bytes``. One piece is
    under way at a time; the answer to it names the next. Drivers read the bytes; see ``events.SendChunk``."""

    group: int
    source: NodeId
    target: NodeId
    term: int
    base: Base
    offset: int
    data: bytes
    total_bytes: int
    round: int


class InstallSnapshotResponse(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """``offset``: how many bytes of the snapshot that ends at ``index`` the sender has, durable or not. ``done``: all,
    installed, durable; or not needed, because the sender has everything up to ``index`` committed already."""

    group: int
    source: NodeId
    target: NodeId
    term: int
    index: int
    offset: int
    done: bool
    round: int
    incarnation: int = 1


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The leader of ``term`` hands over: stand for election at once (dissertation 3.10)."""

    group: int
    source: NodeId
    target: NodeId
    term: int


class ReadIndex(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A follower asks the leader for a read index (dissertation 6.4). ``run_id`` and ``context`` name the request:
    the start of the follower's process, and a number that it has not used since."""

    group: int
    source: NodeId
    target: NodeId
    term: int
    run_id: int
    context: int


class ReadIndexResponse(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """``granted``: reads that arrived before the request was sent may be served at ``index``."""

    group: int
    source: NodeId
    target: NodeId
    term: int
    run_id: int
    context: int
    granted: bool
    index: int
    incarnation: int = 1


Message: TypeAlias = (
    RequestVote
    | RequestVoteResponse
    | AppendEntries
    | AppendEntriesResponse
    | InstallSnapshot
    | InstallSnapshotResponse
    | TimeoutNow
    | ReadIndex
    | ReadIndexResponse
)
