"""Nodes as real processes, with a stand-in for the node: start, kill, pause, stop, and ends that nobody asked for."""

from __future__ import annotations

import signal
import sys
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from harness import cluster
from harness.cluster import Cluster, Node, NodeFailed, is_ready_line, node_command, prepare
from harness.links import Links
from harness.ports import ephemeral_start, free_ports
from impl.config import load_config

NOWHERE = ("127.0.0.1", 1)


@pytest.fixture
def node_that(tmp_path: Path) -> Iterator[Callable[[str], Node]]:
    """Makes stand-ins that behave in a given manner; whatever still runs at the end is killed."""
    made: list[Node] = []

    def make(manner: str) -> Node:
        number = len(made) + 1
        command = [sys.executable, "-m", "harness.tests.standin", manner]
        node = Node(number, NOWHERE, NOWHERE, tmp_path / "x", tmp_path / f"{number}.log", tmp_path / "d", command)
        made.append(node)
        return node

    yield make
    for node in made:
        if node.process is not None and node.process.poll() is None:
            node.process.kill()
            node.process.wait(5)


def process_state(node: Node) -> str:
    """The kernel's letter for the state of the process: T is stopped."""
    assert node.process is not None
    return Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_start_kill_and_start_again(node_that: Callable[[str], Node]) -> None:
    node = node_that("good")
    await node.start()
    first = node.process
    assert first is not None
    assert (node.state, first.poll()) == ("up", None)
    await node.kill()
    assert (node.state, first.returncode) == ("down", -9)
    await node.start()
    assert node.process is not first
    assert node.starts == 2
    assert await node.stop()
    assert not node.note_crash()
    assert node.disorders == []


async def test_a_paused_node_can_be_killed_and_one_that_is_down_cannot_be_paused(
    node_that: Callable[[str], Node],
) -> None:
    node = node_that("good")
    await node.start()
    node.pause()
    with trio.fail_after(5):
        while process_state(node) != "T":
            await trio.sleep(0.01)
    await node.kill()
    node.pause()
    node.resume()
    assert node.state == "down"


async def test_a_paused_node_goes_on_and_ends_in_order(node_that: Callable[[str], Node]) -> None:
    node = node_that("good")
    await node.start()
    node.pause()
    assert node.state == "paused"
    assert await node.stop()


