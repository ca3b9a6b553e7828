"""Raft as a synchronous object: log, elections, replication, reads.

How to drive it, in five lines, for ever::

    effects = core.step(event)          # a tick, a message, proposals, reads, "batch n is durable"
    disk.write(effects.persist)         # in order; when durable: core.step(Persisted(sequence))
    network.send(effects.send)          # at once; may be lost, duplicated, reordered
    state_machine.apply(effects.apply)  # in order, once
    answer(effects.accepted, effects.refused, effects.reads)

``events`` is the contract, ``core`` the protocol, ``invariants`` what must hold after every step. Nothing in here does
input or output, reads a clock or draws a random number.
"""

from impl.raft.core import NO_OP, Core, ProtocolViolation, Role, Settings, Statistics
from impl.raft.invariants import CheckedCore

__all__ = ["NO_OP", "CheckedCore", "Core", "ProtocolViolation", "Role", "Settings", "Statistics"]
