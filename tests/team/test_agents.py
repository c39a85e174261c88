"""Coding agents as participants: real processes on this machine."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from optio_agents.store import Store
from optio_agents.supervision import Claude, Command, LogLine, find_session, supervise
from optio_agents.supervision.sessions import task_directory
from optio_agents.team import CallFailed, Limits, Team, TurnContext, agent
from optio_agents.team.participants.agent_sessions import session_of
from optio_agents.team.stores.journal import TurnJournal
from optio_agents.testing.model_server import ModelServer, scripted
from optio_agents.testing.scripted import scripted_agent
from tests.support.claude.claude_cli import OFF, executable, surroundings
from tests.support.proc import environment, processes, tagged
from tests.support.sessions.supervising import PLAIN
from tests.support.timeouts import BOUND


def program(*steps: str, **more: Any) -> Any:
    return agent(Command(scripted_agent(*steps), env=PLAIN, env_base="empty"), **more)


def hears(word: str) -> str:
    return f"run until grep -rqs {word} ../session/said; do sleep 0.05; done"


def at_work_for(place: Path) -> list[Any]:
    """The processes of all agents whose home is below that place."""
    home = os.fsencode(place)
    return [one for one in processes() if any(home in known for known in environment(one))]


def at_work(turn: str) -> list[Any]:
    """The processes of the agent of a turn."""
    try:
        path = Path(task_directory(session_of(turn)), "session/tag").expanduser()
        return tagged(path.read_text().strip())
    except FileNotFoundError:
        return []


async def until_at_work(turn: str) -> None:
    async with asyncio.timeout(BOUND):
        while not at_work(turn):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def echo(ctx: TurnContext) -> str:
    """Says it again."""
    return f"echo {ctx.text}"


async def test_an_agent_delivers_and_its_summary_is_the_answer(tmp_path: Path) -> None:
    coder = program("write a.txt hello", "DELIVERABLE: deliverables/a.txt", "hear", "DONE: all")
    async with Team({"coder": coder}, store=tmp_path / "journal.sqlite3") as team:
        answer = await team.call("coder", "Make a file")
        [file] = answer.attachments
    assert (answer.text, file.name, file.data) == ("all", "a.txt", b"hello\n")


async def test_an_agent_without_a_store_works_as_well() -> None:
    async with Team({"coder": program("DONE: ready")}) as team:
        assert str(await team.call("coder", "x")) == "ready"


async def test_what_the_agent_reports_as_an_error_is_a_failure() -> None:
    async with Team({"coder": program("ERROR: no compiler")}) as team:
        with pytest.raises(CallFailed, match="no compiler") as caught:
            await team.call("coder", "x")
    assert caught.value.kind == "AgentFailed"


async def test_an_agent_calls_others_by_a_line_of_its_log(tmp_path: Path) -> None:
    call = 'CALLER_MESSAGE: call {"name": "echo", "message": "hi", "id": "one"}'
    nobody = 'CALLER_MESSAGE: call {"name": "nobody", "message": "hi"}'
    steps = [call, hears("echo.hi"), nobody, hears("no.participant"), "DONE: ok"]
    people = {"coder": program(*steps), "echo": echo}
    async with Team(people, store=tmp_path / "journal.sqlite3") as team:
        turn = team.call("coder", "x")
        assert str(await turn) == "ok"
    assert [child.name for child in turn.children] == ["echo"]
    assert "echo" in turn.tree()


async def test_ag_27_cancelling_a_turn_ends_the_agent_and_what_it_started(tmp_path: Path) -> None:
    async with Team(
        {"coder": program("STATUS: 1%", "sleep 3600", "DONE")}, store=tmp_path / "journal.sqlite3"
    ) as team:
        turn = team.call("coder", "x", id="cancelled-one")
        await until_at_work(turn.id)
        await turn.cancel()
        assert at_work(turn.id) == []
    assert turn.status == "cancelled"


STEPS = ("STATUS: 1%", hears("purple.tea"), "DONE: went on")
WORKER = """
import asyncio, sys
from pathlib import Path
from optio_agents.team import Team
from tests.team.test_agents import STEPS, program

async def main():
    store = Path(sys.argv[1])
    async with Team({"coder": program(*STEPS)}, store=store) as team:
        print(await team.call("coder", "x", id="killed"))

