"""Who calls whom, what comes back, and what is refused; names hold the rows that a test shows."""

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optio_agents.team import (
    Called,
    CallFailed,
    Concluded,
    Diverged,
    LimitReached,
    Limits,
    Message,
    NoParticipant,
    Returned,
    Sent,
    Team,
    Token,
    Turn,
    TurnContext,
    every,
    tool,
)
from optio_agents.team.calls import tagged
from tests.support.timeouts import BOUND


async def echo(ctx: TurnContext) -> str:
    """Says it again."""
    return f"{ctx.name}: {ctx.text}"


async def same(ctx: TurnContext) -> str:
    return ctx.text


def shout(text: str) -> str:
    """Says it loud."""
    return text.upper()


async def boom(ctx: TurnContext) -> str:
    raise ZeroDivisionError(ctx.text)


async def slow(ctx: TurnContext) -> str:
    await asyncio.sleep(0.3)
    return ctx.text


async def forever(ctx: TurnContext) -> str:
    await asyncio.sleep(BOUND)
    return "too late"


async def test_ao_02_no_participant_is_special() -> None:
    async with Team({"a": echo, "b": echo, "c": echo}) as team:
        answers = [str(await team.call(name, "x")) for name in "abc"]
    assert answers == ["a: x", "b: x", "c: x"]


async def test_ao_03_pg_11_anyone_may_call_anyone() -> None:
    async def asks(ctx: TurnContext) -> str:
        return f"heard {await ctx.call('a', 'x')}"

    async with Team({"a": echo, "c": asks}) as team:
        assert str(await team.call("c")) == "heard a: x"


async def test_ao_05_ao_59_there_are_two_kinds_of_message_and_ids_pair_them_up() -> None:
    async def three(ctx: TurnContext) -> list[Any]:
        return [ctx.call("a", str(n)) for n in range(3)]

    async with Team({"a": echo, "all": three}) as team:
        turn = team.call("all")
        await turn
        said = await team.exchange(turn.id)
    assert {message.kind for message in said} == {"forward", "return"}
    calls = [message.turn for message in said if message.to == "a"]
    assert len(set(calls)) == 3
    assert [message.turn for message in said if message.sender == "a"][:3] == calls


async def test_ao_06_the_caller_outside_is_a_participant_like_others() -> None:
    async def asks(ctx: TurnContext) -> Any:
        return ctx.call("b", ctx.text)

    async with Team({"a": asks, "b": echo}) as team:
        turn = team.call("a", "x")
        await turn
        outside, inside = turn.message.dump(), turn.children[0].message.dump()
    assert outside.keys() == inside.keys()
    assert (outside["sender"], inside["sender"]) == ("user", "a")


async def test_ao_09_ma_29_three_deep_and_back() -> None:
    def passing(name: str) -> Any:
        async def answer(ctx: TurnContext) -> str:
            return f"({name} {await ctx.call(name, ctx.text)})"

        return answer

    async with Team({"a": passing("b"), "b": passing("c"), "c": echo}) as team:
        assert str(await team.call("a", "x")) == "(b (c c: x))"


async def test_ao_76_ao_80_a_list_of_names_calls_all_and_tags_their_answers() -> None:
    at_work = set[str]()

    async def meets(ctx: TurnContext) -> str:
        at_work.add(ctx.name)
        while len(at_work) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return ctx.text

    async with Team({"a": meets, "b": meets, "c": meets}) as team:
        several = await team.call(["a", "b", "c"], "x")
        assert str(several) == "[a]x[/a]\n\n[b]x[/b]\n\n[c]x[/c]"
        assert str(await team.call(["b"], "x")) == "x"
    assert tagged("a", "x") == "[a]x[/a]"


async def test_ao_61_ao_62_several_in_the_background_have_ids_at_once() -> None:
    async with Team({"a": slow, "b": slow}) as team:
        turns = [team.call(name, "x") for name in ("a", "b")]
        assert len({turn.id for turn in turns}) == 2
        assert not any(turn.over for turn in turns)
        assert [str(await turn) for turn in turns] == ["x", "x"]


