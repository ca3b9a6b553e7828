"""Damage to what was durable: refused by name and place, never read as something shorter or something else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impl.storage.codec import (
    MAX_FRAME_BYTES,
    decode_segment_header,
    encode_frame,
    encode_record,
    encode_segment_header,
    frame_seed,
    segment_name,
)
from impl.storage.disk import Disk
from impl.storage.errors import FormatTooNew, FormatTooOld, LogDamaged, StorageError, WrongIdentity
from impl.storage.identity import Identity
from impl.storage.recovery import Recovery, segment_header
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
    assert outcomes["cut"] == 8 * (IMAGE.end - IMAGE.last_frame_offset)
    assert set(outcomes) == {"refused", "cut", "rubbish", "whole"}
    assert outcomes["rubbish"] == 8 * 16, "behind the last frame: taken for a torn write, and nothing is lost"


def test_a_frame_of_another_history_does_not_fit_the_chain() -> None:
    assert check_exchanged_frames(Recovery) >= 4


@given(st.data())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_bytes_overwritten_lost_or_crept_in_before_the_last_frame_are_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(IMAGE.segments))
    content = IMAGE.files[name]
    limit = IMAGE.last_frame_offset if name == NEWEST else IMAGE.end_of(name)
    start = data.draw(st.integers(0, limit - 1))
    stop = data.draw(st.integers(start, min(limit, start + 100)))
    damaged = content[:start] + data.draw(st.binary(max_size=100)) + content[stop:]
    outcome = check_image(IMAGE.with_file(name, damaged), Recovery, "spliced", last_frame_may_go=False)
    assert outcome == "refused" or damaged[:limit] == content[:limit]


@pytest.mark.parametrize("name", IMAGE.segments[:-1])
def test_a_closed_segment_cut_anywhere_is_refused(name: str) -> None:
    for size in range(IMAGE.end_of(name)):
        with pytest.raises(LogDamaged, match="is damaged at byte"):
            read_image(IMAGE.with_file(name, IMAGE.files[name][:size]))


@pytest.mark.parametrize("name", IMAGE.segments[:-1])
def test_a_missing_segment_is_refused(name: str) -> None:
    files = {other: content for other, content in IMAGE.files.items() if other != name}
    why = "the log begins with entry" if name == IMAGE.segments[0] else f"should be {name}"
    with pytest.raises(LogDamaged, match=f"{why}.*part of the log is missing"):
        read_image(Image(files, 0, 0))


def test_a_torn_tail_is_cut_wherever_it_tore() -> None:
    """Short of the end of the file, or with the zeros of an allocated segment behind."""
    whole = IMAGE.files[NEWEST]
    for size in range(IMAGE.last_frame_offset + 1, IMAGE.end):
        for rest in (b"", bytes(len(whole) - size)):
            found = read_image(IMAGE.with_file(NEWEST, whole[:size] + rest))
            assert (found.hard_state, found.base, tuple(found.entries)) == STATES[-2]
            assert found.cut_bytes == len(whole[:size].rstrip(b"\0")) - IMAGE.last_frame_offset


def test_zeros_are_the_end_of_the_log_and_not_a_torn_tail() -> None:
    for rest in (0, 1, 7, 8, 1000, 200_000):
        found = read_image(IMAGE.with_file(NEWEST, IMAGE.files[NEWEST][: IMAGE.end] + bytes(rest)))
        assert (found.hard_state, found.base, tuple(found.entries)) == STATES[-1]
        assert found.cut_bytes == 0


def test_zeros_where_frames_were_are_damage() -> None:
    """In a closed segment the next one misses them; in the newest a later frame shows that they were there."""
    for name in IMAGE.segments:
        content = IMAGE.files[name]
        for frame in frames_of(content):
            if (name, frame.offset) == (NEWEST, IMAGE.last_frame_offset):
                continue
            zeroed = content[: frame.offset] + bytes(frame.end - frame.offset) + content[frame.end :]
            with pytest.raises(LogDamaged):
                read_image(IMAGE.with_file(name, zeroed))


def test_a_segment_without_a_frame_is_the_end_and_one_without_a_header_is_damage() -> None:
    """A segment gets its name when its header is durable."""
    whole = read_image(IMAGE)
    name = segment_name(whole.next_sequence)
    header, crc = encode_segment_header(segment_header(IDENTITY, whole.next_sequence, whole.chain_crc, whole.end))
    frame, _ = encode_frame(frame_seed(IDENTITY), whole.next_sequence, crc, encode_record(None, [entry(13, 8)]))
    empty = read_image(IMAGE.with_file(name, header + bytes(300)))
    assert (tuple(empty.entries), empty.tail.last_frame) == (STATES[-1][2], b"")
    assert len(read_image(IMAGE.with_file(name, header + frame + bytes(100))).entries) == 13
    torn = read_image(IMAGE.with_file(name, header + frame[:-4] + bytes(100)))
    assert (tuple(torn.entries), torn.cut_bytes > 0) == (STATES[-1][2], True)
    for broken in (b"", header[:30], bytes(len(header)), bytes(len(header)) + frame):
        with pytest.raises(LogDamaged):
            read_image(IMAGE.with_file(name, broken))


def test_a_broken_last_frame_is_damage_if_a_newer_segment_was_begun() -> None:
    """That there is a newer segment shows that this one had been synced to its end."""
    whole = read_image(IMAGE)
    name = segment_name(whole.next_sequence)
    header, _ = encode_segment_header(segment_header(IDENTITY, whole.next_sequence, whole.chain_crc, whole.end))
    broken = bytearray(IMAGE.files[NEWEST])
    broken[IMAGE.end - 1] ^= 1
    with pytest.raises(LogDamaged, match="later segments exist") as caught:
        read_image(Image(IMAGE.files | {NEWEST: bytes(broken), name: header}, 0, 0))
    assert (caught.value.file.name, caught.value.offset) == (NEWEST, IMAGE.last_frame_offset)
    assert caught.value.good_frames == len(SCRIPT), "all but one, and the one that formatting has written"


def test_a_tail_longer_than_any_frame_is_damage() -> None:
    """One write was in flight, so more rubbish than one frame was not left by it."""
    rubbish = b"\1" * MAX_FRAME_BYTES
    assert read_image(IMAGE.behind_the_end(rubbish)).cut_bytes == MAX_FRAME_BYTES
    with pytest.raises(LogDamaged, match="more follows than one torn write could leave"):
        read_image(IMAGE.behind_the_end(rubbish + b"\1"))


def test_old_frames_quoted_in_a_torn_payload_are_not_taken_for_later_ones() -> None:
    quoted = next(frames_of(IMAGE.files[IMAGE.segments[0]]))
    first = IMAGE.files[IMAGE.segments[0]]
    whole = read_image(IMAGE)
    payload = first[quoted.offset : quoted.end]
    frame, _ = encode_frame(
        frame_seed(IDENTITY), whole.next_sequence, whole.chain_crc, encode_record(None, [entry(13, 8)]) + payload * 3
    )
    found = read_image(IMAGE.behind_the_end(frame[:-9] + b"\1"))
    assert found.cut_bytes == len(frame) - 8


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
        read_image(IMAGE.behind_the_end(frame))
    assert caught.value.file == DIRECTORY / NEWEST
    assert caught.value.offset == IMAGE.end


def test_a_frame_of_an_unknown_kind_is_refused() -> None:
    whole = read_image(IMAGE)
    frame, _ = encode_frame(frame_seed(IDENTITY), whole.next_sequence, whole.chain_crc, b"", kind=7)
    with pytest.raises(LogDamaged, match="of kind 7, unknown here"):
        read_image(IMAGE.behind_the_end(frame))


def test_other_formats_are_refused_by_name_and_damage_to_the_version_is_not_taken_for_one() -> None:
    first = IMAGE.segments[0]
    header, end, _ = decode_segment_header(IMAGE.files[first])
    newer, _ = encode_segment_header(header, version=3)
    with pytest.raises(FormatTooNew, match="is in format 3, this release reads formats up to 2") as caught:
        read_image(IMAGE.with_file(first, newer + IMAGE.files[first][end:]))
    assert caught.value.file == DIRECTORY / first
    older, _ = encode_segment_header(header, version=1)
    with pytest.raises(FormatTooOld, match=r"is in format 1, this release reads formats from 2 on.*member add"):
        read_image(IMAGE.with_file(first, older + IMAGE.files[first][end:]))
    damaged = bytearray(IMAGE.files[first])
    damaged[8] = 3
    with pytest.raises(LogDamaged, match="does not match its checksum"):
        read_image(IMAGE.with_file(first, bytes(damaged)))


def test_segments_of_another_node_are_refused_and_both_are_named() -> None:
    with pytest.raises(WrongIdentity, match=r"belongs to node 1.*'town'.*started as node 2.*'town'"):
        read_image(IMAGE, identity=Identity("town", 2))


def test_opening_a_damaged_log_names_file_offset_and_advice_and_changes_nothing() -> None:
    disk: Disk
    disk = simulated = SimulatedDisk()
    wal, _ = Wal.open(disk, DIRECTORY, IDENTITY, segment_bytes=SEGMENT_BYTES, format_new=True)
    for step in SCRIPT:
        wal.append(*step)
    wal.close()
    file = DIRECTORY / IMAGE.segments[2]
    simulated.flip_bit(file, decode_segment_header(IMAGE.files[IMAGE.segments[2]])[1] + 30, 3)
    before = {name: disk.read_file(DIRECTORY / name) for name in disk.list_directory(DIRECTORY)}
    operations = simulated.operations
    for _ in range(2):  # the lock is free again after a refusal
        with pytest.raises(LogDamaged) as caught:
            Wal.open(disk, DIRECTORY, IDENTITY, segment_bytes=SEGMENT_BYTES)
    frame_offset = decode_segment_header(before[file.name])[1]
    assert (caught.value.file, caught.value.offset) == (file, frame_offset)
    for word in (str(file), f"byte {frame_offset}", "Nothing was changed", "--set-aside"):
        assert word in str(caught.value)
    assert {name: disk.read_file(DIRECTORY / name) for name in disk.list_directory(DIRECTORY)} == before
    assert simulated.operations == operations


@given(st.lists(st.binary(max_size=200), max_size=4))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_rubbish_is_never_a_log(contents: list[bytes]) -> None:
    """Nothing but a ``StorageError`` comes out, whatever the files hold."""
    files = {segment_name(number * 3 + 1): content for number, content in enumerate(contents)}
    try:
        found = read_image(Image(files, 0, 0))
    except StorageError:
        return
    assert found.entries == []
    assert contents == []
