"""The specification behind the protocol of a caller: a service that is right by definition, for tests of workloads."""

from __future__ import annotations

from random import Random

import trio

from harness.recorder import Value
from harness.workloads.calls import Completion
from harness.workloads.service import command_of, reply_value
from impl.chat import commands
from spec import chat as spec


class SpecifiedService:
    """Carries out each call at one instant inside its interval; loses replies, and breaks the rules if told to."""

    def __init__(self, seed: int = 0, *, lost_share: float = 0.0, forgets_answers: bool = False) -> None:
        self.state = spec.initial()
        self._rng = Random(seed)
        self._lost_share = lost_share
        self._forgets_answers = forgets_answers
        self._stamp = 1 << spec.TIME_SHIFT

    def caller_of(self, lane: int) -> SpecifiedService:
        return self

    async def call(self, f: str, request: Value, *, node: int | None, timeout_s: float) -> Completion:
        await trio.sleep(self._rng.uniform(0.001, 0.02))
        reply = self.carry_out(command_of(f, request))
        await trio.sleep(self._rng.uniform(0.001, 0.02))
        if f not in {"read", "list_members", "list_chats"} and self._rng.random() < self._lost_share:
            return Completion("info", {"request": request, "error": "timeout", "detail": "the reply was lost"})
        return Completion("ok", {"request": request, "reply": reply_value(reply)})

    def carry_out(self, command: commands.Command) -> commands.Reply:
        """The specification's answer, in the types of the implementation."""
        fields = {field: getattr(command, field) for field in command.__struct_fields__}
        if "proposed_id" in fields:
            self._stamp += 1
            fields["proposed_id"] = self._stamp
        if self._forgets_answers:
            self.state = self.state._replace(answers=())
        self.state, reply = spec.apply(self.state, getattr(spec, type(command).__name__)(**fields))
        return from_spec(reply)


def from_spec(reply: spec.Reply) -> commands.Reply:
    """The same reply as the implementation's struct of the same name."""
    fields = reply._asdict()
    if isinstance(reply, spec.Messages):
        fields["items"] = tuple(commands.Message(*item) for item in reply.items)
    elif isinstance(reply, spec.Chats):
        fields["items"] = tuple(commands.ChatSummary(*item) for item in reply.items)
    made: commands.Reply = getattr(commands, type(reply).__name__)(**fields)
    return made
