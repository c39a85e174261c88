"""A model API in a process of its own, whose CPU is nobody's; each line asks for its port.

What it answers, the last word of its user says: a number is so many words, another word a tool to
use, once, with the text "x".
"""

import asyncio
import json
import sys
from typing import Any

from optio_agents.testing.scripted_model import Asked, scripted_model


def reply(asked: Asked) -> Any:
    *_, last = messages = asked.body["messages"]
    said = [message["content"] for message in messages if message["role"] == "user"][-1]
    word = (said if isinstance(said, str) else said[-1]["text"]).split()[-1]
    if word.isdecimal():
        return ["word "] * int(word)
    return "done" if last["role"] == "tool" else {"call": word, "arguments": {"text": "x"}}


async def main() -> None:
    async with scripted_model(*[reply] * 1_000_000) as api:
        port = int(api.url.rpartition(":")[2])
        while await asyncio.to_thread(sys.stdin.readline):
            sys.stdout.write(json.dumps({"port": port}) + "\n")
            sys.stdout.flush()


asyncio.run(main())
