"""Snapshots, paper section 7: figure 13 by pieces, compaction, and what they race with."""

from __future__ import annotations

from typing import Any

import pytest

from impl.raft.configuration import founding
from impl.raft.core import Core
from impl.raft.errors import ProtocolViolation
from impl.raft.events import (
    ChunkStored,
    Compact,
    Effects,
    Persisted,
    Propose,
    Read,
    Receive,
    SendChunk,
    StoreChunk,
    Tick,
    Unreachable,
)
from impl.raft.messages import (
    AppendEntriesResponse,
    Base,
    Configuration,
    HardState,
    InstallSnapshot,
    InstallSnapshotResponse,
    RequestVote,
)
from impl.raft.settings import Settings
from impl.raft.tests.single import (
    acknowledge,
    answer,
    append,
    appends,
    ask,
    candidate,
    committed,
    configuration_entry,
    durable,
    entries_of,
    flushed,
    heard,
    leader,
    members,
    snapshot_answer,
    started,
    vote,
)

THREE = founding((1, 2, 3))


def base(index: int, term: int, configuration: Configuration = THREE, at: int = 0) -> Base:
    return Base(index, term, configuration, at)


def piece(
    term: int, snapshot: Base, offset: int = 0, data: bytes = b"abc", total: int = 9, *, round: int = 4, source: int = 2
) -> InstallSnapshot:
    return InstallSnapshot(0, source, 1, term, snapshot, offset, data, total, round)


def installed(core: Core, snapshot: Base, term: int = 5) -> None:
    """Node 2 leads, and has sent all of it; it is durable."""
    heard(core, piece(term, snapshot))
    core.step(ChunkStored(snapshot, 9, complete=True))
    flushed(core)


# --- figure 13, the receiver ----------------------------------------------------------------------------------------


def test_7_figure_13_1_a_piece_of_an_older_term_is_refused() -> None:
    core = started(1, term=6)
    effects = heard(core, piece(5, base(9, 4)))
    assert effects.store == []
    assert (answer(effects).term, answer(effects).success, answer(effects).round) == (6, False, 0)


def test_7_figure_13_a_piece_is_word_of_a_leader() -> None:
    core = candidate(started(1, term=3))
    heard(core, piece(7, base(9, 4)))
    assert (core.role, core.term, core.leader_id) == ("follower", 7, 2)
    with pytest.raises(ProtocolViolation, match="both lead term 7"):
        core.step(Receive(piece(7, base(9, 4), source=3)))


def test_7_figure_13_2_to_4_pieces_are_stored_where_they_belong_and_each_is_answered() -> None:
    """The answer names how much is here, durable or not; the next piece goes on from there."""
    core = started(1)
    snapshot = base(9, 4)
    effects = core.step(Receive(piece(5, snapshot, 3, b"def")))
    assert effects.store == [StoreChunk(snapshot, 3, b"def", 9)]
    assert effects.send == [], "the driver stores it first"
    durable(core, effects)
    reply = snapshot_answer(core.step(ChunkStored(snapshot, 6)))
    assert (reply.index, reply.offset, reply.done, reply.round) == (9, 6, False, 4)
    assert (core.log.last_index, core.commit_index) == (1, 0), "nothing happens before it is complete"
    again = snapshot_answer(core.step(ChunkStored(snapshot, 0)))
    assert (again.offset, again.done) == (0, False), "damaged: it starts over"


def test_7_figure_13_5_an_older_snapshot_than_what_is_committed_is_not_needed() -> None:
    core = started(1, 1, 1, applied=3)
    effects = heard(core, piece(2, base(2, 1)))
    reply = snapshot_answer(effects)
    assert (effects.store, reply.done, reply.index) == ([], True, 3)
    core.step(ChunkStored(base(2, 1), 9, complete=True))
    assert (core.log.base.index, core.commit_index) == (0, 3), "late: nothing goes back (N6)"


def test_7_figure_13_6_what_stands_behind_the_same_entry_stays() -> None:
    core = started(1, 1, 2, 2, term=5)
    effects = heard(core, piece(5, base(2, 1)))
    effects = core.step(ChunkStored(base(2, 1), 9, complete=True))
    assert effects.persist is not None
    assert (effects.persist.base, effects.persist.entries) == (base(2, 1), ())
    assert [entry.term for entry in core.log.slice(1, 9)] == [2, 2]
    assert core.log.last_index == 4
    assert effects.restore == base(2, 1), "the entries up to there are durable"


