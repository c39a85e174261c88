"""Deliverables of a session over a slow link: what each costs, and how far they overlap."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio

from optio_agents.session import run_log_protocol_session
from optio_agents.testing.proxy import FaultProxy
from tests.bench import Comparison, Figure
from tests.bench.ground import ground
from tests.support.sessions.sessions import Context, hand_over, write

DELAY = 0.05  # seconds one way
COUNT = 20


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    with ground() as there:
        async with there.through_proxy() as (proxy, host):
            yield [
                Comparison(
                    title=f"{COUNT} deliverables of 64 KiB, round trips of 100 ms",
                    ours=lambda: _measure(host, proxy, COUNT),
                    figures=[Figure("round trips each", at_most=3), Figure("ms each")],
                )
            ]


async def _measure(host: Any, proxy: FaultProxy, count: int) -> Mapping[str, float]:
    figures: dict[str, float] = {}
    proxy.delay = 0
    answered, warm, all_answered = list[str](), anyio.Event(), anyio.Event()

    async def agent_sender(text: str) -> None:
        answered.append(text)
        warm.set()
        if len(answered) == count + 1:
            all_answered.set()

    async def body(host: Any, _: Any) -> None:
        for number in range(count + 1):
            hand_over(host, f"{number}.bin", os.urandom(65_536), announce=False)
        write(host, "DELIVERABLE: deliverables/0.bin")
        await warm.wait()
        proxy.delay = DELAY
        trips, began = proxy.round_trips(), anyio.current_time()
        write(host, *(f"DELIVERABLE: deliverables/{n}.bin" for n in range(1, count + 1)))
        await all_answered.wait()
        figures["ms each"] = 1000 * (anyio.current_time() - began) / count
        figures["round trips each"] = (proxy.round_trips() - trips) / count
        proxy.delay = 0
        write(host, "DONE")

    await run_log_protocol_session(host, Context(), body=body, agent_sender=agent_sender)
    return figures
