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

from impl.raft.messages import Base, Configuration, Entry, HardState, Member
from impl.storage.codec import (
    Frame,
    NotRecognised,
    decode_frame,
    decode_segment_header,
    first_sequence_of,
    frame_seed,
)
from impl.storage.errors import DiskFull, LogDamaged, StorageError, StorageFailed
from impl.storage.identity import Identity
from impl.storage.recovery import Recovery
from impl.storage.simulated_disk import PowerLost, SimulatedDisk
from impl.storage.wal import Recovered, Wal

IDENTITY = Identity("town", 1)
DIRECTORY = Path("/var/node-1")

#: Small, so that the script below fills several segments.
SEGMENT_BYTES = 400

Step: TypeAlias = tuple[HardState | None, Sequence[Entry]] | tuple[HardState | None, Sequence[Entry], Base | None]
State: TypeAlias = tuple[HardState, Base | None, tuple[Entry, ...]]


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
    (HardState(7, 1), [entry(2, 7)]),  # replaces all but one
    (None, [entry(index, 7, 30) for index in range(3, 12)]),
    (HardState(8, 8), []),
    (None, [entry(12, 8)]),
]


def base(index: int, term: int, *members: int) -> Base:
    return Base(index, term, Configuration(tuple(Member(member) for member in members), members), min(index, 1))


#: What a log goes through that is compacted and has snapshots installed over it. Segments go all the time.
BASE_SCRIPT: list[Step] = [
    (None, [], base(0, 0, 1, 2, 3)),
    (HardState(1, 1), [entry(index, 1, 90) for index in range(1, 4)]),
    (None, [entry(index, 1, 90) for index in range(4, 8)]),
    (HardState(2, 0), [entry(8, 2, 90)]),
    (None, [], base(5, 1, 1, 2, 3)),  # keeps 6 to 8
    (None, [entry(9, 2, 200)]),
    (HardState(3, 2), [entry(9, 3, 40), entry(10, 3, 100)]),
    (None, [entry(11, 3, 300)], base(8, 2, 1, 2)),  # keeps 9 and 10
    (None, [entry(12, 3, 200)]),
    (HardState(4, 4), []),
    (None, [], base(12, 3, 1, 2)),  # keeps nothing, and all of it was held
    (None, [entry(13, 4, 100), entry(14, 4, 100)]),
    (None, [entry(15, 4, 300)]),
    (HardState(5, 0), [], base(14, 5, 2)),  # installed over another history: 15 goes too
    (None, [entry(15, 5, 100)]),
    (None, [entry(16, 5, 300)]),
    (None, [entry(17, 5, 300)]),
    (None, [entry(16, 6, 40)]),  # replaces, across segments
    (HardState(7, 3), [entry(31, 7, 100)], base(30, 6, 2, 3)),  # installed far ahead
    (None, [entry(32, 7, 300)]),
    (None, [entry(33, 7, 300)]),
    (None, [], base(31, 7, 2, 3)),
]


EMPTY: State = (HardState(), None, ())


#: How things go on when they do not go on as planned: another term, short frames and then long ones. What a torn
#: frame has left behind is not simply written over with the same bytes.
def turn_of_events(state: State) -> list[Step]:
    first = state[1].index + 1 if state[1] is not None else 1
    return [
        (HardState(20, 0), []),
        (None, [entry(first, 20, 0)]),
        (None, [entry(first + 1, 20, 330)]),
        (None, [entry(first + 2, 20, 330)]),
        (None, [], Base(first, 20)),
        (None, [entry(first + 3, 20, 330)]),
    ]


class Violation(AssertionError):
    """The log has forgotten what it had acknowledged, or remembers what never was."""


class Killed(Exception):
    """The process ends here, the power stays on."""


def states_of(script: Iterable[Step], start: State = EMPTY) -> list[State]:
    """The state before the first step and after each."""
    states = [start]
    for hard_state, new, *given in script:
        was, before, entries = states[-1]
        after = before
        if given and given[0] is not None:
            after = given[0]
            held = [(one.index, one.term) for one in entries] + [(before.index, before.term) if before else (0, 0)]
            known = (after.index, after.term) in held
            entries = tuple(one for one in entries if one.index > after.index) if known else ()
        if new:
            entries = (*(one for one in entries if one.index < new[0].index), *new)
        states.append((hard_state or was, after, entries))
    return states


