"""Claims: what one answered operation says about one log, when nothing else is known.

Theory of operation
-------------------
A chat is an append-only log, and so is the directory (its entries are the users, in the order of their creation). The
state of a log is a function of its length, and nearly every reply tells that length. So each operation makes a claim
of four parts:

* a *window*: at its instant the log had at most ``most`` entries, and afterwards it has at least ``least``. A read
  with ``as_of = n`` says (n, n); a send acknowledged at ``seq = p`` says (p - 1, p). The answer to a *repeated*
  transaction may be the first answer given again, any time later: it says only that the log had come as far as that
  answer (no ``most``).
* entries that it *shows*: position and content;
* *facts* about members: "user u was a member when the log had n entries". Whoever may read at length n is a member
  there; an entry ``join`` says non-member before and member after it; and so on. Facts are about lengths, not about
  instants: they hold for a repeated answer too.
* a *flaw*, if the reply is one that its request can never have, whatever the state.

A transaction is called repeated if another operation of the history, whatever its outcome, has the same scope (actor,
chat, transaction id): only then can an answer be an old one. This is why claims are made from a whole history, while
any subset of them may be judged.
"""

from __future__ import annotations

from typing import NamedTuple

from harness.chat_model.decode import NAMES, Call
from spec import chat as spec

DIRECTORY = -1
"""The key of the directory among the logs; chats have their ids, which are not negative."""

REFUSALS: dict[type, frozenset[str]] = {
    spec.CreateUser: frozenset({"username-taken", "transaction-reused"}),
    spec.CreateChat: frozenset({"unknown-user", "transaction-reused"}),
    spec.Join: frozenset({"unknown-user", "unknown-chat", "transaction-reused"}),
    spec.Leave: frozenset({"unknown-user", "unknown-chat", "transaction-reused"}),
    spec.Send: frozenset({"unknown-user", "unknown-chat", "not-a-member", "transaction-reused"}),
    spec.ReadMessages: frozenset({"unknown-user", "unknown-chat", "not-a-member"}),
    spec.ListMembers: frozenset({"unknown-user", "unknown-chat", "not-a-member"}),
    spec.ListChats: frozenset({"unknown-user"}),
}
"""The reasons for which ``spec.chat`` may refuse each command."""

REPLIES: dict[type, tuple[type, ...]] = {
    spec.CreateUser: (spec.UserCreated,),
    spec.CreateChat: (spec.ChatCreated,),
    spec.Join: (spec.Posted, spec.Unchanged),
    spec.Leave: (spec.Posted, spec.Unchanged),
    spec.Send: (spec.Posted,),
    spec.ReadMessages: (spec.Messages,),
    spec.ListMembers: (spec.Members,),
    spec.ListChats: (spec.Chats,),
}
"""The replies, besides a refusal, that ``spec.chat`` may give to each command."""


class Flaw(NamedTuple):
    """Why a reply is impossible by itself: a class of anomaly and a sentence about the operation."""

    anomaly: str
    words: str


class Fact(NamedTuple):
    """``user`` was (or was not) a member when the chat had ``length`` messages."""

    user: int
    length: int
    member: bool


class Claim(NamedTuple):
    """What an operation says about one log; see the module's theory of operation. ``most`` None: no upper bound."""

    most: int | None = None
    least: int = 0
    shows: tuple[spec.Message, ...] = ()
    facts: tuple[Fact, ...] = ()
    all_members: frozenset[int] | None = None  # every other user was no member at length ``least``
    flaw: Flaw | None = None


NOTHING = Claim()
"""The claim of an operation of unknown outcome of which no trace was seen."""


