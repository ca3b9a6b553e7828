"""One member driven by hand: the events that bring it where a rule applies, and its answers.

The other members are written down message by message, so that a test can say exactly what was heard, in which order,
and what was durable by then. Node 1 is always the one under test.
"""

from __future__ import annotations

from collections.abc import Sequence

from impl.raft.configuration import all_voters, encode_configuration, founding
from impl.raft.core import Core
from impl.raft.events import Effects, Persisted, Receive, Reconfigure, Tick
from impl.raft.messages import (
    CONFIGURATION,
    AppendEntries,
    AppendEntriesResponse,
    Base,
    Configuration,
    Entry,
    HardState,
    InstallSnapshotResponse,
    Member,
    Message,
    RequestVote,
    RequestVoteResponse,
)
from impl.raft.settings import Settings


def members(*ids: int) -> tuple[Member, ...]:
    return tuple(Member(node_id) for node_id in ids)


def entries_of(*terms: int, after: int = 0) -> tuple[Entry, ...]:
    """Entries with these terms behind index ``after``; each payload says index and term."""
    return tuple(Entry(after + i, term, b"%d/%d" % (after + i, term)) for i, term in enumerate(terms, 1))


def configuration_entry(index: int, term: int, configuration: Configuration) -> Entry:
    return Entry(index, term, encode_configuration(configuration), CONFIGURATION)


def started(
    *terms: int,
    nodes: int = 3,
    term: int | None = None,
    voted_for: int = 0,
    entries: Sequence[Entry] | None = None,
    applied: int | None = None,
    base: Base | None = None,
    snapshot: Base | None = None,
    **settings: int,
) -> Core:
    """Node 1, recovered with a log of these terms (or ``entries``) behind ``base``. Without a base it founds a group of
    ``nodes``. With a log behind nothing but terms it is as one that has run for a while: free to vote."""
    base = base or Base(configuration=founding(range(1, nodes + 1)))
    log = entries_of(*terms, after=base.index) if entries is None else tuple(entries)
    last = log[-1].term if log else base.term
    core = Core(
        Settings(1, **settings),  # type: ignore[arg-type]
        HardState(last if term is None else term, voted_for),
        log,
        base.index if applied is None else applied,
        base,
        snapshot or (base if base.index else None),
    )
    core._just_started = False
    return core


def durable(core: Core, effects: Effects) -> Effects:
    """The batch of these effects becomes durable."""
    assert effects.persist is not None
    return core.step(Persisted(effects.persist.sequence))


def heard(core: Core, message: Message) -> Effects:
    """A message arrives and what follows from it is durable at once; all effects together."""
    effects = core.step(Receive(message))
    if effects.persist:
        after = durable(core, effects)
        for name in ("send", "apply", "accepted", "refused", "reads", "completed", "chunks", "store"):
            getattr(effects, name).extend(getattr(after, name))
        effects.restore = effects.restore or after.restore
        while after.persist:
            after = durable(core, after)
            effects.send.extend(after.send)
            effects.apply.extend(after.apply)
            effects.completed.extend(after.completed)
    return effects


def others(core: Core) -> list[int]:
    return sorted(all_voters(core.configuration) - {core.node_id})


def pre_candidate(core: Core) -> Core:
    for _ in range(10 * core.settings.election_ticks):
        if core.role != "follower":
            return core
        core.step(Tick(0))
    raise AssertionError("it never stood for election")


def candidate(core: Core) -> Core:
    """With the promises of all others, and its own vote durable."""
    pre_candidate(core)
    term = core.term
    for peer in others(core):
        if core.role == "pre-candidate":
            core.step(Receive(RequestVoteResponse(0, peer, 1, 0, term + 1, True, True)))
    flushed(core)
    assert core.role == ("candidate" if others(core) else "leader")
    return core


def leader(core: Core) -> Core:
    """With the votes of all others, its no-op durable here and known to nobody else."""
    candidate(core)
    for peer in others(core):
        if core.role == "candidate":
            core.step(Receive(RequestVoteResponse(0, peer, 1, core.term, core.term, True)))
    flushed(core)
    assert core.role == "leader"
    return core


def acknowledge(core: Core, peer: int, index: int | None = None, *, round: int | None = None) -> Effects:
    """The peer has everything up to ``index`` (all, by default), and has heard ``round`` (the newest)."""
    assert core.leader is not None
    index = core.log.last_index if index is None else index
    round = core.leader._round if round is None else round
    return core.step(Receive(AppendEntriesResponse(0, peer, 1, core.term, True, index, 0, 0, round)))


def flushed(core: Core) -> Effects:
    """Everything handed over is durable."""
    return core.step(Persisted(core._sequence))


def committed(core: Core, *peers: int) -> Core:
    """These peers have all of the leader's log, until nothing new follows from it."""
    for _ in range(4):
        for peer in peers:
            if core.leader is not None:
                acknowledge(core, peer)
        flushed(core)
    return core


def beat(core: Core, *peers: int, ticks: int = 1, now_ms: int = 0) -> Effects:
    """Time passes, and these peers answer every append."""
    effects = Effects()
    for _ in range(ticks):
        effects = core.step(Tick(0, now_ms))
        for peer in peers:
            if core.leader is not None:
                acknowledge(core, peer, core.progress[peer].match if peer in core.progress else 0)
    return effects


def reconfigured(core: Core, ids: Sequence[int], voters: Sequence[int], token: int = 90) -> Effects:
    """Ask for a change from the configuration as it is, addresses and incarnations kept."""
    known = {member.node_id: member for member in core.configuration.members}
    wanted = tuple(known.get(node_id, Member(node_id)) for node_id in ids)
    return core.step(Reconfigure(token, core.configuration_index, wanted, tuple(voters)))


def sent(effects: Effects, kind: type[Message], target: int | None = None) -> list[Message]:
    return [m for m in effects.send if isinstance(m, kind) and target in (None, m.target)]


def appends(effects: Effects, target: int | None = None) -> list[AppendEntries]:
    return [m for m in effects.send if isinstance(m, AppendEntries) and target in (None, m.target)]


def answer(effects: Effects) -> AppendEntriesResponse:
    (message,) = (m for m in effects.send if isinstance(m, AppendEntriesResponse))
    return message


def snapshot_answer(effects: Effects) -> InstallSnapshotResponse:
    (message,) = (m for m in effects.send if isinstance(m, InstallSnapshotResponse))
    return message


def vote(effects: Effects) -> RequestVoteResponse:
    (message,) = (m for m in effects.send if isinstance(m, RequestVoteResponse))
    return message


def append(
    term: int,
    prev: tuple[int, int],
    terms: tuple[int, ...] = (),
    *,
    commit: int = 0,
    source: int = 2,
    target: int = 1,
    round: int = 1,
) -> AppendEntries:
    """An append of entries with these terms after ``prev`` (index, term)."""
    return AppendEntries(0, source, target, term, *prev, entries_of(*terms, after=prev[0]), commit, round)


def ask(
    term: int, last: tuple[int, int], *, source: int = 2, pre_vote: bool = False, transfer: bool = False
) -> RequestVote:
    """A request for a vote by a candidate whose log ends at ``last`` (index, term)."""
    return RequestVote(0, source, 1, term, *last, pre_vote, transfer)


def refusals(effects: Effects) -> list[tuple[int, str]]:
    return [(refused.token, refused.reason) for refused in effects.refused]
