"""The cluster under test: one operating-system process per node, started, broken and ended by the harness.

Theory of operation
-------------------
Each node is the real program with a real config file, on a disk that the harness can break and, if asked for, with a
planted bug (``harness.tested_node``). Its config points every peer at a proxy and tells clients of the proxies in front
of the nodes, so that all traffic but the harness's own status polls can be cut.

Output of a node, both streams and all its lives, goes to one file, ``nodes/N.log``. The harness waits for the ready
line there: a file never blocks the node that writes it, as a full pipe would. Each node lives in a process group of its
own, as Ctrl-C is meant for the harness, which then ends them in order. And each asks the kernel to be killed when the
harness ends: none outlives it, not even one that is stopped.

A node is ``down``, ``up`` or ``paused``. An end that nobody asked for, and one after SIGTERM that is not in order, is a
*disorder*: the run's verdict will not be ``valid``, whatever the history says. Whoever looks at the process may find
it: the watch, or a fault or the end of the run that comes to a node which has ended already. Each disorder is therefore
kept with its node until ``take_disorders`` collects it. A node that lives until SIGKILL ended as it was meant to.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import tomli_w
import trio

from harness.faulty_disk import DiskControl
from harness.links import Links
from harness.ports import free_ports
from harness.proxy import Address
from impl.config import load_config
from impl.raft.configuration import founding
from impl.raft.messages import Base
from impl.storage.disk import RealDisk
from impl.storage.formatting import format_directory
from impl.storage.identity import IDENTITY_FILE, Identity

HOST = "127.0.0.1"

READY_TIMEOUT_S = 20.0
"""From exec to ready: a second when idle, several when three Pythons start on two busy cores and replay their logs."""

STOP_TIMEOUT_S = 15.0
"""For an orderly end after SIGTERM; then SIGKILL, and the run is not valid. A node that is idle ends within a second;
on a busy machine it may wait long for a processor."""

REAP_TIMEOUT_S = 5.0
"""For the kernel to take down a process after SIGKILL."""

SEGMENT_BYTES = 16 * 1024
"""A segment holds the messages of a second or two, so that a disk which is full for longer is met."""

OPTIONS: dict[str, Any] = {"snapshot_entries": 300, "keep_entries": 50}
"""Snapshots within seconds, and little log kept, so that a node which was away needs one. Not with planted bugs, some
of which need the log from its beginning."""

POLL_S = 0.01

CRASH_POLL_S = 0.1

LOG_TAIL_LINES = 12
"""How much of a log an error message quotes."""

NodeState: TypeAlias = Literal["down", "up", "paused"]


class NodeFailed(RuntimeError):
    """A node did not start, or ended by itself. The message quotes the end of its log."""


@dataclass
class Node:
    """One node: its addresses, its files and its current process."""

    node_id: int
    http: Address
    peer: Address
    config_path: Path
    log_path: Path
    data_dir: Path
    command: list[str]
    state: NodeState = "down"
    process: subprocess.Popen[bytes] | None = None
    crashed: str = ""  # why it ended by itself since the last start, or empty
    disorders: list[str] = field(default_factory=list)  # in words, of all its lives; see ``take_disorders``
    starts: int = 0
    segment_bytes: int = 0  # of the first segment of a founder's log; 0: as usual
    joins: bool = False  # whether its directory, when it is made, is that of a node that joins a group
    _log_offset: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        self.disk = DiskControl(disk_control_path(self.config_path))

    async def start(self) -> None:
        """Start the process and wait until it says it is ready. Raises ``NodeFailed``."""
        if self.state != "down":
            return
        self.log_path.touch()
        await self._format()
        self._log_offset = self.log_path.stat().st_size
        with self.log_path.open("ab") as log:
            # Not trio's open_process: it forks in a worker thread, and "parent" in --end-with-parent is the forking
            # *thread*, which ends after some idle seconds.
            self.process = subprocess.Popen(  # noqa: ASYNC220
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                env=node_environment(),
            )
        self.starts += 1
        self.crashed = ""
        self.state = "up"
        try:
            with trio.fail_after(READY_TIMEOUT_S):
                await self._wait_ready()
        except trio.TooSlowError:
            await self.kill()
            raise NodeFailed(
                f"node {self.node_id} was not ready after {READY_TIMEOUT_S:g} s; its log ends:\n{self.log_tail()}"
            ) from None

    async def _format(self) -> None:
        """Make the data directory ready, if that has not been done. Raises ``NodeFailed``."""
        if not self.config_path.exists() or (self.data_dir / IDENTITY_FILE).exists():
            return
        if self.segment_bytes and not self.joins:
            await trio.to_thread.run_sync(format_founder, self.config_path, self.segment_bytes)
            return
        command = [sys.executable, "-m", "impl.cli", "init", "--config", str(self.config_path.resolve())]
        command += ["--join"] if self.joins else []
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env=node_environment()
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise NodeFailed(f"node {self.node_id}: its data directory cannot be made ready: {said}")

    async def _wait_ready(self) -> None:
        while self.state != "down" and not self._said_ready():  # down: a kill overtook the start
            self.note_crash()
            await trio.sleep(POLL_S)
        if self.crashed:
            raise NodeFailed(self.crashed)

    def _said_ready(self) -> bool:
        with self.log_path.open("rb") as log:
            log.seek(self._log_offset)
            lines = log.read().splitlines(keepends=True)
        return any(line.endswith(b"\n") and is_ready_line(line) for line in lines)

    async def kill(self) -> None:
        """SIGKILL, and wait until the process is gone. It also ends a stopped process."""
        self.note_crash()
        if self.state == "down":
            return
        self.state = "down"
        self._signal(signal.SIGKILL)
        await self._reap(REAP_TIMEOUT_S)
        if self._returncode not in (None, -signal.SIGKILL):  # it was quicker
            self._note("ended by itself")

    async def stop(self) -> bool:
        """SIGTERM, and SIGKILL if that does not end it in time; returns whether it ended in order, if it had to end."""
        if self.note_crash():
            return False
        if self.state == "down":
            return True
        self.resume()
        self.state = "down"
        self._signal(signal.SIGTERM)
        if not await self._reap(STOP_TIMEOUT_S):
            self._signal(signal.SIGKILL)
            await self._reap(REAP_TIMEOUT_S)
            self._note(f"did not end within {STOP_TIMEOUT_S:g} s of SIGTERM")
            return False
        if self._returncode != 0:
            self._note("did not end in order after SIGTERM")
            return False
        return True

    def kill_now(self) -> None:
        """SIGKILL at once, and wait only as long as the kernel needs: the last resort."""
        self.note_crash()
        if self.process is not None and self.process.poll() is None:
            self.state = "down"
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)

    def pause(self) -> None:
        """SIGSTOP: alive for the kernel, which keeps its sockets, and silent for everybody else."""
        if self.state == "up":
            self._signal(signal.SIGSTOP)
            self.state = "paused"

    def resume(self) -> None:
        """SIGCONT."""
        if self.state == "paused":
            self._signal(signal.SIGCONT)
            self.state = "up"

    def note_crash(self) -> bool:
        """Look whether the process ended by itself; returns whether that was found now."""
        if self.state == "down" or self.process is None or self.process.poll() is None:
            return False
        self.state = "down"
        self.crashed = self._note("ended by itself")
        return True

    @property
    def _returncode(self) -> int | None:
        return None if self.process is None else self.process.returncode

    def _note(self, disorder: str) -> str:
        how = "" if self._returncode is None else f" ({exit_words(self._returncode)})"
        words = f"node {self.node_id} {disorder}{how}; its log ends:\n{self.log_tail()}"
        self.disorders.append(words)
        return words

    def log_tail(self) -> str:
        """The last lines of the log since the last start, for an error message."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_offset)
            text = log.read().decode(errors="replace")
        lines = text.splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (empty)"

    def _signal(self, number: signal.Signals) -> None:
        # Only ever the process this object started and has not reaped: its id cannot have passed to another one.
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    async def _reap(self, timeout_s: float) -> bool:
        with trio.move_on_after(timeout_s):
            while self.process is not None and self.process.poll() is None:  # noqa: ASYNC110
                await trio.sleep(POLL_S)
        return self.process is None or self.process.returncode is not None


