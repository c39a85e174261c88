"""A team by the command: run, served, looked at, and answered by people at their own terminals."""

from __future__ import annotations

import asyncio
import json
import subprocess

import pytest

from optio_agents.cli import exits
from tests.support.terminal import Desk
from tests.support.timeouts import BOUND

CREW = """
from optio_agents.team import Team, human

async def writer(ctx):
    "Writes."
    return f"haiku of {ctx.text}"

async def release(ctx):
    words = await ctx.call("writer", ctx.text)
    return f"{words}: {await ctx.call('ana', f'{words}: ship it?')}"

async def many(ctx):
    await ctx.sleep(seconds=0.5)
    return [ctx.call("writer", str(n)) for n in range(3)]

async def fails(ctx):
    raise OSError("no \\x1b[2J paper")

team = Team({"writer": writer, "release": release, "many": many, "fails": fails, "ana": human()})
"""


@pytest.fixture
def crew(desk: Desk) -> Desk:
    (desk.home / "crew.py").write_text(CREW)
    return desk


def test_a_turn_is_run_listed_and_looked_at(crew: Desk) -> None:
    ran = crew.run("team", "run", "crew.py", "many", "tea", "--id", "m-1")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.endswith("haiku of 0\n\nhaiku of 1\n\nhaiku of 2\n")
    assert "many calls writer" in ran.stdout
    [row] = crew.listed()
    assert (row["kind"], row["turn"], row["outcome"]) == ("team_turn", "m-1", "done")
    assert "m-1" in crew.run("ls").stdout
    tree = crew.run("team", "tree", "m-1").stdout.splitlines()
    assert [line.split()[0] for line in tree[:4]] == ["many", "writer", "writer", "writer"]
    assert tree[1].startswith("  writer")
    rows = crew.run("team", "tree", "m-1", "--json").stdout.splitlines()
    assert [json.loads(line)["parent"] for line in rows] == [None, "m-1", "m-1", "m-1"]
    assert crew.run("attach", "m-1").returncode == 0
    again = crew.run("team", "run", "crew.py", "many", "tea", "--id", "m-1")
    assert again.stdout.endswith("haiku of 2\n")


def test_a_program_is_told_each_event(crew: Desk) -> None:
    ran = crew.run("team", "run", "crew.py", "many", "tea", "--json")
    records = [json.loads(line) for line in ran.stdout.splitlines()]
    kinds = [one["kind"] for one in records]
    assert kinds.count("called") == 3
    assert {one["v"] for one in records} == {1}
    assert records[-1]["kind"] == "concluded"
    assert records[-1]["status"] == "completed"
    assert {one["name"] for one in records} == {"many", "writer"}


def test_what_cannot_be_is_said_in_a_sentence(crew: Desk) -> None:
    failed = crew.run("team", "run", "crew.py", "fails")
    assert failed.returncode == 1
    assert r"OSError: no \x1b[2J paper" in failed.stderr
    nobody = crew.run("team", "run", "crew.py", "bob", "x")
    assert nobody.returncode == 2
    assert "no participant 'bob'" in nobody.stderr
    assert "there is no file nothing.py" in crew.run("team", "run", "nothing.py", "x").stderr
    (crew.home / "two.py").write_text(CREW + "other = Team({'a': writer})\n")
    two = crew.run("team", "run", "two.py", "writer", "x")
    assert (two.returncode, "say two.py:NAME, of team, other" in two.stderr) == (2, True)
    assert crew.run("team", "run", "two.py:other", "a", "x").returncode == 0
    missing = crew.run("team", "tree", "nobody")
    assert (missing.returncode, "no turn 'nobody'" in missing.stderr) == (2, True)
    assert "no session 'nobody'" in crew.run("attach", "nobody").stderr


# Somebody's program gives work, where no person sits.
RELEASE = ("team", "run", "crew.py", "release", "tea", "--id", "r-1")


CODERS = """
from optio_agents import Command
from optio_agents.team import Team, agent
from optio_agents.testing import scripted_agent

async def echo(ctx):
    return f"echo {ctx.text}"

steps = [
    "STATUS: 5% begun",
    HOLD,
    'CALLER_MESSAGE: call {"name": "echo", "message": "hi", "id": "one"}',
    "run until grep -rqs echo.hi ../session/said; do sleep 0.05; done",
    "DONE: both",
]
team = Team({"coder": agent(Command(scripted_agent(*steps))), "echo": echo})
"""


@pytest.fixture
def killed(desk: Desk) -> Desk:
    """A team was killed while its agent worked on the turn c-1."""
    (desk.home / "crew.py").write_text(CODERS.replace("HOLD", repr(desk.hold("ask"))))
    words = ["optio-agents", "team", "run", "crew.py", "coder", "x", "--id", "c-1"]
    with subprocess.Popen(words, env=desk.env, cwd=desk.home, stdout=subprocess.DEVNULL) as team:
        while not any(row.get("last") == "5% begun" for row in desk.listed()):
            pass
        team.kill()
    return desk


