"""Models as participants, over four wire formats, against a scripted API on loopback."""

# ruff: noqa: SIM117  # an API outlives the team that uses it

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

pytest.importorskip("pydantic_ai", reason="the extra [models] is not installed")

from optio_agents.team import (
    Attachment,
    Called,
    CallFailed,
    Concluded,
    Limits,
    NoCredential,
    NoParticipant,
    Returned,
    Stepped,
    Team,
    Token,
    ToolCalled,
    ToolResult,
    ToolReturned,
    TurnContext,
    context,
    model,
    tool,
)
from optio_agents.testing.scripted_model import Asked, scripted_model
from tests.support.timeouts import BOUND

FORMATS = {
    "openai-chat": "/chat/completions",
    "openai-responses": "/responses",
    "anthropic": "/v1/messages",
    "google": ":streamGenerateContent",
}
each_format = pytest.mark.parametrize("provider", FORMATS)


def use(tool: str, /, **arguments: Any) -> dict[str, Any]:
    return {"call": tool, "arguments": arguments}


def chat(api: Any, instructions: str = "", **more: Any) -> Any:
    return model("openai-chat:m", instructions, base_url=api.url, **more)


def texts(asked: Asked) -> list[str]:
    return [str(message.get("content")) for message in asked.body["messages"]]


async def echo(ctx: TurnContext) -> str:
    """Says it again."""
    return f"echo {ctx.text}"


QUICK_START = """
from optio_agents.team import Team, model
team = Team({"writer": model("openai-chat:gpt-5.2", "Write well.", base_url=URL)})
print(team.run("writer", "A haiku about files."))
"""


