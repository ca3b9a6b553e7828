"""The planted bugs that golden traces may name: both tables of this room, and some that only a trace shows.

They follow the rules of ``mutants.py``. N are snapshots, M membership; the other letters are explained there.
"""

from __future__ import annotations

from impl.raft.tests.mutants import MUTANTS, Mutant
from impl.raft.tests.rule_mutants import RULE_MUTANTS

GROUP_MUTANTS: tuple[Mutant, ...] = (
    # --- membership --------------------------------------------------------------------------------------------------
    Mutant(
        "joint-votes-of-the-new-only",
        "M6",
        "quorum",
        "        not configuration.outgoing or has_majority(configuration.outgoing, agreed)\n",
        "        True\n",
    ),
    Mutant(
        "joint-votes-of-the-union",
        "M6",
        "quorum",
        "    agreed = set(agreeing)\n",
        "    agreed = set(agreeing)\n"
        "    if configuration.outgoing:\n"
        "        return has_majority({*configuration.voters, *configuration.outgoing}, agreed)\n",
    ),
    Mutant(
        "removed-node-not-told",
        "M5",
        "leader",
        "        if gone or core.node_id not in configuration.voters:\n            self._start_round()",
        "        if False:\n            self._start_round()",
    ),
    Mutant(
        "voter-that-does-not-know-refuses",
        "M3",
        "core",
        "granted = message.term == self.term and free and up_to_date",
        "granted = message.term == self.term and free and up_to_date and self.is_voter",
    ),
    Mutant(
        "learners-counted",
        "C5",
        "leader",
        "        index = quorum_index(core.configuration, reached)\n",
        "        index = sorted(reached.values(), reverse=True)[len(reached) // 2]\n",
    ),
    # --- snapshots ---------------------------------------------------------------------------------------------------
    Mutant(
        "snapshot-sets-the-term",
        "N3",
        "core",
        "            self.commit_index = event.base.index\n",
        "            self.commit_index = event.base.index\n            self.term = event.base.term\n",
    ),
    Mutant(
        "matching-suffix-dropped",
        "N7",
        "log",
        "        kept = base.index > self.base.index and self.matches(base.index, base.term)\n",
        "        kept = False\n",
    ),
    Mutant(
        "term-of-the-base-forgotten",
        "N2",
        "log",
        "            return self.base.term\n",
        "            return 0\n",
    ),
    Mutant(
        "snapshot-goes-on-after-all",
        "R14",
        "leader",
        "        if progress.snapshot is not None and progress.match >= self._log.base.index:\n",
        "        if False:\n",
    ),
    Mutant(
        "snapshot-acknowledged-before-fsync",
        "R11",
        "core",
        "        self.send_gated(\n            InstallSnapshotResponse(\n",
        "        self.effects.send.append(\n            InstallSnapshotResponse(\n",
    ),
    # --- handing over ------------------------------------------------------------------------------------------------
    Mutant(
        "transfer-refused-by-the-loyal",
        "P6",
        "core",
        " and self._hears_from_leader() and not message.transfer:\n",
        " and self._hears_from_leader():\n",
    ),
    Mutant(
        "late-order-obeyed",
        "P9",
        "core",
        "        if message.term != self.term or self.leader_id != message.source or ",
        "        if ",
    ),
    # --- leases and followers' reads ---------------------------------------------------------------------------------
    Mutant(
        "lease-without-end",
        "C4",
        "reads",
        " and 0 <= now_ms - self._lease_from_ms < lease_ms\n",
        "\n",
    ),
    Mutant(
        "answer-to-an-earlier-life-believed",
        "C3",
        "core",
        " or message.run_id != self.settings.run_id:\n",
        ":\n",
    ),
    Mutant(
        "answer-to-an-earlier-question-believed",
        "C3",
        "questions",
        "        if context != self._context:\n",
        "        if False:\n",
    ),
    # --- a full disk -------------------------------------------------------------------------------------------------
    Mutant(
        "full-disk-taken-for-a-hung-one",
        "P8",
        "core",
        "        owed = self._durable_sequence < self._sequence and not self.disk_full\n",
        "        owed = self._durable_sequence < self._sequence\n",
    ),
)

ALL_MUTANTS: tuple[Mutant, ...] = (*MUTANTS, *RULE_MUTANTS, *GROUP_MUTANTS)
