"""A person among the participants."""

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from optio_agents.supervision import Command
from optio_agents.team import NoParticipant, Team, TurnContext, agent, human
from optio_agents.team.stores.journal import Question, TurnJournal
from tests.support.timeouts import BOUND


def scripted(*lines: str) -> tuple[Any, list[str]]:
    shown: list[str] = []
    left = list(lines)
    return human(show=shown.append, read=lambda: left.pop(0)), shown


async def test_ma_19_a_person_is_shown_the_question_and_their_line_is_the_answer() -> None:
    ana, shown = scripted("tomorrow")
    async with Team({"ana": ana}) as team:
        assert str(await team.call("ana", "When?\x1b[2J")) == "tomorrow"
    assert shown == ["user asks ana:\nWhen?\\x1b[2J"]


async def test_ma_18_a_dialogue_of_two() -> None:
    ana, _ = scripted("one", "two", "three")

    async def talks(ctx: TurnContext) -> list[str]:
        return [str(await ctx.call("ana", f"question {n}")) for n in range(3)]

    async with Team({"ana": ana, "bot": talks}) as team:
        turn = team.call("bot")
        await turn
        said = await team.exchange(turn.id)
    middle = [str(message) for message in said if "ana" in (message.sender, message.to)]
    assert middle == ["question 0", "one", "question 1", "two", "question 2", "three"]


async def test_a_text_that_does_not_fit_is_asked_for_again() -> None:
    ana, shown = scripted("soon", "3")
    async with Team({"ana": ana}) as team:
        assert (await team.call("ana", "How many days?", returns=int)).value == 3
    assert "That does not fit" in shown[1]


async def test_a_person_approves() -> None:
    ana, _ = scripted("yes", "no")

    async def asks(ctx: TurnContext) -> list[str]:
        return [str(await ctx.ask("deploy?")) for _ in range(2)]

    async with Team({"ana": ana, "bot": asks}, approve="ana") as team:
        assert [str(message) async for message in team.call("bot")] == ["yes", "no"]


def test_ma_20_several_lines_at_a_console_are_one_message() -> None:
    code = (
        "from optio_agents.team import Team, human;"
        "print(repr(str(Team({'ana': human()}).run('ana', 'What?'))))"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        said = b""
        while b"What?" not in said:
            said += os.read(ours, 1000)
        os.write(ours, b"one\ntwo\n\n")
        while b"'one\\ntwo'" not in said:
            said += os.read(ours, 1000)
        process.wait(BOUND)
    os.close(ours)


async def test_whoever_answers_first_elsewhere_has_answered(tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite3"

    async def asks(ctx: TurnContext) -> str:
        return f"{(await ctx.call('ana', 'How many?', returns=int)).value + 1}"

    async def question(turns: TurnJournal) -> Question:
        async for _ in turns.changes():
            if found := await turns.questions({"ana"}):
                return found[0]
        raise AssertionError

    async with TurnJournal(journal) as turns:
        async with Team({"asks": asks, "ana": human()}, store=journal) as team:
            turn = team.call("asks", id="q")
            asked = await question(turns)
            assert (asked.turn.text, await turns.questions({"bob"})) == ("How many?", [])
            assert await turns.answer(asked, "many")
            while not (again := await question(turns)).refused:
                pass
            assert not turn.over
        # no team is at work now
        assert await turns.answer(again, "2", by="one")
        assert not await turns.answer(again, "3", by="two")
        assert await turns.questions() == []
        async with Team({"asks": asks, "ana": human()}, store=journal) as team:
            assert str(await team.call("asks", id="q")) == "3"
        with pytest.raises(NoParticipant, match="is over"):
            await turns.answer(again, "4")
        tree = [(depth, one.row.name) for depth, one in await turns.tree(await turns.find("q"))]
        assert tree == [(0, "asks"), (1, "ana")]
        assert [one.id for one in await turns.turns(roots=True)] == ["q"]
        assert await turns.turns(running=True) == []


async def test_in_a_team_with_agents_nobody_there_is_a_no() -> None:
    async def asks(ctx: TurnContext) -> str:
        return str(await ctx.ask("May I?"))

    async with Team({"asks": asks, "coder": agent(Command(["true"]))}) as team:
        assert str(await team.call("asks")) == "no: nobody is there to be asked"


async def test_a_question_that_is_cancelled_leaves_the_person_alone() -> None:
    async def never() -> str:
        await asyncio.sleep(BOUND)
        return ""

    async with Team({"ana": human(show=lambda text: None, read=never)}) as team:
        with pytest.raises(TimeoutError):
            await team.call("ana", "?", timeout=0.1)