async def test_ao_63_ao_73_a_message_goes_into_a_running_turn() -> None:
    async def listens(ctx: TurnContext) -> str:
        first = await ctx.receive()
        assert first is not None
        await ctx.tell(f"got {first}")
        return f"{first} from {first.sender}"

    async with Team({"a": listens}) as team:
        turn = team.call("a")
        assert await turn.send("and CI") == 1
        assert str(await turn) == "and CI from user"
        said = await team.exchange(turn.id)
        with pytest.raises(CallFailed, match="is over"):
            await turn.send("too late")
    assert [str(message) for message in said] == ["", "and CI", "got and CI", "and CI from user"]


async def test_ao_64_ao_91_status_and_messages_of_running_and_ended_turns() -> None:
    async with Team({"a": slow}) as team:
        turn = team.call("a", "x")
        running = await team.status(turn.id)
        assert [status.turn for status in await team.turns(status="running")] == [turn.id]
        await turn
        ended = await team.status(turn.id)
    assert (running.status, ended.status, ended.text) == ("running", "completed", "x")
    assert [str(message) for message in ended.messages] == ["x"]


async def test_ao_67_two_background_turns_talk() -> None:
    async def first(ctx: TurnContext) -> str:
        other = ctx.call("second")
        await ctx.send(other, "ping")
        heard = await ctx.receive()
        await other
        return str(heard)

    async def second(ctx: TurnContext) -> str:
        heard = await ctx.receive()
        await ctx.tell(f"{heard} pong")
        return str(heard)

    async with Team({"first": first, "second": second}) as team:
        assert str(await team.call("first")) == "ping pong"


async def test_ao_70_ao_71_ao_74_the_outside_hears_and_may_answer() -> None:
    async def tells(ctx: TurnContext) -> str:
        await ctx.send("caller", "50 %")
        return str(await ctx.receive())

    team = Team({"a": tells})
    heard = []

    @team.on("told")
    def answer(turn: Any, message: Message) -> str:
        heard.append(str(message))
        return "go on"

    async with team:
        turn = team.call("a")
        assert str(await turn) == "go on"
        events = [event async for event in turn.events()]
    assert heard == ["50 %"]
    kinds = [type(event) for event in events]
    assert kinds.index(Sent) < kinds.index(Concluded)


async def test_ao_72_ao_75_a_callee_tells_its_caller_by_the_same_word() -> None:
    async def works(ctx: TurnContext) -> str:
        await ctx.send("caller", "half")
        return "done"

    async def asks(ctx: TurnContext) -> str:
        turn = ctx.call("b")
        heard = await ctx.receive()
        return f"{heard}, {await turn}"

    async with Team({"a": asks, "b": works}) as team:
        assert str(await team.call("a")) == "half, done"


async def test_ao_77_ao_78_a_run_may_see_fewer() -> None:
    ran = []

    async def asks(ctx: TurnContext) -> str:
        with pytest.raises(NoParticipant, match=r"no participant 'c' can be called here .*: there"):
            ctx.call("c")
        return str(await ctx.call("b", "x"))

    async def c(ctx: TurnContext) -> None:
        ran.append(ctx.id)

    team = Team({"a": asks, "b": echo, "c": c})
    async with team:
        assert str(await team.only("a", "b").call("a")) == "b: x"
        with pytest.raises(NoParticipant, match="there is a, b"):
            team.only("a", "b").call("c")
    assert ran == []


async def test_ao_79_ag_12_two_teams_never_see_each_other() -> None:
    async with Team({"a": echo}) as one, Team({"a": echo}) as two:
        turn = one.call("a", "x", id="same")
        await turn
        await two.call("a", "y", id="same")
        assert [status.text for status in await one.turns()] == ["a: x"]
        with pytest.raises(NoParticipant):
            await two.status(one.call("a").id)


async def test_ao_82_ao_85_the_tree_of_calls_can_be_printed() -> None:
    async def three(ctx: TurnContext) -> list[Any]:
        return [ctx.call("a", str(n)) for n in range(3)]

    async with Team({"a": echo, "all": three}) as team:
        turn = team.call("all")
        await turn
        lines = turn.tree().splitlines()
    assert [line.split()[0] for line in lines] == ["all", "a", "a", "a"]
    assert all(line.endswith(" s") for line in lines)


