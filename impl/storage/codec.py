"""The bytes of the log: segment headers, frames and records. Pure: bytes in, values out, no file in sight.

Theory of operation
-------------------
A segment is a header and then frames, back to back, each padded with zeros to a multiple of 8 bytes. Little-endian.

    segment header   magic 8s | format u32 | length u32 | crc u32 | zero u32 | body (msgpack array) | padding
    frame            magic 3s | kind u8 | length u32 | sequence u64 | previous crc u32 | crc u32 | body | padding

``length`` is that of the body in bytes, without header and padding. ``sequence`` counts the frames of the whole log
from 1. Every crc is CRC-32C.

A frame's crc covers all of the frame but itself, padding included, and starts from a seed made of the identity of the
log. It does two jobs. A frame is *recognised by itself*: its own bytes say whether it is whole, and of this log,
without knowing what stands before it; so one can look for frames behind a damaged one. And it is *chained*: the crc of
the frame before is among the covered bytes, so a frame that is whole but stands in the wrong place (an old copy, a
misdirected write, a lost one in between) does not fit its predecessor. The first frame of a segment continues from
the crc of the segment's header, which in turn holds the crc of the last frame of the segment before.

The header also holds the state of the log where the segment begins: hard state, base, index and term of the last
entry. So a segment can be the first of a log whose older ones have been removed.

A segment is allocated before it is used: behind its last frame it is filled with zeros.

Later formats keep the first 24 bytes of the segment header and the reach of its crc, so that any release can tell a
newer file from a damaged one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

import google_crc32c
import msgspec

from impl.raft.messages import Base, Entry, HardState
from impl.storage.identity import Identity

FORMAT_VERSION = 2

SEGMENT_MAGIC = b"TELEGRFT"
FRAME_MAGIC = b"\xf5Tg"  # 0xf5 is never part of UTF-8 text, so chat messages do not look like frames

RECORD = 1  # the only kind of frame so far

#: Frames start at multiples of this, so that no field of a header lies across two sectors and tears in itself.
ALIGNMENT_BYTES = 8

#: Bounds what one append may ask for, hence memory at recovery and the length of a torn tail. Far above what the core
#: puts into one batch, far below a segment.
MAX_BODY_BYTES = 16 * 1024 * 1024

_SEGMENT_PREAMBLE = struct.Struct("<8sII")
_SEGMENT_CHECKSUM = struct.Struct("<II")
_FRAME_PREFIX = struct.Struct("<3sBIQI")
_CRC = struct.Struct("<I")

SEGMENT_PREAMBLE_BYTES = _SEGMENT_PREAMBLE.size + _SEGMENT_CHECKSUM.size
FRAME_HEADER_BYTES = _FRAME_PREFIX.size + _CRC.size
MAX_FRAME_BYTES = FRAME_HEADER_BYTES + MAX_BODY_BYTES

#: Mostly the addresses of the members, in the base: room for hundreds.
MAX_SEGMENT_BODY_BYTES = 256 * 1024

assert FRAME_HEADER_BYTES % ALIGNMENT_BYTES == 0
assert SEGMENT_PREAMBLE_BYTES % ALIGNMENT_BYTES == 0
assert MAX_BODY_BYTES % ALIGNMENT_BYTES == 0


class NotRecognised(ValueError):
    """The bytes are not a whole frame or header; the message says what is wrong with them."""


class NewerFormat(Exception):
    """The bytes are a whole segment header of format ``version``, which this release does not know."""

    def __init__(self, version: int) -> None:
        super().__init__(f"format {version}")
        self.version = version


class OlderFormat(Exception):
    """The bytes are a whole segment header of format ``version``, which this release does not read any more."""

    def __init__(self, version: int) -> None:
        super().__init__(f"format {version}")
        self.version = version


class RecordTooLarge(ValueError):
    """A record would not fit into one frame: the caller must split it into several."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"a record of {size_bytes} bytes is more than the {MAX_BODY_BYTES} that one frame holds; append in parts"
        )
        self.size_bytes = size_bytes


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What one append stores, all of it or nothing: first the base, then the hard state, then the entries.

    ``drops``: the log did not hold the entry of the base's index and term, so all of its entries went.
    """

    hard_state: HardState | None
    entries: tuple[Entry, ...]
    base: Base | None = None
    drops: bool = False


class SegmentHeader(msgspec.Struct, frozen=True, array_like=True):
    """Whose segment, where in the log it begins, and the state of the log there."""

    cluster: str
    node_id: int
    group: int
    incarnation: int
    first_sequence: int  # of its first frame; also in the name of the file
    previous_crc: int  # of the last frame before; 0 in the first segment
    hard_state: HardState
    base: Base | None  # None: the log has not been given one yet
    last_index: int  # of the log so far
    last_term: int

    @property
    def identity(self) -> Identity:
        return Identity(self.cluster, self.node_id, self.group, self.incarnation)


class Frame(NamedTuple):
    """One frame as found: ``offset`` to ``end`` in the bytes it was read from, padding included."""

    kind: int
    sequence: int
    previous_crc: int
    crc: int
    offset: int
    end: int
    body: memoryview  # without padding


_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(Record)
_segment_header_decoder = msgspec.msgpack.Decoder(SegmentHeader)

_SEGMENT_NAME = re.compile(r"log-(\d{20})\.segment", re.ASCII)


def segment_name(first_sequence: int) -> str:
    """The file name of a segment; names sort as the segments do."""
    return f"log-{first_sequence:020d}.segment"


def first_sequence_of(name: str) -> int | None:
    """The inverse; None if it is not the name of a segment."""
    match = _SEGMENT_NAME.fullmatch(name)
    return int(match[1]) if match else None


def _checksum(data: bytes, seed: int = 0) -> int:
    crc: int = google_crc32c.extend(seed, data)
    return crc


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % ALIGNMENT_BYTES)


# Segment headers


def encode_segment_header(header: SegmentHeader, *, version: int = FORMAT_VERSION) -> tuple[bytes, int]:
    """The bytes of a segment header, and the crc from which its first frame continues."""
    body = _encoder.encode(header)
    preamble = _SEGMENT_PREAMBLE.pack(SEGMENT_MAGIC, version, len(body))
    padded_body = body + _padding(len(body))
    crc = _checksum(preamble + padded_body)
    return preamble + _SEGMENT_CHECKSUM.pack(crc, 0) + padded_body, crc


def decode_segment_header(data: bytes) -> tuple[SegmentHeader, int, int]:
    """The header at the start of ``data``, its size in bytes, and its crc.

    Raises ``NotRecognised``, or ``NewerFormat`` or ``OlderFormat`` for a whole header of another release.
    """
    if len(data) < SEGMENT_PREAMBLE_BYTES:
        raise NotRecognised("the header is not complete")
    magic, version, length = _SEGMENT_PREAMBLE.unpack_from(data)
    crc, zero = _SEGMENT_CHECKSUM.unpack_from(data, _SEGMENT_PREAMBLE.size)
    if magic != SEGMENT_MAGIC:
        raise NotRecognised("it does not begin with the mark of a segment")
    if length > MAX_SEGMENT_BODY_BYTES:
        raise NotRecognised(f"the header claims to be {length} bytes long")
    end = SEGMENT_PREAMBLE_BYTES + length + -length % ALIGNMENT_BYTES
    if len(data) < end:
        raise NotRecognised("the header is not complete")
    if _checksum(data[: _SEGMENT_PREAMBLE.size] + data[SEGMENT_PREAMBLE_BYTES:end]) != crc:
        raise NotRecognised("the header does not match its checksum")
    if version > FORMAT_VERSION:
        raise NewerFormat(version)
    if version < FORMAT_VERSION:
        raise OlderFormat(version)
    if zero != 0:
        raise NotRecognised("the reserved bytes of the header are not zero")
    try:
        header = _segment_header_decoder.decode(data[SEGMENT_PREAMBLE_BYTES : SEGMENT_PREAMBLE_BYTES + length])
        _ = header.identity
    except ValueError as error:
        raise NotRecognised(f"the header cannot be read: {error}") from error
    return header, end, crc


# Frames


def frame_seed(identity: Identity) -> int:
    """Where the checksums of this log start from: frames of another log are not recognised in it."""
    return _checksum(_encoder.encode((identity.cluster, identity.node_id, identity.group, identity.incarnation)))


def frame_bytes(body_bytes: int) -> int:
    """How long the frame of a body is."""
    return FRAME_HEADER_BYTES + body_bytes + -body_bytes % ALIGNMENT_BYTES


def encode_frame(seed: int, sequence: int, previous_crc: int, body: bytes, *, kind: int = RECORD) -> tuple[bytes, int]:
    """The bytes of a frame, a multiple of 8, and its crc. Raises ``RecordTooLarge``."""
    if len(body) > MAX_BODY_BYTES:
        raise RecordTooLarge(len(body))
    prefix = _FRAME_PREFIX.pack(FRAME_MAGIC, kind, len(body), sequence, previous_crc)
    padded_body = body + _padding(len(body))
    crc = _checksum(padded_body, _checksum(prefix, seed))
    return prefix + _CRC.pack(crc) + padded_body, crc


def decode_frame(seed: int, data: bytes, offset: int) -> Frame:
    """The frame at ``offset``, recognised by itself: whether it belongs there is the caller's question.

    Raises ``NotRecognised``.
    """
    if len(data) - offset < FRAME_HEADER_BYTES:
        raise NotRecognised("a frame breaks off in its header")
    magic, kind, length, sequence, previous_crc = _FRAME_PREFIX.unpack_from(data, offset)
    if magic != FRAME_MAGIC:
        raise NotRecognised("no frame begins there")
    if length > MAX_BODY_BYTES:
        raise NotRecognised(f"a frame claims a body of {length} bytes")
    body_offset = offset + FRAME_HEADER_BYTES
    end = body_offset + length + -length % ALIGNMENT_BYTES
    if end > len(data):
        raise NotRecognised("a frame breaks off in its body")
    (crc,) = _CRC.unpack_from(data, offset + _FRAME_PREFIX.size)
    prefix_crc = _checksum(data[offset : offset + _FRAME_PREFIX.size], seed)
    padded_body = data[body_offset:end]  # the one copy: at recovery these are all bytes of the log
    if _checksum(padded_body, prefix_crc) != crc:
        raise NotRecognised("a frame does not match its checksum")
    return Frame(kind, sequence, previous_crc, crc, offset, end, memoryview(padded_body)[:length])


def find_frame(seed: int, data: bytes, start: int, first_sequence: int) -> Frame | None:
    """The first whole frame at or after ``start`` whose sequence is ``first_sequence`` or later.

    Looks at every byte, aligned or not: bytes may have been lost or have crept in. Earlier sequences are passed over:
    old frames of this very log may be quoted in the payload of a torn one.
    """
    # No later frame can be further ahead than there is room for frames in between.
    last_sequence = first_sequence + (len(data) - start) // FRAME_HEADER_BYTES
    offset = data.find(FRAME_MAGIC, start)
    while offset != -1:
        if len(data) - offset >= FRAME_HEADER_BYTES:
            sequence = _FRAME_PREFIX.unpack_from(data, offset)[3]
            if first_sequence <= sequence <= last_sequence:
                try:
                    return decode_frame(seed, data, offset)
                except NotRecognised:
                    pass
        offset = data.find(FRAME_MAGIC, offset + 1)
    return None


# Records


def encode_record(
    hard_state: HardState | None, entries: Sequence[Entry], base: Base | None = None, *, drops: bool = False
) -> bytes:
    """The body of a frame of kind ``RECORD``."""
    return _encoder.encode(Record(hard_state, tuple(entries), base, drops))


def decode_record(body: bytes | memoryview) -> Record:
    """The inverse. Raises ``ValueError``."""
    return _record_decoder.decode(body)
