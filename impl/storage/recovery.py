"""Reading a log back: which bytes are the log, which are a torn tail, and which mean that the disk has lied.

Theory of operation
-------------------
Each frame is synced before the next is written, and each segment before the next is begun. So after a power loss only
the very last thing written can be incomplete, and everything follows from that:

- *A torn tail* is a broken frame at the end of the newest segment with nothing recognisable behind it, no longer than
  one frame. It was never acknowledged. It is cut.
- *A half-made segment* is a newest file without a whole header, no longer than that header and with no frame in it:
  frames are written only after the header is synced. It is removed, like a segment with a header and no frame.
- *Everything else is damage*: a broken frame with a later one behind it, or in any segment but the newest (a newer
  file, even a half-made one, shows that this one had been synced to its end); a whole frame that does not continue
  the chain; a missing segment; a record that cannot follow the one before it. Damage is reported, never cut.

What this cannot tell apart
---------------------------
A durable *last* frame that rots is, bit for bit, a torn write, and is cut like one: this node then forgets what that
frame held, entries or a vote that it may have acknowledged. The same goes for damage that swallows the whole end of
the log up to its last byte (no more than one frame's length), and for newest files that somebody removed. Within the
fault model (damage to one frame, not the last) nothing is lost silently. A torn frame whose payload was forged to
contain a later frame of this log, right sequence number and checksum included, is taken for damage: the node refuses
to start, but nothing is lost.

This module only reads; ``wal`` carries out what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from impl.raft.messages import Entry, HardState
from impl.storage.codec import (
    FORMAT_VERSION,
    MAX_FRAME_BYTES,
    RECORD,
    Frame,
    NewerFormat,
    NotRecognised,
    Record,
    SegmentHeader,
    decode_frame,
    decode_record,
    decode_segment_header,
    encode_segment_header,
    find_frame,
    first_sequence_of,
    frame_seed,
    segment_name,
)
from impl.storage.continuity import Discontinuity, LogEnd
from impl.storage.errors import FormatTooNew, LogDamaged, WrongIdentity
from impl.storage.identity import Identity


@dataclass(frozen=True)
class Tail:
    """Where the log ends: the newest segment that holds a frame."""

    name: str
    size_bytes: int  # of the segment up to the end of its last frame: what stands behind is torn
    last_frame_offset: int
    last_frame: bytes


class Recovery:
    """Reads the segments ``names`` (sorted) of the log of ``identity`` in ``directory``, through ``read``.

    After ``run`` the public attributes tell what was found; ``run`` raises ``LogDamaged``, ``FormatTooNew`` or
    ``WrongIdentity`` instead when the log must not be used.
    """

    def __init__(
        self, directory: Path, names: Sequence[str], read: Callable[[Path], bytes], identity: Identity
    ) -> None:
        self.end = LogEnd()
        self.entries: list[Entry] = []
        self.next_sequence = 1
        self.chain_crc = 0  # what the next frame of the same segment, or the next segment, continues from
        self.frames = 0
        self.bytes = 0  # of all segments that stay, headers included
        self.segments = 0  # that stay
        self.tail: Tail | None = None  # None: no segment holds a frame
        self.cut_bytes = 0  # of the torn tail
        self.discarded: str | None = None  # a newest segment without a frame, to be removed
        self._directory = directory
        self._names = names
        self._read = read
        self._identity = identity
        self._seed = frame_seed(identity)

    @property
    def hard_state(self) -> HardState:
        return self.end.hard_state

    def run(self) -> None:
        for position, name in enumerate(self._names):
            self._read_segment(name, newest=position == len(self._names) - 1)

    def _read_segment(self, name: str, *, newest: bool) -> None:
        path = self._directory / name
        if first_sequence_of(name) != self.next_sequence:
            expected = segment_name(self.next_sequence)
            raise LogDamaged(path, 0, f"the next segment should be {expected}; part of the log is missing")
        chain_crc_before = self.chain_crc
        data = self._read(path)
        header_end = self._read_header(path, data, newest=newest)
        frame: Frame | None = None
        offset = header_end
        while offset < len(data):
            try:
                frame = decode_frame(self._seed, data, offset)
            except NotRecognised as problem:
                self._check_torn(path, data, offset, str(problem), newest=newest)
                self.cut_bytes = len(data) - offset
                break
            self._check_place(path, frame)
            self._replay(path, frame)
            self.next_sequence += 1
            self.chain_crc = frame.crc
            self.frames += 1
            offset = frame.end
        if frame is None:
            if not newest:
                raise LogDamaged(path, header_end, "a closed segment holds no frame")
            self.discarded = name
            self.chain_crc = chain_crc_before
            return
        self.segments += 1
        self.bytes += offset
        self.tail = Tail(name, offset, frame.offset, data[frame.offset : frame.end])

    def _read_header(self, path: Path, data: bytes, *, newest: bool) -> int:
        """Check the header against what the log so far demands; its end, or that of ``data`` if it is half-made."""
        identity = self._identity
        expected = SegmentHeader(
            cluster=identity.cluster,
            node_id=identity.node_id,
            group=identity.group,
            first_sequence=self.next_sequence,
            first_index=self.end.last_index + 1,
            previous_crc=self.chain_crc,
        )
        try:
            header, header_end, crc = decode_segment_header(data)
        except NewerFormat as newer:
            raise FormatTooNew(path, newer.version, FORMAT_VERSION) from newer
        except NotRecognised as problem:
            half_made = len(data) <= len(encode_segment_header(expected)[0])
            if newest and half_made and find_frame(self._seed, data, 0, self.next_sequence) is None:
                return len(data)
            raise LogDamaged(path, 0, str(problem)) from problem
        if header.identity != identity:
            raise WrongIdentity(path, str(header.identity), str(identity))
        if header != expected:
            raise LogDamaged(
                path,
                0,
                f"the segment does not continue the one before it: its header says sequence {header.first_sequence}, "
                f"index {header.first_index}, previous crc {header.previous_crc:08x}; the log so far demands "
                f"{expected.first_sequence}, {expected.first_index}, {expected.previous_crc:08x}",
            )
        self.chain_crc = crc
        return header_end

    def _check_torn(self, path: Path, data: bytes, offset: int, problem: str, *, newest: bool) -> None:
        """Raise ``LogDamaged`` unless what begins at ``offset`` can be the torn write of the very last frame."""
        if not newest:
            raise LogDamaged(path, offset, f"{problem}, and later segments exist")
        if len(data) - offset > MAX_FRAME_BYTES:
            raise LogDamaged(path, offset, f"{problem}, and more follows than one torn write could leave")
        later = find_frame(self._seed, data, offset, self.next_sequence)
        if later is not None:
            raise LogDamaged(
                path, offset, f"{problem}, but frame {later.sequence} behind it, at {later.offset}, is whole"
            )

    def _check_place(self, path: Path, frame: Frame) -> None:
        if frame.sequence != self.next_sequence:
            raise LogDamaged(path, frame.offset, f"frame {frame.sequence} stands where {self.next_sequence} must")
        if frame.previous_crc != self.chain_crc:
            raise LogDamaged(path, frame.offset, f"frame {frame.sequence} does not continue the frame before it")

    def _replay(self, path: Path, frame: Frame) -> None:
        if frame.kind != RECORD:
            raise LogDamaged(path, frame.offset, f"frame {frame.sequence} is of kind {frame.kind}, unknown here")
        try:
            record = decode_record(frame.body)
            self.end.check(record.hard_state, record.entries)
        except Discontinuity as problem:
            raise LogDamaged(path, frame.offset, f"frame {frame.sequence}: {problem}") from problem
        except ValueError as problem:
            raise LogDamaged(path, frame.offset, f"frame {frame.sequence} cannot be read: {problem}") from problem
        self._follow(record)

    def _follow(self, record: Record) -> None:
        self.end.follow(record.hard_state, record.entries)
        if record.entries:
            del self.entries[record.entries[0].index - 1 :]
            self.entries.extend(record.entries)