async def test_ao_83_ao_84_ao_86_events_have_turn_parent_and_name_and_can_be_filtered() -> None:
    async def asks(ctx: TurnContext) -> Any:
        yield "first"
        yield ctx.call("b", "x")

    async with Team({"a": asks, "b": echo}) as team:
        turn = team.call("a")
        events = [event async for event in turn.events()]
        tokens = [event async for event in turn.events(Token, name="b")]
    assert [type(event) for event in events] == [
        Token,
        Called,
        Token,
        Concluded,
        Returned,
        Concluded,
    ]
    child = turn.children[0]
    assert [(event.turn, event.parent) for event in tokens] == [(child.id, turn.id)]
    assert all(event.turn and event.name for event in events)


async def test_ao_89_ag_23_ma_07_await_inside_a_running_loop() -> None:
    team = Team({"a": echo})
    async with team:
        assert str(await team.call("a", "x")) == "a: x"
    with pytest.raises(ValueError, match=r"say `await team\.call"):
        team.run("a")
    with pytest.raises(ValueError, match="not started"):
        team.call("a")


def test_ao_68_ma_06_from_a_script_without_a_loop() -> None:
    async def asks(ctx: TurnContext) -> str:
        ctx.call("slow", "in the background")
        return str(await ctx.call("a", "x"))

    team = Team({"ask": asks, "a": echo, "slow": forever})
    assert str(team.run("ask")) == "a: x"
    assert str(team.run("a", "again")) == "a: again"


async def test_ag_28_a_limit_of_children_is_refused_by_name() -> None:
    async def two(ctx: TurnContext) -> str:
        await ctx.call("a")
        with pytest.raises(LimitReached, match="limit children is 1"):
            ctx.call("a")
        return "one was allowed"

    async with Team({"two": two, "a": echo}, limits=Limits(children=1)) as team:
        assert str(await team.call("two")) == "one was allowed"


async def test_questions_to_the_approver_are_no_children() -> None:
    async def asks(ctx: TurnContext) -> str:
        for number in range(3):
            await ctx.ask(f"question {number}")
            with suppress(LimitReached):
                await ctx.call("a", key=f"key {number}")  # those of a model have keys
        ctx.call("a", key="key 0")  # this one is there already
        return f"{[child.name for child in ctx.turn.children].count('a')}"

    team = Team({"asks": asks, "a": echo}, limits=Limits(children=1), approve=lambda question: True)
    async with team:
        assert str(await team.call("asks")) == "1"


async def test_ag_04_ag_35_a_chain_that_is_too_deep_is_refused_by_name() -> None:
    async def deeper(ctx: TurnContext) -> str:
        return str(await ctx.call("deeper", "x"))

    async with Team({"deeper": deeper}, limits=Limits(depth=5)) as team:
        turn = team.call("deeper")
        with pytest.raises(CallFailed):
            await turn
        depth, last = 1, turn
        while last.children:
            depth, last = depth + 1, last.children[0]
    assert depth == 5
    assert (last.status, last.failure().kind) == ("limit", "depth")


async def test_ag_05_a_cycle_over_a_shared_participant_is_refused_with_the_chain() -> None:
    async def asks(ctx: TurnContext) -> str:
        return str(await ctx.call({"a": "b", "b": "a"}[ctx.name]))

    async with Team({"a": asks, "b": asks}, shared=["a"]) as team:
        turn = team.call("a")
        with pytest.raises(CallFailed):
            await turn
        error = turn.children[0].failure()
    assert error.kind == "cycle"
    assert "a > b > a" in str(error)


async def test_pg_07_pg_08_pg_09_turns_of_a_shared_participant_queue() -> None:
    running, order = 0, []

    async def clerk(ctx: TurnContext) -> str:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.02)
        running -= 1
        order.append(ctx.text)
        return f"hello {ctx.text}"

    async with Team({"clerk": clerk}, shared=["clerk"]) as team:
        turns = [team.call("clerk", str(n)) for n in range(3)]
        found = [(turn.id, value) async for turn, value in team.results()]
    assert order == ["0", "1", "2"]
    assert found == [(turn.id, f"hello {n}") for n, turn in enumerate(turns)]


