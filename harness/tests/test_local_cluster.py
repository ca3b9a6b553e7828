"""``telegraft cluster up`` with real processes: the README's lines, kills by hand, and mistakes of the operator."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.ports import is_free
from impl.raft.messages import NodeId

ROOT = Path(__file__).parents[2]

PATIENCE_S = 60.0
"""For anything a busy machine takes its time for."""


def contiguous_ports(count: int) -> int:
    """The first of ``count`` free ports in a row, below those that the kernel hands out."""
    for first in range(21_000 + os.getpid() % 500 * 10, 32_000, count):
        if all(is_free(port, "127.0.0.1") for port in range(first, first + count)):
            return first
    raise AssertionError("no free ports in a row")


class Cluster:
    """A running ``cluster up``, its output, and calls to its API."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = contiguous_ports(6)
        self.output = folder / "up.log"

    @contextmanager
    def up(self, *options: str) -> Iterator[None]:
        command = [sys.executable, "-m", "impl.cli", "cluster", "up", "--nodes", "3", *options]
        command += ["--http-port", str(self.first), "--peer-port", str(self.first + 3)]
        self.output.write_text("")
        with self.output.open("ab") as output:
            process = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=output)
        try:
            self.wait(lambda: len(self.pids()) == 3 and self.leader())
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_S)

    def pids(self) -> dict[NodeId, int]:
        """Of the newest process of each node."""
        found = re.findall(r"^node (\d) .* pid (\d+)$", self.output.read_text(), re.MULTILINE)
        return {int(node): int(pid) for node, pid in found}

    def call(self, node: NodeId, method: str, path: str, body: Any = None, user: str = "") -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.first + node - 1}{path}"
        request = urllib.request.Request(url, data, {"Telegraft-User": user} if user else {}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def leader(self) -> NodeId:
        """The leader that some node knows, or 0."""
        for node in (1, 2, 3):
            try:
                leader = int(self.call(node, "GET", "/v1/status")["leader_id"])
            except urllib.error.HTTPError as error:
                error.close()
                continue
            except OSError:
                continue
            if leader:
                return leader
        return 0

    def persist(self, node: NodeId, method: str, path: str, body: Any = None, user: str = "") -> Any:
        """A call that is repeated until it succeeds, as a client does."""
        return self.wait(lambda: self.call(node, method, path, body, user))

    def wait(self, attempt: Any) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if result := attempt():
                    return result
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500:
                    raise
            except OSError:
                pass  # nobody listens there now
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_the_lines_of_the_readme_work(cluster: Cluster) -> None:
    if shutil.which("curl") is None:
        print("curl is not installed: the README's lines were not run")
        return
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = re.sub(r"localhost:810(\d)", lambda found: f"127.0.0.1:{cluster.first + int(found[1]) - 1}", block)
    assert lines.count("curl ") == 5
    with cluster.up():
        done = subprocess.run(
            ["bash", "-euc", lines.replace("curl ", "curl -sf ")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    sent, page, status = objects(done.stdout)
    assert sent["seq"] == 2
    assert [(item["kind"], item["text"]) for item in page["items"]] == [("create", "tea"), ("text", "hello")]
    assert status["cluster"] == "local"


def objects(text: str) -> Iterator[Any]:
    """The JSON objects that stand in a text one after the other."""
    decoder, position = json.JSONDecoder(), 0
    while position < len(text.rstrip()):
        found, position = decoder.raw_decode(text, position)
        yield found


def test_acknowledged_messages_survive_kill_9_of_the_leader_and_of_all(cluster: Cluster) -> None:
    with cluster.up("--no-restart"):
        user = cluster.persist(1, "POST", "/v1/users", {"username": "ann"})["user_id"]
        chat = cluster.persist(2, "POST", "/v1/chats", {"name": "tea"}, user)["chat_id"]

        def send(node: NodeId, number: int) -> int:
            path = f"/v1/chats/{chat}/messages/txn-{number}"
            return int(cluster.persist(node, "PUT", path, {"text": f"message {number}"}, user)["seq"])

        acknowledged = {number: send(1 + number % 3, number) for number in range(10)}
        leader = cluster.leader()
        os.kill(cluster.pids()[leader], signal.SIGKILL)
        survivor = 1 + leader % 3
        acknowledged |= {number: send(survivor, number) for number in range(10, 20)}
        for node, pid in cluster.pids().items():
            if node != leader:
                os.kill(pid, signal.SIGKILL)
    with cluster.up():
        for node in (1, 2, 3):
            page = cluster.persist(node, "GET", f"/v1/chats/{chat}/messages?after=1&limit=250", user=user)
            assert [item["text"] for item in page["items"]] == [f"message {number}" for number in range(20)]
            assert [item["seq"] for item in page["items"]] == list(acknowledged.values()) == list(range(2, 22))


def test_a_node_that_is_killed_is_started_again(cluster: Cluster) -> None:
    with cluster.up():
        first = cluster.pids()[2]
        os.kill(first, signal.SIGKILL)
        cluster.wait(lambda: cluster.pids()[2] != first)
        assert cluster.persist(2, "GET", "/v1/status")["node_id"] == 2
    assert "node 2  killed by SIGKILL; starts again in 3 s" in cluster.output.read_text()


def run_node(config: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "impl.cli", "node", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_mistakes_of_the_operator_are_named_and_lose_nothing(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.up():
        folder = tmp_path / "cluster" / "node-1"
        good = (folder / "node.toml").read_text()
        user = cluster.persist(1, "POST", "/v1/users", {"username": "ann"})["user_id"]
        for name in ("bob", "cleo", "dora"):  # frames behind the one that is damaged below
            cluster.persist(1, "POST", "/v1/users", {"username": name})

        def variant(name: str, pattern: str, replacement: str) -> Path:
            text, count = re.subn(pattern, replacement, good, flags=re.MULTILINE)
            assert count == 1
            path = folder / name
            path.write_text(text)
            return path

        code, words = run_node(folder / "node.toml")
        assert code == 2
        assert "data is in use by another process" in words

        elsewhere = variant("http.toml", "^data_dir = .*$", 'data_dir = "elsewhere"')
        code, words = run_node(elsewhere)
        assert code == 2
        assert "telegraft init" in words
        init = [sys.executable, "-m", "impl.cli", "init", "--config", str(elsewhere)]
        subprocess.run(init, check=True, capture_output=True, timeout=PATIENCE_S)
        code, words = run_node(elsewhere)
        assert code == 2
        assert f"{cluster.first + 3} is in use by another process" in words

        code, words = run_node(variant("key.toml", "^data_dir", "elction_ticks = 3\ndata_dir"))
        assert code == 2
        assert "unknown key 'elction_ticks': did you mean 'election_ticks'?" in words
    code, words = run_node(variant("other.toml", "^data_dir = .*$", 'data_dir = "../node-2/data"'))
    assert code == 2
    assert "belongs to node 2" in words
    assert "Nothing was changed" in words

    five = [sys.executable, "-m", "impl.cli", "cluster", "up", "--nodes", "5"]
    done = subprocess.run(five, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert "holds a cluster of 3 nodes" in done.stderr

    segment = next((folder / "data").glob("log-*.segment"))
    damaged = bytearray(segment.read_bytes())
    damaged[110] ^= 1
    original = segment.read_bytes()
    segment.write_bytes(damaged)
    code, words = run_node(folder / "node.toml")
    assert code == 2, words
    assert f"{segment.name} is damaged at byte" in words
    assert segment.read_bytes() == damaged, "nothing may be cut before the tail"

    segment.write_bytes(original)
    with cluster.up():
        with pytest.raises(urllib.error.HTTPError) as taken:
            cluster.call(1, "POST", "/v1/users", {"username": "ann"})
        taken.value.close()
        assert taken.value.code == 409
        assert cluster.persist(3, "GET", "/v1/users/me/chats", user=user)["items"] == []
