"""Small random histories: near the border between valid and invalid, with ties and all kinds of unknown outcomes.

Theory of operation
-------------------
Operations are laid out per process on a short clock, so that instants coincide often. Then a plausible run is played:
operations take effect at random instants of their intervals, and replies are what the model says. Lastly some replies
are replaced by others that the model could have given, and some outcomes are forgotten. About half of the results are
valid.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from linearizability.history import UNKNOWN, Operation, Outcome
from linearizability.model import Model
from linearizability.models import find
from linearizability.models.cas_register import MISMATCH

VALUES = (0, 1)
KEYS = ("x", "y")


class LossyRegister(Model[int]):
    """Not deterministic: a write may be lost, and a write that asks for it doubles or clears the value."""

    name = "lossy-register"

    def init(self) -> int:
        return 0

    def step(self, state: int, input: Any, output: Any) -> Iterable[int]:
        f, value = input
        if f == "read":
            return (state,) if output is UNKNOWN or output == state else ()
        return (state, value) if f == "write" else (0, (2 * state) % 4)

    def is_read_only(self, input: Any) -> bool:
        return bool(input[0] == "read")


class Subject(NamedTuple):
    """A model, how to draw a request for it, and how to draw a reply to one."""

    model: Callable[[], Model[Any]]
    request: Callable[[random.Random], tuple[str, Any]]
    reply: Callable[[random.Random, tuple[str, Any]], Any]


def _register_request(rng: random.Random) -> tuple[str, Any]:
    return rng.choice([("read", None), ("write", rng.choice(VALUES))])


def _register_reply(rng: random.Random, request: tuple[str, Any]) -> Any:
    return rng.choice((None, *VALUES)) if request[0] == "read" else None


def _cas_request(rng: random.Random) -> tuple[str, Any]:
    pair = (rng.choice(VALUES), rng.choice(VALUES))
    return rng.choice([("read", None), ("write", rng.choice(VALUES)), ("cas", pair), ("cas", pair)])


def _cas_reply(rng: random.Random, request: tuple[str, Any]) -> Any:
    if request[0] == "cas":
        return rng.choice((request[1], MISMATCH))
    return _register_reply(rng, request)


def _kv_request(rng: random.Random) -> tuple[str, Any]:
    key, value = rng.choice(KEYS), rng.choice("ab")
    return rng.choice([("get", key), ("get", key), ("put", (key, value)), ("append", (key, value))])


def _kv_reply(rng: random.Random, request: tuple[str, Any]) -> Any:
    return rng.choice(("", "a", "b", "ab", "ba", "aa")) if request[0] == "get" else None


def _lossy_request(rng: random.Random) -> tuple[str, Any]:
    return rng.choice([("read", None), ("read", None), ("write", rng.choice((1, 3))), ("double", None)])


def _lossy_reply(rng: random.Random, request: tuple[str, Any]) -> Any:
    return rng.choice((0, 1, 2, 3)) if request[0] == "read" else None


SUBJECTS = {
    "register": Subject(lambda: find("register"), _register_request, _register_reply),
    "cas-register": Subject(lambda: find("cas-register"), _cas_request, _cas_reply),
    "kv": Subject(lambda: find("kv"), _kv_request, _kv_reply),
    "lossy-register": Subject(LossyRegister, _lossy_request, _lossy_reply),
}

FORGOTTEN = (0.1, 0.3, 0.6)
"""Of how many operations something is forgotten: some mistakes show only among many unknown outcomes."""

PLAYED = 0.7
"""How many replies are those of the run that is played."""

REPLIES_TRIED = 12
"""How often a reply is drawn before one is taken that the model does not allow."""


def draw(rng: random.Random, subject: Subject, most: int = 7) -> list[Operation]:
    """At most so many operations of at most four processes. At least one is certain to have happened."""
    operations: list[Operation] = []
    count = rng.randint(1, most)
    processes = rng.randint(1, 4)
    free_at = [rng.randint(0, 2) for _ in range(processes)]
    for index in range(count):
        process = rng.randrange(processes)
        call = free_at[process] + rng.choice((0, 0, 1, 2))
        ret = call + rng.choice((0, 1, 2, 3, 5))
        free_at[process] = ret + rng.choice((0, 1))
        operations.append(Operation(index, process, call, ret, subject.request(rng)))
    operations = _played(rng, subject, operations)
    share_forgotten = rng.choice(FORGOTTEN)
    for place in range(1, count):
        if rng.random() < share_forgotten:
            operations[place] = _forgotten(rng, operations[place])
    return operations


def _played(rng: random.Random, subject: Subject, operations: list[Operation]) -> list[Operation]:
    """The operations with the replies of one run, here and there with another one."""
    model = subject.model()
    instants = sorted(operations, key=lambda op: (rng.uniform(op.call, op.ret or op.call), op.index))
    done: dict[int, Operation] = {}
    states: dict[Hashable, Any] = {}
    for op in instants:
        answered = replace(op, output=subject.reply(rng, op.input))
        if rng.random() < PLAYED:
            for _ in range(REPLIES_TRIED):
                ((label, (projected,)),) = model.partition([answered]).items()
                nexts = list(model.step(states.get(label, model.init()), projected.input, projected.output))
                if nexts:
                    states[label] = rng.choice(nexts)
                    break
                answered = replace(op, output=subject.reply(rng, op.input))
        done[op.index] = answered
    return [done[op.index] for op in operations]


def _forgotten(rng: random.Random, op: Operation) -> Operation:
    """The operation with less known about it."""
    return rng.choice(
        (
            replace(op, ret=None, output=UNKNOWN, outcome=Outcome.UNKNOWN),
            replace(op, ret=None, output=UNKNOWN, outcome=Outcome.UNKNOWN),
            replace(op, ret=None, outcome=Outcome.UNKNOWN),
            replace(op, output=UNKNOWN, outcome=Outcome.UNKNOWN),
            replace(op, outcome=Outcome.UNKNOWN),
            replace(op, output=UNKNOWN),
        )
    )
