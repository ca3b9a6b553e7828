"""What goes into the core and what comes out: the whole interface between Raft and the world.

A driver owns one core and does, for ever: wait for something to happen, hand it over as one event, carry out the
effects. Three rules are all it must keep:

1. ``persist`` batches become durable in the order in which they were given out, and each is reported with
   ``Persisted`` once it is durable, never earlier. A failed write is never reported: the node stops.
2. Messages in ``send`` may leave at once. Whatever depends on a batch that is not durable yet is still inside the
   core and comes out with the ``Persisted`` that it waits for: a driver cannot send it too early.
3. Entries in ``apply`` are committed and durable here; they are applied in order, once.

Messages may be lost, duplicated, delayed and reordered. Time enters as ``Tick``, chance as its ``entropy``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from impl.raft.messages import Entry, HardState, Message, NodeId

Token: TypeAlias = int
"""The driver's name for a proposal or a read, unique among those that are open; the core only hands it back."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One unit of time has passed. ``entropy`` is a fresh random number >= 0: election timeouts are drawn from it."""

    entropy: int


@dataclass(frozen=True, slots=True)
class Receive:
    """A message has come in from a peer."""

    message: Message


@dataclass(frozen=True, slots=True)
class Propose:
    """Append payloads to the log, in this order. Empty payloads are Raft's own no-ops and refused."""

    proposals: tuple[tuple[Token, bytes], ...]


@dataclass(frozen=True, slots=True)
class Read:
    """Ask for an index at which a linearizable read may be served (ReadIndex, dissertation section 6.4)."""

    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Persisted:
    """The batch with this sequence number, and all before it, are durable."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Something sent to this peer was certainly lost: go back to probing what it has."""

    peer: NodeId


Event: TypeAlias = Tick | Receive | Propose | Read | Persisted | Unreachable


@dataclass(frozen=True, slots=True)
class Persist:
    """To be made durable, as a whole: first the hard state (None: unchanged), then the entries.

    An entry whose index is already in the log replaces it and everything after it.
    """

    sequence: int
    hard_state: HardState | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A proposal stands in the leader's log. It is committed if the entry applied at ``index`` has this ``term``,
    and certainly lost if that entry has another."""

    token: Token
    index: int
    term: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A proposal or a read that was not taken, or a read that can no longer be confirmed: certainly without effect.

    ``reason``: ``not-leader``, ``overloaded`` or ``lost-leadership``.
    """

    token: Token
    reason: str


@dataclass(frozen=True, slots=True)
class ReadReady:
    """The read may be served from any state in which the entry at ``index`` has been applied."""

    token: Token
    index: int


@dataclass(slots=True)
class Effects:
    """What the driver has to do now; empty lists for nothing."""

    persist: Persist | None = None
    send: list[Message] = field(default_factory=list)
    apply: list[Entry] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    reads: list[ReadReady] = field(default_factory=list)
