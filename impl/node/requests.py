"""Requests of clients, from their arrival at this node to their outcome: here, at the leader, at the next leader.

Theory of operation
-------------------
*Changes of leader.* A request that a change of leader has overtaken is tried again, here or at the new leader, until
its time is up: every write carries a transaction id, so the state machine carries it out once however often it
arrives; a change of the group names the configuration that it changes.

*Outcomes.* A request that was refused, or never reached a log, is *not done*. One that may be in some log when its time
is up, or when a later attempt is refused, is *unknown*. Queries have no effect and are never unknown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from impl.chat.service import NotDone, OutcomeUnknown
from impl.node.driver import Driver
from impl.node.slots import Overtaken
from impl.raft.messages import NOBODY, NodeId

MAX_OPEN_REQUESTS = 4096
"""Client requests in progress on one node: each holds a task and a few hundred bytes. More are refused, not done."""

LEADER_WAIT_S = 1.5
"""How long a request waits for a leader to be known: about two election timeouts with the default ticks."""

RETRIED = frozenset({"no-leader", "not-leader", "lost-leadership", "transferring", "read-timeout", "not-ready"})
"""Why a request was not done that may be done by the next leader, or a moment later."""

RETRY_PAUSE_S = 0.02
"""Between attempts: a tick's length, within which a node may learn who leads."""

T = TypeVar("T")


class Requests:
    """How many there are, and the way of each to whoever leads."""

    def __init__(self, node_id: NodeId, driver: Driver) -> None:
        self._node_id = node_id
        self._driver = driver
        self._open = 0
        self._failed = 0

    @property
    def open(self) -> int:
        return self._open

    @property
    def failed(self) -> int:
        """How many have ended as not done or unknown."""
        return self._failed

    @contextmanager
    def counted(self) -> Iterator[None]:
        """One request. Raises ``NotDone`` when there are too many."""
        if self._open >= MAX_OPEN_REQUESTS:
            raise NotDone("overloaded", f"node {self._node_id} has {MAX_OPEN_REQUESTS} requests in progress")
        self._open += 1
        try:
            yield
        except (NotDone, OutcomeUnknown):
            self._failed += 1
            raise
        finally:
            self._open -= 1

    async def until_done(self, attempt: Callable[[], Awaitable[T]], deadline: float, *, has_effect: bool) -> T:
        """Make attempts until one succeeds, is refused for good, or the time is up.

        An attempt raises ``NotDone``, ``OutcomeUnknown`` or ``Overtaken``; ``has_effect`` says that one which was
        overtaken may have been carried out.
        """
        maybe_done = False
        while True:
            try:
                return await attempt()
            except Overtaken:
                maybe_done = maybe_done or has_effect
                problem = NotDone("lost-leadership", "the leader lost its office before it answered")
            except OutcomeUnknown as error:
                if has_effect:
                    raise
                problem = NotDone("read-timeout", error.detail)  # nothing to be unsure of
            except NotDone as error:
                problem = error
            if problem.reason not in RETRIED or trio.current_time() + RETRY_PAUSE_S >= deadline:
                if maybe_done:
                    raise OutcomeUnknown(f"an earlier attempt may have succeeded; the last: {problem.detail}")
                raise problem
            await trio.sleep(RETRY_PAUSE_S)

    async def leader(self, deadline: float) -> NodeId:
        """The leader as this node knows it; waits for one to be known, but not for long. Raises ``NotDone``."""
        with trio.move_on_at(min(deadline, trio.current_time() + LEADER_WAIT_S)):
            await self._driver.leader_known.wait()
        if self._driver.core.leader_id == NOBODY:
            raise NotDone("no-leader", f"node {self._node_id} knows of no leader: an election may be under way")
        return self._driver.core.leader_id
