"""The conversation on the page: it has what an agent was told, and a cut link costs nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import anyio
import pytest

from optio_agents.conversation import PermissionDecision
from optio_agents.display import Secrets
from optio_agents.framing.batches import Batch
from optio_agents.framing.cursor import Cursor
from optio_agents.supervision import supervise
from optio_agents.testing.model_server import ModelServer, scripted
from optio_agents.testing.transcript import Transcript
from optio_agents.web.conversation import Bookmark, Telling
from tests.conversation.test_passages import READERS
from tests.supervision.test_supervise_agents import entry, spec_of
from tests.support.sessions.supervising import Office
from tests.support.timeouts import BOUND
from tests.web.serving import visiting


async def told(lines: Sequence[bytes], agent: str, place: str = "") -> list[tuple[Any, str]]:
    """Each message, of one line of the output, and the place behind it."""

    async def prompts() -> Sequence[str]:
        return "first", "second", "waiting"

    begin, found = Bookmark.load(place), list[tuple[Any, str]]()
    telling = Telling(READERS[agent](), Secrets(), begin, prompts)
    ends = [*accumulate(len(line) + 1 for line in lines)]
    for line, end in zip(lines, ends, strict=True):
        if end > (begin.cursor or Cursor()).offset:
            batch = Batch([line], [end], Cursor(inode=1, size=end, offset=end))
            found.append((json.loads(await telling.tell(batch))["passages"], telling.place.dump()))
    if closing := await telling.close():
        found.append((json.loads(closing)["passages"], telling.place.dump()))
    return found


def texts(messages: Sequence[tuple[Any, str]]) -> list[tuple[str, str]]:
    return [(one["who"], one["words"]) for passages, _ in messages for one in passages]


@pytest.mark.parametrize("name", ["two-turns", "permission-allowed"])
@pytest.mark.parametrize("agent", list(READERS)[1:])
async def test_who_goes_on_from_any_place_misses_nothing(agent: str, name: str) -> None:
    """A message in many chunks was lost in part, and what was said by a person moved."""
    entries = Transcript.named(f"{agent}{name}").entries
    lines = [json.dumps(one.message).encode() for one in entries if one.who == "heard"]
    whole = await told(lines, agent)
    for number, (_, place) in enumerate(whole, 1):
        assert texts(whole[:number]) + texts(await told(lines, agent, place)) == texts(whole)
    persons = [text for who, text in texts(whole) if who == "person"]
    if not READERS[agent].has_prompts:
        assert persons == ["first", "second", "waiting"]


@pytest.mark.parametrize("place", ["x", "WzFd", "W251bGwsICJ4IiwgMCwgdHJ1ZV0="])
def test_a_place_that_is_none_is_the_beginning(place: str) -> None:
    assert Bookmark.load(place) == Bookmark()


async def test_what_an_agent_was_told_stands_in_its_conversation(office: Office) -> None:
    first = {"text": "first answer", "hold": "x"}
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store, office.host() as host:
            spec = spec_of("gemini", office.directory, model, first)
            allowing = supervise(
                host,
                spec,
                store=store,
                on_permission_request=lambda _: PermissionDecision("allow"),
            )
            async with visiting(store) as visitor, allowing as session:
                path = f"/api/sessions/{session.id}/conversation"
                await model.held("x")
                await session.send(scripted(entry(office, "DONE: all"), {"text": "second answer"}))
                async with visitor.stream(path) as messages:
                    who = list[str]()
                    async for one in messages:
                        if one.event == "reached":
                            model.release("x")
                        passages = one.data.get("passages", ())
                        who += [p["who"] for p in passages if p["who"] in ("person", "agent")]
                        if one.event == "over":
                            break
                await session.result()
    assert who == ["person", "agent", "person", "agent"]
