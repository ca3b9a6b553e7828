"""The language of the golden traces: text in, commands out, and the text again with other outputs.

Theory of operation
-------------------
A trace file is plain text, made to be read from top to bottom::

    # A title
    #
    # A paragraph that says which rule the file shows.
    #
    # from: paper 5.2
    # bugs: V1
    # rejects: vote-not-persisted

    # A remark on what comes next.
    campaign 1
    deliver 1->2
    ----
    1 tick 10
      1 is pre-candidate t0
    ...

After the header come blocks: remarks, commands, ``----``, and the output up to the next empty line. The form of a
command is one regular expression, next to the words that explain it; the page ``docs/traces.md`` is made of the same
table. What does not fit is refused with file, line, and the form that is allowed.

``Trace.text`` writes a file from its parts, so that a regenerated file differs from the old one in outputs only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SEPARATOR = "----"

FIELDS = ("from", "bugs", "rejects", "descriptive")
"""Header lines with a meaning of their own; ``descriptive`` says why no planted bug is named in ``rejects``."""


class TraceError(Exception):
    """A trace file that cannot be understood or carried out; the message names file and line."""

    def __init__(self, path: Path, line: int, detail: str) -> None:
        super().__init__(f"{path.name}:{line}: {detail}")


@dataclass(frozen=True, slots=True)
class Form:
    """How a command is written, and what it does."""

    usage: str
    pattern: str
    meaning: str


_NODES = r"(?:all|\d+(?: \d+)*)"
_LINK = r"\d+->\d+"
_PICK = r"(?: (?P<pick>all|\d+|#\d+))?"
_NAME = r"[a-z][a-z0-9-]*"
_NAMES = rf"{_NAME}(?:\.\.{_NAME})?(?: {_NAME}(?:\.\.{_NAME})?)*"
_OPTIONS = r"(?P<options>(?: [a-z-]+=[0-9]+)*)"

FORMS: dict[str, Form] = {
    "cluster": Form(
        "cluster nodes=3 [learners=1] [spare=1] [SETTING=N ...]",
        r"(?P<settings>[a-z-]+=\d+(?: [a-z-]+=\d+)*)",
        "found a group of nodes numbered from 1. Behind the voters may come learners, and spare nodes that are to join "
        "later. Once, before anything else.",
    ),
    "recover": Form(
        "recover 2 log 1 1 3 [term=4] [vote=1]",
        rf"(?P<node>\d+) log(?P<terms>(?: \d+)*){_OPTIONS}",
        "a node starts from a disk that holds a log of these terms (figures of the paper begin so).",
    ),
    "tick": Form(
        "tick 1 2|all [x5] [timeout=19]",
        rf"(?P<nodes>{_NODES})(?: x(?P<times>\d+))?{_OPTIONS}",
        "so many units of time pass at each of the nodes, in turn. An election timeout that begins is the least one, "
        "or the one that is given.",
    ),
    "wait": Form(
        "wait 2 3|all",
        rf"(?P<nodes>{_NODES})",
        "time passes at these nodes until they have missed a leader for the least election timeout; none stands yet.",
    ),
    "campaign": Form(
        "campaign 1",
        r"(?P<node>\d+)",
        "time passes at the node until it begins an election.",
    ),
    "elect": Form(
        "elect 1 [among 1 2 3]",
        r"(?P<node>\d+)(?: among (?P<nodes>\d+(?: \d+)*))?",
        "the node is elected and everything settles (among some nodes); most often said with `quietly`.",
    ),
    "win": Form(
        "win 5 with 3 4",
        r"(?P<node>\d+) with (?P<nodes>\d+(?: \d+)*)",
        "the node is elected by the votes of these; what it sends as a leader is lost. Said with `quietly`.",
    ),
    "propose": Form(
        "propose 1 x y z1..z9 [bytes=100]",
        rf"(?P<node>\d+) (?P<names>{_NAMES}){_OPTIONS}",
        "clients ask the node to replicate payloads, in one batch; each has a name, used once in the file.",
    ),
    "read": Form(
        "read 1 q r [lease]",
        rf"(?P<node>\d+) (?P<names>{_NAMES}?)(?P<lease> lease)?",
        "clients ask the node for an index at which a linearizable read may be served.",
    ),
    "deliver": Form(
        "deliver 1->2 [all|2|#2]",
        rf"(?P<link>{_LINK}){_PICK}",
        "the oldest message in flight arrives; or all that are in flight now, or the oldest two, or the second alone.",
    ),
    "drop": Form(
        "drop 1->2 [all|2|#2]",
        rf"(?P<link>{_LINK}){_PICK}",
        "messages in flight are lost.",
    ),
    "duplicate": Form(
        "duplicate 1->2 [#2]",
        rf"(?P<link>{_LINK})(?: (?P<pick>#\d+))?",
        "a copy of a message arrives, the message stays in flight.",
    ),
    "hold": Form(
        "hold 1->2 [#2] as NAME",
        rf"(?P<link>{_LINK})(?: (?P<pick>#\d+))? as (?P<name>{_NAME})",
        "take a message out of flight and keep it under a name.",
    ),
    "late": Form(
        "late NAME",
        rf"(?P<name>{_NAME})",
        "a message that is held arrives now; it may arrive again later.",
    ),
    "unreachable": Form(
        "unreachable 1->2",
        rf"(?P<link>{_LINK})",
        "the first node is told that something it sent to the second was certainly lost.",
    ),
    "cut": Form(
        "cut 1->2 | cut 1-2",
        r"(?P<source>\d+)(?P<arrow>->|-)(?P<target>\d+)",
        "what is sent from now on is lost, in one direction or both; what is in flight only waits.",
    ),
    "isolate": Form(
        "isolate 1 2",
        r"(?P<nodes>\d+(?: \d+)*)",
        "cut all links between these nodes and the others.",
    ),
    "heal": Form("heal", r"", "mend all links."),
    "flush": Form(
        "flush 1 2|all [batches=1]",
        rf"(?P<nodes>{_NODES}){_OPTIONS}",
        "writes that the disk was given become durable and are reported: all of them, or the oldest.",
    ),
    "crash": Form(
        "crash 1 [survive=1] [applied=3]",
        rf"(?P<node>\d+){_OPTIONS}",
        "the node stops; so many of its pending writes reached the disk, unreported; the state machine comes back at "
        "that index.",
    ),
    "restart": Form("restart 1", r"(?P<node>\d+)", "the node starts again from its disk."),
    "stabilize": Form(
        "stabilize [1 2 3]",
        r"(?P<nodes>(?:\d+(?: \d+)*)?)",
        "disks and links work (among some nodes) until nothing more happens. No time passes.",
    ),
    "run": Form(
        "run [1 2 3] x20",
        r"(?P<nodes>(?:\d+(?: \d+)*)?) ?x(?P<times>\d+)",
        "so many times: a tick at each of the nodes that are up, then disks and links work until nothing more happens.",
    ),
    "hang": Form("hang 1", r"(?P<node>\d+)", "the node's disk completes nothing, except by `flush`, until `wake`."),
    "wake": Form("wake 1", r"(?P<node>\d+)", "the disk works again."),
    "reconfigure": Form(
        "reconfigure 1 NAME to 1 2 4 [learners 5] [at=3]",
        rf"(?P<node>\d+) (?P<name>{_NAME}) to (?P<voters>\d+(?: \d+)*)(?: learners (?P<learners>\d+(?: \d+)*))?"
        rf"{_OPTIONS}",
        "an operator asks the node to change the group to these voters and learners, if its configuration is still "
        "that of the entry (the node's own one, unless said).",
    ),
    "transfer": Form(
        "transfer 1 NAME [to 2]",
        rf"(?P<node>\d+) (?P<name>{_NAME})(?: to (?P<target>\d+))?",
        "an operator asks the node to hand over its leadership.",
    ),
    "compact": Form(
        "compact 1 to 5 [keep=2]",
        rf"(?P<node>\d+) to (?P<index>\d+){_OPTIONS}",
        "the node has a snapshot of its state after that entry, and forgets the log up to it, but for some entries.",
    ),
    "wipe": Form("wipe 1", r"(?P<node>\d+)", "the node loses its disk and starts as a new one, in another life."),
    "disk-full": Form("disk-full 1", r"(?P<node>\d+)", "the disk has no room: writes wait, and the node knows why."),
    "disk-free": Form("disk-free 1", r"(?P<node>\d+)", "there is room again."),
    "pause": Form(
        "pause 1 x5",
        r"(?P<node>\d+) x(?P<times>\d+)",
        "the clock of the node runs on for so many ticks, and its process does not run.",
    ),
    "show": Form(
        "show state|log|progress|links|disk|configuration [1 2]",
        r"(?P<what>state|log|progress|links|disk|configuration)(?: (?P<nodes>\d+(?: \d+)*))?",
        "the nodes, their logs, what leaders know of their followers, what is in flight, what the disks hold.",
    ),
    "expect": Form(
        "expect 1 leader|follower|candidate|pre-candidate [t2] | expect no leader | expect x committed|uncommitted | "
        "expect q read|unread | expect 2 log 1 1 3 | expect same logs [1 2] | expect c done|refused | "
        "expect 1 goes by {1 2 3}",
        rf"(?P<claim>\d+ (?:leader|follower|candidate|pre-candidate)(?: t\d+)?|no leader"
        rf"|{_NAMES} (?:committed|uncommitted|read|unread|done|refused)|\d+ log(?: \d+)*|same logs(?: \d+)*"
        rf"|\d+ goes by \{{[0-9 &+*]+\}})",
        "the point of the file, said so that it cannot be regenerated away.",
    ),
}
"""By name; the pattern is that of the words after it."""

QUIETLY = "quietly"


@dataclass(frozen=True, slots=True)
class Command:
    """One line of a block, understood."""

    line: int
    text: str
    name: str
    words: Mapping[str, str]  # the named parts of the form that are there
    options: Mapping[str, int]
    quiet: bool = False

    def nodes(self, everybody: Sequence[int]) -> list[int]:
        """The nodes that are named, or everybody where none is."""
        named = self.words.get("nodes", "")
        return list(everybody) if named in ("", "all") else [int(word) for word in named.split()]

    @property
    def node(self) -> int:
        return int(self.words["node"])

    @property
    def link(self) -> tuple[int, int]:
        source, target = self.words["link"].split("->")
        return int(source), int(target)

    @property
    def names(self) -> list[str]:
        return expand(self.words["names"])


@dataclass(frozen=True, slots=True)
class Block:
    remarks: tuple[str, ...]
    commands: tuple[Command, ...]
    output: tuple[str, ...]
    line: int  # of the first command


@dataclass(frozen=True, slots=True)
class Trace:
    """One file."""

    path: Path
    title: str
    prose: tuple[str, ...]
    fields: dict[str, str]
    blocks: tuple[Block, ...] = field(repr=False)

    @property
    def bugs(self) -> tuple[str, ...]:
        return _listed(self.fields.get("bugs", ""))

    @property
    def rejects(self) -> tuple[str, ...]:
        return _listed(self.fields.get("rejects", ""))

    def text(self, outputs: Sequence[Sequence[str]] | None = None) -> str:
        """The file with these outputs, one for each block; with its own where there are none."""
        lines = [f"# {self.title}", "#", *(_remark(line) for line in self.prose), "#"]
        lines += [f"# {key}: {value}" for key, value in self.fields.items()]
        for number, block in enumerate(self.blocks):
            output = block.output if outputs is None else outputs[number]
            lines += ["", *(_remark(line) for line in block.remarks)]
            lines += [*(command.text for command in block.commands), SEPARATOR, *output]
        return "\n".join(lines) + "\n"


def expand(names: str) -> list[str]:
    """``"x y1..y3"`` -> x, y1, y2, y3."""
    result: list[str] = []
    for word in names.split():
        first, dots, last = word.partition("..")
        if not dots:
            result.append(word)
            continue
        stem, start = _numbered(first)
        other, end = _numbered(last)
        if stem != other or start is None or end is None or start > end:
            raise ValueError(f"{word!r} is no range of names: write x1..x9")
        result.extend(f"{stem}{number}" for number in range(start, end + 1))
    return result


def parse(path: Path, text: str) -> Trace:
    """Read a trace file. Raises ``TraceError`` naming file, line and what is allowed there."""
    lines = text.split("\n")
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    title, prose, fields = _header(path, lines[:end])
    blocks: list[Block] = []
    number = end
    while number < len(lines):
        if not lines[number]:
            number += 1
            continue
        start = number
        while number < len(lines) and lines[number] not in ("", SEPARATOR):
            number += 1
        if number == len(lines) or lines[number] != SEPARATOR:
            raise TraceError(path, start + 1, f"a block needs a line {SEPARATOR!r} between its commands and its output")
        stop = number
        while number < len(lines) and lines[number]:
            number += 1
        blocks.append(_block(path, lines, start, stop, number))
    if not blocks or blocks[0].commands[0].name != "cluster":
        raise TraceError(path, end + 1, f"the first command must be: {FORMS['cluster'].usage}")
    for block in blocks:
        for command in block.commands:
            if command.name == "cluster" and command is not blocks[0].commands[0]:
                raise TraceError(path, command.line, "there is one cluster in a file, the one of the first command")
    return Trace(path, title, prose, fields, tuple(blocks))


def _header(path: Path, lines: Sequence[str]) -> tuple[str, tuple[str, ...], dict[str, str]]:
    body = [line[1:].strip() for line in lines]
    if not body or not body[0]:
        raise TraceError(path, 1, "a trace begins with its title: # What the file shows")
    prose: list[str] = []
    fields: dict[str, str] = {}
    for number, line in enumerate(body[1:], start=2):
        key, colon, value = line.partition(": ")
        if colon and key in FIELDS:
            if key in fields:
                raise TraceError(path, number, f"a second {key!r}; put all of it in one line")
            fields[key] = value
        elif fields and line:
            raise TraceError(path, number, f"after the fields only fields: {', '.join(FIELDS)}; got {line!r}")
        else:
            prose.append(line)
    while prose and not prose[0]:
        prose.pop(0)
    while prose and not prose[-1]:
        prose.pop()
    if not prose:
        raise TraceError(path, 1, "after the title comes a paragraph that says what rule the file shows")
    if "from" not in fields:
        raise TraceError(path, 1, "the header needs a line '# from: ...' (the paper, the dissertation, a bug)")
    if ("rejects" in fields) == ("descriptive" in fields):
        raise TraceError(
            path,
            1,
            "the header needs either '# rejects: a, b' (planted bugs that the file finds) or '# descriptive: why'",
        )
    return body[0], tuple(prose), fields


def _block(path: Path, lines: Sequence[str], start: int, stop: int, end: int) -> Block:
    remarks = [line[1:].strip() for line in lines[start:stop] if line.startswith("#")]
    commands = [
        parse_command(path, number + 1, lines[number])
        for number in range(start, stop)
        if not lines[number].startswith("#")
    ]
    if not commands:
        raise TraceError(path, start + 1, "a block without a command")
    return Block(tuple(remarks), tuple(commands), tuple(lines[stop + 1 : end]), commands[0].line)


def parse_command(path: Path, line: int, text: str) -> Command:
    """Understand one line. Raises ``TraceError`` with the form of the command, or the list of commands."""
    if text != " ".join(text.split()):
        raise TraceError(path, line, f"{text!r}: words of a command are separated by one blank, with none around them")
    words = text.split(" ")
    quiet = words[0] == QUIETLY
    words = words[quiet:]
    form = FORMS.get(words[0]) if words else None
    if form is None:
        raise TraceError(path, line, f"{text!r}: no such command; there are: {', '.join(FORMS)}")
    match = re.fullmatch(form.pattern, " ".join(words[1:]))
    if match is None:
        raise TraceError(path, line, f"{text!r} is not of the form: {form.usage}")
    parts = {key: value.strip() for key, value in match.groupdict().items() if value is not None}
    options: dict[str, int] = {}
    for word in (parts.pop("options", "") + " " + parts.pop("settings", "")).split():
        key, _, value = word.partition("=")
        if key in options:
            raise TraceError(path, line, f"{text!r}: {key} is given twice")
        options[key] = int(value)
    if "names" in parts:
        try:
            expand(parts["names"])
        except ValueError as error:
            raise TraceError(path, line, f"{text!r}: {error}") from None
    return Command(line, text, words[0], parts, options, quiet)


def _listed(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _remark(line: str) -> str:
    return f"# {line}" if line else "#"


def _numbered(name: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.*?)(\d+)", name)
    return (match[1], int(match[2])) if match else (name, None)
