"""Delivery, permissions and ends, on a handle whose every byte the test decides."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from optio_agents.conversation import (
    ClaudeCodeConversation,
    ControlRefused,
    ConversationClosed,
    Hook,
    PermissionDecision,
    TurnFailed,
)
from optio_agents.conversation.claude.dialect import ClaudeDialect
from optio_agents.conversation.contract import NOBODY_ANSWERED
from optio_agents.conversation.subscribers import BACKLOG
from optio_agents.errors import HostLost
from tests.support.agents.pipe_handle import Handle, Ponder, until
from tests.support.timeouts import BOUND


@asynccontextmanager
async def talking(handle=None, **options):
    handle = handle or Handle()
    conversation = ClaudeCodeConversation(**options)
    conversation.attach(handle)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(conversation.run_reader)
        with anyio.fail_after(BOUND):
            yield conversation, handle
            await conversation.close()


def said_of(handle, kind):
    return [message for message in handle.said if message["type"] == kind]


def number(n):
    return {"type": "stream_event", "n": n}


RESULT = {"type": "result", "subtype": "success", "is_error": False, "result": "done"}


# -- delivery


async def test_the_last_event_before_the_end_arrives_even_without_a_newline():
    events = []
    async with talking() as (conversation, handle):
        conversation.on_event(events.append)
        handle.hear(number(1))
        handle.stdout.feed_data(json.dumps(number(2)).encode())
        handle.exit(0)
        await until(lambda: len(events) == 2)
    assert events == [number(1), number(2)]


async def test_each_subscriber_gets_everything_in_order_at_its_own_pace():
    plain, slow = [], []

    async def dawdle(event):
        if event["n"] % 50 == 0:
            await anyio.sleep(0.001)
        slow.append(event["n"])

    async with talking() as (conversation, handle):
        conversation.on_event(lambda event: plain.append(event["n"]))
        conversation.on_event(dawdle)
        handle.hear(*map(number, range(1000)))
        handle.exit(0)
        await until(lambda: conversation.closed)
    assert plain == slow == list(range(1000))


async def test_a_handler_that_raises_is_logged_and_served_on(caplog):
    seen = []

    def raise_at_two(event):
        seen.append(event["n"])
        if event["n"] == 2:
            raise LookupError("of the handler")

    async with talking() as (conversation, handle):
        conversation.on_event(raise_at_two)
        handle.hear(*map(number, range(5)))
        await until(lambda: len(seen) == 5)
    assert seen == [0, 1, 2, 3, 4]
    assert "of the handler" in caplog.text


async def test_a_slow_handler_makes_the_reading_wait():
    gate, seen = anyio.Event(), []

    async def stand(event):
        await gate.wait()
        seen.append(event["n"])

    words = "x" * 10_000
    async with talking() as (conversation, handle):
        conversation.on_event(stand)
        total = 3 * BACKLOG // len(words)
        handle.hear(*({"type": "x", "n": n, "words": words} for n in range(total)))
        await anyio.wait_all_tasks_blocked()
        assert handle.stdout.left() > BACKLOG  # the pipe is the queue
        gate.set()
        await until(lambda: len(seen) == total)
    assert seen == list(range(total))


async def test_a_line_that_is_longer_than_what_may_wait_stops_nobody():
    gate, seen = anyio.Event(), []

    async def stand(event):
        await gate.wait()
        seen.append(event["n"])

    async with talking() as (conversation, handle):
        conversation.on_event(stand)
        handle.hear(number(0))
        await anyio.wait_all_tasks_blocked()
        handle.hear({"type": "x", "n": 1, "words": "x" * BACKLOG}, number(2))
        await anyio.wait_all_tasks_blocked()  # others have their turn
        gate.set()
        await until(lambda: len(seen) == 3)
    assert seen == [0, 1, 2]


async def test_who_asked_to_skip_misses_events_and_is_told_how_many():
    gate, seen = anyio.Event(), []

    async def stand(event):
        await gate.wait()
        seen.append(event)

    words = "x" * 10_000
    async with talking() as (conversation, handle):
        conversation.on_event(stand, skip=True)
        total = 0
        for _ in range(5):
            handle.hear(*({"type": "x", "words": words} for _ in range(100)))
            total += 100
            await anyio.wait_all_tasks_blocked()
        gate.set()
        await anyio.wait_all_tasks_blocked()
        handle.hear(number(1))
        handle.exit(0)
        await until(lambda: conversation.closed)
    skipped = [event["count"] for event in seen if event["type"] == "x-optio-skipped"]
    assert sum(skipped) + sum(event["type"] == "x" for event in seen) == total
    assert sum(skipped) > 100
    assert seen[-1] == number(1)


async def test_unsubscribing_ends_it_at_once_and_twice_is_fine():
    seen = []
    async with talking() as (conversation, handle):
        unsubscribe = conversation.on_event(seen.append)
        handle.hear(number(1))
        await until(lambda: seen)
        unsubscribe()
        unsubscribe()
        handle.hear(number(2))
        await anyio.wait_all_tasks_blocked()
    assert seen == [number(1)]


async def test_a_handler_may_itself_wait_for_the_conversation():
    outcomes = []

    async with talking() as (conversation, handle):

        async def interrupt(event):
            if event.get("subtype") == "init":
                outcomes.append(await conversation.interrupt())

        conversation.on_event(interrupt)
        handle.hear({"type": "system", "subtype": "init"})
        await until(lambda: said_of(handle, "control_request"))
        acknowledge(handle)
        handle.hear({**RESULT, "subtype": "error_during_execution"})
        await until(lambda: outcomes)
    assert outcomes == ["interrupted"]


async def test_a_handler_may_close_the_conversation():
    async with talking() as (conversation, handle):

        async def close(_):
            await conversation.close()

        conversation.on_event(close)
        handle.hear(number(1))
        await until(lambda: conversation.closed)


async def test_nothing_is_handed_over_once_close_has_returned():
    seen, go_on = [], anyio.Event()

    async def dawdle(event):
        seen.append(event)
        await go_on.wait()

    async with talking(close_timeout=0.1) as (conversation, handle):
        conversation.on_event(dawdle)
        handle.hear(*map(number, range(100)))
        await until(lambda: seen)
        await conversation.close()
        go_on.set()
        await anyio.wait_all_tasks_blocked()
        assert len(seen) == 1


async def test_garbage_is_told_and_survived():
    events = []
    async with talking() as (conversation, handle):
        conversation.on_event(events.append)
        handle.stdout.feed_data(b"warning: no JSON\n[1]\n\xff\n{'a'}\n\n\r\n")
        handle.hear({"type": ["a", "list"]}, {"type": "result"}, number(1))
        await until(lambda: number(1) in events)
    assert [event["type"] for event in events[:4]] == ["x-optio-unreadable"] * 4


async def test_a_line_of_a_few_mebibytes_is_one_event():
    events = []
    async with talking() as (conversation, handle):
        conversation.on_event(events.append)
        text = "x" * (5 << 20)
        data = json.dumps({"type": "assistant", "text": text}).encode() + b"\n"
        for start in range(0, len(data), 60_000):
            handle.stdout.feed_data(data[start : start + 60_000])
        await until(lambda: events)
    assert events[0]["text"] == text


async def test_a_line_beyond_the_limit_is_told_and_survived(monkeypatch):
    monkeypatch.setattr(ClaudeDialect, "line_limit", 1000)
    events = []
    async with talking() as (conversation, handle):
        conversation.on_event(events.append)
        handle.hear({"type": "assistant", "text": "x" * 5000}, number(1))
        await until(lambda: len(events) == 2)
    assert (events[0]["type"], events[0]["reason"]) == ("x-optio-unreadable", "too long")
    assert events[1] == number(1)


# -- permissions


def asks(request_id, **more):
    inner = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}, **more}
    return {"type": "control_request", "request_id": request_id, "request": inner}


def answers(handle):
    return {
        message["response"]["request_id"]: message["response"]["response"]
        for message in said_of(handle, "control_response")
    }


async def answer_of(handle, request_id):
    await until(lambda: request_id in answers(handle))
    return answers(handle)[request_id]


async def test_a_request_waits_for_a_late_handler():
    async with talking() as (conversation, handle):
        handle.hear(asks("r1"))
        await until(lambda: conversation.open_requests)
        assert conversation.state.phase == "waiting for permission"
        conversation.on_permission_request(lambda _: PermissionDecision("allow"))
        assert (await answer_of(handle, "r1"))["updatedInput"] == {"command": "ls"}
        assert conversation.open_requests == ()


async def test_nobody_answers_so_it_is_denied_and_the_agent_hears_that():
    async with talking(permission_timeout=0.05) as (_, handle):
        handle.hear(asks("r1"))
        assert await answer_of(handle, "r1") == {"behavior": "deny", "message": NOBODY_ANSWERED}


async def test_a_handler_that_answers_too_late_is_not_heard_any_more():
    late = anyio.Event()

    async def ponder(_):
        with suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        late.set()
        return PermissionDecision("allow")

    async with talking(permission_timeout=0.02) as (conversation, handle):
        conversation.on_permission_request(ponder)
        handle.hear(asks("r1"))
        assert (await answer_of(handle, "r1"))["behavior"] == "deny"
        await late.wait()
        await anyio.wait_all_tasks_blocked()
        assert len(said_of(handle, "control_response")) == 1


async def raise_lookup_error(_):
    raise LookupError("secret of the handler")


async def cancel_myself(_):
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "handler", [raise_lookup_error, cancel_myself, lambda _: "yes", lambda _: None, lambda: None]
)
async def test_whatever_a_handler_does_the_agent_gets_one_valid_answer(handler, caplog):
    caplog.set_level(logging.CRITICAL)
    async with talking() as (conversation, handle):
        conversation.on_permission_request(handler)
        handle.hear(asks("r1"))
        answer = await answer_of(handle, "r1")
        assert answer["behavior"] == "deny"
        assert answer["message"]
        assert "secret" not in answer["message"]


async def test_parallel_requests_are_decided_side_by_side():
    both = anyio.Event()
    open_now = []

    async def wait_for_the_other(request):
        open_now.append(request.id)
        if len(open_now) == 2:
            both.set()
        await both.wait()
        return PermissionDecision("deny", message=request.id)

    async with talking() as (conversation, handle):
        conversation.on_permission_request(wait_for_the_other)
        handle.hear(asks("r1"), asks("r2"))
        assert (await answer_of(handle, "r1"))["message"] == "r1"
        assert (await answer_of(handle, "r2"))["message"] == "r2"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "control_cancel_request", "request_id": "r1"},
        {
            "type": "user",
            "message": {"content": [{"type": "tool_result", "tool_use_id": "t1"}]},
        },
    ],
)
async def test_a_request_that_is_settled_cancels_its_handler_and_is_not_answered(event):
    ponder = Ponder()
    async with talking() as (conversation, handle):
        conversation.on_permission_request(ponder)
        handle.hear(asks("r1", tool_use_id="t1"))
        await until(lambda: conversation.open_requests)
        await anyio.wait_all_tasks_blocked()
        handle.hear(event)
        await ponder.cancelled.wait()
        assert not said_of(handle, "control_response")


async def test_a_hook_whose_answer_is_wanted_no_more_is_cancelled():
    ponder = Ponder()
    hook = Hook("PreToolUse", ponder)
    inner = {"subtype": "hook_callback", "callback_id": hook.name, "input": {}}
    async with talking(hooks=[hook]) as (_, handle):
        handle.hear({"type": "control_request", "request_id": "h1", "request": inner})
        await ponder.asked.wait()
        handle.hear({"type": "control_cancel_request", "request_id": "h1"})
        await ponder.cancelled.wait()
        assert not said_of(handle, "control_response")


async def test_answering_in_the_handlers_place_wins_once():
    async with talking() as (conversation, handle):
        handle.hear(asks("r1"))
        await until(lambda: conversation.open_requests)
        (request,) = conversation.open_requests
        allow, deny = PermissionDecision("allow"), PermissionDecision("deny")
        assert await conversation.answer(request, allow, by="me") == "me"
        assert await conversation.answer(request, deny, by="you") is None
        assert (await answer_of(handle, "r1"))["behavior"] == "allow"
        assert len(said_of(handle, "control_response")) == 1


async def test_answering_before_the_handler_is_asked_leaves_nothing_behind():
    # pytest raises what Python says of a coroutine that nobody awaited
    async with talking() as (conversation, handle):
        handle.hear(asks("r1"))
        while not conversation.open_requests:  # each turn of the loop, so in the first one possible
            await anyio.lowlevel.checkpoint()
        (request,) = conversation.open_requests
        assert await conversation.answer(request, PermissionDecision("allow"), by="me") == "me"
        assert (await answer_of(handle, "r1"))["behavior"] == "allow"


# -- interrupts, changes, ends


def acknowledge(handle, *, error=None):
    request = said_of(handle, "control_request")[-1]
    inner = {"subtype": "error", "error": error} if error else {"subtype": "success"}
    response = {**inner, "request_id": request["request_id"]}
    handle.hear({"type": "control_response", "response": response})


async def test_interrupting_an_idle_agent_says_so_and_nothing_else():
    async with talking() as (conversation, handle):
        assert await conversation.interrupt() == "idle"
        assert handle.said == []


async def test_an_interrupt_whose_turn_ends_first_returns():
    async with talking() as (conversation, handle):
        handle.hear({"type": "system", "subtype": "init"})
        await until(conversation.is_pending)
        async with anyio.create_task_group() as tasks:
            outcome = []

            async def interrupt():
                outcome.append(await conversation.interrupt())

            tasks.start_soon(interrupt)
            await until(lambda: said_of(handle, "control_request"))
            handle.hear(RESULT)
            acknowledge(handle)
        assert outcome == ["interrupted"]


async def test_an_interrupt_that_is_not_heard_becomes_a_signal():
    async with talking(interrupt_timeout=0.05) as (conversation, handle):
        handle.hear({"type": "system", "subtype": "init"})
        await until(conversation.is_pending)
        handle.send_signal = lambda number: (handle.signals.append(number), handle.exit(0))
        assert await conversation.interrupt() == "signalled"
        assert handle.signals == [2]


async def test_an_interrupt_that_no_signal_helps_becomes_a_stop():
    async with talking(interrupt_timeout=0.05) as (conversation, handle):
        handle.hear({"type": "system", "subtype": "init"})
        await until(conversation.is_pending)
        assert await conversation.interrupt() == "stopped"
        assert handle.signals == [2]
        assert conversation.closed


async def test_a_pipe_that_nobody_reads_holds_up_no_caller():
    process = await asyncio.create_subprocess_exec(
        "sleep", "1000", stdin=-1, stdout=-1, stderr=-1, start_new_session=True
    )
    async with talking(process, interrupt_timeout=0.1, close_timeout=0.2) as (conversation, _):
        with anyio.fail_after(BOUND):
            for _ in range(3):
                await conversation.send("x" * (4 << 20))
            assert len(conversation.unconfirmed) == 3
            assert await conversation.interrupt() == "signalled"
    assert process.returncode == -2


async def test_a_change_that_is_refused_raises_the_agents_words():
    async with talking() as (conversation, handle):
        async with anyio.create_task_group() as tasks:

            async def change():
                with pytest.raises(ControlRefused, match="no such model"):
                    await conversation.set_model("x")

            tasks.start_soon(change)
            await until(lambda: said_of(handle, "control_request"))
            acknowledge(handle, error="no such model")
        with pytest.raises(ValueError, match="acceptEdits"):
            await conversation.set_permission_mode("zzz")


async def test_the_reason_of_an_end_has_code_last_words_and_last_result():
    async with talking() as (conversation, handle):
        failed = {"type": "result", "subtype": "success", "is_error": True, "result": "API Error"}
        handle.hear(failed)
        await until(lambda: conversation.usage.turns)
        async with anyio.create_task_group() as tasks:

            async def ask():
                with pytest.raises(ConversationClosed, match="exited with 1"):
                    await conversation.ask("hello")

            tasks.start_soon(ask)
            await until(lambda: said_of(handle, "user"))
            handle.exit(1, b"Error: something broke\n")
        reason = conversation.close_reason
        assert (reason.exit_code, reason.asked, reason.last_result) == (1, False, failed)
        assert "API Error" in str(reason)
        assert "something broke" in str(reason)
        assert [one.text for one in conversation.unconfirmed] == ["hello"]
        assert not conversation.is_pending()
        with pytest.raises(ConversationClosed):
            await conversation.send("more")


async def test_closing_is_idempotent_asks_first_and_is_told_as_asked():
    async with talking() as (conversation, handle):
        await conversation.close()
        await conversation.close()
        assert handle.said[-1]["request"] == {"subtype": "end_session"}
        assert conversation.close_reason.asked
        assert conversation.state.phase == "closed"


async def test_closing_before_anything_was_attached_is_fine():
    conversation = ClaudeCodeConversation()
    await conversation.close()
    assert conversation.closed


async def test_closing_kills_what_ignores_everything_else():
    stubborn = """trap '' TERM INT; echo '{"type": "x"}'; while :; do sleep 1; done"""
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", stubborn, stdin=-1, stdout=-1, stderr=-1, start_new_session=True
    )
    deaf = anyio.Event()
    async with talking(process, close_timeout=0.1) as (conversation, _):
        conversation.on_event(lambda _: deaf.set())
        with anyio.fail_after(BOUND):
            await deaf.wait()
            await conversation.close()
        assert conversation.close_reason.signal == "KILL"
    assert process.returncode == -9


async def test_output_that_breaks_off_is_no_silent_end():
    class Broken:
        stdin = stderr = None

        @property
        def stdout(self):
            async def lines():
                yield b'{"type": "x"}\n'
                raise OSError("connection lost")

            return lines()

    conversation = ClaudeCodeConversation()
    conversation.attach(Broken())
    await conversation.run_reader()
    assert conversation.closed
    assert "connection lost" in str(conversation.close_reason)
    assert not issubclass(ConversationClosed, HostLost)


async def test_a_failed_turn_raises_where_that_is_asked_for():
    async with talking() as (conversation, handle), anyio.create_task_group() as tasks:

        async def ask():
            result = await conversation.ask("hello")
            with pytest.raises(TurnFailed, match="API Error"):
                result.raise_unless_ok()

        tasks.start_soon(ask)
        await until(lambda: said_of(handle, "user"))
        handle.hear({"type": "result", "subtype": "success", "is_error": True,
                     "result": "API Error", "usage": "what?", "num_turns": "many"})  # fmt: skip


async def test_rate_limits_are_a_state_with_an_end():
    async with talking() as (conversation, handle):
        info = {"status": "rejected", "resetsAt": 1795210350}
        handle.hear({"type": "rate_limit_event", "rate_limit_info": info})
        await until(lambda: conversation.state.phase == "rate limited")
        assert conversation.state.until == 1795210350
        handle.hear({"type": "assistant", "message": {}})
        await until(lambda: conversation.state.phase == "idle")
        retry = {"type": "system", "subtype": "api_retry", "error_status": 429}
        handle.hear({**retry, "retry_delay_ms": 500, "error": "rate_limit"})
        await until(lambda: conversation.state.phase == "rate limited")
        assert conversation.state.until is not None
        assert conversation.state.reason == "rate limit"  # as a person is told


async def test_a_handler_that_hangs_delays_closing_by_one_bound_only():
    entered = anyio.Event()

    async def hang(_):
        entered.set()
        await anyio.sleep_forever()

    async with talking(close_timeout=0.2) as (conversation, handle):
        conversation.on_event(hang)
        words = "x" * 10_000
        handle.hear(*({"type": "x", "words": words} for _ in range(3 * BACKLOG // len(words))))
        await entered.wait()
        with anyio.fail_after(BOUND):
            await conversation.close()
        assert conversation.close_reason.exit_code == 0


async def test_a_handler_that_ignores_its_cancellation_is_left_behind(caplog):
    entered, released = anyio.Event(), anyio.Event()

    async def stay(_):
        entered.set()
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    async with talking(close_timeout=0.1) as (conversation, handle):
        conversation.on_event(stay)
        handle.hear(number(1))
        await entered.wait()
        with anyio.fail_after(BOUND):
            await conversation.close()
        assert "ignores its cancellation" in caplog.text
        released.set()
        await anyio.wait_all_tasks_blocked()
