"""The chat model: valid histories are valid, invalid ones are not, and the reason given is one.

Three judges are compared: the model in the checker, brute force over ``spec.chat`` (``chat_brute_force``), and the
open-world variant, which must call each reported core impossible and each part of it possible.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from harness.chat_model import ANOMALIES, OpenWorld, chat_model, explain, projection, sequential, unanswered
from harness.chat_model.claims import Claim
from harness.chat_model.evidence import Evidence, first_window_broken
from harness.chat_model.knowledge import Knowledge
from harness.tests.chat_brute_force import is_linearizable
from harness.tests.chat_histories import TINY, WIDE, Mix, perturbed, simulate
from linearizability import UNKNOWN, History, HistoryError, Operation, Outcome, Result, Verdict, check
from spec import chat as spec

DEADLINE_S = 60.0
"""Far more than any of these checks needs: reaching it is a failure."""

MURKY = replace(
    TINY,
    operations=6,
    unknown=0.45,
    repeat=0.3,
    weights=(
        ("send", 3),
        ("join", 2),
        ("leave", 2),
        ("read", 1),
        ("list_members", 1),
        ("list_chats", 2),
        ("create_chat", 0.7),
        ("create_user", 0.5),
    ),
)
"""Half of the writes have an unknown outcome and few reads look: holes, old answers, leaves that nobody saw."""

CLEAR = replace(TINY, operations=5)


def judged(operations: list[Operation], **options: Any) -> Result:
    return check(chat_model(), operations, deadline_s=DEADLINE_S, **options)


# --- valid histories ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", range(0, 120, 20))
def test_what_the_specification_does_is_valid(start: int) -> None:
    for seed in range(start, start + 20):
        result = judged(simulate(seed))
        assert result.verdict is Verdict.VALID, (seed, result.reason, result.progress)


@pytest.mark.parametrize("seed", range(6))
def test_many_unknown_outcomes_and_repeated_transactions(seed: int) -> None:
    mix = replace(WIDE, operations=250, unknown=0.25, repeat=0.25, last_reads=seed % 2 == 0, users=4)
    result = judged(simulate(seed, mix))
    assert result.verdict is Verdict.VALID, (result.reason, result.progress)


def test_a_busy_chat_is_checked_in_seconds() -> None:
    mix = replace(BUSY, operations=3000)
    operations = simulate(1, mix)
    result = judged(operations)
    assert result.verdict is Verdict.VALID, (result.reason, result.progress)
    assert result.operations > 3000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_chat_of_thousands_of_messages(seed: int) -> None:
    result = judged(simulate(seed, replace(BUSY, operations=8000)))
    assert result.verdict is Verdict.VALID, (result.reason, result.progress)


BUSY = Mix(
    clients=10,
    chats=1,
    users=8,
    unknown=0.05,
    weights=(("send", 6), ("read", 5), ("join", 1.5), ("leave", 0.5), ("list_members", 1), ("list_chats", 1)),
)


def test_two_checks_say_the_same() -> None:
    operations = perturbed(simulate(5, replace(WIDE, operations=200)), random.Random(5), replies=2, times=2)
    one, other = judged(operations), judged(operations)
    assert one.verdict is Verdict.INVALID
    assert (one.reason, one.anomaly) == (other.reason, other.anomaly)
    assert [op.index for op in one.core] == [op.index for op in other.core]
    shuffled = list(operations)
    random.Random(6).shuffle(shuffled)
    assert judged(shuffled).reason == one.reason


# --- against brute force -----------------------------------------------------------------------------------------


def tiny(seed: int, mix: Mix, replies: tuple[int, ...], times: tuple[int, ...]) -> list[Operation]:
    draw = random.Random(seed)
    operations = simulate(seed, mix)
    return perturbed(operations, draw, replies=draw.choice(replies), times=draw.choice(times))


def disagreements(histories: Iterator[list[Operation]]) -> Counter[tuple[bool, str]]:
    """How often (brute force, model) said what."""
    return Counter((is_linearizable(h), judged(h, explain=False).verdict.value) for h in histories)


def clear_histories(start: int, stop: int, chats: int) -> Iterator[list[Operation]]:
    for seed in range(start, stop):
        yield tiny(seed, replace(CLEAR, chats=chats), (0, 0, 1, 1, 2), (0, 1, 2, 3))


def murky_histories(start: int, stop: int, chats: int) -> Iterator[list[Operation]]:
    for seed in range(start, stop):
        yield tiny(seed, replace(MURKY, chats=chats, users=1 + chats % 2), (0, 0, 0, 1), (0, 0, 1, 2))


@pytest.mark.parametrize("histories", [clear_histories, murky_histories])
@pytest.mark.parametrize("start", [0, 700])
def test_one_chat_agrees_with_brute_force(histories: Callable[..., Any], start: int) -> None:
    said = disagreements(histories(start, start + 700, 1))
    assert set(said) == {(True, "valid"), (False, "invalid")}, said
    assert min(said.values()) > 100


@pytest.mark.parametrize("histories", [clear_histories, murky_histories])
def test_two_chats_are_never_accused_wrongly_and_rarely_acquitted_wrongly(histories: Callable[..., Any]) -> None:
    said = disagreements(histories(0, 700, 2))
    assert said[True, "valid"] > 100
    assert said[False, "invalid"] > 100
    assert said[True, "invalid"] == said[True, "unknown"] == said[False, "unknown"] == 0, said
    assert said[False, "valid"] <= 2, said  # lists without a chat that their asker had joined and left: see ``across``


@pytest.mark.slow
@pytest.mark.parametrize("start", range(10_000, 50_000, 5_000))
def test_one_chat_agrees_with_brute_force_at_length(start: int) -> None:
    for histories in (clear_histories, murky_histories):
        said = disagreements(histories(start, start + 5_000, 1))
        acquitted = said.pop((False, "valid"), 0)
        assert set(said) == {(True, "valid"), (False, "invalid")}, said
        assert acquitted <= 1  # see ``projection``: a chat of which nobody learnt the id, for example


def test_the_search_alone_finds_nearly_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules add reasons. Without them only what ties logs together goes unnoticed, and nothing is accused."""
    monkeypatch.setattr(projection, "find_contradiction", lambda knowledge: None)
    said = disagreements(clear_histories(0, 500, 1))
    assert said[True, "invalid"] == 0
    assert said[False, "valid"] < 0.15 * said[False, "invalid"], said


