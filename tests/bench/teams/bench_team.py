"""What a turn of a team costs, in memory and in the journal, and what its stream does."""

# ruff: noqa: ASYNC220, ASYNC240  # nobody else needs the event loop meanwhile

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import anyio

from optio_agents.team import Message, Team, TurnContext
from optio_agents.team.stores import Row
from optio_agents.team.stores.sqlite import SqliteTurns
from optio_agents.team.turn import Draft
from optio_agents.team.verbs import dispatch
from tests.bench import Comparison, Figure
from tests.bench.peers import environment, our_python

IMPORT = "ms of CPU over bare Python"
ONE, MANY = "us of CPU, one after the other", "us of CPU, all at once"
LIVE, REPLAYED = "us of CPU, token live", "us of CPU, token replayed"
WAITING, BESIDE, MORE = "s until all are over", "s of CPU beside the waiting", "MiB more"
PEER = "call of a peer by a verb, ms"
AGAIN = "kill -9 to running again, s"


async def _echo(ctx: TurnContext) -> str:
    return ctx.text


async def _nap(ctx: TurnContext) -> str:
    await ctx.sleep(seconds=1)
    return ""


async def _turns(store: Path | None, count: int, rounds: int) -> Mapping[str, float]:
    one, many = list[float](), list[float]()
    async with Team({"echo": _echo}, store=store) as team:
        for _ in range(rounds):
            began = _cpu()
            for _ in range(count):
                await team.call("echo", "x")
            one.append(1e6 * (_cpu() - began) / count)
            began = _cpu()
            for turn in [team.call("echo", "x") for _ in range(count)]:
                await turn
            many.append(1e6 * (_cpu() - began) / count)
    return {ONE: min(one), MANY: min(many)}


async def _tokens(count: int) -> Mapping[str, float]:
    async def talks(ctx: TurnContext) -> AsyncIterator[Draft]:
        draft, turn = Draft(), ctx.turn
        yield draft
        for number in range(count):  # as a model does that has many pieces in one packet
            draft.put("word")
            turn.put_token("word")
            if not number % 10:
                await asyncio.sleep(0)
        draft.message = Message("word" * count)
        draft.close()

    async with Team({"talks": talks}) as team:
        turn = team.call("talks")
        found = dict[str, float]()
        for figure in LIVE, REPLAYED:
            began = _cpu()
            number = 0
            async for _ in turn.tokens():
                number += 1
            assert number == count
            found[figure] = 1e6 * (_cpu() - began) / count
    return found


async def _wait(count: int) -> Mapping[str, float]:
    async with Team({"nap": _nap}) as team:
        await team.call("nap", "")
        gc.collect()
        before = _resident()
        began, used = time.perf_counter(), _cpu()
        turns = [team.call("nap", "") for _ in range(count)]
        await asyncio.sleep(0.5)
        more = _resident() - before
        for turn in turns:
            await turn
        took, used = time.perf_counter() - began, _cpu() - used
    return {WAITING: took, BESIDE: used, MORE: more}


async def _peers(count: int) -> Mapping[str, float]:
    """Our share in what an agent waits for when it calls a peer: from its use to the result."""
    took = list[float]()

    async def calls(ctx: TurnContext) -> str:
        for number in range(count):
            began = time.perf_counter()
            given = {"name": "echo", "message": str(number)}
            said = await dispatch(ctx, "call", given, key=f"use:{number}")
            took.append(1000 * (time.perf_counter() - began))
            assert said == f"[echo]{number}[/echo]"
        return ""

    with tempfile.TemporaryDirectory() as place:
        async with Team({"calls": calls, "echo": _echo}, store=Path(place, "j")) as team:
            await team.call("calls")
    return {PEER: median(took)}


async def _recovery(count: int) -> Mapping[str, float]:
    """One worker is killed at work; another runs its turn again."""
    took = list[float]()
    with tempfile.TemporaryDirectory() as place:
        journal, marks, folder = Path(place, "j"), Path(place, "marks"), Path(place, "j.workers")
        marks.touch()
        command = [sys.executable, "-m", "tests.team.families", str(journal), str(marks)]
        store = SqliteTurns(journal)
        await store.open()
        workers = [subprocess.Popen(command)]
        await store.put(Row("t", "who", Message("", to="who").dump(), None, "t"))
        await _until(lambda: len(marks.read_text().splitlines()) > 0)
        for number in range(count):
            workers.append(subprocess.Popen(command))
            await _until(lambda: len(list(folder.glob("*.lock"))) == 3)
            await asyncio.sleep(0.3)  # until it knows of the other
            began = time.perf_counter()
            workers[number].kill()
            await _until(lambda number=number: len(marks.read_text().splitlines()) > number + 1)
            took.append(time.perf_counter() - began)
            workers[number].wait()
        workers[-1].kill()
        workers[-1].wait()
        await store.close()
    return {AGAIN: median(took)}


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - a file tells nobody
        await asyncio.sleep(0.002)


def _cpu() -> float:
    """Seconds of this process, all its threads: what it costs, whoever else is on the machine."""
    return time.process_time()


def _cpu_of_children() -> float:
    """Seconds of those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / (1 << 20)


async def _import(count: int) -> Mapping[str, float]:
    python = our_python()

    async def start(code: str) -> float:
        before = _cpu_of_children()
        await anyio.run_process([str(python), "-c", code], env=environment(python))
        return _cpu_of_children() - before

    pairs = [(await start("import optio_agents.team"), await start("pass")) for _ in range(count)]
    loaded, bare = zip(*pairs, strict=True)
    return {IMPORT: 1000 * (median(loaded) - median(bare))}


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count, rounds = (200, 1) if quick else (2000, 3)

    async def in_journal() -> Mapping[str, float]:
        with tempfile.TemporaryDirectory() as directory:
            return await _turns(Path(directory, "journal.sqlite3"), count, rounds)

    yield [
        Comparison(
            title="turns of a function, in memory",
            ours=lambda: _turns(None, count, rounds),
            figures=[Figure(ONE, at_most=40), Figure(MANY)],
        ),
        Comparison(
            title="turns of a function, in the journal",
            ours=in_journal,
            figures=[Figure(ONE, at_most=500), Figure(MANY, at_most=150)],
        ),
        Comparison(
            title="the stream of a turn",
            ours=lambda: _tokens(10 * count),
            figures=[Figure(LIVE, at_most=2), Figure(REPLAYED, at_most=0.5)],
        ),
        Comparison(
            title=f"{count // 2:,} functions that wait a second",
            ours=lambda: _wait(count // 2),
            figures=[Figure(WAITING), Figure(BESIDE, at_most=0.1), Figure(MORE, at_most=10)],
        ),
        Comparison(
            title="a peer called by a verb, in the journal",
            ours=lambda: _peers(20 if quick else 300),
            figures=[Figure(PEER, at_most=5)],
        ),
        Comparison(
            title="a worker killed at work",
            ours=lambda: _recovery(1 if quick else 3),
            figures=[Figure(AGAIN, at_most=0.5)],
        ),
        Comparison(
            title="import optio_agents.team",
            ours=lambda: _import(3 if quick else 9),
            figures=[Figure(IMPORT, at_most=150)],
        ),
    ]
