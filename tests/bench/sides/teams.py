"""One side of a comparison of teams: the turns of a function, by CPU. Arguments: the package."""

import asyncio
import json
import sys
import time

MANY = 1000


def ours() -> None:
    from optio_agents.team import Team

    async def echo(ctx):
        return ctx.text

    async def main() -> None:
        async with Team({"echo": echo}) as team:
            await answer(lambda: team.call("echo", "x"))

    asyncio.run(main())


def miniagents() -> None:
    from miniagents import MiniAgents, miniagent

    @miniagent
    async def echo(ctx):
        ctx.reply(await ctx.message_promises)

    MiniAgents().run(answer(lambda: echo.trigger("x")))


async def answer(call) -> None:
    while await asyncio.to_thread(sys.stdin.readline):
        began = time.process_time()
        for _ in range(MANY):
            await call()
        one = time.process_time()
        for turn in [call() for _ in range(MANY)]:
            await turn
        took = {"one after the other": one - began, "all at once": time.process_time() - one}
        figures = {f"us of CPU, {how}": 1e6 * seconds / MANY for how, seconds in took.items()}
        sys.stdout.write(json.dumps(figures) + "\n")
        sys.stdout.flush()


{"ours": ours, "miniagents": miniagents}[sys.argv[1]]()
