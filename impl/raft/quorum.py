"""Majorities: what a set of voters has decided and how far it has got.

Everything here is arithmetic on sets of voters, so that the core never counts for itself. Section 5.3 of the paper:
an entry is committed once the leader has replicated it on a majority of the servers, itself included. Section 6: in a
joint configuration, on separate majorities of the old and of the new one; never on a majority of their union.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from impl.raft.messages import Configuration, NodeId


def majority(voters: Collection[NodeId]) -> int:
    """The least number of voters that every other majority shares a member with: more than half of them."""
    return len(voters) // 2 + 1


def has_majority(voters: Collection[NodeId], agreeing: Iterable[NodeId]) -> bool:
    """Whether those who agree, voters only, are a majority of the voters. Nobody's majority is none."""
    return len(set(voters) & set(agreeing)) >= majority(voters)


def majority_index(voters: Collection[NodeId], reached: Mapping[NodeId, int]) -> int:
    """The greatest index that a majority of the voters has reached; a voter that is not in ``reached`` stands at 0."""
    descending = sorted((reached.get(voter, 0) for voter in voters), reverse=True)
    return descending[majority(voters) - 1] if descending else 0


def has_quorum(configuration: Configuration, agreeing: Iterable[NodeId]) -> bool:
    """Whether those who agree can decide for the group: a majority of the voters, and in a joint configuration one of
    the outgoing voters, too. A configuration without voters decides nothing."""
    agreed = set(agreeing)
    return has_majority(configuration.voters, agreed) and (
        not configuration.outgoing or has_majority(configuration.outgoing, agreed)
    )


def quorum_index(configuration: Configuration, reached: Mapping[NodeId, int]) -> int:
    """The greatest index that the group has reached: the lesser of both majorities' in a joint configuration."""
    index = majority_index(configuration.voters, reached)
    return min(index, majority_index(configuration.outgoing, reached)) if configuration.outgoing else index
