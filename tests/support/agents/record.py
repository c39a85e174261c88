"""Play every case anew on a real agent, record it, and show in the guide what the agent did.

python -m tests.support.agents.record AGENT [CASE…]
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from optio_agents.testing import transcript
from optio_agents.testing.transcript import Recorder
from tests.support.agents import table
from tests.support.agents.behaviours import ALL, EXCEPT, played, recorded
from tests.support.agents.real_agents import AGENTS, over_pipes
from tests.support.components import cache
from tests.support.timeouts import BOUND

_INTO = Path(transcript.__file__).parent / "transcripts"


async def record(agent: str, name: str, root: Path) -> None:
    recorders = list[Recorder]()
    shutil.rmtree(root / "work", ignore_errors=True)
    with anyio.fail_after(BOUND):
        async with over_pipes(AGENTS[agent], root, record=recorders) as talk:
            if name == "closed-in-a-turn":  # and all that a wrapper has started
                talk.conversation._wire._terminate = partial(os.killpg, talk.handle.pid, 9)  # noqa: SLF001
            word = await played(name, talk, agent)
            table.write({(agent, name): word})
            print(agent, name, word)  # noqa: T201 - a script's progress
    if name not in recorded(agent):
        return
    found = recorders[0].transcript()
    for entry in found.entries:
        _shorten(entry.message)
    found.save(
        _INTO / agent / f"{name}.jsonl",
        replace={str(root): "/home/agent", str(cache()): "/opt"},
    )


def _shorten(message: dict[str, Any]) -> None:
    """The name of this machine stays out, and so do most of the commands: one tells 500 kB."""
    match message:
        case {"params": {"serverName": _} as params}:
            params["serverName"] = "box"
        case {"params": {"update": {"availableCommands": list() as commands, **more}}}:
            del commands[2:]
            more.get("_meta", {}).pop("availableSkillDetails", None)


if __name__ == "__main__":
    agent = sys.argv[1]
    (_INTO / agent).mkdir(exist_ok=True)
    # one HOME for all of them: some unpack 100 MB into a new one
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
        for chosen in sys.argv[2:] or [name for name in ALL if (agent, name) not in EXCEPT]:
            asyncio.run(record(agent, chosen, Path(root)))