async def test_pg_10_values_come_as_they_are_produced_none_included() -> None:
    go = asyncio.Event()

    async def values(ctx: TurnContext) -> AsyncIterator[Any]:
        yield 1
        await go.wait()
        yield None
        yield 2

    async with Team({"a": values}) as team:
        turn, found = team.call("a"), []
        async for message in turn:
            found.append(message.value)
            assert len(found) > 1 or not turn.over
            go.set()
    assert found == [1, None, 2]


async def test_pg_13_a_time_limit_per_turn() -> None:
    async with Team({"a": forever}) as team:
        turn = team.call("a", timeout=0.05)
        with pytest.raises(TimeoutError, match=r"a \(turn .*\) timed out"):
            await turn
        assert (await team.status(turn.id)).status == "timeout"


async def test_pg_21_pg_22_pg_23_pg_24_metadata_and_times_are_kept() -> None:
    async with Team({"a": echo}) as team:
        turn = team.call("a", metadata={"": 1, "$id": ["x"]}, timeout=60)
        await turn
        status = await team.status(turn.id)
    assert status.metadata == {"": 1, "$id": ["x"]}
    assert status.started is not None
    assert status.ended is not None
    assert status.ended >= status.started >= status.created
    assert status.status == "completed"


async def test_ag_24_ag_56_a_wait_with_a_limit_leaves_the_turn_running() -> None:
    async with Team({"a": slow}) as team:
        turn = team.call("a", "x")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await turn
        assert str(await turn) == "x"


async def test_ag_27_ag_45_cancelling_takes_the_whole_tree() -> None:
    ended = []

    async def works(ctx: TurnContext) -> str:
        try:
            if ctx.name != "c":
                return str(await ctx.call(chr(ord(ctx.name) + 1)))
            await asyncio.sleep(BOUND)
        finally:
            ended.append(ctx.name)
        return ""

    async with Team({"a": works, "b": works, "c": works}) as team:
        turn = team.call("a")
        async for event in turn.events(Called):
            if event.to == "c":  # type: ignore[union-attr]
                break
        await asyncio.sleep(0)
        await turn.cancel()
        with pytest.raises(CallFailed, match="was cancelled"):
            await turn
        states = {status.name: status.status for status in await team.turns()}
    assert states == dict.fromkeys("abc", "cancelled")
    assert sorted(ended) == ["a", "b", "c"]


async def test_ag_37_ma_09_a_failure_is_raised_where_its_answer_is_read() -> None:
    async def asks(ctx: TurnContext) -> str:
        turn = ctx.call("boom", "x")
        await ctx.call("a", "goes on")
        with pytest.raises(CallFailed) as caught:
            await turn
        error = caught.value
        assert isinstance(error.__cause__, ZeroDivisionError)
        return f"{error.name} {error.status} {error.kind} {error.turn == turn.id}"

    async with Team({"ask": asks, "boom": boom, "a": echo}) as team:
        assert str(await team.call("ask")) == "boom failed ZeroDivisionError True"


async def test_ma_10_no_error_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "optio_agents.team")
    async with Team({"boom": boom}) as team:
        read, unread = team.call("boom", "x"), team.call("boom", "y")
        with pytest.raises(CallFailed):
            await read
        await unread.wait_over()
    [record] = caplog.records
    assert unread.id in record.getMessage()


class Strange(BaseException):
    pass


async def cancels_its_own(ctx: TurnContext) -> None:
    inner = asyncio.create_task(asyncio.sleep(BOUND))
    inner.cancel()
    await inner


async def is_strange(ctx: TurnContext) -> None:
    raise Strange


@pytest.mark.parametrize("function", [cancels_its_own, is_strange])
async def test_whatever_a_function_raises_its_turn_is_over(function: Any) -> None:
    async with Team({"a": function}) as team, asyncio.timeout(BOUND):
        with pytest.raises(CallFailed, match=r"failed: (CancelledError|Strange)"):
            await team.call("a")


