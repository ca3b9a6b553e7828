"""Snapshots on the simulated disk: whole and durable or not there; damage found by block; received piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from impl.raft.messages import Base, Configuration, Member
from impl.storage import snapshots
from impl.storage.disk import RealDisk
from impl.storage.errors import DiskFull, SnapshotDamaged, SnapshotMissing, StorageError, StorageFailed
from impl.storage.identity import Identity
from impl.storage.simulated_disk import PowerLost, SimulatedDisk
from impl.storage.snapshots import (
    FOOTER_BYTES,
    MAX_PIECE_BYTES,
    PREFIX_BYTES,
    ReceivedSoFar,
    SnapshotStore,
    read_header,
)

DATA = Path("/d")
DIRECTORY = DATA / "snapshots"
IDENTITY = Identity("town", 1)
OTHER_NODE = Identity("town", 2, incarnation=77)

BASE = Base(10, 2, Configuration((Member(1),), (1,)), 3)
NEWER = Base(20, 3, Configuration((Member(1), Member(2)), (1, 2)), 11)

BLOCK_BYTES = 32
PAYLOAD = bytes(range(150))


def new_disk(**arguments: int) -> SimulatedDisk:
    disk = SimulatedDisk(**arguments)
    disk.make_directory(DATA)
    disk.sync_directory(Path("/"))
    return disk


def opened(disk: SimulatedDisk, identity: Identity = IDENTITY) -> SnapshotStore:
    return SnapshotStore(disk, DIRECTORY, identity)


def write(store: SnapshotStore, base: Base = BASE, payload: bytes = PAYLOAD) -> None:
    writer = store.create(base)
    for start in range(0, len(payload), 40):
        writer.write(payload[start : start + 40])
    writer.finish()


def content(base: Base = BASE, payload: bytes = PAYLOAD) -> bytes:
    """The bytes of a snapshot file."""
    disk = new_disk()
    store = opened(disk)
    write(store, base, payload)
    newest = store.newest()
    assert newest is not None
    return disk.read_file(newest.path)


with pytest.MonkeyPatch.context() as patched:
    patched.setattr(snapshots, "BLOCK_BYTES", BLOCK_BYTES)
    WHOLE = content()

NAME = "snapshot-00000000000000000010-00000000000000000002"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "BLOCK_BYTES", BLOCK_BYTES)


def blocks_begin() -> int:
    """Where the header of ``WHOLE`` ends."""
    disk = new_disk()
    disk.open_file(DATA / NAME, create=True).write(0, WHOLE)
    return read_header(disk, DATA / NAME)[1]


def placed(disk: SimulatedDisk, name: str, file: bytes) -> Path:
    """A file in the directory of snapshots, from before the start."""
    if "snapshots" not in disk.list_directory(DATA):
        disk.make_directory(DIRECTORY)
    disk.open_file(DIRECTORY / name, create=True).write(0, file)
    return DIRECTORY / name


def receive(store: SnapshotStore, base: Base = BASE, whole: bytes = WHOLE, piece_bytes: int = 50) -> ReceivedSoFar:
    """All of it, from where it stands, as a leader would send it."""
    so_far = store.store(base, 0, whole[:piece_bytes], len(whole))
    for _ in range(100):
        if so_far.complete:
            return so_far
        so_far = store.store(base, so_far.bytes, whole[so_far.bytes : so_far.bytes + piece_bytes], len(whole))
    raise AssertionError("it does not end")


def payload_of(store: SnapshotStore, base: Base = BASE) -> bytes:
    return b"".join(store.open(base))


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES, 1000])
def test_what_was_written_comes_back_and_every_piece_of_the_file_is_served(size: int) -> None:
    payload = Random(size).randbytes(size)
    store = opened(disk := new_disk())
    assert store.newest() is None
    write(store, BASE, payload)
    for seen in (store, opened(disk)):
        newest = seen.newest()
        assert newest is not None
        whole = disk.read_file(newest.path)
        assert (newest.base, newest.size_bytes) == (BASE, len(whole))
        assert payload_of(seen) == payload_of(seen) == payload
        for offset in range(len(whole) + 1):
            for limit in (1, 7, BLOCK_BYTES, len(whole)):
                assert seen.read(BASE, offset, limit) == (whole[offset : offset + limit], len(whole))


def test_on_a_real_disk(tmp_path: Path) -> None:
    store = SnapshotStore(RealDisk(), tmp_path / "snapshots", IDENTITY)
    payload = Random(1).randbytes(300_000)
    writer = store.create(BASE)
    writer.write(payload)
    snapshot = writer.finish()
    other = SnapshotStore(RealDisk(), tmp_path / "received", OTHER_NODE)
    offset, complete = 0, False
    while not complete:
        data, total = store.read(BASE, offset, 100_000)
        so_far = other.store(BASE, offset, data, total)
        offset, complete = so_far.bytes, so_far.complete
    assert offset == snapshot.size_bytes
    assert b"".join(other.open(BASE)) == payload
    assert other.statistics().received == store.statistics().written == 1


def test_a_snapshot_that_is_given_up_leaves_nothing() -> None:
    store = opened(disk := new_disk())
    writer = store.create(BASE)
    writer.write(PAYLOAD)
    writer.abort()
    writer.abort()
    assert disk.list_directory(DIRECTORY) == []
    with pytest.raises(SnapshotMissing, match="there is no snapshot"):
        store.open(BASE)
    with pytest.raises(SnapshotMissing):
        store.read(BASE, 0, 10)


def test_older_ones_and_stale_receptions_are_removed() -> None:
    store = opened(disk := new_disk())
    write(store)
    store.store(Base(15, 2), 0, WHOLE[:50], 1000)
    write(store, NEWER)
    store.retain(10)
    assert len(disk.list_directory(DIRECTORY)) == 3
    store.retain(20)
    assert len(disk.list_directory(DIRECTORY)) == 1
    assert payload_of(store, NEWER) == PAYLOAD


# Power losses


def interrupted(
    work: Callable[[SimulatedDisk], None], prepare: Callable[[SimulatedDisk], None]
) -> Iterator[tuple[str, SimulatedDisk, bool]]:
    """``work`` on a prepared disk, cut short after every operation, crashed in many ways; and whether it had ended."""
    for n in range(1000):
        disk = new_disk()
        prepare(disk)
        disk.power_off_after(n)
        try:
            work(disk)
        except PowerLost:
            done = False
        else:
            done = True
        for seed in range(25):
            yield f"power lost after operation {n}, seed {seed}", disk.crash(Random(seed)), done
        if done:
            return


def check_power_losses_while_writing(store_class: type[SnapshotStore] = SnapshotStore) -> None:
    """The newest is the old one or the new one, whole, and the new one once ``finish`` has returned."""

    def store_of(disk: SimulatedDisk) -> SnapshotStore:
        return store_class(disk, DIRECTORY, IDENTITY)

    for story, disk, done in interrupted(
        lambda disk: write(store_of(disk), NEWER, PAYLOAD[::-1]), lambda disk: write(store_of(disk))
    ):
        store = store_of(disk)
        newest = store.newest()
        assert newest is not None, story
        assert newest.base == NEWER or (newest.base == BASE and not done), story
        assert payload_of(store, newest.base) == (PAYLOAD[::-1] if newest.base == NEWER else PAYLOAD), story
        write(store, NEWER, PAYLOAD[::-1])
        assert payload_of(store_of(disk), NEWER) == PAYLOAD[::-1], story


def check_power_losses_while_receiving(store_class: type[SnapshotStore] = SnapshotStore) -> None:
    """What is complete is whole; else reception goes on behind what is whole, and ends well."""
    resumed = 0

    def store_of(disk: SimulatedDisk) -> SnapshotStore:
        return store_class(disk, DIRECTORY, OTHER_NODE)

    for story, disk, done in interrupted(lambda disk: check_received(store_of(disk)), lambda _disk: None):
        store = store_of(disk)
        assert not done or store.newest() is not None, story
        here = store.received(BASE)
        resumed += 0 < here < len(WHOLE)
        if here > 0 and store.newest() is None:
            assert disk.read_file(DIRECTORY / f"{NAME}.part") == WHOLE[:here], story
        assert receive(store).complete, story
        assert store.statistics().started_over == 0, story
        assert payload_of(store_of(disk)) == PAYLOAD, story
    assert resumed > 10


def check_received(store: SnapshotStore) -> None:
    assert receive(store).complete


def test_power_lost_while_a_snapshot_is_written() -> None:
    check_power_losses_while_writing()


def test_power_lost_while_a_snapshot_is_received() -> None:
    check_power_losses_while_receiving()


def check_failed_syncs(store_class: type[SnapshotStore] = SnapshotStore) -> None:
    """Whatever sync fails: what the next process calls complete outlives a power loss."""
    for work in (write, check_received):
        for n in range(1, 100):
            disk = new_disk(seed=n)
            disk.fail_nth_sync(n)
            with suppress(StorageFailed):
                work(store_class(disk, DIRECTORY, IDENTITY))
            if not disk.failures:
                break
            disk.kill()
            again = store_class(disk, DIRECTORY, IDENTITY)
            work(again)
            for seed in range(20):
                after = store_class(disk.crash(Random(seed)), DIRECTORY, IDENTITY)
                assert payload_of(after) == PAYLOAD, f"sync {n} failed, seed {seed}"
        else:
            raise AssertionError("it does not end")


def test_a_failed_sync_leaves_nothing_that_looks_durable() -> None:
    check_failed_syncs()


def check_full_disk(store_class: type[SnapshotStore] = SnapshotStore) -> None:
    for capacity in range(0, len(WHOLE), 7):
        disk = new_disk()
        store = store_class(disk, DIRECTORY, IDENTITY)
        disk.capacity_bytes = capacity
        with pytest.raises(DiskFull, match="Nothing is lost"):
            write(store)
        assert store.newest() is None
        drafts = [DIRECTORY / name for name in disk.list_directory(DIRECTORY)]
        assert all(draft.name.endswith(".draft") for draft in drafts)
        for draft in drafts:
            disk.remove(draft)
        with pytest.raises(DiskFull):
            receive(store)
        here = store.received(BASE)
        assert here <= capacity
        disk.capacity_bytes = None
        assert store.store(BASE, here, WHOLE[here:], len(WHOLE)).complete
        assert payload_of(store) == PAYLOAD


def test_a_full_disk_is_said_and_survived() -> None:
    check_full_disk()


# Damage


def check_flips(store_class: type[SnapshotStore] = SnapshotStore) -> None:
    """Flip every byte: it is never read or sent as something else, and the block that it is in is named."""
    disk = new_disk()
    path = placed(disk, NAME, WHOLE)
    begin, stride = blocks_begin(), BLOCK_BYTES + PREFIX_BYTES
    for offset in range(len(WHOLE)):
        bit = offset % 8
        disk.flip_bit(path, offset, bit)
        with pytest.raises(SnapshotDamaged) as caught:
            payload_of(store_class(disk, DIRECTORY, IDENTITY))
        assert str(path) in str(caught.value)
        if begin <= offset < len(WHOLE) - FOOTER_BYTES:
            assert caught.value.offset == begin + (offset - begin) // stride * stride
        store = store_class(disk, DIRECTORY, IDENTITY)
        with pytest.raises(SnapshotMissing, match="damaged"):
            store.read(BASE, offset, 1)
        assert store.statistics().set_aside == 1
        assert store.newest() is None
        disk.rename(path.with_name(path.name + ".damaged"), path)
        disk.flip_bit(path, offset, bit)


def check_flips_on_the_way(store_class: type[SnapshotStore] = SnapshotStore) -> None:
    """A piece that arrives damaged: reception starts over, and what is complete is whole."""
    for offset in range(len(WHOLE)):
        store = store_class(new_disk(), DIRECTORY, IDENTITY)
        damaged = bytearray(WHOLE)
        damaged[offset] ^= 1 << offset % 8
        assert store.store(BASE, 0, bytes(damaged), len(WHOLE)) == ReceivedSoFar(0, complete=False)
        assert store.newest() is None
        assert store.statistics().started_over == 1
        assert receive(store).complete
        assert payload_of(store) == PAYLOAD


def test_every_flipped_byte_is_found_and_named() -> None:
    check_flips()


def test_every_byte_flipped_on_the_way_starts_reception_over() -> None:
    check_flips_on_the_way()


def test_a_snapshot_cut_anywhere_or_with_something_behind_is_not_whole() -> None:
    for size in range(len(WHOLE)):
        disk = new_disk()
        placed(disk, NAME, WHOLE[:size])
        with pytest.raises(SnapshotDamaged):
            payload_of(opened(disk))
    assert opened(new_disk()).store(BASE, 0, WHOLE + b"\0", len(WHOLE) + 1) == ReceivedSoFar(0, complete=False)


def test_blocks_of_two_snapshots_do_not_pass_for_one() -> None:
    """The leader changed in the middle, and its snapshot of the same index has other bytes."""
    other = content(BASE, PAYLOAD[::-1])
    assert len(other) == len(WHOLE)
    stride, begin = BLOCK_BYTES + PREFIX_BYTES, blocks_begin()
    for blocks in range(1, 5):
        cut = begin + blocks * stride
        store = opened(new_disk())
        store.store(BASE, 0, WHOLE[:cut], len(WHOLE))
        assert store.store(BASE, cut, other[cut:], len(other)) == ReceivedSoFar(0, complete=False)
        assert receive(store, BASE, other).complete
        assert payload_of(store) == PAYLOAD[::-1]


@pytest.mark.parametrize("identity", [Identity("city", 1), Identity("town", 1, group=2)])
def test_the_snapshot_of_another_group_is_refused(identity: Identity) -> None:
    assert not opened(new_disk(), identity).store(BASE, 0, WHOLE, len(WHOLE)).complete
    store = opened(disk := new_disk())
    write(store)
    with pytest.raises(SnapshotDamaged, match="it is that of group 0 of cluster 'town'"):
        opened(disk, identity).newest()


def test_a_base_that_is_not_that_of_the_header_is_refused() -> None:
    other = Base(BASE.index, BASE.term, NEWER.configuration, BASE.configuration_index)
    assert not opened(new_disk()).store(other, 0, WHOLE, len(WHOLE)).complete


# Receiving


def test_pieces_that_do_not_go_on_change_nothing_and_are_told_where_to() -> None:
    store = opened(new_disk())
    assert store.store(BASE, 30, WHOLE[30:60], len(WHOLE)) == ReceivedSoFar(0, complete=False)
    assert store.store(BASE, 0, WHOLE[:30], len(WHOLE)) == ReceivedSoFar(30, complete=False)
    assert store.store(BASE, 0, WHOLE[:30], len(WHOLE)) == ReceivedSoFar(30, complete=False)
    assert store.store(BASE, 40, WHOLE[40:50], len(WHOLE)) == ReceivedSoFar(30, complete=False)
    assert store.store(BASE, 20, WHOLE[20:50], len(WHOLE)) == ReceivedSoFar(30, complete=False)
    assert store.store(BASE, 30, WHOLE[30:], len(WHOLE)) == ReceivedSoFar(len(WHOLE), complete=True)
    assert store.store(BASE, 0, WHOLE[:30], len(WHOLE)) == ReceivedSoFar(len(WHOLE), complete=True), "a late one"


def test_a_reception_that_was_complete_but_not_renamed_is_completed_by_any_piece() -> None:
    disk = new_disk()
    placed(disk, f"{NAME}.part", WHOLE)
    store = opened(disk)
    assert store.received(BASE) == len(WHOLE)
    assert store.store(BASE, 5, WHOLE[5:9], len(WHOLE)).complete


def test_another_snapshot_replaces_the_one_that_is_being_received() -> None:
    disk = new_disk()
    store = opened(disk)
    store.store(BASE, 0, WHOLE[:100], len(WHOLE))
    newer = content(NEWER)
    assert store.store(NEWER, 0, newer[:100], len(newer)).bytes == 100
    assert store.received(BASE) == 0
    assert len(disk.list_directory(DIRECTORY)) == 1
    assert receive(store, NEWER, newer).complete


def test_a_piece_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        opened(new_disk()).store(BASE, 0, bytes(MAX_PIECE_BYTES + 1), MAX_PIECE_BYTES + 1)


# Planted bugs


class RenamesBeforeSync(SnapshotStore):
    """The name of a snapshot becomes durable before its content."""

    def __init__(self, disk: SimulatedDisk, *rest: object, **named: object) -> None:
        super().__init__(_WithoutFileSyncs(disk), *rest, **named)  # type: ignore[arg-type]


class ForgetsTheDirectory(SnapshotStore):
    """The name of a snapshot is not made durable."""

    def publish(self, draft: Path, path: Path) -> None:
        self._disk.rename(draft, path)


class TrustsWhatWasReceived(SnapshotStore):
    """Completes without looking."""

    def _accept(self, base: Base, part: Path) -> bool:
        self.publish(part, self._path(base))
        return True


class ResumesAtTheSize(SnapshotStore):
    """Takes the size of a part for how much of it is there."""

    def _take_up(self, part: Path) -> int:
        try:
            return self._disk.file_size(part)
        except FileNotFoundError:
            return 0


class TakesPiecesAnywhere(SnapshotStore):
    """Does not compare where a piece goes with where the file ends."""

    def store(self, base: Base, offset: int, data: bytes, total_bytes: int) -> ReceivedSoFar:
        return super().store(base, self.received(base), data, total_bytes)


class KeepsAFailedPart(SnapshotStore):
    """A sync that failed is followed by one that succeeds."""

    def _remove(self, path: Path) -> None:
        pass


class SendsUnverified(SnapshotStore):
    def _verify(self, path: Path) -> None:
        pass


class _WithoutFileSyncs:
    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        if name == "sync":
            return lambda: None
        found = getattr(self._inner, name)
        if name == "open_file":
            return lambda *args, **named: _WithoutFileSyncs(found(*args, **named))
        return found


def check_resumption(store_class: type[SnapshotStore]) -> None:
    check_power_losses_while_receiving(store_class)


def check_order_of_pieces(store_class: type[SnapshotStore]) -> None:
    store = store_class(new_disk(), DIRECTORY, IDENTITY)
    store.store(BASE, 0, WHOLE[:30], len(WHOLE))
    assert store.store(BASE, 0, WHOLE[:30], len(WHOLE)) == ReceivedSoFar(30, complete=False)


@pytest.mark.parametrize(
    ("check", "mutant"),
    [
        (check_power_losses_while_writing, RenamesBeforeSync),
        (check_power_losses_while_writing, ForgetsTheDirectory),
        (check_flips_on_the_way, TrustsWhatWasReceived),
        (check_resumption, ResumesAtTheSize),
        (check_order_of_pieces, TakesPiecesAnywhere),
        (check_failed_syncs, KeepsAFailedPart),
        (check_flips, SendsUnverified),
    ],
)
def test_a_store_with_a_planted_bug_is_caught(
    check: Callable[[type[SnapshotStore]], None], mutant: type[SnapshotStore]
) -> None:
    with pytest.raises((AssertionError, StorageError, pytest.fail.Exception)):
        check(mutant)
