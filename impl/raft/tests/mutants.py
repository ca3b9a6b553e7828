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

``scenario`` is a script (``scenarios.py``) that must fail with it, and ``campaign`` the kind of random run in which one
of the first seeds must fail as well. Where there is no campaign, the comment says why.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from inspect import getsource
from types import ModuleType
from typing import cast

from impl.raft.core import Core

MODULES = ("configuration", "quorum", "log", "progress", "questions", "reads", "leader", "core")
"""In the order in which they import each other."""


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    source: str
    module: str
    old: str
    new: str
    scenario: str = ""
    campaign: str = "faults"


def build(mutant: Mutant) -> type[Core]:
    """The ``Core`` class with the bug in it."""
    return cast("type[Core]", rebuilt(mutant)["core"].Core)


def rebuilt(mutant: Mutant) -> dict[str, ModuleType]:
    """The modules of the package with the bug in one of them, by name."""
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
    return built


MUTANTS: tuple[Mutant, ...] = (
    # --- votes and terms ---------------------------------------------------------------------------------------------
    Mutant(
        "vote-not-persisted",
        "V1",
        "core",
        "hard_state = HardState(self.term, self.voted_for)",
        "hard_state = HardState(self.term, self._saved.voted_for)",
        scenario="vote_survives_crash",
    ),
    Mutant(
        "vote-before-fsync",
        "V1",
        "core",
        "        self._gated_now.append(message)\n",
        "        if isinstance(message, RequestVoteResponse):\n"
        "            self.effects.send.append(message)\n"
        "        else:\n"
        "            self._gated_now.append(message)\n",
        scenario="vote_survives_crash",
    ),
    Mutant(
        "candidate-asks-before-fsync",
        "V10",
        "core",
        "        self._gated_now.append(message)\n",
        "        if isinstance(message, RequestVote):\n"
        "            self.effects.send.append(message)\n"
        "        else:\n"
        "            self._gated_now.append(message)\n",
        scenario="stale_votes",
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
        scenario="vote_survives_crash",
    ),
    Mutant(
        "vote-cleared-by-leader",
        "O2",
        "core",
        '        self.role = "leader"\n',
        '        self.role = "leader"\n        self.voted_for = NOBODY\n',
        scenario="leader_refuses_to_be_replaced",
    ),
    Mutant(
        "second-vote-in-term",
        "O5",
        "core",
        "free = self.voted_for in (NOBODY, message.source)",
        "free = True",
        scenario="vote_survives_crash",
    ),
    Mutant(
        "stale-votes-counted",
        "V6/O4",
        "core",
        'expected = self.role == "candidate" and message.round == self.term and message.term == self.term',
        'expected = self.role == "candidate"',
        scenario="stale_votes",
    ),
    Mutant(
        "pre-votes-counted-as-votes",
        "V6",
        "core",
        "        if message.pre_vote:\n"
        '            expected = self.role == "pre-candidate" and message.round == self.term + 1\n'
        "        else:\n"
        '            expected = self.role == "candidate" and message.round == self.term '
        "and message.term == self.term\n",
        '        expected = self.role != "follower" and message.round in (self.term, self.term + 1)\n',
        scenario="outage_of_2020",
    ),
    Mutant(
        "refusals-counted-as-votes",
        "V9",
        "core",
        "[voter for voter, granted in self._votes.items() if granted]",
        "list(self._votes)",
        scenario="refused_pre_vote_tells_the_term",
    ),
    Mutant(
        "vote-without-looking-at-log",
        "O1",
        "core",
        "granted = message.term == self.term and free and up_to_date",
        "granted = message.term == self.term and (self.voted_for == NOBODY or (free and up_to_date))",
        scenario="logs_compared_as_pairs",
    ),
    Mutant(
        "up-to-date-by-length-first",
        "V8",
        "log",
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return (last_index, last_term) >= (self.last_index, self.last_term)",
        scenario="logs_compared_as_pairs",
    ),
    Mutant(
        "up-to-date-field-by-field",
        "V8",
        "log",
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return last_term >= self.last_term and last_index >= self.last_index",
        scenario="logs_compared_as_pairs",
        campaign="partial",
    ),
    Mutant(
        "pre-vote-without-looking-at-log",
        "O1",
        "core",
        "granted=message.term > self.term and up_to_date",
        "granted=message.term > self.term",
        scenario="logs_compared_as_pairs",
        campaign="",  # costs an election now and then: the real vote looks at the log
    ),
    Mutant(
        "timeouts-not-randomised",
        "5.2",
        "core",
        "self.settings.election_ticks + entropy % self.settings.election_ticks",
        "self.settings.election_ticks",
        scenario="split_votes_end",
    ),
    # --- pre-vote, check-quorum --------------------------------------------------------------------------------------
    Mutant(
        "term-in-refused-pre-vote-ignored",
        "P1/P4",
        "core",
        "        if message.term > self.term:\n"
        "            self.become_follower(message.term, NOBODY)\n"
        "            return\n"
        "        if message.pre_vote:\n",
        "        if message.term > self.term and not message.pre_vote:\n"
        "            self.become_follower(message.term, NOBODY)\n"
        "            return\n"
        "        if message.pre_vote:\n",
        scenario="refused_pre_vote_tells_the_term",
        campaign="",  # the first real vote or append of the other side mends it: it takes two members alone
    ),
    Mutant(
        "old-append-not-answered",
        "P1",
        "core",
        "    def _receive_append(self, message: AppendEntries) -> None:\n"
        "        if message.term < self.term:\n"
        "            self._answer_old_append(message)\n"
        "            return\n",
        "    def _receive_append(self, message: AppendEntries) -> None:\n"
        "        if message.term < self.term:\n"
        "            return\n",
        scenario="old_append_confirms_no_read",
        campaign="",  # the other members' answers tell the term as well: it takes one that hears nobody else
    ),
    Mutant(
        "pre-vote-raises-term",
        "P7",
        "core",
        "        if message.term > self.term and not message.pre_vote:\n",
        "        if message.term > self.term:\n",
        scenario="returning_member_does_not_depose",
    ),
    Mutant(
        "no-pre-vote",
        "P7",
        "core",
        "        self._votes = {self.node_id: True}\n        if has_quorum(self.configuration, self._votes):\n",
        "        self._votes = {self.node_id: True}\n        if True:\n",
        scenario="returning_member_does_not_depose",
        campaign="",  # costs availability only while a link is cut, or bandwidth only
    ),
    Mutant(
        "no-check-quorum",
        "P7",
        "leader",
        "            if not has_quorum(self._core.configuration, [self._core.node_id, *active]):\n",
        "            if False:\n",
        scenario="deaf_leader_steps_down",
        campaign="partial",
    ),
    Mutant(
        "check-quorum-never-forgets",
        "P7",
        "leader",
        "                progress.recent_active = False\n",
        "                pass\n",
        scenario="deaf_leader_steps_down",
        campaign="partial",
    ),
    Mutant(
        "two-leaders-unnoticed",
        "R19",
        "core",
        "if term == self.term and self.leader_id not in (NOBODY, source):",
        "if False:",
        scenario="two_leaders_are_noticed",
        campaign="",  # an alarm for what never happens
    ),
    # --- replication and commitment ----------------------------------------------------------------------------------
    Mutant(
        "commit-counts-older-terms",
        "R1",
        "leader",
        "if index <= core.commit_index or self._log.term_at(index) != self.term:",
        "if index <= core.commit_index:",
        scenario="figure_8",
    ),
    Mutant(
        "commit-never-counts-older-terms",
        "R2",
        "leader",
        "        if index <= core.commit_index or self._log.term_at(index) != self.term:\n",
        "        index = min(index, core.commit_index + 1)\n"
        "        if index <= core.commit_index or self._log.term_at(index) != self.term:\n",
        scenario="figure_8_own_term",
    ),
    Mutant(
        "commit-index-goes-back",
        "R3",
        "core",
        "self.commit_index = max(self.commit_index, index)",
        "self.commit_index = index",
        scenario="delayed_short_append",
    ),
    Mutant(
        "match-index-goes-back",
        "R4",
        "progress",
        "        self.match = max(self.match, index)\n",
        "        self.match = index\n",
        scenario="answers_in_any_order",
    ),
    Mutant(
        "match-index-raised-by-refusal",
        "CCF#5326",
        "leader",
        "        elif message.success:\n            self._matched",
        "        elif True:\n            self._matched",
        scenario="late_refusal",
    ),
    Mutant(
        "next-below-match",
        "R4",
        "progress",
        "        self.next = max(next_index, self.match + 1)\n",
        "        self.next = max(next_index, 1)\n",
        scenario="late_refusal",
        campaign="",  # takes a refusal overtaken by two successes
    ),
    Mutant(
        "truncate-on-every-append",
        "R5",
        "core",
        "            if entry.index <= last_index and self.log.matches(entry.index, entry.term):\n"
        "                continue\n",
        "",
        scenario="delayed_short_append",
    ),
    Mutant(
        "heartbeat-truncates",
        "R5",
        "core",
        "        self._store(entries)\n",
        "        self._store(entries)\n"
        "        if self.log.last_index > last_new:\n"
        "            kept = self.log.slice(self.log.base.index + 1, last_new)\n"
        "            stable = min(self.log.stable, last_new)\n"
        "            self.log.__init__(kept, self.log.base)\n"
        "            self.log.stable = stable\n",
        scenario="delayed_short_append",
    ),
    Mutant(
        "commit-to-last-index",
        "R6/O7",
        "core",
        "self.advance_commit(min(message.leader_commit, last_new))",
        "self.advance_commit(min(message.leader_commit, self.log.last_index))",
        scenario="commit_is_capped_by_what_was_checked",
    ),
    Mutant(
        "acknowledge-to-last-index",
        "R6/CCF#6001",
        "core",
        "        self.advance_commit(min(message.leader_commit, last_new))\n"
        "        self._answer_append(message, success=True, index=last_new)\n",
        "        self.advance_commit(min(message.leader_commit, last_new))\n"
        "        self._answer_append(message, success=True, index=self.log.last_index)\n",
        scenario="commit_is_capped_by_what_was_checked",
    ),
    Mutant(
        "answers-of-older-terms-counted",
        "R7",
        "core",
        "elif message.term == self.term and self.leader is not None:",
        "elif self.leader is not None:",
        scenario="answers_to_an_older_term",
    ),
    Mutant(
        "committed-entry-replaced-silently",
        "R10",
        "core",
        "            if entry.index <= self.commit_index:\n",
        "            if False:\n",
        scenario="committed_entries_are_defended",
        campaign="",  # an alarm for what never happens
    ),
    Mutant(
        "gap-accepted",
        "O6",
        "log",
        "        return self.term_at(index) == term\n",
        "        return self.term_at(index) in (term, None)\n",
        scenario="gap_is_refused",
    ),
    Mutant(
        "consistency-check-by-index-only",
        "O6",
        "log",
        "        return self.term_at(index) == term\n",
        "        return self.term_at(index) is not None\n",
        scenario="gap_is_refused",
    ),
    Mutant(
        "majority-is-half",
        "V12",
        "quorum",
        "    return len(voters) // 2 + 1\n",
        "    return (len(voters) + 1) // 2\n",
        scenario="minority_commits_nothing",
    ),
    Mutant(
        "commit-index-of-a-minority",
        "V12",
        "quorum",
        "    return descending[majority(voters) - 1] if descending else 0\n",
        "    return descending[max(majority(voters) - 2, 0)] if descending else 0\n",
        scenario="minority_commits_nothing",
    ),
    Mutant(
        "leader-does-not-count-itself",
        "O12",
        "leader",
        "        reached[core.node_id] = self._log.stable\n",
        "        reached[core.node_id] = 0\n",
        scenario="majority_suffices",
        campaign="partial",
    ),
    Mutant(
        "no-op-forgotten",
        "C2",
        "leader",
        "        self._append([(NO_OP, NORMAL)])\n",
        "",
        scenario="new_leader_waits_for_its_own_entry",
    ),
    Mutant(
        "window-never-opens",
        "R13",
        "progress",
        "        while self._in_flight and self._in_flight[0][0] <= index:\n"
        "            self._in_flight_bytes -= self._in_flight.popleft()[1]\n",
        "",
        scenario="lost_appends_are_sent_again",
    ),
    Mutant(
        "window-kept-across-probe",
        "R13",
        "progress",
        "        self._in_flight.clear()\n",
        "        pass\n",
        scenario="lost_appends_are_sent_again",
        campaign="",  # a success beyond them empties the window again: it takes a full one and a lost probe
    ),
    Mutant(
        "entries-sent-with-every-heartbeat-of-a-probe",
        "T2",
        "leader",
        "            if not self._replicate(peer):\n                self._send_append(peer, ())\n",
        "            self.progress[peer].probe_pending = False\n"
        "            if not self._replicate(peer):\n"
        "                self._send_append(peer, ())\n",
        scenario="probing_is_cheap",
        campaign="",  # costs bandwidth only
    ),
    Mutant(
        "unreachable-starts-probe-again",
        "T2",
        "progress",
        "        if self.replicating or self.snapshot is not None:\n            self.probe(self.match + 1)\n",
        "        self.probe(self.match + 1)\n",
        scenario="probing_is_cheap",
        campaign="",  # costs availability only while a link is cut, or bandwidth only
    ),
    Mutant(
        "refusal-of-what-matches-believed",
        "T3",
        "progress",
        "self.snapshot is not None or index <= self.match or (not self.replicating and index != self.next - 1):\n",
        "self.snapshot is not None or (not self.replicating and index != self.next - 1):\n",
        scenario="refusal_of_what_matches",
        campaign="",  # costs messages only
    ),
    # --- durability --------------------------------------------------------------------------------------------------
    Mutant(
        "leader-counts-before-fsync",
        "D4",
        "leader",
        "        reached[core.node_id] = self._log.stable\n",
        "        reached[core.node_id] = self._log.last_index\n",
        scenario="slow_leader_disk",
    ),
    Mutant(
        "follower-acknowledges-before-fsync",
        "R11",
        "core",
        "        self._gated_now.append(message)\n",
        "        if isinstance(message, AppendEntriesResponse):\n"
        "            self.effects.send.append(message)\n"
        "        else:\n"
        "            self._gated_now.append(message)\n",
        scenario="outage_of_2020",
    ),
    Mutant(
        "empty-append-acknowledged-at-once",
        "R11",
        "core",
        "        self._gated_now.append(message)\n",
        "        if isinstance(message, AppendEntriesResponse) and not self._unsaved:\n"
        "            self.effects.send.append(message)\n"
        "        else:\n"
        "            self._gated_now.append(message)\n",
        scenario="late_refusal",
    ),
    Mutant(
        "gate-one-batch-too-early",
        "D4",
        "core",
        "        while self._gated and self._gated[0][0] <= self._durable_sequence:\n",
        "        while self._gated and self._gated[0][0] <= self._durable_sequence + 1:\n",
        scenario="vote_survives_crash",
    ),
    Mutant(
        "applied-before-durable",
        "D1",
        "core",
        "        last = min(self.commit_index, self.log.stable)\n",
        "        last = self.commit_index\n",
        scenario="slow_leader_disk",
    ),
    Mutant(
        "stable-not-cut-by-truncation",
        "D5",
        "log",
        "            self.stable = min(self.stable, first - 1)\n",
        "",
        scenario="figure_8",
    ),
    Mutant(
        "old-write-confirms-new-entries",
        "ABA",
        "log",
        "            self._open = deque((sequence, min(last, first - 1)) for sequence, last in self._open)\n",
        "",
        scenario="old_write_says_nothing_about_new_entries",
    ),
    Mutant(
        "applied-again-after-restart",
        "D2",
        "core",
        "        self.released_index = applied_index\n",
        "        self.released_index = 0\n",
        scenario="figure_8",
    ),
    Mutant(
        "leader-helps-candidates",
        "V7",
        "core",
        "        if self.leader is not None:\n            return True\n        known",
        "        if self.leader is not None:\n            return False\n        known",
        scenario="leader_refuses_to_be_replaced",
        campaign="",  # comes to rest once somebody leads whom all can hear
    ),
    Mutant(
        "probe-lost-for-ever",
        "R14",
        "leader",
        "            if not self._replicate(peer):\n                self._send_append(peer, ())\n",
        "            if not self._replicate(peer) and self.progress[peer].replicating:\n"
        "                self._send_append(peer, ())\n",
        scenario="lost_appends_are_sent_again",
    ),
    Mutant(
        "back-tracking-entry-by-entry",
        "R9",
        "log",
        "        run = bisect_right(self._term_starts, index, key=lambda start: start[0]) - 1\n        while run >= 0",
        "        return max(index - 1, 0)\n"
        "        run = bisect_right(self._term_starts, index, key=lambda start: start[0]) - 1\n"
        "        while run >= 0",
        scenario="back_tracking_by_term",
        campaign="",  # slow, not wrong
    ),
    Mutant(
        "read-quorum-too-small",
        "V13",
        "leader",
        "self.reads.confirmed(quorum_index(self._core.configuration, reached))",
        "self.reads.confirmed(sorted(reached.values())[-max(len(reached) // 2, 1)])",
        scenario="isolated_leader_serves_no_reads",
    ),
    Mutant(
        "read-index-of-an-older-round",
        "C2",
        "reads",
        "_Batch(number, commit_index, self._next_round)",
        "_Batch(number, commit_index - 2, self._next_round)",
        scenario="new_leader_waits_for_its_own_entry",
    ),
    Mutant(
        "election-over-before-it-began",
        "T4",
        "core",
        '        if self.role == "candidate" and self._durable_sequence < self._vote_sequence:\n',
        "        if False:\n",
        scenario="slow_disk_elects",
        campaign="",  # takes a disk that stays slower than an election timeout; campaigns heal theirs
    ),
    Mutant(
        "leader-runs-ahead-of-its-disk",
        "T5/P8",
        "leader",
        "settled = min(core.commit_index, log.stable)",
        "settled = core.commit_index",
        scenario="hung_disk_is_bounded",
        campaign="",  # memory, not safety
    ),
    Mutant(
        "gate-without-bound",
        "T5",
        "core",
        "deque(maxlen=MAX_GATED_MESSAGES)",
        "deque()",
        scenario="hung_disk_is_bounded",
        campaign="",  # memory, not safety
    ),
    Mutant(
        "reads-never-refused-for-load",
        "T5",
        "reads",
        "room = max(self._max_pending - self.pending, 0)",
        "room = len(readers)",
        scenario="reads_are_answered",
        campaign="",  # memory, not safety
    ),
    # --- reads and answers -------------------------------------------------------------------------------------------
    Mutant(
        "reads-without-confirmation",
        "C1/O8",
        "leader",
        "        reached = {peer: progress.round_acked for peer, progress in self.progress.items()}\n",
        "        reached = dict.fromkeys(self.progress, self._round)\n",
        scenario="isolated_leader_serves_no_reads",
    ),
    Mutant(
        "read-before-own-commit",
        "C2",
        "leader",
        "self.reads.take(readers, committed=self._has_committed())",
        "self.reads.take(readers, committed=True)",
        scenario="new_leader_waits_for_its_own_entry",
    ),
    Mutant(
        "read-joins-round-in-flight",
        "C3",
        "reads",
        "        (self._next_round if committed else self._before_commit).extend(readers[:room])\n",
        "        if self._in_round and committed:\n"
        "            self._in_round[-1].readers.extend(readers[:room])\n"
        "        else:\n"
        "            (self._next_round if committed else self._before_commit).extend(readers[:room])\n",
        scenario="reads_are_answered",
    ),
    Mutant(
        "any-answer-confirms-reads",
        "C3",
        "leader",
        "            progress.round_acked = message.round\n",
        "            progress.round_acked = self._round\n",
        scenario="late_answer_confirms_no_later_read",
    ),
    Mutant(
        "old-append-confirms-reads",
        "C3/T1",
        "core",
        "                round=NO_ROUND,\n",
        "                round=message.round,\n",
        scenario="old_append_confirms_no_read",
    ),
    Mutant(
        "reads-forgotten-at-step-down",
        "C5",
        "reads",
        "        for batch in self._in_round:\n            yield from batch.readers\n",
        "",
        scenario="isolated_leader_serves_no_reads",
    ),
    Mutant(
        "refused-but-kept",
        "C6",
        "core",
        '            self.effects.refused.extend(Refused(token, "not-leader") for token, _ in proposals)\n',
        '            self.effects.refused.extend(Refused(token, "not-leader") for token, _ in proposals)\n'
        '            if self.role == "candidate":\n'
        "                first = self.log.last_index + 1\n"
        "                payloads = enumerate(payload for _, payload in proposals)\n"
        "                self.append([Entry(first + i, self.term, payload) for i, payload in payloads])\n",
    ),
    Mutant(
        "proposals-never-refused-for-load",
        "R15",
        "leader",
        "room = max(settings.max_uncommitted_entries - (log.last_index - settled), 0)",
        "room = len(proposals)",
        scenario="back_pressure",
        campaign="",  # memory, not safety
    ),
)
