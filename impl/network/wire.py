"""What nodes put on a stream between them: frames of one message each.

Theory of operation
-------------------
A stream carries messages in one direction, from the node that dialled. It opens with a ``Hello`` that says who speaks
to whom, in which cluster and in which version of this format; a node that is not meant closes the stream. Each frame
is ``length u32 | crc32c u32 | msgpack body``, integers big-endian. The length is checked before anything is allocated,
the checksum before anything is decoded: TCP's own checksum is weak, and a proxy or a broken card in between must not
be able to forge a vote.

Besides the messages of Raft, nodes pass clients' requests to the leader (``Forward``) and the outcome back
(``ForwardReply``). A forwarded request keeps the three outcomes apart: done, certainly not done, unknown.
"""

from __future__ import annotations

from typing import TypeAlias

import google_crc32c
import msgspec

from impl.raft.messages import Message, NodeId

WIRE_VERSION = 2

HEADER_BYTES = 8

MAX_FRAME_BYTES = 8 * 1024 * 1024
"""An append holds at most 512 KiB of payload beyond its first entry, a piece of a snapshot less than that, and a
command at most 64 KiB: anything larger than this is not ours."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The first frame of every stream."""

    version: int
    cluster: str
    source: NodeId
    target: NodeId
    run_id: str  # of the sender's process: another at every start
    reply_to: str = ""  # host:port where the sender receives; for nodes that do not know it by their configuration


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """A client's request on its way to the leader. ``request`` is unique within the run of the sender's process, and
    ``body`` means what ``kind`` says (``impl.node``)."""

    group: int
    source: NodeId
    target: NodeId
    run_id: str
    request: int
    kind: int
    body: bytes
    timeout_ms: int


class ForwardReply(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """``outcome`` is ``ok`` (then ``reply``), ``not-done`` (then ``reason``), ``unknown``, or ``overtaken``: the leader
    lost its office with the command in its log, ask the next one."""

    group: int
    source: NodeId
    target: NodeId
    run_id: str  # of the process that asked
    request: int
    outcome: str
    reply: bytes = b""
    reason: str = ""
    detail: str = ""


WireMessage: TypeAlias = Message | Forward | ForwardReply


class BadFrame(ValueError):
    """The stream does not carry what this format allows; it has to be closed."""


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message | Hello | Forward | ForwardReply] = msgspec.msgpack.Decoder(
    Message | Hello | Forward | ForwardReply
)


def encode(message: WireMessage | Hello) -> bytes:
    """One frame. Raises ``BadFrame`` for a message that is too large to be sent."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise BadFrame(f"{type(message).__name__} of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return len(body).to_bytes(4, "big") + _checksum(body) + body


def _checksum(body: bytes) -> bytes:
    return int(google_crc32c.value(body)).to_bytes(4, "big")


class FrameReader:
    """Turns the bytes of one stream, in pieces of any size, into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> list[WireMessage | Hello]:
        """The messages that these bytes complete. Raises ``BadFrame``; the stream is then beyond repair."""
        self._buffer += data
        messages: list[WireMessage | Hello] = []
        start = 0
        while len(self._buffer) - start >= HEADER_BYTES:
            length = int.from_bytes(self._buffer[start : start + 4], "big")
            if length > MAX_FRAME_BYTES:
                raise BadFrame(f"frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
            end = start + HEADER_BYTES + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[start + HEADER_BYTES : end])
            if _checksum(body) != self._buffer[start + 4 : start + 8]:
                raise BadFrame("frame fails its checksum")
            try:
                messages.append(_decoder.decode(body))
            except (msgspec.DecodeError, RecursionError) as error:  # the latter: nested too deeply
                raise BadFrame(f"frame is not a message of this version: {error}") from error
            start = end
        del self._buffer[:start]
        return messages