asyncio.run(main())
"""


async def test_killed_and_started_again_the_agent_is_found_at_work(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path / "journal.sqlite3")]
    first = subprocess.Popen(command)  # noqa: ASYNC220  # nobody else needs the loop
    await until_at_work("killed")
    await asyncio.sleep(1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    [before, *_] = at_work("killed")
    async with Team(
        {"coder": program(*STEPS)},
        store=tmp_path / "journal.sqlite3",
    ) as team:
        turn = team.call("coder", "x", id="killed")
        async with asyncio.timeout(BOUND):
            await turn.send("purple tea")
            assert str(await turn) == "went on"
    assert before.gone


async def test_an_agent_works_on_when_its_team_is_closed(tmp_path: Path) -> None:
    people = {"coder": program(*STEPS)}
    async with Team(people, store=tmp_path / "journal.sqlite3") as team:
        team.call("coder", "x", id="closed")
        await until_at_work("closed")
        await asyncio.sleep(1)
    assert at_work("closed")
    async with Team(people, store=tmp_path / "journal.sqlite3") as team:
        turn = team.call("coder", "x", id="closed")
        await turn.send("purple tea")
        assert str(await turn) == "went on"


async def until_it_says(percent: int, session: str, store: Path) -> None:
    async with find_session(session, store=store) as live:
        async for event in live.events():
            if isinstance(event, LogLine) and getattr(event.event, "percent", None) == percent:
                return


async def test_a_team_waits_for_a_session_that_somebody_else_supervises(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who has no team to ask tells the agent so."""
    call = 'CALLER_MESSAGE: call {"name": "echo", "message": "hi", "id": "one"}'
    told = call, hears("nobody.takes.it.now"), "STATUS: 50%"
    steps = "STATUS: 1%", hears("ask.now"), *told, hears("purple.tea"), "DONE: went on"
    people, store = {"coder": program(*steps), "echo": echo}, tmp_path / "journal.sqlite3"
    async with asyncio.timeout(BOUND):
        async with Team(people, store=store) as team:
            team.call("coder", "x", id="lent")
            await until_at_work("lent")
            await until_it_says(1, "lent", store)
        async with supervise(None, resume="lent", store=store) as session:
            await session.send("ask now")
            await until_it_says(50, "lent", store)
            async with Team(people, store=store) as team:
                turn = team.call("coder", "x", id="lent")
                while "waits for its session" not in caplog.text:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                await session.detach()
                await turn.send("purple tea")
                assert str(await turn) == "went on"


async def test_a_call_does_not_wait_for_ever_for_its_session(tmp_path: Path) -> None:
    coder, store = program("sleep 3600"), tmp_path / "journal.sqlite3"
    coder.grace = 0.1
    spec = Command(scripted_agent("sleep 3600"), env=PLAIN, env_base="empty")

    async def leaves_it(ctx: TurnContext) -> None:
        ctx.suspend_for_mail()

    async with Team({"coder": leaves_it}, store=store) as team:
        turn = team.call("coder", "x", id="kept", timeout=5)
        while turn.status != "sleeping":
            await turn.pieces.more()
    async with (
        asyncio.timeout(BOUND),
        coder.make_host("kept") as host,
        supervise(host, spec, session="kept", store=store),
        Team({"coder": coder}, store=store) as team,
    ):
        with pytest.raises(CallFailed, match="no answer within"):
            await team.call("coder", "x", id="kept", timeout=5)


def claude(root: Path, api: ModelServer, *steps: dict[str, Any]) -> Claude:
    api.scripts["plan"] = steps
    return Claude(
        "Do as the script says: @@plan@@",
        allowed_tools=("Bash",),
        options=OFF,
        executable=executable(),
        env=surroundings(root, api),
        env_base="empty",
    )


async def test_ao_21_an_answer_of_claude_ends_the_turn(tmp_path: Path) -> None:
    async with ModelServer().serve() as api:
        coder = agent(claude(tmp_path, api, {"text": "The slow ones are in tests/hosts."}))
        async with Team({"coder": coder}, store=tmp_path / "journal.sqlite3") as team:
            turn = team.call("coder", "Which tests are slow?")
            assert str(await turn) == "The slow ones are in tests/hosts."
            assert at_work(turn.id) == []
    assert turn.used["steps"] == 1


