"""Many local sessions in one process, doing nothing, and heard at once when they do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench import Comparison, Figure
from tests.bench.peers import our_python, peer_python, worker

SIDE = Path(__file__).parents[1] / "sides/sessions.py"


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count, idle = ("20", "0.5") if quick else ("500", "10")
    published = peer_python("optio-agents==0.3.0", "optio-host==0.2.7")
    async with (
        worker(our_python(), SIDE, count, idle) as ours,
        worker(published, SIDE, count, idle) as peer,
    ):
        yield [
            Comparison(
                title=f"{count} local sessions in one process",
                ours=ours.round,
                peer=peer.round,
                peer_name="optio-agents 0.3.0",
                figures=[
                    Figure("start, ms each", ratio_at_most=1.2),
                    Figure("PSS, kB each", ratio_at_most=0.5),
                    Figure("idle, ‰ of a core each", ratio_at_most=0.5),
                    Figure("append to report p50, ms", at_most=5),
                    Figure("append to report max, ms", at_most=50),
                    Figure("finish, ms each"),
                ],
            )
        ]
