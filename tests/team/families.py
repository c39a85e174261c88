"""A team for tests that kill its processes: `python -m tests.team.families JOURNAL MARKS`."""

import asyncio
import os
import sys
from pathlib import Path

from optio_agents.team import OutcomeUnknown, Team, TurnContext, context
from optio_agents.team.stores.sqlite import SqliteTurns


def team(journal: Path, marks: Path, *, lease: float = 10.0) -> Team:
    """Parents with three children each, which mark a file once; all of them sleep."""

    def mark(word: str) -> str:
        descriptor = os.open(marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{word}\n".encode())
        os.close(descriptor)
        return word

    async def child(ctx: TurnContext) -> str:
        await ctx.sleep(seconds=0.03)
        try:
            await ctx.once("mark", mark, ctx.text)
        except OutcomeUnknown:
            return "unknown"
        await ctx.sleep(seconds=0.03)
        return "1"

    async def parent(ctx: TurnContext) -> str:
        children = [ctx.call("child", f"{ctx.text}-{number}") for number in range(3)]
        await ctx.sleep(seconds=0.05)
        found = [str(await one) for one in children]
        return f"{len(found)} {found.count('unknown')}"

    async def naps(ctx: TurnContext) -> str:
        wake = await ctx.sleep(seconds=float(ctx.text))
        return f"{wake.reason} {os.getpid()}"

    async def says_who(ctx: TurnContext) -> str:
        mark(f"{ctx.id} {os.getpid()}")
        await asyncio.sleep(3600)
        return ""

    people = {"parent": parent, "child": child, "naps": naps, "who": says_who}
    return Team(people, store=SqliteTurns(journal, lease=lease))


if __name__ == "__main__":
    context.LINGER = float(os.environ.get("LINGER", "5"))
    lease = float(os.environ.get("LEASE", "10"))
    asyncio.run(team(Path(sys.argv[1]), Path(sys.argv[2]), lease=lease).serve())
