"""Record every behaviour anew on the real CLI.

python -m tests.support.claude.record_transcripts [NAME…]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import anyio

from optio_agents.testing import transcript
from optio_agents.testing.transcript import Recorder
from tests.support.claude.behaviours import BEHAVIOURS
from tests.support.claude.claude_cli import over_pipes

_INTO = Path(transcript.__file__).parent / "transcripts"


async def record(name: str) -> None:
    behaviour, recorders = BEHAVIOURS[name], list[Recorder]()
    with tempfile.TemporaryDirectory() as root, anyio.fail_after(30):
        async with over_pipes(Path(root), *behaviour.arguments, record=recorders) as talk:
            await behaviour.play(talk)
        mangled = root.replace("/", "-")
        recorders[0].transcript().save(
            _INTO / f"{name}.jsonl",
            replace={root: "/home/agent", mangled: "-home-agent"},
        )


if __name__ == "__main__":
    _INTO.mkdir(exist_ok=True)
    for chosen in sys.argv[1:] or BEHAVIOURS:
        print(chosen)  # noqa: T201 - a script's progress
        asyncio.run(record(chosen))