# --- planted mistakes --------------------------------------------------------------------------------------------


@contextmanager
def planted(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        MISTAKES[name](patch)
        yield


def _evidence_off_by_one(patch: pytest.MonkeyPatch) -> None:
    right = sequential.is_allowed
    patch.setattr(sequential, "is_allowed", lambda request, after, position: right(request, after, position + 1))


def _holes_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(unanswered, "_may_fill", lambda call, evidence: False)


def _unseen_leaves_are_dropped(patch: pytest.MonkeyPatch) -> None:
    right = Knowledge._absences

    def wrong(self: Knowledge) -> None:
        right(self)
        for evidence in self.logs.values():
            evidence.leavers = {}

    patch.setattr(Knowledge, "_absences", wrong)


def _as_of_is_ignored(patch: pytest.MonkeyPatch) -> None:
    right = sequential.step

    def wrong(request: Any, state: Any, output: Any, apply: Any = spec.apply) -> Any:
        def apply_and_agree(before: spec.State, command: spec.Command) -> tuple[spec.State, spec.Reply]:
            after, reply = apply(before, command)
            if type(reply) is type(output):
                reply = reply._replace(as_of=output.as_of)
            return after, reply

        request.claim = Claim()
        output = getattr(output, "reply", output)
        return right(request, state, output, apply_and_agree)

    patch.setattr("harness.chat_model.model.step", wrong)
    patch.setattr(projection, "find_contradiction", lambda knowledge: None)


def _rejections_are_skipped(patch: pytest.MonkeyPatch) -> None:
    right = Knowledge._logs_of

    def wrong(self: Knowledge, call: Any) -> list[int]:
        return [] if isinstance(call.reply, spec.Rejected) else right(self, call)

    patch.setattr(Knowledge, "_logs_of", wrong)


def _logs_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(projection, "find_across", lambda knowledge, subject_of: None)


def _ties_are_an_order(patch: pytest.MonkeyPatch) -> None:
    right = first_window_broken

    def wrong(claimed: Any) -> Any:
        shifted = [
            c._replace(call=replace(c.call, operation=replace(c.call.operation, call=c.call.operation.call + 600_000)))
            for c in claimed
        ]
        broken = right(shifted)
        return None if broken is None else tuple(claimed[shifted.index(b)] for b in broken)

    patch.setattr("harness.chat_model.across.first_window_broken", wrong)


def _debts_are_due_too_early(patch: pytest.MonkeyPatch) -> None:
    right = sequential.is_paid
    patch.setattr(sequential, "is_paid", lambda evidence, after, length: right(evidence, after, length + 1))


def _old_answers_count_as_new(patch: pytest.MonkeyPatch) -> None:
    right = Knowledge.__init__

    def wrong(self: Knowledge, calls: Any) -> None:
        right(self, calls)
        self.repeated = set()

    patch.setattr(Knowledge, "__init__", wrong)


def _last_is_one_too_small(patch: pytest.MonkeyPatch) -> None:
    right = Evidence.__init__

    def wrong(self: Evidence, key: int, claimed: Any, operations: int) -> None:
        right(self, key, claimed, operations)
        if self.holes and self.holes[-1] == self.last:
            self.holes.pop()
            self.last -= 1

    patch.setattr(Evidence, "__init__", wrong)


MISTAKES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "evidence off by one": _evidence_off_by_one,
    "holes are forgotten": _holes_are_forgotten,
    "unseen leaves are dropped": _unseen_leaves_are_dropped,
    "as_of is ignored": _as_of_is_ignored,
    "rejections are skipped": _rejections_are_skipped,
    "logs are not compared": _logs_are_not_compared,
    "ties are an order": _ties_are_an_order,
    "debts are due too early": _debts_are_due_too_early,
    "old answers count as new": _old_answers_count_as_new,
    "the last position is one too small": _last_is_one_too_small,
}


