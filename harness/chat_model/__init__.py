"""The chat service as a model for the checker of linearizability: is this history one that ``spec.chat`` explains?

    result = check(chat_model(), jsonl.read("history.jsonl").operations)
    explained = explain(history, result)

Theory of operation
-------------------
``spec.chat.apply`` is the judge: every step of the search is one call of it. Around it:

    decode       records -> commands and replies of the specification
    claims       what one answer says about one log: a window of lengths, entries, facts about members
    evidence     what all answers say about the entries of one log; what may have filled its holes
    knowledge    evidence of all logs; operations of unknown outcome bound to their entries
    projection   the history of each log, as a partition of its own; says what is lost, and that it is harmless
    unanswered   what operations of unknown outcome can have had to do with it
    sequential   the step of a partition: ``spec.chat.apply``, pruned by evidence
    nogoods      what cannot be true together in one log, whatever the order
    across       the same between logs: ids and time
    assertions   a few operations that contradict each other, by nogood or by time; the open world that judges them
    explanation  classes of anomaly and reasons in words

*Exactness.* A history that the specification explains is always found valid: each partition is an exact check of
operations that say no more than what was recorded, and each contradiction is a violation by itself. In the other
direction the check is exact for one chat and the directory, and for several chats but for the cases that
``projection`` and ``across`` name. The tests compare with a search on the whole state of ``spec.chat``.

*Why rules beside a search.* Nearly every reply tells its length (``as_of``), so nearly every violation is two
operations with contradicting windows, or one to three with contradicting contents. Rules find these in linear time,
where the search would only say that it failed, and name the few operations to look at. They are given to the checker
as one more partition: the verdict ``invalid`` is always the checker's.
"""

from __future__ import annotations

from harness.chat_model.explanation import ANOMALIES, Explanation, explain
from harness.chat_model.model import ChatModel, OpenWorld

__all__ = ["ANOMALIES", "ChatModel", "Explanation", "OpenWorld", "chat_model", "explain"]


def chat_model() -> ChatModel:
    """The model ``chat``: what the entry point ``linearizability.models`` names."""
    return ChatModel()
