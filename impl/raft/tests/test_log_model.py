"""The log, and a leader's windows, against models too naive to be wrong, in histories that Hypothesis looks for.

The model of a log is a list that is never indexed cleverly, and a disk: what every batch that is out would leave
there. ``stable`` may claim an index only if no order of completions that is still possible takes it back.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from impl.raft.configuration import configuration_of, founding
from impl.raft.log import RaftLog
from impl.raft.messages import Base, Configuration, Entry
from impl.raft.progress import Progress
from impl.raft.tests.single import configuration_entry

GROUPS = [founding(range(1, size + 1)) for size in range(1, 6)]


class LogModel(RuleBasedStateMachine):
    """A follower's log: what leaders append and replace, batches that become durable, compaction, installation."""

    def __init__(self) -> None:
        super().__init__()
        self.log = RaftLog((), Base(configuration=GROUPS[2]))
        self.base = self.log.base
        self.memory: list[Entry] = []
        self.disk: tuple[Base, list[Entry]] = (self.base, [])
        self.out: list[tuple[int, Base | None, tuple[Entry, ...]]] = []
        self.sequence = 0
        self.term = 1
        self.kept = 0  # what is committed, and so neither cut nor dropped

    def hand_over(self, base: Base | None, entries: tuple[Entry, ...]) -> None:
        self.sequence += 1
        self.log.writing(self.sequence)
        self.out.append((self.sequence, base, entries))

    @staticmethod
    def replay(
        state: tuple[Base, list[Entry]], base: Base | None, entries: tuple[Entry, ...]
    ) -> tuple[Base, list[Entry]]:
        begin, held = state[0], list(state[1])
        if base is not None:
            fits = any((e.index, e.term) == (base.index, base.term) for e in held)
            begin, held = base, [e for e in held if fits and e.index > base.index]
        if entries:
            held = [e for e in held if e.index < entries[0].index] + list(entries)
        return begin, held

    @property
    def last(self) -> int:
        return self.memory[-1].index if self.memory else self.base.index

    @initialize(terms=st.lists(st.integers(1, 3), max_size=4))
    def recover(self, terms: list[int]) -> None:
        self.memory = [Entry(i, term, b"x" * i) for i, term in enumerate(sorted(terms), 1)]
        self.term = max([1, *terms])
        self.disk = (self.base, list(self.memory))
        self.log = RaftLog(tuple(self.memory), self.base)

    @rule(
        back=st.integers(0, 4),
        sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4),
        news=st.integers(0, 2),
        group=st.none() | st.sampled_from(GROUPS),
    )
    def append(self, back: int, sizes: list[int], news: int, group: Configuration | None) -> None:
        first = max(self.last + 1 - back, self.kept + 1, self.base.index + 1)
        before = self.log.configuration
        at = self.log.configuration_index
        if first <= self.last:
            self.term += 1  # another leader
        self.term += news
        entries = tuple(Entry(first + i, self.term, b"x" * size) for i, size in enumerate(sizes))
        if group is not None:
            entries = (configuration_entry(first, self.term, group), *entries[1:])
        said = self.log.append(entries)
        self.memory = [e for e in self.memory if e.index < first] + list(entries)
        assert said == (self.log.configuration_index != at or group is not None)
        assert said or self.log.configuration == before
        self.hand_over(None, entries)

    @precondition(lambda self: self.out)
    @rule(count=st.integers(1, 3))
    def complete(self, count: int) -> None:
        sequence = 0
        for _ in range(min(count, len(self.out))):
            sequence, base, entries = self.out.pop(0)
            self.disk = self.replay(self.disk, base, entries)
        self.log.persisted(sequence)

    @rule(share=st.integers(0, 3))
    def commit(self, share: int) -> None:
        self.kept = max(self.kept, min(self.log.stable, self.base.index + share))

    @precondition(lambda self: self.kept > self.base.index and self.log.stable >= self.kept)
    @rule(back=st.integers(0, 2))
    def compact(self, back: int) -> None:
        index = max(self.kept - back, self.base.index + 1)
        expected = self.naive_base(index)
        assert self.log.compact(index) == expected
        self.base, self.memory = expected, [e for e in self.memory if e.index > index]
        self.hand_over(expected, ())

    @rule(ahead=st.integers(1, 6), fits=st.booleans(), group=st.sampled_from(GROUPS))
    def install(self, ahead: int, fits: bool, group: Configuration) -> None:
        index = max(self.kept, self.base.index) + ahead
        held = next((e for e in self.memory if e.index == index), None)
        if held is not None and fits:
            base = self.naive_base(index)
        else:
            self.term += 1
            base = Base(index, self.term, group, index)
        assert self.log.install(base) == (held is not None and fits)
        self.memory = [e for e in self.memory if held is not None and fits and e.index > index]
        self.base, self.kept = base, index
        self.hand_over(base, ())

    def naive_base(self, index: int) -> Base:
        term = next((e.term for e in self.memory if e.index == index), self.base.term)
        found = (self.base.configuration_index, self.base.configuration)
        for at, configuration in self.naive_configurations():
            if at <= index:
                found = (at, configuration)
        return Base(index, term, found[1], found[0])

    def naive_configurations(self) -> list[tuple[int, Configuration]]:
        found = [(e.index, configuration_of(e)) for e in self.memory]
        return [(index, configuration) for index, configuration in found if configuration is not None]

    @invariant()
    def same_as_the_list(self) -> None:
        log, base = self.log, self.base
        assert (log.base, log.last_index) == (base, self.last)
        assert log.last_term == (self.memory[-1].term if self.memory else base.term)
        assert log.slice(0, self.last + 3) == tuple(self.memory)
        terms = {e.index: e.term for e in self.memory} | {base.index: base.term}
        for index in range(self.last + 3):
            assert log.term_at(index) == terms.get(index)
            assert log.slice(index, index + 1) == tuple(e for e in self.memory if index <= e.index <= index + 1)
            for last in (index - 1, index, index + 2, self.last + 2):
                naive = sum(len(e.payload) for e in self.memory if index <= e.index <= last)
                assert log.bytes_between(index, last) == naive
        if base.index in terms and self.memory:
            assert log.base_at(self.last) == self.naive_base(self.last)
        latest = [(base.configuration_index, base.configuration), *self.naive_configurations()][-1]
        assert (log.configuration_index, log.configuration) == latest

    @invariant()
    def agreement_is_the_naive_maximum(self) -> None:
        terms = {e.index: e.term for e in self.memory} | {self.base.index: self.base.term}
        for index in range(self.base.index + 1, self.last + 3):
            for term in range(self.term + 2):
                fitting = [i for i in terms if i <= index and terms[i] <= term]
                naive = max(fitting) if fitting else max(self.base.index - 1, 0)
                assert self.log.agreement_before(index, term) == naive
        for index in range(self.base.index + 1):
            assert self.log.agreement_before(index, self.term) == index, "not here: a snapshot helps"

    @invariant()
    def stable_survives_every_crash(self) -> None:
        """Whatever part of the open batches completes, in order: what ``stable`` claims is there and is the same."""
        stable = self.log.stable
        claimed = [e for e in self.memory if e.index <= stable]
        state = self.disk
        outcomes = [state]
        for _, base, entries in self.out:
            state = self.replay(state, base, entries)
            outcomes.append(state)
        for begin, held in outcomes:
            for entry in claimed:
                assert entry in held or entry.index <= begin.index
        if not self.out:
            assert stable == self.last, "nothing is open: all of it is durable"
        assert outcomes[-1] == (self.base, self.memory), "and in the end the disk holds what memory holds"


