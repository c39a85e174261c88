"""Agents by name: `run --agent`, the real ones where they are installed."""

from __future__ import annotations

import json

import pytest

from optio_agents.supervision.kinds.named import ROWS
from optio_agents.testing.model_server import ModelServer, scripted
from tests.support.agents.real_agents import AGENTS
from tests.support.terminal import Desk


@pytest.mark.parametrize("name", ["codex", "gemini", "kimi"])
async def test_an_agent_is_run_by_its_name(desk: Desk, name: str) -> None:
    steps = (
        {"shell": "printf '%s\\n' 'STATUS: 50% half' >> $OPTIO_LOG"},
        {"shell": "touch one"},
        {"text": "That is all."},
    )
    async with ModelServer().serve() as model:
        given = AGENTS[name].surroundings(desk.home, model)
        env_file = desk.home / "env"
        env_file.write_text("".join(f"{key}={value}\n" for key, value in given.items()))
        flags = ["--agent", name, "--env-file", str(env_file), "--permission", "deny", "--json"]
        flags += ["--stall-after", "5"]
        ran = await desk.runs("run", *flags, scripted(*steps))
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert told[0]["kind"] == "began", ran.stderr
    asked = [str(one["input"]) for one in told if one["kind"] == "permission"]
    assert any("touch one" in one for one in asked), told


def test_agents_are_listed_with_where_they_are_installed(desk: Desk) -> None:
    ran = desk.run("run", "--agent", "list")
    assert ran.returncode == 0
    for name in ROWS:
        assert f"\n{name} " in f"\n{ran.stdout}"
    assert "@openai/codex" in ran.stdout


def test_an_agent_that_nobody_knows_is_refused_with_those_that_are_known(desk: Desk) -> None:
    ran = desk.run("run", "--agent", "codx", "hi")
    assert ran.returncode == 2
    assert "codex, gemini" in ran.stderr
    assert desk.run("run", "--agent", "acp:", "hi").returncode == 2


def test_what_only_claude_takes_is_refused_for_others(desk: Desk) -> None:
    for flags in ("--allow", "Bash"), ("--permission", "accept-edits"):
        ran = desk.run("run", "--agent", "codex", *flags, "hi")
        assert (ran.returncode, "claude's alone" in ran.stderr) == (2, True)
    ran = desk.run("run", "--agent", "kimi", "--model", "k2", "hi")
    assert (ran.returncode, "own settings" in ran.stderr) == (2, True)


def test_an_agent_that_is_not_installed_says_how_to_get_it(desk: Desk) -> None:
    ran = desk.run("run", "--agent", "acp:no-such-agent --acp", "hi")
    assert "no-such-agent is not installed here" in ran.stderr
