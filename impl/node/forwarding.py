"""Requests on their way to the node that leads, over the peers' own links, and what comes back.

Theory of operation
-------------------
A request is bytes of a *kind*; each kind has a handler (``Serve``) on the node that leads. The three outcomes cross the
link as they are: done, certainly not done, unknown; and a fourth, *overtaken*: the leader lost its office before it
knew, ask the next one. A reply names the run of the process that asked, so that one that comes back to a later run is
nobody's.

A link that breaks, or another leader, overtakes what was sent to the old one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import trio

from impl.chat.service import NotDone, OutcomeUnknown
from impl.network.wire import BadFrame, Forward, ForwardReply, WireMessage
from impl.node.slots import Overtaken, Slots, Tokens
from impl.raft.events import Token
from impl.raft.messages import NodeId

Serve: TypeAlias = Callable[[bytes, float], Awaitable[bytes]]
"""Carries out a request by a deadline (trio's time). Raises ``NotDone``, ``OutcomeUnknown``, ``Overtaken``, and
``ValueError`` or ``msgspec.MsgspecError`` for bytes that are no request of this release."""


@contextmanager
def readable(source: NodeId) -> Iterator[None]:
    """An answer that this release cannot read leaves the outcome unknown: the request may have been carried out."""
    try:
        yield
    except (msgspec.MsgspecError, RecursionError) as error:
        raise OutcomeUnknown(f"the reply of node {source} is of another release: {error}") from error


@dataclass(frozen=True, slots=True)
class ForwardingStatistics:
    """Counters since the start of the process."""

    forwarded: int  # requests sent on to a leader
    served: int  # requests of other nodes carried out here
    waiting: int  # for their answers, now


class Forwarding:
    """Both ends of it."""

    def __init__(
        self, node_id: NodeId, run_id: str, tokens: Tokens, send: Callable[[WireMessage], bool], group: int = 0
    ) -> None:
        self._node_id = node_id
        self._run_id = run_id
        self._group = group
        self._send = send
        self._slots: Slots[bytes] = Slots(tokens)
        self._asked: dict[Token, NodeId] = {}
        self._forwarded = self._served = 0

    # --- the end that asks -------------------------------------------------------------------------------------------

    async def ask(self, leader: NodeId, kind: int, request: bytes, deadline: float) -> bytes:
        """Have the leader carry out a request. Raises ``NotDone``, ``OutcomeUnknown`` or ``Overtaken``."""
        self._forwarded += 1
        with self._slots.open() as slot:
            self._asked[slot.token] = leader
            try:
                message = Forward(
                    group=self._group,
                    source=self._node_id,
                    target=leader,
                    run_id=self._run_id,
                    request=slot.token,
                    kind=kind,
                    body=request,
                    timeout_ms=max(int((deadline - trio.current_time()) * 1000), 1),
                )
                if not self._send(message):
                    raise NotDone("no-leader", f"node {self._node_id} has no connection to the leader, node {leader}")
                with trio.move_on_at(deadline):
                    return await slot.wait()
            finally:
                del self._asked[slot.token]
        raise OutcomeUnknown(f"the leader, node {leader}, has not answered in time")

    def finish(self, message: ForwardReply) -> None:
        """The answer to something that was asked; dropped where nobody waits for it."""
        if message.run_id != self._run_id:
            return
        outcome: bytes | Exception
        match message.outcome:
            case "ok":
                outcome = message.reply
            case "not-done":
                outcome = NotDone(message.reason, message.detail)
            case "overtaken":
                outcome = Overtaken()
            case _:
                outcome = OutcomeUnknown(message.detail)
        self._slots.put(message.request, outcome)

    def lost(self, peer: NodeId) -> None:
        """Something sent to this peer may have been lost."""
        for token, asked in self._asked.items():
            if asked == peer:
                self._slots.put(token, Overtaken())

    def overtake(self) -> None:
        """There is another leader, or none."""
        for slot in self._slots:
            slot.put(Overtaken())

    # --- the end that is asked ---------------------------------------------------------------------------------------

    async def serve(self, message: Forward, handlers: Mapping[int, Serve]) -> None:
        """Carry out another node's request, and answer it."""
        self._served += 1
        try:
            deadline = trio.current_time() + message.timeout_ms / 1000
            if message.kind not in handlers:
                raise ValueError(f"a request of kind {message.kind} is of another release")
            reply = await handlers[message.kind](message.body, deadline)
        except NotDone as error:
            self.refuse(message, error)
        except OutcomeUnknown as error:
            self._reply(message, "unknown", detail=error.detail)
        except Overtaken:
            self._reply(message, "overtaken")
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self.refuse(message, NotDone("bad-request", str(error)))
        else:
            self._reply(message, "ok", reply=reply)

    def refuse(self, message: Forward, reason: NotDone) -> None:
        self._reply(message, "not-done", reason=reason.reason, detail=reason.detail)

    def _reply(self, message: Forward, outcome: str, *, reply: bytes = b"", reason: str = "", detail: str = "") -> None:
        answer = ForwardReply(
            group=message.group,
            source=self._node_id,
            target=message.source,
            run_id=message.run_id,
            request=message.request,
            outcome=outcome,
            reply=reply,
            reason=reason,
            detail=detail,
        )
        try:
            self._send(answer)
        except BadFrame as error:  # one reply that does not fit a frame must not end the node
            self._send(
                msgspec.structs.replace(
                    answer, outcome="unknown", reply=b"", detail=f"the reply cannot be sent: {error}"
                )
            )

    def statistics(self) -> ForwardingStatistics:
        return ForwardingStatistics(self._forwarded, self._served, len(self._slots))
