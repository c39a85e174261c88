"""What `import optio_agents` adds to the start of Python."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import anyio

from tests.bench import Comparison, Figure
from tests.bench.peers import environment, our_python, peer_python

OVER = "ms over bare Python"


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    published = peer_python("optio-agents==0.3.0")
    count = 3 if quick else 15
    yield [
        Comparison(
            title="import optio_agents",
            ours=lambda: _import(our_python(), count),
            peer=lambda: _import(published, count),
            peer_name="optio-agents 0.3.0",
            figures=[Figure(OVER, at_most=60)],
        )
    ]


async def _import(python: Path, count: int) -> Mapping[str, float]:
    # In turns, so that a noisy moment meets both.
    pairs = [
        (await _start(python, "import optio_agents"), await _start(python, "pass"))
        for _ in range(count)
    ]
    loaded, bare = zip(*pairs, strict=True)
    return {OVER: 1000 * (median(loaded) - median(bare))}


async def _start(python: Path, code: str) -> float:
    before = time.perf_counter()
    await anyio.run_process([str(python), "-c", code], env=environment(python))
    return time.perf_counter() - before