@pytest.mark.parametrize("name", MISTAKES)
def test_planted_mistakes_are_noticed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each disagrees with brute force on histories on which the right adapter agrees."""

    def histories() -> Iterator[list[Operation]]:
        yield from clear_histories(0, 250, 1)
        yield from murky_histories(0, 450, 1)
        yield quiet_leave().operations

    with planted(monkeypatch, name):
        wrong = 0
        for history in histories():
            wrong += is_linearizable(history) != (judged(history, explain=False).verdict is Verdict.VALID)
            if wrong:
                break
    assert wrong


# --- anomalies ---------------------------------------------------------------------------------------------------

MS = 1_000_000
ANN, BOB, CHAT, OTHER, CY = 1 << 30, 2 << 30, 3 << 30, 4 << 30, 5 << 30


class Script:
    """A history written by hand: two users, one chat, messages 3 and 4 by Ann, 5 by Bob. Times in ms."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.failed: list[Operation] = []
        self.message_ids = {1: CHAT}
        for at, (name, user) in enumerate([("ann", ANN), ("bob", BOB)]):
            asked = {"username": name, "txn_id": f"u{at}"}
            self.ok(2 * at, 2 * at + 1, "create_user", asked, type="user_created", user_id=str(user), as_of=at + 1)
        made = {"type": "chat_created", "chat_id": str(CHAT), "as_of": 1}
        self.ok(4, 5, "create_chat", {"actor": str(ANN), "txn_id": "c1", "name": "tea"}, **made)
        self.write(6, 7, "join", BOB, "j1", 2)
        self.write(8, 9, "send", ANN, "t3", 3)
        self.write(10, 11, "send", ANN, "t4", 4)
        self.write(12, 13, "send", BOB, "t5", 5)

    def ok(self, call: float, ret: float, f: str, request: dict[str, Any], **reply: Any) -> int:
        index = len(self.operations) + len(self.failed)
        op = Operation(index, index, int(call * MS), int(ret * MS), (f, request), reply)
        self.operations.append(op)
        return index

    def lost(self, call: float, f: str, request: dict[str, Any], outcome: Outcome = Outcome.UNKNOWN) -> int:
        index = len(self.operations) + len(self.failed)
        op = Operation(index, index, int(call * MS), None, (f, request), UNKNOWN, outcome)
        (self.operations if outcome is Outcome.UNKNOWN else self.failed).append(op)
        return index

    def write(self, call: float, ret: float, f: str, actor: int, txn: str, seq: int, **fields: Any) -> int:
        reply = {"type": "posted", "seq": seq, "message_id": str(CHAT + (seq << 20)), "as_of": seq, **fields}
        return self.ok(call, ret, f, request(f, actor, txn), **reply)

    def read(self, call: float, ret: float, actor: int, items: list[dict[str, Any]], as_of: int, after: int = 0) -> int:
        asked = {"actor": str(actor), "chat": str(CHAT), "after": after, "limit": 100}
        return self.ok(call, ret, "read", asked, type="messages", items=items, as_of=as_of)

    def rejected(self, call: float, ret: float, f: str, actor: int, txn: str, reason: str, as_of: int) -> int:
        return self.ok(call, ret, f, request(f, actor, txn), type="rejected", reason=reason, as_of=as_of)

    def history(self) -> History:
        return History("", tuple(self.operations), tuple(self.failed))


