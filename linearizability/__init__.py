"""Can this history be explained? A checker of linearizability that stands alone.

    from linearizability import check
    from linearizability.formats import jsonl
    from linearizability.models import find

    result = check(find("cas-register"), jsonl.read("history.jsonl").operations, deadline_s=60)
    print(result.verdict, result.reason)

Theory of operation
-------------------
``history`` says what an operation is and refuses what is none. ``model`` says what a system may do. ``search`` looks
for one order of the operations that the model allows and that contradicts nobody's clock. ``witness`` replays that
order before anybody is told. ``core`` shrinks a history that has none to the few operations that contradict each
other. ``check`` puts these together, under one deadline.
"""

from linearizability.checker import check
from linearizability.history import (
    UNKNOWN,
    CheckError,
    History,
    HistoryError,
    Operation,
    Outcome,
    Record,
)
from linearizability.model import Model, ModelError
from linearizability.verdict import PartitionResult, Result, Verdict

__all__ = [
    "check",
    "CheckError",
    "History",
    "HistoryError",
    "Model",
    "ModelError",
    "Operation",
    "Outcome",
    "PartitionResult",
    "Record",
    "Result",
    "UNKNOWN",
    "Verdict",
]
