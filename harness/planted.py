"""Planted bugs: what a violation looks like. ``harness.tested_node`` runs a node with one.

Theory of operation
-------------------
A checker that has never found anything proves nothing. Each bug here is one that real systems have had; it is planted
by overriding a method of the real node from outside, so that the implementation contains no switch that could be left
on by mistake. Everything else, from the log on disk to the HTTP server, is what runs in production.

*stale-read*: a node answers a query from what it has applied itself, without asking whether it still leads or who
does. Followers lag behind, and an old leader that is cut off stays in the past.

*early-ack*: the leader answers a write as soon as it has put it into its own log. To know what the answer will be, it
runs a second state machine ahead over entries that are not committed. If they never are, an acknowledged message is
gone.

*no-dedupe*: the table of first answers is never asked. A retry is carried out again.

*lost-vote*: term and vote never reach the log. A node that is started again knows the term of its last entry and no
vote, whatever it had promised before, and so may vote twice in a term. That takes a start between the requests of two
candidates of one term; the schedule of faults does not aim for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Self

from harness.planted_names import BUGS
from impl.chat.commands import Command, Reply
from impl.chat.service import Consistency
from impl.chat.state_machine import ChatStateMachine, FirstAnswer
from impl.config import NodeConfig
from impl.node import Node
from impl.node.driver import Carriers
from impl.raft.events import Accepted
from impl.raft.messages import Base, Entry, HardState
from impl.storage.disk import Disk
from impl.storage.identity import Identity
from impl.storage.wal import DEFAULT_SEGMENT_BYTES, Recovered, Wal


class StaleRead(Node):
    """Serves queries from its own applied state, whatever was asked for."""

    async def execute(self, command: Command, *, timeout_s: float, consistency: Consistency = "linearizable") -> Reply:
        return await super().execute(command, timeout_s=timeout_s, consistency="stale")


class EarlyAck(Node):
    """Answers writes before they are committed."""

    def __init__(self, config: NodeConfig, disk: Disk, random: Random, clock_ms: Callable[[], int]) -> None:
        super().__init__(config, disk, random, clock_ms)
        self._ahead = ChatStateMachine.open(":memory:")
        self._answers: dict[int, Reply] = {}

    def _carriers(self) -> Carriers:
        carriers = super()._carriers()

        def accepted(accepted: Accepted) -> None:
            carriers.accepted(accepted)
            answer = self._run_ahead().get(accepted.index)
            if answer is not None:
                self._writes.answer(accepted.token, answer)

        return replace(carriers, accepted=accepted)

    def _run_ahead(self) -> dict[int, Reply]:
        """Apply what is in the log, committed or not; returns the new answers by index. A log that no longer begins
        where it did is none to run ahead of."""
        log = self._driver.core.log
        if log.base.index > self._ahead.applied_index:
            return {}
        if log.term_at(self._ahead.applied_index) != self._ahead.applied_term:  # what it had applied was replaced
            self._ahead.close()
            self._ahead = ChatStateMachine.open(":memory:")
            self._answers.clear()
        for entry in log.slice(self._ahead.applied_index + 1, log.last_index):
            (reply,) = self._ahead.apply([entry])
            if reply is not None:
                self._answers[entry.index] = reply
        return self._answers


class ForgetfulMachine(ChatStateMachine):
    """Remembers no answer."""

    def first_answer(self, scope: bytes, horizon_ms: int) -> FirstAnswer | None:
        return None


class NoDedupe(Node):
    """Carries out retries again."""

    state_machine_class = ForgetfulMachine


class ForgetfulWal(Wal):
    """Never persists term and vote; what its entries say of terms, it still knows."""

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: Path,
        identity: Identity,
        *,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        format_new: bool = True,
    ) -> tuple[Self, Recovered]:
        wal, found = super().open(disk, directory, identity, segment_bytes=segment_bytes, format_new=format_new)
        # The core starts with no term below that of its log.
        term = found.entries[-1].term if found.entries else found.base.term if found.base is not None else 0
        return wal, replace(found, hard_state=HardState(term=term))

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], base: Base | None = None) -> None:
        super().append(None, entries, base)  # without entries and base, nothing is left to write


class LostVote(Node):
    """Forgets term and vote when it is started again."""

    wal_class = ForgetfulWal


VARIANTS: dict[str, type[Node]] = {
    "stale-read": StaleRead,
    "early-ack": EarlyAck,
    "no-dedupe": NoDedupe,
    "lost-vote": LostVote,
}

assert VARIANTS.keys() == BUGS.keys()
