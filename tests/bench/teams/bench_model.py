"""What a turn of a model costs over the same request made with the bare SDK, by CPU."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from optio_agents.team import Team, model
from optio_agents.testing.scripted_model import scripted_model
from tests.bench import Comparison, Figure, Unavailable
from tests.bench.peers import our_python, worker

API = Path(__file__).parents[1] / "sides/model_api.py"
TURN, TOKEN = "ms of CPU more, a turn", "us of CPU more, a token"
ALONE = "ms of CPU, the bare SDK"


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    if find_spec("pydantic_ai") is None or find_spec("openai") is None:
        raise Unavailable("the extra [models] is not installed")
    turns, words = (5, 20) if quick else (100, 500)
    async with worker(our_python(), API) as api:
        url = f"http://127.0.0.1:{int((await api.round())['port'])}"
        yield [
            Comparison(
                title="a turn of a model, over the same requests by the SDK of OpenAI",
                ours=lambda: _more(url, turns, words),
                figures=[Figure(TURN, at_most=1.5), Figure(TOKEN, at_most=70), Figure(ALONE)],
            )
        ]


async def _more(url: str, turns: int, words: int) -> Mapping[str, float]:
    from openai import AsyncOpenAI

    request = await _request()
    *before, _ = request.pop("messages")

    async def bare(count: int) -> None:
        messages = [*before, {"role": "user", "content": str(count)}]
        async for _ in await client.chat.completions.create(messages=messages, **request):
            pass

    async def ours(count: int) -> None:
        await team.call("m", str(count))

    one = model("openai-chat:m", base_url=url, credential="none")
    async with AsyncOpenAI(base_url=url, api_key="none") as client, Team({"m": one}) as team:
        for each in bare, ours:
            await each(1)
        spent = {bare: [0.0, 0.0], ours: [0.0, 0.0]}
        for number in range(10):  # in turns, as what else runs here costs both of them
            for each in (bare, ours) if number % 2 else (ours, bare):
                spent[each][0] += await _cpu(each, turns // 10 or 1, 1) / 10
                spent[each][1] += await _cpu(each, 1, words) / 10
    (alone, alone_long), (turn, long) = spent[bare], spent[ours]
    token = ((long - turn) - (alone_long - alone)) / (words - 1)
    return {TURN: 1000 * (turn - alone), TOKEN: 1e6 * token, ALONE: 1000 * alone}


async def _cpu(work: Callable[[int], Awaitable[None]], times: int, count: int) -> float:
    began = time.process_time()
    for _ in range(times):
        await work(count)
    return (time.process_time() - began) / times


async def _request() -> dict[str, Any]:
    """What a team asks for: the SDK sends the same, with the tools in it."""
    async with scripted_model("x") as api:
        one = model("openai-chat:m", base_url=api.url, credential="none")
        async with Team({"m": one}) as team:
            await team.call("m", "x")
        return api.requests[0].body
