"""One node: the trio driver of one Raft core, and the chat service on top of it.

Theory of operation
-------------------
Each part says one thing, and ``node.Node`` puts them together:

=================  ==================================================================================================
``driver``         owns the core: inboxes, time, and to whom each effect goes
``persistence``    makes batches durable, many with one sync (group commit)
``applying``       applies committed entries to the state machine, answers queries, restores snapshots
``snapshotting``   takes snapshots while writes go on, sends and receives them piece by piece
``requests``       a client's request from its arrival to its outcome, across changes of leader
``writes``         proposals and who waits for them
``reads``          read indexes and queries, on any node
``membership``     changes of the group and of leadership
``forwarding``     requests on their way to the leader
``opening``        the data directory: whether log, snapshots and state fit together
``addresses``      where the other nodes are
=================  ==================================================================================================

What blocks runs in worker threads, one call at a time for each task, and to its end whatever is cancelled meanwhile.

*Failure.* A failed write or sync, a broken invariant or an entry that cannot be applied ends the node: the exception
leaves ``run``. Nothing is repaired by carrying on. A disk that is only full is waited for.
"""

from impl.node.node import Node, NodeStatistics

__all__ = ["Node", "NodeStatistics"]
