"""Frames: round trips in pieces of any size, golden bytes, and every kind of damage refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impl.network.wire import (
    MAX_FRAME_BYTES,
    WIRE_VERSION,
    BadFrame,
    Forward,
    ForwardReply,
    FrameReader,
    Hello,
    WireMessage,
    encode,
)
from impl.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    RequestVote,
    RequestVoteResponse,
)

EXAMPLES: list[WireMessage | Hello] = [
    Hello(WIRE_VERSION, "tea", 1, 2, "abc"),
    RequestVote(0, 1, 2, term=7, last_log_index=5, last_log_term=6, pre_vote=True),
    RequestVoteResponse(0, 2, 1, term=7, round=8, granted=True, pre_vote=True),
    AppendEntries(0, 1, 2, 7, 4, 6, (Entry(5, 6, b""), Entry(6, 7, b"\x00payload")), 4, 12),
    AppendEntriesResponse(0, 2, 1, 7, True, 6, 0, 0, 12),
    Forward(0, 1, 2, "abc", 9, 0, b"command", 1500),
    ForwardReply(0, 2, 1, "abc", 9, "not-done", reason="not-leader", detail="words"),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_round_trip(message: WireMessage | Hello) -> None:
    assert FrameReader().feed(encode(message)) == [message]


@given(cuts=st.lists(st.integers(1, 400), max_size=20))
def test_pieces_of_any_size_give_the_same_messages(cuts: list[int]) -> None:
    data = b"".join(encode(message) for message in EXAMPLES)
    reader, received, start = FrameReader(), [], 0
    for cut in cuts:
        received += reader.feed(data[start : start + cut])
        start += cut
    received += reader.feed(data[start:])
    assert received == EXAMPLES


def test_the_bytes_of_a_vote_request_are_these() -> None:
    """Other releases read these bytes: a change here needs a new WIRE_VERSION."""
    assert encode(EXAMPLES[1]).hex() == "0000000a136f26f49901000102070506c3c2"


@given(position=st.integers(0), bit=st.integers(0, 7), which=st.sampled_from(range(len(EXAMPLES))))
def test_no_flipped_bit_is_taken_for_a_message(position: int, bit: int, which: int) -> None:
    frame = bytearray(encode(EXAMPLES[which]))
    frame[position % len(frame)] ^= 1 << bit
    try:
        received = FrameReader().feed(bytes(frame))
    except BadFrame:
        return
    assert received == []  # a longer length: the rest of the frame is still awaited


def test_an_enormous_length_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(BadFrame, match="over the limit"):
        FrameReader().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big") + bytes(4))


@pytest.mark.parametrize(
    "body",
    [b"\x92\x63\x01", b"\x9b\x01\x00\x01\x02\x07\x05\x06\xc3\xc2\xc3" + b"\x91" * 100_000 + b"\x00"],
    ids=["unknown tag", "nested too deeply"],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    import google_crc32c

    frame = len(body).to_bytes(4, "big") + int(google_crc32c.value(body)).to_bytes(4, "big") + body
    with pytest.raises(BadFrame, match="not a message"):
        FrameReader().feed(frame)


def test_a_message_that_is_too_large_is_not_sent() -> None:
    entry = Entry(1, 1, bytes(MAX_FRAME_BYTES))
    with pytest.raises(BadFrame, match="over the limit"):
        encode(AppendEntries(0, 1, 2, 1, 0, 0, (entry,), 0, 1))
