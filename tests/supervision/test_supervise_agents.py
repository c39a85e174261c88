"""Supervising real agents that speak ACP, and Codex: taught, answered, found again."""

# ruff: noqa: ASYNC240  # files send no events

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.conversation import PermissionDecision
from optio_agents.errors import AgentError, AgentExited
from optio_agents.supervision import Acp, Codex, Gemini, Kimi, events as happened, find_session
from optio_agents.supervision.kinds.acp import NAMED
from optio_agents.supervision.kinds.named import ROWS
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer, scripted
from tests.support.agents.real_agents import AGENTS
from tests.support.sessions.supervising import Office, Watching
from tests.support.timeouts import BOUND

TRIED = ("codex", "gemini", "kimi")
ALLOW, DENY = PermissionDecision("allow"), PermissionDecision("deny")


def spec_of(name: str, root: Path, model: ModelServer, *steps: dict[str, Any], **more: Any) -> Any:
    agent = AGENTS[name]
    return {**NAMED, "codex": Codex}[name](
        scripted(*steps),
        executable=agent.argv()[0],
        env={**agent.surroundings(root, model), **more},
        env_base="empty",
    )


def entry(office: Office, text: str) -> dict[str, Any]:
    return {"shell": f"printf '%s\\n' '{text}' >> {office.taskdir}/workdir/optio.log"}


@pytest.mark.parametrize("agent", TRIED)
async def test_it_is_taught_reports_without_leave_and_ends(office: Office, agent: str) -> None:
    watching, asked = Watching(), list[str]()

    def decide(request: Any) -> PermissionDecision:
        asked.append(str(request.input))
        return ALLOW

    steps = (
        entry(office, "STATUS: 50% half"),
        {"shell": "touch made"},
        entry(office, "DONE: all"),
        {"text": "That is all."},
    )
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store, office.host() as host:
            spec = spec_of(agent, office.directory, model, *steps)
            result = await supervise(
                host, spec, store=store, observer=watching, on_permission_request=decide
            )
    assert (result.outcome, result.summary) == ("done", "all")
    assert [seen.turn.text for seen in watching.of(happened.TurnEnded)] == ["That is all."]
    assert len(asked) == 1, asked
    assert "touch made" in asked[0]
    assert "## Log channel" in str(model.requests)
    assert "dummy-key" not in repr(watching.seen)


@pytest.mark.parametrize("agent", TRIED)
async def test_what_is_sent_in_a_turn_is_said_behind_it(office: Office, agent: str) -> None:
    """By its owner, by somebody else, and once for each id."""
    watching = Watching()
    first = {"text": "first answer", "hold": "x"}
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store, office.host() as host:
            spec = spec_of(agent, office.directory, model, first)
            supervising = supervise(
                host,
                spec,
                store=store,
                observer=watching,
                on_permission_request=lambda _: ALLOW,
            )
            async with supervising as session:
                await model.held("x")
                await session.send(scripted({"text": "second answer"}), id="a")
                await session.send(scripted({"text": "second answer"}), id="a")
                async with find_session(session.id, store=store) as other:
                    await other.send(scripted(entry(office, "DONE: all"), {"text": "third"}))
                model.release("x")
                result = await session.result()
    assert result.outcome == "done"
    texts = [seen.turn.text for seen in watching.of(happened.TurnEnded)]
    assert texts == ["first answer", "second answer", "third"]


@pytest.mark.parametrize("agent", ["codex", "gemini"])
async def test_it_is_found_again_with_its_request(office: Office, agent: str) -> None:
    """Detached while it asks and a message waits; another supervisor needs the journal alone."""
    steps = {"shell": "touch made"}, {"text": "made it"}
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store:
            async with office.host() as host:
                spec = spec_of(agent, office.directory, model, *steps)
                async with supervise(host, spec, store=store) as session:
                    async for event in session.events():
                        if isinstance(event, happened.RequestOpened):
                            break
                    await session.send(scripted(entry(office, "DONE: all"), {"text": "bye"}))
                    await session.detach()
                    await session.result()
            result = await supervise(
                None,
                resume=session.id,
                store=store,
                observer=watching,
                on_permission_request=lambda _: ALLOW,
            )
    assert result.outcome == "done"
    assert Path(office.taskdir, "workdir/made").exists()
    texts = [seen.turn.text for seen in watching.of(happened.TurnEnded)]
    assert texts == ["made it", "bye"]


async def test_an_agent_that_wants_a_login_says_so(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store, office.host() as host:
            spec = spec_of("gemini", office.directory, model, {"text": "hi"}, GEMINI_API_KEY="")
            with pytest.raises((AgentError, AgentExited), match="gemini"):
                await supervise(host, spec, store=store)


async def test_any_command_that_speaks_acp_can_be_the_agent(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store, office.host() as host:
            agent = AGENTS["kimi"]
            spec = Acp(
                agent.argv(),
                scripted(entry(office, "DONE: all"), {"text": "bye"}),
                env=agent.surroundings(office.directory, model),
                env_base="empty",
            )
            result = await supervise(host, spec, store=store, on_permission_request=lambda _: DENY)
    assert result.outcome == "done"


def test_no_dialect_is_imported_before_its_agent_is_named() -> None:
    code = (
        "import sys, optio_agents.supervision as s\n"
        "s.Gemini('x'), s.Codex('x')\n"
        "print([m for m in sys.modules if m.startswith('optio_agents.conversation.')\n"
        "       and m.split('.')[2] in {'acp', 'codex', 'claude'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_how_to_get_its_agent(name: str) -> None:
    row = ROWS[name]
    assert row.install
    assert row.argv(None, None, ())[0] == row.name


def test_a_model_that_cannot_be_handed_over_is_refused() -> None:
    with pytest.raises(ValueError, match="own settings"):
        Kimi("x", model="k2")
    assert Gemini("x", model="pro").argv == ["gemini", "--acp", "--model", "pro"]