async def test_ao_07_a_quick_start_of_a_dozen_lines(capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted_model("Files rest in their rows") as api:
        await asyncio.to_thread(exec, QUICK_START, {"URL": api.url})
    assert capsys.readouterr().out == "Files rest in their rows\n"
    assert len(QUICK_START.strip().splitlines()) <= 12


@each_format
async def test_ao_12_ao_13_ao_14_ao_15_ao_16_ao_17_ma_11_ma_12_ma_45_ag_16_ag_17_ag_20_four_formats(
    provider: str,
) -> None:
    pieces = [f"w{number} " for number in range(22)]
    async with scripted_model(pieces) as api:
        one = model(f"{provider}:m", "Be brief.", base_url=api.url, max_tokens=50)
        async with Team({"writer": one}) as team:
            turn = team.call("writer", "hello")
            tokens = [token async for token in turn.tokens()]
            answer = await turn
    assert tokens == pieces
    assert str(answer) == "".join(pieces).strip() or str(answer) == "".join(pieces)
    [asked] = api.requests
    assert FORMATS[provider] in asked.path
    body = json.dumps(asked.body)
    assert "Be brief." in body
    assert ": 50" in body


@each_format
async def test_ao_08_ao_35_ao_36_ao_41_ao_42_ao_81_a_tool_a_peer_and_finish(provider: str) -> None:
    @tool
    def shout(word: str) -> str:
        """Make it loud."""
        return word.upper()

    replies = [
        use("shout", word="hi"),
        use("call", name="echo", message="x"),
        use("finish", message="all done"),
    ]
    async with scripted_model(*replies) as api:
        one = model(f"{provider}:m", base_url=api.url, tools=[shout])
        async with Team({"boss": one, "echo": echo}) as team:
            turn = team.call("boss", "go")
            assert str(await turn) == "all done"
            events = [type(event) async for event in turn.events()]
    assert len(api.requests) == 3
    first, second, third = (json.dumps(asked.body) for asked in api.requests)
    for verb in ("call", "send", "status", "sleep", "finish", "shout"):
        assert f'"{verb}"' in first
    assert "HI" in second
    assert "[echo]echo x[/echo]" in third
    assert events == [
        *(Stepped, ToolCalled, ToolReturned),
        *(Stepped, ToolCalled, Called, Token, Concluded, Returned, ToolReturned),
        *(Stepped, ToolCalled, Concluded),
    ]


async def test_ao_10_ag_46_ao_88_what_one_reply_asks_for_runs_together() -> None:
    together = asyncio.Barrier(4)

    async def slow(ctx: TurnContext) -> str:
        await together.wait()
        return f"{ctx.text} done"

    @tool
    async def wait(word: str) -> str:
        await together.wait()
        return word

    uses = [use("call", name="slow", message=str(n)) for n in range(3)]
    async with scripted_model([*uses, use("wait", word="a")], "ok") as api:
        async with Team({"boss": chat(api, tools=[wait]), "slow": slow}) as team:
            await team.call("boss", "go")
    results = [m["content"] for m in api.requests[1].body["messages"] if m["role"] == "tool"]
    assert results == [f"[slow]{n} done[/slow]" for n in range(3)] + ["a"]


async def test_ao_18_ag_19_several_providers_in_one_team() -> None:
    async with scripted_model("one") as first, scripted_model("two") as second:
        people = {
            "a": model("anthropic:m", base_url=first.url),
            "b": model("openai-chat:m", base_url=second.url),
        }
        async with Team(people) as team:
            assert [str(await team.call(name, "x")) for name in "ab"] == ["one", "two"]
    assert len(first.requests) == len(second.requests) == 1


async def test_ao_11_ao_33_ma_14_ma_15_a_changed_copy_further_fields_and_one_call() -> None:
    async with scripted_model("one", "two", "three") as api:
        one = chat(api, "Be kind.", extra={"seed": 1})
        people = {"one": one, "two": one.but(model="openai-chat:other", temperature=0.5)}
        async with Team(people) as team:
            await team.call("one", "x")
            await team.call("two", "x")
            await team.call("two", "x", settings={"temperature": 0.1, "max_tokens": 7})
    first, second, third = (asked.body for asked in api.requests)
    assert (first["model"], first["seed"], first.get("temperature")) == ("m", 1, None)
    assert (second["model"], second["temperature"]) == ("other", 0.5)
    assert third["temperature"] == 0.1
    assert 7 in (third.get("max_tokens"), third.get("max_completion_tokens"))


@each_format
async def test_ao_28_ao_29_ao_34_limits_and_effort_have_one_name(provider: str) -> None:
    async with scripted_model("one", "two") as api:
        names = {"openai-responses": "gpt-5", "anthropic": "claude-opus-4-7", "google": "m"}
        name = names.get(provider, "gpt-5")
        plain = model(f"{provider}:{name}", base_url=api.url)
        async with Team({"a": plain, "b": plain.but(thinking="high", max_tokens=50)}) as team:
            await team.call("a", "x")
            await team.call("b", "x")
    without, given = (json.dumps(asked.body) for asked in api.requests)
    assert ("max_tokens" in without) == (provider == "anthropic")
    assert ": 50" in given or "thinking" in given
    assert any(word in given for word in ("high", "thinking", "budget"))


def test_ao_24_a_missing_credential_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    team = Team({"writer": model("openai-chat:m")})
    with pytest.raises(NoCredential, match=r"writer: the provider openai-chat .*OPENAI_API_KEY"):
        team.run("writer", "x")
    with pytest.raises(NoCredential, match="writer: there is no provider 'nobody'"):
        Team({"writer": model("nobody:m")}).run("writer", "x")
    with pytest.raises(ValueError, match="provider:name"):
        model("gpt")


async def test_ao_26_ao_27_ao_93_peers_are_told_by_their_roles() -> None:
    async with scripted_model("x") as api:
        people = {
            "boss": chat(api, "Lead."),
            "a": chat(api, "Secret first line.\nSecret second line.", role="writes code"),
            "b": chat(api, "Reviews code.\nSecret third line."),
            "c": echo,
        }
        async with Team(people) as team:
            answer = await team.call("boss", "x")
    assert answer.sender == "boss"
    system = api.requests[0].body["messages"][0]["content"]
    assert "- a: writes code\n- b: Reviews code.\n- c: Says it again." in system
    assert "Secret" not in system
    assert "at the same time" in system


async def test_ao_37_ao_39_the_schema_comes_from_signature_and_docstring() -> None:
    @tool
    def search_web(
        query: Annotated[str, "Search keywords or question"],
        max_results: Annotated[int, "Maximum number of results to return"] = 10,
        language: Literal["ko", "en", "ja"] = "ko",
    ) -> str:
        return ""

    words = "Maximum number of results to return"
    assert search_web.parameters == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "Search keywords or question"},
            "max_results": {"type": "integer", "description": words, "default": 10},
            "language": {"type": "string", "enum": ["ko", "en", "ja"], "default": "ko"},
        },
        "required": ["query"],
    }


