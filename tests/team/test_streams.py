"""What can be read of a turn, by how many readers, in which order."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from optio_agents.team import Attachment, CallFailed, Message, Team, Token, TurnContext
from optio_agents.team.messages import FrozenDict


async def pieces(ctx: TurnContext) -> AsyncIterator[Any]:
    yield "Today"
    yield [ctx.call("slow", "1"), ctx.call("fast", "2")]
    yield "That was all"


@dataclass
class Point:
    x: int


async def slow(ctx: TurnContext) -> str:
    await asyncio.sleep(0.1)
    return f"slow {ctx.text}"


async def fast(ctx: TurnContext) -> str:
    return f"fast {ctx.text}"


TEAM = {"digest": pieces, "slow": slow, "fast": fast}
ALL = ["Today", "slow 1", "fast 2", "That was all"]


async def test_ma_34_ma_46_ma_49_order_is_kept_and_reading_again_gives_the_same() -> None:
    async with Team(TEAM) as team:
        turn = team.call("digest")
        first = [str(message) async for message in turn]
        again = [str(message) async for message in turn]
        tokens = [token async for token in turn.tokens()]
    assert first == again == tokens == ALL


async def test_ma_30_replies_are_joined_with_a_blank_line() -> None:
    async with Team(TEAM) as team:
        assert str(await team.call("digest")) == "\n\n".join(ALL)


async def test_ma_35_ma_36_nested_replies_flatten_in_order() -> None:
    async def two(ctx: TurnContext) -> list[Any]:
        return [f"{ctx.text}a", [Message(f"{ctx.text}b")]]

    async def outer(ctx: TurnContext) -> AsyncIterator[Any]:
        yield "A"
        yield [ctx.call("two", "2"), [ctx.call("two", "1"), ["deep"]]]
        yield "Z"

    async with Team({"two": two, "outer": outer}) as team:
        found = [str(message) async for message in team.call("outer")]
    assert found == ["A", "2a", "2b", "1a", "1b", "deep", "Z"]


async def test_ma_02_ma_04_ma_05_an_async_function_is_a_participant() -> None:
    order = []

    async def echo(ctx: TurnContext) -> str:
        order.append("callee")
        return ctx.text

    async with Team({"echo": echo}) as team:
        turns = [team.call("echo", text) for text in ("one", "two")]
        order.append("caller")
        assert [str(await turn) for turn in turns] == ["one", "two"]
    assert order == ["caller", "callee", "callee"]


async def test_ma_03_so_is_an_object_that_can_be_called() -> None:
    @dataclass
    class Greeter:
        greeting: str

        async def __call__(self, ctx: TurnContext) -> str:
            return f"{self.greeting} {ctx.text}"

    async with Team({"greet": Greeter("hello")}) as team:
        assert str(await team.call("greet", "world")) == "hello world"


async def test_ma_31_children_start_by_themselves() -> None:
    prints: list[str] = []

    async def agent(ctx: TurnContext) -> AsyncIterator[str]:
        prints.append(f"{ctx.text} started")
        yield f"{ctx.text} one"
        if ctx.text == "1":
            await asyncio.sleep(0.01)
            prints.append("1 still working")
        yield f"{ctx.text} two"
        prints.append(f"{ctx.text} finished")

    async def aggregate(ctx: TurnContext) -> AsyncIterator[Any]:
        prints.append("aggregator started")
        yield ["the beginning", ctx.call("agent", "1"), ctx.call("agent", "2")]
        prints.append("aggregator still working")
        prints.append("aggregator finished")

    async with Team({"agent": agent, "aggregate": aggregate}) as team:
        turn = team.call("aggregate")
        await asyncio.sleep(0.2)
        prints.append("caller reads")
        found = [str(message) async for message in turn]
    assert prints[:3] == ["aggregator started", "aggregator still working", "aggregator finished"]
    assert prints[-1] == "caller reads"
    assert set(prints[3:-1]) == {
        "1 started",
        "1 still working",
        "1 finished",
        "2 started",
        "2 finished",
    }
    assert found == ["the beginning", "1 one", "1 two", "2 one", "2 two"]


async def test_ma_32_a_lazy_turn_starts_when_it_is_read() -> None:
    ran = []

    async def echo(ctx: TurnContext) -> str:
        ran.append(ctx.text)
        return ctx.text

    async with Team({"echo": echo}) as team:
        turn = team.call("echo", "x", lazy=True)
        await team.call("echo", "y")
        assert ran == ["y"]
        assert str(await turn) == "x"


async def test_ma_16_ma_17_any_reply_can_be_read_as_tokens() -> None:
    async with Team(TEAM) as team:
        assert [token async for token in team.call("fast", "x").tokens()] == ["fast x"]


async def test_ao_66_the_first_token_is_seen_before_the_end() -> None:
    async with Team(TEAM) as team:
        turn = team.call("digest")
        async for event in turn.events(Token):
            assert event.text == "Today"  # type: ignore[union-attr]
            assert not turn.over
            break


async def test_ag_02_streamed_or_not_the_events_are_the_same() -> None:
    def kinds(events: list[Any]) -> list[Any]:
        return sorted((type(event).__name__, event.name) for event in events)

    async with Team(TEAM) as team:
        read, awaited = team.call("digest"), team.call("digest")
        live = [event async for event in read.events()]
        await awaited
        assert kinds(live) == kinds([event async for event in awaited.events()])


@pytest.mark.parametrize("hooked", [False, True])
async def test_tokens_are_events_in_their_order_for_whoever_reads_when(hooked: bool) -> None:
    async def talks(ctx: TurnContext) -> AsyncIterator[str]:
        for text in ("one", "two", "three", "", "four", "five"):
            if text:
                yield text
                await asyncio.sleep(0)  # whoever reads is at its end, whatever stands there
            else:
                await ctx.call("fast", "between")

    async with Team({"talks": talks, "fast": fast}) as team:
        if hooked:
            team.on("after_event")(lambda _turn, _event: None)
        turn = team.call("talks", "x")
        first = [event async for event in turn.events()]
        assert [event async for event in turn.events()] == first
    told = [(event.name, event.text) for event in first if isinstance(event, Token)]
    texts = [("talks", text) for text in ("one", "two", "three", "four", "five")]
    assert told == [*texts[:3], ("fast", "fast between"), *texts[3:]]


async def test_a_failure_ends_every_reader() -> None:
    async def fails(ctx: TurnContext) -> AsyncIterator[str]:
        yield "one"
        raise RuntimeError("two")

    async with Team({"a": fails}) as team:
        turn, found = team.call("a"), []
        for stream in (turn, turn.tokens()):
            pieces = stream.__aiter__()
            found.append(str(await anext(pieces)))
            with pytest.raises(CallFailed, match="RuntimeError: two"):
                await anext(pieces)
    assert found == ["one", "one"]


class Plan(BaseModel):
    steps: list[str]
    days: int


async def test_a_structured_answer_is_what_was_asked_for() -> None:
    async def plans(ctx: TurnContext) -> Any:
        return '```json\n{"steps": ["a"], "days": 2}```' if ctx.text else {"steps": [], "days": 1}

    async with Team({"plans": plans}) as team:
        plan = (await team.call("plans", "x", returns=Plan)).value
        assert plan == Plan(steps=["a"], days=2)
        assert (await team.call("plans", returns=Plan)).value.days == 1


@dataclass(frozen=True)
class Scored(Message):
    scores: dict[str, list[int]] | None = None


def test_ma_40_a_message_is_immutable_at_every_depth() -> None:
    message = Scored("x", value={"a": [{"b": [1]}]}, scores={"c": [1]})
    with pytest.raises(FrozenInstanceError):
        message.text = "y"  # type: ignore[misc]
    with pytest.raises(TypeError):
        message.value["a"][0]["b"] = 2
    with pytest.raises(TypeError):
        message.value["a"][0].update(b=2)
    assert isinstance(message.value["a"], tuple)
    assert isinstance(message.scores, FrozenDict)
    message = Message(value=[{"point": Point(1)}, {2}])
    assert message.value == ({"point": {"x": 1}}, (2,))
    assert message == Message.load(json.loads(json.dumps(message.dump())))


def test_ma_41_the_id_is_the_hash_of_the_content() -> None:
    code = (
        "from optio_agents.team import Message;"
        "print(Message('häuser', value={'b': [1], 'a': None}, turn='other').id)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = Message("häuser", value={"a": None, "b": [1]}, turn="this").id
    assert ran.stdout.strip() == here
    assert len(here) == 64
    assert Message("haeuser").id != here


async def test_ma_42_ma_43_nested_messages_are_dumped_by_hash_and_told_once() -> None:
    team = Team(TEAM)
    told: list[str] = []
    team.on("message")(lambda turn, message: told.append(message.id))
    async with team:
        message = await team.call("digest")
    dump = json.dumps(message.dump())
    assert len(message.parts) == 4
    assert all(part in dump for part in message.parts)
    assert len(told) == 2 + 4


def test_ma_39_fields_of_ones_own_are_kept() -> None:
    kept = json.loads(json.dumps(Scored("x", scores={"a": [1]}).dump()))
    again = Message.load(kept)
    assert isinstance(again, Scored)
    assert again.scores == {"a": (1,)}
    with pytest.raises(ValueError, match="not defined in this process"):
        Message.load({**kept, "class": "nowhere:Gone"})


def test_ao_49_an_attachment_has_data_or_an_address() -> None:
    for wrong in ({}, {"data": b"x", "url": "http://x"}):
        with pytest.raises(ValueError, match="either data or a url"):
            Attachment("image/png", **wrong)  # type: ignore[arg-type]


def test_ao_51_pg_19_a_message_is_plain_data() -> None:
    message = Message("x", sender="a", attachments=(Attachment("a/b", b"\xff"),), turn="t")
    kept = json.loads(json.dumps(message.dump()))
    assert {"kind", "sender", "to", "text", "turn", "attachments"} <= kept.keys()
    assert Message.load(kept) == message
    assert Message.load(kept).id == message.id


async def test_ao_60_the_exchange_can_be_filtered() -> None:
    async with Team(TEAM) as team:
        turn = team.call("digest")
        await turn
        calls = [m for m in await team.exchange(turn.id) if m.to == "fast"]
    assert [str(message) for message in calls] == ["2"]


async def test_ao_52_the_whole_exchange_can_be_read() -> None:
    async def asks(ctx: TurnContext) -> str:
        return str(await ctx.call("fast", "x"))

    async with Team({**TEAM, "ask": asks}) as team:
        turn = team.call("ask", "q")
        await turn
        said = [(m.sender, m.to, str(m)) for m in await team.exchange(turn.id)]
    assert said == [
        ("user", "ask", "q"),
        ("ask", "fast", "x"),
        ("fast", "ask", "fast x"),
        ("ask", "user", "fast x"),
    ]


async def test_pg_16_pg_17_ag_07_hooks_are_plain_functions_at_named_points() -> None:
    team = Team({**TEAM, "boom": _boom, "forever": _forever})
    seen: list[tuple[str, str]] = []

    @team.on("before_turn", name="fast")
    async def politely(turn: Any, message: Message) -> str:
        return f"please {message}"

    for point in ("before_turn", "after_turn", "timeout", "error", "value"):
        team.on(point)(lambda turn, value, point=point: seen.append((point, turn.name)))
    team.on("before_event")(lambda turn, event: None)
    async with team:
        assert str(await team.call("fast", "x")) == "fast please x"
        for name in ("boom", "forever"):
            await team.call(name, timeout=0.05).wait_over()
    assert seen == [
        ("before_turn", "fast"),
        ("value", "fast"),
        ("after_turn", "fast"),
        ("before_turn", "boom"),
        ("error", "boom"),
        ("before_turn", "forever"),
        ("timeout", "forever"),
        ("error", "forever"),
    ]
    with pytest.raises(ValueError, match="no point is called 'later'"):
        team.on("later")(print)


async def _boom(ctx: TurnContext) -> None:
    raise ValueError(ctx.text)


async def _forever(ctx: TurnContext) -> None:
    await asyncio.Event().wait()


async def test_hooks_change_what_is_returned_and_what_is_shown() -> None:
    team = Team(TEAM)
    team.on("after_turn")(lambda turn, messages: "changed")
    team.on("before_event")(
        lambda turn, event: (
            Token(event.turn, event.name, event.parent, "***") if isinstance(event, Token) else None
        )
    )
    async with team:
        turn = team.call("fast", "x")
        assert str(await turn) == "changed"
        assert [e.text async for e in turn.events(Token)] == ["***"]  # type: ignore[union-attr]
