"""Many files followed on one event loop, here and on one SSH host, beside one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.bench import Comparison, Figure
from tests.bench.follow_ground import asking, sides
from tests.bench.peers import Worker

P50, P99, HERE = "ms, p50", "ms, p99", Figure("% of a core here", at_most=0.5)


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    async with sides() as (many, one, _):
        local = [HERE, Figure("threads more", at_most=0), Figure("processes more", at_most=0)]
        far = [HERE, Figure("% of a core there", at_most=0.5), Figure("processes there", at_most=1)]
        yield [
            *_crowd(many, one, quick, 500, "local", "500 local followers", 1.25, local),
            *_crowd(many, one, quick, 100, "ssh", "100 follows on one SSH host", None, far),
        ]


def _crowd(
    many: Worker,
    one: Worker,
    quick: bool,
    files: int,
    how: str,
    title: str,
    ratio: float | None,
    idle: Sequence[Figure],
) -> list[Comparison]:
    """Its latency beside that of one, and what it costs once sweeps have settled what was new."""
    appends, (settle, seconds) = (50, (0.5, 0.5)) if quick else (500, (6, 5))
    return [
        Comparison(
            title=f"append to event, {title}",
            ours=asking(many)("latency", how, files, appends),
            peer=asking(one)("latency", how, 1, appends),
            peer_name="one of them",
            figures=[Figure(P50, ratio_at_most=ratio), Figure(P99)],
        ),
        Comparison(
            title=f"{title}, idle",
            ours=asking(many)("idle", how, files, settle, seconds),
            figures=idle,
        ),
    ]
