"""Calls under a scripted network, in virtual time: retries, deadlines, outcomes, the way to the leader."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from impl.chat import commands
from impl.chat import service as chat_service
from impl.client.client import ATTEMPT_TIMEOUT_S, BACKOFF_MAX_S, Answer, Client
from impl.client.errors import NotDone, OutcomeUnknown, RequestInvalid, RequestRejected
from impl.client.tests.scripted import (
    LOST,
    REFUSED,
    ScriptedTransport,
    Step,
    answers,
    not_done,
    posted,
    problem,
    silent,
    unknown,
)

A, B, C = "http://a:1", "http://b:2", "http://c:3"
IDS = {1: A, 2: B, 3: C}

SEND = commands.Send(7, 9, "txn-1", "hello")
READ = commands.ReadMessages(7, 9, 0, 10)

INVALID = problem(422, "invalid-request")
REJECTED = problem(403, "not-a-member", node=2, reason="not-a-member", as_of=4)


def client(*steps: Step, nodes: Any = IDS, **how: Any) -> tuple[Client, ScriptedTransport]:
    transport = ScriptedTransport(steps)
    return Client(nodes, transport=transport, rng=Random(1), user_id=7, **how), transport


# --- how calls end -----------------------------------------------------------------------------------------------

OK, NOT_DONE, UNKNOWN, REFUSAL = "ok", "not done", "unknown", "invalid"

CALLS: list[tuple[str, list[Step], commands.Command, str, int | None]] = [
    # what, the attempts, command, how it ends, after how many attempts (None: at the deadline)
    ("at once", [posted()], SEND, OK, 1),
    ("rejected", [REJECTED], SEND, OK, 1),
    ("invalid", [INVALID], SEND, REFUSAL, 1),
    ("not done, then done", [not_done(), posted()], SEND, OK, 2),
    ("refused, lost, unknown, then done", [REFUSED, LOST, unknown(), posted()], SEND, OK, 4),
    ("lost, then rejected", [LOST, REJECTED], SEND, OK, 2),
    ("silent, then done", [silent(), posted()], SEND, OK, 2),
    ("never done", [not_done()], SEND, NOT_DONE, None),
    ("never reached", [REFUSED], SEND, NOT_DONE, None),
    ("never done or reached", [not_done(), REFUSED], SEND, NOT_DONE, None),
    ("lost for ever", [LOST], SEND, UNKNOWN, None),
    ("silent for ever", [silent()], SEND, UNKNOWN, None),
    ("once unknown, then not done", [not_done(), unknown(), not_done()], SEND, UNKNOWN, None),
    ("once lost, then refused", [LOST, REFUSED], SEND, UNKNOWN, None),
    ("once silent, then not done", [silent(), not_done()], SEND, UNKNOWN, None),
    ("lost, then invalid", [LOST, INVALID], SEND, UNKNOWN, 2),
    ("not done, then invalid", [not_done(), INVALID], SEND, REFUSAL, 2),
    ("an answer that does not parse", [answers(201, b"{")], SEND, UNKNOWN, None),
    ("query at once", [answers(200, {"items": [], "as_of": 5})], READ, OK, 1),
    ("query never done", [not_done()], READ, NOT_DONE, None),
    ("query lost", [LOST], READ, NOT_DONE, None),
    ("query silent", [silent()], READ, NOT_DONE, None),
    ("query unknown", [unknown()], READ, NOT_DONE, None),
    ("query lost, then invalid", [LOST, INVALID], READ, REFUSAL, 2),
]


@pytest.mark.parametrize(("steps", "command", "ends", "attempts"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
async def test_a_call_ends_as_it_must(
    steps: list[Step], command: commands.Command, ends: str, attempts: int | None, autojump_clock: MockClock
) -> None:
    caller, network = client(*steps, timeout_s=10.0)
    try:
        answer = await caller.call(command)
        ended, told = OK, answer.attempts
    except NotDone as error:
        ended, told = NOT_DONE, error.attempts
    except OutcomeUnknown as error:
        ended, told = UNKNOWN, error.attempts
    except RequestInvalid as error:
        ended, told = REFUSAL, error.attempts
    assert ended == ends
    assert told == len(network.seen)
    if attempts is None:
        assert 9.0 < trio.current_time() <= 10.0
        assert told >= 5
    else:
        assert told == attempts


@pytest.mark.parametrize("steps", [[not_done(), LOST, unknown(), silent(), REFUSED, posted()]])
async def test_every_attempt_is_the_same_request_with_the_same_transaction(
    steps: list[Step], autojump_clock: MockClock
) -> None:
    caller, network = client(*steps)
    await caller.execute(SEND)
    assert len(network.seen) == 6
    assert {(seen.method, seen.target, seen.body) for seen in network.seen} == {
        ("PUT", "/v1/chats/9/messages/txn-1", b'{"text": "hello"}')
    }


@pytest.mark.parametrize(
    "command", [commands.CreateUser("t", "ann"), commands.CreateChat(7, "t", "c"), commands.Join(7, 9, "t")]
)
async def test_transactions_outside_the_path_are_kept_too(command: commands.Command, autojump_clock: MockClock) -> None:
    caller, network = client(LOST, REFUSED, not_done(), timeout_s=3.0)
    with pytest.raises(OutcomeUnknown):
        await caller.execute(command)
    assert {seen.headers["idempotency-key"] for seen in network.seen} == {"t"}


async def test_a_made_transaction_is_kept_within_a_call_and_new_for_the_next(autojump_clock: MockClock) -> None:
    caller, network = client(LOST, posted(), LOST, posted())
    await caller.send(9, "hello")
    await caller.send(9, "hello")
    targets = [seen.target for seen in network.seen]
    assert targets[0] == targets[1] != targets[2] == targets[3]


async def test_an_attempt_has_its_own_timeout(autojump_clock: MockClock) -> None:
    caller, network = client(silent(), posted(), timeout_s=10.0)
    await caller.execute(SEND)
    first, second = network.seen
    assert ATTEMPT_TIMEOUT_S <= second.at_s - first.at_s <= ATTEMPT_TIMEOUT_S + BACKOFF_MAX_S
    assert second.node != first.node


async def test_a_deadline_shorter_than_an_attempt_holds(autojump_clock: MockClock) -> None:
    caller, network = client(silent())
    with pytest.raises(OutcomeUnknown):
        await caller.execute(SEND, timeout_s=0.5)
    assert trio.current_time() == pytest.approx(0.5)
    assert len(network.seen) == 1


async def test_a_process_held_up_in_a_pause_ends_the_call(mock_clock: MockClock) -> None:
    """The clock has passed the deadline by the time the pause ends, as after SIGSTOP or on a busy machine."""
    caller, network = client(not_done(), timeout_s=10.0)
    async with trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(NotDone):
                await caller.execute(SEND)

        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        assert len(network.seen) == 1
        mock_clock.jump(60.0)
    assert len(network.seen) == 1


async def test_pauses_grow_and_stay_bounded(autojump_clock: MockClock) -> None:
    caller, network = client(not_done(), timeout_s=60.0)
    with pytest.raises(NotDone):
        await caller.execute(SEND)
    pauses = [b.at_s - a.at_s for a, b in zip(network.seen, network.seen[1:], strict=False)]
    assert max(pauses[:3]) < 0.1
    assert max(pauses) <= BACKOFF_MAX_S
    assert sum(pauses[10:]) / len(pauses[10:]) == pytest.approx(BACKOFF_MAX_S / 2, rel=0.3)


async def test_errors_tell_where_and_why(autojump_clock: MockClock) -> None:
    caller, _ = client(not_done(reason="lost-leadership"), timeout_s=1.0)
    with pytest.raises(NotDone, match="about not-done") as caught:
        await caller.execute(SEND)
    assert isinstance(caught.value, chat_service.NotDone)
    assert (caught.value.reason, caught.value.node in IDS) == ("lost-leadership", True)

    caller, _ = client(LOST, REFUSED, timeout_s=1.0)
    with pytest.raises(OutcomeUnknown, match="attempts in 1 s; the last: ConnectError") as caught_unknown:
        await caller.execute(SEND)
    assert isinstance(caught_unknown.value, chat_service.OutcomeUnknown)

    caller, _ = client(INVALID)
    with pytest.raises(RequestInvalid, match="about invalid-request") as caught_invalid:
        await caller.execute(SEND)
    assert (caught_invalid.value.status, caught_invalid.value.problem["status"]) == (422, 422)


async def test_cancelling_a_call_ends_it(autojump_clock: MockClock) -> None:
    caller, _ = client(silent())
    with trio.move_on_after(1.0) as scope:
        await caller.execute(SEND)
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(1.0)


# --- rejections --------------------------------------------------------------------------------------------------


async def test_execute_returns_a_rejection_and_operations_raise_it(autojump_clock: MockClock) -> None:
    caller, _ = client(REJECTED)
    rejected = commands.Rejected("not-a-member", 4)
    assert await caller.execute(SEND) == rejected
    assert await caller.call(SEND) == Answer(rejected, 1, 1)  # node 1 by the mapping, whatever the header says
    with pytest.raises(RequestRejected, match="not-a-member") as caught:
        await caller.send(9, "hello")
    assert (caught.value.reply, caught.value.attempts) == (rejected, 1)


# --- the way to the leader ---------------------------------------------------------------------------------------


def asked(network: ScriptedTransport) -> list[str]:
    return [seen.node for seen in network.seen]


async def test_the_leader_is_asked_next_and_remembered(autojump_clock: MockClock) -> None:
    caller, network = client(not_done(node=1, leader=3), posted(node=3, leader=3))
    assert await caller.call(SEND) == Answer(commands.Posted(5, 55, 5), 2, 3)
    await caller.execute(SEND)
    assert asked(network) == [A, C, C]


async def test_a_follower_that_answers_names_the_leader_for_the_next_call(autojump_clock: MockClock) -> None:
    caller, network = client(posted(node=1, leader=2))
    await caller.execute(SEND)
    await caller.execute(SEND)
    assert asked(network) == [A, B]


async def test_the_leader_is_known_by_id_under_another_address(autojump_clock: MockClock) -> None:
    """The nodes advertise addresses that this client cannot, and must not, use."""
    caller, network = client(posted(node=1, leader=2, url="http://10.0.0.2:8102"))
    await caller.execute(SEND)
    await caller.execute(SEND)
    assert asked(network) == [A, B]


async def test_ids_are_learned_from_answers(autojump_clock: MockClock) -> None:
    steps = [not_done(node=3), posted(node=1, leader=3, url="http://elsewhere:9"), posted(node=3)]
    caller, network = client(*steps, nodes=[A, B])
    await caller.execute(SEND)
    assert (await caller.call(SEND)).node == 3
    assert asked(network) == [A, B, A]


async def test_an_advertised_address_counts_if_it_was_given(autojump_clock: MockClock) -> None:
    caller, network = client(posted(leader=3, url=C), nodes=[A, B, C + "/"])
    await caller.execute(SEND)
    await caller.execute(SEND)
    assert asked(network) == [A, C]


@pytest.mark.parametrize("url", ["http://evil:1", "", "nonsense"])
async def test_no_other_address_is_ever_asked(url: str, autojump_clock: MockClock) -> None:
    caller, network = client(not_done(leader=9, url=url), nodes=[A, B, C], timeout_s=5.0)
    with pytest.raises(NotDone):
        await caller.execute(SEND)
    assert asked(network)[:6] == [A, B, C, A, B, C]


async def test_a_leader_that_failed_is_not_asked_again_at_once(autojump_clock: MockClock) -> None:
    """Followers go on naming a dead leader until they elect another: the call must not bounce to it."""
    steps = [REFUSED, not_done(node=2, leader=1), not_done(node=3, leader=1), posted(node=1)]
    caller, network = client(*steps)
    await caller.execute(SEND)
    assert asked(network)[:3] == [A, B, C]


async def test_without_following_the_client_stays_where_it_is(autojump_clock: MockClock) -> None:
    caller, network = client(posted(node=1, leader=2), follow_leader=False)
    await caller.execute(SEND)
    await caller.execute(SEND)
    assert asked(network) == [A, A]


async def test_a_client_for_another_user_shares_the_way(autojump_clock: MockClock) -> None:
    caller, network = client(posted(node=1, leader=2))
    await caller.send(9, "hello")
    await caller.as_user(8).send(9, "hello")
    assert asked(network) == [A, B]
    assert [seen.headers["telegraft-user"] for seen in network.seen] == ["7", "8"]


# --- status ------------------------------------------------------------------------------------------------------

STATUS = {
    "cluster": "test",
    "node_id": 2,
    "run_id": "first",
    "incarnation": "1",
    "membership": "voter",
    "role": "leader",
    "term": 7,
    "leader_id": 2,
    "leader_url": B,
    "commit_index": 3,
    "applied_index": 2,
    "last_index": 4,
    "configuration_index": 0,
    "peer": "127.0.0.1:9102",
    "url": B,
    "peers": {"1": A, "2": B},
}


async def test_status_of_one_node(autojump_clock: MockClock) -> None:
    caller, network = client(not_done(node=2, leader=1), answers(200, STATUS, node=2, leader=1))
    status = await caller.status(2)
    assert (status.node_id, status.peers) == (2, {1: A, 2: B})
    assert asked(network) == [B, B]  # neither another node nor the leader
    await caller.status()
    assert asked(network) == [B, B, A]  # and it changed nothing for other calls
    with pytest.raises(ValueError, match="node 9"):
        await caller.status(9)


# --- what cannot be sent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("txn_id", ["", " ", "a b", "\n", "\xe9", "x" * 129, ".", ".."])
async def test_a_transaction_id_that_no_request_can_carry_is_refused_before_sending(txn_id: str) -> None:
    caller, network = client(posted())
    for command in (commands.Send(7, 9, txn_id, "a"), commands.Join(7, 9, txn_id), commands.CreateUser(txn_id, "a")):
        with pytest.raises(ValueError, match="transaction id"):
            await caller.execute(command)
    assert network.seen == []


async def test_a_client_without_a_user_says_so() -> None:
    caller = Client([A], transport=ScriptedTransport([posted()]))
    with pytest.raises(ValueError, match="as_user"):
        await caller.send(9, "hello")


@pytest.mark.parametrize("nodes", [[], {}, "http://a:1"])
def test_a_client_without_nodes_says_so(nodes: Any) -> None:
    with pytest.raises(ValueError, match="URL"):
        Client(nodes)
