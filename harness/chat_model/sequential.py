"""Steps: one operation on one log, carried out by ``spec.chat.apply``.

Theory of operation
-------------------
The state of a partition is a ``spec.chat.State`` that holds one log: the directory's users, or one chat. Each step is
``spec.chat.apply`` on that state, and its reply is compared with the recorded one. Around it stands only what cannot
change any verdict:

* **The stamp.** Ids enter the specification with the command. The stamp of a step is the id that the history shows
  for the entry (the acknowledged one, or the one known of an operation of unknown outcome), and 0 if it shows none:
  the specification then gives the next id, the smallest possible.
* **The actor.** In a chat's partition users are not kept: the state is given the actor for the length of the step,
  or not, if the recorded answer is ``unknown-user``. That actors exist when they should is judged in the directory
  and across logs (``projection``).
* **Answers.** The first answer to a transaction is kept only if the history uses the transaction again. Nobody asks
  for the others, so leaving them out is invisible; it keeps the table of answers, which the specification scans, short.
  If all that anybody was told of the transaction is that it is used up, it is kept without its words.
* **Evidence.** A step that lengthens the log is refused if the new entry is not the known one, or if there is neither
  a known entry nor a hole (``evidence`` says why this is exact). And an answer that tells the length of the log is
  compared with the length before anything else, which only saves time.

States are hashed by length, greatest id, number of members and of answers, and compared in full.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from harness.chat_model.claims import DIRECTORY, Claim, user_entry
from harness.chat_model.decode import Call
from harness.chat_model.evidence import Evidence
from linearizability import UNKNOWN
from spec import chat as spec

Apply = Callable[[spec.State, spec.Command], tuple[spec.State, spec.Reply]]


class LogState:
    """A specification state that holds one log, with its hash at hand. Immutable."""

    __slots__ = ("_hash", "length", "spec")

    def __init__(self, state: spec.State, length: int) -> None:
        self.spec = state
        self.length = length
        members = len(state.chats[0].members) if state.chats else 0
        self._hash = hash((length, state.last_id, members, len(state.answers)))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, LogState) and self._hash == other._hash and self.spec == other.spec)

    def __repr__(self) -> str:
        return f"LogState({self.length} entries, greatest id {self.spec.last_id})"


NOT_TOLD = spec.Unchanged(0)
"""Stands for an answer that nobody was told: which one it was makes no difference."""

START = LogState(spec.initial(), 0)
"""Nothing exists."""


class Memory(enum.Enum):
    """What must be kept of the answer to an operation."""

    NOTHING = "nothing"  # nobody uses its transaction again
    USE = "use"  # its transaction is used again, but nobody was told this answer
    ANSWER = "answer"


class Request:
    """One operation as far as it is about one log: what the model's partitions hold as inputs.

    ``ids``         the stamps it may have had; ids of users that may have been created by an operation of unknown
                    outcome are several, mostly there is one
    ``actor_exists`` the possibilities to be tried
    ``memory``      what must be kept of its answer
    ``only``        the position that its entry is known to have, if its outcome is unknown
    ``must_append`` whether it matters only if it leaves an entry; of operations of unknown outcome
    """

    __slots__ = ("actor_exists", "call", "claim", "command", "evidence", "ids", "memory", "must_append", "only", "_key")

    def __init__(
        self,
        call: Call,
        command: spec.Command,
        evidence: Evidence,
        claim: Claim,
        *,
        ids: tuple[int, ...] = (0,),
        actor_exists: tuple[bool, ...] = (True,),
        memory: Memory = Memory.NOTHING,
        only: int | None = None,
        must_append: bool = False,
    ) -> None:
        self.call = call
        self.command = command
        self.evidence = evidence
        self.claim = claim
        self.ids = ids
        self.actor_exists = actor_exists
        self.memory = memory
        self.only = only
        self.must_append = must_append
        window = (claim.most, claim.least)
        is_known = call.reply is not None
        rest = (ids, actor_exists, memory, only, must_append, window, is_known)
        self._key: Hashable = (evidence.key, type(command), command, *rest)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Request) and self.evidence is other.evidence and self._key == other._key
        )

    def __repr__(self) -> str:
        return repr(self.command)

    @property
    def changes_nothing(self) -> bool:
        """Whether the answer says that nothing changed, and no later answer can depend on this one."""
        if self.call.is_query:
            return True
        reply = self.call.reply
        if isinstance(reply, spec.Rejected) and reply.reason == "transaction-reused":
            return True
        return isinstance(reply, spec.Rejected | spec.Unchanged) and self.memory is Memory.NOTHING


class Told:
    """A long reply as the output of an operation: compared by identity, so that nobody hashes it by its contents."""

    __slots__ = ("reply",)

    def __init__(self, reply: spec.Reply) -> None:
        self.reply = reply

    def __repr__(self) -> str:
        return repr(self.reply)


def step(request: Request, state: LogState, output: Any, apply: Apply = spec.apply) -> Iterator[LogState]:
    """The states after ``request`` was answered by ``output`` (a reply, ``Told`` or ``UNKNOWN``) in ``state``."""
    output = output.reply if isinstance(output, Told) else output
    most, least = request.claim.most, request.claim.least
    if most is not None and output is not UNKNOWN and not min(most, least) <= state.length <= most:
        return  # the answer tells at which lengths it can have been decided, and this is another one
    if request.only is not None and state.length != request.only - 1:
        return  # its entry has another place
    directory = request.evidence.key == DIRECTORY
    if request.must_append and request.only is None and not directory and state.length + 1 in request.evidence.known:
        return  # it is none of the known entries
    for exists in request.actor_exists:
        before = state.spec
        if directory and request.call.is_query:
            before = before._replace(chats=())  # the directory's part of a list of chats is its length
        elif not directory:
            actor = getattr(request.command, "actor", 0)
            before = before._replace(users=(spec.User(actor, ""),) if exists else ())
        for proposed_id in request.ids:
            after, reply = apply(before, stamped(request.command, proposed_id))
            if output is not UNKNOWN and (type(reply) is not type(output) or reply != output):
                continue
            if after is before:
                yield state
                continue
            if not directory:
                after = after._replace(users=())
            after = forgetting(request, state.spec, after)
            length = entries_in(after, directory)
            if length > entries_in(state.spec, directory):
                if is_allowed(request, after, length) and is_paid(request.evidence, after, state.length):
                    yield LogState(after, length) if directory else beyond(request.evidence, state, after, length)
            elif request.must_append:
                continue
            elif after == state.spec:
                yield state
            else:
                yield LogState(after, state.length)


def entries_in(state: spec.State, directory: bool) -> int:
    return len(state.users) if directory else sum(len(chat.messages) for chat in state.chats)


def beyond(evidence: Evidence, before: LogState, after: spec.State, length: int) -> LogState:
    """The state after an entry at ``length``. Of leaves beyond the last known entry only the members are kept.

    Nobody saw these entries, nor how many there are: so their order makes no difference, and neither must the state.
    """
    if length <= evidence.last:
        return LogState(after, length)
    (chat,) = after.chats
    chat = chat._replace(messages=chat.messages[: evidence.last])
    return LogState(after._replace(chats=(chat,), last_id=before.spec.last_id), evidence.last + 1)


def forgetting(request: Request, before: spec.State, after: spec.State) -> spec.State:
    """The state after the operation, without what nobody will ask for of the answer that it may have added."""
    if len(after.answers) <= len(before.answers) or request.memory is Memory.ANSWER:
        return after
    if request.memory is Memory.NOTHING:
        return after._replace(answers=after.answers[:-1])
    used = after.answers[-1]._replace(reply=NOT_TOLD)
    return after._replace(answers=(*after.answers[:-1], used))


def stamped(command: spec.Command, proposed_id: int) -> spec.Command:
    """The command with the id that the leader proposed; queries have none."""
    if isinstance(command, spec.ReadMessages | spec.ListMembers | spec.ListChats):
        return command
    return command._replace(proposed_id=proposed_id)


def is_allowed(request: Request, after: spec.State, position: int) -> bool:
    """Whether the evidence lets the entry that was just appended stand at ``position``."""
    evidence = request.evidence
    entry: spec.Message
    if evidence.key == DIRECTORY:
        assert isinstance(request.command, spec.CreateUser)
        entry = user_entry(position, after.users[-1].user_id, request.command)
    else:
        if len(after.chats) > 1 or after.chats[0].chat_id != evidence.key:
            return False
        entry = after.chats[0].messages[-1]
    known = evidence.known.get(position)
    if known is not None:
        return known == entry
    if request.only is not None:
        return False
    if position <= evidence.last:
        return True
    if isinstance(request.command, spec.CreateUser):
        return entry.message_id in evidence.unplaced
    return isinstance(request.command, spec.Leave) and request.command.actor in evidence.leavers


def is_paid(evidence: Evidence, after: spec.State, length: int) -> bool:
    """Whether the log may go on from ``length``: all first answers that were decided there have been given."""
    owed = evidence.owed.get(length)
    return owed is None or owed <= {answer.scope for answer in after.answers}


class Existence:
    """That a user existed, or did not yet, when an operation took effect: about the directory, and read-only."""

    __slots__ = ("call", "exists", "user")

    def __init__(self, call: Call, user: int, exists: bool) -> None:
        self.call = call
        self.user = user
        self.exists = exists

    def __repr__(self) -> str:
        return f"user {self.user} {'exists' if self.exists else 'does not exist yet'}"

    def step(self, state: LogState) -> tuple[LogState, ...]:
        return (state,) if spec.user_exists(state.spec, self.user) == self.exists else ()