def chat_entry(call: Call, seq: int, message_id: int) -> spec.Message:
    """The message that a writing command on a chat leaves in its log at ``seq``."""
    command = call.command
    if isinstance(command, spec.CreateChat):
        return spec.Message(seq, message_id, "create", command.actor, command.txn_id, command.name)
    if isinstance(command, spec.Join):
        return spec.Message(seq, message_id, "join", command.actor, command.txn_id, "")
    if isinstance(command, spec.Leave):
        return spec.Message(seq, message_id, "leave", command.actor, command.txn_id, "")
    assert isinstance(command, spec.Send)
    return spec.Message(seq, message_id, "text", command.actor, command.txn_id, command.text)


def user_entry(position: int, user_id: int, command: spec.CreateUser) -> spec.Message:
    """A user as the entry of the directory at ``position``, in the shape of a message."""
    return spec.Message(position, user_id, "user", 0, command.txn_id, command.username)


def facts_shown(message: spec.Message) -> tuple[Fact, ...]:
    """What an entry of a chat says about its author's membership before and after it."""
    if message.kind == "text":
        return (Fact(message.author, message.seq - 1, True),)
    if message.kind == "join":
        return (Fact(message.author, message.seq - 1, False), Fact(message.author, message.seq, True))
    if message.kind == "leave":
        return (Fact(message.author, message.seq - 1, True), Fact(message.author, message.seq, False))
    return (Fact(message.author, message.seq, True),)


def claim_about(call: Call, log: int, repeated: bool) -> Claim:
    """What ``call``, which was answered, says about the log ``log`` (a chat's id, or ``DIRECTORY``)."""
    command, reply = call.command, call.reply
    assert reply is not None
    flaw = flaw_of(command, reply, repeated)
    if flaw is not None:
        return Claim(flaw=flaw)
    if log == DIRECTORY:
        return _about_directory(command, reply, repeated)
    if isinstance(command, spec.ListChats):
        return _listed(command, reply, log)
    if isinstance(reply, spec.ChatCreated):
        return Claim(None if repeated else 0, 1, (chat_entry(call, 1, reply.chat_id),))
    if isinstance(reply, spec.Posted):
        return Claim(None if repeated else reply.seq - 1, reply.seq, (chat_entry(call, reply.seq, reply.message_id),))

    length = reply.as_of
    if isinstance(reply, spec.Messages):
        assert isinstance(command, spec.ReadMessages)
        return Claim(length, length, reply.items, (Fact(command.actor, length, True),))
    if isinstance(reply, spec.Members):
        members = frozenset(reply.user_ids)
        return Claim(length, length, facts=tuple(Fact(u, length, True) for u in reply.user_ids), all_members=members)
    assert not isinstance(command, spec.CreateUser)
    facts: tuple[Fact, ...] = ()
    if isinstance(reply, spec.Unchanged):
        facts = (Fact(command.actor, length, isinstance(command, spec.Join)),)
    elif isinstance(reply, spec.Rejected) and reply.reason == "not-a-member":
        facts = (Fact(command.actor, length, False),)
    # A refusal for reuse is never kept as an answer: it is always fresh.
    old = repeated and not call.is_query and not is_reuse(reply)
    return Claim(None if old else length, length, facts=facts)


def _about_directory(command: spec.Command, reply: spec.Reply, repeated: bool) -> Claim:
    if isinstance(reply, spec.UserCreated):
        assert isinstance(command, spec.CreateUser)
        entry = user_entry(reply.as_of, reply.user_id, command)
        return Claim(None if repeated else reply.as_of - 1, reply.as_of, (entry,))
    if isinstance(command, spec.ListChats) or (
        isinstance(command, spec.CreateUser | spec.CreateChat) and isinstance(reply, spec.Rejected)
    ):
        old = repeated and not is_reuse(reply)
        return Claim(None if old else reply.as_of, reply.as_of)
    return NOTHING


def _listed(command: spec.ListChats, reply: spec.Reply, log: int) -> Claim:
    if isinstance(reply, spec.Chats):
        for item in reply.items:
            if item.chat_id == log:
                return Claim(item.as_of, item.as_of, facts=(Fact(command.actor, item.as_of, True),))
    return NOTHING


