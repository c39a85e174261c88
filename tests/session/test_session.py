"""The end of a session is one of seven, and success is only one thing."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from optio_agents.errors import (
    AgentExited,
    AgentReportedError,
    AgentStalled,
    EndedByHook,
    EndSession,
    FileRefused,
    SessionFailed,
)
from optio_agents.protocol.protocol import get_protocol
from optio_agents.session import run_log_protocol_session
from optio_agents.store.memory import MemoryJournal
from tests.support.sessions.sessions import (
    FlaggedContext,
    append,
    hand_over,
    listing,
    replace_log,
    says,
    says_and_stays,
    write,
)
from tests.support.timeouts import BOUND

# The table of outcomes


async def test_done_is_success(sessions, ctx):
    result = await sessions.run(ctx, body=says("STATUS: 10% one", "chatter", "DONE: all of it"))
    assert (result.outcome, result.summary, result.statuses) == ("done", "all of it", 1)
    assert result.raise_unless_done() is result
    assert ctx.told == [
        ("progress", 10, "one"),
        ("progress", None, "chatter"),
        ("progress", None, "all of it"),
    ]
    assert result.cursor.lines == 3
    assert result.started_at <= result.ended_at


@pytest.mark.parametrize("ends_first", range(10))
async def test_done_and_return_at_once_is_success_every_time(sessions, ctx, ends_first):
    async def body(host, _):
        hand_over(host, "last.txt", "just before")
        write(host, "DONE")

    seen = []

    async def on_deliverable(_, path, text):
        seen.append((path, text))

    result = await sessions.run(ctx, body=body, on_deliverable=on_deliverable)
    assert result.outcome == "done"
    assert seen == [("last.txt", "just before")]


async def test_a_body_that_ends_without_done_has_failed(sessions, ctx):
    with pytest.raises(AgentExited) as failure:
        await sessions.run(ctx, body=says("STATUS: almost"))
    assert failure.value.exit_code is None
    assert failure.value.last_lines == ("STATUS: almost",)
    assert failure.value.result.outcome == "exited"


async def test_a_process_that_never_ran_is_not_done(sessions, ctx):
    async def body(host, _):
        return await host.run_command("exec /no/such/agent")

    with pytest.raises(AgentExited) as failure:
        await sessions.run(ctx, body=body)
    assert failure.value.exit_code == 127


async def test_exit_0_after_an_api_failure_is_not_done(sessions, ctx):
    async def body(host, _):
        return await host.run_command("echo 'API Error: 529 overloaded'; exit 0")

    with pytest.raises(AgentExited) as failure:
        await sessions.run(ctx, body=body)
    assert failure.value.exit_code == 0


async def test_error_is_reported_with_the_last_lines(sessions, ctx):
    lines = [f"line {n}" for n in range(30)]
    with pytest.raises(AgentReportedError, match="no disk") as failure:
        await sessions.run(ctx, body=says_and_stays(*lines, "ERROR: no disk"))
    assert failure.value.last_lines == (*lines[-19:], "ERROR: no disk")
    assert failure.value.result.outcome == "error"


async def test_the_first_ending_decides(sessions, ctx):
    result = await sessions.run(ctx, body=says("DONE: yes", "ERROR: no"))
    assert (result.outcome, result.summary) == ("done", "yes")
    assert ctx.messages == ["yes", "ERROR: no"]
    with pytest.raises(AgentReportedError):
        await sessions.run(ctx, body=says("ERROR: no", "DONE: yes"))


async def test_cancelled_returns(sessions, ctx):
    async def body(host, _):
        ctx.going = False
        await anyio.sleep_forever()

    result = await sessions.run(ctx, body=body)
    assert result.outcome == "cancelled"
    with pytest.raises(SessionFailed):
        result.raise_unless_done()


async def test_a_cancellation_flag_is_noticed_at_once(sessions):
    ctx = FlaggedContext()
    loop = asyncio.get_running_loop()

    async def body(host, _):
        loop.call_soon(ctx.cancellation_flag.set)
        started.append(loop.time())
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(loop.time())

    started, ended = [], []
    result = await sessions.run(ctx, body=body)
    assert result.outcome == "cancelled"
    assert ended[0] - started[0] < 0.15  # the shared pulse alone would take up to 0.2


async def test_cancelled_before_it_began(sessions, ctx):
    ctx.going = False
    ran = []

    async def body(host, _):
        ran.append("body")

    async def after(_):
        ran.append("after")

    result = await sessions.run(ctx, body=body, after_execute=after)
    assert result.outcome == "cancelled"
    assert ran == ["after"]


async def test_should_continue_that_raises_is_counted_and_no_end(sessions, ctx):
    def broken():
        raise OSError("database away")

    ctx.should_continue = broken
    result = await sessions.run(ctx, body=says("DONE"))
    assert result.outcome == "done"
    assert result.troubles["should_continue"] >= 1


async def test_a_silent_agent_is_stalled(sessions, ctx):
    with pytest.raises(AgentStalled) as failure:
        await sessions.run(ctx, body=says_and_stays("STATUS: thinking"), stall_after=2)
    assert failure.value.result.outcome == "stalled"


async def test_writing_a_deliverable_is_no_silence(sessions, ctx):
    async def body(host, _):
        for part in range(8):
            hand_over(host, "big.bin", b"x" * part, announce=False)
            await anyio.sleep(0.5)
        write(host, "DONE")

    result = await sessions.run(ctx, body=body, stall_after=2)
    assert result.outcome == "done"


async def test_waiting_for_us_is_no_stall(sessions, ctx):
    async def body(host, _):
        hand_over(host, "a.txt", "a")
        await answered.wait()
        write(host, "DONE")

    async def on_deliverable(*_):
        await anyio.sleep(3)

    async def agent_sender(_):
        answered.set()

    answered = anyio.Event()
    result = await sessions.run(
        ctx,
        body=body,
        on_deliverable=on_deliverable,
        agent_sender=agent_sender,
        stall_after=1,
    )
    assert result.outcome == "done"


async def test_a_callback_ends_the_session(sessions, ctx):
    async def body(host, _):
        hand_over(host, "a.txt")
        await anyio.sleep_forever()

    async def on_deliverable(*_):
        raise EndSession("seen enough")

    with pytest.raises(EndedByHook, match="seen enough"):
        await sessions.run(ctx, body=body, on_deliverable=on_deliverable)


async def test_what_the_body_raises_is_the_callers_own(sessions, ctx):
    async def body(host, _):
        write(host, "STATUS: 1% x")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await sessions.run(ctx, body=body)


async def test_done_counts_although_the_body_raises(sessions, ctx):
    async def body(host, _):
        write(host, "DONE")
        raise KeyError("too late to matter")

    assert (await sessions.run(ctx, body=body)).outcome == "done"


# Reading the log


async def test_done_without_a_newline_counts_when_the_body_has_ended(sessions, ctx):
    async def body(host, _):
        write(host, "DONE", end="")

    assert (await sessions.run(ctx, body=body)).outcome == "done"


async def test_done_without_a_newline_counts_while_the_body_lives(sessions, ctx):
    async def body(host, _):
        write(host, "DONE: so there", end="")
        await anyio.sleep_forever()

    result = await sessions.run(ctx, body=body, body_grace=0.1)
    assert result.summary == "so there"


async def test_bytes_that_are_not_utf8_are_survived(sessions, ctx):
    async def body(host, _):
        append(host, b"STATUS: caf\xe9 \xff\nDONE\n")

    assert (await sessions.run(ctx, body=body)).outcome == "done"
    assert ctx.messages[0].startswith("caf\ufffd")


async def test_a_keyword_in_the_middle_of_a_line_is_narration(sessions, ctx):
    result = await sessions.run(ctx, body=says("npm: ERROR: peer", " ERROR: indented", "DONE"))
    assert result.outcome == "done"


async def test_a_long_line_is_cut_and_its_pieces_end_nothing(sessions, ctx):
    async def body(host, _):
        write(host, "x" * (3 << 20) + "DONE: no", "STATUS: still here", "DONE: yes")

    result = await sessions.run(ctx, body=body)
    assert result.summary == "yes"
    assert all(len(message) <= 500 for message in ctx.messages)
    assert any("was cut" in message for message in ctx.messages)


async def test_overwriting_the_log_loses_nothing_and_repeats_nothing(sessions, ctx):
    async def body(host, _):
        write(host, "STATUS: one", "STATUS: two")
        await ctx.until(lambda: "two" in ctx.messages)
        replace_log(host, "STATUS: three", "DONE")

    assert (await sessions.run(ctx, body=body)).outcome == "done"
    assert ctx.messages == ["one", "two", "three"]


async def test_a_log_that_is_a_directory_is_an_error_and_no_hang(sessions, ctx):
    async def body(host, _):
        await host.run_command("rm optio.log; mkdir optio.log")
        await anyio.sleep_forever()

    with pytest.raises(FileRefused, match=r"optio\.log"):
        await sessions.run(ctx, body=body)


async def test_escape_sequences_are_shown_and_never_sent_to_the_terminal(sessions, ctx):
    with pytest.raises(AgentReportedError) as failure:
        await sessions.run(ctx, body=says("STATUS: \x1b[2J\u202e", "ERROR: \x1b]0;pwned\x07"))
    assert ctx.messages == ["\\x1b[2J\\u202e"]
    assert "\x1b" not in str(failure.value)


async def test_only_web_addresses_are_opened(sessions, ctx):
    protocol = get_protocol(browser="redirect")
    lines = ['BROWSER: "https://a.example/x"', "BROWSER: javascript:x", "BROWSER: file:///etc"]
    await sessions.run(
        ctx,
        body=says(*lines, "DONE"),
        protocol=protocol,
        browser_url_rewrite=lambda url: url + "?seen",
    )
    assert [told for told in ctx.told if told[0] == "browser"] == [
        ("browser", "https://a.example/x?seen")
    ]


# Hooks and foreign code


async def test_the_steps_come_in_their_order(sessions, ctx):
    order = []

    async def prepare(host, hook):
        assert hook.params == ctx.params
        assert await listing(host) == []
        write(host, "DONE: of another run")
        order.append("prepare")

    async def before(hook):
        assert await hook.run_on_host("ls; cat optio.log") == "deliverables\noptio.log\n"
        order.append("before")

    async def body(host, hook):
        order.append("body")
        write(host, "DONE")

    async def after(hook):
        order.append("after")

    await sessions.run(ctx, body=body, prepare=prepare, before_execute=before, after_execute=after)
    assert order == ["prepare", "before", "body", "after"]


@pytest.mark.parametrize("failing", ["prepare", "before_execute", "body", "on_deliverable"])
async def test_after_execute_runs_once_whatever_failed(sessions, ctx, failing):
    runs = []

    async def boom(*_):
        raise EndSession("here")

    async def body(host, _):
        hand_over(host, "a.txt")
        await anyio.sleep_forever()

    async def after(_):
        runs.append("after")
        raise RuntimeError("must not hide the session's own end")

    given = {"body": body, failing: boom}
    with pytest.raises(EndedByHook, match="here"):
        await sessions.run(ctx, after_execute=after, **given)
    assert runs == ["after"]


async def test_after_execute_failing_a_good_session_is_raised(sessions, ctx):
    async def after(_):
        raise RuntimeError("no snapshot")

    with pytest.raises(RuntimeError, match="no snapshot"):
        await sessions.run(ctx, body=says("DONE"), after_execute=after)


async def test_after_done_a_body_that_nothing_is_owed_to_is_ended_at_once(sessions, ctx):
    ended = []

    async def body(host, _):
        write(host, "DONE")
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)  # its cancellation is its notice

    result = await sessions.run(ctx, body=body, body_grace=1000)
    assert (result.outcome, ended, result.abandoned) == ("done", [True], ())


async def test_after_done_a_body_has_its_grace_while_it_is_owed_an_answer(sessions, ctx):
    async def body(host, _):
        hand_over(host, "early.txt")
        write(host, "DONE")
        await asked.wait()
        hand_over(host, "late.txt", "within the grace")
        answered.set()
        await anyio.sleep_forever()

    async def on_deliverable(_, path, text):
        asked.set()
        await answered.wait()

    asked, answered = anyio.Event(), anyio.Event()
    result = await sessions.run(ctx, body=body, on_deliverable=on_deliverable, body_grace=1000)
    assert [delivery.path for delivery in result.deliverables] == ["early.txt", "late.txt"]


async def test_after_done_an_owed_answer_holds_up_the_body_for_its_grace_only(sessions, ctx):
    async def body(host, _):
        hand_over(host, "a.txt")
        write(host, "DONE")
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async def on_deliverable(*_):
        await ended.wait()

    ended = anyio.Event()
    result = await sessions.run(ctx, body=body, on_deliverable=on_deliverable, body_grace=0.1)
    assert [delivery.reply for delivery in result.deliverables] == ["deliverable a.txt: accepted."]


async def test_a_body_that_swallows_cancellation_is_left_behind_by_name(sessions, ctx, monkeypatch):
    monkeypatch.setattr("optio_agents.session.run.BOUND", 0.5)
    release = asyncio.Event()

    async def body(host, _):
        write(host, "ERROR: enough")
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    with pytest.raises(AgentReportedError) as failure:
        await sessions.run(ctx, body=body)
    assert failure.value.result.abandoned == ("body",)
    release.set()


async def test_a_hanging_callback_does_not_hide_cancellation(sessions, ctx):
    async def body(host, _):
        hand_over(host, "a.txt")
        await anyio.sleep_forever()

    async def on_deliverable(*_):
        ctx.going = False
        await anyio.sleep_forever()

    result = await sessions.run(ctx, body=body, on_deliverable=on_deliverable)
    assert result.outcome == "cancelled"
    assert result.abandoned == ()


async def test_a_second_cancellation_during_clean_up_does_not_skip_after_execute(sessions, ctx):
    started, cleaning, release, ran = asyncio.Event(), asyncio.Event(), asyncio.Event(), []

    async def body(host, _):
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cleaning.set()
            await release.wait()

    async def after(_):
        ran.append("after")

    task = asyncio.create_task(sessions.run(ctx, body=body, after_execute=after))
    with anyio.fail_after(BOUND):
        await started.wait()
        task.cancel()
        await cleaning.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ran == ["after"]


async def test_leaving_by_a_scope_ends_the_session_in_order(sessions, ctx):
    ran = []

    async def after(_):
        await anyio.sleep(0.05)
        ran.append("after")

    async def body(host, _):
        started.set()
        await anyio.sleep_forever()

    started = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def go():
            await sessions.run(ctx, body=body, after_execute=after)

        tasks.start_soon(go)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert ran == ["after"]


async def test_without_keywords_the_return_of_the_body_is_the_end(sessions, ctx):
    async def body(host, _):
        write(host, "ERROR: nobody reads this")

    result = await sessions.run(ctx, body=body, keywords=False)
    assert result.outcome == "done"
    assert ctx.told == []


async def test_misuse_is_told_at_once(sessions, ctx):
    async def on_caller_message(*_):
        return None

    with pytest.raises(ValueError, match="caller_messages"):
        await sessions.run(ctx, body=says("DONE"), on_caller_message=on_caller_message)
    with pytest.raises(ValueError, match="caller_messages"):
        await sessions.run(ctx, body=says("DONE"), protocol=get_protocol(caller_messages=True))
    with pytest.raises(ValueError, match="body"):
        await sessions.run(ctx)


# Caller messages


async def test_caller_messages_are_answered_in_order(sessions, ctx):
    sent = []

    async def on_caller_message(hook, keyword, data):
        await anyio.sleep(0.05 if data == 1 else 0)
        return f"{keyword} {data}" if data != 2 else None

    async def agent_sender(text):
        sent.append(text)

    lines = [f"CALLER_MESSAGE: key {n}" for n in (1, 2, 3)]
    result = await sessions.run(
        ctx,
        body=says(*lines, "DONE"),
        protocol=get_protocol(caller_messages=True),
        on_caller_message=on_caller_message,
        agent_sender=agent_sender,
    )
    assert sent == ["System: key 1", "System: key 3"]
    assert result.replies == "sender"


# Journal and resume


async def test_a_session_goes_on_where_its_journal_stands(sessions, ctx):
    journal = MemoryJournal("s1")
    answered = []

    async def on_deliverable(_, path, text):
        answered.append(path)
        if len(answered) == 1:
            ctx.going = False  # the supervisor ends in the middle of a callback
            await anyio.sleep_forever()

    async def first(host, _):
        write(host, "STATUS: 1% one")
        hand_over(host, "a.txt", "a")
        hand_over(host, "b.txt", "b")
        await anyio.sleep_forever()

    async def second(host, _):
        write(host, "STATUS: 2% two", "DONE")

    with anyio.fail_after(BOUND):
        async with sessions.host() as host:
            given = {"journal": journal, "on_deliverable": on_deliverable}
            stopped = await run_log_protocol_session(host, ctx, body=first, **given)
            assert stopped.outcome == "cancelled"
            ctx.going, ctx.told = True, []
            result = await run_log_protocol_session(host, ctx, body=second, resuming=True, **given)
    assert answered == ["a.txt", "a.txt", "b.txt"]  # at least once, in order
    assert [told for told in ctx.told if told[1] is not None] == [("progress", 2, "two")]
    assert (result.outcome, result.statuses) == ("done", 2)
    assert [delivery.path for delivery in result.deliverables] == ["a.txt", "b.txt"]
