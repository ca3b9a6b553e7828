"""Planted bugs, one line each: what the tests of this room must be able to see.

Theory of operation
-------------------
A mutant is a replacement of text in one module of ``impl.raft``. The text must be there exactly once, so that a mutant
that no longer fits the code fails loudly instead of testing nothing. The package's modules are built anew with the
replacement in place; messages and events stay the real ones, so that a mutated core runs in the same ``World``.

Most are mistakes that other implementations, or our own first version, really made; ``source`` names the entry of
their catalogue:
V votes, P pre-vote and leader liveness, R replication, D durability, C reads, O the original Telegraft, T this core's
own history.

``killers`` are the directed scenarios (``scenarios.py``) that must catch it; the campaign must catch it as well, in
one of its first seeds, unless ``campaign`` says no and the comment why.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from inspect import getsource
from types import ModuleType
from typing import cast

from impl.raft.core import Core

MODULES = ("quorum", "log", "progress", "core")
"""In the order in which they import each other."""


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    source: str
    module: str
    old: str
    new: str
    campaign: bool = True


def build(mutant: Mutant) -> type[Core]:
    """The ``Core`` class with the bug in it."""
    built: dict[str, ModuleType] = {}
    for name in MODULES:
        text = getsource(import_module(f"impl.raft.{name}"))
        if name == mutant.module:
            if text.count(mutant.old) != 1:
                raise ValueError(
                    f"mutant {mutant.name}: its text is {text.count(mutant.old)} times in {name}.py, not once"
                )
            text = text.replace(mutant.old, mutant.new)
        module = ModuleType(f"impl.raft.tests.mutated_{mutant.name.replace('-', '_')}_{name}")
        for earlier in built:
            text = text.replace(f"from impl.raft.{earlier} import", f"from {built[earlier].__name__} import")
        sys.modules[module.__name__] = module
        exec(compile(text, module.__name__, "exec"), module.__dict__)
        built[name] = module
    for module in built.values():
        del sys.modules[module.__name__]
    return cast("type[Core]", built["core"].Core)


MUTANTS: tuple[Mutant, ...] = (
    # --- votes and terms -------------------------------------------------------------------------------------------
    Mutant(
        "vote-not-persisted",
        "V1",
        "core",
        "hard_state = HardState(self.term, self.voted_for)",
        "hard_state = HardState(self.term, self._saved.voted_for)",
    ),
    Mutant(
        "vote-before-fsync",
        "V1",
        "core",
        "        self._gated_now.append(message)\n",
        "        if isinstance(message, RequestVoteResponse):\n"
        "            self._effects.send.append(message)\n"
        "        else:\n"
        "            self._gated_now.append(message)\n",
    ),
    Mutant(
        "candidate-asks-before-fsync",
        "V10",
        "core",
        "        self._gated_now.append(message)\n",
        "        if isinstance(message, RequestVote):\n"
        "            self._effects.send.append(message)\n"
        "        else:\n"
        "            self._gated_now.append(message)\n",
    ),
    Mutant(
        "entries-persisted-before-term",
        "V2",
        "core",
        "        changed = hard_state != self._saved\n",
        "        changed = hard_state != self._saved and not self._unsaved\n",
    ),
    Mutant(
        "vote-cleared-in-same-term",
        "V5/O3",
        "core",
        "        if term > self.term:\n            self.term = term\n",
        "        if term >= self.term:\n            self.term = term\n",
    ),
    Mutant(
        "vote-cleared-by-leader",
        "O2",
        "core",
        '        self.role = "leader"\n',
        '        self.role = "leader"\n        self.voted_for = NOBODY\n',
    ),
    Mutant(
        "second-vote-in-term",
        "O5",
        "core",
        "free = self.voted_for in (NOBODY, message.source)",
        "free = True",
    ),
    Mutant(
        "stale-votes-counted",
        "V6/O4",
        "core",
        'expected = self.role == "candidate" and message.round == self.term and message.term == self.term',
        'expected = self.role == "candidate"',
    ),
    Mutant(
        "pre-votes-counted-as-votes",
        "V6",
        "core",
        "        if message.pre_vote:\n"
        '            expected = self.role == "pre-candidate" and message.round == self.term + 1\n'
        "        else:\n"
        '            expected = self.role == "candidate" and message.round == self.term and message.term == self.term\n',
        '        expected = self.role in ("pre-candidate", "candidate") and message.round in (self.term, self.term + 1)\n',
    ),
    Mutant(
        "refusals-counted-as-votes",
        "V9",
        "core",
        "[voter for voter, granted in self._votes.items() if granted]",
        "list(self._votes)",
    ),
    Mutant(
        "vote-without-looking-at-log",
        "O1",
        "core",
        "granted = message.term == self.term and free and up_to_date",
        "granted = message.term == self.term and (self.voted_for == NOBODY or (free and up_to_date))",
    ),
    Mutant(
        "up-to-date-by-length-first",
        "V8",
        "log",
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return (last_index, last_term) >= (self.last_index, self.last_term)",
    ),
    Mutant(
        "up-to-date-field-by-field",
        "V8",
        "log",
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return last_term >= self.last_term and last_index >= self.last_index",
    ),
    # --- pre-vote, check-quorum --------------------------------------------------------------------------------------
    Mutant(
        "term-in-refused-pre-vote-ignored",
        "P1/P4",
        "core",
        "        if message.term > self.term:\n"
        "            self._become_follower(message.term, NOBODY)\n"
        "            return\n"
        "        if message.pre_vote:\n",
        "        if message.term > self.term and not message.pre_vote:\n"
        "            self._become_follower(message.term, NOBODY)\n"
        "            return\n"
        "        if message.pre_vote:\n",
        campaign=False,  # the first real vote or append of the other side mends it: it takes two members alone
    ),
    Mutant(
        "old-append-not-answered",
        "P1",
        "core",
        "            self._answer_old_append(message)\n            return\n",
        "            return\n",
    ),
    Mutant(
        "pre-vote-raises-term",
        "P7",
        "core",
        "        if message.term > self.term and not message.pre_vote:\n",
        "        if message.term > self.term:\n",
        campaign=False,  # costs availability only while links are cut, and the campaign demands it after healing
    ),
    Mutant(
        "no-pre-vote",
        "P7",
        "core",
        "        self._votes = {self.node_id: True}\n        if has_majority(self.settings.voters, self._votes):\n",
        "        self._votes = {self.node_id: True}\n        if True:\n",
        campaign=False,  # as above
    ),
    Mutant(
        "no-check-quorum",
        "P7",
        "core",
        "            if not has_majority(self.settings.voters, [self.node_id, *active]):\n",
        "            if False:\n",
        campaign=False,  # as above
    ),
    Mutant(
        "check-quorum-never-forgets",
        "P7",
        "core",
        "                progress.recent_active = False\n",
        "                pass\n",
        campaign=False,  # as above
    ),
    Mutant(
        "two-leaders-unnoticed",
        "R19",
        "core",
        "if message.term == self.term and self.leader_id not in (NOBODY, message.source):",
        "if False:",
        campaign=False,  # an alarm for what never happens
    ),
    # --- replication and commitment ----------------------------------------------------------------------------------
    Mutant(
        "commit-counts-older-terms",
        "R1",
        "core",
        "if index > self.commit_index and self.log.term_at(index) == self.term:",
        "if index > self.commit_index:",
    ),
    Mutant(
        "commit-never-counts-older-terms",
        "R2",
        "core",
        "        if index > self.commit_index and self.log.term_at(index) == self.term:\n",
        "        while index > self.commit_index + 1:\n"
        "            index -= 1\n"
        "        if index > self.commit_index and self.log.term_at(index) == self.term:\n",
    ),
    Mutant(
        "commit-index-goes-back",
        "R3",
        "core",
        "self.commit_index = max(self.commit_index, index)",
        "self.commit_index = index",
    ),
    Mutant(
        "match-index-goes-back",
        "R4",
        "progress",
        "        self.match = max(self.match, index)\n",
        "        self.match = index\n",
    ),
    Mutant(
        "match-index-raised-by-refusal",
        "CCF#5326",
        "core",
        "        if message.success:\n            if progress",
        "        if True:\n            if progress",
    ),
    Mutant(
        "next-below-match",
        "R4",
        "progress",
        "        self.next = max(next_index, self.match + 1)\n",
        "        self.next = max(next_index, 1)\n",
    ),
    Mutant(
        "truncate-on-every-append",
        "R5",
        "core",
        "            if self.log.matches(entry.index, entry.term):\n                continue\n",
        "",
    ),
    Mutant(
        "heartbeat-truncates",
        "R5",
        "core",
        "        self._store(message.entries)\n",
        "        self._store(message.entries)\n"
        "        del self.log._entries[message.prev_log_index + len(message.entries) :]\n"
        "        self.log.stable = min(self.log.stable, self.log.last_index)\n",
    ),
    Mutant(
        "commit-to-last-index",
        "R6/O7",
        "core",
        "self._advance_commit(min(message.leader_commit, last_new))",
        "self._advance_commit(min(message.leader_commit, self.log.last_index))",
    ),
    Mutant(
        "acknowledge-to-last-index",
        "R6/CCF#6001",
        "core",
        "self._answer_append(message, success=True, index=last_new)",
        "self._answer_append(message, success=True, index=self.log.last_index)",
    ),
    Mutant(
        "answers-of-older-terms-counted",
        "R7",
        "core",
        '        if message.term < self.term or self.role != "leader":\n',
        '        if self.role != "leader":\n',
    ),
    Mutant(
        "committed-entry-replaced-silently",
        "R10",
        "core",
        "            if entry.index <= self.commit_index:\n",
        "            if False:\n",
        campaign=False,  # an alarm for what never happens
    ),
    Mutant(
        "gap-accepted",
        "O6",
        "log",
        "        return self.term_at(index) == term\n",
        "        return self.term_at(index) in (term, None)\n",
    ),
    Mutant(
        "consistency-check-by-index-only",
        "O6",
        "log",
        "        return self.term_at(index) == term\n",
        "        return self.term_at(index) is not None\n",
    ),
    Mutant(
        "majority-is-half",
        "V12",
        "quorum",
        "    return len(voters) // 2 + 1\n",
        "    return (len(voters) + 1) // 2\n",
    ),
    Mutant(
        "commit-index-of-a-minority",
        "V12",
        "quorum",
        "    return descending[majority(voters) - 1]\n",
        "    return descending[max(majority(voters) - 2, 0)]\n",
    ),
    Mutant(
        "leader-does-not-count-itself",
        "O12",
        "core",
        "        reached[self.node_id] = self.log.stable\n",
        "        reached[self.node_id] = 0\n",
        campaign=False,  # costs availability while a follower is down, and the campaign demands it after healing
    ),
    Mutant(
        "no-op-forgotten",
        "C2",
        "core",
        "        self._append_own([NO_OP])\n",
        "",
    ),
    Mutant(
        "window-never-opens",
        "R13",
        "progress",
        "        while self._in_flight and self._in_flight[0] <= index:\n            self._in_flight.popleft()\n",
        "",
    ),
    Mutant(
        "window-kept-across-probe",
        "R13",
        "progress",
        "        self._in_flight.clear()\n",
        "        pass\n",
        campaign=False,  # a success beyond them empties the window again: it takes a full one
    ),
    # --- durability ------------------------------------------------------------------------------------------------------
    Mutant(
        "leader-counts-before-fsync",
        "D4",
        "core",
        "        reached[self.node_id] = self.log.stable\n",
        "        reached[self.node_id] = self.log.last_index\n",
    ),
    Mutant(
        "follower-acknowledges-before-fsync",
        "R11",
        "core",
        "        self._gated_now.append(message)\n",
        "        if isinstance(message, AppendEntriesResponse):\n"
        "            self._effects.send.append(message)\n"
        "        else:\n"
        "            self._gated_now.append(message)\n",
    ),
    Mutant(
        "empty-append-acknowledged-at-once",
        "R11",
        "core",
        "        self._gated_now.append(message)\n",
        "        if isinstance(message, AppendEntriesResponse) and not self._unsaved:\n"
        "            self._effects.send.append(message)\n"
        "        else:\n"
        "            self._gated_now.append(message)\n",
    ),
    Mutant(
        "gate-one-batch-too-early",
        "D4",
        "core",
        "        while self._gated and self._gated[0][0] <= self._durable_sequence:\n",
        "        while self._gated and self._gated[0][0] <= self._durable_sequence + 1:\n",
    ),
    Mutant(
        "applied-before-durable",
        "D1",
        "core",
        "        last = min(self.commit_index, self.log.stable)\n",
        "        last = self.commit_index\n",
    ),
    Mutant(
        "stable-not-cut-by-truncation",
        "D5",
        "log",
        "            self.stable = min(self.stable, first - 1)\n",
        "",
    ),
    Mutant(
        "old-write-confirms-new-entries",
        "ABA",
        "log",
        "            self._open = deque((sequence, min(last, first - 1)) for sequence, last in self._open)\n",
        "",
    ),
    Mutant(
        "applied-again-after-restart",
        "D2",
        "core",
        "        self.released_index = applied_index\n",
        "        self.released_index = 0\n",
    ),
    Mutant(
        "leader-helps-candidates",
        "V7",
        "core",
        '        if self.role == "leader":\n            return True\n',
        '        if self.role == "leader":\n            return False\n',
    ),
    Mutant(
        "probe-lost-for-ever",
        "R14",
        "core",
        "            if not self._replicate(peer):\n                self._send_append(peer, ())\n",
        "            if not self._replicate(peer) and self._progress[peer].replicating:\n"
        "                self._send_append(peer, ())\n",
    ),
    Mutant(
        "back-tracking-entry-by-entry",
        "R9",
        "log",
        "        while index > 0 and self._entries[index - 1].term > term:\n            index -= 1\n        return index\n",
        "        return max(index - 1, 0)\n",
    ),
    Mutant(
        "read-quorum-too-small",
        "V13",
        "core",
        "        confirmed = majority_index(self.settings.voters, reached)\n",
        "        confirmed = sorted(reached.values())[-max(len(reached) // 2, 1)]\n",
    ),
    Mutant(
        "read-index-of-an-older-round",
        "C2",
        "core",
        "_PendingReads(self._round, self.commit_index, self._reads_next_round)",
        "_PendingReads(self._round, self.released_index - 1, self._reads_next_round)",
    ),
    # --- reads and answers -------------------------------------------------------------------------------------------------
    Mutant(
        "reads-without-confirmation",
        "C1/O8",
        "core",
        "        reached = {peer: progress.round_acked for peer, progress in self._progress.items()}\n",
        "        reached = dict.fromkeys(self._progress, self._round)\n",
    ),
    Mutant(
        "read-before-own-commit",
        "C2",
        "core",
        "        if self.log.term_at(self.commit_index) != self.term:\n",
        "        if False:\n",
    ),
    Mutant(
        "read-joins-round-in-flight",
        "C3",
        "core",
        "        self._reads_next_round.extend(tokens)\n",
        "        if self._reads_in_round:\n"
        "            self._reads_in_round[-1].tokens.extend(tokens)\n"
        "            return\n"
        "        self._reads_next_round.extend(tokens)\n",
    ),
    Mutant(
        "any-answer-confirms-reads",
        "C3",
        "core",
        "            progress.round_acked = message.round\n",
        "            progress.round_acked = self._round\n",
    ),
    Mutant(
        "old-append-confirms-reads",
        "C3/T1",
        "core",
        "                round=NO_ROUND,\n",
        "                round=message.round,\n",
    ),
    Mutant(
        "reads-forgotten-at-step-down",
        "C5",
        "core",
        '            self._refuse_reads(pending.tokens, "lost-leadership")\n',
        "            pass\n",
    ),
    Mutant(
        "refused-but-kept",
        "C6",
        "core",
        '            self._effects.refused.extend(Refused(token, "not-leader") for token, _ in proposals)\n',
        '            self._effects.refused.extend(Refused(token, "not-leader") for token, _ in proposals)\n'
        '            if self.role == "candidate":\n'
        "                self._append_own([payload for _, payload in proposals])\n",
    ),
    Mutant(
        "proposals-never-refused-for-load",
        "R15",
        "core",
        "max(self.settings.max_uncommitted_entries - waiting, 0)",
        "len(proposals)",
        campaign=False,  # memory, not safety
    ),
)