def request(f: str, actor: int, txn: str, chat: int = CHAT) -> dict[str, Any]:
    asked = {"actor": str(actor), "chat": str(chat), "txn_id": txn}
    return {**asked, "text": f"text of {txn}"} if f == "send" else asked


def item(seq: int, **fields: Any) -> dict[str, Any]:
    """Message ``seq`` of the script's chat as a read shows it."""
    kind, author, txn, text = {
        1: ("create", ANN, "c1", "tea"),
        2: ("join", BOB, "j1", ""),
        3: ("text", ANN, "t3", "text of t3"),
        4: ("text", ANN, "t4", "text of t4"),
        5: ("text", BOB, "t5", "text of t5"),
    }.get(seq, ("text", ANN, f"t{seq}", f"text of t{seq}"))
    message_id = CHAT if seq == 1 else CHAT + (seq << 20)
    said = {"kind": kind, "author": str(author), "txn_id": txn, "text": text}
    return {"seq": seq, "message_id": str(message_id), **said, **fields}


def items(first: int, last: int) -> list[dict[str, Any]]:
    return [item(seq) for seq in range(first, last + 1)]


def stale_read(s: Script) -> set[int]:
    return {6, s.read(760, 761, ANN, items(1, 4), 4)}


def time_travel(s: Script) -> set[int]:
    s.operations[6] = replace(s.operations[6], ret=None, output=UNKNOWN, outcome=Outcome.UNKNOWN)
    return {s.read(20, 21, ANN, items(1, 5), 5), s.read(22, 23, ANN, items(1, 4), 4)}


def read_from_the_future(s: Script) -> set[int]:
    return {s.read(20, 21, ANN, items(1, 6), 6), s.write(30, 31, "send", ANN, "t6", 6)}


