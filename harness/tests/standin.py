"""A stand-in for a node's process: says it is ready and then waits, or misbehaves as told."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main(manner: str) -> None:
    if manner == "mute":
        time.sleep(60)
    if manner == "broken":
        sys.exit("telegraft: the port 4711 is in use")
    if manner == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(3 if manner == "untidy" else 0))
    print("some log line")
    print(json.dumps({"event": "ready", "node_id": 1, "pid": os.getpid()}), flush=True)
    if manner == "brief":
        time.sleep(0.1)
        sys.exit(1)
    while True:
        time.sleep(0.01)


if __name__ == "__main__":
    main(sys.argv[1])
