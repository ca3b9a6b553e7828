"""The chat state machine against ``spec.chat``, in lockstep, over random logs; and planted bugs that this must catch.

The pools of names, texts and transaction ids are tiny, so that collisions, repetitions and reuse happen all the time;
log time stands still, steps back and jumps around the edge of the retention. Commands queue up and are applied in
batches of whatever length the program has come to, and the database is reopened in between.
"""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from impl.chat import commands, snowflake
from impl.chat.commands import Rejected, Reply, Send, Unchanged
from impl.chat.snapshot import PreparedState, prepare_state
from impl.chat.state_machine import ChatStateMachine, FirstAnswer, Progress
from impl.storage.disk import Disk
from model_checks.chat_conformance import IMPL_REPLIES, NO_OP, Divergence, Lockstep, Step, same, to_impl, to_spec
from spec import chat as spec

NAMES = ("ann", "bob", "cid", "")
TEXTS = ("hello", "", "h\N{LATIN SMALL LETTER E WITH ACUTE}llo\x00\N{GRINNING FACE}")
TXN_IDS = ("t1", "t2", "t3")
UNKNOWN_IDS = (0, 1, -1, 2**63, 2**64 - 1)
"""Ids that are never given out: 0 is the scope of the directory, and the last two do not fit into SQLite."""
STEPS_BACK_MS = (0, 0, 0, 1, 4)
PAUSES_MS = (1, 5, spec.RETENTION_MS - 1, spec.RETENTION_MS, spec.RETENTION_MS + 1)
FIRST_STAMP_MS = 1_000

MOVES_MAX = 2
"""Snapshots moved per program: each makes a database anew."""


MEMORY_FOLDER = Path("/dev/shm")
"""Where there is one, the databases live in memory: no power is cut here, so nothing needs to wait for a disk."""

txn_ids = st.sampled_from(TXN_IDS)
slots = st.integers(0, 7)
steps_back = st.sampled_from(STEPS_BACK_MS)
low_bits = st.integers(0, 2)