async def test_a_generator_is_closed_when_its_turn_fails() -> None:
    closed = []

    async def yields(ctx: TurnContext) -> AsyncIterator[Any]:
        try:
            yield ctx.call("boom")
            yield object()
        finally:
            closed.append(1)

    team = Team({"a": yields, "boom": boom})

    @team.on("value")
    def refuses(turn: Turn, reply: Any) -> None:
        raise ValueError

    async with team:
        await team.call("a").wait_over()
        assert closed == [1]


async def test_ag_55_closing_frees_everything() -> None:
    before = asyncio.all_tasks()
    async with Team({"a": echo, "slow": forever}) as team:
        team.call("slow")
        await team.call("a")
    assert asyncio.all_tasks() == before


async def test_ma_08_a_server_starts_and_closes_it() -> None:
    before, team = asyncio.all_tasks(), Team({"a": echo})
    await team.start()
    with pytest.raises(ValueError, match="started already"):
        await team.start()
    assert str(await team.call("a", "x")) == "a: x"
    await team.close()
    assert asyncio.all_tasks() == before
    with pytest.raises(ValueError, match="not started"):
        team.call("a", "x")


async def test_ma_28_one_is_waited_for_before_the_next() -> None:
    order: list[str] = []

    async def slow(ctx: TurnContext) -> None:
        order.append(f"{ctx.text} begins")
        await asyncio.sleep(0.01)
        order.append(f"{ctx.text} ends")

    async def both(ctx: TurnContext) -> None:
        await ctx.call("slow", "one")
        await ctx.call("slow", "two")

    async with Team({"slow": slow, "both": both}) as team:
        await team.call("both")
    assert order == ["one begins", "one ends", "two begins", "two ends"]


async def test_ag_26_an_orderly_end_says_so_and_waits() -> None:
    async def listens(ctx: TurnContext) -> str:
        heard = await ctx.receive()
        return f"summed up: {heard}"

    team = Team({"a": listens})
    await team.start()
    turn = team.call("a")
    await asyncio.sleep(0)
    await team.close(grace=BOUND)
    assert str(await turn).startswith("summed up: Sum up")


async def test_the_same_id_is_the_same_turn() -> None:
    async with Team({"a": echo, "b": echo}) as team:
        first, second = team.call("a", "x", id="report-7"), team.call("a", "x", id="report-7")
        assert first is second
        await first
        assert str(await team.call("a", "x", id="report-7")) == "a: x"
        for name, text in (("b", "x"), ("a", "y")):
            with pytest.raises(Diverged, match="report-7"):
                await team.call(name, text, id="report-7")
        for wrong in ("", "a/b", "..", "a b", "x" * 201):
            with pytest.raises(ValueError, match="cannot be the id"):
                team.call("a", id=wrong)


async def test_a_periodic_call_happens_at_even_distances() -> None:
    times = []

    async def tick(ctx: TurnContext) -> None:
        times.append(time.monotonic())

    async with Team({"a": tick}) as team:
        await team.call("a", when=every(0.2, times=3))
        endless = team.call("a", when=every(hours=1))
        with pytest.raises(ValueError, match="no answer to await"):
            await endless
    assert len(times) >= 3
    assert times[2] - times[0] == pytest.approx(0.4, abs=0.19)


async def test_several_are_called_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    late = SimpleNamespace(time=lambda: time.time() + 0.1)  # both times have gone by as it begins
    monkeypatch.setattr("optio_agents.team.calls.time", late)
    async with Team({"a": echo, "b": echo}) as team:
        turn = team.call(["a", "b"], "x", when=every(0.01, times=2))
        await turn.wait_over()
        assert [str(await child) for child in turn.children] == ["[a]a: x[/a]\n\n[b]b: x[/b]"] * 2


