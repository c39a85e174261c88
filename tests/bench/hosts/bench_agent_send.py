"""A line to an agent's input over a warm SSH connection: from `say` to readable by the agent."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import anyio

from optio_agents import agents
from optio_agents.agents import Agent
from optio_agents.hosts.host import RemoteHost
from tests.bench import Comparison, Figure
from tests.bench.ground import ground

PYTHON = str(Path(sys.executable).resolve())
READABLE = "ms to readable, p50"
SAID = "ms to said, p50"
# CLOCK_MONOTONIC is one clock for all processes of a machine.
READER = """
import os, sys, time
seen = b""
while data := os.read(0, 1 << 20):
    now = time.monotonic()
    seen = (seen + data)[-1:]
    if seen == b"\\n":
        print(now, flush=True)
"""


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count = 20 if quick else 200
    with ground() as there:
        async with RemoteHost(there.config(), str(there.directory / "task")) as host:
            await host.setup_workdir()
            argv = [PYTHON, "-ISc", READER]
            async with agents.start(host, argv, env_base="empty") as agent:
                times = Times(agent)
                await times.measured(5, b"warm\n")
                yield [
                    Comparison(
                        title="a line of 1 kB to an agent over SSH",
                        ours=lambda: times.measured(count, b"x" * 1000 + b"\n"),
                        figures=[Figure(READABLE, at_most=8), Figure(SAID)],
                    ),
                    Comparison(
                        title="a message of 1 MB to an agent over SSH",
                        ours=lambda: times.measured(count // 10, b"x" * 1_000_000 + b"\n"),
                        figures=[Figure(READABLE), Figure(SAID)],
                    ),
                ]


class Times:
    """What the agent has seen is a line for each message, with the time."""

    def __init__(self, agent: Agent) -> None:
        self._agent, self._stdout = agent, Path(agent.directory, "stdout")
        self._seen = 0

    async def measured(self, count: int, data: bytes) -> Mapping[str, float]:
        readable, said = list[float](), list[float]()
        for _ in range(count):
            sent = time.monotonic()
            await self._agent.say(data)
            said.append(time.monotonic() - sent)
            readable.append(await self._next() - sent)
        return {READABLE: 1000 * median(readable), SAID: 1000 * median(said)}

    async def _next(self) -> float:
        with anyio.fail_after(10):
            # Not by a follower: its work would be measured, too.
            while len(lines := self._stdout.read_text().splitlines()) <= self._seen:  # noqa: ASYNC110
                await anyio.sleep(0.001)
        self._seen += 1
        return float(lines[self._seen - 1])
