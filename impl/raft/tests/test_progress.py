"""The leader's view of one follower: probing, pipelining, the window, and answers in any order."""

from __future__ import annotations

import random

from impl.raft.progress import Progress


def replicating(match: int = 5, window: int = 3) -> Progress:
    progress = Progress(match + 1, window)
    progress.sent(match)
    assert progress.succeeded(match)
    return progress


def test_probe_sends_one_append_and_waits() -> None:
    progress = Progress(8, 3)
    assert progress.may_send
    progress.sent(9)
    assert not progress.may_send
    assert progress.next == 8, "nothing is optimistic while probing"


def test_first_success_starts_the_pipeline() -> None:
    progress = Progress(8, 3)
    progress.sent(9)
    assert progress.succeeded(9)
    assert progress.replicating
    assert (progress.match, progress.next) == (9, 10)


def test_window_closes_and_opens() -> None:
    progress = replicating()
    for last in (6, 7, 8):
        assert progress.may_send
        progress.sent(last)
    assert not progress.may_send
    assert progress.next == 9
    progress.sent(8)  # a heartbeat: no entries, no place in the window
    assert progress.succeeded(7)
    assert progress.may_send
    progress.sent(9)
    progress.sent(10)
    assert not progress.may_send
    assert not progress.succeeded(6), "old news"
    assert not progress.may_send
    assert progress.succeeded(10)
    assert progress.may_send


def test_refusal_goes_back_to_probing_and_not_below_match() -> None:
    progress = replicating(5)
    progress.sent(6)
    progress.sent(7)
    assert progress.rejected(7, 3)
    assert not progress.replicating
    assert progress.may_send
    assert (progress.match, progress.next) == (5, 6)


def test_refusals_that_are_old_news() -> None:
    progress = replicating(5)
    progress.sent(6)
    assert not progress.rejected(5, 2), "what is known to match cannot be refused now"
    assert progress.replicating
    probing = Progress(9, 3)
    probing.sent(8)
    assert not probing.rejected(6, 2), "not the question that is open"
    assert probing.rejected(8, 4)
    assert probing.next == 4
    assert not probing.rejected(8, 2), "the second answer to the same question"
    assert not replicating(5).rejected(5, 6)


def test_a_refusal_always_moves_back() -> None:
    progress = Progress(9, 3)
    assert progress.rejected(8, 50)
    assert progress.next == 8


def test_loss_while_replicating_probes_from_what_is_known() -> None:
    progress = replicating(5)
    for last in (6, 7, 8):
        progress.sent(last)
    progress.lost()
    assert not progress.replicating
    assert progress.next == 6
    progress.sent(6)
    progress.lost()
    assert not progress.may_send, "a probe that is out stays out: the next heartbeat asks again"
    progress.succeeded(5)
    for last in (6, 7, 8):
        assert progress.may_send, "nothing of before the loss fills the window"
        progress.sent(last)


def test_random_answers_never_lower_match_nor_let_next_reach_it() -> None:
    for seed in range(300):
        chance = random.Random(seed)
        progress, last = Progress(chance.randint(1, 10), chance.randint(1, 4)), 10
        for _ in range(60):
            before = progress.match
            match chance.randrange(4):
                case 0 if progress.may_send:
                    progress.sent(min(last, progress.next - 1 + chance.randint(0, 2)))
                case 1:
                    progress.succeeded(chance.randint(0, min(last, progress.next - 1)))
                case 2:
                    progress.rejected(chance.randint(1, last), chance.randint(1, last))
                case _:
                    progress.lost()
            assert progress.match >= before
            assert progress.next > progress.match
            assert len(progress._in_flight) <= progress.window
