"""Can a node go on from its ``chat.db``? If not, the state is made anew from the newest snapshot and the log.

Theory of operation
-------------------
Whatever ``chat.db`` holds follows from the log, or from a snapshot and the log behind it. So there is nothing in it
that could be lost, and a file with which the node cannot go on is replaced without asking:

- it is missing, damaged, or of another cluster, incarnation or earlier layout;
- it is *behind* the beginning of the log (a power cut took back what was not synced, and the log had been shortened
  up to a snapshot meanwhile; or the log came with a snapshot that the node did not live to install);
- it is *ahead* of the log, or at an index at which the log has another term: it belongs to another log.

The database of another program, one of a newer release, and one that the system does not let us read stay as they
are: ``StateUnusable`` asks the operator.

The file that is replaced is not removed but set aside, one at most, for whoever wants to know what happened to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from impl.chat.database import COMPANIONS, IN_MEMORY, Origin, StateDamaged, StateUnusable, lock_database
from impl.chat.snapshot import PreparedState, place_database, prepare_state, remove_database
from impl.chat.state_machine import ChatStateMachine
from impl.storage.disk import Disk, RealDisk

SET_ASIDE_SUFFIX: Final = ".set-aside"
"""``chat.db.set-aside`` is what the node could not go on with, last time."""

M = TypeVar("M", bound=ChatStateMachine)


class LogExtent(NamedTuple):
    """What the node's log says: entries ``base_index + 1`` to ``last_index`` are in it.

    ``term_at`` gives the term at an index from ``base_index`` to ``last_index``.
    """

    base_index: int
    last_index: int
    term_at: Callable[[int], int]


def needs_rebuild(path: str | Path, origin: Origin, log: LogExtent, disk: Disk | None = None) -> str | None:
    """Why the node cannot go on from the database at ``path``, in a sentence; None if it can.

    Reads the whole file. A file that is missing is none to rebuild as long as the log has its beginning. Raises
    ``StateUnusable`` when an operator must look at it.
    """
    if str(path) == IN_MEMORY or not Path(path).exists():
        return _mismatch(path, log, 0, 0)
    try:
        machine = ChatStateMachine.open(path, origin, disk)
    except StateDamaged as error:
        return str(error)
    try:
        return _mismatch(path, log, machine.applied_index, machine.applied_term)
    finally:
        machine.close()


def rebuild(
    path: str | Path, origin: Origin, blocks: Iterable[bytes] | None, log: LogExtent, disk: Disk | None = None
) -> None:
    """Replace the database at ``path``, whatever it is, by the state in a snapshot (None: the one before entry 1).

    After a crash at any point ``needs_rebuild`` has a reason again, or the new state is in place. The old file is set
    aside. Raises ``SnapshotUnusable``, ``StateUnusable``, ``OSError``, ``sqlite3.Error``; the old file is in place
    then, unless the disk failed half-way.
    """
    disk, file = disk or RealDisk(), Path(path)
    lock = lock_database(disk, file)
    try:
        prepared = prepare_state(file, blocks, origin, disk)
        reason = _mismatch(file, log, prepared.progress.applied_index, prepared.progress.applied_term)
        if reason is not None:
            prepared.discard(disk)
            raise StateUnusable(
                f"{file} cannot be made anew: the newest snapshot ends at entry {prepared.applied_index}, and the log "
                f"holds entries {log.base_index + 1} to {log.last_index}. Replace this node by a new one, which gets "
                "its state from the others"
            )
        _set_aside(disk, file)
        assert prepared.path is not None
        place_database(disk, prepared.path, file)
    finally:
        lock.release()


def open_or_rebuild(
    machine_class: type[M],
    path: str | Path,
    origin: Origin,
    log: LogExtent,
    newest: Callable[[], Iterable[bytes] | None],
    disk: Disk | None = None,
) -> tuple[M, str | None]:
    """Open the database at ``path`` so that the node can go on from it; make it anew if it must be.

    ``newest`` gives the newest local snapshot, None if there is none; it is called when it is needed. Returns the
    machine, and why it was rebuilt (None if it was not): worth a warning in the node's log. Raises as ``rebuild`` and
    ``ChatStateMachine.open`` do.
    """
    try:
        machine = machine_class.open(path, origin, disk)
        reason = _mismatch(path, log, machine.applied_index, machine.applied_term)
        if reason is None:
            return machine, None
        if str(path) == IN_MEMORY:
            machine.install(_in_memory(newest(), origin))
            return machine, reason
        machine.close()
    except StateDamaged as error:
        reason = str(error)
    rebuild(path, origin, newest(), log, disk)
    return machine_class.open(path, origin, disk), reason


def _in_memory(blocks: Iterable[bytes] | None, origin: Origin) -> PreparedState:
    return prepare_state(IN_MEMORY, blocks, origin)


def _mismatch(path: str | Path, log: LogExtent, applied_index: int, applied_term: int) -> str | None:
    """Why a state does not go with the log."""
    if applied_index < log.base_index:
        return (
            f"{path} has entries applied up to {applied_index}, and the log begins only after {log.base_index}: the "
            "state is made anew from the newest snapshot"
        )
    if applied_index > log.last_index:
        return (
            f"{path} has entries applied up to {applied_index}, and the log ends at {log.last_index}: the state is "
            "that of another log"
        )
    if applied_index and log.term_at(applied_index) != applied_term:
        return (
            f"{path} has applied entry {applied_index} of term {applied_term}, and in the log that entry has term "
            f"{log.term_at(applied_index)}: the state is that of another log"
        )
    return None


def _set_aside(disk: Disk, file: Path) -> None:
    """Give the database and its companions other names, over those of the one that was set aside before."""
    aside = file.with_name(file.name + SET_ASIDE_SUFFIX)
    remove_database(disk, aside)
    for suffix in ("", *COMPANIONS):
        with suppress(FileNotFoundError):
            disk.rename(file.with_name(file.name + suffix), aside.with_name(aside.name + suffix))
