"""What goes into the core and what comes out: the whole interface between Raft and the world.

A driver owns one core and does, for ever: wait for something to happen, hand it over as one event, carry out the
effects. These rules are all it must keep:

1. ``persist`` batches become durable in the order in which they were given out, and each is reported with
   ``Persisted`` once it is durable, never earlier. A report also stands for all batches before it; one that comes
   late says nothing new. A failed write is never reported: the node stops. A *full* disk is reported as such
   (``DiskSpace``), and the batch is written once there is room.
2. Messages in ``send`` may leave at once. Whatever depends on a batch that is not durable yet is still inside the
   core and comes out with the ``Persisted`` that it waits for: a driver cannot send it too early.
3. ``restore`` comes before ``apply``: the state machine is replaced by the received snapshot that ends there. Entries
   in ``apply`` are committed and durable here; they are applied in order, once.
4. Pieces of snapshots go over the driver: it reads and sends what ``chunks`` asks for, and stores what ``store``
   brings, which it answers with ``ChunkStored``. A snapshot of its own it announces with ``Compact``.

Messages may be lost, duplicated, delayed and reordered. Time enters as ``Tick``, chance as its ``entropy``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from impl.raft.messages import Base, Configuration, Entry, HardState, Member, Message, NodeId

Token: TypeAlias = int
"""The driver's name for a request, unique among those that are open; the core only hands it back."""


# --- events ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """One unit of time has passed. ``entropy`` is a fresh random number >= 0: election timeouts are drawn from it.

    ``now_ms`` is a monotonic clock, read just before; only leases look at it.
    """

    entropy: int
    now_ms: int = 0


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
    """Ask for an index at which a linearizable read may be served (ReadIndex, dissertation section 6.4).

    At a follower the leader is asked. With ``lease`` a leader that holds one answers at once, by its clock ``now_ms``
    (the same as that of ``Tick``, read after the request arrived); without a lease the read takes the usual way.
    """

    tokens: tuple[Token, ...]
    lease: bool = False
    now_ms: int = 0


@dataclass(frozen=True, slots=True)
class Persisted:
    """The batch with this sequence number, and all before it, are durable."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Something sent to this peer was certainly lost: go back to probing what it has."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Change the group to these members and voters, if its configuration is still the one of ``expected_index``.

    ``members`` lists everybody, learners too. A change of voters passes through a joint configuration by itself. A
    member that becomes a voter must have been a learner that has caught up. Ends with ``Completed`` (the final
    configuration is committed) or ``Refused``; after ``lost-leadership`` it may still happen.
    """

    token: Token
    expected_index: int
    members: tuple[Member, ...]
    voters: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Transfer:
    """Hand leadership over to a voter (0: the one that is furthest). Ends with ``Completed`` once another election
    has begun, or with ``Refused``."""

    token: Token
    target: NodeId = 0


@dataclass(frozen=True, slots=True)
class Compact:
    """A snapshot of the state machine that ends at ``snapshot`` is durable here: forget the log up to ``up_to``.

    ``up_to`` <= ``snapshot.index``: entries between them are kept for members that are a little behind. ``snapshot``
    is what ``Core.base_at(index)`` gave for an applied index.
    """

    snapshot: Base
    up_to: int


@dataclass(frozen=True, slots=True)
class ChunkStored:
    """Of the snapshot that ends at ``base`` the first ``received_bytes`` are here; 0 after damage: it starts over.

    ``complete``: all of it, its checksum verified, durable, and found again after a restart.
    """

    base: Base
    received_bytes: int
    complete: bool = False


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The disk has become full (a batch waits for room), or has room again. Unlike one that hangs, a full disk is no
    reason for a leader to give up its office when nobody else could do better: reads go on."""

    full: bool


Event: TypeAlias = (
    Tick
    | Receive
    | Propose
    | Read
    | Persisted
    | Unreachable
    | Reconfigure
    | Transfer
    | Compact
    | ChunkStored
    | DiskSpace
)


# --- effects -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Persist:
    """To be made durable, as a whole: first the base (None: unchanged), then the hard state (None: unchanged), then
    the entries.

    A base says that the log now begins after ``base.index``. If the log holds an entry of that index and term, what
    stands behind it stays; else all of it goes (a snapshot was installed over it). An entry whose index is already in
    the log replaces it and everything after it.
    """

    sequence: int
    hard_state: HardState | None
    entries: tuple[Entry, ...]
    base: Base | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A proposal stands in the leader's log. It is committed if the entry applied at ``index`` has this ``term``,
    and certainly lost if that entry has another."""

    token: Token
    index: int
    term: int


Reason: TypeAlias = Literal[
    "not-leader",
    "overloaded",
    "lost-leadership",
    "transferring",  # leadership is being handed over: ask again
    "disk-full",
    "read-timeout",  # the leader did not answer a follower's question for a read index
    "not-ready",  # a new leader, without a committed entry of its own term, changes nothing
    "configuration-changed",  # it is not the one of ``expected_index`` any more
    "change-in-progress",
    "bad-change",  # no voter, a voter that is no member, ...
    "not-caught-up",  # a future voter is not a learner that has (nearly) all of the log
    "unknown-member",  # leadership cannot go to somebody who is no voter, or to oneself
    "transfer-failed",  # the other did not take over in time
]


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that was not taken, or a read that can no longer be confirmed: certainly without effect, except for
    a ``Reconfigure`` that ends in ``lost-leadership``."""

    token: Token
    reason: Reason


@dataclass(frozen=True, slots=True)
class ReadReady:
    """The read may be served from any state in which the entry at ``index`` has been applied."""

    token: Token
    index: int


@dataclass(frozen=True, slots=True)
class Completed:
    """A reconfiguration is committed (``index`` is that of its final entry), or a transfer has begun an election."""

    token: Token
    index: int = 0


@dataclass(frozen=True, slots=True)
class SendChunk:
    """Read the snapshot that ends at ``base``, at most ``limit_bytes`` from ``offset``, and send them as an
    ``InstallSnapshot`` with the other fields as they are here. A driver that has it no more says ``Unreachable``."""

    target: NodeId
    term: int
    base: Base
    offset: int
    limit_bytes: int
    round: int


@dataclass(frozen=True, slots=True)
class StoreChunk:
    """Put ``data`` at ``offset`` of the snapshot that ends at ``base`` and is still being received, if that is where
    it goes on; say with ``ChunkStored`` how far it has come in any case, be it from before a restart."""

    base: Base
    offset: int
    data: bytes
    total_bytes: int


@dataclass(slots=True)
class Effects:
    """What the driver has to do now; empty lists and None for nothing."""

    persist: Persist | None = None
    send: list[Message] = field(default_factory=list)
    restore: Base | None = None
    apply: list[Entry] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    reads: list[ReadReady] = field(default_factory=list)
    completed: list[Completed] = field(default_factory=list)
    chunks: list[SendChunk] = field(default_factory=list)
    store: list[StoreChunk] = field(default_factory=list)
    configuration: Configuration | None = None  # in force from now on
