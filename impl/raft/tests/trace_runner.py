"""Carries out the commands of a golden trace on a ``World`` and tells what happens.

Theory of operation
-------------------
The world checks every invariant after every step, so a trace is a test even before its text is compared. What a core
was given and what followed is seen by a class derived from the core's on the way (``_observed``), so that mutated
cores are observed as well as the real one. A command leaves a list of steps; each becomes one line for what happened
and indented lines for what followed from it. A message that is sent and arrives within the same command is shown
once, where it arrives; a message nobody can receive is shown as lost where it is sent.

A script that asks for what is not there (a message, a node, a name), or expects what does not hold, fails with the
line of the file; so does a breach of an invariant.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from impl.raft.core import Core
from impl.raft.events import (
    ChunkStored,
    Compact,
    DiskSpace,
    Effects,
    Event,
    Persisted,
    Propose,
    Read,
    Receive,
    Reconfigure,
    Tick,
    Token,
    Transfer,
    Unreachable,
)
from impl.raft.messages import Entry, HardState, Message, NodeId
from impl.raft.tests import trace_words as words
from impl.raft.tests.trace_language import Command, Trace, TraceError, expand
from impl.raft.tests.trace_world import TraceWorld
from impl.raft.tests.world import STORM_LIMIT, Violation

SETTINGS = {
    "election": "election_ticks",
    "heartbeat": "heartbeat_ticks",
    "batch": "max_entries_per_append",
    "batch-bytes": "max_append_bytes",
    "window": "max_in_flight_appends",
    "uncommitted": "max_uncommitted_entries",
    "reads": "max_pending_reads",
    "window-bytes": "max_in_flight_bytes",
    "learners": "learners",
    "spare": "spare",
    "lease-ms": "lease_ms",
    "snapshot": "snapshot_bytes",
    "piece": "snapshot_chunk_bytes",
}
"""What ``cluster`` may set, and the world's name for it."""


@dataclass(frozen=True, slots=True)
class _State:
    """Of a core, before or after a step: what is told when it changes."""

    office: str
    commit_index: int
    configuration: str

    @classmethod
    def of(cls, core: Core) -> _State:
        return cls(words.office(core), core.commit_index, words.configuration(core.configuration))


@dataclass(slots=True)
class _Step:
    node_id: NodeId
    event: Event
    before: _State
    after: _State
    effects: Effects


def _observed(core_class: type[Core], steps: list[_Step]) -> type[Core]:
    """The class with a ``step`` that leaves a record of itself."""

    class Observed(core_class):  # type: ignore[misc, valid-type]
        def step(self, event: Event) -> Effects:
            before = _State.of(self)
            effects: Effects = super().step(event)
            steps.append(_Step(self.node_id, event, before, _State.of(self), effects))
            return effects

    return Observed


