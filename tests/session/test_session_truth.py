"""What fails on our side is said where people look, and a session never hides it behind DONE."""

from __future__ import annotations

import asyncio
import functools

import anyio
import pytest

from optio_agents.errors import EndedByHook, EndSession, SessionFailed
from optio_agents.protocol.protocol import get_protocol
from optio_agents.session.options import DeliverableCallback, Options
from optio_agents.store.records import SessionResult
from tests.support.sessions.sessions import Context, hand_over, says, write


def hands_over(*names, data="content"):
    async def body(host, _):
        for name in names:
            hand_over(host, name, data)
        write(host, "DONE")

    return body


# The shape of callbacks, before anything begins


async def three(hook, path, text):
    return None


class Bound:
    async def on_deliverable(self, hook, path, text):
        return None

    async def __call__(self, hook, path, text):
        return None


@pytest.mark.parametrize(
    "callback",
    [
        three,
        Bound().on_deliverable,
        Bound(),
        functools.partial(three),
        lambda hook, path, text: three(hook, path, text),
        lambda *anything: three(*anything),
        functools.wraps(three)(lambda *anything: three(*anything)),
    ],
)
def test_whatever_gives_something_to_await_is_a_callback(callback):
    assert Options(on_deliverable=callback).on_deliverable is callback


def returns_awaitable(hook, path, text):
    return three(hook, path, text)


def forgot_async(hook, path, text):
    str(path)


def returns_text(hook, path, text):
    return "better, please" if text else None


async def generates(hook, path, text):
    yield text


def generates_too(hook, path, text):
    yield text


def test_a_plain_function_that_returns_an_awaitable_is_a_callback():
    assert Options(on_deliverable=returns_awaitable)


@pytest.mark.parametrize(
    "callback",
    [
        forgot_async,
        functools.partial(forgot_async),
        lambda hook, path, text: None,
        returns_text,
        generates,
        generates_too,
    ],
)
def test_what_never_gives_anything_to_await_is_refused(callback):
    with pytest.raises(ValueError, match=r"^on_deliverable must be async, as in `async def "):
        Options(on_deliverable=callback)


async def one(hook):
    return None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"on_deliverable": one}, r"is called as async on_deliverable\(hook_ctx, path, text\)"),
        (
            {"on_deliverable_file": three},
            r"\(hook_ctx, deliverable\), and yours takes \(hook",
        ),
        ({"before_execute": three}, r"before_execute\(hook_ctx\)"),
        ({"after_execute": three}, r"after_execute\(hook_ctx\)"),
        ({"body": one}, r"body\(host, hook_ctx\)"),
        ({"prepare": one}, r"prepare\(host, hook_ctx\)"),
        ({"agent_sender": three}, r"agent_sender\(text\)"),
        ({"browser_url_rewrite": lambda: "x"}, r"as browser_url_rewrite\(url\)"),
        ({"on_deliverable": "a name"}, "on_deliverable cannot be called: .* not 'a name'"),
    ],
)
async def test_a_callback_of_the_wrong_shape_is_refused_before_anything_begins(
    sessions, ctx, given, words
):
    ran = []

    async def prepare(host, _):
        ran.append("prepare")

    async def body(host, _):
        write(host, "DONE")

    with pytest.raises(ValueError, match=words):
        await sessions.run(ctx, **{"body": body, "prepare": prepare, **given})
    assert ran == []


def test_the_types_of_callbacks_are_objects_at_run_time():
    assert DeliverableCallback | None


# Reported as it is


async def taken(hook, path, text):
    return None


@pytest.mark.parametrize(
    ("announced", "words"),
    [
        ("deliverables/none.txt", "Deliverable refused: none.txt: there is no such file"),
        ("/etc/passwd", "Deliverable refused: /etc/passwd: this file is not in deliverables/"),
        ("../x", "Deliverable refused: ../x: "),
        ("deliverables", "Deliverable refused: deliverables: "),
        ("deliverables/binary", "Deliverable refused: binary: not text"),
        ("deliverables/big", "Deliverable refused: big: too large; at most 10 bytes are taken"),
        ("deliverables/sub/good.txt", "Deliverable: sub/good.txt"),
    ],
)
async def test_what_was_refused_is_reported_as_refused(sessions, ctx, announced, words):
    async def body(host, _):
        hand_over(host, "binary", b"\xff\xfe", announce=False)
        hand_over(host, "big", "x" * 11, announce=False)
        hand_over(host, "sub/good.txt", "good", announce=False)
        write(host, f"DELIVERABLE: {announced}", "DONE")

    await sessions.run(ctx, body=body, on_deliverable=taken, max_deliverable_bytes=10)
    (message,) = [message for message in ctx.messages if message.startswith("Deliverable")]
    assert message.startswith(words)


async def test_a_callback_that_raised_is_reported_and_no_success(sessions, ctx):
    async def on_deliverable(hook, path, text):
        raise OSError("no room")

    result = await sessions.run(ctx, body=hands_over("a.txt"), on_deliverable=on_deliverable)
    assert (result.outcome, result.failures) == ("done", {"on_deliverable": 1})
    assert ctx.messages[:2] == [
        "Deliverable: a.txt",
        "Deliverable a.txt: on_deliverable callback raised: OSError: no room",
    ]
    with pytest.raises(SessionFailed, match=r"on our side failed: on_deliverable \(1\)") as failed:
        result.raise_unless_done()
    assert failed.value.result is result


