"""An agent's own list of tasks is its progress; and what is set and handed over while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.supervision import Claude, Codex, events as happened, find_session
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer, scripted
from tests.support.agents.real_agents import AGENTS
from tests.support.claude.claude_cli import OFF, executable, surroundings
from tests.support.sessions.sessions import Context
from tests.support.sessions.supervising import Office, Watching
from tests.support.timeouts import BOUND


def listed(*rows: tuple[str, str]) -> list[dict[str, str]]:
    return [{"content": text, "status": status, "activeForm": text} for text, status in rows]


def writes(*rows: tuple[str, str]) -> dict[str, Any]:
    return {"tool": "TodoWrite", "input": {"todos": listed(*rows)}}


def claude(root: Path, api: ModelServer, *steps: dict[str, Any]) -> Claude:
    return Claude(
        scripted(*steps),
        allowed_tools=("Bash",),
        options=OFF,
        executable=executable(),
        env={**surroundings(root, api), "CLAUDE_CODE_ENABLE_TASKS": "0"},
        env_base="empty",
    )


DONE = {"tool": "Bash", "input": {"command": "echo 'DONE: all' >> optio.log"}}


@pytest.mark.parametrize("reports", [False, True])
async def test_the_list_of_an_agent_is_its_progress_where_it_writes_none(
    office: Office, reports: bool
) -> None:
    watching, ctx = Watching(), Context()
    status = {"tool": "Bash", "input": {"command": "echo 'STATUS: 7% x' >> optio.log; sleep 1"}}
    steps = [status] if reports else []
    steps += [writes(("look", "completed"), ("mend", "in_progress")), DONE, {"text": "So."}]
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            spec = claude(office.directory, api, *steps)
            result = await supervise(host, spec, store=store, observer=watching, ctx=ctx)
            row = await store.session(result.session)
    assert result.outcome == "done"
    (todos,) = watching.of(happened.TodosChanged)
    words = 'Now working on Task 2/2, "mend"'
    assert (todos.percent, todos.text) == (50, words)
    assert [item["text"] for item in todos.items] == ["look", "mend"]
    assert (words in ctx.messages) != reports
    assert row.state.percent == (7 if reports else 50)


async def test_claude_goes_on_with_the_model_that_was_set_from_another_process(
    office: Office,
) -> None:
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            spec = claude(office.directory, api, {"text": "Hello."})
            async with supervise(host, spec, store=store) as session:
                async for event in session.events():
                    if isinstance(event, happened.TurnEnded):
                        break
                async with find_session(session.id, store=store) as elsewhere:
                    await elsewhere.set_control("model", "haiku")
                    with pytest.raises(ValueError, match="'yolo' is none of default"):
                        await elsewhere.set_control("mode", "yolo")
                    await elsewhere.send(scripted({"text": "Again."}))
                async for event in session.events():
                    if isinstance(event, happened.TurnEnded) and event.turn.text == "Again.":
                        break
            models = [request["model"] for request in api.requests if request.get("tools")]
    assert "haiku" in models[-1]
    assert "haiku" not in models[0]


async def test_a_model_is_set_from_another_process_also_before_the_next_message(
    office: Office,
) -> None:
    agent = AGENTS["codex"]
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            spec = Codex(
                scripted({"text": "Hello."}),
                executable=agent.argv()[0],
                env=agent.surroundings(office.directory, api),
                env_base="empty",
            )
            async with supervise(host, spec, store=store) as session:
                async for event in session.events():
                    if isinstance(event, happened.TurnEnded):
                        break
                async with find_session(session.id, store=store) as elsewhere:
                    with pytest.raises(Exception, match="no control 'mode': it has model, reas"):
                        await elsewhere.set_control("mode", "plan")
                    await elsewhere.set_control("model", "gpt-other")
                    await elsewhere.send(scripted({"text": "Again."}))
                async for event in session.events():
                    if isinstance(event, happened.TurnEnded) and event.turn.text == "Again.":
                        break
            models = [request["model"] for request in api.requests if "model" in request]
    assert models[-1] == "gpt-other"
    assert models[0] != "gpt-other"
