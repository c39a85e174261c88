"""Turns on a disk: killed, frozen and started again, nothing is lost and nothing done twice."""

# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optio_agents.store import Store
from optio_agents.team import Message, Team, TurnContext, context
from optio_agents.team.stores import OVER, Claim, News, Row
from optio_agents.team.stores.sqlite import SqliteTurns
from tests.support.chance import Chance
from tests.support.timeouts import BOUND
from tests.team.families import team as families

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    (tmp_path / "marks").touch()
    return tmp_path / "marks"


@pytest.fixture
def worker(journal: Path, marks: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(**more: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "tests.team.families", str(journal), str(marks)]
        started.append(subprocess.Popen(words, env={**os.environ, **more}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def row(turn: str, name: str, text: str = "") -> Row:
    message = Message(text, "forward", "user", name)
    return Row(turn, name, message.dump(), None, turn)


async def until_over(store: SqliteTurns, turns: list[str]) -> dict[str, Row]:
    async with asyncio.timeout(BOUND):
        while True:
            rows = {row.id: row for row in await store.look()}
            if all(rows[turn].state in OVER for turn in turns):
                return rows
            await store.wait(0.5)


async def books_balance(store: SqliteTurns, parents: list[str], marks: Path) -> None:
    """Each parent has its three children, and what they did once is there once, or is unknown."""
    rows = await until_over(store, parents)
    found = marks.read_text().splitlines()
    unknown = 0
    for parent in parents:
        assert rows[parent].state == "completed", rows[parent].result
        count, told = (rows[parent].result or {})["messages"][0]["text"].split()
        assert count == "3"
        unknown += int(told)
    assert len(rows) == 4 * len(parents)
    assert len(found) == len(set(found))
    assert 3 * len(parents) - unknown <= len(found) <= 3 * len(parents)


async def until_marked(marks: Path, count: int) -> list[str]:
    async with asyncio.timeout(BOUND):
        while len(found := marks.read_text().splitlines()) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found


async def echo(ctx: TurnContext) -> str:
    return f"echo {ctx.text}"


async def test_ag_10_ag_15_another_process_reads_turns_messages_and_result(journal: Path) -> None:
    async with Store(journal) as store, Team({"a": echo}, store=store) as team:
        turn = team.call("a", "x", id="report-7")
        await turn
        tree = turn.tree()
    async with Team({"a": echo}, store=journal) as team:
        status = await team.status("report-7")
        assert (status.status, status.text) == ("completed", "echo x")
        assert str(await team.call("a", "x", id="report-7")) == "echo x"
        assert (await team.find("report-7")).tree() == tree
        assert [str(message) for message in await team.exchange("report-7")] == ["x", "echo x"]


async def test_ag_12_two_teams_in_one_store_never_see_each_other(journal: Path) -> None:
    one = Team({"a": echo}, store=journal, name="one")
    two = Team({"a": echo}, store=journal, name="two")
    async with one, two:
        await one.call("a", "x", id="same")
        await two.call("a", "y", id="same")
        assert [status.text for status in await one.turns()] == ["echo x"]
        assert [status.text for status in await two.turns()] == ["echo y"]


async def test_a_turn_that_is_called_by_two_processes_is_one(
    journal: Path, marks: Path, worker: Start
) -> None:
    worker()
    async with families(journal, marks) as team:
        turns = [team.call("parent", "x", id="only") for _ in range(2)]
        assert {str(await turn) for turn in turns} == {"3 0"}
        assert len(await team.turns()) == 4


async def test_a_dead_process_is_noticed_at_once(journal: Path, marks: Path, worker: Start) -> None:
    store = SqliteTurns(journal, lease=BOUND)
    await store.open()
    await store.put(row("t", "who"))
    first = worker(LEASE=str(9 * BOUND))  # waited for by nobody here
    await until_marked(marks, 1)
    second = worker(LEASE=str(9 * BOUND))
    async with asyncio.timeout(BOUND):
        while len(list(journal.with_name("journal.sqlite3.workers").glob("*.lock"))) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    locks = journal.with_name("journal.sqlite3.workers").glob("*.lock")
    [lock] = [path for path in locks if path.read_text() == str(first.pid)]
    with lock.open() as seen:  # somebody else looks whether it lives, at the same time
        looks = asyncio.create_task(asyncio.to_thread(fcntl.flock, seen, fcntl.LOCK_SH))
        await asyncio.sleep(0.1)
        first.kill()
        _, again = await until_marked(marks, 2)
        await looks
    assert again == f"t {second.pid}"
    await store.close()


async def test_a_frozen_process_loses_its_turn_and_is_refused(
    journal: Path, marks: Path, worker: Start
) -> None:
    store = SqliteTurns(journal)
    await store.open()
    await store.put(row("t", "who"))
    first = worker(LEASE="1")
    await until_marked(marks, 1)
    first.send_signal(signal.SIGSTOP)
    second = worker(LEASE="1")
    found = await until_marked(marks, 2)
    assert found[1] == f"t {second.pid}"
    epoch = (await store.look(id="t"))[0].epoch
    first.send_signal(signal.SIGCONT)
    await asyncio.sleep(2.0)  # it has every chance to take it back
    assert (await store.look(id="t"))[0].epoch == epoch
    assert first.poll() is None
    await store.close()


async def test_ag_33_a_sleeper_survives_and_is_woken_in_the_next_process(
    journal: Path, marks: Path, worker: Start
) -> None:
    store = SqliteTurns(journal)
    await store.open()
    await store.put(row("due", "naps", "0.5"))
    await store.put(row("later", "naps", "2"))
    first = worker(LINGER="-1")
    async with asyncio.timeout(BOUND):
        while [r.state for r in await store.look()] != ["sleeping"] * 2:
            await store.wait(0.1)
    first.kill()
    first.wait()
    await asyncio.sleep(0.6)
    second = worker(LINGER="-1")
    rows = await until_over(store, ["due", "later"])
    for turn, seconds in (("due", 0.5), ("later", 2.0)):
        ended, started = rows[turn].ended, rows[turn].started
        assert ended is not None
        assert started is not None
        assert ended - started >= seconds
        assert str((rows[turn].result or {})["messages"][0]["text"]) == f"time {second.pid}"
    await store.close()


class Behind(SqliteTurns):
    """Works on no child, and hears of the end of one only after its mail has woken the parent."""

    heard = False

    async def claim(self, names: Collection[str], *most: int, **more: Any) -> list[Claim]:
        found = await super().claim([name for name in names if name != "child"], *most, **more)
        self.heard = self.heard or any(claim.mail for claim in found)
        return found

    async def beat(self, claims: Sequence[Claim], watched: Iterable[str] = ()) -> News:
        news = await super().beat(claims, watched)
        return news if self.heard and claims else replace(news, over=[])


@pytest.mark.parametrize("wait", ["await", "sleep"])
async def test_an_end_that_woke_its_parent_is_not_slept_over(
    journal: Path, monkeypatch: pytest.MonkeyPatch, wait: str
) -> None:
    monkeypatch.setattr(context, "LINGER", -1.0)

    async def child(ctx: TurnContext) -> str:
        await ctx.sleep(seconds=0.1)
        return "done"

    async def parent(ctx: TurnContext) -> str:
        turn = ctx.call("child")
        if wait == "sleep":
            await ctx.sleep(turn)
        return str(await turn)

    others = Team({"child": child}, store=journal)
    async with Team({"parent": parent, "child": child}, store=Behind(journal)) as team, others:
        async with asyncio.timeout(BOUND):
            assert str(await team.call("parent")) == "done"


async def test_killed_again_and_again_the_books_balance(
    journal: Path, marks: Path, worker: Start, chance: Chance
) -> None:
    store = SqliteTurns(journal)
    await store.open()
    parents: list[str] = []
    workers = [worker(LINGER="-1"), worker(LINGER="-1")]
    for number in range(chance.rounds):
        for _ in range(4):
            parents.append(f"p{len(parents)}")
            await store.put(row(parents[-1], "parent", parents[-1]))
        await asyncio.sleep(0.6 * chance.random.random())
        open_turns = await store.look(states=["ready", "running", "sleeping"])
        chance.hit("at work" if open_turns else "idle")
        workers[number % 2].kill()
        workers[number % 2].wait()
        workers[number % 2] = worker(LINGER="-1")
    await books_balance(store, parents, marks)
    await store.close()


async def test_closing_leaves_what_is_open_for_the_next(journal: Path) -> None:
    gate, running = asyncio.Event(), asyncio.Event()

    async def waits(ctx: TurnContext) -> str:
        running.set()
        await gate.wait()
        return "done"

    async with Team({"a": waits}, store=journal) as team:
        team.call("a", id="open")
        async with asyncio.timeout(BOUND):
            await running.wait()
    gate.set()
    async with Team({"a": waits}, store=journal) as team:
        assert str(await team.call("a", id="open")) == "done"


async def test_a_message_of_a_class_that_is_not_known_here_fails_its_turn_alone(
    journal: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteTurns(journal)
    await store.open()
    kept = {**Message("x").dump(), "class": "nowhere:Gone", "own": {"score": 1}}
    await store.put(Row("odd", "a", kept, None, "odd"))
    await store.put(row("plain", "a", "y"))
    async with Team({"a": echo}, store=journal):
        rows = await until_over(store, ["odd", "plain"])
    assert (rows["odd"].state, rows["plain"].state) == ("failed", "completed")
    assert "Gone, which is not defined in this process" in caplog.text
    await store.close()
    async with Team({}, store=journal) as team:
        assert [str(message) for message in await team.exchange("odd")] == ["x"]


async def test_a_busy_journal_delays_and_loses_nothing(journal: Path) -> None:
    import sqlite3

    async with Team({"a": echo}, store=journal) as team:
        await team.call("a", "first")
        other = sqlite3.connect(journal, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        turns = [team.call("a", str(number)) for number in range(20)]
        await asyncio.sleep(0.2)
        assert not any(turn.over for turn in turns)
        other.execute("COMMIT")
        other.close()
        assert [str(await turn) for turn in turns] == [f"echo {number}" for number in range(20)]


async def test_a_journal_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    from optio_agents.errors import StoreError

    (tmp_path / "journal.sqlite3").write_text("not a database, and long enough to be none" * 50)
    with pytest.raises(StoreError, match="journal"):
        await Team({"a": echo}, store=tmp_path / "journal.sqlite3").start()
