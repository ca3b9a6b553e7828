"""The search against the definition: on thousands of small histories the verdicts are the same."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linearizability import Operation, Outcome, Verdict, check
from linearizability.history import UNKNOWN
from linearizability.models import find
from linearizability.tests.brute_force import all_partitions_explainable
from linearizability.tests.histories import SUBJECTS, draw

HISTORIES_PER_MODEL = 1_500


@pytest.mark.parametrize("name", SUBJECTS)
def test_same_verdict_on_random_histories(name: str) -> None:
    subject = SUBJECTS[name]
    model = subject.model()
    seen: Counter[Verdict] = Counter()
    for seed in range(HISTORIES_PER_MODEL):
        operations = draw(random.Random(f"{name} {seed}"), subject)
        expected = Verdict.VALID if all_partitions_explainable(model, operations) else Verdict.INVALID
        found = check(model, operations, explain=False, witness=True)
        assert found.verdict is expected, f"seed {seed}: {operations}"
        seen[expected] += 1
    # The comparison is worth something only if both verdicts are common.
    assert min(seen[Verdict.VALID], seen[Verdict.INVALID]) > HISTORIES_PER_MODEL // 8, seen


REGISTER_CALLS = st.one_of(
    st.tuples(st.just(("read", None)), st.sampled_from([None, 0, 1])),
    st.tuples(st.sampled_from([("write", 0), ("write", 1)]), st.none()),
    st.tuples(
        st.sampled_from([("cas", (0, 1)), ("cas", (1, 0)), ("cas", (None, 1))]), st.sampled_from(["mismatch", 1])
    ),
)
KV_CALLS = st.one_of(
    st.tuples(st.sampled_from([("get", "x"), ("get", "y")]), st.sampled_from(["", "a", "b", "ab", "ba"])),
    st.tuples(st.sampled_from([("put", ("x", "a")), ("append", ("x", "b")), ("append", ("x", "a"))]), st.none()),
)


@st.composite
def histories(draw: st.DrawFn, calls: st.SearchStrategy[tuple[tuple[str, object], object]]) -> list[Operation]:
    """Up to five operations at arbitrary instants of a short clock, in every combination of what may be unknown."""
    operations: list[Operation] = []
    for index in range(draw(st.integers(1, 5))):
        input, output = draw(calls)
        call = draw(st.integers(0, 6))
        ret = call + draw(st.integers(0, 4))
        outcome = draw(st.sampled_from([Outcome.OK, Outcome.OK, Outcome.UNKNOWN])) if index else Outcome.OK
        is_open = outcome is Outcome.UNKNOWN and draw(st.booleans())
        reply = UNKNOWN if draw(st.integers(0, 3)) == 0 else output
        operations.append(Operation(index, index, call, None if is_open else ret, input, reply, outcome))
    return operations


@settings(max_examples=400, derandomize=True, deadline=None)
@given(operations=histories(REGISTER_CALLS))
def test_same_verdict_on_any_register_history(operations: list[Operation]) -> None:
    model = find("cas-register")
    valid = check(model, operations, explain=False).verdict is Verdict.VALID
    assert valid == all_partitions_explainable(model, operations)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(operations=histories(KV_CALLS))
def test_same_verdict_on_any_key_value_history(operations: list[Operation]) -> None:
    model = find("kv")
    valid = check(model, operations, explain=False).verdict is Verdict.VALID
    assert valid == all_partitions_explainable(model, operations)
