"""``telegraft cluster up``: a cluster of real processes on this machine, to use and to break by hand.

Each node gets a folder with its configuration, its log of standard error and its data, formatted when the folder is
new; starting again goes on from there, and changes neither configuration nor data. Nodes are processes of their own
that may be killed by id; unless told otherwise, one that died is started again after ``RESTART_PAUSE_S``, long enough
to see the others go on without it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w
import trio

from impl.config import ConfigError, load_config
from impl.process import configure_logging, format_node, leaves
from impl.storage.errors import AlreadyFormatted, StorageError

RESTART_PAUSE_S = 3.0
STOP_TIMEOUT_S = 10.0
"""A node that has not ended this long after SIGTERM is killed; its log recovers it."""

POLL_S = 0.05
"""How often a node's process is looked at."""


class ClusterError(Exception):
    """The cluster cannot be started, or one of its nodes cannot; the message says why."""


def node_config(node_id: int, nodes: int, http_port: int, peer_port: int) -> dict[str, Any]:
    """The configuration of one node of a local cluster, as it is written to its TOML file."""
    members = range(1, nodes + 1)
    return {
        "cluster": "local",
        "node_id": node_id,
        "data_dir": "data",
        "http": f"127.0.0.1:{http_port + node_id - 1}",
        "peer": f"127.0.0.1:{peer_port + node_id - 1}",
        "peers": {str(member): f"127.0.0.1:{peer_port + member - 1}" for member in members if member != node_id},
        "peer_urls": {str(member): f"http://127.0.0.1:{http_port + member - 1}" for member in members},
    }


def prepare(node_id: int, folder: Path, nodes: int, http_port: int, peer_port: int) -> None:
    """Write the configuration of a node and format its data directory, where that has not been done."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "node.toml"
    if not path.exists():
        path.write_text(tomli_w.dumps(node_config(node_id, nodes, http_port, peer_port)), encoding="utf-8")
    with suppress(AlreadyFormatted):
        format_node(load_config(path), join=False)


async def _keep_running(node_id: int, folder: Path, *, restart: bool) -> None:
    """Start one node, wait for its end, and start it again if that is wanted. Returns when it stays down."""
    worked = False
    while True:
        with (folder / "node.log").open("ab") as stderr:
            # Not trio's open_process: that forks in a worker thread, and to --end-with-parent the parent is the thread
            # that forked, which ends after some idle seconds. A fork takes a millisecond; nothing here minds.
            process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "impl.cli", "node", "--config", str(folder / "node.toml"), "--end-with-parent"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the nodes in order
            )
        try:
            assert process.stdout is not None
            async with trio.lowlevel.FdStream(os.dup(process.stdout.fileno())) as stdout:
                line = await _first_line(stdout)
            process.stdout.close()
            if line:
                worked = True
                ready = json.loads(line)
                print(f"node {node_id}  http://{ready['http']}  pid {ready['pid']}", flush=True)
            await _wait(process)
        except BaseException:
            await _stop(process)
            raise
        status = process.returncode or 0
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if status >= 0 and not worked:  # it ended by itself before it was ever ready: again would not help
            why = _last_words(folder / "node.log")
            print(f"node {node_id}  cannot be started: {why}", flush=True)
            return
        if not restart:
            print(
                f"node {node_id}  {how}; start it again with: telegraft node --config {folder / 'node.toml'}",
                flush=True,
            )
            return
        print(f"node {node_id}  {how}; starts again in {RESTART_PAUSE_S:g} s", flush=True)
        await trio.sleep(RESTART_PAUSE_S)


async def _first_line(stdout: trio.abc.ReceiveStream) -> bytes:
    line = b""
    async for data in stdout:
        line += data
        if b"\n" in line:
            return line.partition(b"\n")[0]
    return b""


async def _wait(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:  # noqa: ASYNC110 (the kernel has no event that every platform offers)
        await trio.sleep(POLL_S)


async def _stop(process: subprocess.Popen[bytes]) -> None:
    with trio.CancelScope(shield=True):
        process.terminate()
        with trio.move_on_after(STOP_TIMEOUT_S):
            await _wait(process)
        if process.returncode is None:
            process.kill()
            await _wait(process)


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = next((line for line in reversed(lines) if line.startswith("telegraft: ")), "")
    if not said:
        return f"it ended unexpectedly, see {log}"
    hint = " (here: --http-port and --peer-port)" if " in use by another process: stop it" in said else ""
    return said.removeprefix("telegraft: ") + hint


async def _run(nodes: int, data_dir: Path, http_port: int, peer_port: int, *, restart: bool) -> None:
    folders = {node_id: data_dir / f"node-{node_id}" for node_id in range(1, nodes + 1)}
    for node_id, folder in folders.items():
        prepare(node_id, folder, nodes, http_port, peer_port)
    print(f"{nodes} nodes, data in {data_dir}; Ctrl-C stops them", flush=True)
    # The receiver stays open to the end: a second signal must not cut the stopping short and leave nodes behind.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_when_told() -> None:
                await anext(aiter(signals))
                print("stopping", flush=True)
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_when_told)
            async with trio.open_nursery() as lives:
                for node_id, folder in folders.items():
                    lives.start_soon(partial(_keep_running, node_id, folder, restart=restart))
            raise ClusterError("no node is running")


def main(nodes: int, data_dir: Path, http_port: int, peer_port: int, *, restart: bool) -> int:
    """Run the cluster to its end. Returns the exit status."""
    configure_logging()
    existing = sorted(path.name for path in data_dir.glob("node-*"))
    if existing and len(existing) != nodes:
        print(
            f"telegraft: {data_dir} holds a cluster of {len(existing)} nodes ({', '.join(existing)}), not {nodes}: "
            f"use --nodes {len(existing)}, or another --data-dir",
            file=sys.stderr,
        )
        return 2
    try:
        trio.run(lambda: _run(nodes, data_dir, http_port, peer_port, restart=restart))
    except BaseException as raised:
        errors = leaves(raised)
        if not all(isinstance(error, (ClusterError, ConfigError, StorageError, OSError)) for error in errors):
            raise
        for error in errors:
            print(f"telegraft: {error}", file=sys.stderr)
        return 2
    return 0
