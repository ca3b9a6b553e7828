"""Changes of the group and of its leadership, asked of any node and carried out by the one that leads.

Theory of operation
-------------------
The core does the work (joint consensus, catching up, handing over) and says how it ended; this part gives each request
a slot, passes those that arrive elsewhere on to the leader, and words the outcomes. A change names the configuration
that it starts from, so one that is sent twice is carried out once: the repetition is told that the configuration has
changed, which after an attempt that may have succeeded is *unknown*, and whoever asked looks at the group again.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from impl.chat.service import NotDone, OutcomeUnknown
from impl.cluster_service import ClusterView, MemberView
from impl.node.driver import Driver
from impl.node.slots import Overtaken, Slots, Tokens
from impl.raft.events import Completed, Reason, Reconfigure, Refused, Transfer
from impl.raft.messages import Configuration, Member, NodeId

WORDS: dict[Reason, str] = {
    "not-leader": "the node that was asked does not lead",
    "lost-leadership": "the leader lost its office before it knew how the change ended",
    "transferring": "leadership is being handed over: ask again in a moment",
    "not-ready": "the leader is new and has not committed anything yet: ask again in a moment",
    "configuration-changed": "the group is not what the change starts from any more: list its members, decide again",
    "change-in-progress": "another change of the group is under way: wait until it is done, then ask again",
    "bad-change": "the group would not be usable so: it needs at least one voter, and every voter must be a member",
    "not-caught-up": "a future voter is no learner yet, or is still far behind: add it as a learner first, and wait "
    "until it has caught up",
    "unknown-member": "leadership can only go to a voter of the group that does not lead already",
    "transfer-failed": "the other node did not take over in time: it may be down, cut off or far behind",
    "disk-full": "the leader's disk is full: make room there first",
    "overloaded": "the leader has too much to do: ask again in a moment",
}
"""What each refusal means to an operator, and what to do."""


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A change of the group on its way to the leader."""

    expected_index: int
    members: tuple[Member, ...]
    voters: tuple[NodeId, ...]


_encoder = msgspec.msgpack.Encoder()
_change_decoder = msgspec.msgpack.Decoder(Change)
_view_decoder = msgspec.msgpack.Decoder(ClusterView)
_number_decoder = msgspec.msgpack.Decoder(int)


class Membership:
    """Requests about the group in progress on this node."""

    def __init__(self, cluster: str, driver: Driver, tokens: Tokens, url_of: Callable[[Member], str]) -> None:
        self._cluster = cluster
        self._driver = driver
        self._url_of = url_of
        self._slots: Slots[int] = Slots(tokens)
        self._changes: set[int] = set()  # tokens of changes: unknown once the leader has lost its office

    # --- at the node that leads --------------------------------------------------------------------------------------

    def view(self) -> ClusterView:
        """The group as this node sees it. Raises ``NotDone`` if it does not lead."""
        core = self._driver.core
        if core.role != "leader":
            raise NotDone("not-leader", "only the leader knows how far the members are")
        match = core.statistics().match
        configuration = core.configuration
        last = core.log.last_index

        def view(member: Member) -> MemberView:
            known = last if member.node_id == core.node_id else match.get(member.node_id, 0)
            return MemberView(
                member.node_id,
                member.incarnation,
                member.peer,
                self._url_of(member),
                role_in(configuration, member.node_id),
                known,
                last - known,
            )

        return ClusterView(
            self._cluster,
            core.configuration_index,
            configuration.joint,
            core.leader_id,
            core.term,
            core.commit_index,
            last,
            tuple(view(member) for member in configuration.members),
        )

    async def change(self, change: Change, deadline: float) -> int:
        """Carry out a change of the group: the index of the final configuration. Raises ``NotDone``,
        ``OutcomeUnknown`` or ``Overtaken``."""
        with self._slots.open() as slot:
            self._changes.add(slot.token)
            try:
                self._driver.post(Reconfigure(slot.token, change.expected_index, change.members, change.voters))
                with trio.move_on_at(deadline):
                    return await slot.wait()
            finally:
                self._changes.remove(slot.token)
        raise OutcomeUnknown("the change is under way, and not committed in time: list the members to see how it ends")

    async def transfer(self, target: NodeId, deadline: float) -> int:
        """Hand leadership over: the node to which. Raises ``NotDone``, ``OutcomeUnknown`` or ``Overtaken``."""
        with self._slots.open() as slot:
            self._driver.post(Transfer(slot.token, target))
            with trio.move_on_at(deadline):
                return await slot.wait()
        raise OutcomeUnknown("leadership was not handed over in time; it may be yet")

    # --- what the core says ------------------------------------------------------------------------------------------

    def completed(self, completed: Completed) -> None:
        self._slots.put(completed.token, completed.index)

    def refused(self, refused: Refused) -> bool:
        """Whether the refusal was of one of these."""
        if refused.reason == "lost-leadership" and refused.token in self._changes:
            return self._slots.put(refused.token, Overtaken())  # the change may still happen
        words = WORDS.get(refused.reason, refused.reason)
        return self._slots.put(refused.token, NotDone(refused.reason, words))

    # --- on the wire -------------------------------------------------------------------------------------------------

    async def serve_view(self, _: bytes, deadline: float) -> bytes:
        return encode_view(self.view())

    async def serve_change(self, body: bytes, deadline: float) -> bytes:
        return _encoder.encode(await self.change(_change_decoder.decode(body), deadline))

    async def serve_transfer(self, body: bytes, deadline: float) -> bytes:
        return _encoder.encode(await self.transfer(_number_decoder.decode(body), deadline))


def encode_view(view: ClusterView) -> bytes:
    return _encoder.encode(view)


def decode_view(reply: bytes) -> ClusterView:
    return _view_decoder.decode(reply)


def encode_change(change: Change) -> bytes:
    return _encoder.encode(change)


def encode_number(number: int) -> bytes:
    return _encoder.encode(number)


def decode_number(reply: bytes) -> int:
    return _number_decoder.decode(reply)


def role_in(configuration: Configuration, node_id: NodeId) -> str:
    """What a member does in a configuration; see ``MemberView.role``."""
    if not configuration.joint:
        return "voter" if node_id in configuration.voters else "learner"
    now, before = node_id in configuration.voters, node_id in configuration.outgoing
    return {(True, True): "voter", (True, False): "joining", (False, True): "leaving"}.get((now, before), "learner")


def standing_of(configuration: Configuration, node_id: NodeId, incarnation: int, *, has_log: bool) -> str:
    """``NodeStatus.membership`` of one data directory: voter, learner, waiting to be added, or removed."""
    member = configuration.member(node_id)
    if member is not None and member.incarnation == incarnation:
        return "learner" if role_in(configuration, node_id) == "learner" else "voter"
    return "removed" if has_log else "waiting"
