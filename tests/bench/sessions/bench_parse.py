"""Reading lines of the log, and looking for credentials in them."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from optio_agents.display import Secrets
from optio_agents.protocol.parser import parse_log_line
from tests.bench import Comparison, Figure
from tests.bench.peers import our_python, peer_python, worker
from tests.bench.sides.corpus import mixed

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
            ),
            _hiding(mixed(20_000 if quick else 200_000)),
        ]


def _hiding(lines: list[str]) -> Comparison:
    secrets = Secrets({f"KEY_{n}": f"sk-{n:02d}-{n * 7919:032x}" for n in range(10)})
    batches = [lines[start : start + 1000] for start in range(0, len(lines), 1000)]

    async def hide() -> Mapping[str, float]:
        before = time.perf_counter()
        for batch in batches:
            secrets.hide_each(batch)
        return {"lines/s": len(lines) / (time.perf_counter() - before)}

    async def parse() -> Mapping[str, float]:
        before = time.perf_counter()
        for line in lines:
            parse_log_line(line)
        return {"lines/s": len(lines) / (time.perf_counter() - before)}

    return Comparison(
        title="hide ten credentials in mixed lines",
        ours=hide,
        peer=parse,
        peer_name="parsing them",
        figures=[Figure("lines/s", ratio_at_least=0.2)],
    )
