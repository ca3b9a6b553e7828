"""The specification of the chat service: its promises over random programs, and its meaning by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec import chat as spec
from spec.chat import (
    RETENTION_MS,
    TIME_SHIFT,
    Command,
    CreateChat,
    CreateUser,
    Join,
    Leave,
    Messages,
    Posted,
    ReadMessages,
    Rejected,
    Reply,
    Send,
    State,
    Unchanged,
    UserCreated,
    Write,
    initial,
)
from spec.tests.chat_promises import EXAMPLES, OPENING, PROMISES, Symbol, effects, programs, run


def test_every_promise_is_kept() -> None:
    outcomes: set[str] = set()

    @EXAMPLES
    @given(programs)
    def keeps_them(program: list[Symbol]) -> None:
        for step in run((*OPENING, *program), PROMISES):
            outcomes.add(step.reply.reason if isinstance(step.reply, Rejected) else type(step.reply).__name__)

    keeps_them()
    wanted = {*spec.REASONS, "UserCreated", "ChatCreated", "Posted", "Unchanged", "Messages", "Members", "Chats"}
    assert outcomes == wanted, "some outcome was never reached: the promises say nothing about it"


@EXAMPLES
@given(programs, st.data())
def test_a_command_may_be_repeated_at_any_later_point_within_the_retention(
    program: list[Symbol], data: st.DataObject
) -> None:
    """Not only from the table: whatever the commands in between were, a repetition changes nothing but log time."""
    steps = run((*OPENING, *program), ())
    writes = [n for n, step in enumerate(steps) if isinstance(step.command, Write)]
    first = data.draw(st.sampled_from(writes), label="the command")
    later = data.draw(st.integers(first, len(steps) - 1), label="repeated after")
    command, state = steps[first].command, steps[later].after
    assert isinstance(command, Write)
    if state.time_ms - steps[first].after.time_ms > RETENTION_MS:
        return
    again, reply = spec.apply(state, command._replace(proposed_id=state.time_ms << TIME_SHIFT))
    scopes_before = {spec.scope_of(s.command) for s in steps[:first] if isinstance(s.command, Write)}
    if spec.scope_of(command) in scopes_before:
        return
    assert reply == steps[first].reply
    assert effects(again) == effects(state)


# --- by hand -----------------------------------------------------------------------------------------------------


def carried_out(*commands: Command) -> tuple[State, list[Reply]]:
    state, replies = initial(), []
    for command in commands:
        state, reply = spec.apply(state, command)
        replies.append(reply)
    return state, replies


ANN, TEA = 1, 2
ANN_HAS_TEA = (CreateUser("t", "ann"), CreateChat(ANN, "t", "tea"))


def test_an_afternoon_in_a_chat() -> None:
    state, replies = carried_out(
        *ANN_HAS_TEA,
        CreateUser("t", "bob"),
        Send(3, TEA, "s1", "hello?"),
        Join(3, TEA, "j"),
        Send(3, TEA, "s2", "hello!"),
        Join(3, TEA, "j2"),
        Leave(3, TEA, "l"),
    )
    assert replies == [
        UserCreated(1, 1),
        spec.ChatCreated(2, 1),
        UserCreated(3, 2),
        Rejected("not-a-member", 1),
        Posted(2, 4, 2),
        Posted(3, 5, 3),
        Unchanged(3),
        Posted(4, 6, 4),
    ]
    assert [m.kind for m in state.chats[0].messages] == ["create", "join", "text", "leave"]


def test_the_first_answer_stands_although_things_have_changed() -> None:
    send = Send(3, TEA, "s", "hello")
    _, replies = carried_out(*ANN_HAS_TEA, CreateUser("t", "bob"), send, Join(3, TEA, "j"), send)
    assert replies[-1] == replies[3] == Rejected("not-a-member", 1)


def test_a_leave_is_not_a_retry_of_a_join() -> None:
    _, replies = carried_out(*ANN_HAS_TEA, Join(ANN, TEA, "m"), Leave(ANN, TEA, "m"), Leave(ANN, TEA, "n"))
    assert replies[2:] == [Unchanged(1), Rejected("transaction-reused", 1), Posted(2, 3, 2)]


def test_an_answer_is_forgotten_one_millisecond_after_the_retention() -> None:
    def sent(time_ms: int) -> Send:
        return Send(ANN, TEA, "s", "tick", time_ms << TIME_SHIFT)

    _, replies = carried_out(*ANN_HAS_TEA, sent(7), sent(7 + RETENTION_MS), sent(8 + RETENTION_MS))
    assert isinstance(replies[2], Posted)
    assert replies[3] == replies[2]
    assert replies[4] == Posted(3, (8 + RETENTION_MS) << TIME_SHIFT, 3)


def test_ids_follow_the_stamp_but_never_go_back() -> None:
    _, replies = carried_out(*ANN_HAS_TEA, Send(ANN, TEA, "a", "", 900), Send(ANN, TEA, "b", "", 5))
    assert replies[2:] == [Posted(2, 900, 2), Posted(3, 901, 3)]


@pytest.mark.parametrize(
    ("after", "limit", "seqs"), [(0, 9, [1, 2, 3]), (1, 1, [2]), (3, 5, []), (-4, 2, [1, 2]), (0, 0, []), (0, -1, [])]
)
def test_what_a_read_returns(after: int, limit: int, seqs: list[int]) -> None:
    state, _ = carried_out(*ANN_HAS_TEA, Send(ANN, TEA, "a", ""), Send(ANN, TEA, "b", ""))
    page = spec.query(state, ReadMessages(ANN, TEA, after, limit))
    assert isinstance(page, Messages)
    assert [m.seq for m in page.items] == seqs
    assert page.as_of == 3


def test_the_same_transaction_id_is_free_in_another_scope() -> None:
    _, replies = carried_out(
        *ANN_HAS_TEA, CreateChat(ANN, "u", "coffee"), Send(ANN, TEA, "t", "a"), Send(ANN, 3, "t", "b")
    )
    assert [type(reply) for reply in replies[2:]] == [spec.ChatCreated, Posted, Posted]


def test_a_command_on_a_chat_that_nobody_made_does_not_spend_the_id_of_a_creation() -> None:
    _, replies = carried_out(*ANN_HAS_TEA, Send(ANN, 0, "u", "a"), CreateChat(ANN, "u", "coffee"))
    assert [type(reply) for reply in replies[2:]] == [spec.Rejected, spec.ChatCreated]
