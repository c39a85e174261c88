"""Crews, and how much of everything there is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.stress.faults import Fault, Tally
from tests.stress.plans import Plan, Work


@dataclass(frozen=True)
class Scale:
    """How many, and how long; seconds, but for the first two."""

    local: int
    ssh: int
    within: float  # what only a hang takes
    quick: bool

    @property
    def lives(self) -> tuple[float, float]:
        return (2, 6) if self.quick else (30, 300)

    @property
    def starting(self) -> float:
        return 1 if self.quick else 180

    @property
    def pace(self) -> float:
        return 0.2 if self.quick else 4.0

    @property
    def quiet(self) -> tuple[float, float]:
        """From then on agents may come to their end: if everything has broken, and anyway."""
        return (5, self.within / 2) if self.quick else (300, self.within / 2)

    def deaths(self, generation: int) -> tuple[float, float]:
        """When a supervisor is due to die: the next later, so that one gets ahead at any load."""
        low, high = (2, 4) if self.quick else (25, 60)
        return low * (1 + generation / 4), high * (1 + generation / 4)

    @property
    def stopped(self) -> float:
        return 2 if self.quick else 60

    @property
    def stalled(self) -> float:
        return 1 if self.quick else 25


@dataclass
class Crew:
    """One supervisor after the other, in the same circumstances."""

    name: str
    directory: Path
    journal: Path
    work: Sequence[Work]
    deaths: Sequence[tuple[str, str]] = ()
    others: Sequence[tuple[str, str]] = ()
    prefix: Sequence[str] = ()
    ssh: dict[str, Any] | None = None
    descriptors: int | None = None
    generation: int = 0
    disk: Path | None = None  # a small one, of its task directories or of its journal
    expected: list[str] = field(default_factory=list)  # steps besides those that it is dealt
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(self.directory / "tally")

    def plan(self, run: str, ahead: Sequence[Fault]) -> Plan:
        place = str(self.directory), str(self.journal)
        return Plan(*place, run, self.work, ahead, self.ssh, self.descriptors)

    @property
    def steps(self) -> set[str]:
        """What must happen here, besides to its agents."""
        dealt = {Fault(what, step, 0).name for what, step in (*self.deaths, *self.others)}
        return dealt | set(self.expected)

    @property
    def killings(self) -> set[str]:
        endings = {work.agent["ending"] for work in self.work}
        return {f"agent {end}" for end in endings if end.startswith("killed")}

    def command(self, plan: Path) -> list[str]:
        """How its next supervisor is started."""
        # The first one lives with the usual clock; those that resume find another.
        prefix = self.prefix if self.ssh is None or self.generation else ()
        return [*prefix, sys.executable, "-m", "tests.stress.programs.supervisor", str(plan)]
