"""How a call of the client can end otherwise than with a reply.

Every error of a call carries ``attempts``, how many requests were made, and ``node``, the id of the node that the last
of them went to (0 when the client does not know it).
"""

from __future__ import annotations

from typing import Any

from impl.chat import service
from impl.chat.commands import Rejected


class NotDone(service.NotDone):
    """Certainly without effect, now and later: no attempt can have been carried out. ``reason`` as in
    ``impl.chat.service``, or one of the client's own: ``unreachable`` (no connection),
    ``connection-lost`` (queries only), ``timeout``, ``failed``."""

    def __init__(self, reason: str, detail: str, *, attempts: int, node: int) -> None:
        super().__init__(reason, detail)
        self.attempts = attempts
        self.node = node


class OutcomeUnknown(service.OutcomeUnknown):
    """At least one attempt may have been carried out, or may still be. Calling again with the same transaction id
    gives the first answer, or has the effect for the first time."""

    def __init__(self, detail: str, *, attempts: int, node: int) -> None:
        super().__init__(detail)
        self.attempts = attempts
        self.node = node


class RequestRejected(Exception):
    """The state machine refused: ``reply`` is its reply. Raised by the methods of ``Client`` that name an operation;
    ``execute`` and ``call`` return the reply instead."""

    def __init__(self, reply: Rejected, *, attempts: int, node: int) -> None:
        super().__init__(f"{reply.reason} (as of {reply.as_of})")
        self.reply = reply
        self.attempts = attempts
        self.node = node


class RequestInvalid(Exception):
    """The server refused the request itself, before any state machine saw it: sending it again is pointless.

    ``status`` is the HTTP status, ``problem`` the members of the RFC 9457 problem (empty when there was none).
    """

    def __init__(self, status: int, problem: dict[str, Any], *, attempts: int, node: int) -> None:
        super().__init__(str(problem.get("detail", f"the server answered {status} without saying why")))
        self.status = status
        self.problem = problem
        self.attempts = attempts
        self.node = node
