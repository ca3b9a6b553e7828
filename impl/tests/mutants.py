"""Planted bugs in the node, one line each: what its tests must be able to see.

Theory of operation
-------------------
A mutant is a replacement of text in ``impl/node.py``. The text must be there exactly once, so that a mutant that no
longer fits the code fails loudly instead of testing nothing. The module is built anew with the replacement in place;
everything that it imports stays the real thing.

``scenario`` names a script (``scenarios.py``) that must fail with it. ``campaign`` is how many seeds of the random runs
(``campaign.py``) must contain one that fails as well; 0 where the comment says why a campaign does not see it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import cast

import impl.node
from impl.node import Node


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    old: str
    new: str
    scenario: str
    campaign: int


def build(mutant: Mutant) -> type[Node]:
    """The ``Node`` class with the bug in it. Raises ``ValueError`` if the text is not there exactly once."""
    assert impl.node.__file__ is not None
    text = Path(impl.node.__file__).read_text(encoding="utf-8")
    if (count := text.count(mutant.old)) != 1:
        raise ValueError(
            f"mutant {mutant.name}: its text is {count} times in impl/node.py, not once; "
            f"look for where the same bug would be now: {mutant.old!r}"
        )
    module = ModuleType(f"impl.tests.node_{mutant.name.replace('-', '_')}")
    sys.modules[module.__name__] = module  # dataclasses look there
    try:
        exec(compile(text.replace(mutant.old, mutant.new), module.__name__, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return cast("type[Node]", module.Node)


MUTANTS: tuple[Mutant, ...] = (
    # --- the disk ----------------------------------------------------------------------------------------------------
    Mutant(
        "confirmed-before-sync",
        "        self._wal.sync()\n",
        "",
        scenario="power_cut_of_all",
        campaign=3,
    ),
    Mutant(
        "replaced-entries-written",
        "while entries and entries[-1].index >= batch.entries[0].index:",
        "while False:",
        scenario="group_commit",
        campaign=0,  # takes a slow disk and two leaders within one of its writes
    ),
    Mutant(
        "hard-state-of-a-group-lost",
        "hard_state = batch.hard_state or hard_state",
        "hard_state = batch.hard_state",
        scenario="group_commit",
        campaign=0,  # takes a new term and its entries within one write, and a power cut before the next
    ),
    # --- requests ----------------------------------------------------------------------------------------------------
    Mutant(
        "reply-of-another-entry",
        "if term == entry.term and reply is not None:",
        "if reply is not None:",
        scenario="reply_of_another_entry",
        campaign=0,  # whoever waited was overtaken by the new reign before its entries came
    ),
    Mutant(
        "queries-do-not-wait-for-apply",
        "while self._queries and self._queries[0].index <= reachable:",
        "while self._queries:",
        scenario="read_during_replay",
        campaign=0,  # takes more entries than are applied at once
    ),
    Mutant(
        "reads-without-confirmation",
        "index = await self.read_index()",
        "index = self._core.commit_index",
        scenario="deaf_leader",
        campaign=3,
    ),
    Mutant(
        "local-writes-not-overtaken",
        "if slot.in_log or token in self._forwarded_to:",
        "if token in self._forwarded_to:",
        scenario="hung_disk",
        campaign=0,  # late, not wrong
    ),
    Mutant(
        "forwards-not-overtaken",
        "if slot.in_log or token in self._forwarded_to:",
        "if slot.in_log:",
        scenario="leader_falls_silent",
        campaign=0,  # late, not wrong
    ),
    Mutant(
        "forwards-survive-their-link",
        "            if asked == peer:\n",
        "            if False:\n",
        scenario="link_lost",
        campaign=0,  # late, not wrong
    ),
    Mutant(
        "timeout-in-the-log-is-not-done",
        'raise OutcomeUnknown("the write is in the leader',
        'raise NotDone("overloaded", "the write is in the leader',
        scenario="deaf_leader",
        campaign=3,
    ),
    Mutant(
        "in-the-log-unnoticed",
        "                slot.in_log = True\n",
        "                pass\n",
        scenario="deaf_leader",
        campaign=3,
    ),
    Mutant(
        "timeout-of-a-forward-is-not-done",
        'raise OutcomeUnknown(f"the leader, node {leader}, has not answered in time")',
        'raise NotDone("read-timeout", "")',
        scenario="leader_answers_too_late",
        campaign=3,
    ),
    Mutant(
        "withdrawn-proposal-stays-queued",
        "self._proposals = deque(waiting for waiting in self._proposals if waiting[0] != token)",
        "pass",
        scenario="pause_before_the_proposal",
        campaign=15,
    ),
    Mutant(
        "overtaken-write-forgotten",
        "maybe_done = maybe_done or isinstance(command, WRITES)",
        "maybe_done = False",
        scenario="deaf_leader",
        campaign=3,
    ),
    Mutant(
        "overtaken-forward-is-not-done",
        'self._reply_forward(message, "overtaken")',
        'self._reply_forward(message, "not-done", reason="not-leader")',
        scenario="forward_in_a_minority",
        campaign=0,  # takes a leader that is cut off together with who forwards, and nobody to ask next
    ),
    Mutant(
        "reply-to-an-earlier-life",
        "if slot is None or message.incarnation != self.incarnation:",
        "if slot is None:",
        scenario="reply_to_an_earlier_life",
        campaign=0,  # takes a restarted node that is as many requests on as it was when it asked
    ),
    # --- load and time -----------------------------------------------------------------------------------------------
    Mutant(
        "inbox-without-bound",
        "while len(self._inbox) >= MAX_INBOX:",
        "while False:",
        scenario="flood",
        campaign=0,  # memory, not safety
    ),
    Mutant(
        "lost-ticks-made-up-for",
        "for _ in range(min(1 + late, MAX_CATCH_UP_TICKS)):",
        "for _ in range(1 + late):",
        scenario="pause_of_the_machine",
        campaign=0,  # an election too many is not wrong
    ),
    Mutant(
        "overload-unnoticed",
        "if self._open_requests >= MAX_OPEN_REQUESTS:\n            raise",
        "if False:\n            raise",
        scenario="too_many_requests",
        campaign=0,  # memory, not safety
    ),
)
