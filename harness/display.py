"""What one sees of a run while it happens: a live picture on a terminal, plain lines elsewhere, nothing if unwanted.

Theory of operation
-------------------
``run`` keeps a ``View`` of what is going on and tells a ``Display`` of three things: a new phase, an event worth a
line, and, several times a second, that it may look again. A display only reads. Everything goes to standard error;
standard output belongs to the verdict.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import trio
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.cluster import Cluster
from harness.faults.nemesis import Nemesis
from harness.observer import Observer
from harness.params import RunParams
from harness.recorder import Recorder

REFRESH_S = 0.25

EVENTS_SHOWN = 8

RATE_WINDOW_S = 1.0

FAULT_COLOUR, HEALED_COLOUR, CRASH_COLOUR = "yellow", "green", "red"
"""By name: the terminal's owner has chosen what these look like. Families have colours in the report only."""

PLAIN_LINE_EVERY_S = 5.0
"""Without a terminal: a line of progress this often."""


@dataclass
class View:
    """What is going on. Parts appear as the run builds them."""

    params: RunParams
    phase: str = "starting"
    workload_began: float | None = None  # trio's clock
    cluster: Cluster | None = None
    observer: Observer | None = None
    nemesis: Nemesis | None = None
    recorder: Recorder | None = None
    events: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=EVENTS_SHOWN))
    _counts: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def elapsed_s(self) -> float:
        """Since the workload began; 0 before."""
        return 0.0 if self.workload_began is None else trio.current_time() - self.workload_began

    def sample(self) -> None:
        """Note how many operations have completed by now."""
        if self.recorder is None:
            return
        now = trio.current_time()
        self._counts.append((now, self.recorder.operations_completed))
        while len(self._counts) > 2 and self._counts[1][0] < now - RATE_WINDOW_S:
            self._counts.popleft()

    @property
    def operations(self) -> int:
        return 0 if self.recorder is None else self.recorder.operations_completed

    @property
    def rate(self) -> float:
        """Operations per second, over the last second."""
        if len(self._counts) < 2:
            return 0.0
        (t0, n0), (t1, n1) = self._counts[0], self._counts[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0

    def node_row(self, node: int) -> tuple[str, str, str, str]:
        """State, role, term and applied index of a node, in words."""
        assert self.cluster is not None
        state = self.cluster.nodes[node].state
        seen = None if self.observer is None else self.observer.views[node]
        if seen is None or state != "up" or not seen.answers:
            return ("no answer" if state == "up" else state, "", "", "")
        return ("up", seen.role, str(seen.term), str(seen.applied_index))


class Display(Protocol):
    def phase(self, view: View) -> None:
        """A new phase has begun."""
        ...

    def event(self, view: View, text: str, colour: str) -> None:
        """Something happened; ``colour`` is one that a terminal knows by name, or empty."""
        ...

    def refresh(self, view: View) -> None:
        """Called every ``REFRESH_S``."""
        ...

    def close(self) -> None: ...


class Quiet:
    """Shows nothing."""

    def phase(self, view: View) -> None: ...

    def event(self, view: View, text: str, colour: str) -> None: ...

    def refresh(self, view: View) -> None: ...

    def close(self) -> None: ...


class PlainLines:
    """One line per phase and event, and one of progress every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_line_s = 0.0

    def phase(self, view: View) -> None:
        self._say(view, view.phase)

    def event(self, view: View, text: str, colour: str) -> None:
        self._say(view, text)

    def refresh(self, view: View) -> None:
        if view.workload_began is None or view.elapsed_s < self._next_line_s:
            return
        self._next_line_s = view.elapsed_s + PLAIN_LINE_EVERY_S
        leader = view.observer.leader() if view.observer is not None else None
        self._say(view, f"{view.operations} operations, {view.rate:.0f}/s, leader: node {leader or 'unknown'}")

    def close(self) -> None: ...

    def _say(self, view: View, text: str) -> None:
        self._console.print(f"{view.elapsed_s:6.1f} s  {text}", markup=False, highlight=False, soft_wrap=True)


class LivePicture:
    """A picture that is drawn again and again: nodes, counts, and the latest faults."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def phase(self, view: View) -> None:
        self.refresh(view)

    def event(self, view: View, text: str, colour: str) -> None:
        self.refresh(view)

    def refresh(self, view: View) -> None:
        self._live.update(self.picture(view), refresh=True)

    def close(self) -> None:
        self._live.stop()

    def picture(self, view: View) -> Group:
        """The picture as it is now."""
        params = view.params
        bug = f", planted bug: {params.bug}" if params.bug else ""
        head = Text.assemble(
            ("telegraft ", "bold"), (params.name, "bold"), f"  seed {params.seed}{bug}\n", (view.phase, "cyan")
        )
        if view.workload_began is not None:
            head.append(f"  {min(view.elapsed_s, params.duration_s):.0f} of {params.duration_s:g} s")
        counts = Text.assemble((f"{view.operations}", "bold"), " operations  ", (f"{view.rate:.0f}", "bold"), "/s")
        if view.recorder is not None:
            tallies = view.recorder.tallies.values()
            ok, fail = sum(t.ok for t in tallies), sum(t.fail for t in tallies)
            counts.append(f"   ok {ok}  not done {fail}  unknown {view.operations - ok - fail}")
        if view.observer is not None:
            counts.append(f"   leader changes {view.observer.leader_changes}")
        events = Text()
        for at_s, text, colour in view.events:
            events.append(f"{at_s:6.1f} s  ", "dim")
            events.append(f"{text}\n", colour or "")
        return Group(head, self._nodes(view), counts, events)

    def _nodes(self, view: View) -> Table:
        table = Table(box=None, pad_edge=False)
        for column in ("node", "state", "role", "term", "applied", ""):
            table.add_column(column, justify="right" if column in {"term", "applied"} else "left")
        for node in view.cluster.node_ids if view.cluster is not None else ():
            state, role, term, applied = view.node_row(node)
            hit = ", ".join(
                fault.description
                for fault in (view.nemesis.active.values() if view.nemesis is not None else ())
                if node in fault.nodes
            )
            style = "bold green" if role == "leader" else "" if state == "up" else "red"
            table.add_row(str(node), state, role, term, applied, Text(hit, FAULT_COLOUR), style=style)
        return table
