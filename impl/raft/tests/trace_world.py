"""The ``World`` of the golden traces: founding learners, nodes that are to join, and drivers without delay.

Theory of operation
-------------------
A trace is read line by line, so its drivers do their part at once: a piece of a snapshot that arrives is put away in
the same step. What became of each piece that a core asked for is noted, so that the trace can show it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from impl.raft.events import Event, SendChunk
from impl.raft.messages import Base, Configuration, InstallSnapshot, Message, NodeId
from impl.raft.messages import Member as Named
from impl.raft.tests.world import TICK_MS, Member, World


@dataclass(slots=True)
class TraceWorld(World):
    """``size`` nodes: first the founding voters, then founding learners, then nodes that are to join."""

    learners: int = 0
    spare: int = 0
    pieces: deque[Message | None] = field(init=False, default_factory=deque)

    def __post_init__(self) -> None:
        ids = range(1, self.size + 1)
        founders = ids[: self.size - self.spare]
        voters = founders[: len(founders) - self.learners]
        self.founding = Configuration(tuple(Named(i) for i in founders), tuple(voters))
        self.links = {(a, b): [] for a in ids for b in ids if a != b}
        self.members = {}
        for i in ids:
            self._add(i, 1, Base(configuration=self.founding) if i in founders else Base())
        self._next_incarnation = 1

    def pause(self, node_id: NodeId, ticks: int) -> None:
        """The clock runs on, and the process does not."""
        self.members[node_id].clock_ms += ticks * TICK_MS

    def _step(self, member: Member, event: Event) -> None:
        World._step(self, member, event)
        while member.to_store:
            self.store(member.node_id)

    def _send_chunk(self, member: Member, asked: SendChunk) -> None:
        self.pieces.append(None)
        place = len(self.pieces) - 1
        before = len(self.history)
        World._send_chunk(self, member, asked)
        if len(self.history) > before and isinstance(self.history[-1], InstallSnapshot):
            self.pieces[place] = self.history[-1]
