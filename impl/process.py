"""One node as a process: its parts put together, started, told when to stop, and its end explained.

The process says that it is ready with one JSON line on standard output, after its log is recovered and both of its
addresses answer; everything else it has to say goes to standard error. SIGTERM and SIGINT end it in order: clients'
requests in progress are answered, then the node stops. Every mistake that an operator can make ends it with one
paragraph that names what is wrong and what to do, and exit status 2; a node that must stop because its disk failed or
Raft's rules were broken ends with 1.
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

from impl.chat.database import StateUnusable
from impl.chat.state_machine import UnusableEntry
from impl.config import ConfigError, NodeConfig, load_config, parse_address
from impl.http.app import create_app
from impl.http.server import CannotListen, serve
from impl.network.tcp import AddressInUse, Identity, TcpNetwork
from impl.node import Node
from impl.raft import ProtocolViolation
from impl.storage.disk import RealDisk
from impl.storage.errors import DirectoryInUse, FormatTooNew, LogDamaged, StorageError, WrongIdentity

PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>

EXIT_STOPPED = 1
EXIT_USAGE = 2

OPERATOR_ERRORS = (
    ConfigError,
    AddressInUse,
    CannotListen,
    WrongIdentity,
    DirectoryInUse,
    LogDamaged,
    FormatTooNew,
    StateUnusable,
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
        identity=Identity(config.cluster, config.node_id, node.incarnation),
        listen=parse_address(config.peer),
        peers={peer: parse_address(at) for peer, at in config.peers.items() if peer != config.node_id},
        deliver=node.deliver,
        on_loss=node.on_loss,
        random=random,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run, network)
        await nursery.start(network.run)
        shutdown = trio.Event()
        async with trio.open_nursery() as front:
            await front.start(
                lambda task_status: serve(create_app(node), config.http, shutdown=shutdown, task_status=task_status)
            )
            task_status.started(node)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                await anext(aiter(signals))
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
