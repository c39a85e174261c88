"""Reading lines of the log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench import Comparison, Figure
from tests.bench.peers import our_python, peer_python, worker

SIDE = Path(__file__).parents[1] / "sides/parse.py"


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count = str(100_000 if quick else 1_000_000)
    published = peer_python("optio-agents==0.3.0")
    async with worker(our_python(), SIDE, count) as ours, worker(published, SIDE, count) as peer:
        yield [
            Comparison(
                title=f"parse {int(count):,} mixed lines",
                ours=ours.round,
                peer=peer.round,
                peer_name="optio-agents 0.3.0",
                figures=[Figure("lines/s", ratio_at_least=2.0)],
            )
        ]
