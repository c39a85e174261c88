"""A million lines of 54 bytes, from the wish to follow to the last line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench import Comparison, Figure
from tests.bench.follow_ground import asking, sides
from tests.bench.sides.follow import LINE, LINES

RATE = "M lines/s"


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    async with sides() as (ours, peer, place):
        path = place.directory / "million"
        path.write_bytes(LINE * LINES)
        we, they = asking(ours), asking(peer)
        yield [
            Comparison(
                title="follow 1M lines, local",
                ours=we("lines", "local", path),
                peer=they("lines", "tail", path),
                peer_name="tail -F read by asyncio",
                figures=[Figure(RATE, at_least=2.0)],
            ),
            Comparison(
                title="follow 1M lines, SSH",
                ours=we("lines", "ssh", path),
                peer=they("lines", "ssh-tail", path),
                peer_name="ssh host tail -F, its connection included",
                figures=[Figure(RATE, at_least=1.0)],
            ),
        ]