@pytest.mark.parametrize("nonsense", [True, 1, b"bytes", {"a": 1}])
async def test_what_a_callback_returns_is_text_or_none(sessions, ctx, nonsense):
    async def on_deliverable(hook, path, text):
        return nonsense

    async def on_caller_message(hook, keyword, data):
        return nonsense

    async def body(host, _):
        hand_over(host, "a.txt")
        write(host, "CALLER_MESSAGE: key 1", "DONE")

    result = await sessions.run(
        ctx,
        body=body,
        on_deliverable=on_deliverable,
        on_caller_message=on_caller_message,
        protocol=get_protocol(caller_messages=True),
    )
    assert result.failures == {"on_deliverable": 1, "on_caller_message": 1}
    kind = type(nonsense).__name__
    for what in ("Deliverable a.txt: on_deliverable", "Message key: on_caller_message"):
        returned = f"it returned an object of type {kind}, not text or None"
        assert f"{what} failed: TypeError: {returned}" in ctx.messages
    with pytest.raises(SessionFailed):
        result.raise_unless_done()


async def test_one_that_turns_out_not_to_be_async_has_failed(sessions, ctx):
    result = await sessions.run(
        ctx,
        body=hands_over("a.txt"),
        on_deliverable=lambda hook, path, text: f"{path} is too short",
    )
    assert result.failures == {"on_deliverable": 1}
    assert "on_deliverable is not async: it returned an object of type str" in ctx.messages[1]


async def test_a_deliverable_that_cannot_be_saved_is_reported_and_no_success(
    sessions, ctx, tmp_path
):
    (tmp_path / "kept").write_text("a file where a directory is to be")
    result = await sessions.run(
        ctx, body=hands_over("a.txt"), save_deliverables_to=tmp_path / "kept"
    )
    assert (result.outcome, result.failures) == ("done", {"saving": 1})
    assert ctx.messages[1].startswith("Deliverable a.txt: could not be saved: ")
    with pytest.raises(SessionFailed, match="saving"):
        result.raise_unless_done()


async def test_a_full_disk_is_no_success(sessions, ctx, small_disk):
    result = await sessions.run(
        ctx, body=hands_over("a.bin", data=b"x" * (2 << 20)), save_deliverables_to=small_disk
    )
    assert result.failures == {"saving": 1}
    assert "No space left" in ctx.messages[1]
    assert not any(small_disk.iterdir())


async def test_a_context_that_raised_is_no_failure_of_a_callback(sessions, ctx):
    class Broken(Context):
        def report_progress(self, percent, message=None):
            raise OSError("database away")

    result = await sessions.run(Broken(), body=says("one", "DONE"))
    assert (set(result.troubles), result.failures) == ({"report_progress"}, {})
    assert result.raise_unless_done() is result


async def test_after_execute_that_fails_behind_another_failure_is_reported(sessions, ctx):
    async def after(_):
        raise RuntimeError("no snapshot")

    async def body(host, _):
        raise EndSession("enough")

    with pytest.raises(EndedByHook) as failure:
        await sessions.run(ctx, body=body, after_execute=after)
    assert ctx.messages[-1] == "after_execute callback raised: RuntimeError: no snapshot"
    assert failure.value.result.troubles == {"after_execute": 1}


async def test_a_message_that_nobody_takes_is_reported(sessions, ctx):
    async def body(host, hook):
        assert not await hook.send_to_agent("hello")
        write(host, "DONE")

    async def sender(text):
        raise ConnectionError("gone")

    await sessions.run(ctx, body=body)
    assert any("it has no input channel" in message for message in ctx.messages)
    ctx.told.clear()
    await sessions.run(ctx, body=body, agent_sender=sender)
    assert any(
        "its input channel did not take a message: gone" in message for message in ctx.messages
    )


async def test_a_reply_that_nobody_takes_is_reported(sessions, ctx):
    async def sender(text):
        raise ConnectionError("gone")

    await sessions.run(ctx, body=hands_over("a.txt"), agent_sender=sender)
    assert "The agent did not take a message: ConnectionError: gone" in ctx.messages


# What is no Exception


class Stop(BaseException):
    """As a debugger or a test framework raises it."""


@pytest.mark.parametrize("error", [Stop("now"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["on_deliverable", "body", "prepare", "should_continue"])
async def test_after_execute_runs_whatever_is_raised_and_it_is_raised_as_it_is(
    sessions, ctx, where, error
):
    ran = []

    async def boom(*_):
        raise error

    def sync_boom():
        raise error

    async def body(host, _):
        hand_over(host, "a.txt")
        await anyio.sleep_forever()

    async def after(_):
        ran.append("after")

    given = {"body": body}
    if where == "should_continue":
        ctx.should_continue = sync_boom
    else:
        given[where] = boom
    with pytest.raises(type(error)) as raised:
        await sessions.run(ctx, after_execute=after, **given)
    assert raised.value is error
    assert ran == ["after"]


async def test_a_loop_survives_a_callback_that_exits(sessions, ctx):
    """Where a task raises SystemExit, asyncio ends the loop, and with it all other sessions."""

    async def on_deliverable(*_):
        raise SystemExit(1)

    beside = asyncio.create_task(sessions.run(Context(), body=says("DONE")))
    with pytest.raises(SystemExit):
        await sessions.run(ctx, body=hands_over("a.txt"), on_deliverable=on_deliverable)
    assert (await beside).outcome == "done"


async def test_a_body_that_raises_what_is_no_exception_is_told_as_it_is(sessions, ctx):
    from optio_agents.store.memory import MemoryJournal

    journal = MemoryJournal()

    async def body(host, _):
        raise Stop("by hand")

    with pytest.raises(Stop):
        await sessions.run(ctx, body=body, journal=journal)
    assert isinstance(journal.result, SessionResult)
    assert (journal.result.outcome, journal.result.summary) == ("failed", "Stop: by hand")