async def test_ao_38_lists_unions_and_models_have_their_types() -> None:
    from enum import Enum

    class Colour(Enum):
        RED = "red"

    class Point(BaseModel):
        x: int

    @tool
    def draw(points: list[Point], width: int | str, colour: Colour, name: str | None = None) -> str:
        """Draw.

        Args:
            points: where to go
            width (float): how thick
        """
        return f"{points[0].x} {colour.value}"

    schema = draw.parameters
    assert schema["properties"]["points"]["type"] == "array"
    assert schema["properties"]["points"]["description"] == "where to go"
    width = schema["properties"]["width"]
    kinds = width["type"] if "type" in width else [one["type"] for one in width["anyOf"]]
    assert set(kinds) == {"integer", "string"}
    assert schema["$defs"]["Point"]["properties"]["x"] == {"type": "integer"}
    assert schema["$defs"]["Colour"]["enum"] == ["red"]
    result = await draw.run(None, {"points": [{"x": 3}], "width": 1, "colour": "red"})
    assert result.text == "3 red"


async def test_ao_04_ag_44_a_tool_of_the_team_serves_everybody_and_each_reader_gets_its_own() -> (
    None
):
    @tool
    def look() -> ToolResult:
        return ToolResult("for the model", display="for the person", value={"for": "programs"})

    async with scripted_model(use("look"), "a", use("look"), "b") as api:
        async with Team({"a": chat(api), "b": chat(api)}, tools=[look]) as team:
            turn = team.call("a", "x")
            await turn
            await team.call("b", "x")
            shown = [event async for event in turn.events(ToolReturned)]
            assert dict((await team.call(look)).value) == {"for": "programs"}
    assert "for the model" in texts(api.requests[1])
    assert "for the model" in texts(api.requests[3])
    assert shown[0].display == "for the person"  # type: ignore[union-attr]


async def test_ao_40_a_tool_may_return_a_file_that_the_model_sees() -> None:
    @tool
    def photo() -> list[Any]:
        return ["here it is", Attachment("image/png", b"\x89PNG")]

    async with scripted_model(use("photo"), "nice") as api:
        async with Team({"a": chat(api, tools=[photo])}) as team:
            await team.call("a", "x")
    assert "data:image/png;base64" in json.dumps(api.requests[1].body)


async def test_ao_43_ao_44_ao_45_pg_06_verbs_can_be_removed_and_replaced() -> None:
    @tool
    def finish(answer: str, confidence: float) -> str:
        return f"{answer} ({confidence})"

    @tool
    def status(turn: str) -> str:
        return "mine"

    replies = [use("sleep", seconds=1), use("finish", answer="42", confidence=0.9)]
    async with scripted_model(*replies) as api:
        team = Team({"a": chat(api)}, tools=[finish, status], without={"sleep", "status"})
        async with team:
            assert str(await team.call("a", "x")) == "42 (0.9)"
    names = [one["function"]["name"] for one in api.requests[0].body["tools"]]
    assert "sleep" not in names
    assert names.count("status") == names.count("finish") == 1
    assert "error: a has no tool 'sleep'" in texts(api.requests[1])[-1]


async def test_a_finish_of_ones_own_that_was_not_run_ends_nothing() -> None:
    @tool
    def finish(answer: str) -> str:
        return f"it is {answer}"

    replies = [use("finish", wrong="x"), use("finish", answer="42")]
    async with scripted_model(*replies) as api, Team({"a": chat(api)}, tools=[finish]) as team:
        assert str(await team.call("a", "x")) == "it is 42"
    assert "error: finish was not run" in texts(api.requests[1])[-1]


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ('```json\n{"word": "hi"}\n```', "HI"),
        ('{"word": "h', "error: the arguments of shout are no JSON"),
        ("nonsense", "line 1 column 1"),
        ('{"words": "hi"}', "error: shout was not run: word: Field required"),
    ],
)
async def test_ao_47_broken_arguments_never_crash(arguments: str, seen: str) -> None:
    @tool
    def shout(word: str) -> str:
        return word.upper()

    async with scripted_model({"call": "shout", "arguments": arguments}, "goes on") as api:
        async with Team({"a": chat(api, tools=[shout])}) as team:
            assert str(await team.call("a", "x")) == "goes on"
    assert seen in texts(api.requests[1])[-1]