def is_reuse(reply: spec.Reply | None) -> bool:
    return isinstance(reply, spec.Rejected) and reply.reason == "transaction-reused"


def flaw_of(command: spec.Command, reply: spec.Reply, repeated: bool) -> Flaw | None:
    """Why no state whatsoever lets ``command`` have ``reply``, or None."""
    name = NAMES[type(command)]
    if isinstance(reply, spec.Rejected):
        return _flaw_of_refusal(command, reply, repeated)
    if not isinstance(reply, REPLIES[type(command)]):
        return Flaw("impossible-reply", f"a {name} cannot be answered by {type(reply).__name__}")
    if isinstance(reply, spec.Posted) and (reply.seq < 2 or reply.as_of != reply.seq):
        return Flaw(
            "impossible-reply",
            f"message {reply.seq} was acknowledged as of {reply.as_of}: a message is the last one when it is posted, "
            "and message 1 is the creation",
        )
    if isinstance(reply, spec.ChatCreated) and reply.as_of != 1:
        return Flaw("impossible-reply", f"a new chat has 1 message, not {reply.as_of}")
    if isinstance(reply, spec.Unchanged | spec.UserCreated | spec.Members) and reply.as_of < 1:
        return Flaw("impossible-reply", "as of 0 there is nothing that could be answered like this")
    if isinstance(reply, spec.Messages):
        assert isinstance(command, spec.ReadMessages)
        return _flaw_of_messages(command, reply)
    if isinstance(reply, spec.Members):
        assert isinstance(command, spec.ListMembers)
        if list(reply.user_ids) != sorted(set(reply.user_ids)) or command.actor not in reply.user_ids:
            return Flaw("impossible-reply", "the members are not in ascending order, each once, with the asker")
    if isinstance(reply, spec.Chats):
        ids = [item.chat_id for item in reply.items]
        if ids != sorted(set(ids)) or any(item.as_of < 1 for item in reply.items):
            return Flaw("impossible-reply", "the chats are not in ascending order, each once, with a message at least")
    return None


def _flaw_of_refusal(command: spec.Command, reply: spec.Rejected, repeated: bool) -> Flaw | None:
    name = NAMES[type(command)]
    if reply.reason not in REFUSALS[type(command)]:
        return Flaw("wrong-rejection", f"a {name} is never refused with {reply.reason}")
    if reply.reason == "transaction-reused" and not repeated:
        return Flaw("wrong-rejection", "it was refused with transaction-reused, yet nobody else used its transaction")
    if (reply.reason == "unknown-chat" and reply.as_of > 0) or (
        reply.reason in ("not-a-member", "username-taken") and reply.as_of < 1
    ):
        return Flaw("wrong-rejection", f"{reply.reason} cannot be decided as of {reply.as_of}")
    return None


def _flaw_of_messages(command: spec.ReadMessages, reply: spec.Messages) -> Flaw | None:
    seqs = [m.seq for m in reply.items]
    first = command.after + 1
    wanted = min(command.limit, max(reply.as_of - command.after, 0))
    if reply.as_of < 1 or len(seqs) > wanted:
        return Flaw(
            "impossible-reply",
            f"{len(seqs)} messages after {command.after}, limit {command.limit}, as of {reply.as_of}: too many",
        )
    if seqs != list(range(first, first + wanted)):
        missing = next(s for s in range(first, first + wanted) if s not in seqs) if len(seqs) < wanted else 0
        what = f"message {missing} is missing" if missing else f"the order is {seqs}"
        return Flaw("gap", f"asked for {command.limit} messages after {command.after}, as of {reply.as_of}: {what}")
    for message in reply.items:
        if (message.seq == 1) != (message.kind == "create") or message.kind not in ("create", "join", "leave", "text"):
            return Flaw("impossible-reply", f"message {message.seq} cannot be of kind {message.kind!r}")
    return None
