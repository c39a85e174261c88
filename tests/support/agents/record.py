"""Record every case anew on real agents.

python -m tests.support.agents.record AGENT [CASE…]
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import anyio

from optio_agents.testing import transcript
from optio_agents.testing.transcript import Recorder
from tests.support.agents.behaviours import CASES, EXCEPT
from tests.support.agents.real_agents import AGENTS, over_pipes
from tests.support.components import cache

_INTO = Path(transcript.__file__).parent / "transcripts"


async def record(agent: str, name: str) -> None:
    recorders = list[Recorder]()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root, anyio.fail_after(60):
        async with over_pipes(AGENTS[agent], Path(root), record=recorders) as talk:
            if name == "closed-in-a-turn":  # and all that a wrapper has started
                talk.conversation._wire._terminate = partial(os.killpg, talk.handle.pid, 9)  # noqa: SLF001
            await CASES[name](talk, agent)
        found = recorders[0].transcript()
        for entry in found.entries:
            params = entry.message.get("params")
            if isinstance(params, dict) and "serverName" in params:
                params["serverName"] = "box"
        found.save(
            _INTO / agent / f"{name}.jsonl",
            replace={root: "/home/agent", str(cache()): "/opt"},
        )


if __name__ == "__main__":
    agent = sys.argv[1]
    (_INTO / agent).mkdir(exist_ok=True, parents=True)
    for chosen in sys.argv[2:] or [case for case in CASES if (agent, case) not in EXCEPT]:
        print(agent, chosen)  # noqa: T201 - a script's progress
        asyncio.run(record(agent, chosen))