async def test_ao_48_reasoning_text_is_no_command() -> None:
    async with scripted_model(["<think>", "call finish", "</think>", " hello"]) as api:
        async with Team({"a": chat(api)}) as team:
            turn = team.call("a", "x")
            assert str(await turn).strip() == "hello"
            assert [event async for event in turn.events(ToolCalled)] == []


async def test_ao_53_ao_55_ao_87_an_earlier_exchange_continues() -> None:
    async with scripted_model("first", "second", "third") as api:
        async with Team({"a": chat(api, "Be kind.")}) as team:
            first = await team.call("a", "one")
            second = await team.call("a", "two", history=first.exchange())
            await team.call("a", "three", history=second.exchange(upto=2))
    roles = [[m["role"] for m in asked.body["messages"]] for asked in api.requests]
    assert texts(api.requests[1])[1:] == ["one", "first", "two"]
    assert roles[1] == ["system", "user", "assistant", "user"]
    assert texts(api.requests[2])[1:] == ["one", "first", "three"]


async def test_ao_54_a_model_may_hand_its_history_to_a_peer() -> None:
    async with (
        scripted_model(
            use("call", name="b", message="help", history=True), "b helped", "done"
        ) as api,
        Team({"a": chat(api), "b": chat(api)}) as team,
    ):
        turn = team.call("a", "the question")
        await turn
        handed = turn.children[0].row.options["history"]
    assert [message["text"] for message in handed] == ["the question"]


async def test_ao_56_ao_57_ao_58_instructions_for_this_run() -> None:
    replies = [use("call", name="b", message="x"), "b", "a"] * 2
    async with scripted_model(*replies) as api:
        async with Team({"a": chat(api, "I am a."), "b": chat(api, "I am b.")}) as team:
            await team.call("a", "x", instructions="In verse.")
            await team.call("a", "x", instructions="In verse.", scope="all")
    systems = [asked.body["messages"][0]["content"] for asked in api.requests]
    assert ["In verse." in system for system in systems] == [True, False, True, True, True, True]
    first = systems[0]
    assert first.index("I am a.") < first.index("In verse.") < first.index("- b: ")


async def test_ao_61_ao_65_ao_69_ag_32_a_model_works_in_the_background() -> None:
    done = asyncio.Event()

    async def slow(ctx: TurnContext) -> str:
        await done.wait()
        return "slow answer"

    def asks(asked: Asked) -> Any:
        turn = asked.body["messages"][-1]["content"]
        done.set()
        return use("sleep", until=[turn])

    def then(asked: Asked) -> Any:
        assert "[slow]slow answer[/slow]" in asked.body["messages"][-1]["content"]
        turn = next(m["content"] for m in asked.body["messages"] if m["role"] == "tool")
        return use("status", turn=turn)

    script = [use("call", name="slow", message="x", background=True), asks, then, "done"]
    async with scripted_model(*script) as api, Team({"a": chat(api), "slow": slow}) as team:
        assert str(await team.call("a", "x")) == "done"
    status = json.loads(texts(api.requests[3])[-1])
    assert (status["status"], status["text"]) == ("completed", "slow answer")


async def test_ao_63_a_message_stands_in_the_next_request() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    @tool
    async def wait() -> str:
        asked.set()
        await go.wait()
        return "waited"

    async with scripted_model(use("wait"), "ok") as api:
        async with Team({"a": chat(api, tools=[wait])}) as team:
            turn = team.call("a", "x")
            await asked.wait()
            await turn.send("and CI")
            await asyncio.sleep(0.05)
            go.set()
            await turn
    assert texts(api.requests[1])[-2:] == ["waited", "user says: and CI"]


async def test_ag_03_a_participant_is_a_tool_of_another() -> None:
    async with scripted_model(use("echo", message="x"), "ok") as api:
        boss = chat(api)
        team = Team({"boss": boss, "echo": echo})
        boss.tools.append(team["echo"])
        async with team:
            turn = team.call("boss", "go")
            await turn
    assert texts(api.requests[1])[-1] == "echo x"
    assert turn.children[0].name == "echo"


async def test_ag_18_thinking_is_kept_within_a_turn() -> None:
    @tool
    def look() -> str:
        return "seen"

    script = [[{"thinking": "hm"}, use("look")], "answer"]
    async with scripted_model(*script) as api:
        one = model("deepseek:deepseek-reasoner", base_url=api.url, tools=[look])
        async with Team({"a": one}) as team:
            first = await team.call("a", "x")
            api.replies.append("again")
            await team.call("a", "y", history=first.exchange())
    assert '"reasoning_content": "hm"' in json.dumps(api.requests[1].body)
    assert "reasoning_content" not in json.dumps(api.requests[2].body)


