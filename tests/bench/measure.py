"""Rounds of measurements, ours and the peer's in turns, and what came out of them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import walk_packages
from statistics import median

import anyio

import tests.bench
from tests.bench import Comparison, Figure, Measure, Unavailable

PREFIX = "bench_"


@dataclass(slots=True)
class Row:
    """One figure of one comparison, with every round's value."""

    benchmark: str
    title: str
    figure: Figure
    peer_name: str
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        below = median(self.peer) if self.peer else 0
        return median(self.ours) / below if below else None

    @property
    def bars(self) -> list[str]:
        return [text for text, _ in self._bars()]

    @property
    def missed(self) -> list[str]:
        return [text for text, holds in self._bars() if not holds]

    def _bars(self) -> Iterator[tuple[str, bool]]:
        figure, ours, ratio = self.figure, median(self.ours), self.ratio
        if figure.at_most is not None:
            yield f"≤ {figure.at_most:g}", ours <= figure.at_most
        if figure.at_least is not None:
            yield f"≥ {figure.at_least:g}", ours >= figure.at_least
        if figure.ratio_at_most is not None:
            yield (
                f"≤ {figure.ratio_at_most:g}x",
                ratio is not None and ratio <= figure.ratio_at_most,
            )
        if figure.ratio_at_least is not None:
            yield (
                f"≥ {figure.ratio_at_least:g}x",
                ratio is not None and ratio >= figure.ratio_at_least,
            )


@dataclass(slots=True)
class Results:
    """What all benchmarks gave."""

    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


def names(*, asked: bool = True) -> list[str]:
    """The benchmarks there are; not *asked* for, without those that install what is published."""
    return sorted(n for n, module in modules().items() if asked or ".published." not in module)


def modules() -> dict[str, str]:
    """The full name of each benchmark's module."""
    found = walk_packages(tests.bench.__path__, "tests.bench.")
    modules = ((module.name.rpartition(".")[2], module.name) for module in found)
    return {last.removeprefix(PREFIX): name for last, name in modules if last.startswith(PREFIX)}


def run(chosen: Iterable[str], *, quick: bool, rounds: int, within: float) -> Results:
    """Run *chosen* one after the other; none of them can spoil another."""
    results = Results()
    for name in chosen:
        try:
            results.rows += anyio.run(_benchmark, name, quick, rounds, within)
        except Unavailable as reason:
            results.left_out[name] = str(reason)
            if os.environ.get("CI") == "true":
                results.broken[name] = f"missing with CI=true: {reason}"
        except Exception:  # told in the report, and the command fails
            results.broken[name] = traceback.format_exc()
    return results


async def _benchmark(name: str, quick: bool, rounds: int, within: float) -> list[Row]:
    module = import_module(modules()[name])
    with anyio.fail_after(within):
        async with module.benchmark(quick) as comparisons:
            measured = [(comparison, _rows(name, comparison)) for comparison in comparisons]
            for number in range(rounds):
                for comparison, rows in measured:
                    await _round(number, comparison, rows)
    return [row for _, rows in measured for row in rows]


def _rows(name: str, comparison: Comparison) -> list[Row]:
    title, peer_name = comparison.title, comparison.peer_name
    return [Row(name, title, figure, peer_name) for figure in comparison.figures]


async def _round(number: int, comparison: Comparison, rows: list[Row]) -> None:
    sides: list[tuple[Measure, str]] = [(comparison.ours, "ours")]
    if comparison.peer is not None:
        sides.append((comparison.peer, "peer"))
    for measure, side in reversed(sides) if number % 2 else sides:
        values: Mapping[str, float] = await measure()
        for row in rows:
            getattr(row, side).append(values[row.figure.name])
