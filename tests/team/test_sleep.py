"""Sleeping, waiting and running again from the top, in memory."""

import asyncio
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from optio_agents.team import (
    CallFailed,
    Diverged,
    LimitReached,
    Limits,
    OutcomeUnknown,
    Slept,
    Team,
    Turn,
    TurnContext,
    Woke,
    context,
)
from tests.support.timeouts import BOUND


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sleep is a long one: the function is unwound, and runs again from its top."""
    monkeypatch.setattr(context, "LINGER", -1.0)


async def later(ctx: TurnContext) -> str:
    await ctx.sleep(seconds=float(ctx.text or 0.1))
    return f"{ctx.name} done"


async def asleep(turn: Turn) -> None:
    while turn.status != "sleeping":
        await turn.pieces.more()


async def boom(ctx: TurnContext) -> str:
    await ctx.sleep(seconds=0.05)
    raise ValueError("no")


async def test_ag_30_waiting_for_a_time_takes_that_time() -> None:
    async with Team({"a": later}) as team:
        began = time.monotonic()
        await team.call("a", "0.3")
        assert time.monotonic() - began > 0.29


async def test_a_thousand_wait_together() -> None:
    async with Team({"a": later}) as team:
        began = time.monotonic()
        turns = [team.call("a", "1") for _ in range(1000)]
        for turn in turns:
            await turn
        assert time.monotonic() - began < BOUND  # 1000 s one after the other


@pytest.mark.usefixtures("impatient")
async def test_a_function_is_written_straight_on_and_runs_again_from_its_top() -> None:
    ran, effects = [], []

    async def follow_up(ctx: TurnContext) -> str:
        ran.append(ctx.id)
        draft = await ctx.call("a", "draft")
        stamp = await ctx.once("mail", lambda: effects.append(1) or time.time())  # type: ignore[func-returns-value]
        await ctx.sleep(seconds=0.1)
        second = await ctx.call("a", f"look again: {draft}")
        await ctx.sleep(seconds=0.1)
        assert stamp == await ctx.once("mail", lambda: "never")
        return str(second)

    calls = []

    async def a(ctx: TurnContext) -> str:
        calls.append(ctx.text)
        return ctx.text

    async with Team({"follow": follow_up, "a": a}) as team:
        turn = team.call("follow")
        assert str(await turn) == "look again: draft"
        events = [type(event) async for event in turn.events(Slept, Woke)]
    assert len(ran) == 3
    assert effects == [1]
    assert calls == ["draft", "look again: draft"]
    assert events == [Slept, Woke, Slept, Woke]


@pytest.mark.usefixtures("impatient")
async def test_a_parent_of_a_sleeper_sleeps_too() -> None:
    parents = []

    async def parent(ctx: TurnContext) -> list[str]:
        parents.append(ctx.id)
        turns = [ctx.call("a", str(n / 10)) for n in range(3)]
        return [str(await turn) for turn in turns]

    async with Team({"parent": parent, "a": later}) as team:
        turn = team.call("parent")
        assert [str(message) async for message in turn] == ["a done"] * 3
        assert len(await team.turns()) == 4
    assert len(parents) > 1


@pytest.mark.parametrize("long", [False, True])
async def test_ag_22_ag_29_wait_for_all_or_any(
    monkeypatch: pytest.MonkeyPatch, *, long: bool
) -> None:
    if long:
        monkeypatch.setattr(context, "LINGER", -1.0)

    async def waits(ctx: TurnContext) -> str:
        turns = [ctx.call("a", str(0.05 + 0.3 * n)) for n in range(3)]
        first = await ctx.sleep(*turns, any=True)
        assert (first.reason, first.done) == ("done", (turns[0].id,))
        every = await ctx.sleep(*turns)
        return f"{len(first.running)} {len(every.done)} {len(every.running)}"

    async with Team({"waits": waits, "a": later}) as team:
        assert str(await team.call("waits")) == "2 3 0"


@pytest.mark.usefixtures("impatient")
async def test_ag_36_ag_37_a_wait_that_is_over_says_what_is_done_and_what_runs() -> None:
    async def waits(ctx: TurnContext) -> str:
        failing, slow = ctx.call("boom"), ctx.call("a", "60")
        wake = await ctx.sleep(failing, slow, timeout=0.4)
        with pytest.raises(CallFailed, match="ValueError: no"):
            await failing
        assert (wake.done, wake.running) == ((failing.id,), (slow.id,))
        await slow.cancel()
        return wake.reason

    async with Team({"waits": waits, "a": later, "boom": boom}) as team:
        assert str(await team.call("waits")) == "timeout"


@pytest.mark.parametrize("long", [False, True])
async def test_ag_31_a_periodic_wake_does_not_drift(
    monkeypatch: pytest.MonkeyPatch, *, long: bool
) -> None:
    if long:
        monkeypatch.setattr(context, "LINGER", -1.0)
    times: list[float] = []

    async def ticks(ctx: TurnContext) -> str:
        for number in range(3):
            await ctx.sleep(every=0.3)
            if number == len(times):
                times.append(time.time() - (ctx.turn.row.started or 0))
        return str(len(times))

    async with Team({"a": ticks}) as team:
        assert str(await team.call("a")) == "3"
    assert times == pytest.approx([0.3, 0.6, 0.9], abs=0.25)


@pytest.mark.usefixtures("impatient")
async def test_mail_wakes_a_sleeper() -> None:
    async def listens(ctx: TurnContext) -> str:
        heard = [str(await ctx.receive()) for _ in range(3)]
        assert await ctx.receive(timeout=0.05) is None
        return " ".join(heard)

    async with Team({"a": listens}) as team:
        turn = team.call("a")
        for word in ("one", "two", "three"):
            await asleep(turn)
            await turn.send(word)
            turn.changed("ready")  # so that its next sleep is seen
        assert str(await turn) == "one two three"


@pytest.mark.usefixtures("impatient")
async def test_what_was_read_is_read_again_when_the_function_runs_again() -> None:
    reads: list[list[str]] = []

    async def reader(ctx: TurnContext) -> str:
        await ctx.receive()
        found = [str(message) for message in await ctx.messages()]
        reads.append(found)
        await ctx.sleep(seconds=0.1)
        return " ".join(found)

    async with Team({"a": reader}) as team:
        turn = team.call("a")
        for word in ("one", "two", "three"):
            await turn.send(word)
        answer = str(await turn)
    assert len({tuple(found) for found in reads}) == 1
    assert answer == " ".join(reads[0])


@pytest.mark.usefixtures("impatient")
async def test_a_function_that_changed_is_refused() -> None:
    ran: list[str] = []

    async def changes(ctx: TurnContext) -> Any:
        ran.append("")
        turn = ctx.call("a", f"text {len(ran)}")
        await ctx.sleep(seconds=0.05)
        return turn

    async with Team({"changes": changes, "a": later}) as team:
        turn = team.call("changes")
        with pytest.raises(CallFailed, match=r"Diverged: .* with another message"):
            await turn
        assert Diverged.__name__ == turn.failure().kind


@pytest.mark.usefixtures("impatient")
async def test_a_message_that_a_hook_has_changed_is_still_the_one_that_was_asked() -> None:
    async def asks(ctx: TurnContext) -> str:
        turn = ctx.call("echo", "x")
        await ctx.sleep(seconds=0.01)
        return str(await turn)

    async def echo(ctx: TurnContext) -> str:
        await ctx.sleep(seconds=0.05)
        return ctx.text

    team = Team({"asks": asks, "echo": echo})
    team.on("before_turn", name="echo")(lambda turn, message: message.but(text=f"{message.text}!"))
    async with team:
        assert str(await team.call("asks")) == "x!"


async def test_what_once_raised_is_kept() -> None:
    async def tries(ctx: TurnContext) -> str:
        for _ in range(2):
            with pytest.raises(CallFailed, match="ZeroDivisionError"):
                await ctx.once("div", lambda: 1 / 0)
        both = await asyncio.gather(*(ctx.once("slow", asyncio.sleep, 0.01, 7) for _ in range(2)))
        return str(both)

    async with Team({"a": tries}) as team:
        assert str(await team.call("a")) == "[7, 7]"


async def test_an_interrupted_once_is_not_repeated() -> None:
    async def tries(ctx: TurnContext) -> str:
        ctx.claim.records["intent:mail"] = ctx.claim.epoch - 1  # an earlier run was killed in it
        with pytest.raises(OutcomeUnknown, match="interrupted while it did 'mail'"):
            await ctx.once("mail", lambda: pytest.fail("repeated"))
        return "not repeated"

    async with Team({"a": tries}) as team:
        assert str(await team.call("a")) == "not repeated"


@pytest.mark.usefixtures("impatient")
async def test_ag_35_a_limit_of_wakes_is_refused_by_its_name() -> None:
    async def naps(ctx: TurnContext) -> str:
        for _ in range(5):
            await ctx.sleep(seconds=0.01)
        return ""

    async with Team({"a": naps}, limits=Limits(wakes=2)) as team:
        turn = team.call("a")
        with pytest.raises(CallFailed, match="limit wakes"):
            await turn
        assert (turn.status, turn.failure().kind) == ("limit", "wakes")
    assert issubclass(LimitReached, Exception)


async def test_ag_40_a_limit_of_time_ends_the_whole_tree() -> None:
    async def asks(ctx: TurnContext) -> Any:
        return ctx.call("a", str(BOUND))

    async with Team({"ask": asks, "a": later}, limits=Limits(seconds=0.1)) as team:
        turn = team.call("ask")
        with pytest.raises(CallFailed, match="limit"):
            await turn
        assert {status.status for status in await team.turns()} <= {"limit", "failed"}


async def test_a_sleep_may_have_a_date_and_must_have_an_end() -> None:
    async def naps(ctx: TurnContext) -> str:
        wake = await ctx.sleep(until=datetime.now().astimezone() + timedelta(seconds=0.1))
        for wrong in ({}, {"seconds": -1}, {"seconds": float("nan")}, {"every": 0}):
            with pytest.raises(ValueError, match="say how"):
                await ctx.sleep(**wrong)
        return wake.reason

    async with Team({"a": naps}) as team:
        assert str(await team.call("a")) == "time"


@pytest.mark.usefixtures("impatient")
async def test_a_limit_of_children_counts_those_of_earlier_runs() -> None:
    async def works(ctx: TurnContext) -> str:
        for key in ("one", "two") if ctx.claim.epoch == 1 else ():  # as a model, which repeats none
            await ctx.call("a", "0", key=key)
        await ctx.sleep(seconds=0.01)
        with pytest.raises(LimitReached, match="limit children is 2"):
            ctx.call("a", "0", key="three")
        return str(await ctx.call("a", "0", key="one"))

    async def quick(ctx: TurnContext) -> str:
        return "done"

    async with Team({"works": works, "a": quick}, limits=Limits(children=2)) as team:
        assert str(await team.call("works")) == "done"


@pytest.mark.usefixtures("impatient")
async def test_a_turn_asleep_still_has_its_time_limit() -> None:
    async with Team({"a": later}) as team:
        with pytest.raises(TimeoutError):
            await team.call("a", "60", timeout=0.1)


@pytest.mark.usefixtures("impatient")
async def test_a_sleeper_can_be_cancelled() -> None:
    async with Team({"a": later}) as team:
        turn = team.call("a", "60")
        await asleep(turn)
        await turn.cancel()
        assert turn.status == "cancelled"


@pytest.mark.parametrize("end", ["cancel", "close", "failure"])
async def test_ag_45_what_is_done_once_ends_with_its_turn(end: str, tmp_path: Path) -> None:
    began, seen = asyncio.Event(), list[str]()

    async def effect() -> None:
        began.set()
        try:
            await asyncio.sleep(BOUND)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def works(ctx: TurnContext) -> None:
        done = asyncio.ensure_future(ctx.once("effect", effect))
        await began.wait()
        if end == "failure":
            raise ValueError(end)
        await done

    before = asyncio.all_tasks()
    async with Team({"a": works}, store=tmp_path / "journal.sqlite3") as team:
        turn = team.call("a")
        await began.wait()
        if end != "close":
            await (turn.cancel() if end == "cancel" else turn.wait_over())
            assert seen == ["cancelled"]
    assert seen == ["cancelled"]
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


@pytest.mark.usefixtures("impatient")
async def test_what_is_done_once_is_written_before_its_turn_sleeps() -> None:
    effects = []

    async def slow() -> int:
        await asyncio.sleep(0.05)
        effects.append(1)
        return 7

    async def naps(ctx: TurnContext) -> str:
        both = await asyncio.gather(ctx.sleep(seconds=0.01), ctx.once("slow", slow))
        return str(both[1])

    async with Team({"a": naps}) as team:
        assert str(await team.call("a")) == "7"
    assert effects == [1]
