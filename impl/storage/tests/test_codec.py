"""The bytes of the log, one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impl.raft.messages import Base, Configuration, Entry, HardState, Member
from impl.storage.codec import (
    ALIGNMENT_BYTES,
    MAX_BODY_BYTES,
    MAX_SEGMENT_BODY_BYTES,
    SEGMENT_PREAMBLE_BYTES,
    NotRecognised,
    RecordTooLarge,
    SegmentHeader,
    decode_frame,
    decode_record,
    decode_segment_header,
    encode_frame,
    encode_record,
    encode_segment_header,
    find_frame,
    first_sequence_of,
    frame_seed,
    segment_name,
)
from impl.storage.identity import MAX_CLUSTER_NAME_BYTES, Identity

SEED = frame_seed(Identity("town", 1))

entries = st.builds(Entry, st.integers(1, 2**63), st.integers(1, 2**63), st.binary(max_size=300))
hard_states = st.none() | st.builds(HardState, st.integers(0, 2**63), st.integers(0, 2**31))


def test_golden_frame() -> None:
    """A change of these bytes is a change of the format: raise ``FORMAT_VERSION`` and keep reading the old one."""
    body = encode_record(HardState(7, 2), [Entry(41, 7, b"hello")])
    assert body.hex(" ") == "94 92 07 02 91 94 29 07 c4 05 68 65 6c 6c 6f 00 c0 c2"
    frame, crc = encode_frame(SEED, 300, 0x01020304, body)
    assert frame.hex(" ", 8) == (
        "f554670112000000 2c01000000000000 04030201bbf1fda5 9492070291942907 c40568656c6c6f00 c0c2000000000000"
    )
    assert crc == int.from_bytes(frame[20:24], "little")


def test_golden_segment_header() -> None:
    header, crc = encode_segment_header(
        SegmentHeader("town", 1, 0, 1, 300, 0x01020304, HardState(7, 2), Base(12, 3), 42, 7)
    )
    assert (
        header.hex(" ", 8)
        == "54454c4547524654 020000001f000000 f76079ce00000000 9aa4746f776e0100 01cd012cce010203 04920702940c0394 "
        "90909090002a0700"
    )
    assert crc == int.from_bytes(header[16:20], "little")


@settings(derandomize=True)
@given(hard_states, st.lists(entries, max_size=5), st.integers(1, 2**63), st.integers(0, 2**32 - 1))
def test_frames_come_back_as_they_were(
    hard_state: HardState | None, some: list[Entry], sequence: int, previous_crc: int
) -> None:
    encoded, crc = encode_frame(SEED, sequence, previous_crc, encode_record(hard_state, some))
    assert len(encoded) % ALIGNMENT_BYTES == 0
    frame = decode_frame(SEED, b"before.." + encoded + b"behind", 8)
    assert (frame.sequence, frame.previous_crc, frame.crc) == (sequence, previous_crc, crc)
    assert (frame.offset, frame.end) == (8, 8 + len(encoded))
    record = decode_record(frame.body)
    assert (record.hard_state, list(record.entries)) == (hard_state, some)
    assert (record.base, record.drops) == (None, False)


@settings(derandomize=True)
@given(st.data())
def test_a_frame_with_any_change_is_not_recognised(data: st.DataObject) -> None:
    frame, _ = encode_frame(SEED, 5, 99, encode_record(None, [Entry(1, 1, data.draw(st.binary(max_size=40)))]))
    offset = data.draw(st.integers(0, len(frame) - 1))
    stop = data.draw(st.integers(offset + 1, len(frame)))
    changed = frame[:offset] + data.draw(st.binary(min_size=stop - offset, max_size=stop - offset)) + frame[stop:]
    if changed == frame:
        return
    with pytest.raises(NotRecognised):
        decode_frame(SEED, changed, 0)


@settings(derandomize=True)
@given(st.binary(max_size=200))
def test_rubbish_is_not_a_frame(rubbish: bytes) -> None:
    with pytest.raises(NotRecognised):
        decode_frame(SEED, rubbish, 0)
    with pytest.raises(NotRecognised):
        decode_segment_header(rubbish)
    assert find_frame(SEED, rubbish, 0, 1) is None


@pytest.mark.parametrize(
    "other",
    [Identity("town", 2), Identity("city", 1), Identity("town", 1, group=1), Identity("town", 1, incarnation=2)],
)
def test_frames_of_another_log_are_not_recognised(other: Identity) -> None:
    frame, _ = encode_frame(frame_seed(other), 1, 0, b"body")
    with pytest.raises(NotRecognised, match="checksum"):
        decode_frame(SEED, frame, 0)


@pytest.mark.parametrize("shift", [0, 3, 8])
def test_frames_are_found_behind_damage_aligned_or_not(shift: int) -> None:
    frame, _ = encode_frame(SEED, 9, 0, b"body")
    data = bytes(64 + shift) + frame
    found = find_frame(SEED, data, 8, 8)
    assert found is not None
    assert found.offset == 64 + shift
    assert find_frame(SEED, data, 8, 10) is None, "an earlier frame is no sign of a later one"
    far, _ = encode_frame(SEED, 1000, 0, b"body")
    assert find_frame(SEED, far, 0, 8) is None, "there is no room for the frames in between"


def test_a_record_that_is_too_large_for_one_frame_is_refused() -> None:
    encode_frame(SEED, 1, 0, bytes(MAX_BODY_BYTES))
    with pytest.raises(
        RecordTooLarge, match=f"a record of {MAX_BODY_BYTES + 1} bytes is more than the {MAX_BODY_BYTES}"
    ):
        encode_frame(SEED, 1, 0, bytes(MAX_BODY_BYTES + 1))


def test_the_longest_header_keeps_to_its_bound() -> None:
    huge = 2**64 - 1
    members = tuple(Member(huge, huge, "p" * 260, "u" * 300) for _ in range(200))
    header, crc = encode_segment_header(
        SegmentHeader(
            "x" * MAX_CLUSTER_NAME_BYTES,
            huge,
            huge,
            2**63 - 1,
            huge,
            2**32 - 1,
            HardState(huge, huge),
            Base(huge, huge, Configuration(members, tuple(range(200)), tuple(range(200))), huge),
            huge,
            huge,
        )
    )
    assert len(header) <= SEGMENT_PREAMBLE_BYTES + MAX_SEGMENT_BODY_BYTES
    assert decode_segment_header(header)[1:] == (len(header), crc)


def test_segment_names_sort_like_their_segments() -> None:
    sequences = [1, 9, 10, 2**63]
    names = [segment_name(sequence) for sequence in sequences]
    assert names == sorted(names)
    assert [first_sequence_of(name) for name in names] == sequences
    for name in ("identity", "lock", "log-1.segment", "log-00000000000000000001.segment.bak", "chat.sqlite"):
        assert first_sequence_of(name) is None