@pytest.mark.parametrize("terms", [(1,), (1, 1, 1), (1, 1, 3, 3)])
def test_7_figure_13_7_a_log_without_that_entry_is_dropped_whole(terms: tuple[int, ...]) -> None:
    """Also where there is an entry of another term at the end of the snapshot, whatever stands behind it (N7)."""
    core = started(*terms, term=5)
    heard(core, piece(5, base(3, 4)))
    core.step(ChunkStored(base(3, 4), 9, complete=True))
    assert (core.log.base, core.log.last_index, core.log.last_term) == (base(3, 4), 3, 4)
    assert core.log.slice(1, 9) == ()
    assert core.log.term_at(3) == 4
    assert not core.log.matches(4, 3)


def test_7_figure_13_8_the_state_is_replaced_before_anything_is_applied() -> None:
    """Once the snapshot is the beginning of the log on disk: the order of a crash is the order of the disk."""
    core = started(1, term=5)
    heard(core, piece(5, base(9, 4)))
    effects = core.step(ChunkStored(base(9, 4), 9, complete=True))
    assert (effects.restore, effects.apply, effects.send) == (None, [], [])
    assert core.commit_index == 9
    more = core.step(Receive(append(5, (9, 4), (5, 5), commit=11)))
    assert (more.restore, more.apply) == (None, [])
    assert effects.persist is not None
    after = core.step(Persisted(effects.persist.sequence))
    assert (after.restore, after.apply) == (base(9, 4), [])
    reply = snapshot_answer(after)
    assert (reply.done, reply.index) == (True, 9)
    last = durable(core, more)
    assert last.restore is None
    assert [entry.index for entry in last.apply] == [10, 11]


def test_7_figure_13_8_the_configuration_comes_with_the_snapshot() -> None:
    """In force from then on, and out of force what stood in the entries that went (N8)."""
    five = founding((1, 2, 3, 4, 5))
    core = started(entries=[*entries_of(1), configuration_entry(2, 1, founding((1, 2)))], term=5)
    heard(core, piece(5, base(9, 4, five, 7)))
    effects = core.step(ChunkStored(base(9, 4, five, 7), 9, complete=True))
    assert effects.configuration == core.configuration == five
    assert core.configuration_index == 7
    assert core.log.base_at(9) == base(9, 4, five, 7)


def test_7_a_configuration_that_was_dropped_at_the_same_index_is_news() -> None:
    """Two leaders wrote one each at this index; that of the snapshot is the committed one."""
    other = founding((1, 2, 3, 4))
    core = started(entries=[*entries_of(1), configuration_entry(2, 2, founding((1, 2)))], term=5)
    heard(core, piece(5, base(9, 4, other, 2)))
    effects = core.step(ChunkStored(base(9, 4, other, 2), 9, complete=True))
    assert effects.configuration == other


def test_7_a_configuration_behind_the_snapshot_stays_in_force() -> None:
    later = founding((1, 2))
    core = started(entries=[*entries_of(1, 1), configuration_entry(3, 1, later)])
    heard(core, piece(5, base(2, 1)))
    effects = core.step(ChunkStored(base(2, 1), 9, complete=True))
    assert effects.configuration is None
    assert (core.configuration, core.configuration_index) == (later, 3)


def test_7_a_snapshot_never_lowers_the_term() -> None:
    """Its last entry is of an older term than the one in which it comes (N3)."""
    core = started(1, term=8)
    installed(core, base(9, 2), term=8)
    assert (core.term, core.log.last_term) == (8, 2)
    core.step(Receive(append(8, (9, 2), (8,), commit=10)))
    flushed(core)
    assert core.released_index == 10


# --- races -----------------------------------------------------------------------------------------------------------


def test_7_a_snapshot_that_is_complete_after_its_leader_is_gone_is_installed_and_not_answered() -> None:
    core = started(1)
    heard(core, piece(5, base(9, 4)))
    heard(core, append(6, (1, 1), source=3))
    effects = core.step(ChunkStored(base(9, 4), 9, complete=True))
    assert core.log.base.index == 9, "what is in it is committed whoever leads"
    assert effects.send == []
    assert durable(core, effects).send == [], "the answer is not for this term"


def test_7_a_leader_installs_nothing() -> None:
    """It has all of it; a piece from when it followed comes late."""
    core = started(1)
    heard(core, piece(5, base(9, 4)))
    for _ in range(20):
        core.step(Tick(0))
    core = leader(core)
    last = core.log.last_index
    effects = core.step(ChunkStored(base(9, 4), 9, complete=True))
    assert (effects.persist, effects.send, core.log.last_index) == (None, [], last)


