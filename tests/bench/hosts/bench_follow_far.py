"""From an append on a host that is 20 ms away to the line in ours: what a person's line is like."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench import Comparison, Figure
from tests.bench.follow_ground import asking, sides

ONE_WAY = 0.02  # seconds


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count = 50 if quick else 500
    async with sides(ONE_WAY) as (ours, peer, _):
        yield [
            Comparison(
                title="append to event, SSH, 20 ms one way",
                ours=asking(ours)("latency", "ssh", 1, count),
                peer=asking(peer)("latency", "ssh-tail", 1, count),
                peer_name="ssh host tail -F read by asyncio",
                figures=[Figure("ms, p50", ratio_at_most=1.03), Figure("ms, p99")],
            )
        ]
