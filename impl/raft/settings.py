"""What a member is told about itself, and what it tells about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from impl.raft.messages import NOBODY, NodeId

Role: TypeAlias = Literal["follower", "pre-candidate", "candidate", "leader"]

MAX_PRIORITY = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """Who the member is, and its limits. Ticks are the driver's unit of time."""

    node_id: NodeId
    voters: tuple[NodeId, ...] = ()
    """The voters that found the group, for a log that begins without a base. () for a node that is to be added."""
    group: int = 0
    incarnation: int = 1
    """Which data directory of this node id it is; see ``messages.Member``."""
    run_id: int = 0
    """Unlike that of any earlier process of this node: late answers to its questions are not taken for answers to
    this one's. Drivers draw it at random."""
    priority: int = MAX_PRIORITY
    """Who stands for election first, while all are well: 2 as the paper has it, 1 an election timeout later, 0 never,
    unless leadership is handed to it. A group of nothing but zeros elects nobody."""
    election_ticks: int = 10
    """Election timeouts are drawn from election_ticks .. 2 * election_ticks - 1 (paper 9.3: well above a heartbeat)."""
    heartbeat_ticks: int = 2
    lease_ms: int = 0
    """How long after the beginning of a confirmed round a leader may answer lease reads without asking; 0: never.

    The bound on clocks: within the time in which this leader's clock (``Tick.now_ms``) advances by ``lease_ms``, no
    other member may get through ``election_ticks`` of its ticks. With ticks of t ms that a driver delivers at most
    two early, and clocks that drift apart by a share d, (election_ticks - 3) * t * (1 - d) is safe."""
    max_entries_per_append: int = 256
    """Bounds one message: a follower that is far behind gets many, each acknowledged by itself."""
    max_append_bytes: int = 512 * 1024
    """Bounds one message by payload; a single larger entry still travels, alone."""
    max_in_flight_appends: int = 64
    """Appends sent and not yet answered, per follower: enough to fill a loopback or LAN link with batches, few enough
    that a slow follower holds little memory."""
    max_in_flight_bytes: int = 8 * 1024 * 1024
    """The same by payload. A single larger append still travels, alone."""
    max_uncommitted_entries: int = 4096
    """Back-pressure: more proposals than this waiting for commitment, or for the leader's own disk (others may commit
    without it), are refused, certainly not done."""
    max_uncommitted_bytes: int = 32 * 1024 * 1024
    """The same by payload. A single larger proposal is still taken when nothing else waits."""
    max_pending_reads: int = 4096
    """Back-pressure: more reads than this waiting for a confirmation of leadership are refused."""
    snapshot_chunk_bytes: int = 1024 * 1024
    """One piece of a snapshot under way to a follower; the next follows its answer, so this bounds memory and keeps
    appends and heartbeats to others moving."""

    def __post_init__(self) -> None:
        if self.voters and self.node_id not in self.voters:
            raise ValueError(f"node {self.node_id} is not among the voters {self.voters}")
        if len(set(self.voters)) != len(self.voters) or NOBODY in self.voters:
            raise ValueError(f"voters must be distinct positive ids, got {self.voters}")
        if not 0 <= self.priority <= MAX_PRIORITY:
            raise ValueError(f"priority must be from 0 to {MAX_PRIORITY}, got {self.priority}")
        if not 1 <= self.heartbeat_ticks < self.election_ticks:
            raise ValueError(
                f"heartbeat_ticks ({self.heartbeat_ticks}) must be at least 1 and less than election_ticks "
                f"({self.election_ticks}): a leader has to be heard several times within an election timeout"
            )


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """A leader's view of one other member."""

    match: int  # the last index known to be durable there
    next: int  # the next to be sent
    state: Literal["probe", "replicate", "snapshot"]
    in_flight_appends: int
    in_flight_bytes: int
    snapshot_offset_bytes: int  # of the snapshot under way, received there; 0 without one
    active: bool  # heard from since the last check of the quorum


@dataclass(frozen=True, slots=True)
class Statistics:
    """A member at one instant, for status pages, metrics and tests."""

    role: Role
    term: int
    voted_for: NodeId
    leader_id: NodeId
    commit_index: int
    first_index: int  # of the log in memory; everything before is in snapshots only
    last_index: int
    stable_index: int  # durable at this node
    released_index: int  # handed out to be applied
    snapshot_index: int  # of the newest snapshot here; 0 for none
    configuration_index: int
    uncommitted_entries: int  # beyond the commit index, or beyond what is durable here
    uncommitted_bytes: int
    pending_reads: int
    transferring_to: NodeId
    peers: dict[NodeId, PeerStatistics]  # the leader's view of the others, empty elsewhere

    @property
    def match(self) -> dict[NodeId, int]:
        """The leader's view of what each other member has."""
        return {peer: statistics.match for peer, statistics in self.peers.items()}