class Cluster:
    """All nodes of a run, and the links between them."""

    def __init__(self, nodes: dict[int, Node], links: Links) -> None:
        self.nodes = nodes
        self.links = links

    @property
    def node_ids(self) -> tuple[int, ...]:
        return tuple(sorted(self.nodes))

    def client_urls(self) -> dict[int, str]:
        """Where clients reach each node: the proxy in front of it."""
        return {node: f"http://{host}:{port}" for node, (host, port) in self.links.client_address.items()}

    async def start(self, node_ids: Iterable[int] | None = None) -> None:
        """Start these nodes, or all, where they are down; all at once, and wait for all. Raises ``NodeFailed``."""
        failures: list[str] = []

        async def start_one(node: Node) -> None:
            try:
                await node.start()
            except NodeFailed as failure:
                failures.append(str(failure))

        async with trio.open_nursery() as nursery:
            for node_id in self.node_ids if node_ids is None else node_ids:
                nursery.start_soon(start_one, self.nodes[node_id])
        if failures:
            raise NodeFailed("\n".join(sorted(failures)))

    async def stop(self) -> None:
        """End every node, in order where possible. Bounded in time; cancellation does not interrupt it."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for node in self.nodes.values():
                    nursery.start_soon(node.stop)

    def kill_now(self) -> None:
        """SIGKILL to everything at once, without waiting: the last resort."""
        for node in self.nodes.values():
            node.kill_now()

    async def watch_for_crashes(self, note: Callable[[str], None]) -> None:
        """Call ``note`` with the words for it each time a node ends by itself; until cancelled."""
        while True:
            for node in self.nodes.values():
                node.note_crash()
            for disorder in self.take_disorders():
                note(disorder)
            await trio.sleep(CRASH_POLL_S)

    def take_disorders(self) -> list[str]:
        """How nodes ended that should not have, or not in this manner, in words: each is told once."""
        taken = [disorder for node in self.nodes.values() for disorder in node.disorders]
        for node in self.nodes.values():
            node.disorders.clear()
        return taken


async def prepare(directory: Path, *, nodes: int, name: str, bug: str = "") -> Cluster:
    """Choose ports, open the proxies and write the config files below ``directory``/nodes. Nothing is started yet."""
    home = directory / "nodes"
    home.mkdir(parents=True, exist_ok=True)
    ports = free_ports(2 * nodes)
    ids = range(1, nodes + 1)
    http = {i: (HOST, ports[2 * i - 2]) for i in ids}
    peer = {i: (HOST, ports[2 * i - 1]) for i in ids}
    links = Links(peer, http)
    await links.open()
    members: dict[int, Node] = {}
    for i in ids:
        config_path = home / f"{i}.toml"
        data_dir = home / f"{i}.data"
        config = node_config(name, i, data_dir, http, peer, links) | ({} if bug else OPTIONS)
        config_path.write_text(tomli_w.dumps(config))
        members[i] = Node(
            node_id=i,
            http=http[i],
            peer=peer[i],
            config_path=config_path,
            log_path=home / f"{i}.log",
            data_dir=data_dir,
            command=node_command(config_path, bug, SEGMENT_BYTES),
            segment_bytes=SEGMENT_BYTES,
        )
    return Cluster(members, links)


def node_config(
    name: str,
    node_id: int,
    data_dir: Path,
    http: dict[int, Address],
    peer: dict[int, Address],
    links: Links,
) -> dict[str, Any]:
    """The config of one node: itself at its real addresses, everybody else through proxies."""
    return {
        "cluster": name,
        "node_id": node_id,
        "data_dir": str(data_dir.resolve()),
        "http": text(http[node_id]),
        "peer": text(peer[node_id]),
        "peers": {str(j): text(peer[j] if j == node_id else links.peer_address[node_id, j]) for j in peer},
        "peer_urls": {str(j): f"http://{text(links.client_address[j])}" for j in peer},
    }


def node_command(config_path: Path, bug: str, segment_bytes: int = 0) -> list[str]:
    """The command line of a node that ends with this process; ``segment_bytes`` 0: as usual."""
    command = [sys.executable, "-m", "harness.tested_node", "--config", str(config_path.resolve())]
    command += ["--disk", str(disk_control_path(config_path).resolve()), "--end-with-parent"]
    command += ["--segment-bytes", str(segment_bytes)] if segment_bytes else []
    return [*command, "--bug", bug] if bug else command


def format_founder(config_path: Path, segment_bytes: int) -> None:
    """What ``telegraft init`` does for a founding member, with another size of the log's first segment."""
    config = load_config(config_path)
    owner = Identity(config.cluster, config.node_id)
    base = Base(configuration=founding(config.voters))
    format_directory(RealDisk(), config.data_dir, owner, base, segment_bytes=segment_bytes)


def disk_control_path(config_path: Path) -> Path:
    """The control file of a node's disk, beside its configuration; see ``harness.faulty_disk``."""
    return config_path.with_suffix(".disk")


def node_environment() -> dict[str, str]:
    """This process's environment without what would override the config files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TELEGRAFT_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def is_ready_line(line: bytes) -> bool:
    """Whether a line of a node's output says that it serves."""
    if not line.startswith(b"{"):
        return False
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("event") == "ready"


def exit_words(returncode: int) -> str:
    """``exit code 1``, or the name of the signal."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"
