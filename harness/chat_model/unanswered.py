"""Operations of unknown outcome: what they can have had to do with what was seen.

Theory of operation
-------------------
An operation of unknown outcome is never forced to happen, and one that would change nothing that anybody saw is left
out: the fewer there are, the fewer orders the search has to try. What can matter depends on its transaction:

* **Used once.** It matters only if it left an entry: the one it is bound to, or one that fills a hole, or a ``leave``
  beyond the last known entry (see ``evidence``). Those that nobody saw a trace of are alike if actor and kind are:
  they get equal requests, of which the checker tries only the first.
* **Used again, and somebody was told the first answer.** Then that answer is known, and with it where the first use
  took effect: an operation of another body was not the first use and changed nothing, and one of the same body either
  was, with that answer, or changed nothing.
* **Used again, and others were told only that it is used up.** Then somebody's use must have been the first, and what
  it was told is of no interest: an entry, or any refusal, at any time.
* **Used again, and nobody was told anything.** As if used once, except that two uses leave no two entries.

If answers may have expired (``Knowledge.answers_expire``), the second case says nothing and all uses are tried.
"""

from __future__ import annotations

from harness.chat_model.claims import DIRECTORY, NOTHING, claim_about
from harness.chat_model.decode import Call
from harness.chat_model.evidence import Evidence, content, entry_of
from harness.chat_model.knowledge import Knowledge
from harness.chat_model.sequential import Memory, Request
from linearizability import UNKNOWN
from spec import chat as spec

UNSEEN = "\0unseen"
"""Transaction and text of a message that nobody saw. None of our clients uses it."""


def unanswered(knowledge: Knowledge, log: int) -> list[Call]:
    """The operations of unknown outcome that may have to do with a log, in the order of their calls."""
    near = [call for call in knowledge.unanswered if knowledge.is_bound_to(call, log)]
    near += knowledge.fillers[log]
    if log == DIRECTORY:  # the directory keeps the first answers to create_chat, if they are asked for again
        near += [
            call
            for call in knowledge.unanswered
            if isinstance(call.command, spec.CreateChat) and call.index in knowledge.repeated
        ]
    return sorted(near, key=lambda call: (call.operation.call, call.index))


def request_of(knowledge: Knowledge, call: Call, log: int) -> tuple[Request, object] | None:
    """What such an operation asked of a log, and what it was told as far as that is known; None if it cannot matter."""
    if call.index not in knowledge.repeated:
        request = _used_once(knowledge, call, log)
        return None if request is None else (request, UNKNOWN)
    if not knowledge.answers_expire:
        told = knowledge.fresh_answers(call)
        if told:
            return _with_first_answer(knowledge, call, log, told[0])
        entry = _entry_of_transaction(knowledge, call, log)
        if entry is not None and content(entry) != entry_of(call):
            return None  # another use was the first
    return _used_again(knowledge, call, log), UNKNOWN


def _used_once(knowledge: Knowledge, call: Call, log: int) -> Request | None:
    evidence, command = knowledge.logs[log], call.command
    if knowledge.is_bound_to(call, log):
        position = knowledge.bound[call.index][1]
        ids = (evidence.known[position].message_id,)
        return Request(call, command, evidence, NOTHING, ids=ids, only=position, must_append=True)
    if isinstance(command, spec.CreateUser):
        if not evidence.unplaced and not evidence.holes:
            return None
        return Request(call, command, evidence, NOTHING, ids=_possible_ids(knowledge, call, log), must_append=True)
    is_leaver = isinstance(command, spec.Leave) and call.operation.call <= evidence.leavers.get(command.actor, -1)
    if not is_leaver and not _may_fill(call, evidence):
        return None
    alike: spec.Command = command
    if isinstance(command, spec.Send):
        alike = command._replace(txn_id=UNSEEN, text=UNSEEN)
    elif isinstance(command, spec.Join | spec.Leave):
        alike = command._replace(txn_id=UNSEEN)
    return Request(call, alike, evidence, NOTHING, ids=_possible_ids(knowledge, call, log), must_append=True)


def _with_first_answer(knowledge: Knowledge, call: Call, log: int, told: Call) -> tuple[Request, object] | None:
    reply = told.reply
    assert reply is not None
    if told.command != call.command:
        return None
    ids = (0,)
    if isinstance(reply, spec.Posted):
        ids = (reply.message_id,)
    elif isinstance(reply, spec.UserCreated):
        ids = (reply.user_id,)
    elif isinstance(reply, spec.ChatCreated):
        ids = (reply.chat_id,)
    request = Request(
        call,
        call.command,
        knowledge.logs[log],
        claim_about(told, log, False),
        ids=ids,
        actor_exists=(not (isinstance(reply, spec.Rejected) and reply.reason == "unknown-user"),),
        memory=Memory.ANSWER,
    )
    return request, reply


def _used_again(knowledge: Knowledge, call: Call, log: int) -> Request:
    evidence = knowledge.logs[log]
    matters_refused = knowledge.is_asked_for_again(call)
    exists = knowledge.may_exist(call)
    only: int | None = None
    ids = _possible_ids(knowledge, call, log)
    if knowledge.is_bound_to(call, log) and not knowledge.answers_expire:
        only = knowledge.bound[call.index][1]
        ids = (evidence.known[only].message_id,)
        exists = (True,)
    return Request(
        call,
        call.command,
        evidence,
        NOTHING,
        ids=ids,
        actor_exists=exists,
        memory=Memory.ANSWER if knowledge.answers_expire else Memory.USE,
        only=only,
        must_append=not matters_refused,
    )


def _possible_ids(knowledge: Knowledge, call: Call, log: int) -> tuple[int, ...]:
    """The ids that an entry of this operation may have; 0 for one that nobody knows."""
    if isinstance(call.command, spec.CreateUser):
        return (*sorted(knowledge.logs[DIRECTORY].unplaced), 0)
    if isinstance(call.command, spec.CreateChat):
        if log != DIRECTORY:
            return (log,)
        return (knowledge.bound[call.index][0], 0) if call.index in knowledge.bound else (0,)
    if knowledge.is_bound_to(call, log):
        return (knowledge.logs[log].known[knowledge.bound[call.index][1]].message_id, 0)
    return (0,)


def _entry_of_transaction(knowledge: Knowledge, call: Call, log: int) -> spec.Message | None:
    """The known entry of a log that this operation's transaction left there, whichever use of it did."""
    command = call.command
    if log == DIRECTORY or isinstance(command, spec.CreateUser | spec.CreateChat):
        return None
    assert isinstance(command, spec.Join | spec.Leave | spec.Send)
    return knowledge.entries[log].get((command.actor, command.txn_id))


def _may_fill(call: Call, evidence: Evidence) -> bool:
    """Whether an operation that left no trace was called before the last hole was certainly filled."""
    if not evidence.holes:
        return False
    reached = evidence.reached(evidence.holes[-1])
    return reached is None or call.operation.call <= reached[0]
