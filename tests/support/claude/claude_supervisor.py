"""A supervisor to kill: `python -m tests.support.claude.claude_supervisor TASKDIR ROOT PROMPT`."""

from __future__ import annotations

import ast
import asyncio
import os
import sys

from optio_agents.conversation.claude import claude_code
from optio_agents.hosts.host import LocalHost
from tests.support.claude.claude_cli import OFF, executable


async def supervise(taskdir: str, prompt: str) -> None:
    async with (
        LocalHost(taskdir) as host,
        claude_code(
            host,
            executable=executable(),
            env=ast.literal_eval(os.environ["SURROUNDINGS"]),
            env_base="empty",
            arguments=OFF,
        ) as conversation,
    ):
        await conversation.ask(prompt)


if __name__ == "__main__":
    asyncio.run(supervise(sys.argv[1], sys.argv[3]))
