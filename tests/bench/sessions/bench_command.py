"""The command as a whole process: what a person waits for beside the work of the agent."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

import anyio

from optio_agents.store import Store
from tests.bench import Comparison, Figure
from tests.bench.peers import environment, our_python
from tests.web.crowds import crowd

JOURNAL = ".local/state/optio-agents/journal.sqlite3"
AGENT = ("sh", "-c", "echo DONE >> optio.log")
WHOLE, OVER = "ms", "ms over bare Python"
PEAK = "MiB at its peak"
RUNNING = 50
# the most memory of a program, which writes nothing of its own
_PEAK_OF = """import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count = 1 if quick else 7
    python = str(our_python())
    bare, command = [python, "-c", "pass"], [python, "-m", "optio_agents.cli"]
    sessions, size = (200, 4 << 20) if quick else (1000, 200 << 20)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as owned:
        home = Path(directory)
        (full := home / "full").mkdir()
        await _fill(full, sessions, owned)
        (long := home / "long").mkdir()
        await _say(long, command, size)

        async def whole(*lines: Sequence[str], home: Path = home) -> Mapping[str, float]:
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
            Comparison(
                title=f"optio-agents ls: {sessions} sessions, {RUNNING} of them run",
                ours=lambda: whole([*command, "ls"], home=full),
                peer=lambda: whole(bare),
                peer_name="python -c pass",
                figures=[Figure(WHOLE, at_most=500)],
            ),
            Comparison(
                title=f"optio-agents transcript of {size >> 20} MiB",
                ours=lambda: _peak(long, python, [*command, "transcript", "it"]),
                figures=[Figure(PEAK, at_most=100)],
            ),
        ]


async def _fill(home: Path, sessions: int, owned: ExitStack) -> None:
    """A journal of so many sessions, the last of which run, for whoever owns them: *owned*."""
    async with Store(home / JOURNAL) as store:
        crowd(store.path, sessions - RUNNING)
        crowd(store.path, RUNNING, first=sessions - RUNNING, over=False)
        for session in (await store.sessions())[-RUNNING:]:
            owned.enter_context(store.claim(session.id, "bench"))


async def _say(home: Path, command: Sequence[str], size: int) -> None:
    """A session whose agent has written so much, in lines of claude's."""
    event = {"type": "assistant", "message": {"content": [{"type": "text", "text": "word " * 400}]}}
    line = json.dumps(event) + "\n"
    (home / "output").write_text(line * (size // len(line)))
    agent = ["sh", "-c", f"cat '{home}/output'; echo DONE >> optio.log"]
    await _seconds(home, [*command, "run", "--name", "it", "--", *agent])


async def _peak(home: Path, python: str, line: Sequence[str]) -> Mapping[str, float]:
    ran = await anyio.run_process([python, "-c", _PEAK_OF, *line], cwd=home, env=_environment(home))
    return {PEAK: float(ran.stdout)}


def _environment(home: Path) -> Mapping[str, str]:
    return {**environment(our_python()), "HOME": str(home)}


async def _seconds(home: Path, *lines: Sequence[str]) -> float:
    """How long these commands take, one after the other."""
    env, before = _environment(home), time.perf_counter()
    for line in lines:
        await anyio.run_process(line, cwd=home, env=env, stderr=subprocess.STDOUT)
    return time.perf_counter() - before
