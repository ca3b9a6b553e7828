"""Majorities: what a set of voters has decided and how far it has got.

Everything here is arithmetic on sets of voters, so that the core never counts for itself. Section 5.3 of the paper:
an entry is committed once the leader has replicated it on a majority of the servers, itself included.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from impl.raft.messages import NodeId


def majority(voters: Collection[NodeId]) -> int:
    """The least number of voters that every other majority shares a member with: more than half of them."""
    return len(voters) // 2 + 1


def has_majority(voters: Collection[NodeId], agreeing: Iterable[NodeId]) -> bool:
    """Whether those who agree, voters only, are a majority of the voters."""
    return len(set(voters) & set(agreeing)) >= majority(voters)


def majority_index(voters: Collection[NodeId], reached: Mapping[NodeId, int]) -> int:
    """The greatest index that a majority of the voters has reached; a voter that is not in ``reached`` stands at 0."""
    descending = sorted((reached.get(voter, 0) for voter in voters), reverse=True)
    return descending[majority(voters) - 1]
