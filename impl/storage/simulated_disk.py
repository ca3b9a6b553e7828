"""A disk in memory that keeps the promises of ``disk.Disk``, and breaks everything that was not promised.

Theory of operation
-------------------
Every file exists twice. *Current* is what reads show, as the system's cache would. *Durable* is what the platter
holds. Writes and truncations change the current content at once and queue up as *pending*; ``sync`` applies them to
the durable one. Directories work the same way: making, renaming and removing names is pending until
``sync_directory``. Syncing a file does not make its name durable.

``crash(random)`` is a power loss. It returns a new disk that holds the durable state plus what happened to get
through: for each file any subset of its pending operations, each write cut into pieces that survive one by one (down
to single bytes or up to whole 4 KiB pages), so a later write may be there and an earlier one not; holes are filled with
zeros or with rubbish; for each directory any subset of its pending operations. The old disk is left as it was, so one
state can be crashed many times. ``kill`` is the end of the process only: handles and locks go, the current content
stays, durable or not.

Faults are armed in advance and counted in operations from that moment, the first being 1:

- ``fail_nth_write(n)``, ``fail_nth_sync(n)``: that write or sync raises EIO. A failed write leaves a part behind. A
  failed sync makes some pending pieces durable, loses the others for good, and calls all of them clean, as Linux does:
  reads go on showing them, and later syncs succeed without them. Sizes cut and names changed are not lost but late:
  they are in the file system's journal, and the next sync that succeeds makes them durable.
- ``capacity_bytes``: growth beyond it raises ENOSPC after what fits has been written or allocated.
- ``flip_bit(path, offset, bit)``: the content changes, on the platter and in the cache.
- ``power_off_after(n)``: n operations are carried out, the next one and every call after it raises ``PowerLost``. So
  whatever the caller does between two operations, acknowledge something for one, it has done by then.

An *operation* is a call that changes something (reads do not count). ``operations`` counts them and ``observe``, if
set, is called just before each with its number, name and path: a simulation may pause or slow down a node there, or
end it by raising.

Deterministic: chance comes from ``seed`` (what a failed write or sync leaves behind) and from the random number
generator given to ``crash``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from impl.storage.disk import AlreadyLocked

#: How finely a write may tear, in bytes: within a word, at sectors, at pages.
TEAR_BYTES = (1, 8, 512, 4096)

#: No write is cut into more pieces than this, or crashing a large one would take for ever.
MAX_PIECES = 256

#: How much of what was pending gets through: nothing, little, half, most, all.
SURVIVAL_RATES = (0.0, 0.1, 0.5, 0.9, 1.0)


class PowerLost(Exception):
    """The simulated machine is off. Not an ``OSError``: no code under test may survive it by handling errors."""


@dataclass(frozen=True)
class _Write:
    offset: int
    data: bytes


@dataclass(frozen=True)
class _Truncate:
    size_bytes: int


@dataclass(frozen=True)
class _Allocate:
    size_bytes: int


@dataclass
class _File:
    current: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[_Write | _Truncate | _Allocate] = field(default_factory=list)


@dataclass(frozen=True)
class _Link:
    name: str
    node: _Node

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True)
class _Unlink:
    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True)
class _Rename:
    old: str
    new: str
    node: _Node

    @property
    def names(self) -> tuple[str, ...]:
        return (self.old, self.new)


@dataclass
class _Directory:
    current: dict[str, _Node] = field(default_factory=dict)
    durable: dict[str, _Node] = field(default_factory=dict)
    pending: list[_Link | _Unlink | _Rename] = field(default_factory=list)


_Node = _File | _Directory


def _apply_to_content(
    content: bytearray, operation: _Write | _Truncate | _Allocate, fill: Callable[[int], bytes]
) -> None:
    if isinstance(operation, _Truncate):
        del content[operation.size_bytes :]
        return
    if isinstance(operation, _Allocate):
        content.extend(bytes(max(operation.size_bytes - len(content), 0)))
        return
    end = operation.offset + len(operation.data)
    if len(content) < operation.offset:
        content.extend(fill(operation.offset - len(content)))
    content[operation.offset : end] = operation.data


def _apply_to_names(names: dict[str, _Node], operation: _Link | _Unlink | _Rename) -> None:
    if isinstance(operation, _Link):
        names[operation.name] = operation.node
    elif isinstance(operation, _Unlink):
        names.pop(operation.name, None)
    else:
        names.pop(operation.old, None)
        names[operation.new] = operation.node


def _pieces(write: _Write, random: Random) -> Iterator[_Write]:
    """The write cut at multiples of a tear size, in file offsets."""
    step = max(random.choice(TEAR_BYTES), -(-len(write.data) // MAX_PIECES))
    start = 0
    while start < len(write.data):
        stop = min(len(write.data), start + step - (write.offset + start) % step)
        yield _Write(write.offset + start, write.data[start:stop])
        start = stop


def _surviving_content(file: _File, random: Random) -> bytearray:
    """The durable content after a power loss: any subset of what was pending has got through."""
    rate = random.choice(SURVIVAL_RATES)
    fill: Callable[[int], bytes] = random.choice((bytes, random.randbytes))
    content = bytearray(file.durable)
    for operation in file.pending:
        if isinstance(operation, _Write):
            for piece in _pieces(operation, random):
                if random.random() < rate:
                    _apply_to_content(content, piece, fill)
        elif random.random() < rate:
            _apply_to_content(content, operation, fill)
    # The new size may get through without the data.
    if len(content) < len(file.current) and random.random() < rate / 2:
        content.extend(fill(len(file.current) - len(content)))
    return content


def _after_power_loss(node: _Node, random: Random) -> _Node:
    if isinstance(node, _File):
        content = _surviving_content(node, random)
        return _File(current=bytearray(content), durable=content)
    rate = random.choice(SURVIVAL_RATES)
    names = dict(node.durable)
    for operation in node.pending:
        if random.random() < rate:
            _apply_to_names(names, operation)
    survivors = {name: _after_power_loss(child, random) for name, child in sorted(names.items())}
    return _Directory(current=dict(survivors), durable=survivors)


class SimulatedDisk:
    """Implements ``disk.Disk``. Relative and absolute paths mean the same: all begin at the one root."""

    def __init__(self, seed: int = 0, *, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes  # of all file contents together; may be changed at any time
        self.operations = 0
        self.failures = 0  # errors raised because of an armed fault or of a full disk
        self.observe: Callable[[int, str, Path], None] | None = None
        self._random = Random(seed)
        self._root = _Directory()
        self._locks: dict[str, SimulatedLock] = {}
        self._process = 0  # counts kills: handles of an earlier process are dead
        self._powered = True
        self._writes_to_failure = 0  # 0: no failure is armed
        self._syncs_to_failure = 0
        self._operations_to_power_off: int | None = None

    # Faults

    def crash(self, random: Random) -> SimulatedDisk:
        """The disk after a power loss, with no fault armed. This one is left as it was."""
        disk = SimulatedDisk(random.getrandbits(64), capacity_bytes=self.capacity_bytes)
        root = _after_power_loss(self._root, random)
        assert isinstance(root, _Directory)
        disk._root = root
        return disk

    def kill(self) -> None:
        """End the process that uses the disk, with the power on: its handles and locks go, all content stays."""
        self._process += 1
        self._locks.clear()

    def fail_nth_write(self, n: int) -> None:
        """From now on, the nth write to a file (from 1) raises EIO; the ones after it work."""
        self._writes_to_failure = n

    def fail_nth_sync(self, n: int) -> None:
        """From now on, the nth sync of a file or directory (from 1) raises EIO; the ones after it work."""
        self._syncs_to_failure = n

    def power_off_after(self, n: int) -> None:
        """From now on, carry out n operations (0 or more), and raise ``PowerLost`` at the next and ever after."""
        self._operations_to_power_off = n

    def flip_bit(self, path: Path, offset: int, bit: int) -> None:
        """Flip one bit (0 to 7) of a byte, beneath everybody. ``IndexError`` beyond the end of the file."""
        file = self._file(path)
        file.current[offset] ^= 1 << bit
        if offset < len(file.durable):
            file.durable[offset] ^= 1 << bit

    # Disk

    def list_directory(self, path: Path) -> list[str]:
        self._check_power()
        return sorted(self._directory(path).current)

    def make_directory(self, path: Path) -> None:
        self._check_power()
        parent = self._directory(path.parent)
        if path.name in parent.current:
            raise _error(errno.EEXIST, path)
        self._begin("make_directory", path)
        self._change_names(parent, _Link(path.name, _Directory()))

    def read_file(self, path: Path) -> bytes:
        self._check_power()
        return bytes(self._file(path).current)

    def read_ahead(self, path: Path) -> None:
        self._check_power()
        self._file(path)

    def read_at(self, path: Path, offset: int, size_bytes: int) -> bytes:
        self._check_power()
        return bytes(self._file(path).current[offset : offset + size_bytes])

    def file_size(self, path: Path) -> int:
        self._check_power()
        return len(self._file(path).current)

    def open_file(self, path: Path, *, create: bool = False) -> SimulatedFile:
        self._check_power()
        if not create:
            return SimulatedFile(self, path, self._file(path))
        parent = self._directory(path.parent)
        if path.name in parent.current:
            raise _error(errno.EEXIST, path)
        self._begin("create", path)
        file = _File()
        self._change_names(parent, _Link(path.name, file))
        return SimulatedFile(self, path, file)

    def rename(self, old: Path, new: Path) -> None:
        self._check_power()
        node = self._node(old)
        if old.parent != new.parent:
            self._move(old, new, node)
            return
        self._begin("rename", new)
        self._change_names(self._directory(old.parent), _Rename(old.name, new.name, node))

    def _move(self, old: Path, new: Path, node: _Node) -> None:
        """To another directory. Durable at once: half a move is no state that a journal leaves behind."""
        source, target = self._directory(old.parent), self._directory(new.parent)
        if new.name in target.current:
            raise _error(errno.EEXIST, new)
        self._begin("rename", new)
        for names in (source.current, source.durable):
            names.pop(old.name, None)
        for names in (target.current, target.durable):
            names[new.name] = node
        source.pending = [change for change in source.pending if old.name not in change.names]

    def remove(self, path: Path) -> None:
        self._check_power()
        self._file(path)
        self._begin("remove", path)
        self._change_names(self._directory(path.parent), _Unlink(path.name))

    def sync_directory(self, path: Path) -> None:
        self._check_power()
        directory = self._directory(path)
        self._begin("sync_directory", path)
        if self._sync_fails():
            for name_change in directory.pending:
                if self._random.random() < 0.5:
                    _apply_to_names(directory.durable, name_change)
            directory.pending.clear()
            raise self._failure(errno.EIO, path)
        directory.durable = dict(directory.current)
        directory.pending.clear()

    def lock(self, path: Path) -> SimulatedLock:
        self._check_power()
        key = _key(path)
        if key in self._locks:
            raise AlreadyLocked(path, "a simulated process")
        if path.name not in self._directory(path.parent).current:
            self.open_file(path, create=True)
        lock = self._locks[key] = SimulatedLock(self, key)
        return lock

    # For the handles

    def _check_power(self) -> None:
        if not self._powered:
            raise PowerLost

    def _begin(self, operation: str, path: Path) -> None:
        """An operation is about to be carried out: pull the plug, or count it and show it."""
        if self._operations_to_power_off is not None:
            if self._operations_to_power_off == 0:
                self._powered = False
            self._operations_to_power_off -= 1
        self._check_power()
        self.operations += 1
        if self.observe is not None:
            self.observe(self.operations, operation, path)

    def _write(self, path: Path, file: _File, offset: int, data: bytes) -> None:
        self._begin("write", path)
        error = 0
        if self._writes_to_failure:
            self._writes_to_failure -= 1
            if not self._writes_to_failure:
                error = errno.EIO
                data = data[: self._random.randrange(len(data) + 1)]
        if self.capacity_bytes is not None:
            room = self.capacity_bytes - _used_bytes(self._root) + len(file.current) - offset
            if len(data) > max(room, 0) and offset + len(data) > len(file.current):
                error = errno.ENOSPC
                data = data[: max(room, len(file.current) - offset, 0)]
        if data:
            write = _Write(offset, bytes(data))
            _apply_to_content(file.current, write, bytes)
            file.pending.append(write)
        if error:
            raise self._failure(error, path)

    def _allocate(self, path: Path, file: _File, size_bytes: int) -> None:
        self._begin("allocate", path)
        allocate, error = _Allocate(size_bytes), 0
        if self.capacity_bytes is not None:
            room = self.capacity_bytes - _used_bytes(self._root) + len(file.current)
            if size_bytes > max(room, len(file.current)):
                error = errno.ENOSPC
                allocate = _Allocate(self._random.randrange(max(room, 0) + 1))
        _apply_to_content(file.current, allocate, bytes)
        file.pending.append(allocate)
        if error:
            raise self._failure(error, path)

    def _truncate(self, path: Path, file: _File, size_bytes: int) -> None:
        self._begin("truncate", path)
        truncate = _Truncate(size_bytes)
        _apply_to_content(file.current, truncate, bytes)
        file.pending.append(truncate)

    def _sync(self, path: Path, file: _File) -> None:
        self._begin("sync", path)
        if self._sync_fails():
            torn = copy(file)
            torn.pending = [operation for operation in file.pending if isinstance(operation, _Write)]
            file.durable = _surviving_content(torn, self._random)
            file.pending = [operation for operation in file.pending if not isinstance(operation, _Write)]
            raise self._failure(errno.EIO, path)
        for operation in file.pending:
            _apply_to_content(file.durable, operation, bytes)
        file.pending.clear()

    def _sync_fails(self) -> bool:
        if not self._syncs_to_failure:
            return False
        self._syncs_to_failure -= 1
        return not self._syncs_to_failure

    def _failure(self, number: int, path: Path) -> OSError:
        self.failures += 1
        return _error(number, path)

    # The tree

    def _change_names(self, directory: _Directory, change: _Link | _Unlink | _Rename) -> None:
        _apply_to_names(directory.current, change)
        directory.pending.append(change)

    def _node(self, path: Path) -> _Node:
        node: _Node = self._root
        for name in _parts(path):
            if not isinstance(node, _Directory):
                raise _error(errno.ENOTDIR, path)
            if name not in node.current:
                raise _error(errno.ENOENT, path)
            node = node.current[name]
        return node

    def _directory(self, path: Path) -> _Directory:
        node = self._node(path)
        if not isinstance(node, _Directory):
            raise _error(errno.ENOTDIR, path)
        return node

    def _file(self, path: Path) -> _File:
        node = self._node(path)
        if not isinstance(node, _File):
            raise _error(errno.EISDIR, path)
        return node


class SimulatedFile:
    """An open file of a ``SimulatedDisk``; dead once the process that opened it has been killed."""

    def __init__(self, disk: SimulatedDisk, path: Path, file: _File) -> None:
        self._disk = disk
        self._path = path
        self._file = file
        self._process = disk._process
        self._open = True

    def write(self, offset: int, data: bytes) -> None:
        self._check()
        self._disk._write(self._path, self._file, offset, data)

    def truncate(self, size_bytes: int) -> None:
        self._check()
        self._disk._truncate(self._path, self._file, size_bytes)

    def allocate(self, size_bytes: int) -> None:
        self._check()
        self._disk._allocate(self._path, self._file, size_bytes)

    def sync(self) -> None:
        self._check()
        self._disk._sync(self._path, self._file)

    def close(self) -> None:
        self._open = False

    def _check(self) -> None:
        self._disk._check_power()
        if not self._open or self._process != self._disk._process:
            raise _error(errno.EBADF, self._path)


class SimulatedLock:
    def __init__(self, disk: SimulatedDisk, key: str) -> None:
        self._disk = disk
        self._key = key

    def release(self) -> None:
        if self._disk._locks.get(self._key) is self:
            del self._disk._locks[self._key]


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))  # becomes FileNotFoundError and the like by itself


def _parts(path: Path) -> tuple[str, ...]:
    return tuple(part for part in path.parts if part not in ("/", "."))


def _key(path: Path) -> str:
    return "/".join(_parts(path))


def _used_bytes(directory: _Directory) -> int:
    return sum(
        len(node.current) if isinstance(node, _File) else _used_bytes(node) for node in directory.current.values()
    )
