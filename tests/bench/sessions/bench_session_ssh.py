"""Many sessions on one stock sshd, as it comes."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import anyio

from optio_agents.hosts import make_host
from optio_agents.session import run_log_protocol_session
from tests.bench import Comparison, Figure
from tests.bench.ground import Ground, ground
from tests.support.sessions.sessions import FlaggedContext, write


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count, idle = (10, 0.5) if quick else (100, 5.0)
    with ground() as there:

        async def measure() -> Mapping[str, float]:
            return await Many(there, count).measure(idle)

        yield [
            Comparison(
                title=f"{count} sessions on one stock sshd",
                ours=measure,
                figures=[
                    Figure("start, ms each"),
                    Figure("connections", at_most=10),
                    Figure("idle, % of a core", at_most=0.5),
                    Figure("append to report p50, ms"),
                    Figure("append to report max, ms"),
                    Figure("finish, ms each"),
                ],
            )
        ]


class Many:
    """*count* sessions at once, whose bodies write to the log as agents on the host do."""

    def __init__(self, there: Ground, count: int) -> None:
        self.there, self.count = there, count
        self.contexts = [FlaggedContext() for _ in range(count)]
        self.hosts: dict[int, Any] = {}
        self.finish = anyio.Event()

    async def measure(self, idle: float) -> Mapping[str, float]:
        began = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for number, ctx in enumerate(self.contexts):
                tasks.start_soon(self._run, number, ctx)
            for ctx in self.contexts:
                await ctx.until(lambda ctx=ctx: "hello" in ctx.messages)
            started = time.perf_counter() - began
            connections = len(self.there.server.sessions())
            used = sum(os.times()[:2])
            await anyio.sleep(idle)
            used = sum(os.times()[:2]) - used
            latencies = [await self._latency(number) for number in range(0, self.count, 5)]
            began = time.perf_counter()
            self.finish.set()
        return {
            "start, ms each": 1000 * started / self.count,
            "connections": connections,
            "idle, % of a core": 100 * used / idle,
            "append to report p50, ms": 1000 * median(latencies),
            "append to report max, ms": 1000 * max(latencies),
            "finish, ms each": 1000 * (time.perf_counter() - began) / self.count,
        }

    async def _run(self, number: int, ctx: FlaggedContext) -> None:
        taskdir = str(self.there.directory / f"{number}")
        async with make_host(self.there.config(), taskdir=taskdir) as host:
            self.hosts[number] = host
            await run_log_protocol_session(host, ctx, body=self._body)

    async def _body(self, host: Any, _: Any) -> None:
        write(host, "STATUS: hello")
        await self.finish.wait()
        write(host, "DONE")

    async def _latency(self, number: int) -> float:
        ctx = self.contexts[number]
        began = time.perf_counter()
        write(self.hosts[number], "STATUS: ping")
        await ctx.until(lambda: "ping" in ctx.messages)
        return time.perf_counter() - began
