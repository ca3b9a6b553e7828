"""Reading a log back: which bytes are the log, which are a torn tail, and which mean that the disk has lied.

Theory of operation
-------------------
Each frame is synced before the next is written, each segment before the next is begun, and a segment gets its name when
it has its whole size and its header. So after a power loss only the very last frame can be incomplete, and everything
follows from that:

- *The end of the log* is where only zeros follow in the newest segment.
- *A torn tail* is a broken frame there with nothing recognisable behind it, no longer than one frame up to the last
  byte that is not zero. It was never acknowledged. It is cut: overwritten with zeros.
- *Everything else is damage*: a broken frame with a later one behind it, or in any segment but the newest (its
  successor names the frame that it continues, and that one is then missing); a broken header; a whole frame that does
  not continue the chain; a missing segment; a record that cannot follow the one before it. Damage is reported, never
  cut. What stands behind the last frame of a segment that has a successor is of no account: the chain goes on without.

The oldest segment that is left may have had others before it. Its header says where the log was; the entries in between
that base and this segment are a gap, which a later base must have covered by the end, or part of the log is missing.

What this cannot tell apart
---------------------------
A durable *last* frame that rots is, bit for bit, a torn write, and is cut like one: this node then forgets what that
frame held, entries or a vote that it may have acknowledged. The same goes for damage that swallows the whole end of
the log up to its last byte (no more than one frame's length), or turns it to zeros, and for newest files that somebody
removed. Within the fault model (damage to one frame, not the last) nothing is lost silently. A second copy of term and
vote would not help: what tells rot from a torn write is knowing that the frame had been synced, and to note that would
take a second sync for each frame; and entries would be lost all the same. A torn frame whose payload was forged to
contain a later frame of this log, right sequence number and checksum included, is taken for damage: the node refuses
to start, but nothing is lost.

This module only reads; ``wal`` carries out what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from impl.raft.messages import Base, Entry, HardState
from impl.storage.codec import (
    FORMAT_VERSION,
    MAX_FRAME_BYTES,
    RECORD,
    Frame,
    NewerFormat,
    NotRecognised,
    OlderFormat,
    Record,
    SegmentHeader,
    decode_frame,
    decode_record,
    decode_segment_header,
    find_frame,
    first_sequence_of,
    frame_seed,
    segment_name,
)
from impl.storage.continuity import Discontinuity, LogEnd
from impl.storage.errors import FormatTooNew, FormatTooOld, LogDamaged, WrongIdentity
from impl.storage.identity import Identity
from impl.storage.segments import Segment, Segments

_ZEROS = bytes(64 * 1024)


@dataclass(frozen=True)
class Tail:
    """Where the log ends: the newest segment."""

    name: str
    size_bytes: int  # of the segment up to the end of its last frame: what stands behind is torn, or zeros
    last_frame_offset: int
    last_frame: bytes  # empty if the segment holds none yet


class Recovery:
    """Reads the segments ``names`` (sorted) of the log of ``identity`` in ``directory``, through ``read``.

    After ``run`` the public attributes tell what was found; ``run`` raises ``LogDamaged``, ``FormatTooNew``,
    ``FormatTooOld`` or ``WrongIdentity`` instead when the log must not be used, and then they tell what was found
    before. Holds one segment and the entries behind the base at a time.
    """

    def __init__(
        self, directory: Path, names: Sequence[str], read: Callable[[Path], bytes], identity: Identity
    ) -> None:
        self.end = LogEnd()
        self.entries: list[Entry] = []
        self.first_index = 1  # of the first of ``entries``, or of the next one
        self.next_sequence = 1
        self.chain_crc = 0  # what the next frame of the same segment, or the next segment, continues from
        self.segments = Segments()
        self.tail = Tail("", 0, 0, b"")
        self.cut_bytes = 0  # of the torn tail
        self._directory = directory
        self._names = names
        self._read = read
        self._identity = identity
        self._seed = frame_seed(identity)
        self._broken: tuple[Path, int, str] | None = None  # where the frames of the segment before end

    @property
    def hard_state(self) -> HardState:
        return self.end.hard_state

    @property
    def base(self) -> Base | None:
        return self.end.base

    def run(self) -> None:
        for position, name in enumerate(self._names):
            self._read_segment(name, first=position == 0, newest=position == len(self._names) - 1)
        if self.first_index > self.end.base_index + 1:
            raise self._damage(
                self._directory / self._names[0],
                0,
                f"the log begins with entry {self.first_index}, but its base is at {self.end.base_index}; part of the "
                "log is missing",
            )

    def _damage(self, path: Path, offset: int, problem: str) -> LogDamaged:
        return LogDamaged(
            path,
            offset,
            problem,
            good_frames=sum(segment.frames for segment in self.segments.files),
            good_index=self.end.last_index,
        )

    def _read_segment(self, name: str, *, first: bool, newest: bool) -> None:
        path = self._directory / name
        if first:
            self.next_sequence = first_sequence_of(name) or 0
        elif first_sequence_of(name) != self.next_sequence:
            self._blame_broken()
            expected = segment_name(self.next_sequence)
            raise self._damage(path, 0, f"the next segment should be {expected}; part of the log is missing")
        data = self._read(path)
        offset = self._read_header(path, data, first=first)
        self.segments.begin(Segment(name, self.next_sequence, len(data), offset))
        frame: Frame | None = None
        problem = ""
        while offset < len(data):
            try:
                found = decode_frame(self._seed, data, offset)
            except NotRecognised as error:
                problem = str(error)
                break
            frame = found
            self._check_place(path, frame)
            self._replay(path, frame)
            self.next_sequence += 1
            self.chain_crc = frame.crc
            offset = frame.end
        if newest:
            self._check_torn(path, data, offset, problem)
            self.tail = (
                Tail(name, offset, offset, b"")
                if frame is None
                else Tail(name, offset, frame.offset, data[frame.offset : frame.end])
            )
        self._broken = (path, offset, problem) if problem and end_of_data(data, offset) > offset else None

    def _blame_broken(self) -> None:
        """The segments do not continue each other: if the one before ends in something broken, say that."""
        if self._broken is not None:
            path, offset, problem = self._broken
            raise self._damage(path, offset, f"{problem}, and later segments exist")

    def _read_header(self, path: Path, data: bytes, *, first: bool) -> int:
        """Check the header against what the log so far demands; its end."""
        try:
            header, header_end, crc = decode_segment_header(data)
        except NewerFormat as newer:
            raise FormatTooNew(path, newer.version, FORMAT_VERSION) from newer
        except OlderFormat as older:
            raise FormatTooOld(path, older.version, FORMAT_VERSION) from older
        except NotRecognised as problem:
            raise self._damage(path, 0, str(problem)) from problem
        if header.identity != self._identity:
            raise WrongIdentity(path, str(header.identity), str(self._identity))
        if first and self.next_sequence > 1:
            self._begin_in_the_middle(header)
        expected = self._expected_header(header.previous_crc if first and self.next_sequence > 1 else self.chain_crc)
        if header != expected:
            self._blame_broken()
            raise self._damage(
                path, 0, f"the segment does not continue the log before it: its header says {header}, not {expected}"
            )
        self.chain_crc = crc
        return header_end

    def _begin_in_the_middle(self, header: SegmentHeader) -> None:
        self.end = LogEnd(header.hard_state, header.base, header.last_index, header.last_term)
        self.first_index = header.last_index + 1

    def _expected_header(self, previous_crc: int) -> SegmentHeader:
        return segment_header(self._identity, self.next_sequence, previous_crc, self.end)

    def _check_torn(self, path: Path, data: bytes, offset: int, problem: str) -> None:
        """Note what is torn; raise ``LogDamaged`` unless it can be the torn write of the very last frame."""
        end = end_of_data(data, offset)
        self.cut_bytes = end - offset
        if not self.cut_bytes:
            return
        if self.cut_bytes > MAX_FRAME_BYTES:
            raise self._damage(path, offset, f"{problem}, and more follows than one torn write could leave")
        later = find_frame(self._seed, data, offset, self.next_sequence)
        if later is not None:
            raise self._damage(
                path, offset, f"{problem}, but frame {later.sequence} behind it, at {later.offset}, is whole"
            )

    def _check_place(self, path: Path, frame: Frame) -> None:
        if frame.sequence != self.next_sequence:
            raise self._damage(path, frame.offset, f"frame {frame.sequence} stands where {self.next_sequence} must")
        if frame.previous_crc != self.chain_crc:
            raise self._damage(path, frame.offset, f"frame {frame.sequence} does not continue the frame before it")

    def _replay(self, path: Path, frame: Frame) -> None:
        if frame.kind != RECORD:
            raise self._damage(path, frame.offset, f"frame {frame.sequence} is of kind {frame.kind}, unknown here")
        try:
            record = decode_record(frame.body)
            self.end.check(record.hard_state, record.entries, record.base, drops=record.drops)
        except Discontinuity as problem:
            raise self._damage(path, frame.offset, f"frame {frame.sequence}: {problem}") from problem
        except ValueError as problem:
            raise self._damage(path, frame.offset, f"frame {frame.sequence} cannot be read: {problem}") from problem
        self._follow(record)
        self.segments.follow(frame.end - frame.offset, record.entries, drops=record.drops)

    def _follow(self, record: Record) -> None:
        self.end.follow(record.hard_state, record.entries, record.base, drops=record.drops)
        if record.base is not None:
            self._follow_base(record.base, drops=record.drops)
        if record.entries:
            kept = record.entries[0].index - self.first_index
            if kept < 0:  # the first of them is in the gap
                self.first_index, kept = record.entries[0].index, 0
            del self.entries[kept:]
            self.entries.extend(record.entries)

    def _follow_base(self, base: Base, *, drops: bool) -> None:
        if drops:
            self.entries.clear()
        elif base.index < self.first_index:
            return
        else:
            del self.entries[: base.index + 1 - self.first_index]
        self.first_index = base.index + 1


def segment_header(identity: Identity, first_sequence: int, previous_crc: int, end: LogEnd) -> SegmentHeader:
    """The header of a segment that begins where the log ends in ``end``."""
    return SegmentHeader(
        cluster=identity.cluster,
        node_id=identity.node_id,
        group=identity.group,
        incarnation=identity.incarnation,
        first_sequence=first_sequence,
        previous_crc=previous_crc,
        hard_state=end.hard_state,
        base=end.base,
        last_index=end.last_index,
        last_term=end.last_term,
    )


def end_of_data(data: bytes, start: int) -> int:
    """One past the last byte from ``start`` on that is not zero; ``start`` if all are."""
    end = len(data)
    while end > start:
        block = max(start, end - len(_ZEROS))
        if data[block:end] != _ZEROS[: end - block]:
            return block + len(data[block:end].rstrip(b"\0"))
        end = block
    return start