def test_the_agent_of_a_team_that_was_killed_is_cancelled(killed: Desk) -> None:
    ran = killed.run("team", "cancel", "c-1")
    assert (ran.stdout, ran.stderr) == ("cancelled c-1\n", "")
    assert {row["outcome"] for row in killed.listed()} == {"cancelled"}
    assert killed.run("team", "cancel", "c-1").stdout == "c-1 is over: cancelled\n"


def test_a_turn_is_cancelled_from_another_process(crew: Desk) -> None:
    with crew.running(*RELEASE) as (process, _):
        while not any(row["waits"] for row in crew.listed()):
            pass
        ran = crew.run("team", "cancel", "r-1")
        assert ran.stdout == "cancelled r-1, and 1 below it\n"
        assert process.wait(BOUND) == exits.CANCELLED
    states = [line.split()[2] for line in crew.run("team", "tree", "r-1").stdout.splitlines()[:3]]
    assert states == ["cancelled", "completed", "cancelled"]
    assert "no turn 'nobody'" in crew.run("team", "cancel", "nobody").stderr


def test_who_attaches_leaves_the_calls_of_an_agent_to_its_team(killed: Desk) -> None:
    """It is waited for, and takes its agent back when it is at work again."""
    desk = killed
    attach = ["optio-agents", "attach", "crew_c-1"]
    with subprocess.Popen(
        attach, env=desk.env, cwd=desk.home, stderr=subprocess.PIPE, text=True
    ) as attached:
        assert attached.stderr is not None
        lines = iter(attached.stderr.readline, "")
        line = next(line for line in lines if "works for the team crew" in line)
        assert "which is not at work" in line
        assert "optio-agents team serve FILE.py" in line
        desk.release("ask")
        ran = desk.run("team", "run", "crew.py", "coder", "x", "--id", "c-1")
        assert ran.stdout.endswith("\nboth\n")
        assert "coder calls echo" in ran.stdout
        assert attached.wait(BOUND) == 0


async def test_a_person_answers_while_no_team_is_at_work(crew: Desk) -> None:
    with crew.running(*RELEASE) as (process, lines):
        assert any("calls ana" in line for line in lines)
        while not any(row["waits"] for row in crew.listed()):
            pass
        process.kill()
    async with crew.terminal() as terminal:
        await terminal.type("clear; optio-agents sit ana")
        await terminal.until(r"release asks ana, turn r-1.2:\n  haiku of tea: ship it\?")
        await terminal.type("yes,")
        await terminal.type("on Monday")
        await terminal.key("Enter")
        await terminal.until("answered\nnothing waits now")
        await terminal.key("C-c")
        await terminal.until(r"left\n\$")
    assert not any(row["waits"] for row in crew.listed())
    ran = await crew.runs("team", "run", "crew.py", "release", "tea", "--id", "r-1")
    assert ran.stdout.endswith("haiku of tea: yes,\non Monday\n")


async def test_a_team_that_is_served_goes_on_when_a_person_has_answered(crew: Desk) -> None:
    async with crew.terminal() as serving, crew.terminal() as sitting:
        await serving.type('clear; optio-agents team serve crew.py; echo "exit $?"')
        await serving.until("serving writer, release")
        await sitting.type("clear; optio-agents sit")
        await sitting.until("nothing waits now")
        with crew.running(*RELEASE) as (process, _):
            await sitting.until(r"ship it\?")
            await sitting.type("yes")
            await sitting.key("Enter")
            out, _ = await asyncio.to_thread(process.communicate, timeout=BOUND)
        assert out.endswith("haiku of tea: yes\n")
        await serving.key("C-c")
        await serving.ends(0)
        await sitting.key("C-c")


async def test_who_runs_a_team_is_asked_at_that_terminal(crew: Desk) -> None:
    async with crew.terminal() as terminal, crew.terminal() as other:
        await terminal.type('clear; optio-agents team run crew.py release tea; echo "exit $?"')
        await terminal.until("release asks ana:\nhaiku of tea: ship it\\?")
        await other.type("clear; optio-agents sit ana")
        await other.until(r"ship it\?")
        await terminal.type("yes")
        await terminal.key("Enter")
        await terminal.ends(0)
        await other.until("it was answered elsewhere")
        assert "haiku of tea: yes" in await terminal.screen()
        await other.key("C-c")


async def test_a_team_is_shown_live_and_left(crew: Desk) -> None:
    plain = CREW.replace(', "ana": human()', "").replace("seconds=0.5", "seconds=600")
    (crew.home / "crew.py").write_text(plain)
    async with crew.terminal() as terminal:
        await terminal.type(
            'clear; optio-agents team run crew.py many tea --id m-2; echo "exit $?"'
        )
        await terminal.until(r"^many +.*sleeping")
        await terminal.key("C-c")
        seen = await terminal.ends(6)
        assert "--id m-2" in seen
    (crew.home / "crew.py").write_text(plain.replace("seconds=600", "seconds=0"))
    async with crew.terminal() as terminal:
        await terminal.type('clear; optio-agents team run crew.py many tea; echo "exit $?"')
        await terminal.ends(0)
        screen = await terminal.screen()
        assert "  writer" in screen
        assert "haiku of 2" in screen