STATES = states_of(SCRIPT)
BASE_STATES = states_of(BASE_SCRIPT)


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
        self.wal, recovered = self.wal_class.open(
            self.disk, DIRECTORY, IDENTITY, segment_bytes=SEGMENT_BYTES, format_new=True
        )
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
        turn = turn_of_events(self.states[self.acknowledged])
        for step in turn:
            self.wal.append(*step)
            self.wal.sync()
        self._stop_and_look(story, states_of(turn, self.states[self.acknowledged])[-1])

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
    return recovered.hard_state, recovered.base, tuple(recovered.entries)


def new_life(wal_class: type[Wal], script: Sequence[Step], disk: SimulatedDisk) -> Life:
    return Life(wal_class, disk, script=script, states=states_of(script))


def count_operations(wal_class: type[Wal], script: Sequence[Step] = SCRIPT) -> int:
    """Of opening an empty directory and running the script."""
    life = new_life(wal_class, script, empty_disk())
    life.open()
    life.run()
    return life.disk.operations


def empty_disk(seed: int = 0) -> SimulatedDisk:
    return SimulatedDisk(seed)


# Power losses


def interrupted_lives(
    wal_class: type[Wal], stride: int = 1, script: Sequence[Step] = SCRIPT
) -> Iterator[tuple[int, Life]]:
    """The script cut short by a power loss after the nth operation, for every n from 0 to all."""
    for n in range(0, count_operations(wal_class, script) + 1, stride):
        life = new_life(wal_class, script, empty_disk())
        life.disk.power_off_after(n)
        try:
            life.open()
            life.run()
        except PowerLost:
            pass
        yield n, life


def check_power_losses(wal_class: type[Wal], *, seeds: int, stride: int = 1, script: Sequence[Step] = SCRIPT) -> None:
    """Lose the power after every operation; whatever survived, the log opens to an allowed state and goes on."""
    for n, life in interrupted_lives(wal_class, stride, script):
        for seed in range(seeds):
            story = f"power lost after operation {n}, survivors by seed {seed}"
            after = life.next(life.disk.crash(Random(seed)))
            after.reopen(story)
            if seed % 2:
                after.finish(story)
            else:
                after.take_a_turn(story)


def check_power_losses_in_recovery(
    wal_class: type[Wal], *, seeds: int, stride: int = 1, script: Sequence[Step] = SCRIPT
) -> None:
    """The same, and lose it again after every operation of the recovery."""
    for n, life in interrupted_lives(wal_class, stride, script):
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


def check_kills(wal_class: type[Wal], *, seeds: int, script: Sequence[Step] = SCRIPT) -> None:
    """Kill the process after every operation; what the next one reports must outlive a power loss."""
    for n in range(count_operations(wal_class, script) + 1):
        life = new_life(wal_class, script, empty_disk())
        life.disk.observe = _kill_at(n)
        try:
            life.open()
            life.run()
        except Killed:
            pass
        life.disk.observe = None
        _check_report_stands(life, f"killed after operation {n}", seeds)


def check_failed_syncs(wal_class: type[Wal], *, seeds: int, script: Sequence[Step] = SCRIPT) -> None:
    """Let every single sync fail; the log stops for good, and what the next process reports is durable."""
    _check_failures(wal_class, "sync", lambda disk, n: disk.fail_nth_sync(n), seeds, script)


def check_failed_writes(wal_class: type[Wal], *, seeds: int, script: Sequence[Step] = SCRIPT) -> None:
    """Let every single write fail half-way."""
    _check_failures(wal_class, "write", lambda disk, n: disk.fail_nth_write(n), seeds, script)


def _check_failures(
    wal_class: type[Wal],
    what: str,
    arm: Callable[[SimulatedDisk, int], None],
    seeds: int,
    script: Sequence[Step],
) -> None:
    for n in range(1, 1000):
        life = new_life(wal_class, script, empty_disk(seed=n))
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
        if life.acknowledged == len(script):
            raise Violation(f"{what} {n} failed and nobody noticed")
    raise Violation("the script does not end")


