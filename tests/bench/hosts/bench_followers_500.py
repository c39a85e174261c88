"""Five hundred files followed on one event loop, and one."""

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
                title="append to event, 500 local followers",
                ours=asking(many)("latency", "local", 500, count),
                peer=asking(one)("latency", "local", 1, count),
                peer_name="one follower",
                figures=[Figure("ms, p50", ratio_at_most=1.25), Figure("ms, p99")],
            ),
            Comparison(
                title="500 local followers, idle",
                ours=idle(many, "local", 500, quick=quick),
                figures=[
                    Figure("% of a core here", at_most=0.5),
                    Figure("threads more", at_most=0),
                    Figure("processes more", at_most=0),
                ],
            ),
        ]