async def test_the_same_id_is_no_other_turn_also_before_that_is_written() -> None:
    async with Team({"a": echo, "b": echo}) as team:
        turn = team.call("a", "x", id="one")
        assert team.call("a", "x", id="one") is turn
        for name, text in (("a", "y"), ("b", "x")):
            with pytest.raises(Diverged):
                team.call(name, text, id="one")
        for wrong in (-1, float("nan")):
            with pytest.raises(ValueError, match="the timeout is"):
                team.call("a", "x", timeout=wrong)


async def test_what_is_the_teams_own_is_called_by_nobody() -> None:
    async with Team({"a": echo}, approve=lambda question: True) as team:
        for name in ("[all]", "[again]", "[approver]"):
            with pytest.raises(NoParticipant, match=r"there is a$"):
                team.call(name, "x")


async def test_a_turn_far_below_is_known_by_its_long_id() -> None:
    async def boss(ctx: TurnContext) -> str:
        turn = ctx.call("a", key="one")
        await turn.wait_over()
        return f"{len(turn.id)} {(await ctx.status(turn)).status}"

    async with Team({"boss": boss, "a": echo}) as team:
        assert str(await team.call("boss", id="x" * 200)) == "214 completed"
        with pytest.raises(ValueError, match="cannot be the id"):
            team.call("a", id="x" * 201)


@pytest.mark.parametrize("durable", [False, True])
async def test_whom_a_turn_calls_while_it_is_cancelled_never_works(
    tmp_path: Path, *, durable: bool
) -> None:
    gate, worked = asyncio.Event(), list[str]()

    async def child(ctx: TurnContext) -> None:
        worked.append(ctx.id)

    async def boss(ctx: TurnContext) -> Any:
        return ctx.call("child")

    team = Team({"boss": boss, "child": child}, store=tmp_path / "j" if durable else None)

    @team.on("before_turn", name="child")
    async def waits(turn: Turn, message: Message) -> None:
        await gate.wait()

    async with team:
        turn = team.call("boss")
        async for _ in turn.events(Called):
            break
        await turn.cancel()
        gate.set()
        await turn.children[0].wait_over()
        assert (turn.children[0].status, worked) == ("cancelled", [])
        assert [status.name for status in await team.turns()] == ["boss"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"participants": {"caller": echo}}, "cannot be the name"),
        ({"participants": {"a/b": echo}}, "cannot be the name"),
        ({"participants": {"a": echo}, "without": {"finish"}}, "finish cannot be removed"),
        ({"participants": {"a": echo}, "without": {"fly"}}, "no such verbs: fly"),
        ({"participants": {"a": echo}, "store": "postgresql://db/x"}, "a path on this machine"),
        ({"participants": {"a": echo}, "tools": [shout, shout]}, "two tools are called 'shout'"),
    ],
)
def test_ao_46_a_wrong_team_is_refused_at_once(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Team(**arguments)


async def test_a_wrong_call_is_refused_at_once() -> None:
    async with Team({"a": echo}) as team:
        with pytest.raises(TypeError, match="'x' is no Attachment"):
            team.call("a", "hi", attachments=["x"])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="is no message: give a Message, or a role"):
            team.call("a", "hi", history=[{"role": "judge"}])
        with pytest.raises(ValueError, match="nobody is called"):
            team.call([], "hi")
        with pytest.raises(NoParticipant, match="this team has no turn 'nothing'"):
            await team.cancel("nothing")


async def test_a_turn_that_cannot_begin_fails_and_is_not_waited_for() -> None:
    team = Team({"a": echo})

    @team.on("before_turn")
    def wrong(turn: Turn, message: Message) -> Message:
        return message.but(attachments=["x"])

    async with asyncio.timeout(BOUND), team:
        with pytest.raises(CallFailed, match="AttributeError"):
            await team.call("a", "hi")


async def test_a_tool_that_takes_too_long_says_so() -> None:
    @tool(timeout=0.01)
    async def search() -> None:
        """Search."""
        await asyncio.sleep(3600)

    async with Team({"a": echo}, tools=[search]) as team:
        with pytest.raises(CallFailed, match=r"search was not done within 0\.01 seconds"):
            await team.call(search)