def check_full_disk(wal_class: type[Wal], *, stride: int, script: Sequence[Step] = SCRIPT) -> None:
    """Let the disk fill up at every size: the log says so and is as before, votes can still be written, and it goes on
    once there is space, in this process and in the next."""
    full_with_a_log = 0
    for capacity_bytes in range(0, 20_000, stride):
        life = new_life(wal_class, script, SimulatedDisk(capacity_bytes=capacity_bytes))
        story = f"full at {capacity_bytes} bytes"
        try:
            life.open()
            life.run()
        except DiskFull as full:
            if str(full.file) not in str(full) or "space" not in str(full):
                raise Violation(f"an unclear word about a full disk: {full}") from full
        except StorageFailed as failure:
            raise Violation(f"{story}: the log has failed: {failure}") from failure
        else:
            if not full_with_a_log:
                raise Violation("no disk was full")
            return
        if life.wal is None:
            if capacity_bytes > 4 * SEGMENT_BYTES:
                raise Violation(f"{story}: cannot be formatted")
            continue
        full_with_a_log += 1
        if life.acknowledged == 0 or life.script[life.acknowledged - 1][1]:  # else that vote has used up the reserve
            _check_goes_on(life, story)
        life.disk.kill()
        life.attempted = life.acknowledged  # nothing of the step that met a full disk may be there
        still_full = life.next(life.disk)
        still_full.reopen(story)
        if capacity_bytes % 2:
            life.disk.kill()
            life.disk.capacity_bytes = None
            still_full = life.next(life.disk)
            still_full.reopen(story)
        else:
            life.disk.capacity_bytes = None
        still_full.finish(story)
    raise Violation("the script does not fit into any disk")


def _check_goes_on(life: Life, story: str) -> None:
    """On a copy of the full disk: a vote can be written, and outlives a power loss."""
    copy = life.next(life.disk.crash(Random(1)))
    copy.attempted = copy.acknowledged
    was = copy.reopen(story)
    assert copy.wal is not None
    vote = HardState(was[0].term + 1, 9)
    try:
        copy.wal.append(vote, [])
        copy.wal.sync()
    except DiskFull as full:
        raise Violation(f"{story}: no room for a vote") from full
    recovered = copy.next(copy.disk.crash(Random(2))).open()
    if state_of(recovered) != (vote, *was[1:]):
        raise Violation(f"{story}: a vote was written, and then there was {recovered}")


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
    end: int  # of the last frame there

    @property
    def segments(self) -> list[str]:
        return sorted(name for name in self.files if first_sequence_of(name) is not None)

    def with_file(self, name: str, content: bytes) -> Image:
        return Image(self.files | {name: content}, self.last_frame_offset, self.end)

    def end_of(self, name: str) -> int:
        """Where the frames of an undamaged segment end."""
        return max(frame.end for frame in frames_of(self.files[name]))

    def behind_the_end(self, more: bytes) -> Image:
        """The same with something behind the last frame."""
        name = self.segments[-1]
        content = self.files[name]
        return self.with_file(name, content[: self.end] + more + content[self.end + len(more) :])


def closed_image(script: Sequence[Step] = SCRIPT, identity: Identity = IDENTITY) -> Image:
    disk = SimulatedDisk()
    wal, _ = Wal.open(disk, DIRECTORY, identity, segment_bytes=SEGMENT_BYTES, format_new=True)
    for step in script:
        wal.append(*step)
        wal.sync()
    wal.close()
    files = {name: disk.read_file(DIRECTORY / name) for name in disk.list_directory(DIRECTORY)}
    found = read_image(Image(files, 0, 0), identity=identity)
    return Image(files, found.tail.last_frame_offset, found.tail.size_bytes)


def read_image(image: Image, recovery: type[Recovery] = Recovery, identity: Identity = IDENTITY) -> Recovery:
    found = recovery(DIRECTORY, image.segments, lambda path: image.files[path.name], identity)
    found.run()
    return found


def check_image(damaged: Image, recovery: type[Recovery], story: str, *, last_frame_may_go: bool) -> str:
    """A damaged log is refused, or read with nothing lost; "refused", "whole", "rubbish" behind the end, or "cut"."""
    try:
        found = read_image(damaged, recovery)
    except StorageError as error:
        if str(DIRECTORY) not in str(error):
            raise Violation(f"{story}: refused without naming the file: {error}") from error
        return "refused"
    state = (found.hard_state, found.base, tuple(found.entries))
    if state == STATES[-1]:
        return "rubbish" if found.cut_bytes else "whole"
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
            in_last_frame = name == image.segments[-1] and image.last_frame_offset <= offset < image.end
            if offset >= image.end_of(name) + 16:
                break  # zeros, as those before
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
    (hard_state, [Entry(one.index, one.term, one.payload[::-1]) for one in new]) for hard_state, new, *_ in SCRIPT
]


def frames_of(segment: bytes) -> Iterator[Frame]:
    """The frames of an undamaged segment."""
    _, offset, _ = decode_segment_header(segment)
    while offset < len(segment):
        try:
            frame = decode_frame(frame_seed(IDENTITY), segment, offset)
        except NotRecognised:
            return
        yield frame
        offset = frame.end
