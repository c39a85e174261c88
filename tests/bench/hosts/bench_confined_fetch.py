"""Opening a deliverable of 64 KiB over a slow link: what it costs in round trips."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from statistics import median

import anyio

from tests.bench import Comparison, Figure
from tests.bench.ground import ground

DELAY = 0.05  # seconds one way


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    with ground() as there:
        (there.directory / "deliverables").mkdir()
        (there.directory / "deliverables" / "report").write_bytes(os.urandom(65_536))
        root = str(there.directory / "deliverables")
        async with there.through_proxy() as (proxy, host):
            await host.ask(":")
            proxy.delay = DELAY

            async def measure() -> Mapping[str, float]:
                seconds, trips = list[float](), list[int]()
                for _ in range(3 if quick else 20):
                    before, began = proxy.round_trips(), anyio.current_time()
                    async with host.open_confined(f"{root}/report", root) as file:
                        assert len(await file.read()) == 65_536
                    seconds.append(anyio.current_time() - began)
                    trips.append(proxy.round_trips() - before)
                return {"round trips, most": max(trips), "ms, p50": 1000 * median(seconds)}

            yield [
                Comparison(
                    title="open and read 64 KiB, round trips of 100 ms",
                    ours=measure,
                    figures=[Figure("round trips, most", at_most=3), Figure("ms, p50")],
                )
            ]