async def test_ag_25_a_participant_that_stays_remembers() -> None:
    async with scripted_model("one", "two") as api, Team({"a": chat(api, shared=True)}) as team:
        await team.call("a", "first")
        await team.call("a", "second")
    assert texts(api.requests[1])[1:] == ["first", "one", "second"]


@pytest.mark.parametrize("limit", ["steps", "tokens"])
async def test_ag_40_ag_35_limits_of_steps_and_tokens_end_with_a_summary(limit: str) -> None:
    @tool
    def look() -> str:
        return "seen"

    async with scripted_model(use("look"), use("look"), "in short: seen") as api:
        limits = Limits(**{limit: {"steps": 2, "tokens": 30}[limit]})  # type: ignore[arg-type]
        async with Team({"a": chat(api, tools=[look])}, limits=limits) as team:
            turn = team.call("a", "x")
            with pytest.raises(CallFailed, match=f"limit {limit}"):
                await turn
            status = await team.status(turn.id)
    assert (turn.status, turn.failure().kind) == ("limit", limit)
    assert status.text == "in short: seen"
    assert "tools" not in api.requests[2].body


async def test_ag_40_a_limit_of_time_ends_with_a_summary() -> None:
    async def slow(_: Any) -> str:
        await asyncio.sleep(BOUND)
        return "late"

    async with scripted_model(slow, "in short: nothing") as api:
        async with Team({"a": chat(api)}, limits=Limits(seconds=0.5)) as team:
            turn = team.call("a", "x")
            with pytest.raises(CallFailed, match="limit seconds"):
                await turn
            status = await team.status(turn.id)
    assert (turn.status, turn.failure().kind, status.text) == (
        "limit",
        "seconds",
        "in short: nothing",
    )


async def test_what_runs_when_the_time_is_over_is_told_to_the_model_as_such() -> None:
    @tool
    async def wait() -> str:
        await asyncio.sleep(BOUND)
        return "done"

    async with scripted_model(use("wait"), "in short: waited") as api:
        async with Team({"a": chat(api, tools=[wait])}, limits=Limits(seconds=0.8)) as team:
            turn = team.call("a", "x")
            await turn.wait_over()
            assert (await team.status(turn.id)).text == "in short: waited"
    assert "the time was over before this was done" in json.dumps(api.requests[1].body)


async def test_a_limit_of_money_counts_and_refuses_who_has_no_price() -> None:
    async with scripted_model(use("call", name="b", message="x"), "in short", "again") as api:
        known = model("openai-chat:gpt-4o", base_url=api.url)
        people = {"a": known, "b": chat(api)}
        async with Team(people, limits=Limits(usd=0.00001)) as team:
            turn = team.call("b", "x")
            with pytest.raises(CallFailed, match="limit usd: what openai-chat:m costs") as caught:
                await turn
            assert (caught.value.status, caught.value.kind, api.requests) == ("limit", "usd", [])
            turn = team.call("a", "x")
            with pytest.raises(CallFailed, match="reached the limit usd"):
                await turn
            assert turn.used["usd"] > 0.00001
            assert (await team.status(turn.id)).text == "in short"


async def test_ag_41_a_result_says_how_it_ended_and_what_it_cost() -> None:
    async with scripted_model("fine", 400, [{"thinking": "x", "ending": "length"}, "cut"]) as api:
        async with Team({"a": chat(api)}) as team:
            turn = team.call("a", "x")
            await turn
            assert turn.used == {"steps": 1, "tokens": 15}
            for words in ("scripted 400", "did not complete its answer"):
                with pytest.raises(CallFailed, match=words) as caught:
                    await team.call("a", "x")
                assert caught.value.kind == "ProviderFailed"


async def test_ag_43_ag_42_a_tool_that_runs_alone_and_one_by_raw_schema() -> None:
    running = 0

    @tool(alone=True)
    async def one(word: str) -> str:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.05)
        running -= 1
        return word

    from optio_agents.team.participants.tools import Tool

    raw = Tool(
        lambda **arguments: arguments,
        name="raw",
        parameters={"type": "object", "properties": {"x": {"type": "integer"}}},
    )
    uses = [use("one", word="a"), use("one", word="b"), use("raw", x=3)]
    async with scripted_model(uses, "ok") as api:
        async with Team({"a": chat(api, tools=[one, raw])}) as team:
            await team.call("a", "x")
    assert texts(api.requests[1])[-3:] == ["a", "b", '{"x": 3}']


