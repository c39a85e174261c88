"""What every agent behind a conversation promises, said once for all makes of agents.

A case is played on the real agent, and from what it said when it was recorded. Where agents
differ, it gives a word for how this one does it. `python -m tests.support.agents.record` puts that
word into the guide's table, and whoever plays the case compares it with what stands there.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from optio_agents.conversation import (
    ControlRefused,
    ConversationClosed,
    PermissionDecision,
    PermissionRequest,
    TurnResult,
)
from optio_agents.testing.model_server import scripted
from tests.support.agents.pipe_handle import Ponder, until
from tests.support.claude.claude_cli import Talk
from tests.support.components import CI_AGENTS

TOUCH = {"shell": "touch made"}
Play = Callable[[Talk, str], Awaitable[str | None]]  # a word, or None for "yes"
CASES = dict[str, Play]()
ALL = dict[str, Play]()  # also those that no recording can play

# What is not asked of an agent, and the word for what it does instead.
EXCEPT = {
    ("claude", "no-words"): "asks again",
    ("claude", "refusal"): "asks again",
    ("gemini", "no-words"): "asks again",
    ("kimi", "no-words"): "asks again",
    ("qwen", "no-words"): "asks again",
    ("copilot", "no-words"): "asks again",
    ("claude", "other-input-is-refused-where-the-wire-has-none"): "takes it",
}


# What is recorded of those that are not tried on every change; of the others it is every case.
BASICS = (
    "one-turn",
    "bad-request",
    "refusal",
    "permission-allowed",
    "permission-denied",
    "interrupted-while-it-speaks",
    "interrupted-with-an-open-request",
)


def recorded(agent: str) -> list[str]:
    """The cases that are recorded of *agent*, of claude others."""
    every = [name for name in CASES if (agent, name) not in EXCEPT and agent != "claude"]
    if agent in CI_AGENTS:
        return every
    return [n for n in every if n in BASICS or (agent, n) == ("claude-agent-acp", "steering")]


async def played(name: str, talk: Talk, agent: str) -> str:
    """The word for what *agent* did in that case."""
    return await ALL[name](talk, agent) or "yes"


def ending(turn: TurnResult) -> str:
    """Bold is what passes for an answer."""
    return f"**{turn.outcome}**" if turn.ok else turn.outcome


def case(play: Play) -> Play:
    CASES[play.__name__.replace("_", "-")] = play
    return real_only(play)


def real_only(play: Play) -> Play:
    ALL[play.__name__.replace("_", "-")] = play
    return play


class Turns:
    """How each turn of a talk has ended, and what was handed over as a message."""

    def __init__(self, talk: Talk) -> None:
        self.all, self.texts = list[TurnResult](), list[str]()
        talk.conversation.on_turn(self.all.append)
        talk.conversation.on_message(self.texts.append)


async def usable(talk: Talk) -> None:
    """The handshake is over, where there is one."""
    await until(lambda: talk.conversation._dialect.ready)  # noqa: SLF001 - nobody else waits for it


async def in_turn(talk: Talk) -> None:
    """A turn runs. What was recorded may be over by now."""
    exchange = talk.conversation._exchange  # noqa: SLF001 - its count is nobody else's business
    await until(lambda: talk.conversation.state.phase == "working" or exchange.turns)


# -- turns


@case
async def one_turn(talk: Talk, agent: str) -> None:
    turns = Turns(talk)
    turn = await talk.conversation.ask(scripted({"text": "hello there"}))
    assert (turn.outcome, turn.text, turn.failure) == ("completed", "hello there", None)
    assert turn.evidence
    assert talk.conversation.session_id
    assert not talk.conversation.is_pending()
    await until(lambda: talk.conversation.state.phase == "idle")  # some say so later
    await talk.conversation.close()
    assert turns.texts == ["hello there"]
    assert [one.outcome for one in turns.all] == ["completed"]


@case
async def two_turns(talk: Talk, agent: str) -> None:
    turns = Turns(talk)
    first = await talk.conversation.ask(scripted({"text": "one", "chunks": 1}))
    second = await talk.conversation.ask(scripted({"text": "two", "chunks": 1}))
    assert (first.text, second.text) == ("one", "two")
    await talk.conversation.close()
    assert turns.texts == ["one", "two"]


@case
async def bad_request(talk: Talk, agent: str) -> str:
    turns = Turns(talk)
    turn = await talk.conversation.ask(scripted({"error": 400, "message": "no such thing"}))
    assert turn.text == ""
    assert turn.failure
    assert turn.outcome == "empty" or "no such thing" in turn.failure
    assert (await talk.conversation.ask(scripted({"text": "fine"}))).text == "fine"
    await talk.conversation.close()
    assert turns.texts == ["fine"]
    return ending(turn)


@case
async def not_logged_in(talk: Talk, agent: str) -> str:
    turn = await talk.conversation.ask(scripted({"error": 401, "message": "who are you"}))
    assert turn.failure
    return ending(turn)


@case
async def refusal(talk: Talk, agent: str) -> str:
    step = {"text": "I would rather not", "finish": "refusal"}
    return ending(await talk.conversation.ask(scripted(step)))


@case
async def no_words(talk: Talk, agent: str) -> str:
    turn = await talk.conversation.ask(scripted({"empty": True}))
    assert turn.text == ""
    return ending(turn)


@case
async def message_is_confirmed(talk: Talk, agent: str) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.conversation.send, scripted({"text": "said slowly", "hold": "x"}))
        await talk.held("x")
        talk.release("x")
        await until(lambda: talk.events and not talk.conversation.is_pending())
    assert talk.conversation.unconfirmed == ()


# -- what is said


@case
async def message_in_a_turn_destroys_nothing(talk: Talk, agent: str) -> str:
    """Six of eight agents would cancel, fail, merge or refuse one of the two."""
    turns = Turns(talk)
    results = dict[str, Any]()

    async def ask(name: str, prompt: str) -> None:
        results[name] = await talk.conversation.ask(prompt)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "first", scripted({"text": "first answer", "hold": "x"}))
        await talk.held("x")
        await in_turn(talk)
        tasks.start_soon(ask, "second", scripted({"text": "second answer"}))
        tasks.start_soon(ask, "third", scripted({"text": "third answer"}))
        await anyio.wait_all_tasks_blocked()
        talk.release("x")
    assert results["first"].text == "first answer"
    assert results["third"].text == "third answer"
    await talk.conversation.close()
    if agent == "claude":  # those that waited by then became one
        return "merged"
    assert turns.texts == ["first answer", "second answer", "third answer"]
    return "in turns"


@case
async def slash_is_text(talk: Talk, agent: str) -> None:
    turn = await talk.conversation.ask("/clear " + scripted({"text": "as you like"}))
    assert turn.text == "as you like"


@case
async def any_text_arrives(talk: Talk, agent: str) -> None:
    """One of them dies of a byte beyond UTF-8, another of a line that is none."""
    odd = 'h\u00e9llo \U0001f600 \u2028 "quoted"\nline'
    turn = await talk.conversation.ask(scripted({"text": "got it"}, say=odd))
    assert turn.text == "got it"
    if talk.api is not None:
        assert "\U0001f600" in str(talk.api.requests)


@case
async def steering(talk: Talk, agent: str) -> str:
    with pytest.raises(ControlRefused, match="no turn"):
        await talk.conversation.steer("nobody listens")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.conversation.ask, scripted({"text": "first answer", "hold": "x"}))
        await talk.held("x")
        await in_turn(talk)
        refused = ""
        try:
            await talk.conversation.steer("by the way")
        except ControlRefused as error:
            refused = str(error)
        talk.release("x")
    assert not (refused and talk.real) or "hears nothing" in refused
    return "no" if refused else "yes"


# -- permissions


def record_requests(talk: Talk, decision: PermissionDecision) -> list[PermissionRequest]:
    requests = list[PermissionRequest]()

    def decide(request: PermissionRequest) -> PermissionDecision:
        requests.append(request)
        return decision

    talk.conversation.on_permission_request(decide)
    return requests


@case
async def permission_allowed(talk: Talk, agent: str) -> None:
    requests = record_requests(talk, PermissionDecision("allow"))
    turn = await talk.conversation.ask(scripted(TOUCH, {"text": "touched"}))
    assert (turn.outcome, turn.text) == ("completed", "touched")
    assert len(requests) == 1
    assert "touch made" in requests[0].input["command"]
    assert requests[0].place is not None or agent
    assert talk.conversation.open_requests == ()
    assert not talk.real or (talk.work / "made").exists()


@case
async def permission_allowed_twice_is_asked_twice(talk: Talk, agent: str) -> None:
    """What is allowed is this one use: "always" is never said for "allow"."""
    requests = record_requests(talk, PermissionDecision("allow"))
    await talk.conversation.ask(scripted(TOUCH, {"text": "one"}))
    await talk.conversation.ask(scripted(TOUCH, {"text": "two"}))
    assert len(requests) == 2


@case
async def permission_denied(talk: Talk, agent: str) -> str:
    record_requests(talk, PermissionDecision("deny"))
    turn = await talk.conversation.ask(scripted(TOUCH, {"text": "well"}))
    assert not talk.real or not (talk.work / "made").exists()
    if turn.outcome == "completed":
        assert turn.text == "well"
        return "goes on"
    assert turn.outcome in {"empty", "cancelled"}
    return "ends its turn"


@case
async def reason_of_a_denial_arrives(talk: Talk, agent: str) -> str:
    record_requests(talk, PermissionDecision("deny", message="not on my watch"))
    turns = Turns(talk)
    await talk.conversation.ask(scripted(TOUCH, {"text": "well"}))
    if talk.api is not None:
        await until(lambda: talk.api and "not on my watch" in str(talk.api.requests))
    await until(lambda: not talk.conversation.is_pending())
    await anyio.wait_all_tasks_blocked()
    return "with it" if len(turns.all) == 1 else "as the next message"


@case
async def other_input_is_refused_where_the_wire_has_none(talk: Talk, agent: str) -> str:
    changed = PermissionDecision("allow", {"command": "touch other"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.conversation.ask, scripted(TOUCH, {"text": "well"}))
        await until(lambda: talk.conversation.open_requests)
        (request,) = talk.conversation.open_requests
        with pytest.raises(ValueError, match="other input"):
            await talk.conversation.answer(request, changed, by="me")
        lasting = PermissionDecision("allow", updated_permissions=[{"type": "addRules"}])
        with pytest.raises(ValueError, match="no more"):
            await talk.conversation.answer(request, lasting, by="me")
        assert talk.conversation.state.phase == "waiting for permission"
        await talk.conversation.answer(request, PermissionDecision("deny"), by="me")
    assert not talk.real or not list(talk.work.iterdir())
    return "refused"


@case
async def unusable_decision_denies(talk: Talk, agent: str) -> None:
    talk.conversation.on_permission_request(lambda _: "yes")
    await talk.conversation.ask(scripted(TOUCH, {"text": "well"}))
    assert not talk.real or not (talk.work / "made").exists()


# -- interrupts and ends


@case
async def interrupted_while_it_speaks(talk: Talk, agent: str) -> str:
    await usable(talk)
    assert await talk.conversation.interrupt() == "idle"
    turns = Turns(talk)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.conversation.ask, scripted({"text": "never said", "hold": "x"}))
        await talk.held("x")
        await in_turn(talk)
        await until(lambda: talk.events)
        assert await talk.conversation.interrupt() == "interrupted"
    assert [turn.outcome for turn in turns.all] == ["cancelled"]
    assert turns.all[0].text == ""
    assert (await talk.conversation.ask(scripted({"text": "on"}))).text == "on"
    return ending(turns.all[0])


@case
async def interrupted_with_an_open_request(talk: Talk, agent: str) -> str:
    """One of them never ends its turn unless its question is answered first."""
    turns, ponder = Turns(talk), Ponder()
    talk.conversation.on_permission_request(ponder)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.conversation.ask, scripted(TOUCH, {"text": "touched"}))
        await until(lambda: talk.conversation.open_requests)
        await anyio.wait_all_tasks_blocked()
        assert await talk.conversation.interrupt() == "interrupted"
    await ponder.cancelled.wait()
    assert talk.conversation.open_requests == ()
    assert [turn.outcome for turn in turns.all] == ["cancelled"]
    assert not talk.real or not (talk.work / "made").exists()
    return ending(turns.all[0])


@case
async def denied_and_interrupted(talk: Talk, agent: str) -> str:
    record_requests(talk, PermissionDecision("deny", interrupt=True))
    turn = await talk.conversation.ask(scripted(TOUCH, {"text": "well"}))
    assert (turn.outcome, turn.text) == ("cancelled", "")
    return ending(turn)


@case
async def closed_in_a_turn(talk: Talk, agent: str) -> str:
    turns = Turns(talk)
    with anyio.CancelScope() as asking:
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                with suppress(ConversationClosed):  # or it tells the end of its turn itself
                    turn = await talk.conversation.ask(scripted({"text": "never", "hold": "x"}))
                    assert turn.outcome == "cancelled"

            tasks.start_soon(ask)
            await talk.held("x")
            await in_turn(talk)
            await talk.conversation.close()
    assert not asking.cancelled_caught
    assert [turn.outcome for turn in turns.all] == ["cancelled"], turns.all
    assert turns.texts == []
    return ending(turns.all[0])


# -- what no recording can play


@real_only
async def killed_in_a_turn(talk: Talk, agent: str) -> str:
    turns = Turns(talk)
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(ConversationClosed):
                await talk.conversation.ask(scripted({"text": "never", "hold": "x"}))

        tasks.start_soon(ask)
        await talk.held("x")
        os.killpg(talk.handle.pid, signal.SIGKILL)  # some are started by a wrapper
    assert [turn.outcome for turn in turns.all] == ["lost"]
    return ending(turns.all[0])


@real_only
async def interrupted_in_a_tool(talk: Talk, agent: str) -> str:
    record_requests(talk, PermissionDecision("allow"))
    turns = Turns(talk)
    command = "touch begun; sleep 600"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.conversation.ask, scripted({"shell": command}, {"text": "slept"}))
        await until((talk.work / "begun").exists)
        await asyncio.sleep(0)
        assert await talk.conversation.interrupt() == "interrupted"
    assert [turn.outcome for turn in turns.all] == ["cancelled"]
    return ending(turns.all[0])


@real_only
async def two_megabytes_are_a_message(talk: Talk, agent: str) -> str:
    long = scripted({"text": "read it all"}, say="x" * (2 << 20))
    turn = await talk.conversation.ask(long)
    assert turn.ok or turn.failure  # one refuses more than a mebibyte, by an answer
    assert (await talk.conversation.ask(scripted({"text": "on"}))).outcome != "lost"
    return "yes" if turn.ok else "refused"
