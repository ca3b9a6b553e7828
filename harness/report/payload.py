"""The data that the browser draws from: one JSON object, columns instead of records.

Theory of operation
-------------------
A run of 100,000 operations has to load from disk in a moment, so each property of an operation is one array, times
are whole microseconds and differences from the operation before, and words that repeat (kinds, chats, lanes, answers)
are stored once. Messages that reads returned are interned: all distinct messages are sorted by chat and position, and
a read holds runs ``[first, count]`` into that list. Where every replica agrees a read is one run; where two reads saw
different messages at one position, both are in the list, side by side.

The layout (``operations`` arrays have one element per operation, by time of call):

    start_us, end_us  times of the first and the last record
    kinds, outcomes, chats, lanes, answers     what the numbers below point at
    operations        index, process, lane, call (difference), dur (-1: never ended), kind, outcome,
                      chat (-1: none), asked (words), answer, txn, node, attempts
    saw               operation -> runs of messages that it returned
    messages          [chat, seq, message_id, kind, author, txn_id, text]
    faults, leaders   intervals in microseconds; a fault's end is null while it never ended
    core              the operations that contradict each other
"""

from __future__ import annotations

from typing import Any

from harness.report.data import Operation, Outcome, Run
from harness.report.palette import family_slots, node_slots
from harness.report.statistics import kinds_in_order
from harness.report.text import shortened, visible
from harness.report.words import TEXT_COLUMNS, Names, answered, asked

NS_PER_US = 1000

COLUMNS = (
    "index", "process", "lane", "call", "dur", "kind", "outcome", "chat", "asked", "answer", "txn", "node", "attempts",
)  # fmt: skip

_Message = tuple[int, int, str, str, str, str, str]  # chat, seq, message_id, kind, author, txn_id, text


class _Interned:
    """Values in the order in which they were first met, each with its number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, value: str) -> int:
        return self.numbers.setdefault(value, len(self.numbers))

    def values(self) -> list[str]:
        return list(self.numbers)


def build(run: Run, names: Names) -> dict[str, Any]:
    """The object described above, made of JSON types only."""
    kinds = kinds_in_order(run)
    kind_number = {kind: number for number, kind in enumerate(kinds)}
    outcome_number = {outcome: number for number, outcome in enumerate(Outcome)}
    chats, answers = _Interned(), _Interned()
    seen: list[tuple[int, list[_Message]]] = []
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    last_us = 0
    for position, op in enumerate(run.operations):
        call_us = op.call_ns // NS_PER_US
        chat = chats(str(op.request["chat"])) if op.request.get("chat") is not None else -1
        row = {
            "index": op.index,
            "process": op.process,
            "lane": op.lane,
            "call": call_us - last_us,
            "dur": -1 if op.ret_ns is None else op.ret_ns // NS_PER_US - call_us,
            "kind": kind_number[op.kind],
            "outcome": outcome_number[op.outcome],
            "chat": chat,
            "asked": asked(op, names),
            "answer": answers(answered(op, names)),
            "txn": visible(str(op.request.get("txn_id") or "")),
            "node": op.node or 0,
            "attempts": op.attempts or 0,
        }
        for name, column in columns.items():
            column.append(row[name])
        last_us = call_us
        messages = _messages(op, chat)
        if messages:
            seen.append((position, messages))
    distinct = sorted({message for _, messages in seen for message in messages})
    number = {message: position for position, message in enumerate(distinct)}
    families = family_slots(fault.family for fault in run.faults)
    nodes = node_slots(leader.node for leader in run.leaders)
    position_of = {op.index: position for position, op in enumerate(run.operations)}
    return {
        "start_us": run.start_ns // NS_PER_US,
        "end_us": run.end_ns // NS_PER_US,
        "kinds": kinds,
        "outcomes": [outcome.value for outcome in Outcome],
        "chats": [names.chat(chat) for chat in chats.values()],
        "lanes": list(run.lanes),
        "answers": answers.values(),
        "operations": columns,
        "saw": {str(position): _runs([number[message] for message in messages]) for position, messages in seen},
        "messages": [_shown(message, names) for message in distinct],
        "faults": [
            {
                "family": visible(fault.family),
                "slot": families[fault.family],
                "kind": visible(fault.kind),
                "nodes": [visible(node) for node in fault.nodes],
                "words": visible(fault.description),
                "start": fault.start_ns // NS_PER_US,
                "end": None if fault.end_ns is None else fault.end_ns // NS_PER_US,
            }
            for fault in run.faults
        ],
        "leaders": [
            {
                "node": visible(leader.node),
                "slot": nodes[leader.node],
                "term": leader.term,
                "start": leader.start_ns // NS_PER_US,
                "end": leader.end_ns // NS_PER_US,
            }
            for leader in run.leaders
        ],
        "core": [position_of[op.index] for op in run.core],
    }


def _messages(op: Operation, chat: int) -> list[_Message]:
    """What a read returned, as recorded: the same message is in many reads, and is made presentable once."""
    if op.reply is None or op.reply.get("type") != "messages":
        return []
    return [
        (
            chat,
            item["seq"] if isinstance(item.get("seq"), int) else 0,
            str(item.get("message_id", "")),
            str(item.get("kind", "")),
            str(item.get("author", "")),
            str(item.get("txn_id", "")),
            str(item.get("text", "")),
        )
        for item in op.reply.get("items") or []
        if isinstance(item, dict)
    ]


def _shown(message: _Message, names: Names) -> list[int | str]:
    chat, seq, message_id, kind, author, txn_id, text = message
    words = shortened(text, TEXT_COLUMNS)
    return [chat, seq, visible(message_id), visible(kind), names.user(author), visible(txn_id), visible(words)]


def _runs(numbers: list[int]) -> list[list[int]]:
    """``[4, 5, 6, 9]`` -> ``[[4, 3], [9, 1]]``."""
    runs: list[list[int]] = []
    for value in numbers:
        if runs and value == runs[-1][0] + runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    return runs
