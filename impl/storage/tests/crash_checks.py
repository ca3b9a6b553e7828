"""Crash a log at every boundary and judge what comes back: the checks that the real log passes and its mutants fail.

Each check takes the class of log to try and raises ``Violation`` at the first wrong outcome. What may come back is
decided by a model that shares no code with the log: ``states_of`` replays the script on plain tuples. After any
mishap the log must hold one of the states from the last acknowledged step to the last attempted one, whole steps only,
and must then go on to the end of the script as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeAlias

from impl.raft.messages import Entry, HardState
from impl.storage.codec import Frame, decode_frame, decode_segment_header, first_sequence_of, frame_seed
from impl.storage.errors import LogDamaged, StorageError, StorageFailed
from impl.storage.identity import Identity
from impl.storage.recovery import Recovery
from impl.storage.simulated_disk import PowerLost, SimulatedDisk
from impl.storage.wal import Recovered, Wal

IDENTITY = Identity("town", 1)
DIRECTORY = Path("/var/node-1")

#: Small, so that the script below fills several segments.
SEGMENT_BYTES = 400

Step: TypeAlias = tuple[HardState | None, Sequence[Entry]]
State: TypeAlias = tuple[HardState, tuple[Entry, ...]]


def entry(index: int, term: int, size_bytes: int = 0) -> Entry:
    return Entry(index, term, (b"%d.%d " % (index, term) * (size_bytes // 4 + 1))[: size_bytes or 5])


SCRIPT: list[Step] = [
    (HardState(1, 0), []),
    (HardState(1, 1), []),
    (None, [entry(1, 1, 0)]),
    (None, [entry(2, 1), entry(3, 1), entry(4, 1)]),
    (HardState(3, 2), []),
    (HardState(3, 2), [entry(3, 2), entry(4, 3)]),  # replaces a suffix, by a later term
    (None, [entry(5, 3, 200)]),
    (None, [entry(6, 3, 700)]),  # more than a segment
    (None, [entry(7, 3)]),
    (HardState(5, 0), [entry(6, 3)]),  # a much shorter entry in place of two
    (None, [entry(7, 5), entry(8, 5), entry(9, 5)]),
    (HardState(6, 3), [entry(2, 4)]),  # replaces nearly all, by a lower term than was there
    (None, [entry(3, 6, 120)]),
    (None, [entry(4, 6, 120)]),
    (HardState(7, 1), [entry(1, 7)]),  # replaces all
    (None, [entry(index, 7, 30) for index in range(2, 12)]),
    (HardState(8, 8), []),
    (None, [entry(12, 8)]),
]


EMPTY: State = (HardState(), ())

#: How things go on when they do not go on as planned: another term, short frames and then long ones. What a torn
#: frame has left behind is not simply written over with the same bytes.
TURN_OF_EVENTS: list[Step] = [
    (HardState(20, 0), []),
    (None, [entry(1, 20, 0)]),
    (None, [entry(2, 20, 330)]),
    (None, [entry(3, 20, 330)]),
]


class Violation(AssertionError):
    """The log has forgotten what it had acknowledged, or remembers what never was."""


class Killed(Exception):
    """The process ends here, the power stays on."""


def states_of(script: Iterable[Step], start: State = EMPTY) -> list[State]:
    """The state before the first step and after each."""
    states = [start]
    for hard_state, new in script:
        was, entries = states[-1]
        kept = entries[: new[0].index - 1] if new else entries
        states.append((hard_state or was, (*kept, *new)))
    return states


STATES = states_of(SCRIPT)


@dataclass
class Life:
    """A log under test on one disk, from one mishap to the next."""

    wal_class: type[Wal]
    disk: SimulatedDisk
    acknowledged: int = 0  # steps of the script known durable
    attempted: int = 0  # steps of the script that may have happened
    script: Sequence[Step] = field(default_factory=lambda: SCRIPT, repr=False)
    states: Sequence[State] = field(default_factory=lambda: STATES, repr=False)
    wal: Wal | None = field(default=None, repr=False)

    def open(self) -> Recovered:
        self.wal, recovered = self.wal_class.open(self.disk, DIRECTORY, IDENTITY, segment_bytes=SEGMENT_BYTES)
        return recovered

    def run(self) -> None:
        """The rest of the script, from the last acknowledged step on."""
        assert self.wal is not None
        for step in range(self.acknowledged + 1, len(self.script) + 1):
            self.attempted = step
            self.wal.append(*self.script[step - 1])
            self.wal.sync()
            self.acknowledged = step

    def next(self, disk: SimulatedDisk) -> Life:
        """The same node on what is left of its disk."""
        return Life(self.wal_class, disk, self.acknowledged, self.attempted, self.script, self.states)

    def reopen(self, story: str) -> State:
        """Open after a mishap and judge what is there; what was reported counts as acknowledged from then on."""
        try:
            recovered = self.open()
        except LogDamaged as error:
            raise Violation(f"{story}: a crash was taken for damage: {error}") from error
        state = state_of(recovered)
        for step in range(self.acknowledged, self.attempted + 1):
            if self.states[step] == state:
                self.acknowledged = self.attempted = step
                return state
        raise Violation(
            f"{story}: steps {self.acknowledged} to {self.attempted} may be there, but it holds {state}; "
            f"allowed: {self.states[self.acknowledged : self.attempted + 1]}"
        )

    def finish(self, story: str) -> None:
        """Go on to the end of the script, stop cleanly, and look once more."""
        self.run()
        self._stop_and_look(story, self.states[-1])

    def take_a_turn(self, story: str) -> None:
        """Go on with something else than what was planned, stop cleanly, and look once more."""
        assert self.wal is not None
        assert self.acknowledged == self.attempted
        for step in TURN_OF_EVENTS:
            self.wal.append(*step)
            self.wal.sync()
        self._stop_and_look(story, states_of(TURN_OF_EVENTS, self.states[self.acknowledged])[-1])

    def _stop_and_look(self, story: str, expected: State) -> None:
        assert self.wal is not None
        self.wal.close()
        try:
            recovered = self.open()
        except StorageError as error:
            raise Violation(f"{story}: went on, stopped cleanly, and then: {error}") from error
        if state_of(recovered) != expected or recovered.cut_bytes:
            raise Violation(f"{story}: went on, stopped cleanly, and then held {recovered}")
        self.wal.close()


def state_of(recovered: Recovered) -> State:
    return recovered.hard_state, tuple(recovered.entries)


def count_operations(wal_class: type[Wal]) -> int:
    """Of opening an empty directory and running the script."""
    life = Life(wal_class, empty_disk())
    life.open()
    life.run()
    return life.disk.operations


def empty_disk(seed: int = 0) -> SimulatedDisk:
    return SimulatedDisk(seed)


# Power losses


def interrupted_lives(wal_class: type[Wal], stride: int = 1) -> Iterator[tuple[int, Life]]:
    """The script cut short by a power loss after the nth operation, for every n from 0 to all."""
    for n in range(0, count_operations(wal_class) + 1, stride):
        life = Life(wal_class, empty_disk())
        life.disk.power_off_after(n)
        try:
            life.open()
            life.run()
        except PowerLost:
            pass
        yield n, life


def check_power_losses(wal_class: type[Wal], *, seeds: int, stride: int = 1) -> None:
    """Lose the power after every operation; whatever survived, the log opens to an allowed state and goes on."""
    for n, life in interrupted_lives(wal_class, stride):
        for seed in range(seeds):
            story = f"power lost after operation {n}, survivors by seed {seed}"
            after = life.next(life.disk.crash(Random(seed)))
            after.reopen(story)
            if seed % 2:
                after.finish(story)
            else:
                after.take_a_turn(story)


def check_power_losses_in_recovery(wal_class: type[Wal], *, seeds: int, stride: int = 1) -> None:
    """The same, and lose it again after every operation of the recovery."""
    for n, life in interrupted_lives(wal_class, stride):
        for seed in range(seeds):
            for m in range(100):
                story = f"power lost after operation {n}, seed {seed}, and after {m} of the recovery"
                second = life.next(life.disk.crash(Random(seed)))
                second.disk.power_off_after(m)
                try:
                    second.open()
                except PowerLost:
                    third = second.next(second.disk.crash(Random(seed * 100 + m)))
                    third.reopen(story)
                    third.finish(story)
                else:
                    break
            else:
                raise Violation(f"after operation {n}, seed {seed}: recovery does not end")


# Mishaps with the power on, and then a power loss: what was reported in between must stand


def check_kills(wal_class: type[Wal], *, seeds: int) -> None:
    """Kill the process after every operation; what the next one reports must outlive a power loss."""
    for n in range(count_operations(wal_class) + 1):
        life = Life(wal_class, empty_disk())
        life.disk.observe = _kill_at(n)
        try:
            life.open()
            life.run()
        except Killed:
            pass
        life.disk.observe = None
        _check_report_stands(life, f"killed after operation {n}", seeds)


def check_failed_syncs(wal_class: type[Wal], *, seeds: int) -> None:
    """Let every single sync fail; the log stops for good, and what the next process reports is durable."""
    _check_failures(wal_class, "sync", lambda disk, n: disk.fail_nth_sync(n), seeds)


def check_failed_writes(wal_class: type[Wal], *, seeds: int) -> None:
    """Let every single write fail half-way."""
    _check_failures(wal_class, "write", lambda disk, n: disk.fail_nth_write(n), seeds)


def _check_failures(wal_class: type[Wal], what: str, arm: Callable[[SimulatedDisk, int], None], seeds: int) -> None:
    for n in range(1, 1000):
        life = Life(wal_class, empty_disk(seed=n))
        arm(life.disk, n)
        try:
            life.open()
            life.run()
        except StorageFailed:
            if life.wal is not None:
                _check_stopped(life.wal)
        if not life.disk.failures:
            return
        _check_report_stands(life, f"{what} {n} failed", seeds)
        if life.acknowledged == len(SCRIPT):
            raise Violation(f"{what} {n} failed and nobody noticed")
    raise Violation("the script does not end")


def check_full_disk(wal_class: type[Wal], *, stride: int) -> None:
    """Let the disk fill up at every size; stop with a word, and lose nothing once there is space again."""
    for capacity_bytes in range(0, 10_000, stride):
        life = Life(wal_class, SimulatedDisk(capacity_bytes=capacity_bytes))
        try:
            life.open()
            life.run()
        except StorageFailed as failure:
            if str(failure.file) not in str(failure) or "space" not in str(failure):
                raise Violation(f"an unclear word about a full disk: {failure}") from failure
            if life.wal is not None:
                _check_stopped(life.wal)
        else:
            return
        life.disk.kill()
        story = f"full at {capacity_bytes} bytes"
        if life.acknowledged:  # opens while still full: cutting and rewriting need no space
            still_full = life.next(life.disk)
            still_full.reopen(story)
            life = still_full
            life.disk.kill()
        life.disk.capacity_bytes = None
        after = life.next(life.disk)
        after.reopen(story)
        after.finish(story)
    raise Violation("the script does not fit into any disk")


def _kill_at(n: int) -> Callable[[int, str, Path], None]:
    def observe(operation: int, _name: str, _path: Path) -> None:
        if operation == n + 1:
            raise Killed

    return observe


def _check_stopped(wal: Wal) -> None:
    for attempt in (wal.sync, lambda: wal.append(HardState(99, 1), [])):
        try:
            attempt()
        except StorageFailed:
            continue
        raise Violation("a log that has failed goes on")


def _check_report_stands(life: Life, story: str, seeds: int) -> None:
    life.disk.kill()
    second = life.next(life.disk)
    reported = second.reopen(story)
    for seed in range(seeds):
        third = second.next(second.disk.crash(Random(seed)))
        found = third.reopen(f"{story}, restarted, then power lost, seed {seed}")
        if found != reported:
            raise Violation(f"{story}: reported {reported}, and after a power loss {found}")
        third.finish(story)


# Damage


@dataclass(frozen=True)
class Image:
    """The files of a cleanly closed log, and where its last frame is."""

    files: dict[str, bytes]
    last_frame_offset: int  # in the newest segment

    @property
    def segments(self) -> list[str]:
        return sorted(name for name in self.files if first_sequence_of(name) is not None)

    def with_file(self, name: str, content: bytes) -> Image:
        return Image(self.files | {name: content}, self.last_frame_offset)


def closed_image(script: Sequence[Step] = SCRIPT, identity: Identity = IDENTITY) -> Image:
    disk = SimulatedDisk()
    wal, _ = Wal.open(disk, DIRECTORY, identity, segment_bytes=SEGMENT_BYTES)
    for step in script:
        wal.append(*step)
        wal.sync()
    wal.close()
    files = {name: disk.read_file(DIRECTORY / name) for name in disk.list_directory(DIRECTORY)}
    found = read_image(Image(files, 0), identity=identity)
    assert found.tail is not None
    return Image(files, found.tail.last_frame_offset)


def read_image(image: Image, recovery: type[Recovery] = Recovery, identity: Identity = IDENTITY) -> Recovery:
    found = recovery(DIRECTORY, image.segments, lambda path: image.files[path.name], identity)
    found.run()
    return found


def check_image(damaged: Image, recovery: type[Recovery], story: str, *, last_frame_may_go: bool) -> str:
    """A damaged log is refused, or read with nothing lost; "refused", "whole" or "cut"."""
    try:
        found = read_image(damaged, recovery)
    except StorageError as error:
        if str(DIRECTORY) not in str(error):
            raise Violation(f"{story}: refused without naming the file: {error}") from error
        return "refused"
    state = (found.hard_state, tuple(found.entries))
    if state == STATES[-1] and not found.cut_bytes:
        return "whole"
    if last_frame_may_go and state == STATES[-2] and found.cut_bytes:
        return "cut"
    raise Violation(f"{story}: read without a word as {state}, cut {found.cut_bytes}")


def check_flips(recovery: type[Recovery], *, bits: Sequence[int] = range(8)) -> dict[str, int]:
    """Flip every bit of every segment, one at a time; how often each outcome came."""
    image = closed_image()
    outcomes: dict[str, int] = {}
    for name in image.segments:
        content = image.files[name]
        for offset in range(len(content)):
            in_last_frame = name == image.segments[-1] and offset >= image.last_frame_offset
            for bit in bits:
                flipped = bytearray(content)
                flipped[offset] ^= 1 << bit
                outcome = check_image(
                    image.with_file(name, bytes(flipped)),
                    recovery,
                    f"bit {bit} of byte {offset} of {name} flipped",
                    last_frame_may_go=in_last_frame,
                )
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def check_exchanged_frames(recovery: type[Recovery]) -> int:
    """Put single frames of another history of the same log in place of its own; how many were tried.

    They are whole, of the right log and sequence, as an old copy or a misdirected write would leave them: only the
    chain tells them apart. The last frame has no successor to notice.
    """
    image, other = closed_image(), closed_image(OTHER_SCRIPT)
    tried = 0
    for name in image.segments:
        ours, theirs = image.files[name], other.files[name]
        for frame in frames_of(theirs):
            span = slice(frame.offset, frame.end)
            if ours[span] == theirs[span] or (name, frame.offset) == (image.segments[-1], image.last_frame_offset):
                continue
            exchanged = ours[: frame.offset] + theirs[span] + ours[frame.end :]
            story = f"frame {frame.sequence} of another history put into {name}"
            if check_image(image.with_file(name, exchanged), recovery, story, last_frame_may_go=False) != "refused":
                raise Violation(f"{story}, and nobody noticed")
            tried += 1
    return tried


#: Frame by frame of the same sizes as ``SCRIPT``, with other payloads.
OTHER_SCRIPT: list[Step] = [
    (hard_state, [Entry(one.index, one.term, one.payload[::-1]) for one in new]) for hard_state, new in SCRIPT
]


def frames_of(segment: bytes) -> Iterator[Frame]:
    """The frames of an undamaged segment."""
    _, offset, _ = decode_segment_header(segment)
    while offset < len(segment):
        frame = decode_frame(frame_seed(IDENTITY), segment, offset)
        yield frame
        offset = frame.end
