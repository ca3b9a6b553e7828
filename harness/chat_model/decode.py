"""From what was recorded to what the specification speaks of: requests become commands, answers become replies.

Theory of operation
-------------------
A recorded operation carries ``(f, request)`` and, if it was answered, ``reply``: JSON objects, ids as decimal strings.
Here they become the NamedTuples of ``spec.chat``, ids as integers. Nothing is guessed: a missing or misshapen value
raises ``HistoryError`` naming the operation and the field, because a verdict on a misread history is worth nothing.
A reply that is well-formed but not one that its request can have (a ``read`` answered by ``posted``) is no damage: it
is decoded, and the specification refuses it.

Messages are decoded once: the same message is seen by many reads, and sharing one value makes comparing it cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from linearizability import UNKNOWN, HistoryError, Operation
from spec import chat as spec

_ADVICE = "Restore the file, or record the run again: `telegraft harness run` writes histories of this shape"


@dataclass(frozen=True, slots=True)
class Call:
    """One operation in the words of the specification. ``reply`` is None if the outcome, or the answer, is unknown."""

    operation: Operation
    command: spec.Command
    reply: spec.Reply | None

    @property
    def index(self) -> int:
        return self.operation.index

    @property
    def is_query(self) -> bool:
        return isinstance(self.command, spec.ReadMessages | spec.ListMembers | spec.ListChats)


class _Fields:
    """A JSON object read field by field; every complaint names the operation, the part and the field."""

    def __init__(self, operation: Operation, part: str, value: Any) -> None:
        self.operation = operation
        self.part = part
        if not isinstance(value, Mapping):
            raise self.damaged(f"is no object but {value!r}")
        self.value: Mapping[str, Any] = value

    def damaged(self, what: str) -> HistoryError:
        op = self.operation
        return HistoryError(f"operation {op.index} of process {op.process}: {self.part} {what}", advice=_ADVICE)

    def get(self, field: str) -> Any:
        try:
            return self.value[field]
        except KeyError:
            raise self.damaged(f"has no field {field!r}") from None

    def text(self, field: str) -> str:
        value = self.get(field)
        if not isinstance(value, str):
            raise self.damaged(f"field {field!r} is no string but {value!r}")
        return value

    def number(self, field: str) -> int:
        value = self.get(field)
        if type(value) is not int or value < 0:
            raise self.damaged(f"field {field!r} is no count but {value!r}")
        return value

    def id(self, field: str) -> int:
        return self.id_from(field, self.get(field))

    def id_from(self, field: str, value: Any) -> int:
        if not isinstance(value, str) or not (value.isascii() and value.isdigit()):
            raise self.damaged(f"field {field!r} is no id (a string of decimal digits) but {value!r}")
        return int(value)

    def items(self, field: str) -> list[Any]:
        value = self.get(field)
        if not isinstance(value, list | tuple):
            raise self.damaged(f"field {field!r} is no list but {value!r}")
        return list(value)


_REQUESTS: Mapping[str, Callable[[_Fields], spec.Command]] = {
    "create_user": lambda v: spec.CreateUser(v.text("txn_id"), v.text("username")),
    "create_chat": lambda v: spec.CreateChat(v.id("actor"), v.text("txn_id"), v.text("name")),
    "join": lambda v: spec.Join(v.id("actor"), v.id("chat"), v.text("txn_id")),
    "leave": lambda v: spec.Leave(v.id("actor"), v.id("chat"), v.text("txn_id")),
    "send": lambda v: spec.Send(v.id("actor"), v.id("chat"), v.text("txn_id"), v.text("text")),
    "read": lambda v: spec.ReadMessages(v.id("actor"), v.id("chat"), v.number("after"), v.number("limit")),
    "list_members": lambda v: spec.ListMembers(v.id("actor"), v.id("chat")),
    "list_chats": lambda v: spec.ListChats(v.id("actor")),
}

NAMES: Mapping[type, str] = {
    spec.CreateUser: "create_user",
    spec.CreateChat: "create_chat",
    spec.Join: "join",
    spec.Leave: "leave",
    spec.Send: "send",
    spec.ReadMessages: "read",
    spec.ListMembers: "list_members",
    spec.ListChats: "list_chats",
}
"""How a history calls each command."""


class Decoder:
    """Decodes the operations of one history."""

    def __init__(self) -> None:
        self._messages: dict[str, tuple[Mapping[str, Any], spec.Message]] = {}

    def call(self, operation: Operation) -> Call:
        """One operation as ``Call``. Raises ``HistoryError`` naming the operation and the field at fault."""
        given = operation.input
        if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[0], str):
            raise HistoryError(
                f"operation {operation.index} of process {operation.process}: its input is no pair of name and request "
                f"but {given!r}",
                advice=_ADVICE,
            )
        f, request = given
        make = _REQUESTS.get(f)
        if make is None:
            raise HistoryError(
                f"operation {operation.index} of process {operation.process}: no chat operation is called {f!r}",
                advice=f"The model chat knows {', '.join(_REQUESTS)}; another system needs its own model",
            )
        command = make(_Fields(operation, f"the request of {f}", request))
        if operation.output is UNKNOWN:
            return Call(operation, command, None)
        return Call(operation, command, self._reply(operation, f, operation.output))

    def _reply(self, operation: Operation, f: str, value: Any) -> spec.Reply:
        reply = _Fields(operation, f"the reply to {f}", value)
        if "type" not in reply.value and "reply" in reply.value:
            reply = _Fields(operation, f"the reply to {f}", reply.value["reply"])
        kind, as_of = reply.text("type"), reply.number("as_of")
        if kind == "posted":
            return spec.Posted(reply.number("seq"), reply.id("message_id"), as_of)
        if kind == "messages":
            return spec.Messages(tuple(self._message(operation, f, item) for item in reply.items("items")), as_of)
        if kind == "unchanged":
            return spec.Unchanged(as_of)
        if kind == "members":
            return spec.Members(tuple(reply.id_from("user_ids", u) for u in reply.items("user_ids")), as_of)
        if kind == "chats":
            items = (_Fields(operation, f"an item of the reply to {f}", item) for item in reply.items("items"))
            return spec.Chats(
                tuple(spec.ChatSummary(i.id("chat_id"), i.text("name"), i.number("as_of")) for i in items), as_of
            )
        if kind == "user_created":
            return spec.UserCreated(reply.id("user_id"), as_of)
        if kind == "chat_created":
            return spec.ChatCreated(reply.id("chat_id"), as_of)
        if kind == "rejected":
            reason = reply.text("reason")
            if reason not in spec.REASONS:
                raise reply.damaged(f"field 'reason' is none of {', '.join(spec.REASONS)} but {reason!r}")
            return spec.Rejected(reason, as_of)
        raise reply.damaged(f"field 'type' names no reply: {kind!r}")

    def _message(self, operation: Operation, f: str, value: Any) -> spec.Message:
        name = value.get("message_id") if isinstance(value, Mapping) else None
        seen = self._messages.get(name) if isinstance(name, str) else None
        if seen is not None and seen[0] == value:
            return seen[1]
        item = _Fields(operation, f"a message in the reply to {f}", value)
        message = spec.Message(
            item.number("seq"),
            item.id("message_id"),
            item.text("kind"),
            item.id("author"),
            item.text("txn_id"),
            item.text("text"),
        )
        self._messages[item.text("message_id")] = (item.value, message)
        return message