async def test_claude_asks_the_approver_of_the_team(tmp_path: Path) -> None:
    asked = []

    def policy(question: str) -> bool:
        asked.append(question)
        return "made" in question

    async with ModelServer().serve() as api:
        path = str(tmp_path / "made")
        write = {"tool": "Write", "input": {"file_path": path, "content": "hello"}}
        coder = agent(claude(tmp_path, api, write, {"text": "I wrote it."}))
        team = Team({"coder": coder}, store=tmp_path / "journal.sqlite3", approve=policy)
        async with team:
            assert str(await team.call("coder", "Write it")) == "I wrote it."
    assert (tmp_path / "made").read_text() == "hello"
    assert ["Write" in question for question in asked] == [True]


async def test_a_shared_agent_keeps_its_session_and_its_turns_queue(tmp_path: Path) -> None:
    async with ModelServer().serve() as api:
        coder = agent(claude(tmp_path, api, {"text": "one"}), shared=True)
        async with Team({"coder": coder}, store=tmp_path / "journal.sqlite3") as team:
            first = team.call("coder", "First")
            second = team.call("coder", scripted({"text": "two"}))
            assert [str(await turn) for turn in (first, second)] == ["one", "two"]
            assert first.row.ended is not None
            assert second.row.started is not None
            assert second.row.started >= first.row.ended
        async with Team({"coder": coder}, store=tmp_path / "journal.sqlite3") as team:
            assert str(await team.call("coder", scripted({"text": "three"}))) == "three"
        said = json.dumps(max(api.requests, key=lambda asked: len(json.dumps(asked))))
        assert all(word in said for word in ("First", "two"))
        async with Store(tmp_path / "journal.sqlite3") as store:
            [session] = await store.sessions()
            async with find_session(session.id, store=store) as live:
                await live.stop()


@pytest.mark.parametrize("at_work", [True, False])
async def test_a_shared_agent_goes_on_after_a_turn_that_was_cancelled(
    tmp_path: Path, *, at_work: bool
) -> None:
    """Also when its team is at work no more."""
    journal = tmp_path / "journal.sqlite3"
    async with ModelServer().serve() as api:
        coder = agent(claude(tmp_path, api), shared=True)
        async with AsyncExitStack() as stack, asyncio.timeout(BOUND):
            team = await stack.enter_async_context(Team({"coder": coder}, store=journal))
            first = team.call("coder", scripted({"text": "one", "hold": "h"}), id="first")
            await api.held("h")
            if at_work:
                await first.cancel()
            else:
                await stack.aclose()
                async with TurnJournal(journal) as turns:
                    assert await turns.cancel(await turns.find("first")) == ["first"]
                team = await stack.enter_async_context(Team({"coder": coder}, store=journal))
            assert str(await team.call("coder", scripted({"text": "two"}))) == "two"
        async with Store(journal) as store:
            [session] = await store.sessions()
            async with find_session(session.id, store=store) as live:
                await live.stop()


async def test_a_shared_agent_of_a_team_without_a_store_ends_with_it(tmp_path: Path) -> None:
    async with ModelServer().serve() as api:
        coder = agent(claude(tmp_path, api, {"text": "one"}), shared=True)
        another = agent(claude(tmp_path, api, {"text": "one"}), shared=True)
        async with Team({"coder": coder}) as team, Team({"coder": another}) as other:
            assert str(await team.call("coder", "First")) == "one"
            assert str(await other.call("coder", "First")) == "one"  # of a session of its own
            assert at_work_for(tmp_path)
            assert str(await team.call("coder", scripted({"text": "two"}))) == "two"
        assert at_work_for(tmp_path) == []
    with pytest.raises(ValueError, match="shared"):
        agent(Command(["true"]), shared=True, ends="done")


async def test_limits_hold_for_agents(tmp_path: Path) -> None:
    async with ModelServer().serve() as api:
        coder = agent(claude(tmp_path, api, {"text": "one"}))

        async def twice(ctx: TurnContext) -> str:
            await ctx.call("coder", "x")
            return str(await ctx.call("coder", "y"))

        people = {"coder": coder, "twice": twice}
        async with Team(people, limits=Limits(steps=1), store=tmp_path / "journal.sqlite3") as team:
            turn = team.call("twice")
            with pytest.raises(CallFailed, match="limit steps"):
                await turn
            used = [status.used.get("steps") for status in await team.turns(name="coder")]
    assert used == [1, None]