def read_an_unknown_send_from_the_future(s: Script) -> set[int]:
    return {s.read(20, 21, ANN, items(1, 6), 6), s.lost(30, "send", request("send", ANN, "t6"))}


def order_inverted(s: Script) -> set[int]:
    return {s.write(20, 21, "send", ANN, "t7", 7), s.write(22, 23, "send", ANN, "t6", 6)}


def lost_write(s: Script) -> set[int]:
    shown = [*items(1, 4), item(5, author=str(ANN), txn_id="t9", text="text of t9")]
    s.lost(10, "send", request("send", ANN, "t9"))
    return {6, s.read(20, 21, ANN, shown, 5)}


def diverged(s: Script) -> set[int]:
    s.lost(20, "send", request("send", ANN, "t6"))
    s.lost(20, "send", request("send", BOB, "b6"))
    other = item(6, author=str(BOB), txn_id="b6", text="text of b6")
    return {s.read(30, 31, ANN, items(1, 6), 6), s.read(30, 31, BOB, [*items(1, 5), other], 6)}


def duplicate(s: Script) -> set[int]:
    return {s.read(20, 21, ANN, [*items(1, 5), item(6, txn_id="t4", text="text of t4")], 6)}


def duplicate_of_two_operations(s: Script) -> set[int]:
    return {5, s.write(20, 21, "send", ANN, "t4", 6)}


def duplicate_id(s: Script) -> set[int]:
    made = {"type": "chat_created", "chat_id": str(OTHER), "as_of": 1}
    s.ok(20, 21, "create_chat", {"actor": str(ANN), "txn_id": "c2", "name": "pie"}, **made)
    same = str(OTHER + (7 << 20))
    ask = request("send", ANN, "o2", OTHER)
    one = s.ok(22, 23, "send", ask, type="posted", seq=2, message_id=same, as_of=2)
    return {one, s.write(24, 25, "send", ANN, "t6", 6, message_id=same)}


def ids_out_of_order(s: Script) -> set[int]:
    return {6, s.write(20, 21, "send", ANN, "t6", 6, message_id=str(CHAT + (4 << 20) + 1))}


def order_across_chats(s: Script) -> set[int]:
    made = {"type": "chat_created", "chat_id": str(OTHER), "as_of": 1}
    one = s.ok(20, 21, "create_chat", {"actor": str(ANN), "txn_id": "c2", "name": "pie"}, **made)
    return {one, s.write(22, 23, "send", ANN, "t6", 6)}


def chat_older_than_one_whose_transaction_was_found_used(s: Script) -> set[int]:
    """The refusal proves that the first use was carried out by then, though it is answered last of all."""
    made = {"type": "chat_created", "as_of": 1}
    asked = {"actor": str(ANN), "txn_id": "c2"}
    refusal = {"type": "rejected", "reason": "transaction-reused", "as_of": 2}
    one = s.ok(20, 50, "create_chat", {**asked, "name": "pie"}, chat_id=str(CY), **made)
    two = s.ok(22, 23, "create_chat", {**asked, "name": "cake"}, **refusal)
    late = {"actor": str(BOB), "txn_id": "c3", "name": "bun"}
    return {one, two, s.ok(24, 49, "create_chat", late, chat_id=str(OTHER), **made)}


def torn_read(s: Script) -> set[int]:
    made = {"type": "chat_created", "chat_id": str(OTHER), "as_of": 1}
    one = s.ok(20, 29, "create_chat", {"actor": str(ANN), "txn_id": "c2", "name": "pie"}, **made)
    two = s.write(20, 29, "send", ANN, "t6", 6)
    listed = [("3221225472", "tea", 5), (str(OTHER), "pie", 1)]
    found = [{"chat_id": chat, "name": name, "as_of": as_of} for chat, name, as_of in listed]
    three = s.ok(20, 29, "list_chats", {"actor": str(ANN)}, type="chats", items=found, as_of=2)
    return {one, two, three}