async def test_ag_45_cancelling_stops_a_slow_model_at_once() -> None:
    async with scripted_model(["a", "b", "c"], pause=3600) as api, Team({"a": chat(api)}) as team:
        turn = team.call("a", "x")
        while not api.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await turn.cancel()
    assert turn.status == "cancelled"


async def test_ag_50_it_tries_again_when_told_to_wait() -> None:
    async with scripted_model(429, 429, "at last") as api, Team({"a": chat(api)}) as team:
        assert str(await team.call("a", "x")) == "at last"
    assert len(api.requests) == 3


async def test_ag_34_waiting_parents_take_up_no_slot() -> None:
    async def boss(ctx: TurnContext) -> list[Any]:
        return [ctx.call("a", str(n)) for n in range(3)]

    busy = most = 0

    async def counted(asked: Asked) -> str:
        nonlocal busy, most
        busy, most = busy + 1, max(most, busy + 1)
        await asyncio.sleep(0.02)
        busy -= 1
        return "ok"

    calls = [use("call", name="b", message=str(n)) for n in range(3)]
    async with scripted_model(*[counted] * 20) as api:
        async with Team({"a": chat(api)}, limits=Limits(at_once=2)) as team:
            for turn in [team.call("a", str(n)) for n in range(20)]:
                await turn
    assert most <= 2
    assert len(api.requests) == 20
    async with scripted_model(calls, "1", "2", "3", "done") as api:
        people = {"a": chat(api), "b": chat(api)}
        async with Team(people, limits=Limits(at_once=1)) as team:
            assert str(await team.call("a", "x")) == "done"


async def test_ag_47_ag_48_ag_49_skills_are_found_and_read(tmp_path: Any) -> None:
    from optio_agents.team import skills

    (tmp_path / "bake").mkdir()
    skill = tmp_path / "bake/SKILL.md"
    skill.write_text("---\ndescription: How bread is made\n---\nKnead it.")
    [read] = skills(tmp_path)
    assert "- bake: How bread is made" in read.description
    assert f"(in {tmp_path}/bake)" in (await read.run(None, {"name": "bake"})).text
    skill.write_text("Rest it.")
    assert "Rest it." in (await read.run(None, {"name": "bake"})).text


async def test_ao_31_ao_32_a_history_near_the_window_is_summed_up() -> None:
    from optio_agents.team import Message

    assert model("openai-chat:gpt-5", credential="x").open("a") is None
    history = []
    for number in range(100):
        history.append(Message(f"question {number} " + "x" * 200, "forward", "user", "a"))
        history.append(Message(f"answer {number} " + "y" * 200, "return", "a", "user"))

    def answers(asked: Asked) -> str:
        return "summary" if "Sum up" in str(asked.body["messages"][-1]["content"]) else "ok"

    async with scripted_model(*[answers] * 50) as api:
        async with Team({"a": chat(api, context_window=4000)}) as team:
            assert str(await team.call("a", "and now?", history=history)) == "ok"
    last = api.requests[-1].body["messages"]
    assert sum(len(str(message["content"])) for message in last) / 4 < 4000
    assert "summed up: summary" in last[1]["content"]
    assert "question 99" in str(last)
    assert last[-1]["content"] == "and now?"


async def test_a_structured_answer_of_a_model_is_asked_for_again() -> None:
    class Plan(BaseModel):
        days: int

    async with scripted_model("two days", '{"days": 2}') as api, Team({"a": chat(api)}) as team:
        assert (await team.call("a", "x", returns=Plan)).value == Plan(days=2)
    assert '"days"' in texts(api.requests[0])[0]
    assert "does not have the form" in texts(api.requests[1])[-1]


async def test_a_model_that_sleeps_is_told_what_woke_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "LINGER", -1.0)
    counted = []

    @tool
    def count() -> str:
        counted.append(1)
        return "counted"

    async with scripted_model(use("count"), use("sleep", seconds=0.2), "good morning") as api:
        async with Team({"a": chat(api, tools=[count])}) as team:
            assert str(await team.call("a", "x")) == "good morning"
    assert counted == [1]
    assert len(api.requests) == 3
    assert texts(api.requests[2])[-1] == "woken: time"


