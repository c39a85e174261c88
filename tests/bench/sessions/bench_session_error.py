"""How soon an ERROR is acted on, behind a queue of slow callbacks and a context that blocks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio

from optio_agents.errors import AgentReportedError
from optio_agents.hosts import LocalHost
from optio_agents.session import run_log_protocol_session
from tests.bench import Comparison, Figure
from tests.support.sessions.sessions import Context, write


class Slow(Context):
    def report_progress(self, percent: float | None, message: str | None = None) -> None:
        time.sleep(0.1)  # as a database that is far away


async def _measure(queued: int, settle: float) -> Mapping[str, float]:
    acted_on = list[float]()

    async def body(host: Any, _: Any) -> None:
        await host.run_command("echo x >deliverables/a.txt")
        write(host, *["DELIVERABLE: deliverables/a.txt"] * queued)
        await anyio.sleep(settle)
        began = time.perf_counter()
        write(host, "ERROR: now")
        try:
            await anyio.sleep_forever()
        finally:
            acted_on.append(1000 * (time.perf_counter() - began))

    async def on_deliverable(*_: Any) -> None:
        await anyio.sleep(1)

    with tempfile.TemporaryDirectory() as directory:
        async with LocalHost(str(Path(directory, "task"))) as host:
            with suppress(AgentReportedError), anyio.move_on_after(settle + 1):
                await run_log_protocol_session(
                    host, Slow(), body=body, on_deliverable=on_deliverable
                )
    return {"ERROR to body ended, ms": acted_on[0]}


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    queued, settle = (20, 0.5) if quick else (1000, 1.0)

    async def measure() -> Mapping[str, float]:
        return await _measure(queued, settle)

    yield [
        Comparison(
            title=f"ERROR behind {queued:,} deliverables, callbacks 1 s, report_progress 100 ms",
            ours=measure,
            figures=[Figure("ERROR to body ended, ms", at_most=50)],
        )
    ]
