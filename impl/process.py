"""One node as a process: its parts put together, started, told when to stop, and its end explained.

The process says that it is ready with one JSON line on standard output, after its log is recovered and both of its
addresses answer; everything else it has to say goes to standard error. SIGTERM and SIGINT end it in order: leadership
is handed over, clients' requests in progress are answered, then the node stops. Every mistake that an operator can make
ends it with one paragraph that names what is wrong and what to do, and exit status 2; a node that must stop because its
disk failed or Raft's rules were broken ends with 1.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import structlog
import trio

from impl import restoring
from impl.chat.database import StateUnusable
from impl.chat.snapshot_format import SnapshotUnusable
from impl.chat.state_machine import UnusableEntry
from impl.config import ConfigError, NodeConfig, load_config, parse_address
from impl.http.app import create_app
from impl.http.server import CannotListen, serve
from impl.metrics import metrics_of
from impl.network.tcp import AddressInUse, Identity, TcpNetwork
from impl.node import Node
from impl.node.addresses import known
from impl.raft import ProtocolViolation
from impl.raft.configuration import founding
from impl.raft.messages import Base
from impl.storage.disk import RealDisk
from impl.storage.errors import (
    AlreadyFormatted,
    DirectoryInUse,
    FormatTooNew,
    FormatTooOld,
    LogDamaged,
    NotFormatted,
    SnapshotDamaged,
    StorageError,
    WrongIdentity,
)
from impl.storage.formatting import format_directory
from impl.storage.identity import Identity as Owner
from impl.storage.identity import new_incarnation

PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>

EXIT_STOPPED = 1
EXIT_USAGE = 2

HAND_OVER_TIMEOUT_S = 2.0
"""For another node to take over the leadership at an orderly end: a few election timeouts."""

OPERATOR_ERRORS = (
    ConfigError,
    AddressInUse,
    CannotListen,
    WrongIdentity,
    DirectoryInUse,
    LogDamaged,
    FormatTooNew,
    FormatTooOld,
    NotFormatted,
    AlreadyFormatted,
    SnapshotDamaged,
    SnapshotUnusable,
    StateUnusable,
    restoring.CannotRestore,
)
"""The operator can mend these, and nothing was lost."""

STOPPING_ERRORS = (StorageError, ProtocolViolation, UnusableEntry, sqlite3.Error)
"""The node cannot go on: its disk failed, or its state is known to be wrong."""


class SteadyClock:
    """Unix time in milliseconds, as the machine's clock had it when the process began, carried on by the monotonic one.

    Stamps decide when answers to transactions expire. A clock that is set forward by a day under a running leader must
    not make the service forget what it has answered a second ago; so a running node does not look at that clock again.
    """

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._offset_ns = wall_ns() - monotonic_ns()

    def __call__(self) -> int:
        return (self._offset_ns + self._monotonic_ns()) // 1_000_000


async def run_node(
    config: NodeConfig,
    *,
    node_class: type[Node] = Node,
    task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a node on the real disk, network and clock until cancelled or told to stop by a signal."""
    random = Random()  # seeded by the system: real nodes must not draw the same election timeouts
    node = node_class(config, RealDisk(), random, SteadyClock())
    network = TcpNetwork(
        identity=Identity(config.cluster, config.node_id, node.run_id, config.reply_to),
        listen=parse_address(config.peer),
        peers={},  # the group's configuration says who they are
        deliver=node.deliver,
        on_loss=node.on_loss,
        random=random,
        known=known(config),
    )
    app = create_app(node, cluster=node, metrics=metrics_of(node.statistics, network.statistics, node.status))
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run, network)
        await nursery.start(network.run)
        shutdown = trio.Event()
        async with trio.open_nursery() as front:
            await front.start(lambda task_status: serve(app, config.http, shutdown=shutdown, task_status=task_status))
            task_status.started(node)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                await anext(aiter(signals))
                await node.hand_over(HAND_OVER_TIMEOUT_S)
            shutdown.set()
        nursery.cancel_scope.cancel()