async def test_a_tool_that_asks_needs_a_yes() -> None:
    ran = []

    @tool(ask=True)
    def deploy(host: str) -> str:
        ran.append(host)
        return "deployed"

    policy: Callable[[str], bool] = lambda question: "'good'" in question  # noqa: E731
    uses = [use("deploy", host="good"), use("deploy", host="bad")]
    async with scripted_model(uses, "ok") as api:
        async with Team({"a": chat(api, tools=[deploy])}, approve=policy) as team:
            await team.call("a", "x")
    assert ran == ["good"]
    assert texts(api.requests[1])[-1].startswith("error: deploy was not allowed")


async def test_what_tools_of_one_reply_ask_and_call_keeps_its_place(tmp_path: Path) -> None:
    """The first is done when the model runs again, and asks for nothing any more."""
    gate, began = asyncio.Event(), asyncio.Event()

    @tool(ask=True)
    async def first(ctx: TurnContext) -> str:
        return str(await ctx.call("echo", "one"))

    @tool(ask=True)
    async def second(ctx: TurnContext) -> str:
        return str(await ctx.call("slow", "two"))

    async def slow(ctx: TurnContext) -> str:
        began.set()
        await gate.wait()
        return f"slow {ctx.text}"

    async with scripted_model([use("first"), use("second")], "ok") as api:

        def team() -> Team:
            people = {"a": chat(api, tools=[first, second]), "echo": echo, "slow": slow}
            return Team(people, store=tmp_path / "journal.sqlite3", approve=lambda question: True)

        async with team() as one:
            one.call("a", "x", id="t")
            async with asyncio.timeout(BOUND):
                await began.wait()
                while not [s for s in await one.turns(name="echo") if s.ended]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        gate.set()
        async with team() as other:
            await other.call("a", "x", id="t")
            names = [status.name for status in await other.turns() if status.name[0] != "["]
    assert [one.rpartition(" ")[2] for one in texts(api.requests[1])[-2:]] == ["one", "two"]
    assert sorted(names) == ["a", "echo", "slow"]


async def test_a_tool_that_asked_is_not_repeated_when_it_was_killed(tmp_path: Path) -> None:
    ran, running = [], asyncio.Event()

    @tool(ask=True)
    async def deploy() -> str:
        ran.append(1)
        running.set()
        await asyncio.sleep(BOUND)
        return "deployed"

    async with scripted_model(use("deploy"), "ok") as api:
        for _ in range(2):
            people = {"a": chat(api, tools=[deploy])}
            store = tmp_path / "journal.sqlite3"
            async with Team(people, store=store, approve=lambda question: True) as team:
                turn = team.call("a", "x", id="t")
                await (turn if running.is_set() else running.wait())
    assert ran == [1]
    assert "is not repeated" in texts(api.requests[1])[-1]


async def test_pg_03_pg_04_pg_05_pg_15_a_tool_is_called_as_a_turn() -> None:
    @tool(greeting="hello")
    async def greet(name: str, greeting: str) -> str:
        return f"{greeting} {name}"

    async with Team({"echo": echo}, tools=[greet]) as team:
        assert str(await team.call(greet, "World")) == "hello World"
        assert str(await team.call("greet", {"name": "World"})) == "hello World"
        assert str(await team.call(greet, {"name": "World", "greeting": "bye"})) == "bye World"
        assert team.participants == ["echo"]


async def test_pg_18_hooks_on_tools_may_change_arguments() -> None:
    @tool
    def shout(word: str) -> str:
        return word.upper()

    async with scripted_model(use("shout", word="hi"), "ok") as api:
        team = Team({"a": chat(api, tools=[shout])})
        seen: list[str] = []
        team.on("before_tool", tool="shout")(lambda turn, given: {**given, "word": "hooked"})
        team.on("after_tool")(lambda turn, result: seen.append(result.text))
        async with team:
            await team.call("a", "x")
    assert seen == ["HOOKED"]
    assert texts(api.requests[1])[-1] == "HOOKED"


