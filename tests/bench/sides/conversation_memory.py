"""Events for a subscriber slower than they come. Arguments: a file, how often to repeat it."""

import asyncio
import json
import sys
from pathlib import Path

from optio_agents.conversation import ClaudeCodeConversation

path, times = sys.argv[1], sys.argv[2]
AGAIN = 'for n in $(seq "$1"); do cat "$0"; done'


def resident() -> float:
    """MiB of memory that is this process's own now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


async def measure() -> float:
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        AGAIN,
        path,
        times,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    conversation, seen, first, most = ClaudeCodeConversation(), 0, 0.0, 0.0

    async def dawdle(event: dict) -> None:
        nonlocal seen, first, most
        seen += 1
        if seen % 5000 == 0:
            await asyncio.sleep(0.002)
            most = max(most, resident())
            first = first or most

    conversation.on_event(dawdle)
    conversation.attach(process)
    await conversation.run_reader()
    return most - first


for _ in sys.stdin:
    sys.stdout.write(json.dumps({"MiB of growth": asyncio.run(measure())}) + "\n")
    sys.stdout.flush()
