"""Work that waits for a disk: run in threads that nothing else can use up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import trio

T = TypeVar("T")


class RunBlocking(Protocol):
    """Runs a function that may block, and waits for it to its end whatever is cancelled meanwhile."""

    async def __call__(self, function: Callable[..., T], /, *arguments: Any) -> T: ...


class InThread:
    """Worker threads of the node's own. Others, name resolution say, may hang in the common pool."""

    def __init__(self, threads: int) -> None:
        self._limiter = trio.CapacityLimiter(threads)

    async def __call__(self, function: Callable[..., T], /, *arguments: Any) -> T:
        return await trio.to_thread.run_sync(function, *arguments, limiter=self._limiter)