@dataclass(slots=True)
class Runner:
    """One run of one file."""

    trace: Trace
    core_class: type[Core] = Core
    world: TraceWorld = field(init=False)
    _steps: list[_Step] = field(init=False, default_factory=list)
    _lines: list[str] = field(init=False, default_factory=list)
    _payloads: dict[Token, str] = field(init=False, default_factory=dict)
    _tokens: dict[str, Token] = field(init=False, default_factory=dict)
    _held: dict[str, Message] = field(init=False, default_factory=dict)
    _used: set[str] = field(init=False, default_factory=set)  # of those that are held
    _open: dict[NodeId, dict[int, list[tuple[Token, int]]]] = field(init=False, default_factory=dict)
    _ticks: dict[NodeId, int] = field(init=False, default_factory=dict)
    _hung: set[NodeId] = field(init=False, default_factory=set)  # whose disks write nothing for now
    _founding: dict[tuple[int, int], Token] = field(init=False, default_factory=dict)  # entries of ``recover``

    def outputs(self) -> list[list[str]]:
        """The output of each block. Raises ``TraceError`` for a script that cannot go on, ``Violation`` for a breach,
        both with the line of the file."""
        result = []
        for block in self.trace.blocks:
            self._lines = []
            for command, following in zip(block.commands, [*block.commands[1:], None], strict=True):
                self._carry_out(command)
                if command.quiet and not (following and following.quiet):
                    self._lines.extend(self._state(node_id) for node_id in self.world.members)
            result.append(self._lines)
        unused = set(self._held) - self._used
        if unused:
            raise TraceError(self.trace.path, self.trace.blocks[-1].line, f"held and never used: {sorted(unused)}")
        return result

    def text(self) -> str:
        """The file as it should be."""
        return self.trace.text(self.outputs())

    # --- one command -----------------------------------------------------------------------------------------------

    def _carry_out(self, command: Command) -> None:
        self._steps.clear()
        self._ticks.clear()
        method: Callable[[Command], None] = getattr(self, f"_do_{command.name.replace('-', '_')}")
        try:
            method(command)
        except Violation as violation:
            where = f"{self.trace.path.name}:{command.line}: {command.text}"
            raise Violation(violation.invariant, f"{where}: {violation}") from violation
        except (KeyError, ValueError) as error:
            raise TraceError(self.trace.path, command.line, f"{command.text!r}: {error}") from error
        told = self._told()  # in any case: it keeps account of requests
        if not command.quiet:
            self._lines.extend(told)

    def _say(self, line: str) -> None:
        """Something that happened outside the cores, after the steps so far."""
        self._lines.extend(self._told())
        self._steps.clear()
        self._lines.append(line)

    def _told(self) -> list[str]:
        """The steps since the last command as lines."""
        arrived = {id(step.event.message) for step in self._steps if isinstance(step.event, Receive)}
        lines = []
        for step in self._steps:
            follows = self._consequences(step, arrived)
            if follows or not isinstance(step.event, Tick):
                lines.append(self._cause(step))
            lines.extend(f"  {line}" for line in follows)
        return lines

    def _cause(self, step: _Step) -> str:
        node = step.node_id
        match step.event:
            case Tick():
                return f"{node} tick {self._ticks[node]}"
            case Receive(message):
                return words.message(message, self._name)
            case Propose(proposals):
                return f"{node} propose {self._listed(token for token, _ in proposals)}"
            case Read(tokens, lease):
                return f"{node} read {self._listed(tokens)}{' lease' if lease else ''}"
            case Persisted(sequence):
                return f"{node} written #{sequence}"
            case Unreachable(peer):
                return f"{node} unreachable {peer}"
            case Reconfigure(token, expected_index, members, voters):
                learners = [f"+{member.node_id}" for member in members if member.node_id not in voters]
                wanted = " ".join([*map(str, voters), *learners])
                return f"{node} reconfigure {self._payloads[token]} to {{{wanted}}} from {expected_index}"
            case Transfer(token, target):
                return f"{node} transfer {self._payloads[token]}" + (f" to {target}" if target else "")
            case Compact(snapshot, up_to):
                return f"{node} has a snapshot to {snapshot.index}, forgets the log to {up_to}"
            case ChunkStored(base, received, complete):
                size = "" if complete else f"{received} bytes of "
                return f"{node} has {size}the snapshot to {base.index}"
            case DiskSpace(full):
                return f"{node} disk {'full' if full else 'has room'}"

    def _consequences(self, step: _Step, arrived: set[int]) -> list[str]:
        node, effects, before, after = step.node_id, step.effects, step.before, step.after
        if isinstance(step.event, Tick):
            self._ticks[node] = self._ticks.get(node, 0) + 1
        lines = []
        if before.office != after.office:
            lines.append(f"{node} is {after.office}")
        if before.configuration != after.configuration:
            lines.append(f"{node} goes by {after.configuration}")
        for accepted in effects.accepted:
            self._open.setdefault(node, {}).setdefault(accepted.index, []).append((accepted.token, accepted.term))
        lines += [f"{node} refuses {self._payloads[refused.token]}: {refused.reason}" for refused in effects.refused]
        if effects.persist is not None:
            lines.append(f"{node} writes #{effects.persist.sequence}: {words.batch(effects.persist, self._name)}")
        if after.commit_index > before.commit_index:
            lines.append(f"{node} commits {words.span(before.commit_index + 1, after.commit_index)}")
        if effects.restore is not None:
            lines.append(f"{node} restores {effects.restore.index}")
        if effects.apply:
            lines.append(f"{node} applies {words.span(effects.apply[0].index, effects.apply[-1].index)}")
        lines += self._answers(node, effects.apply)
        lines += [f"{node} answers read {self._payloads[ready.token]} at {ready.index}" for ready in effects.reads]
        for done in effects.completed:
            at = f" at {done.index}" if done.index else ""
            lines.append(f"{node} answers {self._payloads[done.token]}: done{at}")
        pieces = [self.world.pieces.popleft() for _ in effects.chunks]
        for message in [*effects.send, *(piece for piece in pieces if piece is not None)]:
            if id(message) not in arrived:
                lost = "" if self._in_flight(message) else " (lost)"
                lines.append(words.message(message, self._name) + lost)
        return lines

    def _answers(self, node: NodeId, applied: Sequence[Entry]) -> list[str]:
        lines = []
        for entry in applied:
            for token, term in self._open.get(node, {}).pop(entry.index, ()):
                outcome = f"done at {entry.index}/{entry.term}" if entry.term == term else "lost"
                lines.append(f"{node} answers {self._payloads[token]}: {outcome}")
        return lines

    def _in_flight(self, message: Message) -> bool:
        return any(message is other for other in self.world.links[message.source, message.target])

    def _name(self, payload: bytes) -> str:
        return self._payloads[int(payload.rstrip(b".") or b"0")]

    def _listed(self, tokens: Iterable[Token]) -> str:
        names = [self._payloads[token] for token in tokens]
        return " ".join(names) if len(names) <= words.LONG else f"{names[0]} ... {names[-1]}"

    def _named(self, names: Sequence[str]) -> None:
        """The next tokens of the world have these names."""
        for offset, name in enumerate(names):
            if name in self._tokens:
                raise ValueError(f"the name {name} is used already")
            token = self.world._next_token + offset
            self._tokens[name] = token
            self._payloads[token] = name

    def _token(self, name: str) -> Token:
        if name not in self._tokens:
            raise ValueError(f"nothing is named {name}; there are: {', '.join(self._tokens) or 'no names yet'}")
        return self._tokens[name]

    def _options(self, command: Command, **defaults: int | None) -> dict[str, int | None]:
        unknown = [key for key in command.options if key not in defaults]
        if unknown:
            raise ValueError(f"no such option: {', '.join(unknown)}; there are: {', '.join(defaults)}")
        return {**defaults, **command.options}

    def _nodes(self, command: Command) -> list[NodeId]:
        nodes = command.nodes(list(self.world.members))
        for node_id in nodes:
            self._member(node_id)
        return nodes

    def _member(self, node_id: NodeId) -> NodeId:
        if node_id not in self.world.members:
            raise ValueError(f"there is no node {node_id}; there are: {', '.join(map(str, self.world.members))}")
        return node_id

    # --- set-up ----------------------------------------------------------------------------------------------------

    def _do_cluster(self, command: Command) -> None:
        options = self._options(command, nodes=None, **dict.fromkeys(SETTINGS))
        size = options.pop("nodes")
        if size is None or not 1 <= size <= 9:
            raise ValueError("nodes= must be 1 to 9")
        known: dict[str, Any] = {SETTINGS[key]: value for key, value in options.items() if value is not None}
        self.world = TraceWorld(size, _observed(self.core_class, self._steps), **known)

    def _do_recover(self, command: Command) -> None:
        member = self.world.members[self._member(command.node)]
        log_terms = [int(word) for word in command.words["terms"].split()]
        options = self._options(command, term=max(log_terms, default=0), vote=0)
        entries = []
        before = 0
        for index, term in enumerate(log_terms, start=1):
            token = self._founding.get((index, term))
            if token is None:
                self._named([f"e{index}-{term}"])
                token = self._founding[index, term] = self.world._next_token
                self.world._next_token += 1
            entries.append(Entry(index, term, b"%d" % token))
            self.world.known.setdefault((index, term), (before, entries[-1].payload))
            before = term
        member.up = False
        member.pending.clear()
        member.disk_hard_state = HardState(options["term"] or 0, options["vote"] or 0)
        member.disk_entries = entries
        self.world.restart(command.node)
        self._say(self._state(command.node))

    def _do_elect(self, command: Command) -> None:
        self.world.elect(self._member(command.node), self._nodes(command) if "nodes" in command.words else None)

    def _do_win(self, command: Command) -> None:
        self.world.win(self._member(command.node), self._nodes(command))

    # --- time ------------------------------------------------------------------------------------------------------

    def _do_tick(self, command: Command) -> None:
        timeout = self._options(command, timeout=self.world.election_ticks)["timeout"]
        assert timeout is not None
        entropy = timeout - self.world.election_ticks
        if not 0 <= entropy < self.world.election_ticks:
            raise ValueError(
                f"timeouts are {self.world.election_ticks} to {2 * self.world.election_ticks - 1} ticks here"
            )
        for _ in range(int(command.words.get("times", "1"))):
            for node_id in self._nodes(command):
                self.world.tick(node_id, entropy=entropy)

    def _do_wait(self, command: Command) -> None:
        limit = self.world.election_ticks
        for _ in range(limit):
            for node_id in self._nodes(command):
                core = self.world.core(node_id)
                if core.role == "leader":
                    raise ValueError(f"node {node_id} leads: it misses nobody")
                if core._ticks_since_contact < limit:
                    self.world.tick(node_id, entropy=limit - 1)

    def _do_campaign(self, command: Command) -> None:
        core = self.world.core(self._member(command.node))
        if core.role == "leader":
            raise ValueError(f"node {command.node} leads already")
        for _ in range(2 * self.world.election_ticks):
            self.world.tick(command.node)
            if core._ticks_since_contact == 0:
                return
        raise ValueError(f"node {command.node} does not begin an election: it is {words.office(core)}")

    # --- requests --------------------------------------------------------------------------------------------------

    def _do_propose(self, command: Command) -> None:
        size_bytes = self._options(command, bytes=0)["bytes"] or 0
        self._named(command.names)
        self.world.propose(self._member(command.node), len(command.names), size_bytes)

    def _do_read(self, command: Command) -> None:
        self._named(command.names)
        self.world.read(self._member(command.node), len(command.names), lease="lease" in command.words)

    def _do_reconfigure(self, command: Command) -> None:
        self._named([command.words["name"]])
        voters = [self._member(int(word)) for word in command.words["voters"].split()]
        learners = [self._member(int(word)) for word in command.words.get("learners", "").split()]
        core = self.world.core(self._member(command.node))
        expected = self._options(command, at=core.configuration_index)["at"]
        self.world.reconfigure(command.node, voters, learners, expected or 0)

    def _do_transfer(self, command: Command) -> None:
        self._named([command.words["name"]])
        target = int(command.words.get("target", "0"))
        self.world.transfer(self._member(command.node), self._member(target) if target else 0)

    def _do_compact(self, command: Command) -> None:
        keep = self._options(command, keep=0)["keep"] or 0
        self.world.compact(self._member(command.node), int(command.words["index"]), keep)

    def _do_wipe(self, command: Command) -> None:
        self.world.wipe(self._member(command.node))
        self._open.pop(command.node, None)
        self._say(f"{command.node} starts with an empty disk, life {self.world.members[command.node].incarnation}")

    def _do_disk_full(self, command: Command) -> None:
        self._hung.add(self._member(command.node))
        self.world.disk_space(command.node, full=True)

    def _do_disk_free(self, command: Command) -> None:
        self._do_wake(command)
        self.world.disk_space(command.node, full=False)

    def _do_pause(self, command: Command) -> None:
        self.world.pause(self._member(command.node), int(command.words["times"]))

    # --- the network -----------------------------------------------------------------------------------------------

    def _positions(self, command: Command) -> list[int]:
        """Where in the queue of the link the messages stand that are meant, as the queue is now."""
        source, target = (self._member(node_id) for node_id in command.link)
        there = len(self.world.links[source, target])
        pick = command.words.get("pick", "1")
        if pick == "all":
            wanted = list(range(there))
        elif pick.startswith("#"):
            wanted = [int(pick[1:]) - 1]
        else:
            wanted = list(range(int(pick)))
        if not wanted or not 0 <= min(wanted) <= max(wanted) < there:
            raise ValueError(f"{there} messages are in flight from {source} to {target}")
        return wanted

    def _do_deliver(self, command: Command) -> None:
        for taken, position in enumerate(self._positions(command)):
            message = self.world.links[command.link][position - taken]
            if not self.world.members[command.link[1]].up:
                self._say(f"{words.message(message, self._name)} (lost)")
            self.world.deliver(*command.link, position - taken)

    def _do_drop(self, command: Command) -> None:
        for taken, position in enumerate(self._positions(command)):
            message = self.world.drop(*command.link, position - taken)
            self._say(f"{words.message(message, self._name)} (lost)")

    def _do_duplicate(self, command: Command) -> None:
        (position,) = self._positions(command)
        self.world.deliver(*command.link, position, keep=True)

    def _do_hold(self, command: Command) -> None:
        (position,) = self._positions(command)
        name = command.words["name"]
        if name in self._held:
            raise ValueError(f"a message named {name} is held already")
        self._held[name] = self.world.links[command.link].pop(position)
        self._say(f"{words.message(self._held[name], self._name)} (held: {name})")

    def _do_late(self, command: Command) -> None:
        name = command.words["name"]
        if name not in self._held:
            raise ValueError(f"no message named {name} is held; there are: {', '.join(self._held) or 'none'}")
        self._used.add(name)
        message = self._held[name]
        if not self.world.members[message.target].up:
            self._say(f"{words.message(message, self._name)} (lost)")
        self.world.repeat(message)

    def _do_unreachable(self, command: Command) -> None:
        self.world.unreachable(*(self._member(node_id) for node_id in command.link))

    def _do_cut(self, command: Command) -> None:
        source, target = (self._member(int(command.words[key])) for key in ("source", "target"))
        self.world.cut(source, target)
        if command.words["arrow"] == "-":
            self.world.cut(target, source)

    def _do_isolate(self, command: Command) -> None:
        self.world.isolate(*self._nodes(command))

    def _do_heal(self, command: Command) -> None:
        self.world.heal()

    # --- disks -----------------------------------------------------------------------------------------------------

    def _do_flush(self, command: Command) -> None:
        batches = self._options(command, batches=None)["batches"]
        for node_id in self._nodes(command):
            if not self.world.members[node_id].pending and command.words["nodes"] != "all":
                raise ValueError(f"node {node_id} has nothing to write")
            self.world.flush(node_id, batches)

    def _do_crash(self, command: Command) -> None:
        options = self._options(command, survive=0, applied=None)
        member = self.world.members[self._member(command.node)]
        if not member.up:
            raise ValueError(f"node {command.node} is down already")
        pending = [f"#{batch.sequence}" for batch in member.pending]
        survive = options["survive"] or 0
        if survive > len(pending):
            raise ValueError(f"only {len(pending)} writes are under way")
        self.world.crash(command.node, survive, options["applied"])
        self._open.pop(command.node, None)
        line = f"{command.node} crashes"
        if pending[:survive]:
            line += f", {' '.join(pending[:survive])} on the disk"
        if pending[survive:]:
            line += f", {' '.join(pending[survive:])} lost"
        self._say(line)

    def _do_restart(self, command: Command) -> None:
        if self.world.members[self._member(command.node)].up:
            raise ValueError(f"node {command.node} is up")
        self.world.restart(command.node)
        self._say(self._state(command.node))

    def _do_hang(self, command: Command) -> None:
        self._hung.add(self._member(command.node))

    def _do_wake(self, command: Command) -> None:
        if command.node not in self._hung:
            raise ValueError(f"the disk of node {command.node} does not hang")
        self._hung.remove(command.node)

    def _do_stabilize(self, command: Command) -> None:
        self._settle(self._nodes(command))

    def _do_run(self, command: Command) -> None:
        nodes = self._nodes(command)
        for _ in range(int(command.words.get("times", "1"))):
            for node_id in nodes:
                if self.world.members[node_id].up:
                    self.world.tick(node_id, entropy=node_id)
            self._settle(nodes)

    def _settle(self, nodes: Sequence[NodeId]) -> None:
        """``World.settle``, except that disks which hang write nothing."""
        deliveries = 0
        busy = True
        while busy:
            busy = False
            for node_id in nodes:
                member = self.world.members[node_id]
                if member.up and member.pending and node_id not in self._hung:
                    self.world.flush(node_id)
                    busy = True
            for (source, target), link in self.world.links.items():
                if not link or source not in nodes or target not in nodes or (source, target) in self.world.cuts:
                    continue
                busy = True
                deliveries += len(link)
                if deliveries > STORM_LIMIT:
                    raise Violation("quiescence", f"{deliveries} messages and no end: {link[:3]}")
                if self.world.members[target].up:
                    self.world.deliver_all(source, target)
                else:
                    link.clear()

    # --- looking ---------------------------------------------------------------------------------------------------

    def _state(self, node_id: NodeId) -> str:
        member = self.world.members[node_id]
        if not member.up:
            disk = words.hard_state(member.disk_hard_state)
            return f"{node_id} down, disk {disk} log {words.terms(member.disk_entries)}"
        core = member.core
        vote = f" vote {core.voted_for}" if core.voted_for else ""
        base = core.log.base
        after = f"after {base.index}/{base.term} " if base.index else ""
        log = core.log.slice(base.index + 1, core.log.last_index)
        stable = f" durable {core.log.stable}" if core.log.stable != core.log.last_index else ""
        return (
            f"{node_id} is {words.office(core)}{vote} commit {core.commit_index} applied {core.released_index} "
            f"log {after}{words.terms(log)}{stable}"
        )

    def _do_show(self, command: Command) -> None:
        show: Callable[[NodeId], list[str]] = getattr(self, f"_show_{command.words['what']}")
        for node_id in self._nodes(command):
            for line in show(node_id):
                self._say(line)

    def _show_state(self, node_id: NodeId) -> list[str]:
        return [self._state(node_id)]

    def _show_log(self, node_id: NodeId) -> list[str]:
        member = self.world.members[node_id]
        log = (
            member.core.log.slice(member.core.log.base.index + 1, member.core.log.last_index)
            if member.up
            else tuple(member.disk_entries)
        )
        return [f"{node_id} log " + " ".join(words.entry(entry, self._name) for entry in log)]

    def _show_progress(self, node_id: NodeId) -> list[str]:
        core = self.world.core(node_id)
        return [
            f"{node_id} of {peer}: {progress.statistics().state} match {progress.match} next {progress.next}"
            for peer, progress in sorted(core.progress.items())
        ] or [f"{node_id} leads nobody"]

    def _show_configuration(self, node_id: NodeId) -> list[str]:
        core = self.world.core(node_id)
        return [f"{node_id} goes by {words.configuration(core.configuration)} of entry {core.configuration_index}"]

    def _show_links(self, node_id: NodeId) -> list[str]:
        return [
            words.message(message, self._name)
            for (source, _), link in self.world.links.items()
            if source == node_id
            for message in link
        ]

    def _show_disk(self, node_id: NodeId) -> list[str]:
        member = self.world.members[node_id]
        log = words.entries(member.disk_entries, self._name)
        lines = [f"{node_id} disk {words.hard_state(member.disk_hard_state)} {log}"]
        return lines + [f"  under way #{batch.sequence}: {words.batch(batch, self._name)}" for batch in member.pending]

    def _do_expect(self, command: Command) -> None:
        claim = command.words["claim"]
        said = claim.split()
        if claim == "no leader":
            holds = self.world.leader() is None
        elif said[:2] == ["same", "logs"]:
            cores = [self.world.core(self._member(int(word))) for word in said[2:]]
            cores = cores or [member.core for member in self.world.members.values()]
            begin = max(core.log.base.index for core in cores)  # what all of them still have
            logs = [core.log.slice(begin + 1, core.log.last_index) for core in cores]
            holds = all(log == logs[0] for log in logs)
        elif said[0].isdigit() and said[1] == "log":
            core = self.world.core(self._member(int(said[0])))
            holds = [entry.term for entry in core.log.slice(core.log.base.index + 1, core.log.last_index)] == [
                int(t) for t in said[2:]
            ]
        elif said[0].isdigit() and said[1] == "goes":
            core = self.world.core(self._member(int(said[0])))
            holds = words.configuration(core.configuration) == claim.partition(" by ")[2]
        elif said[0].isdigit():
            core = self.world.core(self._member(int(said[0])))
            holds = core.role == said[1] and (len(said) < 3 or said[2] == f"t{core.term}")
        else:
            holds = self._holds(claim)
        if not holds:
            raise Violation("expect", f"not so: {claim}{self.world.describe()}")

    def _holds(self, claim: str) -> bool:
        """What is said of payloads and reads."""
        *names, what = claim.split()
        tokens = {self._token(name) for name in expand(" ".join(names))}
        if what in ("read", "unread"):
            return tokens <= set(self.world.released) if what == "read" else not tokens & set(self.world.released)
        if what in ("done", "refused"):
            return tokens <= set(self.world.completed if what == "done" else self.world.refused)
        committed = {int(entry.payload.rstrip(b".") or b"0") for entry in self.world.committed if not entry.kind}
        return tokens <= committed if what == "committed" else not tokens & committed


def difference(trace: Trace, text: str, core_class: type[Core] = Core) -> str:
    """How the file differs from what a run gives, as a unified diff; empty when it does not."""
    new = Runner(trace, core_class).text()
    return "\n".join(
        difflib.unified_diff(
            text.splitlines(), new.splitlines(), f"{trace.path.name} (file)", f"{trace.path.name} (run)", lineterm=""
        )
    )
