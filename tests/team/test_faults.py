"""Disks that are full at named steps, and processes that freeze: nothing is lost or done twice."""

# nobody else needs the event loop meanwhile

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optio_agents.errors import StoreError
from optio_agents.team import CallFailed, Team, TurnContext, context
from optio_agents.team.stores import Claim
from optio_agents.team.stores.memory import MemoryTurns
from optio_agents.team.stores.sqlite import SqliteTurns
from tests.support.chance import Chance
from tests.support.timeouts import BOUND
from tests.team.test_durable import books_balance, row

LONG = "x" * 300_000  # characters: no room in what the journal has already


class Disk:
    """One that can be filled, and freed again."""

    def __init__(self, place: Path) -> None:
        self.ballast = place / "ballast"

    def fill(self) -> None:
        with self.ballast.open("wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 4096) == 4096:
                    pass
            except OSError:
                pass

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)


@pytest.mark.parametrize("step", ["called", "intent", "effect", "ended"])
async def test_a_disk_that_is_full_is_no_success(step: str, small_disk: Path) -> None:
    disk, marks, journal = Disk(small_disk), list[str](), small_disk / "journal.sqlite3"

    async def child(ctx: TurnContext) -> str:
        return str(len(ctx.text))

    def mark() -> str:
        marks.append("made")
        if step == "effect":
            disk.fill()
        return LONG if step == "effect" else ""

    async def parent(ctx: TurnContext) -> str:
        if step == "called":
            disk.fill()
        await ctx.call("child", LONG if step == "called" else "")
        if step == "intent":
            disk.fill()
            await ctx.record("before", LONG)
        await ctx.once("mark", mark)
        if step == "ended":
            disk.fill()
        return LONG if step == "ended" else "done"

    async with Team({"parent": parent, "child": child}, store=journal) as team:
        turn = team.call("parent", id="one")
        waiting = asyncio.ensure_future(turn.wait_over())
        await asyncio.sleep(1.2)
        assert not turn.over or step != "ended"
        disk.free()
        async with asyncio.timeout(BOUND):
            await waiting
        status = await team.status("one")
    assert len(marks) == (step in ("effect", "ended"))
    if step == "ended":
        assert (status.status, status.text) == ("completed", LONG)
    else:
        assert status.status == "failed"
        assert "full" in status.error
    async with Team({"parent": parent, "child": child}, store=journal) as team:
        if step != "ended":
            with pytest.raises(CallFailed):
                await team.call("parent", id="one")
        assert (await team.status("one")).status == status.status


class Unwilling(MemoryTurns):
    """Its disk is full when the first turn goes to sleep."""

    full = True

    async def sleep(self, claim: Claim, *, after: int | None, until: float | None) -> None:
        if self.full:
            self.full = False
            raise StoreError("the disk is full")
        await super().sleep(claim, after=after, until=until)


async def test_a_turn_that_cannot_be_put_to_sleep_is_so_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(context, "LINGER", -1.0)

    async def naps(ctx: TurnContext) -> str:
        return (await ctx.sleep(seconds=0.01)).reason

    async with asyncio.timeout(BOUND), Team({"a": naps}, store=Unwilling()) as team:
        assert str(await team.call("a")) == "time"
    assert "cannot be written: the disk is full" in caplog.text


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    (tmp_path / "marks").touch()
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


async def test_frozen_again_and_again_the_books_balance(
    tmp_path: Path, workers: list[subprocess.Popen[bytes]], chance: Chance
) -> None:
    marks = tmp_path / "marks"
    store = SqliteTurns(tmp_path / "journal.sqlite3")
    await store.open()
    words = [sys.executable, "-m", "tests.team.families", str(store.path), str(marks)]
    env = {**os.environ, "LINGER": "-1", "LEASE": "0.8"}
    workers += [subprocess.Popen(words, env=env) for _ in range(2)]  # noqa: ASYNC220
    parents: list[str] = []
    for number in range(max(2, chance.rounds // 3)):
        for _ in range(4):
            parents.append(f"p{len(parents)}")
            await store.put(row(parents[-1], "parent", parents[-1]))
        await asyncio.sleep(0.2 * chance.random.random())
        frozen = workers[number % 2]
        frozen.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.3 + 1.2 * chance.random.random())  # sometimes past its lease
        frozen.send_signal(signal.SIGCONT)
        chance.hit("frozen")
    await books_balance(store, parents, marks)
    await store.close()