async def test_ag_06_every_moment_can_be_hooked_in_order() -> None:
    @tool
    def shout(word: str) -> str:
        return word.upper()

    async with scripted_model(use("shout", word="hi"), "ok") as api:
        team, seen = Team({"a": chat(api, tools=[shout])}), list[str]()
        moments = ["turn", "step", "model", "tool", "event", "store"]
        for point in [f"{when}_{what}" for what in moments for when in ("before", "after")]:
            team.on(point)(lambda turn, value, point=point: seen.append(point))
        async with team:
            await team.call("a", "x")
    [*order] = [point for point in seen if not point.endswith("_event")]
    step = ["before_step", "before_model", "after_model", "after_step"]
    assert order == [
        *("before_turn", *step, "before_tool", "after_tool", *step),
        *("after_turn", "before_store", "after_store"),
    ]
    assert seen.count("before_event") == seen.count("after_event") > 3


async def test_ao_90_each_kind_of_failure_is_its_own_error() -> None:
    @tool
    def broken() -> str:
        raise ZeroDivisionError("by zero")

    async def fails(ctx: TurnContext) -> str:
        raise RuntimeError("no")

    async with scripted_model(400) as api:
        async with Team({"a": chat(api), "b": fails}, tools=[broken]) as team:
            kinds = []
            for name in ("a", "b", "broken"):
                with pytest.raises(CallFailed, match=rf"{name} \(turn .*\) failed") as caught:
                    await team.call(name, {})
                kinds.append(caught.value.kind)
            with pytest.raises(NoParticipant, match=r"no participant 'c' .*: there is a, b"):
                team.call("c")
    assert kinds == ["ProviderFailed", "RuntimeError", "ZeroDivisionError"]
    with pytest.raises(NoCredential):
        await Team({"a": model("nobody:m")}).start()


async def test_pg_14_a_tool_excludes_itself_across_participants() -> None:
    spans: list[tuple[float, float]] = []

    @tool(alone=True)
    async def careful() -> str:
        began = time.monotonic()
        await asyncio.sleep(0.05)
        spans.append((began, time.monotonic()))
        return ""

    def reply(asked: Asked) -> Any:
        return "ok" if asked.body["messages"][-1]["role"] == "tool" else use("careful")

    async with scripted_model(*[reply] * 4) as api:
        async with Team({"a": chat(api), "b": chat(api)}, tools=[careful]) as team:
            for turn in [team.call(name, "x") for name in "ab"]:
                await turn
    [(_, first_end), (second_begin, _)] = sorted(spans)
    assert second_begin >= first_end


@each_format
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("image/png", b"\x89PNG\r\n"),
        ("audio/wav", b"RIFF"),
        ("video/mp4", b"video"),
        ("application/pdf", b"%PDF-1.4"),
    ],
)
async def test_ao_50_attachments_are_native_or_an_error(
    provider: str, kind: str, data: bytes
) -> None:
    import base64

    async with scripted_model("seen") as api:
        async with Team({"a": model(f"{provider}:gpt-5", base_url=api.url)}) as team:
            turn = team.call("a", "look", attachments=[Attachment(kind, data)])
            if kind not in REFUSED[provider]:
                await turn
                assert base64.b64encode(data).decode() in json.dumps(api.requests[0].body)
                return
            with pytest.raises(CallFailed, match=f"{provider}.*(?i:{kind.partition('/')[0]})"):
                await turn
            assert api.requests == []


REFUSED = {
    "openai-chat": ("video/mp4",),
    "openai-responses": ("video/mp4", "audio/wav"),
    "anthropic": ("video/mp4", "audio/wav"),
    "google": (),
}


async def test_ma_24_each_chat_has_its_own_history() -> None:
    async with scripted_model("a1", "b1", "a2", "b2") as api:
        async with Team({"a": chat(api)}) as team:
            one = await team.call("a", "one")
            two = await team.call("a", "two")
            await team.call("a", "one again", history=one.exchange())
            await team.call("a", "two again", history=two.exchange())
    assert texts(api.requests[2])[1:] == ["one", "a1", "one again"]
    assert texts(api.requests[3])[1:] == ["two", "b1", "two again"]


async def test_ao_92_ma_13_a_backend_of_ones_own() -> None:
    class Parrot:
        """A model of our own: it repeats each word as a token."""

        async def answer(self, ctx: TurnContext) -> Any:
            for message in await ctx.messages():
                yield f"heard {message}"
            for word in ctx.text.split():
                yield word
            yield ctx.call("echo", "x")

    async with Team({"parrot": Parrot(), "echo": echo}) as team:
        turn = team.call("parrot", "polly wants")
        assert [token async for token in turn.tokens()] == ["polly", "wants", "echo x"]
