"""Histories of the chat service, drawn from a seed: ``spec.chat`` itself, seen by concurrent clients.

Theory of operation
-------------------
Virtual clients call operations at random instants. Each takes effect by ``spec.chat.apply`` on one whole state, at a
random instant between its call and its return, so what is recorded is linearizable by construction. Some calls lose
their reply: their outcome is unknown, and they may have taken effect at once, take effect much later, or never. Some
transactions are used again, by the same or another client, with the same body or another one.

``wire`` and ``unwire`` translate between the specification's values and recorded JSON, independently of the model
under test.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field, replace
from typing import Any

from linearizability import UNKNOWN, Operation, Outcome
from spec import chat as spec

NS_PER_MS = 1_000_000
STRANGER = 999_999
"""A user id, and a chat id, that nobody was ever given."""


@dataclass(frozen=True)
class Mix:
    """What clients do. Probabilities; ``weights`` by kind of operation."""

    clients: int = 5
    operations: int = 60
    chats: int = 2
    users: int = 3
    unknown: float = 0.05
    repeat: float = 0.08
    other_body: float = 0.3  # of the repeated ones
    stranger: float = 0.03
    late: float = 0.3  # of the unknown ones that take effect
    weights: tuple[tuple[str, float], ...] = (
        ("send", 6),
        ("read", 5),
        ("join", 1.5),
        ("leave", 1),
        ("list_members", 1),
        ("list_chats", 1),
        ("create_user", 0.4),
        ("create_chat", 0.4),
    )
    last_reads: bool = True


WIDE = Mix()
TINY = Mix(clients=3, operations=4, chats=1, users=2, unknown=0.25, repeat=0.25, stranger=0.08, last_reads=False)


@dataclass
class _World:
    """What clients have learnt."""

    users: list[int] = field(default_factory=list)
    chats: list[int] = field(default_factory=list)
    written: list[spec.Write] = field(default_factory=list)


class Simulator:
    """One history from one seed."""

    def __init__(self, seed: int, mix: Mix = WIDE) -> None:
        self.random = random.Random(seed)
        self.mix = mix
        self.state = spec.initial()
        self.world = _World()
        self.operations: list[Operation] = []
        self.names = 0

    def run(self) -> list[Operation]:
        """The operations, in the order of their calls."""
        now = 0
        for _ in range(self.mix.users):
            now = self._alone(now, spec.CreateUser(self._txn(), f"user{self.names}"))
        for _ in range(self.mix.chats):
            now = self._alone(now, spec.CreateChat(self.world.users[0], self._txn(), f"chat{self.names}"))
        now = self._crowd(now)
        if self.mix.last_reads:
            for chat in list(self.world.chats):
                for user in self.world.users:
                    now = self._alone(now, spec.ReadMessages(user, chat, 0, 10_000))
        return sorted(self.operations, key=lambda op: (op.call, op.index))

    def _alone(self, now: int, command: spec.Command) -> int:
        reply = self._apply(now, command)
        self._record(0, now, now + NS_PER_MS // 2, command, reply)
        return now + NS_PER_MS

    def _crowd(self, start: int) -> int:
        """All clients at once, each one operation after the other."""
        draw = self.random
        queue: list[tuple[int, int, str, int]] = []  # time, tie, what, key
        pending: dict[int, tuple[int, int, spec.Command, str]] = {}
        replies: dict[int, spec.Reply] = {}
        started = ties = 0
        now = start
        process = 0

        def push(time: int, what: str, key: int) -> None:
            nonlocal ties
            ties += 1
            heapq.heappush(queue, (time, ties, what, key))

        for client in range(self.mix.clients):
            push(start + draw.randrange(3 * NS_PER_MS), "call", client)
        while queue:
            now, _, what, key = heapq.heappop(queue)
            if what == "call":
                if started == self.mix.operations:
                    continue
                started += 1
                process = key
                command = self._command()
                fate = "ok"
                if not is_query(command) and draw.random() < self.mix.unknown:
                    fate = draw.choice(["never", "now", "late"])
                number = started
                pending[number] = (process, now, command, fate)
                if fate == "late":
                    push(now + draw.randrange(60 * NS_PER_MS), "effect", number)
                elif fate != "never":
                    push(now + draw.randrange(2 * NS_PER_MS), "effect", number)
                if fate != "ok":
                    self._record(process, now, None, command, None)
                    push(now + 2 * NS_PER_MS, "call", process + self.mix.clients)
            elif what == "effect":
                process, called, command, fate = pending[key]
                replies[key] = self._apply(now, command)
                if fate == "ok":
                    push(now + draw.randrange(2 * NS_PER_MS), "return", key)
            else:
                process, called, command, fate = pending[key]
                self._record(process, called, now, command, replies[key])
                push(now + draw.randrange(2 * NS_PER_MS), "call", process)
        return now + NS_PER_MS

    def _apply(self, now: int, command: spec.Command) -> spec.Reply:
        if not is_query(command):
            jitter_ms = self.random.choice([0, 0, 0, -2])
            stamp = (max(1, 1000 + now // NS_PER_MS + jitter_ms)) << spec.TIME_SHIFT
            command = command._replace(proposed_id=stamp)  # type: ignore[call-arg]
        self.state, reply = spec.apply(self.state, command)
        return reply

    def _record(
        self, process: int, call: int, ret: int | None, command: spec.Command, reply: spec.Reply | None
    ) -> None:
        outcome = Outcome.UNKNOWN if ret is None else Outcome.OK
        output = UNKNOWN if reply is None else wire_reply(reply)
        self.operations.append(
            Operation(len(self.operations), process, call, ret, wire_command(command), output, outcome)
        )
        if isinstance(reply, spec.UserCreated) and reply.user_id not in self.world.users:
            self.world.users.append(reply.user_id)
        if isinstance(reply, spec.ChatCreated) and reply.chat_id not in self.world.chats:
            self.world.chats.append(reply.chat_id)

    def _txn(self) -> str:
        self.names += 1
        return f"t{self.names}"

    def _command(self) -> spec.Command:
        draw, mix, world = self.random, self.mix, self.world
        if world.written and draw.random() < mix.repeat:
            again = draw.choice(world.written)
            if draw.random() < mix.other_body:
                if isinstance(again, spec.Send):
                    return again._replace(text=f"other {self._txn()}")
                if isinstance(again, spec.CreateChat):
                    return again._replace(name=f"other {self._txn()}")
            return again
        actor = STRANGER if draw.random() < mix.stranger else draw.choice(world.users)
        chat = STRANGER if draw.random() < mix.stranger else draw.choice(world.chats)
        kinds, weights = zip(*mix.weights, strict=True)
        kind = draw.choices(kinds, weights)[0]
        command: spec.Command
        if kind == "send":
            command = spec.Send(actor, chat, self._txn(), f"text {self.names}")
        elif kind == "join":
            command = spec.Join(actor, chat, self._txn())
        elif kind == "leave":
            command = spec.Leave(actor, chat, self._txn())
        elif kind == "create_user":
            command = spec.CreateUser(self._txn(), f"user{draw.randrange(self.names)}")
        elif kind == "create_chat":
            command = spec.CreateChat(actor, self._txn(), f"chat{self.names}")
        elif kind == "read":
            return spec.ReadMessages(actor, chat, draw.choice([0, 0, 1, 3]), draw.choice([0, 1, 3, 10_000]))
        elif kind == "list_members":
            return spec.ListMembers(actor, chat)
        else:
            return spec.ListChats(actor)
        world.written.append(command)
        return command


def simulate(seed: int, mix: Mix = WIDE) -> list[Operation]:
    """A linearizable history."""
    return Simulator(seed, mix).run()


def is_query(command: spec.Command) -> bool:
    return isinstance(command, spec.ReadMessages | spec.ListMembers | spec.ListChats)


# --- records -----------------------------------------------------------------------------------------------------

_NAMES = {
    "CreateUser": "create_user",
    "CreateChat": "create_chat",
    "Join": "join",
    "Leave": "leave",
    "Send": "send",
    "ReadMessages": "read",
    "ListMembers": "list_members",
    "ListChats": "list_chats",
}


def wire_command(command: spec.Command) -> tuple[str, dict[str, Any]]:
    value = command._asdict()
    value.pop("proposed_id", None)
    for field_, key in (("actor", "actor"), ("chat_id", "chat")):
        if field_ in value:
            value[key] = str(value.pop(field_))
    return _NAMES[type(command).__name__], value


def wire_reply(reply: spec.Reply) -> dict[str, Any]:
    if isinstance(reply, spec.UserCreated):
        return {"type": "user_created", "user_id": str(reply.user_id), "as_of": reply.as_of}
    if isinstance(reply, spec.ChatCreated):
        return {"type": "chat_created", "chat_id": str(reply.chat_id), "as_of": reply.as_of}
    if isinstance(reply, spec.Posted):
        return {"type": "posted", "seq": reply.seq, "message_id": str(reply.message_id), "as_of": reply.as_of}
    if isinstance(reply, spec.Unchanged):
        return {"type": "unchanged", "as_of": reply.as_of}
    if isinstance(reply, spec.Messages):
        items = [m._asdict() | {"message_id": str(m.message_id), "author": str(m.author)} for m in reply.items]
        return {"type": "messages", "items": items, "as_of": reply.as_of}
    if isinstance(reply, spec.Members):
        return {"type": "members", "user_ids": [str(u) for u in reply.user_ids], "as_of": reply.as_of}
    if isinstance(reply, spec.Chats):
        return {
            "type": "chats",
            "items": [c._asdict() | {"chat_id": str(c.chat_id)} for c in reply.items],
            "as_of": reply.as_of,
        }
    return {"type": "rejected", "reason": reply.reason, "as_of": reply.as_of}


def unwire_command(recorded: tuple[str, dict[str, Any]]) -> spec.Command:
    f, v = recorded
    number = {k: int(v[k]) for k in ("actor", "chat") if k in v}
    if f == "create_user":
        return spec.CreateUser(v["txn_id"], v["username"])
    if f == "create_chat":
        return spec.CreateChat(number["actor"], v["txn_id"], v["name"])
    if f == "join":
        return spec.Join(number["actor"], number["chat"], v["txn_id"])
    if f == "leave":
        return spec.Leave(number["actor"], number["chat"], v["txn_id"])
    if f == "send":
        return spec.Send(number["actor"], number["chat"], v["txn_id"], v["text"])
    if f == "read":
        return spec.ReadMessages(number["actor"], number["chat"], v["after"], v["limit"])
    if f == "list_members":
        return spec.ListMembers(number["actor"], number["chat"])
    return spec.ListChats(number["actor"])


# --- changes -----------------------------------------------------------------------------------------------------


def changed(op: Operation, **fields: Any) -> Operation:
    """The operation with other fields in its reply."""
    return replace(op, output={**op.output, **fields})


def perturbed(operations: list[Operation], draw: random.Random, *, replies: int = 1, times: int = 0) -> list[Operation]:
    """The history with some replies falsified and some intervals drawn anew."""
    result = list(operations)
    for _ in range(times):
        at = draw.randrange(len(result))
        op = result[at]
        end = max(o.ret or o.call for o in result)
        call = draw.randrange(end + 1)
        result[at] = replace(op, call=call, ret=None if op.ret is None else draw.randrange(call, end + 2))
    for _ in range(replies):
        answered = [i for i, op in enumerate(result) if op.ret is not None]
        if not answered:
            break
        at = draw.choice(answered)
        result[at] = replace(result[at], output=_falsified(result[at].output, draw))
    return sorted(result, key=lambda op: (op.call, op.index))


def _falsified(reply: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    choices: list[dict[str, Any]] = [{**reply, "as_of": max(0, reply["as_of"] + draw.choice([-1, 1]))}]
    kind = reply["type"]
    if kind == "posted":
        step = draw.choice([-1, 1])
        choices += [
            {**reply, "seq": max(0, reply["seq"] + step), "as_of": max(0, reply["as_of"] + step)},
            {**reply, "message_id": str(max(1, int(reply["message_id"]) + draw.choice([-1, 1]) * (1 << 21)))},
            {"type": "unchanged", "as_of": max(0, reply["as_of"] + draw.choice([-1, 0]))},
            {"type": "rejected", "reason": draw.choice(spec.REASONS), "as_of": max(0, reply["as_of"] - 1)},
        ]
    elif kind == "unchanged":
        choices += [
            {"type": "posted", "seq": reply["as_of"] + 1, "message_id": str(1 << 50), "as_of": reply["as_of"] + 1},
            {"type": "rejected", "reason": draw.choice(spec.REASONS), "as_of": reply["as_of"]},
        ]
    elif kind == "messages" and reply["items"]:
        items = reply["items"]
        at = draw.randrange(len(items))
        other = {**items[at], draw.choice(["text", "txn_id"]): draw.choice(["t1", "t4", "t5", "text 5", "x"])}
        choices += [
            {**reply, "items": items[:at] + items[at + 1 :]},
            {**reply, "items": [*items[:at], other, *items[at + 1 :]]},
            {**reply, "items": items[:-1], "as_of": max(0, reply["as_of"] - 1)},
        ]
    elif kind == "members":
        choices += [{**reply, "user_ids": reply["user_ids"][:-1]}, {**reply, "user_ids": reply["user_ids"][1:]}]
    elif kind == "chats":
        choices += [{**reply, "items": reply["items"][:-1]}]
        choices += [
            {**reply, "items": [{**i, "as_of": max(0, i["as_of"] + draw.choice([-1, 1]))} for i in reply["items"]]}
        ]
    elif kind == "rejected":
        choices += [{**reply, "reason": r} for r in spec.REASONS if r != reply["reason"]]
        choices += [{"type": "unchanged", "as_of": reply["as_of"]}]
    elif kind == "user_created":
        choices += [{**reply, "user_id": str(int(reply["user_id"]) + 1)}]
        choices += [{"type": "rejected", "reason": "username-taken", "as_of": reply["as_of"]}]
    elif kind == "chat_created":
        choices += [{"type": "rejected", "reason": "unknown-user", "as_of": reply["as_of"]}]
    return draw.choice(choices)
