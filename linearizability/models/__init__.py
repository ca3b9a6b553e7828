"""The models by name: those in the box, and those that other packages bring.

Theory of operation
-------------------
A package makes its models known through the entry-point group ``linearizability.models``: the entry point's name is
the model's, and it loads to a callable without arguments that returns a ``Model``. Nothing is imported before a model
is asked for by name. A name in the box cannot be taken by another package.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from linearizability.model import Model, ModelError
from linearizability.models.cas_register import CasRegister
from linearizability.models.kv import KeyValue
from linearizability.models.register import Register

GROUP = "linearizability.models"

BUILT_IN: dict[str, Callable[[], Model[Any]]] = {
    "register": Register,
    "cas-register": CasRegister,
    "kv": KeyValue,
}


def names() -> list[str]:
    """The names of all models that ``find`` knows, in alphabetical order."""
    return sorted({*BUILT_IN, *_external()})


def find(name: str) -> Model[Any]:
    """The model of this name.

    Raises ``ModelError`` if there is none, listing the known ones, or if the package that brings it does not load.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]()
    external = _external().get(name)
    if external is None:
        raise ModelError(f"no model is called {name!r}. Known models: {', '.join(names())}")
    try:
        model = external.load()()
    except Exception as error:
        raise ModelError(
            f"model {name!r} could not be made by {external.value}: {type(error).__name__}: {error}. "
            "Mend or reinstall the package that brings it"
        ) from error
    if not isinstance(model, Model):
        raise ModelError(f"model {name!r}: {external.value} returned {type(model).__name__}, which is not a Model")
    return model


def _external() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