async def test_a_node_that_ignores_sigterm_is_killed(
    node_that: Callable[[str], Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "STOP_TIMEOUT_S", 0.2)
    node = node_that("stubborn")
    await node.start()
    assert not await node.stop()
    assert node.process is not None
    assert node.process.returncode == -9
    (disorder,) = node.disorders
    assert "node 1 did not end within 0.2 s of SIGTERM (signal SIGKILL)" in disorder


async def test_a_node_that_ends_with_an_error_after_sigterm_does_not_end_in_order(
    node_that: Callable[[str], Node],
) -> None:
    node = node_that("untidy")
    await node.start()
    assert not await node.stop()
    (disorder,) = node.disorders
    assert "node 1 did not end in order after SIGTERM (exit code 3)" in disorder


ENDS: dict[str, Callable[[Cluster], Awaitable[None]]] = {
    "kill": lambda whole: whole.nodes[1].kill(),
    "stop": lambda whole: whole.stop(),
    "kill-and-start": lambda whole: kill_and_start(whole),
    "kill-now": lambda whole: kill_now(whole),
}


async def kill_and_start(whole: Cluster) -> None:
    await whole.nodes[1].kill()
    await whole.start()
    await whole.nodes[1].kill()


async def kill_now(whole: Cluster) -> None:
    whole.kill_now()


@pytest.mark.parametrize("end", ENDS)
async def test_a_crash_is_not_hidden_by_an_end_that_comes_right_after_it(
    end: str, node_that: Callable[[str], Node]
) -> None:
    node = node_that("brief")
    whole = Cluster({1: node}, Links({1: NOWHERE}, {1: NOWHERE}))
    await node.start()
    assert node.process is not None
    with trio.fail_after(10):
        while node.process.poll() is None:
            await trio.sleep(0.01)
    node.command[-1] = "good"  # in its next life
    await ENDS[end](whole)
    assert node.state == "down"
    (disorder,) = whole.take_disorders()
    assert "node 1 ended by itself (exit code 1)" in disorder
    assert whole.take_disorders() == []


async def test_a_crash_that_is_quicker_than_the_kill_is_seen(
    node_that: Callable[[str], Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_that("untidy")
    await node.start()

    def send(number: signal.Signals) -> None:  # SIGKILL comes too late: the node ends by what this stands for
        assert number == signal.SIGKILL
        assert node.process is not None
        node.process.terminate()

    monkeypatch.setattr(node, "_signal", send)
    await node.kill()
    (disorder,) = node.disorders
    assert "node 1 ended by itself (exit code 3)" in disorder


async def test_a_node_that_cannot_start_is_quoted(node_that: Callable[[str], Node]) -> None:
    node = node_that("broken")
    with pytest.raises(NodeFailed, match=r"node 1 ended by itself \(exit code 1\)(.|\n)*4711 is in use"):
        await node.start()
    assert node.state == "down"


async def test_a_node_that_is_never_ready_is_ended(
    node_that: Callable[[str], Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "READY_TIMEOUT_S", 0.3)
    node = node_that("mute")
    with pytest.raises(NodeFailed, match=r"not ready after 0\.3 s"):
        await node.start()
    assert node.process is not None
    assert node.process.returncode == -9


async def test_a_node_that_ends_by_itself_is_noticed_once(node_that: Callable[[str], Node]) -> None:
    node = node_that("brief")
    await node.start()
    crashes: list[str] = []
    links = Links({1: NOWHERE}, {1: NOWHERE})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Cluster({1: node}, links).watch_for_crashes, crashes.append)
        with trio.fail_after(10):
            while not crashes:
                await trio.sleep(0.01)
        await trio.sleep(3 * cluster.CRASH_POLL_S)
        nursery.cancel_scope.cancel()
    assert len(crashes) == 1
    assert "exit code 1" in crashes[0]


async def test_all_failures_of_a_start_are_told(node_that: Callable[[str], Node]) -> None:
    nodes = {1: node_that("broken"), 2: node_that("good"), 3: node_that("broken")}
    whole = Cluster(nodes, Links(dict.fromkeys(nodes, NOWHERE), dict.fromkeys(nodes, NOWHERE)))
    with pytest.raises(NodeFailed, match=r"node 1 (.|\n)*node 3 "):
        await whole.start()
    assert [node.state for node in nodes.values()] == ["down", "up", "down"]
    await whole.stop()
    assert [node.state for node in nodes.values()] == ["down", "down", "down"]


async def test_configs_point_at_proxies_and_the_node_accepts_them(tmp_path: Path) -> None:
    made = await prepare(tmp_path, nodes=3, name="demo")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.links.serve)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    for node in made.nodes.values():
        values = tomllib.loads(node.config_path.read_text())
        others = {j for j in (1, 2, 3) if j != node.node_id}
        for j in others:
            host, port = made.links.peer_address[node.node_id, j]
            assert values["peers"][str(j)] == f"{host}:{port}"
        assert values["peer_urls"] == {str(j): url for j, url in made.client_urls().items()}
        config = load_config(node.config_path)
        assert (config.node_id, config.voters) == (node.node_id, (1, 2, 3))


def test_what_would_override_the_config_files_is_kept_from_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEGRAFT_HTTP", "127.0.0.1:1")
    monkeypatch.setenv("HOME", "/home/somebody")
    environment = cluster.node_environment()
    assert "TELEGRAFT_HTTP" not in environment
    assert environment["HOME"] == "/home/somebody"


def test_a_planted_bug_changes_the_program_and_nothing_else() -> None:
    plain, planted = node_command(Path("/x.toml"), ""), node_command(Path("/x.toml"), "early-ack")
    assert plain[2:] == ["harness.tested_node", "--config", "/x.toml", "--disk", "/x.disk", "--end-with-parent"]
    assert planted == [*plain, "--bug", "early-ack"]


@pytest.mark.parametrize(
    ("line", "ready"),
    [
        (b'{"event": "ready", "node_id": 1}\n', True),
        (b'{"event": "recovered"}\n', False),
        (b'{"event": "ready"', False),
        (b"ready\n", False),
        (b'["event", "ready"]\n', False),
    ],
)
def test_ready_lines(line: bytes, ready: bool) -> None:
    assert is_ready_line(line) is ready


def test_ports_are_different_and_below_those_that_the_kernel_hands_out() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(port < ephemeral_start() for port in ports)
