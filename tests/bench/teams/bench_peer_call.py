"""The real claude CLI calls a peer over its own stream: our share of what it waits for."""

# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

from __future__ import annotations

import shlex
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from optio_agents.supervision import Claude
from optio_agents.team import Team, TurnContext, agent
from optio_agents.testing.model_server import ModelServer
from tests.bench import Comparison, Figure, Unavailable
from tests.bench.peers import our_python
from tests.support.claude.claude_cli import OFF, surroundings
from tests.support.components import CLAUDE, cache

BETWEEN = Path(__file__).parents[1] / "sides/between.py"
SHARE = "ms p50, the line that calls to the answer in the pipe"


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    claude = cache() / "claude" / CLAUDE / "claude"
    if not claude.exists():
        raise Unavailable(f"claude {CLAUDE} is not installed")
    yield [
        Comparison(
            title="a peer called by the real claude CLI, in the journal",
            ours=lambda: _calls(claude, 3 if quick else 15),
            figures=[Figure(SHARE, at_most=5)],
        )
    ]


async def _calls(claude: Path, count: int) -> Mapping[str, float]:
    async def echo(ctx: TurnContext) -> str:
        return ctx.text

    calls = [
        {"tool": "mcp__optio__call", "input": {"name": "echo", "message": str(number)}}
        for number in range(count)
    ]
    with tempfile.TemporaryDirectory() as place:
        log, between = Path(place, "log"), Path(place, "claude")
        command = shlex.join([str(our_python()), str(BETWEEN), str(log), str(claude)])
        between.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        between.chmod(0o755)
        async with ModelServer().serve() as api:
            api.scripts["plan"] = [*calls, {"text": "done"}]
            spec = Claude(
                "Do as the script says: @@plan@@",
                options=OFF,
                executable=str(between),
                env=surroundings(Path(place), api),
                env_base="empty",
            )
            people = {"coder": agent(spec), "echo": echo}
            async with Team(people, store=Path(place, "journal.sqlite3")) as team:
                assert str(await team.call("coder", "x")) == "done"
        took = list(map(float, log.read_text().split()))
    assert len(took) == count
    return {SHARE: median(took)}