async def test_history_may_be_what_a_model_api_has() -> None:
    async def tells(ctx: TurnContext) -> str:
        return " ".join(f"{said.kind}:{said}" for said in ctx.history)

    before = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    async with Team({"a": tells}) as team:
        assert str(await team.call("a", "hi", history=before)) == "forward:one return:two"


async def test_an_answer_may_have_to_fit_a_json_schema() -> None:
    form = {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
    async with Team({"a": same}) as team:
        answer = await team.call("a", '{"days": 2}', returns=form)
        assert answer.value == {"days": 2}
        assert answer.hash == answer.id
        with pytest.raises(ValueError, match="days"):
            await team.call("a", "{}", returns=form)


def test_limits_are_not_negative() -> None:
    with pytest.raises(ValueError, match="the limit steps is -1"):
        Limits(steps=-1)


async def test_an_approver_says_yes_or_no_and_silence_is_no() -> None:
    async def asks(ctx: TurnContext) -> str:
        return f"{await ctx.ask('rm -rf build?')}"

    async with Team({"a": asks}) as team:
        assert str(await team.call("a")) == "no"
    async with Team({"a": asks}, approve=lambda question: "build" in question) as team:
        assert str(await team.call("a")) == "true"
    async with Team({"a": asks, "ana": forever}, approve="ana", approve_within=0.05) as team:
        assert str(await team.call("a")).startswith("no: ")


@pytest.mark.parametrize("row", ["ao_01", "ao_25", "pg_02", "ma_01", "ma_48"])
def test_ao_01_ao_25_pg_01_pg_02_ma_01_ma_48_importing_it_needs_nothing_more(row: str) -> None:
    light = {"anyio", "asyncssh", "pydantic", "sqlite3", "httpx", "openai", "rich"}
    code = "import sys, optio_agents.team; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert light & set(ran.stdout.split()) == set()


async def test_ag_09_ag_38_ag_39_in_memory_by_default(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    async with Team({"a": echo}) as team:
        await team.call("a", "x")
    assert list(tmp_path.iterdir()) == []


async def test_pg_20_a_queue_is_data_and_goes_on_elsewhere() -> None:
    import json

    gate = asyncio.Event()

    async def clerk(ctx: TurnContext) -> str:
        await gate.wait()
        return f"done {ctx.text}"

    async with Team({"clerk": clerk}, shared=["clerk"]) as team:
        first, *others = [team.call("clerk", str(n), metadata={"n": n}) for n in range(3)]
        for turn in others:
            while not turn.written:
                await turn.pieces.more()
        kept = json.loads(json.dumps(await team.dump()))
        assert len(await team.load(kept)) == len(kept) >= 2
        gate.set()
        assert [str(await turn) for turn in (first, *others)] == ["done 0", "done 1", "done 2"]
    async with Team({"clerk": clerk}, shared=["clerk"]) as team:
        loaded = await team.load(kept)
        assert {str(await turn) for turn in loaded} >= {"done 1", "done 2"}
        assert [turn.metadata["n"] for turn in loaded][-1] == 2


async def test_pg_12_arguments_may_be_computed_late() -> None:
    who = "early"
    gate = asyncio.Event()

    async def waits(ctx: TurnContext) -> str:
        if ctx.text == "first":
            await gate.wait()
        return str(ctx.message.value or ctx.text)

    async with Team({"a": waits}, shared=["a"]) as team:
        first = team.call("a", "first")
        text = team.call("a", lambda: f"hello {who}")
        value = team.call("a", {"who": lambda: who, "n": 1})
        await asyncio.sleep(0)
        who = "late"
        gate.set()
        await first
        assert str(await text) == "hello late"
        assert (await value).text == "{'who': 'late', 'n': 1}"


async def test_ma_37_a_call_is_opened_and_sent_to_twice() -> None:
    async def echo(ctx: TurnContext) -> AsyncIterator[str]:
        async for message in ctx.incoming():
            yield f"echo {message}"

    async with Team({"echo": echo}) as team:
        turn = team.open("echo")
        await turn.send("one")
        await turn.send("two")
        await turn.finish()
        assert [str(message) async for message in turn] == ["echo one", "echo two"]
        assert str(await team.call("echo", "three")) == "echo three"
