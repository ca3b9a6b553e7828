"""The names that both ends of the HTTP API use: headers, problem types, paths. Constants only, importable by clients.

Theory of operation
-------------------
A client library has to recognise what the server wrote, so both take the spelling from here. Nothing in this module
imports the web framework: the client stays as light as its HTTP library.

A problem (RFC 9457) is recognised by its ``type``, a URN that never changes once published; ``title`` and ``detail``
are for people and may be reworded. A problem whose members include both ``reason`` and ``as_of`` is a *rejection* by
the state machine, and these two members are exactly the reply ``Rejected(reason, as_of)``.
"""

from __future__ import annotations

# --- headers -----------------------------------------------------------------------------------------------------

USER_HEADER = "Telegraft-User"
"""Request: the id of the calling user, in decimal. Stands in for authentication, see ``impl.http.identity``."""

TXN_HEADER = "Idempotency-Key"
"""Request: the transaction id of a write whose path has no place for one."""

REQUEST_ID_HEADER = "X-Request-Id"
"""Request and response: names one request in the logs of client and server."""

NODE_HEADER = "Telegraft-Node"
"""Response: the id of the node that answered, in decimal."""

LEADER_HEADER = "Telegraft-Leader"
"""Response: the HTTP address of the leader as the node knows it; absent while it knows none."""

LEADER_ID_HEADER = "Telegraft-Leader-Id"
"""Response: the id of the leader, in decimal; absent while the node knows none. For clients that reach the nodes under
other addresses than the nodes advertise."""

TERM_HEADER = "Telegraft-Term"
"""Response: the node's current term, in decimal."""

SNAPSHOT_INDEX_HEADER = "Telegraft-Snapshot-Index"
"""Response: the log index at which the snapshot in the body ends, in decimal."""

CLUSTER_HEADER = "Telegraft-Cluster"
"""Response: the name of the cluster whose snapshot is in the body."""

# --- problems ----------------------------------------------------------------------------------------------------

PROBLEM_MEDIA_TYPE = "application/problem+json"
"""RFC 9457, section 3."""

PROBLEM_PREFIX = "urn:telegraft:problem:"

NOT_DONE = PROBLEM_PREFIX + "not-done"
"""503: certainly without effect, now and later; ``reason`` says why."""

OUTCOME_UNKNOWN = PROBLEM_PREFIX + "outcome-unknown"
"""504: may have been carried out, or may still be."""

# --- text and numbers --------------------------------------------------------------------------------------------

TXN_ID_PATTERN = r"[\x21-\x7e]{1,128}"
"""Visible ASCII, so that it fits a header and, percent-encoded, a path; 128 holds any UUID, ULID or hash in use."""

ID_MAX = 2**63 - 1
"""Ids are positive 64-bit signed integers: what SQLite and every client language can hold."""
