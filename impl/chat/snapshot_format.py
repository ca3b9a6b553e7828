"""A snapshot of the chat state as a stream of bytes: blocks that check themselves, and what may stand in them.

Theory of operation
-------------------
The stream is a header, the rows of each logical table in order, and a footer::

    block   = length (4 bytes, little-endian, of the body) | CRC32C of length and body (4) | body
    body    = kind (1 byte) | content
    header  = Header: whose state, and the progress row
    rows    = number of the table (1 byte) | a msgpack array of rows
    footer  = Footer: how many rows each table has, and the digest of the logical state

All of it follows from the logical state and from the name of the cluster: every replica that exports the state at one
index writes the same bytes. Blocks are about ``BLOCK_BYTES`` long, so neither side holds more than one in memory. They
delimit themselves: a reader may be given the stream in pieces of any size.

The checksum of each block finds damage at once and says where; the digest shows that all of it together is the state
that was exported. The format has a version of its own: a later release reads earlier ones, an earlier release refuses
what is later.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import google_crc32c
import msgspec

MAGIC: Final = "telegraft chat state"

SNAPSHOT_FORMAT: Final = 1
"""Raise it when a table or a column is added; readers keep reading the formats before."""

BLOCK_BYTES: Final = 256 * 1024
"""A block of rows ends with the rows that reach this many bytes."""

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""A length beyond this is damage: a body has at most ``BLOCK_BYTES`` and a few dozen of the longest rows more."""

HEADER, ROWS, FOOTER = 1, 2, 3

_PREFIX: Final = struct.Struct("<II")
_LENGTH: Final = struct.Struct("<I")
_ARRAY: Final = struct.Struct(">BI")
_ARRAY_32: Final = 0xDD
"""msgpack: an array whose length is given in 32 bits."""


class SnapshotUnusable(Exception):
    """A snapshot cannot be imported; the message names what is wrong with it. What was there before is untouched."""


class Header(msgspec.Struct, frozen=True, array_like=True):
    """Whose state it is, and how far the log is applied in it. New fields go to the end, with a default."""

    magic: str
    format: int
    cluster: str
    group: int
    applied_index: int
    applied_term: int
    last_id: int
    time_ms: int
    users: int


class Footer(msgspec.Struct, frozen=True, array_like=True):
    """``rows``: how many each table has, in the order of the tables. ``digest``: of the logical state, in hex."""

    rows: tuple[int, ...]
    digest: str


class Block(NamedTuple):
    """One block as it was read; ``place`` says which, for messages."""

    place: str
    kind: int
    content: memoryview


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(Header)
_footer_decoder = msgspec.msgpack.Decoder(Footer)
_any_decoder = msgspec.msgpack.Decoder(list[object])


def encode_block(kind: int, *content: bytes | memoryview) -> bytes:
    """One block, ready to be written."""
    body = b"".join((bytes((kind,)), *content))
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"a block of {len(body)} bytes cannot be read again: blocks have up to {MAX_BODY_BYTES}")
    return b"".join((_PREFIX.pack(len(body), _checksum(body)), body))


def encode_header(header: Header) -> bytes:
    return encode_block(HEADER, _encoder.encode(header))


def encode_rows_block(table: int, count: int, data: bytes | memoryview) -> bytes:
    """``count`` rows of the table with this number, their encodings one behind the other."""
    return encode_block(ROWS, bytes((table,)), _ARRAY.pack(_ARRAY_32, count), data)


def encode_footer(footer: Footer) -> bytes:
    return encode_block(FOOTER, _encoder.encode(footer))


def decode_header(block: Block) -> Header:
    """Raises ``SnapshotUnusable`` for a block that is no header, or one of a later format."""
    try:
        fields = _any_decoder.decode(block.content) if block.kind == HEADER else []
    except (msgspec.MsgspecError, UnicodeDecodeError):
        fields = []
    if fields[:1] != [MAGIC]:
        raise SnapshotUnusable(f"{block.place} is not the beginning of a snapshot of the chat state")
    if fields[1:2] != [SNAPSHOT_FORMAT]:
        raise SnapshotUnusable(
            f"the snapshot has format {fields[1] if len(fields) > 1 else 'none'}, this release reads format "
            f"{SNAPSHOT_FORMAT}: run the release that wrote it, or a newer one"
        )
    try:
        return _header_decoder.decode(block.content)
    except msgspec.MsgspecError as error:
        raise SnapshotUnusable(f"the header in {block.place} cannot be read: {error}") from error


def decode_footer(block: Block) -> Footer:
    """Raises ``SnapshotUnusable``."""
    try:
        return _footer_decoder.decode(block.content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotUnusable(f"the footer in {block.place} cannot be read: {error}") from error


def array_of(content: memoryview) -> memoryview:
    """In the content of a block of rows: the msgpack array."""
    return content[1:]


def rows_in(content: memoryview) -> memoryview:
    """In the content of a block of rows: the encodings of the rows alone, as they go into the digest."""
    return content[1 + _ARRAY.size :]


def read_blocks(pieces: Iterable[bytes]) -> Iterator[Block]:
    """The blocks in a stream that comes in pieces of any size. Raises ``SnapshotUnusable`` where one is damaged.

    A block's content is valid until the next one is asked for.
    """
    buffer = bytearray()
    number, offset = 1, 0
    for piece in pieces:
        buffer += piece
        start = 0
        while (body := _whole_body(buffer, start, f"block {number} (at byte {offset + start})")) is not None:
            end = start + _PREFIX.size + len(body)
            yield Block(f"block {number} (at byte {offset + start})", body[0], memoryview(body)[1:])
            number, start = number + 1, end
        del buffer[:start]
        offset += start
    if buffer:
        raise SnapshotUnusable(
            f"the snapshot ends within block {number} (at byte {offset}): fetch it again, or take an older one"
        )


def _whole_body(buffer: bytearray, start: int, place: str) -> bytes | None:
    """The body of the block that begins at ``start``, or None while some of it is missing."""
    if len(buffer) - start < _PREFIX.size:
        return None
    length, checksum = _PREFIX.unpack_from(buffer, start)
    if not 1 <= length <= MAX_BODY_BYTES:
        raise SnapshotUnusable(f"{place} is damaged: its length is {length}. Fetch the snapshot again")
    if len(buffer) - start - _PREFIX.size < length:
        return None
    body = bytes(memoryview(buffer)[start + _PREFIX.size : start + _PREFIX.size + length])
    if _checksum(body) != checksum:
        raise SnapshotUnusable(f"{place} is damaged: its checksum does not match. Fetch the snapshot again")
    return body


def _checksum(body: bytes) -> int:
    return int(google_crc32c.extend(google_crc32c.value(_LENGTH.pack(len(body))), body))