QUICK = settings(
    max_examples=300,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
DEEP = settings(QUICK, max_examples=3_000, stateful_step_count=80)
HUNT = settings(QUICK, max_examples=400, phases=[Phase.generate], report_multiple_bugs=False, print_blob=False)
"""For planted bugs: any failure will do, so nothing is shrunk."""


class ChatLockstep(RuleBasedStateMachine):
    """Programs of commands, batches, questions and reopenings, run on both sides."""

    machine_type: type[ChatStateMachine] = ChatStateMachine
    reached: ClassVar[set[str]] = set()
    """What the programs have come across so far: a comparison that never gets there shows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None)
        self.path = Path(self.directory.name) / "chat.db"
        self.lockstep = Lockstep(self.machine_type.open(self.path))
        self.ahead = spec.initial()  # the specification after the queued steps
        self.queue: list[Step] = []
        self.written: list[spec.Write] = []
        self.now_ms = FIRST_STAMP_MS
        self.moves = 0

    def teardown(self) -> None:
        try:
            if self.lockstep.agrees:
                self.commit()
                self.lockstep.compare_states()
        finally:
            self.lockstep.machine.close()
            self.directory.cleanup()

    # --- what a log may hold ---

    def stamp(self, back_ms: int, low: int) -> int:
        return self.now_ms - back_ms << spec.TIME_SHIFT | low

    def actor(self, slot: int) -> int:
        """Mostly somebody who exists."""
        users = self.ahead.users
        return users[slot % len(users)].user_id if slot < 7 else UNKNOWN_IDS[self.now_ms % len(UNKNOWN_IDS)]

    def chat(self, slot: int) -> int:
        """Mostly a chat that exists, the first two preferred so that they grow."""
        chats = self.ahead.chats[:2] if slot < 5 else self.ahead.chats
        return chats[slot % len(chats)].chat_id if slot < 7 else UNKNOWN_IDS[len(self.written) % len(UNKNOWN_IDS)]

    def put(self, command: spec.Write) -> None:
        self.ahead, _ = spec.apply(self.ahead, command)
        self.queue.append(command)
        self.written.append(command)

    @initialize()
    def somebody_opens_a_chat(self) -> None:
        self.put(spec.CreateUser("t0", "ann", self.stamp(0, 0)))
        self.put(spec.CreateChat(self.actor(0), "t0", "chat", self.stamp(0, 0)))

    @rule(txn_id=txn_ids, name=st.sampled_from(NAMES), back_ms=steps_back, low=low_bits)
    def create_user(self, txn_id: str, name: str, back_ms: int, low: int) -> None:
        self.put(spec.CreateUser(txn_id, name, self.stamp(back_ms, low)))

    @rule(actor=slots, txn_id=txn_ids, name=st.sampled_from(NAMES), back_ms=steps_back, low=low_bits)
    def create_chat(self, actor: int, txn_id: str, name: str, back_ms: int, low: int) -> None:
        self.put(spec.CreateChat(self.actor(actor), txn_id, name, self.stamp(back_ms, low)))

    @rule(actor=slots, chat=slots, txn_id=txn_ids, back_ms=steps_back, low=low_bits)
    def join(self, actor: int, chat: int, txn_id: str, back_ms: int, low: int) -> None:
        self.put(spec.Join(self.actor(actor), self.chat(chat), txn_id, self.stamp(back_ms, low)))

    @rule(actor=slots, chat=slots, txn_id=txn_ids, back_ms=steps_back, low=low_bits)
    def leave(self, actor: int, chat: int, txn_id: str, back_ms: int, low: int) -> None:
        self.put(spec.Leave(self.actor(actor), self.chat(chat), txn_id, self.stamp(back_ms, low)))

    @rule(actor=slots, chat=slots, txn_id=txn_ids, text=st.sampled_from(TEXTS), back_ms=steps_back, low=low_bits)
    def send(self, actor: int, chat: int, txn_id: str, text: str, back_ms: int, low: int) -> None:
        self.put(spec.Send(self.actor(actor), self.chat(chat), txn_id, text, self.stamp(back_ms, low)))

    @rule(which=st.integers(0, 30), back_ms=steps_back, low=low_bits)
    def repeat(self, which: int, back_ms: int, low: int) -> None:
        """A client that has seen no reply asks again; a leader stamps it anew."""
        command = self.written[-1 - which % len(self.written)]
        self.put(command._replace(proposed_id=self.stamp(back_ms, low)))

    @rule()
    def new_term(self) -> None:
        self.queue.append(NO_OP)

    @rule(pause_ms=st.sampled_from(PAUSES_MS))
    def time_passes(self, pause_ms: int) -> None:
        self.now_ms += pause_ms

    # --- what both sides do with it ---

    @precondition(lambda self: self.queue)
    @rule()
    def commit(self) -> None:
        self.apply(len(self.queue))

    @precondition(lambda self: len(self.queue) > 1)
    @rule(length=st.integers(1, 8))
    def commit_some(self, length: int) -> None:
        self.apply(length)

    def apply(self, length: int) -> None:
        batch, self.queue = self.queue[:length], self.queue[length:]
        answers_before = self.lockstep.state.answers
        repeated_before = self.lockstep.machine.statistics().repeated_answers
        for step, reply in zip(batch, self.lockstep.apply(batch), strict=True):
            outcome = reply.reason if isinstance(reply, spec.Rejected) else type(reply).__name__
            self.reached.add(f"{type(step).__name__}: {outcome}")
        if self.lockstep.machine.statistics().repeated_answers > repeated_before:
            self.reached.add("a first answer given again")
        answers = self.lockstep.state.answers
        if answers[:1] != answers_before[:1] and answers_before:
            self.reached.add("an answer expired")
        (rows,) = self.lockstep.machine.database.conn.execute("SELECT count(*) FROM answers").fetchone()
        if rows > len(answers):
            self.reached.add("an expired answer not yet deleted")

    @rule()
    def reopen(self) -> None:
        self.lockstep.machine.close()
        self.lockstep.machine = self.machine_type.open(self.path)

    @precondition(lambda self: self.lockstep.last_index > 0 and self.moves < MOVES_MAX)
    @rule()
    def move_to_another_replica(self) -> None:
        """A node that has nothing gets a snapshot, and goes on in the place of this one."""
        with self.lockstep.machine.open_snapshot() as snapshot:
            blocks = list(snapshot.blocks())
        self.lockstep.machine.close()
        self.moves += 1
        self.path = self.path.with_name(f"moved-{self.moves}.db")
        machine = self.lockstep.machine = self.machine_type.open(self.path)
        machine.install(prepare_state(self.path, blocks, machine.origin))
        self.lockstep.compare_states()
        self.reached.add("a snapshot installed")

    @rule(actor=slots, chat=slots, after=st.integers(-1, 6), limit=st.integers(-1, 4))
    def read_messages(self, actor: int, chat: int, after: int, limit: int) -> None:
        self.lockstep.ask(spec.ReadMessages(self.actor(actor), self.chat(chat), after, limit))

    @rule(actor=slots, chat=slots)
    def read_with_huge_numbers(self, actor: int, chat: int) -> None:
        self.lockstep.ask(spec.ReadMessages(self.actor(actor), self.chat(chat), 0, 2**64 - 1))
        self.lockstep.ask(spec.ReadMessages(self.actor(actor), self.chat(chat), 2**64 - 1, 2**64 - 1))

    @rule(actor=slots, chat=slots)
    def list_members(self, actor: int, chat: int) -> None:
        self.lockstep.ask(spec.ListMembers(self.actor(actor), self.chat(chat)))

    @rule(actor=slots)
    def list_chats(self, actor: int) -> None:
        self.lockstep.ask(spec.ListChats(self.actor(actor)))

    @invariant()
    def the_specification_is_as_far_as_the_log(self) -> None:
        assert self.lockstep.last_index + len(self.queue) >= len(self.written)


REJECTIONS = {
    # The username is part of the scope, so the same transaction id there always means the same request.
    "CreateUser": ("username-taken",),
    "CreateChat": ("unknown-user", "transaction-reused"),
    "Join": ("unknown-user", "unknown-chat", "transaction-reused"),
    "Leave": ("unknown-user", "unknown-chat", "transaction-reused"),
    "Send": ("unknown-user", "unknown-chat", "not-a-member", "transaction-reused"),
}
SUCCESSES = {
    "CreateUser": ("UserCreated",),
    "CreateChat": ("ChatCreated",),
    "Join": ("Posted", "Unchanged"),
    "Leave": ("Posted", "Unchanged"),
    "Send": ("Posted",),
    "NoneType": ("NoneType",),
}
TO_BE_REACHED = {
    "a snapshot installed",
    "a first answer given again",
    "an answer expired",
    "an expired answer not yet deleted",
    *(f"{kind}: {outcome}" for kind, outcomes in SUCCESSES.items() for outcome in outcomes),
    *(f"{kind}: {reason}" for kind, reasons in REJECTIONS.items() for reason in reasons),
}


def test_the_state_machine_does_what_the_specification_says() -> None:
    class Observed(ChatLockstep):
        reached: ClassVar[set[str]] = set()

    run_state_machine_as_test(Observed, settings=QUICK)
    missed = sorted(TO_BE_REACHED - Observed.reached)
    assert not missed, f"the programs have not come across {missed}: widen the pools or run more of them"


@pytest.mark.slow
def test_the_state_machine_does_what_the_specification_says_for_longer() -> None:
    run_state_machine_as_test(ChatLockstep, settings=DEEP)


def test_both_sides_read_the_same_time_from_a_stamp() -> None:
    assert spec.TIME_SHIFT == snowflake.TIME_SHIFT


# --- the comparison itself ---------------------------------------------------------------------------------------


def test_equal_fields_in_another_type_are_not_the_same() -> None:
    members: object = spec.Members((), 1)
    assert members == spec.Chats((), 1)  # the trap
    assert not same(members, spec.Chats((), 1))
    assert same(members, spec.Members((), 1))


@pytest.mark.parametrize(
    "reply",
    [
        spec.UserCreated(5, 1),
        spec.ChatCreated(5, 1),
        spec.Posted(2, 7, 2),
        spec.Unchanged(3),
        spec.Messages((spec.Message(1, 5, "create", 4, "t", "name"),), 1),
        spec.Members((4, 5), 3),
        spec.Chats((spec.ChatSummary(5, "name", 3),), 2),
        spec.Rejected("unknown-chat", 0),
    ],
)
def test_every_kind_of_reply_survives_the_translation(reply: spec.Reply) -> None:
    struct = IMPL_REPLIES[type(reply)]
    encoded = commands.encode_reply(struct(*reply))
    assert same(to_spec(commands.decode_reply(encoded)), reply)


def test_commands_are_translated_by_position() -> None:
    assert to_impl(spec.Send(1, 2, "t", "text", 3)) == Send(1, 2, "t", "text", 3)


# --- planted bugs ----------------------------------------------------------------------------------------------


class NoDedupe(ChatStateMachine):
    def first_answer(self, scope: bytes, horizon_ms: int) -> FirstAnswer | None:
        return None


class RejectionsNotRemembered(ChatStateMachine):
    def _remember(self, progress: Progress, scope: bytes, body: bytes, reply: Reply) -> None:
        if not isinstance(reply, Rejected):
            super()._remember(progress, scope, body, reply)


class ReuseNotNoticed(ChatStateMachine):
    class AnyBody(bytes):
        def __ne__(self, other: object) -> bool:
            return False

    def first_answer(self, scope: bytes, horizon_ms: int) -> FirstAnswer | None:
        first = super().first_answer(scope, horizon_ms)
        return None if first is None else first._replace(body=self.AnyBody(first.body))


class NeverExpires(ChatStateMachine):
    def _horizon_ms(self, progress: Progress) -> int:
        return 0


class ExpiresOneMillisecondEarly(ChatStateMachine):
    def _horizon_ms(self, progress: Progress) -> int:
        return super()._horizon_ms(progress) + 1


class PurgesWhatHasNotExpired(ChatStateMachine):
    def _purge(self, progress: Progress, rows_max: int) -> None:
        self.database.conn.execute("DELETE FROM answers WHERE log_index < ?", (progress.applied_index - rows_max,))


class LogTimeGoesBack(ChatStateMachine):
    def _execute(self, progress: Progress, command: Any) -> Reply:
        progress.time_ms = 0
        return super()._execute(progress, command)


class SeqOfTheService(ChatStateMachine):
    def _append(self, progress: Progress, chat_id: int, seq: int, *rest: Any) -> None:
        (count,) = self.database.conn.execute("SELECT count(*) FROM messages").fetchone()
        super()._append(progress, chat_id, count + 1, *rest)


class RejectionWithoutAsOf(ChatStateMachine):
    def _write(self, progress: Progress, command: Any, new_id: int) -> Reply:
        reply = super()._write(progress, command, new_id)
        return Rejected(reply.reason, 0) if isinstance(reply, Rejected) else reply


class ReuseRejectedWithOldAsOf(ChatStateMachine):
    def _as_of_subject(self, progress: Progress, command: Any) -> int:
        return max(super()._as_of_subject(progress, command) - 1, 0)


class JoinDoesNotAppend(ChatStateMachine):
    def _join(self, progress: Progress, command: Any, new_id: int) -> Reply:
        standing = self._standing(command.actor, command.chat_id)
        if not standing.user_exists or not standing.as_of or standing.is_member:
            return super()._join(progress, command, new_id)
        self._add_member(command.chat_id, command.actor)
        return Unchanged(standing.as_of)


class LeaveKeepsTheMember(ChatStateMachine):
    def _leave(self, progress: Progress, command: Any, new_id: int) -> Reply:
        reply = super()._leave(progress, command, new_id)
        if not isinstance(reply, Rejected | Unchanged):
            self._add_member(command.chat_id, command.actor)
        return reply


class IdsFromTheClockAlone(ChatStateMachine):
    def _write(self, progress: Progress, command: Any, new_id: int) -> Reply:
        return super()._write(progress, command, command.proposed_id)


class LogTimeNotSaved(ChatStateMachine):
    def _save(self, progress: Progress) -> None:
        super()._save(progress)
        self.database.conn.execute("UPDATE progress SET time_ms = 0")


class SnapshotWithoutAnswers(ChatStateMachine):
    def install(self, prepared: PreparedState, disk: Disk | None = None) -> None:
        super().install(prepared, disk)
        self.database.conn.execute("DELETE FROM answers")
        self.database.conn.commit()


class SnapshotWithoutLogTime(ChatStateMachine):
    def install(self, prepared: PreparedState, disk: Disk | None = None) -> None:
        super().install(prepared, disk)
        self._progress.time_ms = 0


MUTANTS = (
    SnapshotWithoutAnswers,
    SnapshotWithoutLogTime,
    NoDedupe,
    RejectionsNotRemembered,
    ReuseNotNoticed,
    NeverExpires,
    ExpiresOneMillisecondEarly,
    PurgesWhatHasNotExpired,
    LogTimeGoesBack,
    SeqOfTheService,
    RejectionWithoutAsOf,
    ReuseRejectedWithOldAsOf,
    JoinDoesNotAppend,
    LeaveKeepsTheMember,
    IdsFromTheClockAlone,
    LogTimeNotSaved,
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.__name__))
def test_a_planted_bug_is_caught(mutant: type[ChatStateMachine]) -> None:
    planted = type(f"Lockstep{mutant.__name__}", (ChatLockstep,), {"machine_type": mutant})
    # A bug may also trip over a constraint of the database before it is seen.
    with pytest.raises((Divergence, sqlite3.IntegrityError)):
        run_state_machine_as_test(planted, settings=HUNT)
