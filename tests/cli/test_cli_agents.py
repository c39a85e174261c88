"""Agents by name: `run --agent`, the real ones where they are installed."""

from __future__ import annotations

import json

import anyio
import pytest

from optio_agents.supervision.kinds.named import ROWS, AgentRow
from optio_agents.testing.model_server import ModelServer, scripted
from tests.support.agents.real_agents import AGENTS
from tests.support.terminal import Desk
from tests.support.timeouts import BOUND


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
        flags += ["--max-turns", "1"]
        ran = await desk.runs("run", *flags, scripted(*steps))
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert told[0]["kind"] == "began", ran.stderr
    transcript = await desk.runs("transcript", told[0]["session"], "--format", "json")
    who = json.loads(transcript.stdout.splitlines()[0])
    assert (who["who"], "touch one" in who["text"]) == ("person", True), transcript
    asked = [str(one["input"]) for one in told if one["kind"] == "permission"]
    assert any("touch one" in one for one in asked), told


async def test_one_that_is_left_at_once_has_its_prompt_and_hears_why_it_is_denied(
    desk: Desk,
) -> None:
    async with ModelServer().serve() as model:
        given = AGENTS["codex"].surroundings(desk.home, model)
        env_file = desk.home / "env"
        env_file.write_text("".join(f"{key}={value}\n" for key, value in given.items()))
        flags = ["--agent", "codex", "--env-file", str(env_file), "--detach", "--name", "it"]
        ran = await desk.runs("run", *flags, scripted({"shell": "touch one"}, {"text": "well"}))
        assert ran.returncode == 0, ran.stderr
        with anyio.fail_after(BOUND):  # nobody attends to it, and it comes to its question
            while (said := await desk.runs("deny", "it", "--yes", "--message", "no")).returncode:
                assert "nothing is asked now" in said.stderr, said.stderr
        assert said.stdout.endswith("denied; the reason is its next message\n")
        assert (await desk.runs("stop", "it")).returncode == 0


def test_agents_are_listed_with_where_they_are_installed(desk: Desk) -> None:
    odd = desk.home / "odd \x1b[2J"
    odd.mkdir()
    desk.program("aider", "exit 9").rename(odd / "aider")
    ran = desk.run("run", "--agent", "list", env={"PATH": f"{odd}:{desk.env['PATH']}"})
    assert ran.returncode == 0
    assert r"odd \x1b[2J/aider" in ran.stdout
    assert "\x1b" not in ran.stdout
    for name in ROWS:
        assert f"\n{name} " in f"\n{ran.stdout}"
    assert "@openai/codex" in ran.stdout


@pytest.mark.parametrize("row", [ROWS["goose"], ROWS["aider"]], ids=lambda row: row.name)
async def test_an_agent_without_a_wire_is_given_its_prompt_and_ends(
    desk: Desk, row: AgentRow
) -> None:
    """A stand-in: most of these cannot be had without an account."""
    desk.program(
        row.name,
        f"""cat >{desk.home}/input
        for word; do printf '%s\\0' "$word"; done >{desk.home}/arguments
        env >{desk.home}/environment
        printf '%s\\n' 'STATUS: 50% half' DONE >> "$OPTIO_LOG"
        """,
    )
    ran = await desk.runs("run", "--agent", row.name, "--json", "Fix the tests.")
    assert ran.returncode == 0, ran.stderr
    arguments = (desk.home / "arguments").read_text().split("\0")[:-1]
    given = (desk.home / "input").read_text()
    if row.prompt is not None:
        assert not given
        given = arguments.pop()
    assert arguments == [*row.arguments, *filter(None, [row.prompt])]
    assert "STATUS:" in given
    assert given.endswith("\nFix the tests.\n")
    assert "harness" not in given  # replies are not promised
    environment = (desk.home / "environment").read_text().splitlines()
    assert {f"{name}={value}" for name, value in row.env.items()} <= set(environment)


def test_what_asks_for_nothing_is_not_bound_by_permissions(desk: Desk) -> None:
    ran = desk.run("run", "--agent", "goose", "--permission", "deny", "hi")
    assert (ran.returncode, "goose asks for nothing" in ran.stderr) == (2, True)
    ran = desk.run("run", "--agent", "amp", "--model", "m", "hi")
    assert (ran.returncode, "own settings" in ran.stderr) == (2, True)


def test_a_file_that_an_agent_cannot_be_shown_is_refused(desk: Desk) -> None:
    (desk.home / "odd.bin").write_bytes(b"\0\0")
    for agent, why in ("goose", "text alone"), ("claude", "cannot be shown a file of type"):
        ran = desk.run("run", "--agent", agent, "--attach", "odd.bin", "hi")
        assert (ran.returncode, why in ran.stderr) == (2, True), ran.stderr


def test_the_doctor_looks_for_every_agent_that_is_known(desk: Desk) -> None:
    for row in ROWS.values():
        desk.program(row.name, "")
    ran = desk.run("doctor")
    found = [line for line in ran.stdout.splitlines() if " there: " in line or " is there" in line]
    assert all(any(name in line for line in found) for name in ROWS if name != "claude"), found


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
    ran = desk.run("run", "--agent", "cursor-agent", "hi")
    assert "cursor-agent is not installed here" in ran.stderr
    assert "see https://cursor.com/cli" in ran.stderr
