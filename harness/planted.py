"""Planted bugs: what a violation looks like. ``python -m harness.planted BUG node --config FILE`` runs a node with one.

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

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Self

import trio

from harness.planted_names import BUGS
from impl import process
from impl.chat.commands import Command, ListChats, ListMembers, ReadMessages, Reply
from impl.chat.state_machine import ChatStateMachine, FirstAnswer
from impl.config import NodeConfig
from impl.node import Node
from impl.raft.events import Effects
from impl.raft.messages import Entry, HardState
from impl.storage.disk import Disk
from impl.storage.identity import Identity
from impl.storage.wal import DEFAULT_SEGMENT_BYTES, Recovered, Wal

EXIT_USAGE = 2

END_WITH_PARENT = "--end-with-parent"


class StaleRead(Node):
    """Serves queries from its own applied state."""

    async def execute(self, command: Command, *, timeout_s: float) -> Reply:
        if isinstance(command, ReadMessages | ListMembers | ListChats):
            return await self._query_here(command, trio.current_time() + timeout_s)
        return await super().execute(command, timeout_s=timeout_s)

    async def read_index(self) -> int:
        return self._machine.applied_index


class EarlyAck(Node):
    """Answers writes before they are committed."""

    def __init__(self, config: NodeConfig, disk: Disk, random: Random, clock_ms: Callable[[], int]) -> None:
        super().__init__(config, disk, random, clock_ms)
        self._ahead = ChatStateMachine.open(":memory:")

    def _carry_out(self, effects: Effects) -> None:
        super()._carry_out(effects)
        answers = self._run_ahead()
        for accepted in effects.accepted:
            slot, answer = self._slots.get(accepted.token), answers.get(accepted.index)
            if slot is not None and answer is not None:
                slot.put(answer)

    def _run_ahead(self) -> dict[int, Reply]:
        """Apply what is in the log, committed or not; returns the new answers by index."""
        log = self._core.log
        if log.term_at(self._ahead.applied_index) != self._ahead.applied_term:  # what it had applied was replaced
            self._ahead.close()
            self._ahead = ChatStateMachine.open(":memory:")
        entries = log.slice(self._ahead.applied_index + 1, log.last_index)
        replies = self._ahead.apply(entries)
        return {entry.index: reply for entry, reply in zip(entries, replies, strict=True) if reply is not None}


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
        cls, disk: Disk, directory: Path, identity: Identity, *, segment_bytes: int = DEFAULT_SEGMENT_BYTES
    ) -> tuple[Self, Recovered]:
        wal, found = super().open(disk, directory, identity, segment_bytes=segment_bytes)
        # The core starts with no term below that of its log.
        forgotten = HardState(term=found.entries[-1].term if found.entries else 0)
        return wal, replace(found, hard_state=forgotten)

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        super().append(None, entries)  # without entries, nothing is left to write


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


def main(arguments: list[str]) -> int:
    """Run a node with the named bug. Returns the exit status."""
    match arguments:
        case [bug, "node", "--config", path, *options] if bug in VARIANTS and options in ([], [END_WITH_PARENT]):
            if options:
                process.end_with_parent()
            return process.main(Path(path), node_class=VARIANTS[bug])
    print(
        f"usage: python -m harness.planted {{{','.join(BUGS)}}} node --config FILE [{END_WITH_PARENT}]", file=sys.stderr
    )
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
