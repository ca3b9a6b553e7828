"""A data directory, opened: log, snapshots and state machine, made to fit together.

Theory of operation
-------------------
The log is what counts. It begins after its base, and a snapshot that is at least as new stands in for what is before.
Two things may have been cut short by a crash, and are finished here:

- a snapshot was received whole, and the log had not been made to begin at it. It holds what is committed, so that is
  done now;
- ``chat.db`` is behind the beginning of the log, damaged, or of another log. It is made anew from the newest snapshot;
  the file that was there is set aside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from impl.chat.database import Origin
from impl.chat.rebuild import LogExtent, open_or_rebuild
from impl.chat.snapshot import prepare_state
from impl.chat.state_machine import ChatStateMachine
from impl.config import NodeConfig
from impl.raft.messages import NOBODY, Base, Entry, HardState
from impl.storage.disk import Disk
from impl.storage.errors import NotFormatted, WrongIdentity
from impl.storage.identity import IDENTITY_FILE, Identity, read_identity
from impl.storage.snapshots import Snapshot, SnapshotStore
from impl.storage.wal import Wal

SNAPSHOTS = "snapshots"
"""The folder of the snapshots, in the data directory."""

DATABASE = "chat.db"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Opened:
    """What a node starts from."""

    identity: Identity
    wal: Wal
    hard_state: HardState
    base: Base | None
    entries: list[Entry]
    snapshots: SnapshotStore
    newest: Snapshot | None
    machine: ChatStateMachine

    def close(self) -> None:
        self.machine.close()
        self.wal.close()


def open_directory(
    disk: Disk,
    config: NodeConfig,
    database: Path | str,
    wal_class: type[Wal] = Wal,
    machine_class: type[ChatStateMachine] = ChatStateMachine,
) -> Opened:
    """Open what the configuration names. Raises ``StorageError``, ``NotFormatted`` for one, and ``StateUnusable``."""
    identity = whose(disk, config)
    wal, recovered = wal_class.open(disk, config.data_dir, identity, format_new=False)
    try:
        if recovered.cut_bytes:
            log.warning("torn tail cut from the log: a write was under way at the crash", bytes=recovered.cut_bytes)
        snapshots = SnapshotStore(disk, config.data_dir / SNAPSHOTS, identity)
        newest = snapshots.newest()
        hard_state, base, entries = recovered.hard_state, recovered.base, recovered.entries
        if newest is not None and newest.base.index > last_index(base, entries):
            hard_state, base, entries = begin_at(wal, newest.base, hard_state)
        machine = open_machine(machine_class, database, origin_of(identity), base, entries, snapshots, newest)
    except BaseException:
        wal.close()
        raise
    return Opened(identity, wal, hard_state, base, entries, snapshots, newest, machine)


def whose(disk: Disk, config: NodeConfig) -> Identity:
    """To whom the directory belongs. Raises ``NotFormatted``, ``WrongIdentity``, and as ``read_identity``."""
    found = read_identity(disk, config.data_dir)
    if found is None:
        raise NotFormatted(config.data_dir)
    wanted = Identity(config.cluster, config.node_id, incarnation=found.incarnation)
    if found != wanted:
        raise WrongIdentity(config.data_dir / IDENTITY_FILE, str(found), str(wanted))
    return found


def origin_of(identity: Identity) -> Origin:
    return Origin(identity.cluster, identity.group, identity.incarnation)


def last_index(base: Base | None, entries: list[Entry]) -> int:
    return entries[-1].index if entries else (base.index if base is not None else 0)


def begin_at(wal: Wal, base: Base, hard_state: HardState) -> tuple[HardState, Base, list[Entry]]:
    """Have the log begin at a snapshot that is beyond its end. The term that the snapshot ends in was promised when it
    was received, and may not have become durable."""
    if hard_state.term < base.term:
        hard_state = HardState(base.term, NOBODY)
    wal.append(hard_state, [], base)
    wal.sync()
    log.info("the log begins at the snapshot that was received last", index=base.index)
    return hard_state, base, []


def open_machine(
    machine_class: type[ChatStateMachine],
    database: Path | str,
    origin: Origin,
    base: Base | None,
    entries: list[Entry],
    snapshots: SnapshotStore,
    newest: Snapshot | None,
) -> ChatStateMachine:
    """A state machine that goes on from where the log can go on from."""
    begin = base or Base()

    def term_at(index: int) -> int:
        return begin.term if index == begin.index else entries[index - begin.index - 1].term

    def blocks() -> Iterable[bytes] | None:
        return None if newest is None else snapshots.open(newest.base)

    extent = LogExtent(begin.index, last_index(base, entries), term_at)
    machine, why = open_or_rebuild(machine_class, database, origin, extent, blocks)
    if why is not None:
        log.warning("the state was made anew from snapshot and log", why=why)
    return machine


def restore(machine: ChatStateMachine, database: Path | str, snapshots: SnapshotStore, base: Base) -> None:
    """Replace the state of a machine by that of a snapshot. Raises as ``prepare_state`` and ``install`` do."""
    prepared = prepare_state(database, snapshots.open(base), machine.origin)
    try:
        machine.install(prepared)
    except BaseException:
        prepared.discard()
        raise
