"""Specifications of the chat service with a planted bug: each must break a promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from spec import chat as spec
from spec.chat import Answer, Chat, Message, Messages, Posted, Rejected, Reply, State, Write
from spec.tests.chat_promises import EXAMPLES, OPENING, PROMISES, Symbol, programs, run

HUNT = settings(EXAMPLES, phases=[Phase.generate], report_multiple_bugs=False, print_blob=False)
"""Any failure will do, so nothing is shrunk."""

honest_post, honest_write, honest_query = spec.post, spec.write, spec.query
honest_advance, honest_apply = spec.advance, spec.apply


def post_with_seq_of_the_service(
    state: State, chat: Chat, new_id: int, kind: str, command: Any, text: str, members: frozenset[int]
) -> tuple[State, Reply]:
    seq = sum(c.as_of for c in state.chats) + 1
    message = Message(seq, new_id, kind, command.actor, command.txn_id, text)
    grown = chat._replace(messages=(*chat.messages, message), members=members)
    chats = tuple(grown if c.chat_id == chat.chat_id else c for c in state.chats)
    return state._replace(chats=chats, last_id=new_id), Posted(seq, new_id, seq)


def post_and_keep_the_members(
    state: State, chat: Chat, new_id: int, kind: str, command: Any, text: str, members: frozenset[int]
) -> tuple[State, Reply]:
    return honest_post(state, chat, new_id, kind, command, text, chat.members)


def write_with_the_id_as_proposed(state: State, command: Write, new_id: int) -> tuple[State, Reply]:
    return honest_write(state, command, max(command.proposed_id, 1))


def write_so_that_rejections_burn_an_id(state: State, command: Write, new_id: int) -> tuple[State, Reply]:
    after, reply = honest_write(state, command, new_id)
    return after._replace(last_id=new_id), reply


def write_with_as_of_of_rejections_too_great(state: State, command: Write, new_id: int) -> tuple[State, Reply]:
    after, reply = honest_write(state, command, new_id)
    return after, Rejected(reply.reason, reply.as_of + 1) if isinstance(reply, Rejected) else reply


def body_of_with_the_stamp(command: Write) -> Write:
    return command


def apply_and_forget_rejections(state: State, command: spec.Command) -> tuple[State, Reply]:
    def is_kept(answer: Answer) -> bool:
        return not isinstance(answer.reply, Rejected)

    after, reply = honest_apply(state, command)
    return after._replace(answers=tuple(filter(is_kept, after.answers))), reply


def advance_and_forget_everything(state: State, time_ms: int) -> State:
    return honest_advance(state, time_ms)._replace(answers=())


def advance_and_forget_nothing(state: State, time_ms: int) -> State:
    return state._replace(time_ms=max(state.time_ms, time_ms))


def advance_and_go_back(state: State, time_ms: int) -> State:
    return honest_advance(state, time_ms)._replace(time_ms=time_ms)


def query_without_the_first_message(state: State, command: spec.Query) -> Reply:
    reply = honest_query(state, command)
    return reply._replace(items=reply.items[1:]) if isinstance(reply, Messages) else reply


PLANTED: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("post", post_with_seq_of_the_service),
    ("post", post_and_keep_the_members),
    ("write", write_with_the_id_as_proposed),
    ("write", write_so_that_rejections_burn_an_id),
    ("write", write_with_as_of_of_rejections_too_great),
    ("body_of", body_of_with_the_stamp),
    ("apply", apply_and_forget_rejections),
    ("advance", advance_and_forget_everything),
    ("advance", advance_and_forget_nothing),
    ("advance", advance_and_go_back),
    ("query", query_without_the_first_message),
)


@pytest.mark.parametrize(("name", "bug"), PLANTED, ids=[bug.__name__ for _, bug in PLANTED])
def test_a_planted_bug_breaks_a_promise(name: str, bug: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec, name, bug)

    @HUNT
    @given(programs)
    def keeps_them(program: list[Symbol]) -> None:
        run((*OPENING, *program), PROMISES)

    with pytest.raises(AssertionError):
        keeps_them()
