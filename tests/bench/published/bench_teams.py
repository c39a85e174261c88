"""The turns of a function in memory, and what an import takes, beside what is published."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from tests.bench import Comparison, Figure
from tests.bench.peers import environment, our_python, peer_python, worker

SIDE = Path(__file__).parents[1] / "sides/teams.py"
CPU, MEMORY = "ms of CPU", "MiB"
IMPORT = """
import json, resource
import {}
used = resource.getrusage(resource.RUSAGE_SELF)
took = 1000 * (used.ru_utime + used.ru_stime)
print(json.dumps({{"ms of CPU": took, "MiB": used.ru_maxrss / 1024}}))
"""


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    mini, agentouto = peer_python("miniagents==0.0.35"), peer_python("agentouto==0.25.0")
    async with (
        worker(our_python(), SIDE, "ours") as ours,
        worker(mini, SIDE, "miniagents") as peer,
    ):
        yield [
            Comparison(
                title="turns of a function, in memory",
                ours=ours.round,
                peer=peer.round,
                peer_name="miniagents 0.0.35",
                figures=[
                    Figure("us of CPU, one after the other"),
                    Figure("us of CPU, all at once"),
                ],
            ),
            *(
                Comparison(
                    title="a process that imports it",
                    ours=lambda: _import(our_python(), "optio_agents.team"),
                    peer=lambda python=python, name=name: _import(python, name),
                    peer_name=f"{name} {version}",
                    figures=[Figure(CPU), Figure(MEMORY)],
                )
                for python, name, version in (
                    (mini, "miniagents", "0.0.35"),
                    (agentouto, "agentouto", "0.25.0"),
                )
            ),
        ]


async def _import(python: Path, package: str) -> Mapping[str, float]:
    command = [str(python), "-c", IMPORT.format(package)]
    ran = await anyio.run_process(command, env=environment(python))
    found: Mapping[str, float] = json.loads(ran.stdout)
    return found
