"""One side of the conversation benchmark; runs under either package. Arguments: a file, its lines.

The file comes through a pipe, as it would from a CLI.
"""

import asyncio
import json
import sys
import time

try:
    from optio_claudecode.conversation import ClaudeCodeConversation
except ImportError:
    from optio_agents.conversation import ClaudeCodeConversation

path, count = sys.argv[1], int(sys.argv[2])


async def measure() -> float:
    process = await asyncio.create_subprocess_exec(
        "cat", path, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    conversation, seen = ClaudeCodeConversation(), 0

    def handle(event: dict) -> None:
        nonlocal seen
        seen += event["type"] == "stream_event"

    conversation.on_event(handle)
    conversation.attach(process)
    before = time.perf_counter()
    await conversation.run_reader()
    rate = count / (time.perf_counter() - before)
    await process.wait()
    assert seen == count, f"{seen} events of {count}"
    return rate


for _ in sys.stdin:
    sys.stdout.write(json.dumps({"events/s": asyncio.run(measure())}) + "\n")
    sys.stdout.flush()