def gap(s: Script) -> set[int]:
    return {s.read(20, 21, ANN, [*items(1, 3), item(5)], 5)}


def phantom_message(s: Script) -> set[int]:
    return {s.read(20, 21, ANN, items(1, 6), 6)}


def phantom_of_a_failed_send(s: Script) -> set[int]:
    s.lost(15, "send", request("send", ANN, "t6"), Outcome.FAIL)
    return {s.read(20, 21, ANN, items(1, 6), 6)}


def phantom_position(s: Script) -> set[int]:
    return {s.read(20, 21, ANN, [], 6, after=6)}


def refused_yet_done(s: Script) -> set[int]:
    asked = {"username": "cy", "txn_id": "u9"}
    s.ok(20, 21, "create_user", asked, type="user_created", user_id=str(CY), as_of=3)
    shown = item(6, author=str(CY), message_id=str(CY + 1))
    refused = s.rejected(22, 23, "send", CY, "t6", "not-a-member", 5)
    return {refused, s.read(24, 25, ANN, [shown], 6, after=5)}


def answer_changed(s: Script) -> set[int]:
    return {6, s.rejected(20, 21, "send", BOB, "t5", "not-a-member", 5)}


def wrong_rejection(s: Script) -> set[int]:
    return {s.rejected(20, 21, "send", ANN, "t6", "transaction-reused", 5)}


def unknown_though_created(s: Script) -> set[int]:
    return {1, s.rejected(20, 21, "send", BOB, "t6", "unknown-user", 5)}


def wrong_membership(s: Script) -> set[int]:
    return {6, s.rejected(20, 21, "send", BOB, "t6", "not-a-member", 5)}


def impossible_reply(s: Script) -> set[int]:
    return {s.write(20, 21, "send", ANN, "t6", 6, as_of=7)}


def unknown_actor(s: Script) -> set[int]:
    asked = {"actor": "77", "chat": str(CHAT), "txn_id": "x"}
    return {s.ok(20, 21, "leave", asked, type="unchanged", as_of=5)}


def join_that_nobody_saw(s: Script) -> set[int]:
    """A position of unknown content that only a leave could have filled, and nobody asked for one: search only."""
    s.lost(20, "send", request("send", ANN, "t6"))
    s.read(30, 31, ANN, [], 6, after=6)
    return {s.rejected(32, 33, "send", BOB, "t7", "not-a-member", 6)}


INJECTED: list[tuple[str, Callable[[Script], set[int]]]] = [
    ("stale-read", stale_read),
    ("time-travel", time_travel),
    ("read-from-the-future", read_from_the_future),
    ("read-from-the-future", read_an_unknown_send_from_the_future),
    ("order-inverted", order_inverted),
    ("lost-write", lost_write),
    ("diverged", diverged),
    ("duplicate", duplicate),
    ("duplicate", duplicate_of_two_operations),
    ("duplicate-id", duplicate_id),
    ("ids-out-of-order", ids_out_of_order),
    ("order-across-chats", order_across_chats),
    ("order-across-chats", chat_older_than_one_whose_transaction_was_found_used),
    ("torn-read", torn_read),
    ("gap", gap),
    ("phantom-message", phantom_message),
    ("phantom-message", phantom_of_a_failed_send),
    ("phantom-message", phantom_position),
    ("refused-yet-done", refused_yet_done),
    ("answer-changed", answer_changed),
    ("wrong-rejection", wrong_rejection),
    ("wrong-rejection", unknown_though_created),
    ("wrong-membership", wrong_membership),
    ("impossible-reply", impossible_reply),
    ("unknown-actor", unknown_actor),
    ("wrong-rejection", join_that_nobody_saw),
]


def quiet_leave() -> Script:
    """Bob's leave was never answered nor seen, but for his list of chats: valid."""
    script = Script()
    script.lost(20, "leave", request("leave", BOB, "l6"))
    script.ok(30, 31, "list_chats", {"actor": str(BOB)}, type="chats", items=[], as_of=2)
    return script