async def test_ag_40_an_agent_that_has_reached_a_limit_sums_up(tmp_path: Path) -> None:
    """It is told so in one message, and has a while for it; then it is stopped."""
    polite = program("STATUS: 1%", hears("reached.a.limit.*seconds"), "DONE: half of it")
    deaf = program("STATUS: 1%", "run trap '' INT; while :; do sleep 0.1; done")
    deaf.grace = 0.5
    people, store = {"polite": polite, "deaf": deaf}, tmp_path / "journal.sqlite3"
    async with Team(people, store=store, limits=Limits(seconds=1)) as team:
        for name, said in ("polite", "half of it"), ("deaf", ""):
            turn = team.call(name, "x", id=f"late-{name}")
            with pytest.raises(CallFailed, match="limit seconds: 1"):
                await turn
            status = await team.status(turn.id)
            assert (status.status, status.text) == ("limit", said)
            assert at_work(turn.id) == []


async def test_ag_40_so_does_claude(tmp_path: Path) -> None:
    async with ModelServer().serve() as api:
        spec = claude(tmp_path, api, {"text": "I begin."}, {"text": "half of it"})
        people, store = {"coder": agent(spec, ends="done")}, tmp_path / "journal.sqlite3"
        async with Team(people, store=store, limits=Limits(steps=1)) as team:
            turn = team.call("coder", "x")
            with pytest.raises(CallFailed, match="limit steps: 1"):
                await turn
            status = await team.status(turn.id)
    assert (status.status, status.text) == ("limit", "half of it")
    assert "Sum up what you have" in json.dumps(api.requests)


async def test_an_agent_whose_call_is_out_of_time_is_stopped(tmp_path: Path) -> None:
    people = {"coder": program("STATUS: 1%", "sleep 3600")}
    async with Team(people, store=tmp_path / "journal.sqlite3") as team:
        with pytest.raises(CallFailed, match="no answer within"):
            await team.call("coder", "x", id="timed", timeout=0.5)
        assert (await team.status("timed")).status == "timeout"
        assert at_work("timed") == []


def test_the_session_of_a_turn_is_named_by_it() -> None:
    assert session_of("abc.1.2") == "abc_1_2"
    assert len(session_of("x" * 200)) == 40
    assert session_of("abc.1", "crew") == "crew_abc_1"
    assert session_of("x" * 200, "crew") != session_of("x" * 200)


async def test_agents_of_two_teams_in_one_store_are_two(tmp_path: Path) -> None:
    store = tmp_path / "journal.sqlite3"
    one = Team({"coder": program("DONE: one")}, store=store, name="one")
    two = Team({"coder": program("DONE: two")}, store=store, name="two")
    async with one, two:
        turns = [team.call("coder", "x", id="same-one") for team in (one, two)]
        assert [str(await turn) for turn in turns] == ["one", "two"]


async def test_turns_whose_sessions_read_the_same_have_two(tmp_path: Path) -> None:
    """Also for whoever looks for the team of a session, and for who cancels one from outside."""
    store = tmp_path / "journal.sqlite3"
    crew = Team({"coder": program("STATUS: 1%", "sleep 3600")}, store=store, name="crew")
    async with asyncio.timeout(BOUND), AsyncExitStack() as stack:
        one = await stack.enter_async_context(crew)
        one.call("coder", "x", id="t")
        await until_at_work("crew.t")
        async with Team({"coder": program("DONE: mine")}, store=store) as team:
            assert str(await team.call("coder", "x", id="crew.t")) == "mine"
        assert at_work("crew.t")
        again = program("STATUS: 1%", "sleep 3600")
        other = await stack.enter_async_context(Team({"coder": again}, store=store))
        other.call("coder", "x", id="crew.t.1")
        await until_at_work("crew.t.1")
        one.call("coder", "x", id="t.1")
        async with Store(store) as journal, TurnJournal(store) as turns:
            while True:
                names = [known.id for known in await journal.sessions()]
                if apart := [name for name in names if name.startswith("crew_t_1-")]:
                    break
                await asyncio.sleep(0.05)
            assert await turns.team_of("crew_t_1") == "team"
            assert await turns.team_of(apart[0]) == "crew"
        await stack.aclose()
        async with TurnJournal(store) as turns:
            [twin] = [turn for turn in await turns.turns(running=True) if turn.id == "t.1"]
            assert await turns.cancel(twin) == ["t.1"]
        assert at_work("crew.t.1")
        for name in "crew_t", "crew_t_1":
            async with find_session(name, store=store) as live:
                await live.stop()
