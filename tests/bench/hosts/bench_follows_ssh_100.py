"""A hundred files of one SSH host followed at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench import Comparison, Figure
from tests.bench.follow_ground import asking, idle, sides


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count = 50 if quick else 500
    async with sides() as (many, one, _):
        yield [
            Comparison(
                title="append to event, 100 follows on one SSH host",
                ours=asking(many)("latency", "ssh", 100, count),
                peer=asking(one)("latency", "ssh", 1, count),
                peer_name="one follow",
                figures=[Figure("ms, p50"), Figure("ms, p99")],
            ),
            Comparison(
                title="100 follows on one SSH host, idle",
                ours=idle(many, "ssh", 100, quick=quick),
                figures=[
                    Figure("% of a core here", at_most=0.5),
                    Figure("% of a core there", at_most=0.5),
                    Figure("processes there", at_most=1),
                ],
            ),
        ]