def test_the_log_is_a_list_and_a_disk() -> None:
    run_state_machine_as_test(
        LogModel, settings=settings(max_examples=60, stateful_step_count=25, deadline=None, derandomize=True)
    )


@given(
    st.integers(1, 4),
    st.integers(1, 60),
    st.lists(
        st.tuples(st.sampled_from(["send", "send", "success", "refusal", "lost", "heartbeat"]), st.integers(0, 40)),
        max_size=50,
    ),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_windows_in_messages_and_bytes_against_a_recount(window: int, limit: int, acts: list[tuple[str, int]]) -> None:
    progress = Progress(5, window, limit)
    flying: list[tuple[int, int]] = []
    matched = 0
    for act, number in acts:
        if act == "send" and progress.may_send:
            last = progress.next + number % 3
            if progress.replicating:
                flying.append((last, number))
            progress.sent(last, number)
        elif act == "heartbeat":
            progress.sent(progress.next - 1)
        elif act == "success":
            index = min(number, progress.next - 1)
            news = progress.succeeded(index)
            assert news == (index > matched)
            matched = max(matched, index)
            flying = [out for out in flying if out[0] > index]
        elif act == "refusal":
            if progress.rejected(number, number // 2):
                flying = []
        elif act == "lost":
            progress.lost()
        if not progress.replicating:
            flying = []
        statistics = progress.statistics()
        assert statistics.in_flight_appends == len(flying)
        assert statistics.in_flight_bytes == sum(size for _, size in flying)
        assert (progress.match, progress.next > matched) == (matched, True)
        if progress.replicating:
            assert progress.may_send == (len(flying) < window and sum(size for _, size in flying) < limit)
