"""A backup becomes the beginning of a new group: the same on each member, with the old state and new names."""

from __future__ import annotations

from pathlib import Path

import pytest

from impl.chat.commands import CreateUser, Rejected, UserCreated, encode_command
from impl.chat.database import Origin
from impl.chat.state_machine import ChatStateMachine
from impl.config import NodeConfig
from impl.node.opening import DATABASE, open_directory
from impl.raft.configuration import founding
from impl.raft.messages import Base, Entry
from impl.restoring import CannotRestore, restore
from impl.storage.disk import RealDisk
from impl.storage.errors import SnapshotDamaged
from impl.storage.identity import Identity
from impl.storage.snapshots import SnapshotStore

MEMBERS = (1, 2, 3)


def entry(index: int, name: str) -> Entry:
    return Entry(index, 3, encode_command(CreateUser(f"t-{name}", name, proposed_id=index << 22)))


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    (tmp_path / "old").mkdir()
    identity = Identity("before", 7)
    machine = ChatStateMachine.open(tmp_path / "old" / "chat.db", Origin("before", 0, 1))
    machine.apply([entry(index, f"user-{index}") for index in range(1, 11)])
    writer = SnapshotStore(RealDisk(), tmp_path / "old" / "snapshots", identity).create(
        Base(10, 3, founding((7, 8, 9)), 0)
    )
    machine.export_snapshot(writer.write)
    machine.close()
    return writer.finish().path


def config(tmp_path: Path, node_id: int, cluster: str = "after") -> NodeConfig:
    return NodeConfig(
        cluster=cluster,
        node_id=node_id,
        data_dir=tmp_path / f"new-{node_id}",
        http="127.0.0.1:1",
        peer="127.0.0.1:2",
        peers=dict.fromkeys(MEMBERS, "127.0.0.1:2"),
    )


def test_all_members_begin_with_the_same_state_and_the_same_group(tmp_path: Path, backup: Path) -> None:
    seen = []
    for node_id in MEMBERS:
        at = config(tmp_path, node_id)
        made = restore(at, backup)
        assert (made.cluster_before, made.index, made.voters) == ("before", 10, MEMBERS)
        opened = open_directory(RealDisk(), at, at.data_dir / DATABASE)
        try:
            assert opened.newest is not None
            assert opened.base == opened.newest.base
            assert opened.hard_state.term == 3
            assert opened.identity.cluster == "after"
            member = opened.newest.base.configuration.member(node_id)
            assert member is not None
            assert opened.identity.incarnation == member.incarnation > 1
            again, new = opened.machine.apply([entry(11, "user-4"), entry(12, "new")])
            assert isinstance(again, UserCreated)  # the first answer, remembered
            assert isinstance(new, UserCreated)
            (taken,) = opened.machine.apply([Entry(13, 4, encode_command(CreateUser("other", "user-4", 13 << 22)))])
            assert isinstance(taken, Rejected)
            seen.append((opened.newest.base, opened.machine.digest()))
        finally:
            opened.close()
    assert seen[0] == seen[1] == seen[2]


def test_another_cluster_from_the_same_backup_has_other_incarnations(tmp_path: Path, backup: Path) -> None:
    incarnations = set()
    for cluster in ("after", "later"):
        at = config(tmp_path / cluster, 1, cluster)
        at.data_dir.parent.mkdir()
        restore(at, backup)
        opened = open_directory(RealDisk(), at, at.data_dir / DATABASE)
        incarnations.add(opened.identity.incarnation)
        opened.close()
    assert len(incarnations) == 2


def test_what_is_refused_changes_nothing(tmp_path: Path, backup: Path) -> None:
    with pytest.raises(CannotRestore, match="--same-name"):
        restore(config(tmp_path, 1, "before"), backup)
    with pytest.raises(CannotRestore, match="not there"):
        restore(config(tmp_path, 1), tmp_path / "nothing")
    assert not (tmp_path / "new-1").exists()
    restore(config(tmp_path, 1, "before"), backup, same_name=True)
    with pytest.raises(CannotRestore, match="not empty"):
        restore(config(tmp_path, 1), backup)


def test_a_damaged_backup_makes_no_directory_that_would_start(tmp_path: Path, backup: Path) -> None:
    content = bytearray(backup.read_bytes())
    content[len(content) // 2] ^= 1
    backup.write_bytes(content)
    with pytest.raises(SnapshotDamaged):
        restore(config(tmp_path, 1), backup)
    assert not (tmp_path / "new-1").exists()
    with pytest.raises(CannotRestore, match="cut short"):
        restore(config(tmp_path, 1), backup)