def test_7_appends_overtake_the_snapshot() -> None:
    """What they bring is committed by the time the snapshot is complete: it is not needed any more."""
    core = started(1)
    heard(core, piece(5, base(3, 1)))
    heard(core, append(5, (1, 1), (1, 1, 5), commit=4))
    effects = core.step(ChunkStored(base(3, 1), 9, complete=True))
    assert (effects.persist, effects.restore, core.log.base.index) == (None, None, 0)
    reply = snapshot_answer(effects)
    assert (reply.done, reply.index) == (True, 4)


def test_7_a_write_of_the_dropped_log_confirms_nothing_of_the_snapshot() -> None:
    core = started(1)
    first = core.step(Receive(append(5, (1, 1), tuple([5] * 12)))).persist
    second = core.step(Receive(piece(6, base(9, 4)))).persist
    third = core.step(ChunkStored(base(9, 4), 9, complete=True)).persist
    assert first is not None
    assert second is not None
    assert third is not None
    for sequence in (first.sequence, second.sequence):
        effects = core.step(Persisted(sequence))
        assert core.log.stable < 9
        assert (effects.restore, effects.apply) == (None, [])
    assert core.step(Persisted(third.sequence)).restore == base(9, 4)
    assert core.log.stable == 9


def test_7_a_newer_snapshot_overtakes_an_older_one() -> None:
    """The newer arrives before the older is on the disk: only the newer replaces the state."""
    core = started(1)
    heard(core, piece(5, base(9, 4)))
    first = core.step(ChunkStored(base(9, 4), 9, complete=True))
    core.step(Receive(piece(5, base(20, 4))))
    second = core.step(ChunkStored(base(20, 4), 9, complete=True))
    assert durable(core, first).restore is None
    assert durable(core, second).restore == base(20, 4)
    assert core.released_index == 20


def test_7_votes_and_elections_count_the_entry_in_the_snapshot() -> None:
    """A log that is nothing but a snapshot ends with its index and term (N4)."""
    core = started(1)
    installed(core, base(9, 4))
    for _ in range(10):
        core.step(Tick(9))
    assert not vote(heard(core, ask(6, (8, 4)))).granted
    assert vote(heard(core, ask(7, (9, 4)))).granted
    restarted = Core(Settings(1), HardState(7, 0), (), 9, base(9, 4), base(9, 4))
    asked = [m for _ in range(10) for m in restarted.step(Tick(0)).send]
    assert asked == [RequestVote(0, 1, peer, 8, 9, 4, True) for peer in (2, 3)]


# --- appends around the base ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prev", "terms", "index", "last"),
    [
        ((0, 0), (1, 1), 2, 4),
        ((0, 0), (1, 1, 2, 2), 4, 4),
        ((0, 0), (1, 1, 2, 2, 5), 5, 5),
        ((1, 1), (1, 2, 2, 5), 5, 5),
        ((2, 1), (2, 2, 5, 5), 6, 6),
        ((3, 2), (2, 5), 5, 5),
        ((3, 2), (5,), 4, 4),
    ],
)
def test_7_appends_from_before_the_base_fit_behind_it(
    prev: tuple[int, int], terms: tuple[int, ...], index: int, last: int
) -> None:
    """Nothing of what is committed is deleted for want of the entry before (N5), nothing is taken unchecked (N1)."""
    core = started(2, base=base(3, 2), term=5)
    agreed = answer(heard(core, append(5, prev, terms)))
    assert (agreed.success, agreed.index) == (True, index)
    assert core.log.last_index == last


def test_7_an_append_that_contradicts_the_base_stops_the_node() -> None:
    core = started(2, base=base(3, 2), term=5)
    with pytest.raises(ProtocolViolation, match="replace the committed entry"):
        core.step(Receive(append(5, (1, 1), (1, 4, 5))))


def test_7_nothing_matches_where_the_log_is_gone() -> None:
    core = started(2, base=base(3, 2), term=5)
    assert core.log.term_at(2) is None
    assert not core.log.matches(2, 0), "an entry that is gone is no entry of term 0 (N2)"
    refused = answer(heard(core, append(5, (5, 2), (5,))))
    assert (refused.success, refused.hint_index, refused.hint_term) == (False, 4, 2)


# --- compaction ------------------------------------------------------------------------------------------------------


def led(*, last: int = 10, **settings: Any) -> Core:
    core = committed(leader(started(**settings)), 2, 3)
    for token in range(last - core.log.last_index):
        core.step(Propose(((token, b"xy"),)))
    return committed(core, 2, 3)