async def _run_and_announce(config: NodeConfig, node_class: type[Node]) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(_announced, config, node_class)


async def _announced(
    config: NodeConfig, node_class: type[Node], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: run_node(config, node_class=node_class, task_status=task_status))
        ready = {
            "event": "ready",
            "node_id": config.node_id,
            "http": config.http,
            "peer": config.peer,
            "pid": os.getpid(),
        }
        print(json.dumps(ready), flush=True)
        task_status.started()


def main(config_path: Path, *, node_class: type[Node] = Node) -> int:
    """Run the node that a configuration file describes, to its end. Returns the exit status."""
    configure_logging()
    try:
        config = load_config(config_path)
        structlog.contextvars.bind_contextvars(node=config.node_id)
        trio.run(_run_and_announce, config, node_class)
    except BaseException as raised:
        return explain(raised)
    return 0


def format_node(config: NodeConfig, *, join: bool) -> str:
    """Format the data directory of a node, once: as a founding member of the group that its configuration lists, or
    as one that is to be added to a group. Returns what was done, in words. Raises ``StorageError``."""
    if join:
        owner = Owner(config.cluster, config.node_id, incarnation=new_incarnation())
        base = Base()
        said = "start it, then add it: telegraft member add --cluster URL-OF-ANY-MEMBER URL-OF-THIS-NODE"
    else:
        owner = Owner(config.cluster, config.node_id)
        base = Base(configuration=founding(config.voters))
        voters = ", ".join(str(voter) for voter in config.voters)
        said = f"it founds cluster {config.cluster!r} together with nodes {voters}"
    format_directory(RealDisk(), config.data_dir, owner, base)
    return f"formatted {config.data_dir} for node {config.node_id}; {said}"


def init(config_path: Path, *, join: bool) -> int:
    """``telegraft init``. Returns the exit status."""
    configure_logging()
    try:
        print(format_node(load_config(config_path), join=join))
    except Exception as raised:
        return explain(raised)
    return 0


def restore(config_path: Path, backup: Path, *, same_name: bool) -> int:
    """``telegraft restore``. Returns the exit status."""
    configure_logging()
    try:
        config = load_config(config_path)
        made = restoring.restore(config, backup, same_name=same_name)
    except Exception as raised:
        return explain(raised)
    others = [voter for voter in made.voters if voter != config.node_id]
    also = f"; do the same for nodes {', '.join(map(str, others))} with the same backup" if others else ""
    print(
        f"{config.data_dir} holds the state of cluster {made.cluster_before!r} up to entry {made.index}, as node "
        f"{config.node_id} of cluster {config.cluster!r}{also}; then start"
    )
    return 0


def end_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent ends, so that no node outlives a supervisor that was killed.

    The parent is the *thread* that forked: a supervisor has to start its nodes from a thread that lasts. Linux only;
    elsewhere nothing happens. A parent that is gone already counts as ended.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() == 1:
        sys.exit("telegraft: the process that started this node has ended")


def explain(raised: BaseException) -> int:
    """Say why the process ends, in words, and return its exit status. Re-raises what nobody planned for."""
    errors = leaves(raised)
    for error in errors:
        if not isinstance(error, (*OPERATOR_ERRORS, *STOPPING_ERRORS, KeyboardInterrupt)):
            raise raised
    for error in errors:
        if not isinstance(error, KeyboardInterrupt):
            print(f"telegraft: {error}", file=sys.stderr)
    return EXIT_USAGE if all(isinstance(error, OPERATOR_ERRORS) for error in errors) else EXIT_STOPPED


def leaves(raised: BaseException) -> list[BaseException]:
    """The exceptions inside a group, however deep; the exception itself if it is none."""
    if isinstance(raised, BaseExceptionGroup):
        return [leaf for inner in raised.exceptions for leaf in leaves(inner)]
    return [raised]


def configure_logging() -> None:
    """Lines of words on a terminal, JSON lines elsewhere; always on standard error."""
    on_terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
