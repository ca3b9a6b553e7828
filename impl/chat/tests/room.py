"""The chat room's modules as they are, or built anew with a bug planted in one of them.

A mutant is a replacement of text that must be there exactly once, so that one that no longer fits the code fails
loudly instead of testing nothing. Commands, ids and entries stay the real ones.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from inspect import getsource
from types import ModuleType
from typing import Any

MODULES = ("database", "logical_state", "snapshot_format", "snapshot", "state_machine", "rebuild", "verify")
"""In the order in which they import each other."""


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    module: str
    old: str
    new: str
    check: str  # a function of ``snapshot_checks``


class Room:
    """The names of all modules of ``MODULES``, as attributes."""

    def __init__(self, mutant: Mutant | None = None) -> None:
        built: dict[str, ModuleType] = {}
        for name in MODULES:
            real = import_module(f"impl.chat.{name}")
            built[name] = real if mutant is None else _rebuilt(name, getsource(real), mutant, built)
        for module in built.values():
            if mutant is not None:
                del sys.modules[module.__name__]
        self.modules = built

    def __getattr__(self, name: str) -> Any:
        for module in reversed(self.modules.values()):
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)


def _rebuilt(name: str, text: str, mutant: Mutant, built: dict[str, ModuleType]) -> ModuleType:
    if name == mutant.module:
        if text.count(mutant.old) != 1:
            raise ValueError(f"mutant {mutant.name}: its text is {text.count(mutant.old)} times in {name}.py, not once")
        text = text.replace(mutant.old, mutant.new)
    for earlier, module in built.items():
        text = text.replace(f"from impl.chat.{earlier} import", f"from {module.__name__} import")
    made = ModuleType(f"impl.chat.tests.mutated_{mutant.name.replace('-', '_')}_{name}")
    sys.modules[made.__name__] = made
    exec(compile(text, made.__name__, "exec"), made.__dict__)
    return made
