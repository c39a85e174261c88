"""The command as a whole process: what a person waits for beside the work of the agent."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import anyio

from tests.bench import Comparison, Figure
from tests.bench.peers import environment, our_python

AGENT = ("sh", "-c", "echo DONE >> optio.log")
WHOLE, OVER = "ms", "ms over bare Python"


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count = 1 if quick else 7
    python = str(our_python())
    bare, command = [python, "-c", "pass"], [python, "-m", "optio_agents.cli"]
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)

        async def whole(*lines: Sequence[str]) -> Mapping[str, float]:
            return {WHOLE: median([await _seconds(home, *lines) for _ in range(count)]) * 1000}

        async def over(verb: str) -> Mapping[str, float]:
            # In turns, so that a noisy moment meets both.
            pairs = [
                (await _seconds(home, [*command, verb]), await _seconds(home, bare))
                for _ in range(count)
            ]
            ours, nothing = zip(*pairs, strict=True)
            return {OVER: (median(ours) - median(nothing)) * 1000}

        yield [
            Comparison(
                title="optio-agents run -- sh -c 'echo DONE >> optio.log'",
                ours=lambda: whole([*command, "run", "--", *AGENT]),
                peer=lambda: whole(bare, AGENT),
                peer_name="python -c pass; sh -c …",
                figures=[Figure(WHOLE, at_most=350)],
            ),
            Comparison(
                title="optio-agents --help",
                ours=lambda: over("--help"),
                figures=[Figure(OVER, at_most=150)],
            ),
            Comparison(
                title="optio-agents prompt",
                ours=lambda: over("prompt"),
                figures=[Figure(OVER, at_most=150)],
            ),
        ]


async def _seconds(home: Path, *lines: Sequence[str]) -> float:
    """How long these commands take, one after the other."""
    env = {**environment(our_python()), "HOME": str(home)}
    before = time.perf_counter()
    for line in lines:
        await anyio.run_process(line, cwd=home, env=env, stderr=subprocess.STDOUT)
    return time.perf_counter() - before
