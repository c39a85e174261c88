"""How fast: every figure measured against its peer, interleaved in one run.

    python -m tests.bench                   everything, five rounds; .bench/report.md and .json
    python -m tests.bench parse import      only these
    python -m tests.bench teams             beside published teams: only when named
    python -m tests.bench --quick           small and unjudged: fails only if a benchmark breaks

To add one, write a module ``bench_NAME.py`` in ``hosts`` or ``sessions`` with one function; nothing
else is to be done::

    @asynccontextmanager
    async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
        async with worker(ours_python(), SIDE) as ours, worker(peer_python(PEER), SIDE) as peer:
            yield [
                Comparison(
                    title="parse a line of the mixed corpus",
                    ours=ours.round,
                    peer=peer.round,
                    peer_name="optio-agents 0.3.0",
                    figures=[Figure("lines/s", ratio_at_least=2.0)],
                )
            ]

What it sets up lasts for all rounds. A round calls `ours` and `peer` once each, in turns; each
gives one number per figure, by the figure's name. So one run may give several figures (time,
memory, wake-ups), and a measurement should be long enough to mean something, yet leave a round
below five seconds (quick: one second). Time the work, not the preparation; take medians or
percentiles inside a measurement where single events are what counts.

A side that must not share our interpreter, such as a published package in its own virtual
environment, is a `worker` (see `tests.bench.peers`). `Unavailable` says that a part is missing:
its benchmark is left out with the reason, and breaks if CI=true.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

Measure = Callable[[], Awaitable[Mapping[str, float]]]


class Unavailable(Exception):
    """Something that the benchmark needs is not on this machine."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What is measured and its bar; ratios are ours to the peer's, `at_…` are in the unit."""

    name: str
    ratio_at_most: float | None = None
    ratio_at_least: float | None = None
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two ways to do the same, or one way and its bar."""

    title: str
    ours: Measure
    figures: Sequence[Figure]
    peer: Measure | None = None
    peer_name: str = ""
