"""What the core raises."""

from __future__ import annotations


class ProtocolViolation(AssertionError):
    """Something happened that Raft excludes: two leaders in a term, or a committed entry about to be replaced.

    The node must stop: to go on would be to serve from a state that is known to be wrong.
    """