def test_a_leave_that_only_a_list_of_chats_shows_is_valid() -> None:
    script = quiet_leave()
    assert judged(script.operations).verdict is Verdict.VALID
    script.operations.pop(-2)
    assert judged(script.operations).anomaly == "stale-read"


def test_the_script_is_valid() -> None:
    script = Script()
    script.read(20, 21, ANN, items(1, 5), 5)
    assert judged(script.operations).verdict is Verdict.VALID


def assert_core_is_irreducible(result: Result) -> None:
    """The open world calls the core impossible, and possible without any one of it."""
    core = list(result.core)
    assert 1 <= len(core) <= 4, result.reason
    if any(op.input.__class__.__name__ != "Assertion" for op in core):
        return  # found by the search alone: the checker has shown it minimal by relaxation
    assert check(OpenWorld(), core).verdict is Verdict.INVALID
    for left_out in core:
        rest = [op for op in core if op is not left_out]
        assert not rest or check(OpenWorld(), rest).verdict is Verdict.VALID, result.reason


@pytest.mark.parametrize(("anomaly", "inject"), INJECTED, ids=[inject.__name__ for _, inject in INJECTED])
def test_injected_anomalies_get_their_class_and_their_core(anomaly: str, inject: Callable[[Script], set[int]]) -> None:
    script = Script()
    guilty = inject(script)
    result = judged(script.operations)
    assert result.verdict is Verdict.INVALID
    assert not is_linearizable(script.operations)
    assert result.anomaly == anomaly, result.reason
    assert anomaly in ANOMALIES
    assert {op.index for op in result.core} == guilty, result.reason
    assert result.core_is_minimal
    assert_core_is_irreducible(result)


def test_the_reason_names_operations_times_and_staleness() -> None:
    script = Script()
    stale_read(script)
    reason = judged(script.operations).reason
    for words in ("send #6 (message 5) was acknowledged at 0.013 s", "read #7", "0.760 s", "message 4", "747.000 ms"):
        assert words in reason, reason


def test_an_explanation_names_the_send_that_failed() -> None:
    script = Script()
    phantom_of_a_failed_send(script)
    history = script.history()
    found = explain(history, judged(script.operations))
    assert found is not None
    assert [op.index for op in found.failed] == [7]
    assert [op.index for op in found.operations] == [8]
    assert found.operations[0] is history.operations[-1]
    assert "send #7 asked for it and certainly failed" in found.reason
    assert found.anomaly == "phantom-message"


def test_a_valid_history_has_no_explanation() -> None:
    script = Script()
    assert explain(script.history(), judged(script.operations)) is None


@pytest.mark.parametrize("start", range(0, 90, 30))
def test_falsified_replies_in_long_histories_are_found_with_small_cores(start: int) -> None:
    found = 0
    for seed in range(start, start + 30):
        history = perturbed(simulate(seed, replace(WIDE, operations=150, users=4)), random.Random(seed))
        result = judged(history)
        assert result.verdict is not Verdict.UNKNOWN
        if result.verdict is Verdict.INVALID:  # a few falsifications happen to be harmless
            found += 1
            assert result.core_is_minimal
            assert result.anomaly in ANOMALIES
            assert_core_is_irreducible(result)
    assert found >= 27


RESTING_ON_THE_WHOLE = {"phantom-message", "wrong-rejection", "unknown-actor", "unexplained"}


