"""Workers that follow, ours and the peer's, and the server that they log in to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from optio_agents.testing.proxy import FaultProxy
from tests.bench import Measure
from tests.bench.ground import Ground, ground
from tests.bench.peers import Worker, our_python, worker

SIDE = Path(__file__).parent / "sides/follow.py"


@asynccontextmanager
async def sides(delay: float = 0.0) -> AsyncIterator[tuple[Worker, Worker, Ground]]:
    """Ours, the peer's, and where they meet; with *delay*, behind so many seconds each way."""
    with ground() as place:
        async with (
            FaultProxy(place.server.host, place.server.port, delay=delay) as proxy,
            _workers(place, proxy.port if delay else None) as (ours, peer),
        ):
            yield ours, peer, place


@asynccontextmanager
async def _workers(place: Ground, port: int | None) -> AsyncIterator[tuple[Worker, Worker]]:
    arguments = [*place.arguments(port), place.server.tag]
    async with (
        worker(our_python(), SIDE, *arguments) as ours,
        worker(our_python(), SIDE, *arguments) as peer,
    ):
        yield ours, peer


def asking(side: Worker) -> Callable[..., Measure]:
    """Makes measures of words: what `sides.follow` is asked."""

    def measure(*words: object) -> Measure:
        return lambda: side.round(" ".join(map(str, words)))

    return measure
