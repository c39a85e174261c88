"""What is said to an agent on this machine takes a shorter way, and the same promises hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from optio_agents import agents
from optio_agents.agents import Agent
from optio_agents.agents.input import SMALL, GivenAnswer, answer_here, say_here
from optio_agents.errors import InputClosed, NameTaken, WorkDirRefused
from optio_agents.hosts.host import LocalHost
from tests.support.timeouts import BOUND

SHELL = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture
def ways(monkeypatch):
    """Which way each message took."""
    taken = list[bool]()

    def note(*args):
        taken.append(say_here(*args))
        return taken[-1]

    def note_answer(*args):
        taken.append(answer_here(*args))
        return taken[-1]

    monkeypatch.setattr("optio_agents.agents.agent.say_here", note)
    monkeypatch.setattr("optio_agents.agents.agent.answer_here", note_answer)
    return taken


async def test_words_arrive_once_and_in_order_whichever_way_they_take(tmp_path, ways):
    large = b"x" * SMALL + b"\n"
    with anyio.fail_after(BOUND):
        async with LocalHost(str(tmp_path / "task")) as host:
            await host.setup_workdir()
            async with agents.start(host, ["cat"], env=SHELL, env_base="empty") as agent:
                await agent.say(b"one\n", name="a")
                await agent.say(b"one\n", name="a")
                with pytest.raises(NameTaken):
                    await agent.say(b"two\n", name="a")
                for n in range(20):
                    await agent.say(b"%d\n" % n)
                await agent.say(large)
                await agent.say(b"last\n")
                await agent.end_input()
                assert (await agent.wait()).exit_code == 0
                with pytest.raises(InputClosed):
                    await agent.say(b"late\n")
            said = await host.fetch_bytes_from_host(f"{agent.directory}/stdout")
    numbers = b"".join(b"%d\n" % n for n in range(20))
    assert said == b"one\n" + numbers + large + b"last\n"
    assert ways == [True, False, False, *[True] * 22, False]
    assert not half_written(agent)


async def test_the_first_answer_wins_whichever_way_it_takes(tmp_path, ways):
    with anyio.fail_after(BOUND):
        async with LocalHost(str(tmp_path / "task")) as host:
            await host.setup_workdir()
            async with agents.start(host, ["cat"], env=SHELL, env_base="empty") as agent:
                assert (await agent.answer("one", b"yes\n", by="first")).won
                lost = await agent.answer("one", b"no\n", by="second")
                assert (lost.won, lost.by, lost.data) == (False, "first", b"yes\n")
                assert (await agent.answer("one", b"yes\n", by="first")).won
                assert (await agent.answer("two", b"x" * SMALL + b"\n", by="first")).won
                assert await agent.find_answer("one") == GivenAnswer("first", b"yes\n")
                keep_unsaid(agent, "three", b'3 "third"\nwon')  # its winner died just then
                assert not (await agent.answer("three", b"no", by="second")).won
                await agent.end_input()
                assert (await agent.wait()).exit_code == 0
                with pytest.raises(InputClosed):
                    await agent.answer("late", b"yes\n", by="first")
            said = await host.fetch_bytes_from_host(f"{agent.directory}/stdout")
    assert said == b"yes\n" + b"x" * SMALL + b"\nwon"
    assert ways == [True, False, False, False, True, False]  # with the end of the input
    assert not half_written(agent)


async def test_a_link_in_the_way_is_not_followed(tmp_path, ways):
    with anyio.fail_after(BOUND):
        async with LocalHost(str(tmp_path / "task")) as host:
            await host.setup_workdir()
            async with agents.start(host, ["cat"], env=SHELL, env_base="empty") as agent:
                away = linked_away(Path(agent.directory), tmp_path / "elsewhere")
                with away:
                    with pytest.raises(WorkDirRefused):
                        await agent.say(b"one\n")
                    with pytest.raises(WorkDirRefused):
                        await agent.answer("one", b"one\n", by="first")
    assert ways == [False, False]


async def test_words_behind_the_end_of_the_input_are_refused_and_leave_nothing(tmp_path):
    with anyio.fail_after(BOUND):
        async with LocalHost(str(tmp_path / "task")) as host:
            await host.setup_workdir()
            argv = ["sh", "-c", "cat; sleep 300"]
            async with agents.start(host, argv, env=SHELL, env_base="empty") as agent:
                await agent.end_input()
                while not is_closed(agent):  # noqa: ASYNC110 - a shell's file tells
                    await anyio.sleep(0.01)
                with pytest.raises(InputClosed):
                    await agent.say(b"late\n")


@contextmanager
def linked_away(directory: Path, elsewhere: Path) -> Iterator[None]:
    directory.rename(elsewhere)
    directory.symlink_to(elsewhere)
    yield
    directory.unlink()
    elsewhere.rename(directory)


def half_written(agent: Agent) -> list[str]:
    return [path.name for path in Path(agent.directory, "in").iterdir() if path.name[0] == "."]


def keep_unsaid(agent: Agent, request: str, answer: bytes) -> None:
    Path(agent.directory, "answers", request).write_bytes(answer)


def is_closed(agent: Agent) -> bool:
    return Path(agent.directory, "closed").exists()


async def test_a_session_directory_is_the_same_however_it_was_prepared(tmp_path, monkeypatch):
    made = list[dict[str, object]]()
    for way in "here", "by the script":
        if made:
            module = sys.modules["optio_agents.agents.launch"]
            monkeypatch.setattr(module, "_prepare_here", lambda *_: False)

        async def look(tag: str, session: Path = tmp_path / way / "session") -> None:
            made.append(what_is_in(session, tag))

        with anyio.fail_after(BOUND):
            async with LocalHost(str(tmp_path / way)) as host:
                await host.setup_workdir()
                how = {"env": SHELL, "journal_limit": 1 << 20, "before_launch": look}
                async with agents.start(host, ["true"], env_base="empty", **how) as agent:
                    assert (await agent.wait()).exit_code == 0
    assert made[0] == made[1]
    assert {"tag", "run", "stop", "limit", "in", "bell", "stdout"} <= made[0].keys()


def what_is_in(session: Path, tag: str) -> dict[str, object]:
    assert json.loads((session / "meta").read_text())["session"] == tag
    found = {path.name: path.stat().st_mode for path in session.iterdir()}
    texts = {
        path.name: path.read_text().replace(tag, "TAG").strip()
        for path in session.iterdir()
        if path.is_file() and path.name != "meta"  # which names the place
    }
    return {name: (mode, texts.get(name)) for name, mode in found.items()}
