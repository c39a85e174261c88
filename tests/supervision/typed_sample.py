"""What a type checker must take: `test_live` runs mypy --strict over it, and nothing runs it."""

# ruff: noqa: T201

import asyncio

import anyio

from optio_agents import (
    Claude,
    Command,
    HookContext,
    Host,
    LogLine,
    PermissionDecision,
    RunResult,
    SessionEnded,
    SessionResult,
    SessionState,
    Store,
    TurnEnded,
    find_session,
    supervise,
)


async def by_awaiting(host: Host, store: Store) -> SessionResult:
    return await supervise(host, Claude("Fix the tests"), store=store)


async def in_a_hook(hook: HookContext, quiet: bool) -> str:
    printed: str = await hook.run_on_host("true")
    ended: RunResult = await hook.run_on_host("true", check=False)
    either: str | RunResult = await hook.run_on_host("true", check=quiet)
    return f"{printed}{ended.exit_code}{either}"


async def by_a_path(host: Host) -> SessionResult:
    return await supervise(host, Claude("Fix the tests"), store="journal.sqlite3")


async def by_a_task(host: Host) -> SessionResult:
    task: asyncio.Task[SessionResult] = asyncio.create_task(supervise(host, Command(["true"])))
    async with asyncio.TaskGroup() as group:
        other: asyncio.Task[SessionResult] = group.create_task(supervise(host, Command(["true"])))
    first: SessionResult = await asyncio.wait_for(supervise(host, Command(["true"])), 60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: supervise(host, Command(["true"])))
    return max(first, await task, await other, key=lambda result: result.ended_at)


async def by_entering(host: Host, store: Store) -> str:
    async with supervise(host, Claude("Fix the tests"), store=store) as session:
        state: SessionState = session.state
        async for event in session.events(after=3):
            match event:
                case LogLine(event=line, number=int(number)):
                    print(line, number)
                case TurnEnded(turn) if not turn.ok:
                    await session.send(f"Again: {turn.failure}", id="again")
                case SessionEnded(result):
                    print(result.outcome)
        for request in session.requests:
            await session.answer(request, PermissionDecision("allow"), by="me")
        result = await session.result()
    async with find_session(session.id, store=store) as visited:
        await visited.interrupt()
        print((await visited.stop(grace=1)).empty)
    return f"{state} {result.outcome}"
