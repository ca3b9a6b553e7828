"""Snowflake ids: 63-bit integers that sort by the time at which they were proposed.

Theory of operation
-------------------
From the top, an id is::

    41 bits  milliseconds since the Telegraft epoch, 2025-01-01T00:00:00Z: enough until September 2094
    10 bits  group: who proposes, so that groups that share no log never propose the same id
    12 bits  sequence: counts within one millisecond

The sign bit stays 0, so an id fits a signed 64-bit column. (The layout is Twitter's of 2010.)

An id made here is a *proposal*. The leader stamps it on a command before the command enters the log, and the state
machine gives out ``max(last id + 1, proposed)``: order and uniqueness come from the log, and the clock of a leader
only pushes ids upward. Carrying into the group bits by ``+ 1`` is therefore harmless.

``Snowflakes`` keeps its own proposals growing, too. When the clock stands still or steps back it goes on counting
from its last id, and when the sequence of a millisecond is used up it runs ahead into the next one: making an id
never waits. A clock before the epoch (a machine that has not yet set its clock) counts as the epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, final

EPOCH_MS: Final = 1_735_689_600_000
"""2025-01-01T00:00:00Z in Unix milliseconds."""

TIME_BITS: Final = 41
GROUP_BITS: Final = 10
SEQUENCE_BITS: Final = 12

TIME_SHIFT: Final = GROUP_BITS + SEQUENCE_BITS
TIME_MAX_MS: Final = 2**TIME_BITS - 1
GROUP_MAX: Final = 2**GROUP_BITS - 1
SEQUENCE_MAX: Final = 2**SEQUENCE_BITS - 1
ID_MAX: Final = 2**63 - 1
"""The greatest id: what SQLite, and every signed 64-bit integer, can hold."""

assert TIME_BITS + GROUP_BITS + SEQUENCE_BITS == 63
assert (TIME_MAX_MS << TIME_SHIFT) + (GROUP_MAX << SEQUENCE_BITS) + SEQUENCE_MAX == ID_MAX


class SnowflakeOutOfRange(ValueError):
    """A part of an id, or an id, does not fit its bits."""


class Parts(NamedTuple):
    """An id taken apart. ``time_ms`` counts from ``EPOCH_MS``."""

    time_ms: int
    group: int
    sequence: int


def encode(time_ms: int, group: int, sequence: int) -> int:
    """The id with these parts; ``time_ms`` counts from ``EPOCH_MS``. Raises ``SnowflakeOutOfRange``."""
    for name, value, limit in (
        ("time_ms", time_ms, TIME_MAX_MS),
        ("group", group, GROUP_MAX),
        ("sequence", sequence, SEQUENCE_MAX),
    ):
        if not 0 <= value <= limit:
            hint = ": check the clock of this machine" if name == "time_ms" else ""
            raise SnowflakeOutOfRange(f"{name} of a Snowflake id is {value}, it must lie in 0..{limit}{hint}")
    return time_ms << TIME_SHIFT | group << SEQUENCE_BITS | sequence


def decode(snowflake: int) -> Parts:
    """The inverse of ``encode``. Raises ``SnowflakeOutOfRange`` for an integer that is no id."""
    if not 0 <= snowflake <= ID_MAX:
        raise SnowflakeOutOfRange(f"{snowflake} is no Snowflake id: ids lie in 0..{ID_MAX}")
    return Parts(snowflake >> TIME_SHIFT, snowflake >> SEQUENCE_BITS & GROUP_MAX, snowflake & SEQUENCE_MAX)


def unix_ms(snowflake: int) -> int:
    """The time inside an id, in Unix milliseconds: when the thing it names was first proposed, or shortly after."""
    return decode(snowflake).time_ms + EPOCH_MS


@final
class Snowflakes:
    """A source of growing ids for one group.

    ``clock_ms`` returns Unix milliseconds and may stand still or step back. ``group`` lies in ``0..GROUP_MAX``;
    otherwise ``SnowflakeOutOfRange``. One task or thread at a time.
    """

    def __init__(self, clock_ms: Callable[[], int], group: int) -> None:
        self._clock_ms = clock_ms
        self._group = group
        self._last = 0
        encode(0, group, 0)  # refuse a group without a place now, not at the first command

    def next(self, after: int = 0) -> int:
        """An id greater than ``after`` and than every id that this source has made.

        ``after`` is for a new leader: with the last id that it has applied, its ids continue those of its
        predecessor although its clock may be behind. Raises ``SnowflakeOutOfRange`` when the clock shows a time
        beyond ``TIME_MAX_MS`` after the epoch, or ``after`` leaves no room.
        """
        candidate = encode(max(self._clock_ms() - EPOCH_MS, 0), self._group, 0)
        floor = max(self._last, after)
        if candidate <= floor:
            candidate = self._following(floor)
        self._last = candidate
        return candidate

    def _following(self, floor: int) -> int:
        """The least id of this group above ``floor``."""
        time_ms, group, sequence = decode(floor)
        if group < self._group:
            return encode(time_ms, self._group, 0)
        if group == self._group and sequence < SEQUENCE_MAX:
            return floor + 1
        return encode(time_ms + 1, self._group, 0)
