"""How the golden traces say what happens: messages, entries, writes and states as short, uniform words.

Theory of operation
-------------------
An entry is ``4/2 "x"``: index, term, payload; ``-`` for the no-op of a new leader; braces for a configuration. A
message is ``1->2 append t2 ...``: link, kind, the sender's term, what it carries. ``NOTATION`` lists all of them; it
stands in ``docs/traces.md``.

Payloads are numbers to the cluster; the words know the names that the file gave them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from impl.raft.configuration import configuration_of
from impl.raft.core import Core
from impl.raft.events import Persist
from impl.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    Entry,
    HardState,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    NodeId,
    ReadIndex,
    ReadIndexResponse,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)

LONG = 6
"""A list of more entries is shown by its ends."""

NOTATION = (
    ('4/2 "x"', "the entry with index 4 and term 2, of the payload named x"),
    ("4/2 -", "the no-op that opens a leader's term"),
    ("5/2 {1 2 3 +4}", "a configuration: voters, then learners with a plus"),
    ("6/2 {1 2 4 & 1 2 3}", "a joint one: a majority of the new voters and a majority of the old ones decide"),
    ("{1 2 3*2}", "node 3 in its second life: its first disk was lost"),
    ('[4/2 "x" 5/2 "y"]', "entries in a message or a write; long lists show their ends"),
    ("1->2 prevote? t3 log 4/2", "would you vote for me in term 3? My log ends with entry 4 of term 2"),
    ("2->1 prevote t2 for t3 yes", "a promise, or with `no` a refusal, by a voter that is in term 2"),
    ("1->2 vote? t3 log 4/2", "a request for a vote; `at the leader's wish` when leadership is being handed over"),
    ("2->1 vote t3 for t3 yes", "the vote in term 3; `no` when it is refused"),
    ('1->2 append t2 after 3/1 [4/2 "x"] commit 3 r7', "AppendEntries, of round 7 of its leader; [] is a heartbeat"),
    ("2->1 appended t2 to 4 r7", "success: the logs are the same up to entry 4, and durable there"),
    ("2->1 refused t2 after 5, try 3/1 r7", "there is no such entry 5; the logs may agree at 3/1"),
    ("2->1 outdated, now t3", "the append was of an older term than 3"),
    ("1->2 snapshot t2 to 9/2 bytes 0..4 of 9 r7", "a piece of the snapshot that stands in for entries 1 to 9"),
    ("2->1 snapshot t2 to 9: 4 bytes r7", "how much of it has come; `done` when it is installed or not needed"),
    ("1->2 timeout-now t2", "the leader hands over: stand for election at once"),
    ("2->1 read? t2 #5", "a follower asks for a read index; the answer is `1->2 read t2 #5 at 9`, or `no`"),
    ("1 tick 10", "the tenth tick of the command, at node 1; ticks without consequences are not shown"),
    ("1 written #4", "write 4 is durable and reported"),
    ('1 writes #4: t2 vote 1 [4/2 "x"]', "term and vote, if they changed, and entries, as one write"),
    ("1 is leader t2", "role and term, and whom a follower follows"),
    ("1 commits 2..4 / applies 2..4", "entries that are known to be committed / handed to the state machine"),
    ("1 answers x: done at 4/2", "what a client hears: `done`, or `lost` when another entry stands there"),
    ("1 goes by {1 2 4 & 1 2 3}", "the configuration in force at this node from now on"),
    ("2 has 4 bytes of the snapshot to 9", "a piece is stored; `2 has the snapshot to 9` when it is complete"),
    ("2 writes #5: base 9/2 {1 2 3}", "the log begins behind entry 9 of term 2; `2 restores 9`: so does the state"),
    ("1 answers read q at 4", "the read may be served once entry 4 has been applied"),
    ("1 refuses x: not-leader", "certainly without effect"),
    ("... (lost)", "the link is cut, or the node at its end is down"),
)
"""Pattern and meaning, in the order of the page."""

Namer = Callable[[bytes], str]
"""Payload -> name."""


def configuration(value: Configuration) -> str:
    """``{1 2 3 +4}``; joint: ``{1 2 4 & 1 2 3}``."""

    def said(node_id: NodeId) -> str:
        member = value.member(node_id)
        return str(node_id) if member is None or member.incarnation == 1 else f"{node_id}*{member.incarnation}"

    words = [said(voter) for voter in value.voters]
    if value.joint:
        words += ["&", *(said(voter) for voter in value.outgoing)]
    words += [f"+{said(learner)}" for learner in value.learners]
    return "{" + " ".join(words) + "}"


def entry(value: Entry, name: Namer) -> str:
    where = f"{value.index}/{value.term}"
    found = configuration_of(value)
    if found is not None:
        return f"{where} {configuration(found)}"
    return f'{where} "{name(value.payload)}"' if value.payload else f"{where} -"


def entries(values: Sequence[Entry], name: Namer) -> str:
    words = [entry(value, name) for value in values]
    if len(words) > LONG:
        words = [words[0], "...", words[-1]]
    return "[" + " ".join(words) + "]"


def terms(values: Sequence[Entry]) -> str:
    """Only the terms, as the figures of the paper show logs."""
    words = [str(value.term) for value in values]
    if len(words) > 3 * LONG:
        words = [*words[:3], "...", *words[-3:]]
    return " ".join(words) if words else "-"


def span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}..{last}"


def hard_state(value: HardState) -> str:
    return f"t{value.term}" + (f" vote {value.voted_for}" if value.voted_for else "")


def batch(value: Persist, name: Namer) -> str:
    """What one write holds."""
    words = []
    if value.base is not None:
        words.append(f"base {value.base.index}/{value.base.term} {configuration(value.base.configuration)}")
    if value.hard_state is not None:
        words.append(hard_state(value.hard_state))
    if value.entries:
        words.append(entries(value.entries, name))
    return " ".join(words)


def message(value: Message, name: Namer) -> str:
    """One line for a message: link, kind, term, content."""
    return f"{value.source}->{value.target} {_content(value, name)}"


def _content(value: Message, name: Namer) -> str:
    term = f"t{value.term}"
    match value:
        case RequestVote():
            kind = "prevote?" if value.pre_vote else "vote?"
            wish = " at the leader's wish" if value.transfer else ""
            return f"{kind} {term} log {value.last_log_index}/{value.last_log_term}{wish}"
        case RequestVoteResponse():
            kind = "prevote" if value.pre_vote else "vote"
            return f"{kind} {term} for t{value.round} {'yes' if value.granted else 'no'}{_life(value.incarnation)}"
        case AppendEntries():
            return (
                f"append {term} after {value.prev_log_index}/{value.prev_log_term} {entries(value.entries, name)} "
                f"commit {value.leader_commit} r{value.round}"
            )
        case AppendEntriesResponse(round=0):
            return f"outdated, now {term}{_life(value.incarnation)}"
        case AppendEntriesResponse(success=True):
            return f"appended {term} to {value.index} r{value.round}{_life(value.incarnation)}"
        case AppendEntriesResponse():
            return (
                f"refused {term} after {value.index}, try {value.hint_index}/{value.hint_term} "
                f"r{value.round}{_life(value.incarnation)}"
            )
        case InstallSnapshot():
            end = value.offset + len(value.data)
            return (
                f"snapshot {term} to {value.base.index}/{value.base.term} bytes {value.offset}..{end} "
                f"of {value.total_bytes} r{value.round}"
            )
        case InstallSnapshotResponse():
            progress = "done" if value.done else f"{value.offset} bytes"
            return f"snapshot {term} to {value.index}: {progress} r{value.round}{_life(value.incarnation)}"
        case TimeoutNow():
            return f"timeout-now {term}"
        case ReadIndex():
            return f"read? {term} #{value.context}"
        case ReadIndexResponse():
            answer = f"at {value.index}" if value.granted else "no"
            return f"read {term} #{value.context} {answer}{_life(value.incarnation)}"
        case _:
            assert_never(value)


def _life(incarnation: int) -> str:
    return "" if incarnation == 1 else f" life {incarnation}"


def office(core: Core) -> str:
    """Role and term, and the leader that a follower follows."""
    leader = f" of {core.leader_id}" if core.leader_id and core.role == "follower" else ""
    return f"{core.role} t{core.term}{leader}"
