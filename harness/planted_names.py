"""The planted bugs by name, and what each breaks: data that the command line needs before any node is imported."""

from __future__ import annotations

BUGS: dict[str, str] = {
    "stale-read": "reads are served by a node without confirming who leads",
    "early-ack": "a write is answered before it is committed",
    "no-dedupe": "a retry under the same transaction id is carried out again",
    "lost-vote": "term and vote are not persisted",
}
