"""Every bound of the HTTP API, with its reason. What a client sends beyond one is refused with a problem naming it."""

from __future__ import annotations

BODY_MAX_BYTES = 64 * 1024
"""Of a request body. A text of ``TEXT_MAX_CHARACTERS`` with every character escaped as a surrogate pair (12 bytes)
takes 48,000 bytes; the rest is room for the JSON around it."""

BODY_TIMEOUT_S = 10.0
"""From the request's head to the last byte of its body: 64 KiB in 10 s is a slow modem, and a client that trickles
bytes to hold a connection is rid of."""

TEXT_MAX_CHARACTERS = 4_000
"""Of a message, in Unicode code points. What the field's chat services allow (2,000 to 10,000), and small enough that
a full page of messages stays within megabytes."""

USERNAME_MAX_CHARACTERS = 64
"""Fits a column of a terminal client, and is what ASVS and the field call enough."""

USERNAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
"""Lower-case ASCII letters, digits, ``.``, ``_`` and ``-``, the first a letter or digit: no two usernames look alike,
and each can stand in a URL, a file name and a mention without quoting."""

CHAT_NAME_MAX_CHARACTERS = 200
"""A line of text, not a message; in Unicode code points."""

PAGE_MAX_ITEMS = 250
"""Of one page of messages: a page is built in memory, blocks the node's other requests while it is encoded, and must
fit one frame between nodes (8 MiB) when a follower passes it on: 250 texts of 4,000 four-byte characters are 4 MB."""

PAGE_DEFAULT_ITEMS = 100
"""When the client does not say: a screenful or two."""

REQUEST_ID_MAX_CHARACTERS = 128
"""Of a client's ``X-Request-Id``: it goes into every log line of the request. A longer one is replaced, not refused."""

REQUEST_TIMEOUT_S = 4.0
"""For the chat service to answer one command: several elections long, so that a change of leader is waited out, and
shorter than the patience of common HTTP clients (5 s), so that they learn what happened."""

RETRY_AFTER_S = 1
"""What ``Retry-After`` asks of a client after 503: the longest that an election usually takes, in whole seconds."""

BODY_DRAIN_MAX_BYTES = 1024 * 1024
"""Of a body that is too large, read and thrown away before it is refused: a client that is still writing when its
connection is closed sees a reset instead of the refusal. Beyond this, it does see the reset."""

MAX_NODE_ID = 1023
"""What fits the ten bits of a Snowflake id."""

MEMBERS_MAX = 32
"""Of a group: more than anybody runs; five to nine is common, learners included."""

ADDRESS_MAX_CHARACTERS = 300
"""host:port or a URL: a host name has at most 253 characters."""

CHANGE_TIMEOUT_S = 10.0
"""For a change of the group or of its leadership: two entries have to be committed, or an election to be begun."""

SNAPSHOT_TIMEOUT_S = 60.0
"""For a fresh snapshot to be taken: a gigabyte at a moderate disk's pace."""

SNAPSHOT_PIECE_BYTES = 256 * 1024
"""Read and sent at once when a snapshot is downloaded."""
