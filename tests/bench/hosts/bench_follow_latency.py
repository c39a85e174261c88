"""From an append by another process to the line in ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench import Comparison, Figure
from tests.bench.follow_ground import asking, sides

P50, P99 = "ms, p50", "ms, p99"


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count = 50 if quick else 500
    async with sides() as (ours, peer, _):
        we, they = asking(ours), asking(peer)
        yield [
            Comparison(
                title="append to event, local",
                ours=we("latency", "local", 1, count),
                peer=they("latency", "tail", 1, count),
                peer_name="tail -F read by asyncio",
                figures=[Figure(P50, ratio_at_most=1.0), Figure(P99)],
            ),
            Comparison(
                title="append to event, SSH",
                ours=we("latency", "ssh", 1, count),
                peer=they("latency", "ssh-tail", 1, count),
                peer_name="ssh host tail -F read by asyncio",
                figures=[Figure(P50, ratio_at_most=1.5), Figure(P99)],
            ),
        ]
