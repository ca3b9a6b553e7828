"""One operation of a client: called once, with retries inside, and ended as ok, fail or info.

A workload speaks in the vocabulary of the history: ``f`` and a request of plain values with ids as decimal strings. A
``Caller`` carries one such operation to the service and says how it ended. The service under test stands behind
``harness.workloads.service``; tests put the specification itself behind this protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.recorder import Outcome, Recorder, Value

READS = frozenset({"read", "list_members", "list_chats"})
"""Operations without effect: they end as ok or fail, never as info."""


@dataclass(frozen=True)
class Completion:
    """How an operation ended: ``value`` holds the request and the reply, or the request and the error."""

    outcome: Outcome
    value: Value

    @property
    def reply(self) -> Value:
        """The reply of an ok completion; empty for others."""
        reply: Value = self.value.get("reply", {}) if self.outcome == "ok" else {}
        return reply

    @property
    def reply_type(self) -> str:
        return str(self.reply.get("type", ""))


class Caller(Protocol):
    async def call(self, f: str, request: Value, *, node: int | None, timeout_s: float) -> Completion:
        """Carry out one operation, through ``node`` alone or through whichever answers; never raises for outcomes."""
        ...


class RecordedCaller:
    """A client's lane in the history: records each call of a ``Caller`` before it goes out and after it ended."""

    def __init__(self, caller: Caller, recorder: Recorder, process: int) -> None:
        self._caller = caller
        self._recorder = recorder
        self._process = process

    async def call(self, f: str, request: Value, *, node: int | None = None, timeout_s: float) -> Completion:
        """Like ``Caller.call``, recorded. A cancelled call stays pending in the history, which means unknown."""
        self._recorder.invoke(self._process, f, request)
        try:
            completion = await self._caller.call(f, request, node=node, timeout_s=timeout_s)
        except BaseException:
            self._process = self._recorder.abandon(self._process)
            raise
        self._process = self._recorder.complete(self._process, completion.outcome, completion.value)
        return completion
