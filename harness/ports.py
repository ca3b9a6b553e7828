"""Ports for the nodes: free on loopback now, and out of reach of the kernel's own choices later.

A node that was killed must find its port free when it comes back. Ports that the kernel hands out by itself (bind to
0, and the source port of every outgoing connection) come from the ephemeral range, and during the seconds in which a
node is down one of hundreds of loopback connections could take its port from there. So nodes get ports below that
range; each is bound once to see that it is free. Between that look and the node's own bind another program may still
take it: the caller then tries again with other ports.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

LOWEST_PORT = 10240
"""Below are the well-known ports and most registered ones."""

DEFAULT_EPHEMERAL_START = 32768
"""Linux's default, and below what other systems use."""

ATTEMPTS = 500
"""Enough to find a free port on a machine with thousands of listeners."""


class NoFreePort(OSError):
    """No free port was found on loopback."""


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """``count`` different ports on which a listener can be opened now. Raises ``NoFreePort``."""
    chooser = random.SystemRandom()  # not from the seed: two runs of one seed may run side by side
    highest = ephemeral_start() - 1
    found: list[int] = []
    for _ in range(ATTEMPTS):
        if len(found) == count:
            return found
        port = chooser.randint(LOWEST_PORT, highest)
        if port not in found and is_free(port, host):
            found.append(port)
    if len(found) == count:
        return found
    raise NoFreePort(f"found no {count} free ports on {host} between {LOWEST_PORT} and {highest}: end other programs")


def is_free(port: int, host: str) -> bool:
    """Whether a listener could be opened on the port at this instant."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def ephemeral_start() -> int:
    """The first port that the kernel may hand out by itself."""
    try:
        start = int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return DEFAULT_EPHEMERAL_START
    return start if start > LOWEST_PORT + 1024 else DEFAULT_EPHEMERAL_START
