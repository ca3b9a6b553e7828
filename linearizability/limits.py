"""The bounds of a check: time and memory.

Theory of operation
-------------------
Deciding linearizability is NP-complete, so every check has bounds, and a check that reaches one ends with the verdict
``unknown``. One ``Limits`` object is shared by everything that one check does. The engine reports what it does by
``tick`` (a call of the model) and ``claim`` (a configuration to be remembered); either raises ``Exhausted`` as soon as
a bound is reached. What cannot be interrupted is a single call of the model that does not come back.

Time enters as a function, so that tests advance it by hand.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_CONFIGURATIONS = 2_000_000
"""How many configurations one check remembers: under 1 GB, at the 400 bytes that each was measured to take on a
key-value history (its dictionary entry, its share of the trail, of the states and of the memoised steps). A model with
large states needs more for each, and its users may want a lower cap."""

CONFIGURATIONS_PER_CLOCK_READING = 128
"""Between two readings of the clock the search visits so many configurations, each a few microseconds of work when
no step of the model is called (which reads the clock by itself)."""


class Exhausted(Exception):
    """A bound was reached; the message says which, in words that complete "the check ended because"."""


class Limits:
    """Counts configurations and watches the clock. ``deadline_s`` is counted from the creation of this object."""

    def __init__(
        self,
        clock: Callable[[], float],
        deadline_s: float | None = None,
        max_configurations: int = MAX_CONFIGURATIONS,
    ) -> None:
        self.clock = clock
        self.started_s = clock()
        self.deadline_s = deadline_s
        self.max_configurations = max_configurations
        self.configurations = 0

    def elapsed_s(self) -> float:
        return self.clock() - self.started_s

    def remaining_s(self) -> float | None:
        """What is left of the deadline, never negative; None if there is none."""
        if self.deadline_s is None:
            return None
        return max(0.0, self.deadline_s - self.elapsed_s())

    def tick(self) -> None:
        """Read the clock. Raises ``Exhausted`` at the deadline."""
        if self.deadline_s is not None and self.elapsed_s() >= self.deadline_s:
            raise Exhausted(f"the deadline of {self.deadline_s:g} s had come")

    def claim(self) -> None:
        """Account for one more configuration. Raises ``Exhausted`` at the deadline or at the cap."""
        self.configurations += 1
        if self.configurations % CONFIGURATIONS_PER_CLOCK_READING == 0:
            self.tick()
        if self.configurations > self.max_configurations:
            raise Exhausted(f"the cap of {self.max_configurations} configurations was reached")

    def within(self, max_configurations: int) -> Limits:
        """Limits for a part of the work: the same clock and end, and at most so many configurations of its own."""
        part = Limits(self.clock, None, max_configurations)
        part.started_s = self.started_s
        part.deadline_s = self.deadline_s
        return part
