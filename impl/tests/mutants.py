"""Planted bugs in the node, one line each: what its tests must be able to see.

Theory of operation
-------------------
A mutant is a replacement of text in one file of ``impl/node``. The text must be there exactly once, so that a mutant
that no longer fits the code fails loudly instead of testing nothing. The package is imported anew with the replacement
in place; everything outside it stays the real thing.

``scenario`` names a script (``scenarios.py``) that must fail with it. ``campaign`` is how many seeds of the random runs
(``campaign.py``) must contain one that fails as well; 0 where the comment says why a campaign does not see it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import cast

import impl
import impl.node
from impl.node import Node

PACKAGE = "impl.node"
FOLDER = Path(impl.node.__file__).parent


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    file: str  # in impl/node, without its ending
    old: str
    new: str
    scenario: str
    campaign: int


class _Replaced(SourceLoader):
    """One module from its file, with the replacement in it."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str) -> bytes:
        return self._text.encode()

    def path_stats(self, path: str) -> dict[str, float]:
        raise OSError  # nothing of this may come from, or go to, the cache of compiled modules


class _Finder(MetaPathFinder):
    def __init__(self, name: str, loader: _Replaced) -> None:
        self._name = name
        self._loader = loader

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self._loader)


@contextmanager
def _imported_anew() -> Iterator[None]:
    """Without the modules of the package, and with the real ones again afterwards."""
    real = {name: sys.modules.pop(name) for name in list(sys.modules) if f"{name}.".startswith(f"{PACKAGE}.")}
    try:
        yield
    finally:
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{PACKAGE}.")]:
            del sys.modules[name]
        sys.modules.update(real)
        impl.node = real[PACKAGE]


def build(mutant: Mutant) -> type[Node]:
    """The ``Node`` class with the bug in it. Raises ``ValueError`` if the text is not there exactly once."""
    path = FOLDER / f"{mutant.file}.py"
    text = path.read_text(encoding="utf-8")
    if (count := text.count(mutant.old)) != 1:
        raise ValueError(
            f"mutant {mutant.name}: its text is {count} times in {path.name}, not once; "
            f"look for where the same bug would be now: {mutant.old!r}"
        )
    finder = _Finder(f"{PACKAGE}.{mutant.file}", _Replaced(path, text.replace(mutant.old, mutant.new)))
    with _imported_anew():
        sys.meta_path.insert(0, finder)
        try:
            return cast("type[Node]", importlib.import_module(PACKAGE).Node)
        finally:
            sys.meta_path.remove(finder)