@pytest.mark.parametrize("start", [0, 300])
def test_cores_of_tiny_histories_are_contradictions_by_brute_force_too(start: int) -> None:
    """Everything up to the last return of a core is invalid by itself: nobody is accused before the fact.

    Not so for classes that rest on what nobody ever asked for: they use later answers too.
    """
    seen = 0
    for history in clear_histories(start, start + 300, 2):
        result = judged(history)
        if result.verdict is not Verdict.INVALID or result.anomaly in RESTING_ON_THE_WHOLE:
            continue
        seen += 1
        assert len(result.core) <= 4, result.reason
        told = [next(op for op in history if op.index == core.index) for core in result.core]
        end = max(op.call if op.ret is None else op.ret for op in told)
        past = [
            op if op.ret is None or op.ret <= end else replace(op, ret=None, output=UNKNOWN, outcome=Outcome.UNKNOWN)
            for op in history
            if op.call <= end
        ]
        assert not is_linearizable(past), result.reason
    assert seen > 100


# --- damaged histories -------------------------------------------------------------------------------------------

READ = ("read", {"actor": "1", "chat": "2", "after": 0, "limit": 5})
MESSAGE = item(1)


@pytest.mark.parametrize(
    ("given", "reply", "named"),
    [
        ("read", {}, "pair of name and request"),
        (("fly", {}), {}, "'fly'"),
        (("read", []), {}, "no object"),
        (("read", {"actor": "1", "chat": "2", "after": 0}), {}, "'limit'"),
        (("read", {"actor": "1", "chat": "2", "after": -1, "limit": 1}), {}, "'after'"),
        (("read", {"actor": "1", "chat": "2", "after": True, "limit": 1}), {}, "'after'"),
        (("read", {"actor": 1, "chat": "2", "after": 0, "limit": 1}), {}, "'actor'"),
        (("read", {"actor": "١", "chat": "2", "after": 0, "limit": 1}), {}, "'actor'"),
        (("create_user", {"username": None, "txn_id": "t"}), {}, "'username'"),
        (READ, {"type": "messages", "items": []}, "'as_of'"),
        (READ, {"type": "messages", "items": {}, "as_of": 1}, "'items'"),
        (READ, {"type": "messages", "items": ["x"], "as_of": 1}, "a message"),
        (READ, {"type": "messages", "items": [{**MESSAGE, "message_id": ["1"]}], "as_of": 1}, "'message_id'"),
        (READ, {"type": "messages", "items": [{**MESSAGE, "seq": "1"}], "as_of": 1}, "'seq'"),
        (READ, {"type": "messages", "items": [{**MESSAGE, "author": "bob"}], "as_of": 1}, "'author'"),
        (READ, {"type": "letters", "as_of": 1}, "'letters'"),
        (READ, {"type": "rejected", "reason": "no", "as_of": 1}, "'reason'"),
        (READ, {"type": "posted", "seq": 1, "as_of": 1}, "'message_id'"),
        (READ, {"type": "members", "user_ids": [1], "as_of": 1}, "'user_ids'"),
        (READ, {"type": "chats", "items": [{"chat_id": "1", "as_of": 1}], "as_of": 1}, "'name'"),
        (READ, None, "the reply to read"),
    ],
)
def test_damage_is_named(given: Any, reply: Any, named: str) -> None:
    with pytest.raises(HistoryError, match="operation 41 of process 3") as caught:
        judged([Operation(41, 3, 0, 1, given, reply)])
    assert named in str(caught.value)
    assert caught.value.advice


def test_an_unanswered_query_says_nothing() -> None:
    script = Script()
    script.lost(20, "list_chats", {"actor": "12345"})
    assert judged(script.operations).verdict is Verdict.VALID


def test_an_empty_history_is_unknown() -> None:
    assert judged([]).verdict is Verdict.UNKNOWN


def test_one_damaged_number_costs_neither_time_nor_memory_in_proportion_to_itself() -> None:
    request = {"username": "a", "txn_id": "t"}
    reply = {"type": "user_created", "user_id": "4194304", "as_of": 10**15}
    operation = Operation(0, 0, 0, 9, ("create_user", request), {"request": request, "reply": reply}, Outcome.OK)
    result = check(chat_model(), [operation])
    assert (result.verdict, result.anomaly) == (Verdict.INVALID, "phantom-message")
