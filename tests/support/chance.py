"""Random suites: how long they run, with which seed, and what they hit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import settings

EXAMPLES_PER_ROUND = 10  # for Hypothesis, whose rounds are short


@dataclass(slots=True)
class Chance:
    """One test's dice; what it hits goes into the summary of the run."""

    seed: int
    rounds: int
    random: random.Random
    hits: Counter[str] = field(default_factory=Counter)

    def hit(self, step: str) -> None:
        self.hits[step] += 1

    def __str__(self) -> str:
        hits = ", ".join(f"{step} {count}" for step, count in sorted(self.hits.items()))
        return f"--seed {self.seed} --rounds {self.rounds}, hit: {hits or 'nothing named'}"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("random suites")
    group.addoption("--rounds", type=int, default=10, help="how long they run (release: 200)")
    group.addoption("--seed", type=int, help="repeat the run that printed this seed")


def pytest_configure(config: pytest.Config) -> None:
    examples = EXAMPLES_PER_ROUND * config.getoption("--rounds")
    settings.register_profile("rounds", max_examples=examples, deadline=None, print_blob=True)
    settings.load_profile("rounds")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How many rounds a random test runs."""
    chosen: int = request.config.getoption("--rounds")
    return chosen


@pytest.fixture
def chance(request: pytest.FixtureRequest, rounds: int) -> Iterator[Chance]:
    """Dice whose seed is told, and a tally of what was hit."""
    seed = request.config.getoption("--seed")
    if seed is None:
        seed = random.SystemRandom().getrandbits(32)
    dice = Chance(seed, rounds, random.Random(seed))
    yield dice
    request.node.user_properties.append(("chance", str(dice)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = [
        f"{report.nodeid}: {value}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "teardown"
        for name, value in report.user_properties
        if name == "chance"
    ]
    if told:
        terminalreporter.section("random suites")
        terminalreporter.write("\n".join(told) + "\n")
