"""How a client says who is calling: the counterpart of ``impl.http.identity``, and replaced together with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from impl.http.wire import USER_HEADER

Credentials: TypeAlias = Callable[[int], Mapping[str, str]]
"""From the id of a user to the request headers that identify this user."""


def user_header(user_id: int) -> dict[str, str]:
    """The header that the server believes, as long as there is no authentication."""
    return {USER_HEADER: str(user_id)}