MUTANTS: tuple[Mutant, ...] = (
    # --- the disk ----------------------------------------------------------------------------------------------------
    Mutant(
        "confirmed-before-sync",
        "persistence",
        "        self._wal.sync()\n",
        "",
        scenario="power_cut_of_all",
        campaign=3,
    ),
    Mutant(
        "replaced-entries-written",
        "persistence",
        "while entries and entries[-1].index >= batch.entries[0].index:",
        "while False:",
        scenario="group_commit",
        campaign=0,  # takes a slow disk and two leaders within one of its writes
    ),
    Mutant(
        "hard-state-of-a-group-lost",
        "persistence",
        "hard_state = batch.hard_state or hard_state",
        "hard_state = batch.hard_state",
        scenario="group_commit",
        campaign=0,  # takes a new term and its entries within one write, and a power cut before the next
    ),
    # --- requests ----------------------------------------------------------------------------------------------------
    Mutant(
        "reply-of-another-entry",
        "writes",
        "if term == entry.term and reply is not None:",
        "if reply is not None:",
        scenario="reply_of_another_entry",
        campaign=0,  # whoever waited was overtaken by the new reign before its entries came
    ),
    Mutant(
        "queries-do-not-wait-for-apply",
        "applying",
        "while self._queries and self._queries[0].index <= reachable:",
        "while self._queries:",
        scenario="read_during_replay",
        campaign=0,  # takes more entries than are applied at once
    ),
    Mutant(
        "reads-without-confirmation",
        "reads",
        'index = AS_IT_IS if consistency == "stale" else await self.read_index(lease=consistency == "lease")',
        "index = self._driver.core.commit_index",
        scenario="deaf_leader",
        campaign=3,
    ),
    Mutant(
        "local-writes-not-overtaken",
        "writes",
        "        for token in self._in_log:\n            self._slots.put(token, Overtaken())\n",
        "        pass\n",
        scenario="hung_disk",
        campaign=0,  # late, not wrong
    ),
    Mutant(
        "forwards-not-overtaken",
        "forwarding",
        "        for slot in self._slots:\n            slot.put(Overtaken())\n",
        "        pass\n",
        scenario="leader_falls_silent",
        campaign=0,  # late, not wrong
    ),
    Mutant(
        "forwards-survive-their-link",
        "forwarding",
        "            if asked == peer:\n",
        "            if False:\n",
        scenario="link_lost",
        campaign=0,  # late, not wrong
    ),
    Mutant(
        "timeout-in-the-log-is-not-done",
        "writes",
        'raise OutcomeUnknown("the write is in the leader',
        'raise NotDone("overloaded", "the write is in the leader',
        scenario="deaf_leader",
        campaign=3,
    ),
    Mutant(
        "in-the-log-unnoticed",
        "writes",
        "            self._in_log.add(accepted.token)\n",
        "            pass\n",
        scenario="deaf_leader",
        campaign=3,
    ),
    Mutant(
        "timeout-of-a-forward-is-not-done",
        "forwarding",
        'raise OutcomeUnknown(f"the leader, node {leader}, has not answered in time")',
        'raise NotDone("read-timeout", "")',
        scenario="leader_answers_too_late",
        campaign=3,
    ),
    Mutant(
        "withdrawn-proposal-stays-queued",
        "driver",
        "self._proposals = deque(waiting for waiting in self._proposals if waiting[0] != token)",
        "pass",
        scenario="pause_before_the_proposal",
        campaign=15,
    ),
    Mutant(
        "overtaken-write-forgotten",
        "requests",
        "maybe_done = maybe_done or has_effect",
        "maybe_done = False",
        scenario="deaf_leader",
        campaign=20,
    ),
    Mutant(
        "overtaken-forward-is-not-done",
        "forwarding",
        'self._reply(message, "overtaken")',
        'self.refuse(message, NotDone("not-leader", ""))',
        scenario="forward_in_a_minority",
        campaign=0,  # takes a leader that is cut off together with who forwards, and nobody to ask next
    ),
    Mutant(
        "reply-to-an-earlier-life",
        "forwarding",
        "        if message.run_id != self._run_id:\n            return\n",
        "        pass\n",
        scenario="reply_to_an_earlier_life",
        campaign=0,  # takes a restarted node that is as many requests on as it was when it asked
    ),
    # --- snapshots, the group, the disk ------------------------------------------------------------------------------
    Mutant(
        "restore-skipped",
        "applying",
        "        self._snapshot = base\n",
        "",
        scenario="a_node_that_was_away_gets_a_snapshot",
        campaign=0,
    ),
    Mutant(
        "base-not-written",
        "persistence",
        "return hard_state, entries, batches[0].base",
        "return hard_state, entries, None",
        scenario="a_node_that_was_away_gets_a_snapshot",
        campaign=0,
    ),
    Mutant(
        "batch-dropped-on-a-full-disk",
        "persistence",
        '                await self._disk_room.wait_for("log", error)\n',
        "                return\n",
        scenario="full_disk",
        campaign=0,
    ),
    Mutant(
        "room-again-unsaid",
        "disk_room",
        "                self._post(DiskSpace(False))\n",
        "                pass\n",
        scenario="full_disk",
        campaign=0,
    ),
    Mutant(
        "stale-served-as-linearizable",
        "reads",
        'index = AS_IT_IS if consistency == "stale" else',
        "index = AS_IT_IS if True else",
        scenario="follower_reads",
        campaign=3,
    ),
    Mutant(
        "lease-by-the-clock-of-the-last-tick",
        "driver",
        "Read(tokens, lease, self._monotonic_ms())",
        "Read(tokens, lease, self.core.now_ms)",
        scenario="lease_after_a_pause",
        campaign=0,  # its clients ask for no leases
    ),
    Mutant(
        "group-unknown-to-the-network",
        "node",
        "        self._network.set_peers(peers_of(configuration, self.config))\n",
        "        self._network.set_peers({2: ('127.0.0.1', 2), 3: ('127.0.0.1', 2)})\n",
        scenario="three_to_five_to_three",
        campaign=0,
    ),
    Mutant(
        "any-incarnation-counts",
        "node",
        "incarnation=opened.identity.incarnation,\n                run_id",
        "incarnation=1,\n                run_id",
        scenario="wiped_node",
        campaign=0,  # nobody loses a disk there
    ),
    Mutant(
        "log-never-shortened",
        "snapshotting",
        "self._driver.post(Compact(base, max(base.index - self._policy.keep_entries, 0)))",
        "pass",
        scenario="snapshots_shorten_the_log",
        campaign=0,  # memory, not safety
    ),
    Mutant(
        "snapshot-of-another-moment",
        "snapshotting",
        "base = self._base_at(state.applied_index)",
        "base = self._base_at(self._driver.core.released_index)",
        scenario="a_snapshot_is_of_its_moment",
        campaign=0,
    ),
    # --- load and time -----------------------------------------------------------------------------------------------
    Mutant(
        "inbox-without-bound",
        "driver",
        "while len(self._inbox) >= MAX_INBOX:",
        "while False:",
        scenario="flood",
        campaign=0,  # memory, not safety
    ),
    Mutant(
        "lost-ticks-made-up-for",
        "driver",
        "for _ in range(min(1 + late, MAX_CATCH_UP_TICKS)):",
        "for _ in range(1 + late):",
        scenario="pause_of_the_machine",
        campaign=0,  # an election too many is not wrong
    ),
    Mutant(
        "overload-unnoticed",
        "requests",
        "if self._open >= MAX_OPEN_REQUESTS:\n            raise",
        "if False:\n            raise",
        scenario="too_many_requests",
        campaign=0,  # memory, not safety
    ),
)
