"""What tests of the page share: it is served, and somebody has come in by the link."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from optio_agents.store import Store
from optio_agents.supervision import Command
from optio_agents.testing.scripted import scripted_agent
from optio_agents.web.server import Serving, serve
from tests.support.sessions.supervising import PLAIN


def command(*steps: str) -> Command:
    return Command(scripted_agent(*steps), env=PLAIN, env_base="empty")


def code_of(link: str) -> str:
    return link.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Message:
    """One of a stream of server-sent events."""

    event: str
    data: Any
    id: str


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever has the page open."""

    page: Serving
    http: httpx.AsyncClient

    async def get(self, path: str, status: int = 200) -> Any:
        answer = await self.http.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, given: Any, key: str = "", status: int = 200) -> Any:
        headers = {"idempotency-key": key} if key else {}
        answer = await self.http.post(path, json=given, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    @asynccontextmanager
    async def stream(self, path: str, place: str = "") -> AsyncIterator[AsyncIterator[Message]]:
        headers = {"last-event-id": place} if place else {}
        async with self.http.stream("GET", path, headers=headers, timeout=None) as answer:
            assert answer.status_code == 200, await answer.aread()
            yield _messages(answer.aiter_lines())

    async def read(self, path: str, place: str = "") -> list[Message]:
        """All of a stream that ends."""
        async with self.stream(path, place) as messages:
            return [one async for one in messages]

    async def until(self, path: str, fits: Callable[[Message], object]) -> Message:
        """The first message that fits."""
        async with self.stream(path) as messages:
            async for one in messages:
                if fits(one):
                    return one
        raise AssertionError(f"{path} ended")


async def _messages(lines: AsyncIterator[str]) -> AsyncIterator[Message]:
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            data = json.loads(fields["data"])
            yield Message(fields.get("event", "message"), data, fields.get("id", ""))
            fields = {}
        else:
            fields = {}


@asynccontextmanager
async def visiting(store: Store, **more: Any) -> AsyncIterator[Visitor]:
    async with serve(store, **more) as page, at(page) as visitor:
        yield visitor


@asynccontextmanager
async def at(page: Serving) -> AsyncIterator[Visitor]:
    headers = {"origin": page.address}
    async with httpx.AsyncClient(base_url=page.address, headers=headers, timeout=60) as http:
        entered = await http.post("/api/enter", json={"code": code_of(page.new_link())})
        assert entered.status_code == 200, entered.text
        yield Visitor(page, http)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - nobody tells us
        await anyio.sleep(0.01)
