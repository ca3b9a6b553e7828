"""Snowflake ids: the layout, the bounds, and growth whatever the clock does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impl.chat.snowflake import (
    EPOCH_MS,
    GROUP_MAX,
    ID_MAX,
    SEQUENCE_MAX,
    TIME_MAX_MS,
    TIME_SHIFT,
    Parts,
    SnowflakeOutOfRange,
    Snowflakes,
    decode,
    encode,
    unix_ms,
)

EXAMPLES = settings(derandomize=True, database=None, deadline=None, max_examples=200)


@EXAMPLES
@given(st.integers(0, TIME_MAX_MS), st.integers(0, GROUP_MAX), st.integers(0, SEQUENCE_MAX))
def test_decode_undoes_encode(time_ms: int, group: int, sequence: int) -> None:
    snowflake = encode(time_ms, group, sequence)
    assert decode(snowflake) == Parts(time_ms, group, sequence)
    assert 0 <= snowflake <= ID_MAX
    assert snowflake >> TIME_SHIFT == time_ms
    assert unix_ms(snowflake) == EPOCH_MS + time_ms


def test_a_known_id() -> None:
    assert encode(1, 1, 1) == 4_198_401
    assert encode(TIME_MAX_MS, GROUP_MAX, SEQUENCE_MAX) == ID_MAX


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ((-1, 0, 0), "time_ms"),
        ((TIME_MAX_MS + 1, 0, 0), "time_ms"),
        ((0, -1, 0), "group"),
        ((0, GROUP_MAX + 1, 0), "group"),
        ((0, 0, SEQUENCE_MAX + 1), "sequence"),
    ],
)
def test_a_part_that_does_not_fit_is_named(parts: tuple[int, int, int], name: str) -> None:
    with pytest.raises(SnowflakeOutOfRange, match=name):
        encode(*parts)


@pytest.mark.parametrize("number", [-1, ID_MAX + 1])
def test_an_integer_that_is_no_id_is_refused(number: int) -> None:
    with pytest.raises(SnowflakeOutOfRange, match=str(number)):
        decode(number)


class Clock:
    """Unix milliseconds, set by hand."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def test_an_id_shows_the_time_and_the_group() -> None:
    source = Snowflakes(Clock(EPOCH_MS + 5_000), group=3)
    assert decode(source.next()) == Parts(5_000, 3, 0)
    assert decode(source.next()) == Parts(5_000, 3, 1)


def test_a_clock_that_steps_back_does_not_take_the_ids_with_it() -> None:
    clock = Clock(EPOCH_MS + 5_000)
    source = Snowflakes(clock, group=3)
    first = source.next()
    clock.now_ms -= 4_000
    assert source.next() == first + 1
    clock.now_ms += 4_001
    assert decode(source.next()) == Parts(5_001, 3, 0)


def test_a_full_millisecond_runs_ahead_into_the_next() -> None:
    source = Snowflakes(Clock(EPOCH_MS + 7), group=0)
    ids = [source.next() for _ in range(SEQUENCE_MAX + 2)]
    assert decode(ids[-2]) == Parts(7, 0, SEQUENCE_MAX)
    assert decode(ids[-1]) == Parts(8, 0, 0)


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        (Parts(9, 1, 5), Parts(9, 2, 0)),  # another group below ours: the same millisecond still has room
        (Parts(9, 2, 5), Parts(9, 2, 6)),
        (Parts(9, 2, SEQUENCE_MAX), Parts(10, 2, 0)),
        (Parts(9, 3, 5), Parts(10, 2, 0)),  # a group above ours: only the next millisecond is greater
        (Parts(6, 3, 5), Parts(7, 2, 0)),  # older than the clock
    ],
)
def test_ids_continue_those_of_an_earlier_leader(after: Parts, wanted: Parts) -> None:
    source = Snowflakes(Clock(EPOCH_MS + 7), group=2)
    assert decode(source.next(after=encode(*after))) == wanted


def test_a_clock_before_the_epoch_counts_as_the_epoch() -> None:
    source = Snowflakes(Clock(0), group=1)
    assert decode(source.next()) == Parts(0, 1, 0)


def test_a_clock_beyond_the_last_millisecond_is_refused_with_advice() -> None:
    with pytest.raises(SnowflakeOutOfRange, match="check the clock"):
        Snowflakes(Clock(EPOCH_MS + TIME_MAX_MS + 1), group=0).next()


def test_a_group_without_a_place_is_refused_at_once() -> None:
    with pytest.raises(SnowflakeOutOfRange, match="group"):
        Snowflakes(Clock(EPOCH_MS), group=GROUP_MAX + 1)


@EXAMPLES
@given(
    st.integers(0, GROUP_MAX),
    st.lists(st.tuples(st.integers(-2, 2), st.sampled_from([0, 1, 4_095, 4_096, 1 << TIME_SHIFT])), max_size=60),
)
def test_ids_always_grow(group: int, steps: list[tuple[int, int]]) -> None:
    clock = Clock(EPOCH_MS + 100)
    source = Snowflakes(clock, group)
    last = 0
    for step_ms, ahead in steps:
        clock.now_ms += step_ms
        snowflake = source.next(after=last + ahead)
        assert snowflake > last + ahead
        assert decode(snowflake).group == group
        last = snowflake
