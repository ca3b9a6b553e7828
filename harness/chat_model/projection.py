"""Projection: one history of the whole service as one small history for each of its logs.

Theory of operation
-------------------
The logs are the directory (users) and the chats. Each operation goes to those it speaks of:

* ``create_user`` to the directory; everything on a chat to that chat; a ``create_chat`` to the chat that it made.
* ``list_chats`` to the directory (whose length is its ``as_of``) and to each chat of which the actor could be a
  member: listed there means "the actor is a member, and the chat is so long", not listed means "no member".
* ``create_chat`` with a repeated transaction also to the directory, which keeps its first answer; refused ones too.
* Whoever gets any answer but ``unknown-user`` exists. For users whose creation was acknowledged this is judged by
  ``across``. Users who act though nobody was told of their creation must come from a ``create_user`` of unknown
  outcome: what they do goes to the directory as ``Existence``, which tries all ways of matching the two.

Operations of unknown outcome go along by ``evidence``: bound to their entry, able to fill a hole, or dropped. Sends
that nobody saw a trace of are alike, author by author: they become one request, so that the search tries one of them
only. An unknown ``create_chat`` is bound to a chat by the first message (actor, transaction, name); one without a
trace may have made any chat whose first message nobody saw.

*What is lost.* Linearizability is local (Herlihy and Wing 1990): for operations on one log each, the history is
linearizable exactly if every projection is. Operations on several logs, and ids, which are ordered across logs, are
judged in addition by ``across``, exactly but for the few cases named there. Whatever is lost makes the check more
permissive, never less: each projected operation says less than the recorded one, so a violation found is one.

Four things are not followed, with the same effect. One ``create_chat`` of unknown outcome may be taken for the creation
of several chats whose first message nobody saw. A chat of which nobody learnt the id is not missed in lists of chats.
That the actor of an effect which nobody saw existed by then is checked only if its creation had been acknowledged by
the time of the call, or cannot have happened at all. And of the uses of a repeated transaction that was refused
because its actor was unknown, only the earliest possible instant is compared with the actor's creation.

*Limit.* Answers to transactions expire by log time, and a chat's partition knows only the log time that its own ids
show. A history in which a transaction is used again more than ``RETENTION_MS`` of log time later is beyond this model.
So is one that names chat 0, whose transactions ``spec.chat`` keeps in the same scope as those of ``create_chat``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from harness.chat_model import assertions, nogoods
from harness.chat_model.across import find_across
from harness.chat_model.assertions import Contradiction
from harness.chat_model.claims import DIRECTORY, NOTHING, Claim
from harness.chat_model.decode import Call, Decoder
from harness.chat_model.evidence import Claimed
from harness.chat_model.knowledge import Knowledge
from harness.chat_model.sequential import Existence, Memory, Request, Told
from harness.chat_model.unanswered import request_of, unanswered
from linearizability import UNKNOWN, Operation, Outcome
from spec import chat as spec


class Label(NamedTuple):
    """The name of a partition: a log, or the operations that contradict each other about it."""

    subject: str
    is_contradiction: bool = False

    def __str__(self) -> str:
        return self.subject


def partitions(history: Sequence[Operation]) -> dict[Hashable, Sequence[Operation]]:
    """One history for each log, and before them the contradiction that the rules find, if there is one.

    It comes first because it is decided at once and explains best. Raises ``HistoryError`` for an operation that is
    none of the chat service's.
    """
    knowledge = knowledge_of(history)
    parts: dict[Hashable, Sequence[Operation]] = {}
    found = find_contradiction(knowledge)
    if found is not None:
        parts[Label(found.assertions[0].subject, True)] = asserted(found)
    for log in knowledge.logs:
        operations = requests(knowledge, log)
        if operations:
            parts[Label(subject_of(log))] = operations
    return parts


def knowledge_of(history: Sequence[Operation]) -> Knowledge:
    """What a history says. A query without an answer says nothing and is left out."""
    decoder = Decoder()
    calls = [decoder.call(op) for op in history if op.outcome is not Outcome.FAIL]
    return Knowledge([call for call in calls if call.reply is not None or not call.is_query])


def subject_of(log: int) -> str:
    """A log in sentences."""
    return "the directory" if log <= DIRECTORY else f"chat {log}"


# --- contradictions ----------------------------------------------------------------------------------------------


def find_contradiction(knowledge: Knowledge) -> Contradiction | None:
    """The contradiction that could be noticed first; one between logs only if each log by itself has none."""
    found: list[Contradiction] = []
    for log, evidence in knowledge.logs.items():
        rules = nogoods.nogoods(evidence, knowledge.scopes, knowledge.fillers[log], knowledge.answers_expire)
        unanswered = (Claimed(c, NOTHING) for c in knowledge.unanswered if knowledge.is_bound_to(c, log))
        one = assertions.find(log, [*evidence.claimed, *unanswered], rules, subject_of(log))
        if one is not None:
            found.append(one)
    if found:
        return min(found, key=lambda c: c.noticed_ns)
    return find_across(knowledge, subject_of)


def asserted(found: Contradiction) -> list[Operation]:
    """The operations of a contradiction, with what they assert as input.

    One of unknown outcome among them is known to have happened, by the others: it gets the last of their returns.
    """
    last = max(
        a.call.operation.call if a.call.operation.ret is None else a.call.operation.ret for a in found.assertions
    )
    projected = []
    for assertion in found.assertions:
        op = assertion.call.operation
        ret = last if op.ret is None else op.ret
        projected.append(Operation(op.index, op.process, op.call, ret, assertion, _said(assertion.call)))
    return sorted(projected, key=lambda op: (op.call, op.index))


# --- requests ----------------------------------------------------------------------------------------------------


def requests(knowledge: Knowledge, log: int) -> list[Operation]:
    """The history of one log: every operation that speaks of it, rewritten to what it says of it."""
    evidence = knowledge.logs[log]
    projected = [_answered(knowledge, call, log, claim) for call, claim in evidence.claimed]
    if log == DIRECTORY:
        here = {op.index for op in projected}
        projected += [
            _rewritten(call, Existence(call, *knowledge.existing[call.index]), _said(call))
            for call in knowledge.calls
            if call.index not in here and knowledge.existing.get(call.index, (0, True))[0] in evidence.unplaced
        ]
    for call in unanswered(knowledge, log):
        found = request_of(knowledge, call, log)
        if found is not None:
            projected.append(_rewritten(call, *found))
    return projected


def _answered(knowledge: Knowledge, call: Call, log: int, claim: Claim) -> Operation:
    reply = call.reply
    assert reply is not None
    ids = (0,)
    if isinstance(reply, spec.Posted):
        ids = (reply.message_id,)
    elif isinstance(reply, spec.UserCreated):
        ids = (reply.user_id,)
    elif isinstance(reply, spec.ChatCreated):
        ids = (reply.chat_id,)
    elif isinstance(reply, spec.Chats) and isinstance(call.command, spec.ListChats) and claim.flaw is None:
        if log == DIRECTORY:
            reply = spec.Chats((), reply.as_of)
        else:  # the state of a chat's partition has one user, the actor: as_of is 1
            reply = spec.Chats(tuple(item for item in reply.items if item.chat_id == log), 1)
    unknown_user = isinstance(reply, spec.Rejected) and reply.reason == "unknown-user"
    request = Request(
        call,
        call.command,
        knowledge.logs[log],
        claim,
        ids=ids,
        actor_exists=(not unknown_user,),
        memory=Memory.ANSWER if call.index in knowledge.repeated else Memory.NOTHING,
    )
    return _rewritten(call, request, Told(reply) if isinstance(reply, spec.Messages) else reply)


def _rewritten(call: Call, input: Request | Existence, output: object) -> Operation:
    op = call.operation
    return Operation(op.index, op.process, op.call, op.ret, input, output, op.outcome)


def _said(call: Call) -> object:
    return UNKNOWN if call.reply is None else call.reply
