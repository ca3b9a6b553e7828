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


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One log entry. ``payload`` is opaque to Raft; the empty payload is the no-op that opens a leader's term."""

    index: int  # dense from 1
    term: int
    payload: bytes


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


class RequestVoteResponse(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """``round`` is the ``term`` of the request that this answers; ``term`` is the voter's own."""

    group: int
    source: NodeId
    target: NodeId
    term: int
    round: int
    granted: bool
    pre_vote: bool = False


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


Message: TypeAlias = RequestVote | RequestVoteResponse | AppendEntries | AppendEntriesResponse
