"""What an operation asked and what it was answered, in words.

Theory of operation
-------------------
The drawing of a contradiction, the tooltips and the search all use the same two sentences per operation, made here
and nowhere else. Ids are eighteen digits long and tell a reader nothing, so users and chats appear under the names
they were created with: ``Names`` learns them from the replies that gave out the ids. Two chats may share a name, and
an id may have been given out in a reply that was lost; then the id's last digits stand in.

The words know the chat's operations. Any other operation, from a history of another system, is shown as its name and
its value: the page is less fluent then, and no less complete.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from harness.report.data import Operation, Outcome
from harness.report.text import plural, shortened, visible

CHAT_KINDS = ("create_user", "create_chat", "join", "leave", "send", "read", "list_members", "list_chats")
"""The order in which kinds of operations appear in tables and legends."""

TEXT_COLUMNS = 200
"""How much of one text is shown and searched: enough to know it again, and a page of 100,000 texts stays loadable."""

TAIL_DIGITS = 6
"""How many of an id's last digits tell it from the others of a run: ids of one run share their leading digits."""


_MENTIONED = re.compile(r"\b(chat|user) (\d+)\b")


class Names:
    """Readable names for the ids of users and chats in one run."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.users: dict[str, str] = {}
        self.chats: dict[str, str] = {}
        for op in operations:
            if op.outcome is not Outcome.OK or op.reply is None:
                continue
            if op.reply.get("type") == "user_created":
                self.users.setdefault(str(op.reply.get("user_id")), _text(op.request.get("username")))
            elif op.reply.get("type") == "chat_created":
                self.chats.setdefault(str(op.reply.get("chat_id")), _text(op.request.get("name")))
            elif op.reply.get("type") == "chats":
                for item in _items(op.reply):
                    self.chats.setdefault(str(item.get("chat_id")), _text(item.get("name")))
        self._shared = {name for name, times in Counter(self.chats.values()).items() if times > 1}

    def user(self, user_id: object) -> str:
        return self.users.get(str(user_id)) or f"user {_tail(user_id)}"

    def chat(self, chat_id: object) -> str:
        name = self.chats.get(str(chat_id))
        if not name:
            return f"chat {_tail(chat_id)}"
        return f"#{name} ({_tail(chat_id)})" if name in self._shared else f"#{name}"

    def put_into(self, text: str) -> str:
        """``text`` with ``chat <id>`` and ``user <id>`` under their names, where those are known."""

        def named(match: re.Match[str]) -> str:
            known = self.chats if match[1] == "chat" else self.users
            return (self.chat if match[1] == "chat" else self.user)(match[2]) if known.get(match[2]) else match[0]

        return _MENTIONED.sub(named, text)


def asked(op: Operation, names: Names) -> str:
    """What the client asked for: ``alice sends “hello” to #general``."""
    request = op.request
    actor = names.user(request.get("actor"))
    chat = names.chat(request.get("chat"))
    match op.kind:
        case "create_user":
            return f"create user “{_text(request.get('username'))}”"
        case "create_chat":
            return f"{actor} creates chat “{_text(request.get('name'))}”"
        case "join":
            return f"{actor} joins {chat}"
        case "leave":
            return f"{actor} leaves {chat}"
        case "send":
            return f"{actor} sends “{_text(request.get('text'))}” to {chat}"
        case "read":
            return f"{actor} reads {chat} after {request.get('after')}, at most {request.get('limit')}"
        case "list_members":
            return f"{actor} lists the members of {chat}"
        case "list_chats":
            return f"{actor} lists their chats"
        case _:
            return visible(shortened(f"{op.kind} {_json(request)}", TEXT_COLUMNS))


def answered(op: Operation, names: Names) -> str:
    """What the client was answered: ``message 17``, ``rejected: not-a-member (at 5)``, ``not done: no-leader``."""
    if op.outcome is Outcome.FAIL:
        return "not done: " + _why(op)
    if op.outcome is Outcome.UNKNOWN:
        return "outcome unknown: " + (_why(op) if op.ret_ns is not None else "no answer before the history ends")
    reply = op.reply or {}
    words = _REPLIES.get(str(reply.get("type")))
    return words(reply, names) if words else visible(shortened(_json(reply), TEXT_COLUMNS))


def _why(op: Operation) -> str:
    return _text(
        f"{op.error}, {op.detail}" if op.error and op.detail else op.error or op.detail or "no reason recorded"
    )


def _messages(reply: Mapping[str, Any], names: Names) -> str:
    seqs = [item.get("seq") for item in _items(reply)]
    if not seqs:
        return f"nothing (log at {reply.get('as_of')})"
    span = f"message {seqs[0]}" if len(seqs) == 1 else f"messages {seqs[0]}–{seqs[-1]}"
    return f"{span} (log at {reply.get('as_of')})"


_REPLIES: Mapping[str, Callable[[Mapping[str, Any], Names], str]] = {
    "user_created": lambda reply, names: f"created as user {reply.get('user_id')}",
    "chat_created": lambda reply, names: f"created as chat {reply.get('chat_id')}",
    "posted": lambda reply, names: f"message {reply.get('seq')}",
    "unchanged": lambda reply, names: f"already so (log at {reply.get('as_of')})",
    "messages": _messages,
    "members": lambda reply, names: f"{plural(len(_list(reply, 'user_ids')), 'member')} (log at {reply.get('as_of')})",
    "chats": lambda reply, names: f"{plural(len(_list(reply, 'items')), 'chat')} (directory at {reply.get('as_of')})",
    "rejected": lambda reply, names: f"rejected: {_text(reply.get('reason'))} (log at {reply.get('as_of')})",
}


def _text(value: object) -> str:
    return visible(shortened(str(value), TEXT_COLUMNS))


def _tail(value: object) -> str:
    digits = str(value)
    return visible(digits if len(digits) <= TAIL_DIGITS else "…" + digits[-TAIL_DIGITS:])


def _list(reply: Mapping[str, Any], key: str) -> list[Any]:
    value = reply.get(key)
    return value if isinstance(value, list) else []


def _items(reply: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [item for item in _list(reply, "items") if isinstance(item, dict)]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)
