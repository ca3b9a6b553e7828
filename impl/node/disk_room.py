"""Whether the disks have room: told to the core once when the first writer runs out of it, once when all have it again.

Two parts of a node write what it cannot do without, the log and the state machine, and either may meet a full disk.
Both wait for room with what they have in hand and try again; nothing is lost, and reads go on.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from impl.raft.events import DiskSpace, Event

RETRY_S = 0.5
"""Between attempts to write to a full disk: soon after an operator has made room, rare enough to cost nothing."""

log = structlog.get_logger()


class DiskRoom:
    """Who waits for room."""

    def __init__(self, post: Callable[[Event], None]) -> None:
        self._post = post
        self._waiting: set[str] = set()

    @property
    def is_full(self) -> bool:
        return bool(self._waiting)

    async def wait_for(self, writer: str, error: Exception) -> None:
        """This writer found the disk full: wait before it tries again."""
        if not self._waiting:
            self._post(DiskSpace(True))
        if writer not in self._waiting:
            log.warning("disk full: writes wait for room, reads go on", writer=writer, error=str(error))
        self._waiting.add(writer)
        await trio.sleep(RETRY_S)

    def found(self, writer: str) -> None:
        """This writer has written."""
        if writer in self._waiting:
            self._waiting.remove(writer)
            log.info("the disk has room again", writer=writer)
            if not self._waiting:
                self._post(DiskSpace(False))