def test_7_compaction_forgets_what_the_snapshot_holds() -> None:
    core = led()
    snapshot = core.base_at(8)
    effects = core.step(Compact(snapshot, 6))
    assert effects.persist is not None
    assert effects.persist.base == base(6, 1)
    assert (core.log.base.index, core.log.last_index, core.snapshot) == (6, 10, snapshot)
    assert core.step(Compact(core.base_at(7), 6)).persist is None, "an older one changes nothing"
    assert core.snapshot == snapshot
    with pytest.raises(ValueError, match="to forget the log up to 11"):
        core.step(Compact(base(11, 1), 11))
    with pytest.raises(ValueError, match="to forget the log up to 9"):
        core.step(Compact(core.base_at(8), 9))
    with pytest.raises(ValueError, match="names no voters"):
        core.step(Compact(Base(8, 1), 8))


def test_7_a_snapshot_carries_the_configuration_in_force_at_its_end() -> None:
    joint = Configuration(members(1, 2, 3), (1, 2), (1, 2, 3))
    core = started(entries=[*entries_of(1), configuration_entry(2, 1, joint), *entries_of(1, 1, after=2)], applied=3)
    assert core.base_at(1) == base(1, 1)
    assert core.base_at(2) == base(2, 1, joint, 2)
    assert core.base_at(3) == base(3, 1, joint, 2)
    with pytest.raises(ValueError, match="has not been handed out"):
        core.base_at(4)
    core.step(Compact(core.base_at(3), 3))
    assert (core.configuration, core.configuration_index) == (joint, 2)
    with pytest.raises(ValueError, match="holds 3 to 4, not 2"):
        core.base_at(2)


def test_7_a_restart_from_a_snapshot_alone() -> None:
    five = founding((1, 2, 3, 4, 5))
    core = Core(Settings(1), HardState(6, 2), (), 9, base(9, 4, five, 3), base(9, 4, five, 3))
    assert (core.configuration, core.configuration_index, core.log.last_term) == (five, 3, 4)
    assert (core.commit_index, core.released_index, core.log.stable, core.snapshot) == (9, 9, 9, base(9, 4, five, 3))
    heard(core, append(6, (9, 4), (6,), commit=10))
    assert core.released_index == 10


def test_7_what_cannot_be_is_not_started_from() -> None:
    with pytest.raises(ProtocolViolation, match="the log begins after 9: rebuild the state"):
        Core(Settings(1), HardState(6), (), 5, base(9, 4), base(9, 4))
    for snapshot in (None, base(8, 4)):
        with pytest.raises(ProtocolViolation, match="no snapshot holds what was before"):
            Core(Settings(1), HardState(6), (), 9, base(9, 4), snapshot)
    with pytest.raises(ProtocolViolation, match="remembers only term 3"):
        Core(Settings(1), HardState(3), (), 9, base(9, 4), base(9, 4))


# --- the leader's side ------------------------------------------------------------------------------------------------


def behind(**settings: Any) -> tuple[Core, SendChunk]:
    """A leader whose log begins after 8, and its first word to node 3, which has only the first entry."""
    core = committed(leader(started(snapshot_chunk_bytes=100, **settings)), 2)
    for token in range(9):
        core.step(Propose(((token, b"xy"),)))
    committed(core, 2)
    core.step(Compact(core.base_at(8), 8))
    core.step(Unreachable(3))
    effects = refused(core, core.progress[3].next - 1, 0)
    (chunk,) = effects.chunks
    return core, chunk


def refused(core: Core, index: int, hint: int) -> Effects:
    return core.step(Receive(AppendEntriesResponse(0, 3, 1, core.term, False, index, hint, 0, 1)))


def stored(core: Core, index: int, offset: int, *, done: bool = False, round: int = 1) -> Effects:
    return core.step(Receive(InstallSnapshotResponse(0, 3, 1, core.term, index, offset, done, round)))


def test_7_who_lacks_what_is_gone_gets_a_snapshot_piece_by_piece() -> None:
    core, chunk = behind()
    assert (chunk.target, chunk.term, chunk.base, chunk.offset, chunk.limit_bytes) == (3, 1, base(8, 1), 0, 100)
    assert core.statistics().peers[3].state == "snapshot"
    assert [c.offset for c in stored(core, 8, 100).chunks] == [100]
    assert stored(core, 8, 100).chunks == [], "an answer that comes twice sends nothing"
    assert core.statistics().peers[3].snapshot_offset_bytes == 100
    assert [c.offset for c in stored(core, 8, 0).chunks] == [0], "damaged there: it starts over"
    assert [c.offset for c in stored(core, 8, 700).chunks] == [700], "it has the rest from before"
    assert stored(core, 7, 300).chunks == [], "an answer about another snapshot"
    effects = stored(core, 8, 900, done=True)
    assert core.statistics().peers[3].state == "replicate"
    assert [(m.prev_log_index, len(m.entries)) for m in appends(effects, 3)] == [(8, core.log.last_index - 8)]


