"""Raft as a synchronous object: log, elections, replication, reads, membership, snapshots.

How to drive it, in a few lines, for ever::

    effects = core.step(event)          # a tick, a message, proposals, reads, "batch n is durable", ...
    disk.write(effects.persist)         # in order; when durable: core.step(Persisted(sequence))
    network.send(effects.send)          # at once; may be lost, duplicated, reordered
    state_machine.apply(effects.apply)  # in order, once; after effects.restore, if that is given
    answer(effects.accepted, effects.refused, effects.reads, effects.completed)

``events`` is the contract, ``core`` what every member does, ``leader`` what a leader does, ``invariants`` what must
hold after every step. Nothing in here does input or output, reads a clock or draws a random number.
"""

from impl.raft.core import Core
from impl.raft.errors import ProtocolViolation
from impl.raft.invariants import CheckedCore
from impl.raft.messages import NO_OP
from impl.raft.settings import PeerStatistics, Role, Settings, Statistics

__all__ = ["NO_OP", "CheckedCore", "Core", "PeerStatistics", "ProtocolViolation", "Role", "Settings", "Statistics"]
