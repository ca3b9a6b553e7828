"""The chat service as the edges see it: one method, three outcomes.

The HTTP API talks to this protocol and to nothing behind it; the node implements it. Every call ends as *ok* (a
reply, which may be a rejection by the state machine), as *not done* (certainly without effect, now and later) or as
*outcome unknown* (it may have happened, or may still happen).
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import msgspec

from impl.chat.commands import Command, Reply

Consistency: TypeAlias = Literal["linearizable", "lease", "stale"]
"""How recent the answer to a query must be.

``linearizable``: it shows all that was acknowledged, to anybody, before the query began. ``lease``: the same as long
as no clock runs faster than the configured bound; cheaper at the leader. ``stale``: whatever the node that is asked
has applied; every reply says as of when."""


class NotDone(Exception):
    """The command had and will have no effect: it is safe to send it again. HTTP 503.

    ``reason`` is a short stable word (``no-leader``, ``not-leader``, ``overloaded``, ``lost-leadership``,
    ``transferring``, ``disk-full``, ``read-timeout`` ...), ``detail`` a sentence for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class OutcomeUnknown(Exception):
    """The command may have been carried out, or may still be: retry with the same transaction id. HTTP 504."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NodeStatus(msgspec.Struct, frozen=True):
    """What one node knows of itself and its cluster, at one instant."""

    cluster: str
    node_id: int
    run_id: str  # changes at every start of the process
    incarnation: int  # of the data directory: another one for each that was ever formatted; 1 at founding members
    membership: str  # "voter", "learner", "waiting" (to be added for the first time) or "removed"
    role: str  # "follower", "pre-candidate", "candidate" or "leader"
    term: int
    leader_id: int  # 0 while none is known
    leader_url: str  # the leader's HTTP address, empty while none is known
    commit_index: int
    applied_index: int
    last_index: int
    configuration_index: int  # of the entry that made the group as this node knows it; 0: as it was founded
    peer: str  # the address at which other nodes reach this one
    url: str  # the address at which clients reach this one
    peers: dict[int, str]  # node id -> HTTP address, this node included


class ChatService(Protocol):
    async def execute(self, command: Command, *, timeout_s: float, consistency: Consistency = "linearizable") -> Reply:
        """Carry out one command, a write on whichever node leads, and return the state machine's reply.

        ``consistency`` is about queries. The node stamps ``proposed_id`` itself. Raises ``NotDone`` or
        ``OutcomeUnknown``; never later than ``timeout_s`` seconds after the call. A query never raises
        ``OutcomeUnknown``: it has no effect to be unsure of.
        """
        ...

    def status(self) -> NodeStatus:
        """What this node knows now; touches neither disk nor network."""
        ...