def test_7_one_piece_is_under_way_at_a_time_and_a_lost_one_is_sent_again() -> None:
    core, chunk = behind()
    core.step(Propose(((50, b"x"),)))
    chunks = []
    for _ in range(9):
        effects = core.step(Tick(0))
        chunks += effects.chunks
        assert all(m.entries == () and m.prev_log_index == 8 for m in appends(effects, 3)), "heartbeats go on"
        acknowledge(core, 2)
    assert chunks == []
    again = core.step(Tick(0)).chunks
    assert [(c.target, c.offset) for c in again] == [(3, chunk.offset)]


def test_7_a_member_that_does_not_answer_is_sent_no_piece_with_every_round() -> None:
    """The driver says that each piece is lost: the next begins after the next answer."""
    core, _ = behind()
    core.step(Unreachable(3))
    chunks = []
    for token in range(30):
        effects = core.step(Read((100 + token,)))
        chunks += effects.chunks
        acknowledge(core, 2)
        core.step(Unreachable(3))
    assert chunks == []
    assert len(refused(core, 8, 0).chunks) == 1


def test_7_an_append_that_fits_ends_a_snapshot_that_is_not_needed() -> None:
    core, _ = behind()
    acknowledge(core, 3, 8)
    assert core.statistics().peers[3].state == "replicate"


def test_7_a_log_that_is_compacted_further_meanwhile_takes_a_newer_snapshot() -> None:
    core, _ = behind()
    core.step(Compact(core.base_at(10), 10))
    effects = stored(core, 8, 900, done=True)
    assert [(c.base.index, c.offset) for c in effects.chunks] == [(10, 0)]
    assert core.progress[3].match == 8


def test_7_pieces_confirm_leadership_like_appends() -> None:
    core, _ = behind()
    core.step(Read((5,)))
    assert core.leader is not None
    assert [r.token for r in stored(core, 8, 100, round=core.leader._round).reads] == [5]


def test_7_a_late_done_never_lowers_what_is_known() -> None:
    core = led()
    core.step(Compact(core.base_at(8), 8))
    match = core.progress[3].match
    stored(core, 4, 900, done=True)
    assert core.progress[3].match == match
    stored(core, 99, 900, done=True)
    assert core.progress[3].match == core.log.last_index, "no more than there is"


def test_7_messages_of_other_terms_move_no_snapshot() -> None:
    core, _ = behind()
    late = InstallSnapshotResponse(0, 3, 1, core.term - 1, 8, 100, False, 1)
    assert core.step(Receive(late)).chunks == []
    core.step(Receive(InstallSnapshotResponse(0, 3, 1, core.term + 1, 8, 100, False, 1)))
    assert core.role == "follower"


def test_7_a_compacted_leader_finds_agreement_or_sends_a_snapshot() -> None:
    """Before its base nothing can be compared: even a member with an entry at the base, of another term, needs it."""
    core = led()
    core.step(Compact(core.base_at(8), 8))
    core.step(Unreachable(3))
    effects = core.step(Receive(AppendEntriesResponse(0, 3, 1, core.term, False, core.progress[3].next - 1, 8, 0, 1)))
    assert core.progress[3].match == 10
    assert effects.chunks == [], "3 has everything: an old refusal says nothing"
    _, chunk = behind()
    assert chunk.base.index == 8


def test_7_a_driver_that_has_nothing_to_send_is_asked_once_more_after_an_answer() -> None:
    core, _ = behind()
    core.step(Compact(core.base_at(9), 9))
    core.step(Unreachable(3))
    assert core.statistics().peers[3].state == "probe"
    assert [c.base.index for c in refused(core, 9, 0).chunks] == [9], "the newer one"


def test_7_what_another_has_at_the_base_of_another_term_is_no_agreement() -> None:
    """Its word of an older term there is enough: only the snapshot helps, and nothing is asked once more."""
    core, _ = behind()
    assert core.log.agreement_before(8, 0) == 7
    assert core.log.agreement_before(9, 0) == 7
    assert core.log.agreement_before(8, 1) == 8


def test_7_an_append_across_the_base_of_an_empty_log() -> None:
    """What stands behind the base is taken from its first entry on."""
    core = started(base=base(3, 2), term=5)
    agreed = answer(heard(core, append(5, (1, 1), (1, 2, 5, 5))))
    assert (agreed.success, agreed.index) == (True, 5)
    assert [entry.index for entry in core.log.slice(0, 9)] == [4, 5]
