"""Configuration: every mistake names the file, the key and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from impl.config import ConfigError, load_config
from impl.local_cluster import node_config

GOOD = """
cluster = "tea"
node_id = 1
data_dir = "data"
http = "127.0.0.1:8101"
peer = "127.0.0.1:9101"
[peers]
2 = "127.0.0.1:9102"
3 = "127.0.0.1:9103"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.voters == (1, 2, 3)
    assert config.data_dir == tmp_path / "data"


def test_the_environment_comes_on_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEGRAFT_HTTP", "127.0.0.1:8999")
    assert load_config(write(tmp_path, GOOD)).http == "127.0.0.1:8999"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("elction_ticks = 5\n" + GOOD, ["elction_ticks", "did you mean 'election_ticks'"]),
        ("zzz = 5\n" + GOOD, ["zzz", "known keys", "heartbeat_ticks"]),
        (GOOD.replace('cluster = "tea"', ""), ["'cluster' is missing"]),
        (GOOD.replace("node_id = 1", "node_id = 0"), ["node_id", "greater than 0"]),
        (GOOD.replace("8101", "0"), ["http", "'127.0.0.1:0' is not an address", "1 to 65535"]),
        (GOOD.replace("127.0.0.1:9102", "nowhere"), ["peers.2", "'nowhere' is not an address"]),
        ("heartbeat_ticks = 50\n" + GOOD, ["node.toml: heartbeat_ticks (50) must be less than election_ticks (30)"]),
        ("cluster = ", ["not a TOML file"]),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_mistake_in_the_environment_is_told_from_one_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, GOOD)
    monkeypatch.setenv("TELEGRAFT_NODE_ID", "abc")
    with pytest.raises(ConfigError, match="environment variable TELEGRAFT_NODE_ID: node_id"):
        load_config(path)
    monkeypatch.delenv("TELEGRAFT_NODE_ID")
    monkeypatch.setenv("TELEGRAFT_PEERS", "{bad")
    with pytest.raises(ConfigError, match="environment"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load_config(tmp_path / "absent.toml")


def test_the_local_cluster_writes_configurations_that_load(tmp_path: Path) -> None:
    import tomli_w

    for node_id in (1, 2, 3):
        config = load_config(write(tmp_path, tomli_w.dumps(node_config(node_id, 3, 8101, 9101))))
        assert config.node_id == node_id
        assert config.voters == (1, 2, 3)
