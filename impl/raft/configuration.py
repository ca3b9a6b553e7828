"""Changes of the group as pure functions: from a configuration and a wish to the next entry, or to a refusal.

Theory of operation
-------------------
Paper section 6, joint consensus. A change of voters is two entries: first the *joint* configuration, in which the old
and the new voters must both agree to everything; once that is committed, the *final* one. Each is in force from the
moment it stands in a member's log, committed or not, and is out of force again when it is cut off. A change that
leaves the voters alone (a learner more or less, an address) is one entry.

Learners are members without a vote: they receive the log, so that a node that becomes a voter is not far behind. Who
is demoted is in ``members`` of the final configuration, who is removed is not: the joint configuration remembers that
as ``leaving``, so that whoever leads by then can finish the change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from impl.raft.messages import CONFIGURATION, Configuration, Entry, Member, NodeId

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Configuration)


class BadChange(ValueError):
    """The wish makes no sense, whoever asks it and when: the message says why."""


def founding(voters: Iterable[NodeId]) -> Configuration:
    """The configuration that a group begins with: voters only, first incarnations, addresses unsaid."""
    ids = tuple(sorted(voters))
    return Configuration(tuple(Member(node_id) for node_id in ids), ids)


def encode_configuration(configuration: Configuration) -> bytes:
    """The payload of a configuration entry."""
    return _encoder.encode(configuration)


def configuration_of(entry: Entry) -> Configuration | None:
    """The configuration in an entry; None in an entry of another kind."""
    return _decoder.decode(entry.payload) if entry.kind == CONFIGURATION else None


def all_voters(configuration: Configuration) -> frozenset[NodeId]:
    """Everyone who has a vote, in one set or the other."""
    return frozenset(configuration.voters) | frozenset(configuration.outgoing)


def changed(current: Configuration, members: Collection[Member], voters: Collection[NodeId]) -> Configuration:
    """The configuration to append, for a group that is to become these members and voters. ``current`` is not joint.

    Raises ``BadChange`` for one without voters, with a voter that is no member, with an id twice, and for a node that
    would keep its vote under another incarnation: what it knew is lost, so it has to be removed and added again.
    """
    wanted = tuple(sorted(members, key=lambda member: member.node_id))
    ids = [member.node_id for member in wanted]
    new_voters = tuple(sorted(voters))
    if len(set(ids)) != len(ids) or len(set(new_voters)) != len(new_voters) or any(node_id < 1 for node_id in ids):
        raise BadChange("node ids must be positive and distinct")
    if not new_voters:
        raise BadChange("a group needs a voter")
    if not set(new_voters) <= set(ids):
        raise BadChange(f"voters must be members: {sorted(set(new_voters) - set(ids))} are not")
    for member in wanted:
        known = current.member(member.node_id)
        if known is not None and known.incarnation != member.incarnation and member.node_id in current.voters:
            raise BadChange(
                f"node {member.node_id} has a vote as incarnation {known.incarnation}: remove it before another "
                "incarnation of it is added"
            )
    if new_voters == current.voters:
        return Configuration(wanted, new_voters)
    leaving = tuple(member.node_id for member in current.members if member.node_id not in ids)
    still_here = tuple(member for member in current.members if member.node_id in leaving)
    everybody = tuple(sorted(wanted + still_here, key=lambda member: member.node_id))
    return Configuration(everybody, new_voters, current.voters, leaving)


def final(joint: Configuration) -> Configuration:
    """What a joint configuration leads to."""
    return Configuration(tuple(member for member in joint.members if member.node_id not in joint.leaving), joint.voters)
