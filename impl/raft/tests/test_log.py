"""The log against a plain list, and what reports of writes may confirm."""

from __future__ import annotations

import random

import pytest

from impl.raft.configuration import founding
from impl.raft.log import RaftLog
from impl.raft.messages import Base, Entry
from impl.raft.tests.script import log_of
from impl.raft.tests.single import configuration_entry


def entries(first: int, *terms: int) -> list[Entry]:
    return [Entry(first + i, term, b"") for i, term in enumerate(terms)]


def test_empty_log() -> None:
    log = RaftLog()
    assert (log.last_index, log.last_term, log.stable) == (0, 0, 0)
    assert log.term_at(0) == 0
    assert log.term_at(1) is None
    assert log.matches(0, 0)
    assert not log.matches(1, 0)
    assert log.slice(1, 5) == ()


def test_recovered_log_is_durable() -> None:
    log = RaftLog(log_of(1, 1, 2))
    assert (log.last_index, log.last_term, log.stable) == (3, 2, 3)
    assert [entry.index for entry in log.slice(2, 3)] == [2, 3]
    assert [entry.index for entry in log.slice(0, 2)] == [1, 2]
    assert log.slice(3, 2) == ()


def test_append_leaves_no_gap() -> None:
    log = RaftLog(log_of(1))
    with pytest.raises(AssertionError, match="append at"):
        log.append(entries(3, 1))
    with pytest.raises(AssertionError, match="append at"):
        log.append(entries(0, 1))
    log.append([])
    assert log.last_index == 1


def test_reports_confirm_in_order() -> None:
    log = RaftLog()
    log.append(entries(1, 1, 1))
    log.writing(1)
    log.append(entries(3, 1))
    log.writing(2)
    log.writing(3)  # of the hard state alone
    log.append(entries(4, 1))
    log.persisted(1)
    assert log.stable == 2
    log.persisted(3)
    assert log.stable == 3
    log.writing(4)
    log.persisted(4)
    assert log.stable == 4


def test_replacing_takes_back_what_was_durable_and_what_is_being_written() -> None:
    log = RaftLog(log_of(1, 1))
    log.append(entries(3, 1, 1))
    log.writing(1)
    log.append(entries(2, 2))
    assert (log.last_index, log.stable) == (2, 1)
    log.writing(2)
    log.persisted(1)
    assert log.stable == 1
    log.persisted(2)
    assert log.stable == 2


def test_an_entry_that_comes_back_waits_for_its_own_write() -> None:
    """ABA: same index, same term, but the write in between may still be what a crash leaves."""
    log = RaftLog(log_of(1))
    for sequence, terms in ((1, (2,)), (2, (3,)), (3, (2, 4))):
        log.append(entries(2, *terms))
        log.writing(sequence)
    log.persisted(1)
    assert log.stable == 1
    log.persisted(2)
    assert log.stable == 1
    log.persisted(3)
    assert log.stable == 3


def test_stable_is_what_a_crash_would_leave_in_random_histories() -> None:
    """``stable`` never claims more than every prefix of the open writes leaves unharmed."""
    for seed in range(300):
        chance = random.Random(seed)
        log, memory, disk = RaftLog(), list[Entry](), list[Entry]()
        pending: list[tuple[int, list[Entry]]] = []
        for sequence in range(1, 30):
            first = chance.randint(max(1, len(memory) - 2), len(memory) + 1)
            batch = entries(first, *[chance.randint(1, 3) for _ in range(chance.randint(1, 3))])
            log.append(batch)
            log.writing(sequence)
            memory[first - 1 :] = batch
            pending.append((sequence, batch))
            for _ in range(chance.randint(0, min(2, len(pending)))):
                done, written = pending.pop(0)
                disk[written[0].index - 1 :] = written
                log.persisted(done)
            survivor = list(disk)
            assert survivor[: log.stable] == memory[: log.stable]
            for _, written in pending:
                survivor[written[0].index - 1 :] = written
                assert survivor[: log.stable] == memory[: log.stable]
        assert log.stable <= log.last_index == len(memory)


def test_up_to_date_is_an_order_of_pairs() -> None:
    log = RaftLog(log_of(1, 2, 2))
    for index in range(6):
        for term in range(5):
            longer_or_later = term > 2 or (term == 2 and index >= 3)
            assert log.is_up_to_date(index, term) == longer_or_later


def test_agreement_before_is_the_naive_maximum() -> None:
    for terms in ((), (1,), (1, 1, 2), (1, 2, 2, 4, 4, 7)):
        log = RaftLog(log_of(*terms))
        for index in range(9):
            for term in range(9):
                naive = max(i for i in range(min(index, len(terms)) + 1) if i == 0 or terms[i - 1] <= term)
                assert log.agreement_before(index, term) == naive


def test_two_logs_find_their_agreement_in_one_round_trip_per_term() -> None:
    """Both sides' hints together (5.3, at its end): never below the true agreement, and quickly there."""
    for seed in range(200):
        chance = random.Random(seed)
        common = sorted(chance.choices(range(1, 4), k=chance.randint(0, 10)))
        theirs = common + sorted(chance.choices((4, 6, 8), k=chance.randint(0, 30)))
        ours = common + sorted(chance.choices((5, 7, 9), k=chance.randint(1, 30)))
        leader, follower = RaftLog(log_of(*ours)), RaftLog(log_of(*theirs))
        prev, trips = leader.last_index, 0
        while not follower.matches(prev, leader.term_at(prev) or 0):
            hint = follower.agreement_before(prev, leader.term_at(prev) or 0)
            found = leader.agreement_before(hint, follower.term_at(hint) or 0)
            assert len(common) <= found < prev
            prev, trips = found, trips + 1
        assert trips <= 6


def test_compaction_keeps_sizes_terms_and_configurations_of_what_stays() -> None:
    log = RaftLog(
        [
            Entry(1, 1, b"x" * 10),
            configuration_entry(2, 1, founding((1, 2))),
            Entry(3, 2, b"x" * 5),
            configuration_entry(4, 2, founding((1,))),
            Entry(5, 2, b"x" * 3),
        ],
        Base(configuration=founding((1, 2, 3))),
    )
    assert log.compact(3) == Base(3, 2, founding((1, 2)), 2)
    assert log.bytes_between(5, 5) == 3
    assert log.bytes_between(1, 3) == 0
    assert log.bytes_between(4, 5) == len(log.slice(4, 4)[0].payload) + 3
    log.append([Entry(6, 2, b"x" * 7)])
    assert log.bytes_between(5, 6) == 10
    assert log.agreement_before(6, 1) == 2
    assert log.agreement_before(6, 2) == 6
    assert (log.configuration, log.configuration_index) == (founding((1,)), 4)
    log.append([Entry(4, 3, b"")])
    assert (log.configuration, log.configuration_index) == (founding((1, 2)), 2)
