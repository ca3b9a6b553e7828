"""Whose directory it is."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impl.storage.errors import FormatTooNew, FormatTooOld, LogDamaged
from impl.storage.formatting import format_directory
from impl.storage.identity import (
    MAX_CLUSTER_NAME_BYTES,
    Identity,
    decode_identity,
    encode_identity,
    new_incarnation,
)
from impl.storage.simulated_disk import SimulatedDisk

FILE = Path("/d/identity")


def test_golden_identity_file() -> None:
    assert encode_identity(Identity("town", 1)) == (
        b'{"format":2,"cluster":"town","node_id":1,"group":0,"incarnation":1}\ncrc32c 54ffbc9b\n'
    )


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@settings(derandomize=True)
@given(st.builds(Identity, names, st.integers(1, 2**63), st.integers(0, 2**31), st.integers(1, 2**63 - 1)))
def test_an_identity_comes_back_as_it_was(identity: Identity) -> None:
    assert decode_identity(FILE, encode_identity(identity)) == identity


def test_any_flipped_bit_is_refused() -> None:
    content = encode_identity(Identity("town", 1))
    for offset in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[offset] ^= 1 << bit
            with pytest.raises(LogDamaged, match="/d/identity is damaged"):
                decode_identity(FILE, bytes(flipped))


def test_a_newer_format_is_refused() -> None:
    newer = encode_identity(Identity("town", 1), version=3)
    with pytest.raises(FormatTooNew, match="/d/identity is in format 3"):
        decode_identity(FILE, newer)


def test_an_older_format_is_refused() -> None:
    with pytest.raises(FormatTooOld, match=r"/d/identity is in format 1.*telegraft init --join"):
        decode_identity(FILE, encode_identity(Identity("town", 1), version=1))


def test_incarnations_are_drawn_anew_and_are_not_those_of_founders() -> None:
    drawn = {new_incarnation() for _ in range(1000)}
    assert len(drawn) == 1000
    assert all(1 < incarnation < 2**63 for incarnation in drawn)


@pytest.mark.parametrize(
    ("cluster", "node_id", "group", "incarnation"),
    [
        ("", 1, 0, 1),
        ("x" * (MAX_CLUSTER_NAME_BYTES + 1), 1, 0, 1),
        ("x", 0, 0, 1),
        ("x", 1, -1, 1),
        ("x", 1, 0, 0),
        ("x", 1, 0, 2**63),
    ],
)
def test_an_identity_that_cannot_be_is_refused(cluster: str, node_id: int, group: int, incarnation: int) -> None:
    with pytest.raises(ValueError, match=r"cluster name|node id|group|incarnation"):
        Identity(cluster, node_id, group, incarnation)


def test_the_directory_and_its_identity_are_durable_before_anything_else() -> None:
    disk = SimulatedDisk()
    format_directory(disk, Path("/var/lib/town/node-1"), Identity("town", 1), None, segment_bytes=400)
    for seed in range(50):
        after = disk.crash(Random(seed))
        assert "identity" in after.list_directory(Path("/var/lib/town/node-1"))


def test_a_draft_left_by_a_crash_is_replaced() -> None:
    disk = SimulatedDisk()
    disk.make_directory(Path("/d"))
    disk.open_file(Path("/d/identity.draft"), create=True).write(0, b"half of")
    disk.kill()
    format_directory(disk, Path("/d"), Identity("town", 1), None)
    assert disk.list_directory(Path("/d")) == ["identity", "lock", "log-00000000000000000001.segment"]
