"""One side of the conversation benchmark, for either package. Arguments: a file, its lines, a wire.

The file comes through a pipe, as it would from a CLI.
"""

import asyncio
import json
import sys
import time
from typing import Any

try:
    from optio_claudecode.conversation import ClaudeCodeConversation
except ImportError:
    from optio_agents.conversation import ClaudeCodeConversation

path, count = sys.argv[1], int(sys.argv[2])


def converse() -> Any:
    if sys.argv[3:] != ["acp"]:
        return ClaudeCodeConversation()
    from optio_agents.conversation.acp.dialect import AcpDialect, AcpSetup
    from optio_agents.conversation.contract import Unconfirmed
    from optio_agents.conversation.machinery import AgentConversation
    from optio_agents.conversation.wire_handle import HandleWire

    class Asked(AgentConversation):
        def attach(self, handle: Any, **_: Any) -> None:
            wire = HandleWire(handle, line_limit=1 << 20)
            self.attach_wire(wire, sent=[Unconfirmed("a message", "")])

    return Asked(AcpDialect(AcpSetup("/work")), agent_label="the agent")


async def measure() -> float:
    process = await asyncio.create_subprocess_exec(
        "cat", path, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    conversation, seen = converse(), 0

    def handle(event: dict) -> None:
        nonlocal seen
        seen += event.get("type") == "stream_event" or "method" in event

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
