"""Cuts between nodes close exactly the valves through which one node speaks to another."""

from __future__ import annotations

from harness.links import Links
from harness.proxy import Direction

F, B = Direction.FORWARD, Direction.BACKWARD


def closed(links: Links) -> set[tuple[str, Direction]]:
    return {
        (link.name, direction) for link in links.every for direction, valve in link.valves.items() if not valve.is_open
    }


def three() -> Links:
    nowhere = dict.fromkeys((1, 2, 3), ("127.0.0.1", 1))
    return Links(nowhere, nowhere)


def test_a_one_way_cut_stops_what_one_node_says_to_another_on_either_connection() -> None:
    links = three()
    links.cut("fault", [(1, 2)])
    assert closed(links) == {("1->2", F), ("2->1", B)}


def test_isolation_is_all_ordered_pairs_and_leaves_clients_alone() -> None:
    links = three()
    links.cut("fault", [(1, 2), (1, 3), (2, 1), (3, 1)])
    assert closed(links) == {(f"{i}->{j}", d) for i, j in ((1, 2), (2, 1), (1, 3), (3, 1)) for d in (F, B)}


def test_healing_undoes_the_cuts_of_one_holder_only() -> None:
    links = three()
    links.cut("one", [(1, 2)])
    links.cut("other", [(1, 2), (2, 3)])
    links.cut_clients("one", [3], (B,))
    links.heal("one", reset=False)
    assert closed(links) == {("1->2", F), ("2->1", B), ("2->3", F), ("3->2", B)}
    links.heal("other", reset=True)
    assert closed(links) == set()
