"""Knowledge: what the answers of a whole history say of each log, gathered in one pass over its operations.

Theory of operation
-------------------
Each answered operation makes a claim about every log that it speaks of (``projection`` says which these are), and the
claims about one log are its ``Evidence``. What is left are the operations of unknown outcome and the silence of lists:

* An operation of unknown outcome whose entry was shown is *bound* to it, by kind, author, transaction and text. Of
  the others each is a *filler* of its log: it may have left an entry that nobody showed. An unknown ``create_chat``
  is bound to a chat by the chat's first message, or may have made any chat whose first message nobody showed.
* A list of chats that does not show a chat matters to it only if the actor may ever have been a member. If the actor
  certainly was one from some entry on, for good, the list was made before that entry.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Hashable, Sequence

from harness.chat_model.claims import DIRECTORY, NOTHING, Claim, claim_about, is_reuse
from harness.chat_model.decode import Call
from harness.chat_model.evidence import Claimed, Evidence, content
from spec import chat as spec


class Knowledge:
    """What one history says of each log.

    ``calls``    the operations that say anything, in the order of the history; ``unanswered``: of unknown outcome
    ``scopes``   the writing ones by the scope of their transaction; ``repeated``: those that share theirs
    ``chats``    all chats that are named; ``logs``: the evidence of each log
    ``entries``  by log: the known entries by author and transaction
    ``claims``   by operation: its claims, each with its log
    ``users``    users whose creation was acknowledged, with their position in the directory
    ``existing`` by operation: its actor, and whether the operation shows that it existed or that it did not
    ``bound``    by operation of unknown outcome: the log and position of the entry that it left
    ``fillers``  by log: operations of unknown outcome that may have left an entry of which no trace was seen
    """

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.unanswered = [call for call in calls if call.reply is None]
        self.scopes: dict[Hashable, list[Call]] = {}
        for call in calls:
            if not isinstance(call.command, spec.ReadMessages | spec.ListMembers | spec.ListChats):
                self.scopes.setdefault(spec.scope_of(call.command), []).append(call)
        self.repeated: set[int] = {c.index for same in self.scopes.values() if len(same) > 1 for c in same}
        self.chats = self._chats()
        self.claims: dict[int, list[tuple[int, Claim]]] = defaultdict(list)
        self.logs: dict[int, Evidence] = {}
        self.users: dict[int, int] = {}
        self.existing: dict[int, tuple[int, bool]] = {}
        self.bound: dict[int, tuple[int, int]] = {}
        self._gather()
        self.fillers: dict[int, list[Call]] = {log: [] for log in self.logs}
        self._index_entries()
        self._bind_unknown()
        self._users()
        self._absences()
        self._debts()

    # --- what is known ---------------------------------------------------------------------------------------------

    def _chats(self) -> list[int]:
        """All chats that the history names, in the order of their ids."""
        named: set[int] = set()
        for call in self.calls:
            command, reply = call.command, call.reply
            if not isinstance(command, spec.CreateUser | spec.CreateChat | spec.ListChats):
                named.add(command.chat_id)
            if isinstance(reply, spec.ChatCreated) and isinstance(command, spec.CreateChat):
                named.add(reply.chat_id)
            if isinstance(reply, spec.Chats) and isinstance(command, spec.ListChats):
                named |= {item.chat_id for item in reply.items}
        return sorted(named)

    def _logs_of(self, call: Call) -> list[int]:
        """The logs that an answered operation speaks of, but for chats that a list of chats does not show."""
        command, reply = call.command, call.reply
        if isinstance(command, spec.CreateUser):
            return [DIRECTORY]
        if isinstance(command, spec.CreateChat):
            if not isinstance(reply, spec.ChatCreated):
                return [DIRECTORY]
            return [reply.chat_id, DIRECTORY] if call.index in self.repeated else [reply.chat_id]
        if isinstance(command, spec.ListChats):
            shown = [item.chat_id for item in reply.items] if isinstance(reply, spec.Chats) else []
            return [DIRECTORY, *dict.fromkeys(shown)]
        return [command.chat_id]

    def _gather(self) -> None:
        """Claims and evidence of every log."""
        claimed: dict[int, list[Claimed]] = defaultdict(list)
        for call in self.calls:
            if call.reply is None:
                continue
            for log in self._logs_of(call):
                claim = claim_about(call, log, call.index in self.repeated)
                self.claims[call.index].append((log, claim))
                claimed[log].append(Claimed(call, claim))
        for log in [DIRECTORY, *self.chats]:
            self.logs[log] = Evidence(log, claimed[log], len(self.calls))

    def _users(self) -> None:
        """Who exists by acknowledgement, and who acts though nobody was told of the creation."""
        directory = self.logs[DIRECTORY]
        self.users = {entry.message_id: position for position, entry in directory.known.items()}
        unplaced: set[int] = set()
        for call in self.calls:
            actor = getattr(call.command, "actor", None)
            certain = call.reply is not None or (call.index in self.bound and call.index not in self.repeated)
            if not certain or actor is None or is_reuse(call.reply):
                continue
            exists = not (isinstance(call.reply, spec.Rejected) and call.reply.reason == "unknown-user")
            if not exists and call.index in self.repeated:
                continue
            self.existing[call.index] = (actor, exists)
            if exists and actor not in self.users:
                unplaced.add(actor)
        directory.unplaced = frozenset(unplaced)
        for log, calls in self.fillers.items():
            self.fillers[log] = [c for c in calls if c.index in self.repeated or True in self.may_exist(c)]

    def _index_entries(self) -> None:
        self.entries: dict[int, dict[tuple[int, str], spec.Message]] = {
            log: {(m.author, m.txn_id): m for m in evidence.known.values() if m.kind != "create"}
            for log, evidence in self.logs.items()
        }

    def _bind_unknown(self) -> None:
        """For each writing operation of unknown outcome: its entry, or the logs in which it may have left one."""
        first_messages = {content(e.known[1]): log for log, e in self.logs.items() if log != DIRECTORY and 1 in e.known}
        headless = [log for log in self.chats if self.logs[log].is_hole(1)]
        for call in self.unanswered:
            command = call.command
            if isinstance(command, spec.CreateUser):
                key = ("user", 0, command.txn_id, command.username)
                self._bind(call, DIRECTORY, key)
            elif isinstance(command, spec.CreateChat):
                made = first_messages.get(("create", command.actor, command.txn_id, command.name))
                if made is not None:
                    self._bind(call, made, content(self.logs[made].known[1]))
                else:
                    for log in headless:
                        self.fillers[log].append(call)
            else:
                assert isinstance(command, spec.Join | spec.Leave | spec.Send)
                kind = {spec.Join: "join", spec.Leave: "leave", spec.Send: "text"}[type(command)]
                text = command.text if isinstance(command, spec.Send) else ""
                self._bind(call, command.chat_id, (kind, command.actor, command.txn_id, text))

    def _bind(self, call: Call, log: int, key: tuple[str, int, str, str]) -> None:
        position = self.logs[log].position_of.get(key)
        if position is None:
            self.fillers[log].append(call)
        else:
            self.bound[call.index] = (log, position)

    def _absences(self) -> None:
        """Lists of chats that do not show a chat: to which chats they matter, and what they say of its length."""
        candidates: dict[int, list[int]] = defaultdict(list)  # user -> chats of which it may ever be a member
        for log in self.chats:
            evidence = self.logs[log]
            people = {entry.author for entry in evidence.known.values() if entry.kind in ("create", "join")}
            for c in self.fillers[log]:
                if isinstance(c.command, spec.Join | spec.CreateChat):
                    people.add(c.command.actor)
            for user in people:
                candidates[user].append(log)
        leaves = {
            (log, c.command.actor)
            for log, calls in self.fillers.items()
            for c in calls
            if isinstance(c.command, spec.Leave)
        }
        until_ns: dict[int, dict[int, int]] = defaultdict(dict)  # chat -> actor -> the last return of such a list
        for call in self.calls:
            if not isinstance(call.command, spec.ListChats) or not isinstance(call.reply, spec.Chats):
                continue
            actor = call.command.actor
            shown = {item.chat_id for item in call.reply.items}
            for log in candidates[actor]:
                if log in shown:
                    continue
                until_ns[log][actor] = max(call.operation.ret or 0, until_ns[log].get(actor, 0))
                since = self._member_since(log, actor) if (log, actor) not in leaves else None
                claim = NOTHING if since is None else Claim(most=since - 1)
                self.claims[call.index].append((log, claim))
                self.logs[log].claimed.append(Claimed(call, claim))
        for log, actors in until_ns.items():
            earliest_ns = self.logs[log].not_last_before_ns()
            self.logs[log].leavers = {actor: ret for actor, ret in actors.items() if ret >= earliest_ns}

    def _member_since(self, log: int, user: int) -> int | None:
        """The position from which on the user certainly is a member for good, having been none before; or None."""
        evidence = self.logs[log]
        if evidence.holes:
            return None
        changes = [p for p, e in evidence.known.items() if e.author == user and e.kind in ("create", "join", "leave")]
        return changes[0] if len(changes) == 1 and evidence.known[changes[0]].kind != "leave" else None

    def _debts(self) -> None:
        """The lengths at which the first answers to repeated transactions were decided."""
        if self.answers_expire:
            return
        for call in self.calls:
            reply = call.reply
            if call.index not in self.repeated or not isinstance(reply, spec.Rejected | spec.Unchanged):
                continue
            if is_reuse(reply) or isinstance(call.command, spec.ReadMessages | spec.ListMembers | spec.ListChats):
                continue
            for log, _ in self.claims[call.index]:
                self.logs[log].owed.setdefault(reply.as_of, set()).add(spec.scope_of(call.command))

    # --- questions -------------------------------------------------------------------------------------------------

    def is_bound_to(self, call: Call, log: int) -> bool:
        return call.index in self.bound and self.bound[call.index][0] == log

    def may_exist(self, call: Call) -> tuple[bool, ...]:
        """The possibilities whether the actor of an operation of unknown outcome existed when it took effect."""
        actor = getattr(call.command, "actor", None)
        directory = self.logs[DIRECTORY]
        if actor is None:
            return (True,)
        if actor in self.users:
            reached = directory.reached(self.users[actor])
            created = reached is not None and reached[0] < call.operation.call
            return (True,) if created else (True, False)
        creators = self.fillers[DIRECTORY]  # of users of whose creation nobody was told
        return (True, False) if creators or actor in directory.unplaced else (False,)

    def fresh_answers(self, call: Call) -> list[Call]:
        """The uses of this operation's transaction that were told its first answer; all are told the same."""
        return [c for c in self._uses(call) if c.reply is not None and not is_reuse(c.reply)]

    def is_asked_for_again(self, call: Call) -> bool:
        """Whether somebody was told anything about a use of this operation's transaction."""
        return any(c.reply is not None for c in self._uses(call))

    @functools.cached_property
    def creations(self) -> dict[Hashable, list[int]]:
        """By the scope of its transaction: the chats whose first message is known to have been left by it."""
        found: dict[Hashable, list[int]] = defaultdict(list)
        for log in self.chats:
            first = self.logs[log].known.get(1)
            if first is not None and first.kind == "create":
                found[spec.scope_of(spec.CreateChat(first.author, first.txn_id, first.text))].append(log)
        return found

    def _uses(self, call: Call) -> Sequence[Call]:
        assert not isinstance(call.command, spec.ReadMessages | spec.ListMembers | spec.ListChats)
        return self.scopes[spec.scope_of(call.command)]

    @functools.cached_property
    def answers_expire(self) -> bool:
        """Whether the ids show so much log time to have passed that answers to transactions may be forgotten."""
        stamps_ms = [m.message_id >> spec.TIME_SHIFT for e in self.logs.values() for m in e.known.values()]
        return bool(stamps_ms) and max(stamps_ms) - min(stamps_ms) > spec.RETENTION_MS
