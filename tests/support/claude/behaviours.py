"""What a conversation promises, said once: played on the real CLI, and from its transcripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio

from optio_agents.conversation import PermissionDecision, PermissionRequest
from optio_agents.conversation.claude.permissions import (
    allow_for_session,
    answer_questions,
    questions,
)
from optio_agents.testing.model_server import scripted
from tests.support.agents.pipe_handle import Ponder
from tests.support.claude.claude_cli import Event, Talk

Play = Callable[[Talk], Awaitable[None]]
TOUCH = {"tool": "Bash", "input": {"command": "touch made"}}


@dataclass(frozen=True)
class Behaviour:
    play: Play
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.play.__name__.replace("_", "-")


BEHAVIOURS = dict[str, Behaviour]()


def behaviour(*arguments: str) -> Callable[[Play], Play]:
    def add(play: Play) -> Play:
        found = Behaviour(play, arguments)
        BEHAVIOURS[found.name] = found
        return play

    return add


@behaviour()
async def one_turn(talk: Talk) -> None:
    """Nothing is printed before the first message, so nobody may wait for it."""
    assert talk.conversation.state.phase == "starting"
    events, messages = list[Event](), list[str]()
    talk.conversation.on_event(events.append)
    talk.conversation.on_message(messages.append)
    result = await talk.conversation.ask(scripted({"text": "hello"}))
    assert (result.ok, result.text, result.failure) == (True, "hello", None)
    assert result.cost_usd == result.total_cost_usd
    assert not talk.conversation.is_pending()
    again = await talk.conversation.ask(scripted({"text": "hello again"}))
    assert again.cost_usd is not None
    assert again.total_cost_usd is not None
    assert again.cost_usd < again.total_cost_usd
    await talk.conversation.close()
    assert messages == ["hello", "hello again"]
    assert [event["result"] for event in events if event["type"] == "result"] == messages
    assert talk.conversation.usage.turns == 2
    assert talk.conversation.usage.cost_usd == again.total_cost_usd
    assert talk.conversation.session_id == result.session_id


@behaviour()
async def permission_allowed(talk: Talk) -> None:
    requests = list[PermissionRequest]()
    states = list[str]()

    async def allow(request: PermissionRequest) -> PermissionDecision:
        requests.append(request)
        states.append(talk.conversation.state.phase)
        return PermissionDecision("allow")

    talk.conversation.on_permission_request(allow)
    result = await talk.conversation.ask(scripted(TOUCH, {"text": "touched"}))
    assert result.text == "touched"
    assert [(one.tool_name, one.input["command"]) for one in requests] == [("Bash", "touch made")]
    assert states == ["waiting for permission"]
    if talk.real:
        assert (talk.work / "made").exists()
        # its suggestions would have been written into the user's directory
        assert not (talk.work / ".claude").exists()


@behaviour()
async def permission_with_other_input(talk: Talk) -> None:
    talk.conversation.on_permission_request(
        lambda _: PermissionDecision("allow", {"command": "touch other"})
    )
    await talk.conversation.ask(scripted(TOUCH, {"text": "touched"}))
    if talk.real:
        assert [path.name for path in talk.work.iterdir()] == ["other"]


@behaviour()
async def permission_denied(talk: Talk) -> None:
    talk.conversation.on_permission_request(
        lambda _: PermissionDecision("deny", message="not on my watch")
    )
    result = await talk.conversation.ask(scripted(TOUCH, {"text": "well"}))
    assert "not on my watch" in str(await talk.heard(tool_result))
    assert result.text == "well"
    assert result.permission_denials
    assert not talk.real or not list(talk.work.iterdir())


@behaviour()
async def permission_denied_and_interrupted(talk: Talk) -> None:
    talk.conversation.on_permission_request(
        lambda _: PermissionDecision("deny", message="stop it", interrupt=True)
    )
    result = await talk.conversation.ask(scripted(TOUCH, {"text": "well"}))
    assert (result.ok, result.failure, result.text) == (False, "interrupted", "")


@behaviour()
async def permission_for_the_session(talk: Talk) -> None:
    asked = list[str]()

    def once(request: PermissionRequest) -> PermissionDecision:
        asked.append(request.tool_name)
        return allow_for_session(request)

    talk.conversation.on_permission_request(once)
    await talk.conversation.ask(scripted(TOUCH, {"text": "one"}))
    await talk.conversation.ask(scripted(TOUCH, {"text": "two"}))
    assert asked == ["Bash"]
    assert not talk.real or [path.name for path in talk.work.iterdir()] == ["made"]


@behaviour()
async def permissions_in_parallel(talk: Talk) -> None:
    asked = list[str]()

    def allow(request: PermissionRequest) -> PermissionDecision:
        asked.append(request.input["command"])
        return PermissionDecision("allow")

    talk.conversation.on_permission_request(allow)
    tools = [{"tool": "Bash", "input": {"command": f"touch {name}"}} for name in "ab"]
    result = await talk.conversation.ask(scripted({"tools": tools}, {"text": "both"}))
    assert result.text == "both"
    assert sorted(asked) == ["touch a", "touch b"]


@behaviour()
async def question_answered(talk: Talk) -> None:
    options = [{"label": "red", "description": "r"}, {"label": "blue", "description": "b"}]
    question = {"question": "Which?", "header": "Colour", "options": options, "multiSelect": False}
    step = {"tool": "AskUserQuestion", "input": {"questions": [question]}}

    def choose(request: PermissionRequest) -> PermissionDecision:
        assert [one["question"] for one in questions(request)] == ["Which?"]
        return answer_questions(request, {"Which?": "blue"})

    talk.conversation.on_permission_request(choose)
    result = await talk.conversation.ask(scripted(step, {"text": "fine"}))
    assert "blue" in str(await talk.heard(tool_result))
    assert result.text == "fine"


@behaviour("--permission-mode=plan")
async def plan_approved(talk: Talk) -> None:
    step = {"tool": "ExitPlanMode", "input": {"plan": "1. Do it."}}
    talk.conversation.on_permission_request(lambda _: PermissionDecision("allow"))
    result = await talk.conversation.ask(scripted(step, {"text": "go"}))
    status = await talk.heard(lambda event: event.get("subtype") == "status")
    assert status["permissionMode"] == "default"
    assert result.text == "go"


@behaviour()
async def request_withdrawn(talk: Talk) -> None:
    """An interrupt takes the question back: its handler is cancelled, nothing is answered."""
    ponder = Ponder()
    talk.conversation.on_permission_request(ponder)
    await talk.conversation.send(scripted(TOUCH, {"text": "touched"}))
    await ponder.asked.wait()
    assert await talk.conversation.interrupt() == "interrupted"
    await ponder.cancelled.wait()
    assert talk.conversation.open_requests == ()
    assert (await talk.conversation.ask(scripted({"text": "on"}))).text == "on"


@behaviour()
async def interrupted_while_it_speaks(talk: Talk) -> None:
    assert await talk.conversation.interrupt() == "idle"
    async with anyio.create_task_group() as tasks:
        results = list[Any]()

        async def ask() -> None:
            results.append(await talk.conversation.ask(scripted({"text": "never", "hold": "x"})))

        tasks.start_soon(ask)
        await talk.held("x")
        await talk.heard(lambda event: event.get("subtype") == "init")
        assert await talk.conversation.interrupt() == "interrupted"
    assert results[0].failure == "interrupted"
    assert await talk.conversation.interrupt() == "idle"
    assert (await talk.conversation.ask(scripted({"text": "on"}))).text == "on"


@behaviour()
async def interrupted_before_it_began(talk: Talk) -> None:
    await talk.conversation.send(scripted({"text": "never", "hold": "x"}))
    assert await talk.conversation.interrupt() == "interrupted"
    assert not talk.conversation.is_pending()


@behaviour()
async def failed_call(talk: Talk) -> None:
    messages = list[str]()
    talk.conversation.on_message(messages.append)
    result = await talk.conversation.ask(scripted({"error": 400, "message": "no such thing"}))
    assert not result.ok
    assert result.subtype == "success"  # so the CLI says
    assert result.api_error_status == 400
    assert "no such thing" in str(result.failure)
    assert result.text == ""
    assert (await talk.conversation.ask(scripted({"text": "fine"}))).text == "fine"
    await talk.conversation.close()
    assert messages == ["fine"]


@behaviour()
async def merged_messages(talk: Talk) -> None:
    """Three messages, two turns."""
    texts, results = list[str](), dict[str, Any]()
    talk.conversation.on_message(texts.append)

    async def ask(name: str, prompt: str) -> None:
        results[name] = await talk.conversation.ask(prompt)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "first", scripted({"text": "one", "hold": "x"}))
        await talk.held("x")
        tasks.start_soon(ask, "second", "and this")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask, "third", scripted({"text": "both"}))
        await anyio.wait_all_tasks_blocked()
        await all_read(talk)
        talk.release("x")
    assert results["first"].text == "one"
    assert results["second"] == results["third"]
    assert results["second"].text == "both"
    assert len(results["second"].answered) == 2
    assert not talk.conversation.is_pending()


@behaviour("--allowed-tools=Bash")
async def folded_message(talk: Talk) -> None:
    """Two messages, one turn: the second is read while a tool of the first one runs."""
    waits = "echo on; until [ -e go ]; do sleep 0.02; done"
    step = {"tool": "Bash", "input": {"command": waits}}
    results = list[Any]()

    async def ask(prompt: str) -> None:
        results.append(await talk.conversation.ask(prompt))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, scripted(step, {"text": "all"}))
        await talk.heard(lambda event: event["type"] == "assistant")
        tasks.start_soon(ask, "by the way")
        await anyio.wait_all_tasks_blocked()
        await all_read(talk)
        (talk.work / "go").touch() if talk.real else None
    assert results[0] == results[1]
    assert len(results[0].answered) == 2
    assert not talk.conversation.is_pending()


@behaviour("--allowed-tools=Bash")
async def unsolicited_turn(talk: Talk) -> None:
    """A background shell that ends makes the CLI start a turn that answers nobody."""
    waits = "until [ -e go ]; do sleep 0.02; done; echo late"
    step = {"tool": "Bash", "input": {"command": waits, "run_in_background": True}}
    texts = list[str]()
    talk.conversation.on_message(texts.append)
    result = await talk.conversation.ask(scripted(step, {"text": "started"}, {"text": "it ended"}))
    assert result.text == "started"
    (talk.work / "go").touch() if talk.real else None
    event = await talk.heard(lambda event: event["type"] == "result", count=2)
    assert event["origin"]["kind"] == "task-notification"
    await talk.conversation.close()
    assert texts == ["started", "it ended"]


@behaviour()
async def slash_is_text(talk: Talk) -> None:
    """A user's "/clear" must not wipe the session."""
    before = await talk.conversation.ask(scripted({"text": "one"}))
    result = await talk.conversation.ask("/clear " + scripted({"text": "as you like"}))
    assert result.text == "as you like"
    assert talk.conversation.session_id == before.session_id
    if talk.api is not None:
        assert "/clear Do it." in str(talk.api.requests[-1]["messages"][-1])


@behaviour()
async def slash_is_a_command(talk: Talk) -> None:
    result = await talk.conversation.ask("/cost", command=True)
    assert "cost" in result.text.lower()
    assert talk.api is None or not talk.api.requests


@behaviour()
async def other_model_and_mode(talk: Talk) -> None:
    await talk.conversation.set_model("claude-haiku-4-5")
    await talk.conversation.set_permission_mode("acceptEdits")
    await talk.conversation.ask(scripted({"text": "fine"}))
    init = talk.conversation.init
    assert init is not None
    assert (init.model, init.permission_mode) == ("claude-haiku-4-5", "acceptEdits")


def tool_result(event: Event) -> bool:
    return event["type"] == "user" and "tool_result" in str(event["message"])


async def all_read(talk: Talk) -> None:
    """The CLI reads its input in order, so what it acknowledges stands behind what it has read."""
    await talk.conversation.set_permission_mode("default")
