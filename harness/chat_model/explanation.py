"""Explanations: classes of anomaly, and reasons in words with times.

Theory of operation
-------------------
A core of assertions is judged again: if the nogood that it makes has a class and words, these are its explanation. If
instead the order in time is broken, what the two operations are decides the class, and the words say what the earlier
one had told, when it returned, and how much later the other one was called that knew less.

A core of plain requests (violations that only the search finds: a hole that nobody could fill, an answer that no
first answer explains) is named by its operations, and its class is that of the last answer.

Times are seconds from the start of the history's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.chat_model.assertions import Assertion, Contradiction, contradiction
from harness.chat_model.claims import DIRECTORY, chat_entry
from harness.chat_model.decode import NAMES, Call, Decoder
from harness.chat_model.evidence import content
from harness.chat_model.sequential import Existence, Request
from linearizability import History, Operation, Outcome, Result, Verdict
from spec import chat as spec

ANOMALIES: Mapping[str, str] = {
    "stale-read": "an answer knew less than had been acknowledged before it was asked for",
    "time-travel": "an answer knew less than another one that had been given before it was asked for",
    "read-from-the-future": "something was visible before anybody had asked for it",
    "order-inverted": "an operation stands in the log behind one that was called only after it had returned",
    "order-across-chats": "ids of two logs show an order that contradicts time",
    "torn-read": "one answer about several logs fits no single instant",
    "lost-write": "an acknowledged entry was replaced",
    "diverged": "two operations saw different entries at one position",
    "duplicate": "one transaction was carried out twice",
    "duplicate-id": "one id was given out twice",
    "ids-out-of-order": "ids do not grow with the log",
    "gap": "an answer leaves out entries that it must show",
    "phantom-message": "an entry is there that nobody can have asked for",
    "refused-yet-done": "an operation was refused, or changed nothing, and its effect is visible",
    "answer-changed": "one transaction got two different answers",
    "wrong-rejection": "an operation was refused for a reason that did not hold",
    "wrong-membership": "membership changed without a join or a leave",
    "impossible-reply": "a reply that its request can never have",
    "unknown-actor": "a user acted whom nobody can have created",
    "unexplained": "no order of the operations explains an answer",
}
"""The classes of anomaly, each in words."""

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

CORE_SIZE_NAMED = 8
"""A sentence names at most so many operations; a longer one is not read."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a history is invalid.

    ``operations`` as recorded, in the order of their calls, they cannot all be true; ``failed`` are operations that
    certainly did not happen although an entry among those looks like theirs; ``is_minimal`` tells whether it was shown
    that none of ``operations`` can be left out.
    """

    operations: tuple[Operation, ...]
    failed: tuple[Operation, ...]
    anomaly: str
    reason: str
    is_minimal: bool


def explain(history: History, result: Result) -> Explanation | None:
    """The explanation of an invalid result of checking ``history``; None if it is not invalid."""
    if result.verdict is not Verdict.INVALID:
        return None
    recorded = {op.index: op for op in history.operations}
    core = result.core or tuple(op for op in [result.offending] if op is not None)
    failed = _failed_authors(core, history.failed)
    words = result.reason
    for op in failed:
        words += f"; {NAMES[type(Decoder().call(op).command)]} #{op.index} asked for it and certainly failed"
    return Explanation(
        tuple(recorded[op.index] for op in core),
        failed,
        result.anomaly or anomaly(core),
        words,
        result.core_is_minimal,
    )


def _failed_authors(core: Sequence[Operation], failed: Sequence[Operation]) -> tuple[Operation, ...]:
    """The failed operations that asked for a phantom of this core."""
    shown = {
        content(entry)
        for op in core
        if isinstance(op.input, Assertion)
        for nogood in op.input.nogoods
        if nogood.anomaly == "phantom-message"
        for statement in nogood.statements & op.input.statements
        if (entry := getattr(statement, "entry", None)) is not None
    }
    if not shown:
        return ()
    found = []
    for op in failed:
        call = Decoder().call(Operation(op.index, op.process, op.call, None, op.input, outcome=Outcome.UNKNOWN))
        if call.is_query or isinstance(call.command, spec.CreateUser):
            continue
        if content(chat_entry(call, 0, 0)) in shown:
            found.append(op)
    return tuple(found)


# --- of a core ---------------------------------------------------------------------------------------------------


def anomaly(core: Sequence[Operation]) -> str:
    """The class of the violation that these operations show: a key of ``ANOMALIES``."""
    found = _contradiction(core)
    if found is not None:
        return found.nogood.anomaly if found.nogood is not None else _anomaly_in_time(found)
    if any(isinstance(op.input, Existence) for op in core):
        return "unknown-actor"
    if core and isinstance(core[-1].output, spec.Rejected):
        return "wrong-rejection"
    return "unexplained"


def reason(core: Sequence[Operation]) -> str | None:
    """Why these operations cannot all be true, in one or two sentences; None for an empty core."""
    if not core:
        return None
    found = _contradiction(core)
    if found is None:
        if len(core) > CORE_SIZE_NAMED:
            return None
        named = "; ".join(describe(op) for op in core)
        return f"no order of the operations in {_subject(core[0])} explains: {named}"
    subject = found.assertions[0].subject
    if found.nogood is not None:
        named = "; ".join(describe(op) for op in core)
        return f"{found.nogood.anomaly} in {subject}: {found.nogood.words}. Shown by {named}"
    assert found.earlier is not None
    assert found.later is not None
    return f"{_anomaly_in_time(found)} in {subject}: {_words_in_time(found.earlier, found.later)}"


def describe(operation: Operation) -> str:
    """One operation as a partition holds it, in words: what, who, when, and what it was told."""
    call: Call = operation.input.call
    op = call.operation
    began, ended = seconds(op.call), "never answered" if op.ret is None else f"answered at {seconds(op.ret)}"
    actor = getattr(call.command, "actor", None)
    who = f" of user {actor}" if actor is not None else ""
    return f"{name(call)}{who} (called at {began}, {ended}: {told(call)})"


def name(call: Call) -> str:
    """An operation as reports name it."""
    return f"{NAMES[type(call.command)]} #{call.index}"


def told(call: Call) -> str:
    """What an operation was told, in a few words."""
    reply = call.reply
    if reply is None:
        return "outcome unknown"
    if isinstance(reply, spec.Posted):
        return f"seq {reply.seq}, id {reply.message_id}"
    if isinstance(reply, spec.Messages):
        shown = f"messages {reply.items[0].seq} to {reply.items[-1].seq}" if reply.items else "no messages"
        return f"{shown} as of {reply.as_of}"
    if isinstance(reply, spec.Members):
        return f"{len(reply.user_ids)} members as of {reply.as_of}"
    if isinstance(reply, spec.Chats):
        return f"{len(reply.items)} chats as of {reply.as_of} users"
    if isinstance(reply, spec.Rejected):
        return f"rejected, {reply.reason}, as of {reply.as_of}"
    if isinstance(reply, spec.UserCreated):
        return f"user {reply.user_id}, number {reply.as_of}"
    if isinstance(reply, spec.ChatCreated):
        return f"chat {reply.chat_id}"
    return f"nothing changed as of {reply.as_of}"


def seconds(time_ns: int) -> str:
    return f"{time_ns / NS_PER_S:.3f} s"


def _contradiction(core: Sequence[Operation]) -> Contradiction | None:
    asserted = [op.input for op in core if isinstance(op.input, Assertion)]
    return contradiction(asserted) if asserted and len(asserted) == len(core) else None


def _subject(operation: Operation) -> str:
    if isinstance(operation.input, Request) and operation.input.evidence.key != DIRECTORY:
        return f"chat {operation.input.evidence.key}"
    return "the directory"


def _leaves_entry(assertion: Assertion) -> bool:
    return isinstance(assertion.call.reply, spec.Posted | spec.ChatCreated | spec.UserCreated)


def _anomaly_in_time(found: Contradiction) -> str:
    assert found.earlier is not None
    assert found.later is not None
    if _leaves_entry(found.later):
        return "order-inverted" if _leaves_entry(found.earlier) else "read-from-the-future"
    return "stale-read" if _leaves_entry(found.earlier) else "time-travel"


def _words_in_time(earlier: Assertion, later: Assertion) -> str:
    first, then = earlier.call.operation, later.call.operation
    assert first.ret is not None
    assert later.claim.most is not None
    noun = "user" if earlier.subject == "the directory" else "message"
    late_ms = (then.call - first.ret) / NS_PER_MS
    if _leaves_entry(earlier):
        known = f"{name(earlier.call)} ({noun} {earlier.claim.least}) was acknowledged at {seconds(first.ret)}"
    else:
        known = f"{name(earlier.call)} had seen {noun} {earlier.claim.least} when it returned at {seconds(first.ret)}"
    if _leaves_entry(later):
        place = f"which became {noun} {later.claim.least}"
        return f"{known}; {name(later.call)}, {place}, began only at {seconds(then.call)}, {late_ms:.3f} ms later"
    if isinstance(later.call.reply, spec.Chats) and later.claim.least == 0:
        saw = "did not list the chat"
    elif isinstance(later.call.reply, spec.Rejected):
        saw = f"was rejected ({later.call.reply.reason}) as of {noun} {later.claim.most}"
    else:
        saw = f"saw {later.subject} only up to {noun} {later.claim.most}"
    return f"{known}; {name(later.call)}, which began at {seconds(then.call)}, {saw}: {late_ms:.3f} ms stale"
