"""Damage to what was durable: refused by name and place, never read as something shorter or something else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impl.storage.codec import (
    MAX_FRAME_BYTES,
    SegmentHeader,
    decode_segment_header,
    encode_frame,
    encode_record,
    encode_segment_header,
    frame_seed,
    segment_name,
)
from impl.storage.disk import Disk
from impl.storage.errors import FormatTooNew, LogDamaged, StorageError, WrongIdentity
from impl.storage.identity import Identity
from impl.storage.recovery import Recovery
from impl.storage.simulated_disk import SimulatedDisk
from impl.storage.tests.crash_checks import (
    DIRECTORY,
    IDENTITY,
    SCRIPT,
    SEGMENT_BYTES,
    STATES,
    Image,
    check_exchanged_frames,
    check_flips,
    check_image,
    closed_image,
    entry,
    frames_of,
    read_image,
)
from impl.storage.wal import Wal

IMAGE = closed_image()
NEWEST = IMAGE.segments[-1]


def test_every_flipped_bit_is_noticed_and_only_the_last_frame_may_be_cut() -> None:
    outcomes = check_flips(Recovery)
    assert outcomes["cut"] == 8 * (len(IMAGE.files[NEWEST]) - IMAGE.last_frame_offset)
    assert set(outcomes) == {"refused", "cut"}


def test_a_frame_of_another_history_does_not_fit_the_chain() -> None:
    assert check_exchanged_frames(Recovery) >= 4


@given(st.data())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_bytes_overwritten_lost_or_crept_in_before_the_last_frame_are_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(IMAGE.segments))
    content = IMAGE.files[name]
    limit = IMAGE.last_frame_offset if name == NEWEST else len(content)
    start = data.draw(st.integers(0, limit - 1))
    stop = data.draw(st.integers(start, min(limit, start + 100)))
    damaged = content[:start] + data.draw(st.binary(max_size=100)) + content[stop:]
    outcome = check_image(IMAGE.with_file(name, damaged), Recovery, "spliced", last_frame_may_go=False)
    assert outcome == ("whole" if damaged == content else "refused")


def test_a_newest_segment_no_longer_than_a_header_is_kept_if_it_holds_a_frame() -> None:
    """Found by the test above."""
    frame = IMAGE.files[NEWEST][IMAGE.last_frame_offset :]
    assert len(frame) <= decode_segment_header(IMAGE.files[NEWEST])[1]
    with pytest.raises(LogDamaged, match="does not begin with the mark of a segment"):
        read_image(IMAGE.with_file(NEWEST, frame))


@pytest.mark.parametrize("name", IMAGE.segments[:-1])
def test_a_closed_segment_cut_anywhere_is_refused(name: str) -> None:
    for size in range(len(IMAGE.files[name])):
        with pytest.raises(LogDamaged, match="is damaged at byte"):
            read_image(IMAGE.with_file(name, IMAGE.files[name][:size]))


@pytest.mark.parametrize("name", IMAGE.segments[:-1])
def test_a_missing_segment_is_refused(name: str) -> None:
    files = {other: content for other, content in IMAGE.files.items() if other != name}
    with pytest.raises(LogDamaged, match=f"should be {name}; part of the log is missing"):
        read_image(Image(files, 0))


def test_a_torn_tail_is_cut_wherever_it_tore() -> None:
    whole = IMAGE.files[NEWEST]
    for size in range(IMAGE.last_frame_offset + 1, len(whole)):
        found = read_image(IMAGE.with_file(NEWEST, whole[:size]))
        assert (found.hard_state, tuple(found.entries)) == STATES[-2]
        assert found.cut_bytes == size - IMAGE.last_frame_offset


def test_a_half_made_segment_is_dropped_but_not_one_that_holds_more_than_a_header() -> None:
    sequence = len(SCRIPT) + 1
    name = segment_name(sequence)
    whole = read_image(IMAGE)
    header, crc = encode_segment_header(
        SegmentHeader(IDENTITY.cluster, IDENTITY.node_id, 0, sequence, whole.end.last_index + 1, whole.chain_crc)
    )
    frame, _ = encode_frame(frame_seed(IDENTITY), sequence, crc, encode_record(None, [entry(13, 8)]))
    for half in (b"", header[:30], bytes(len(header)), header):
        found = read_image(IMAGE.with_file(name, half))
        assert (found.discarded, tuple(found.entries)) == (name, STATES[-1][1])
    assert len(read_image(IMAGE.with_file(name, header + frame)).entries) == 13
    for more in (bytes(len(header)) + frame, bytes(len(header) + 8)):
        with pytest.raises(LogDamaged):
            read_image(IMAGE.with_file(name, more))


def test_a_broken_last_frame_is_damage_if_a_newer_segment_was_begun() -> None:
    """That there is a newer file, however half-made, shows that this one had been synced to its end."""
    content = IMAGE.files[NEWEST][:-1]
    with pytest.raises(LogDamaged, match="later segments exist"):
        read_image(Image(IMAGE.files | {NEWEST: content, segment_name(len(SCRIPT) + 1): b""}, 0))


def test_a_tail_longer_than_any_frame_is_damage() -> None:
    """One write was in flight, so more rubbish than one frame was not left by it."""
    content = IMAGE.files[NEWEST] + bytes(MAX_FRAME_BYTES)
    assert read_image(IMAGE.with_file(NEWEST, content)).cut_bytes == MAX_FRAME_BYTES
    with pytest.raises(LogDamaged, match="more follows than one torn write could leave"):
        read_image(IMAGE.with_file(NEWEST, content + b"\0"))


def test_old_frames_quoted_in_a_torn_payload_are_not_taken_for_later_ones() -> None:
    quoted = next(frames_of(IMAGE.files[IMAGE.segments[0]]))
    first = IMAGE.files[IMAGE.segments[0]]
    whole = read_image(IMAGE)
    payload = first[quoted.offset : quoted.end]
    frame, _ = encode_frame(
        frame_seed(IDENTITY), whole.next_sequence, whole.chain_crc, encode_record(None, [entry(13, 8)]) + payload * 3
    )
    found = read_image(IMAGE.with_file(NEWEST, IMAGE.files[NEWEST] + frame[:-1]))
    assert found.cut_bytes == len(frame) - 1


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (encode_record(None, [entry(14, 8)]), "entry 14 cannot follow entry 12"),
        (encode_record(None, [entry(13, 7)]), "entry 13 is of term 7, the one before it of term 8"),
        (encode_record(STATES[1][0], []), "the term goes back from 8 to 1"),
        (b"\xc1", "cannot be read"),
    ],
)
def test_a_whole_frame_that_cannot_follow_is_damage(record: bytes, problem: str) -> None:
    whole = read_image(IMAGE)
    frame, _ = encode_frame(frame_seed(IDENTITY), whole.next_sequence, whole.chain_crc, record)
    with pytest.raises(LogDamaged, match=problem) as caught:
        read_image(IMAGE.with_file(NEWEST, IMAGE.files[NEWEST] + frame))
    assert caught.value.file == DIRECTORY / NEWEST
    assert caught.value.offset == len(IMAGE.files[NEWEST])


def test_a_frame_of_an_unknown_kind_is_refused() -> None:
    whole = read_image(IMAGE)
    frame, _ = encode_frame(frame_seed(IDENTITY), whole.next_sequence, whole.chain_crc, b"", kind=7)
    with pytest.raises(LogDamaged, match="of kind 7, unknown here"):
        read_image(IMAGE.with_file(NEWEST, IMAGE.files[NEWEST] + frame))


def test_a_newer_format_is_refused_by_name_and_damage_to_the_version_is_not_taken_for_one() -> None:
    first = IMAGE.segments[0]
    header, end, _ = decode_segment_header(IMAGE.files[first])
    newer, _ = encode_segment_header(header, version=2)
    with pytest.raises(FormatTooNew, match="is in format 2, this release reads formats up to 1") as caught:
        read_image(IMAGE.with_file(first, newer + IMAGE.files[first][end:]))
    assert caught.value.file == DIRECTORY / first
    damaged = bytearray(IMAGE.files[first])
    damaged[8] = 2
    with pytest.raises(LogDamaged, match="does not match its checksum"):
        read_image(IMAGE.with_file(first, bytes(damaged)))


def test_segments_of_another_node_are_refused_and_both_are_named() -> None:
    with pytest.raises(WrongIdentity, match=r"belongs to node 1.*'town'.*started as node 2.*'town'"):
        read_image(IMAGE, identity=Identity("town", 2))


def test_opening_a_damaged_log_names_file_offset_and_advice_and_changes_nothing() -> None:
    disk: Disk
    disk = simulated = SimulatedDisk()
    wal, _ = Wal.open(disk, DIRECTORY, IDENTITY, segment_bytes=SEGMENT_BYTES)
    for step in SCRIPT:
        wal.append(*step)
    wal.close()
    file = DIRECTORY / IMAGE.segments[2]
    simulated.flip_bit(file, 100, 3)
    before = {name: disk.read_file(DIRECTORY / name) for name in disk.list_directory(DIRECTORY)}
    operations = simulated.operations
    for _ in range(2):  # the lock is free again after a refusal
        with pytest.raises(LogDamaged) as caught:
            Wal.open(disk, DIRECTORY, IDENTITY, segment_bytes=SEGMENT_BYTES)
    frame_offset = decode_segment_header(before[file.name])[1]
    assert (caught.value.file, caught.value.offset) == (file, frame_offset)
    for word in (str(file), f"byte {frame_offset}", "Nothing was changed", "new node id"):
        assert word in str(caught.value)
    assert {name: disk.read_file(DIRECTORY / name) for name in disk.list_directory(DIRECTORY)} == before
    assert simulated.operations == operations


@given(st.lists(st.binary(max_size=200), max_size=4))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_rubbish_is_never_a_log(contents: list[bytes]) -> None:
    """Nothing but a ``StorageError`` comes out, whatever the files hold."""
    files = {segment_name(number * 3 + 1): content for number, content in enumerate(contents)}
    try:
        found = read_image(Image(files, 0))
    except StorageError:
        return
    assert found.entries == []
    assert len(contents) <= 1
