"""Hosts of other makes, and the context of a real optio deployment."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from hypothesis import given, strategies as st

from optio_agents.context import HookContext, ProcessContext
from optio_agents.errors import AgentExited, AgentReportedError, HostUnreachable
from optio_agents.protocol.protocol import get_protocol
from optio_agents.session import run_log_protocol_session
from optio_agents.session.foreign_host import Ledger
from optio_agents.testing.proxy import FaultProxy
from tests.support.components import unavailable
from tests.support.timeouts import BOUND

try:
    import optio_core.context
    import optio_host
except ImportError:
    optio_host = None


@pytest.fixture(autouse=True)
def published():
    if optio_host is None:
        unavailable("the published optio-host is not installed; ./tests/run installs it")


@pytest.fixture(params=["local", "ssh"])
def kind(request):
    return request.param


@pytest.fixture
def foreign(kind, tmp_path, ssh_login):
    """A connected host of the published package, by itself or through a proxy."""

    @asynccontextmanager
    async def enter(through=None):
        if kind == "local":
            host = optio_host.LocalHost(str(tmp_path / "task"))
        else:
            login = ssh_login() if through is None else ssh_login(port=through)
            config = optio_host.SSHConfig(login.host, login.user, str(login.key_path), login.port)
            host = optio_host.RemoteHost(config, str(tmp_path / "task"))
        with anyio.fail_after(BOUND):
            await host.connect()
            try:
                yield host
            finally:
                with anyio.move_on_after(2, shield=True):
                    await host.disconnect()

    return enter


def log_of(host):
    return Path(host.workdir, "optio.log")


def append(host, data):
    with log_of(host).open("ab") as log:
        log.write(data)


def overwrite(host, data):
    log_of(host).write_bytes(data)


def hand_over(host, name, data):
    Path(host.workdir, "deliverables", name).write_bytes(data)


def swap(path):
    path.unlink()
    path.symlink_to("/etc/hostname")


async def test_a_whole_session(foreign, ctx):
    sent, texts = [], []

    async def agent_sender(text):
        sent.append(text)

    async def on_deliverable(hook, path, text):
        texts.append((path, text))
        assert await hook.read_text_from_host("deliverables/a b.txt", silent=True) == text

    async def body(host, hook):
        assert type(host).__module__.startswith("optio_host")
        await hook.copy_file(b"from us", "input.txt")
        hand_over(host, "a b.txt", b"text")
        hand_over(host, "b.bin", b"\xff\x00")
        append(
            host,
            b"STATUS: 50% half\nchatter\nDELIVERABLE: deliverables/a b.txt\n"
            b"DELIVERABLE: deliverables/b.bin\nDELIVERABLE: /etc/passwd\n"
            b"DELIVERABLE: deliverables/none\nDONE: all\n",
        )

    async with foreign() as host:
        result = await run_log_protocol_session(
            host, ctx, body=body, on_deliverable=on_deliverable, agent_sender=agent_sender
        )
    assert (result.outcome, result.summary) == ("done", "all")
    assert texts == [("a b.txt", "text")]
    words = ["accepted", "not text", "not in deliverables/", "no such file"]
    assert [word in text for word, text in zip(words, sent, strict=True)] == [True] * 4
    assert ("progress", 50, "half") in ctx.told


@pytest.mark.parametrize("kind", ["local"])
async def test_done_ends_a_body_that_runs_on_at_once(foreign, ctx):
    async def body(host, _):
        append(host, b"DONE\n")
        await anyio.sleep_forever()

    async with foreign() as host:
        result = await run_log_protocol_session(host, ctx, body=body, body_grace=2 * BOUND)
    assert result.outcome == "done"


async def test_a_blob_that_is_there_already_is_not_copied_again(foreign, ctx):
    class Reader:
        def __init__(self):
            self.left = b"from a blob"

        async def read(self, size=-1):
            data, self.left = self.left, b""
            return data

    @asynccontextmanager
    async def load_blob(blob):
        yield Reader()

    async def chunks():
        yield b"stream"

    ctx.load_blob = load_blob

    async def body(host, hook):
        for source in (17, 17, chunks()):
            await hook.copy_file(source, "sub/a.bin", skip_if_unchanged=True)
        append(host, b"DONE\n")

    async with foreign() as host:
        await run_log_protocol_session(host, ctx, body=body)
        assert await host.fetch_bytes_from_host(f"{host.workdir}/sub/a.bin") == b"stream"
    once = ["Verifying a.bin…", "Copying a.bin…"]
    again = ["Verifying a.bin…", "Already up to date: a.bin"]
    assert ctx.messages == [*once, *again, "Copying a.bin…"]


async def test_what_is_refused_is_shown_as_refused_with_the_reason(foreign, ctx):
    async def on_deliverable(hook, path, text):
        raise RuntimeError("no room")

    async def after_execute(hook):
        raise RuntimeError("not snapshot")

    async def body(host, hook):
        hand_over(host, "b.bin", b"\xff\x00")
        hand_over(host, "a.txt", b"text")
        names = ["b.bin", "none", "../optio.log"]
        lines = ["DELIVERABLE: /etc/passwd", *(f"DELIVERABLE: deliverables/{one}" for one in names)]
        lines += ["DELIVERABLE: deliverables/a.txt", "ERROR: gave up"]
        append(host, "".join(f"{line}\n" for line in lines).encode())
        assert not await hook.send_to_agent("hello")
        await anyio.sleep_forever()

    async with foreign() as host:
        with pytest.raises(AgentReportedError):
            await run_log_protocol_session(
                host, ctx, body=body, on_deliverable=on_deliverable, after_execute=after_execute
            )
    shown = [line for line in ctx.messages if line.startswith("Deliverable")]
    assert [line.split(": ")[:2] for line in shown] == [
        ["Deliverable refused", "/etc/passwd"],
        ["Deliverable refused", "b.bin"],
        ["Deliverable refused", "none"],
        ["Deliverable refused", "deliverables/../optio.log"],
        ["Deliverable", "a.txt"],
        ["Deliverable a.txt", "on_deliverable callback raised"],
    ]
    for line, why in zip(
        shown, ("not in deliverables/", "not text", "no such file", "not in deli"), strict=False
    ):
        assert why in line
    assert "no room" in shown[-1]
    assert "after_execute callback raised: RuntimeError: not snapshot" in ctx.messages
    assert any("no channel" in line and "input channel" in line for line in ctx.messages)


async def test_the_end_of_the_tail_is_not_success(foreign, ctx):
    async def body(host, _):
        append(host, b"STATUS: 1% x\n")

    async with foreign() as host:
        with pytest.raises(AgentExited, match="body returned before DONE"):
            await run_log_protocol_session(host, ctx, body=body)


async def test_the_last_line_counts_without_its_newline(foreign, ctx):
    async def body(host, _):
        append(host, b"DONE: unterminated")

    async with foreign() as host:
        result = await run_log_protocol_session(host, ctx, body=body)
    assert result.summary == "unterminated"


async def test_a_byte_that_is_not_utf8_ends_nothing(foreign, ctx, monkeypatch):

    async def body(host, _):
        append(host, b"STATUS: one\n")
        await ctx.until(lambda: "one" in ctx.messages)
        append(host, b"STATUS: caf\xe9\nSTATUS: two\n")
        await ctx.until(lambda: "two" in ctx.messages)
        append(host, b"DONE\n")

    async with foreign() as host:
        result = await run_log_protocol_session(host, ctx, body=body)
    assert result.outcome == "done"
    assert ctx.messages == ["one", "caf\ufffd", "two"]


async def test_an_overwritten_log_is_read_again_and_nothing_twice(foreign, ctx):
    async def body(host, _):
        append(host, b"STATUS: one\nSTATUS: two\n")
        await ctx.until(lambda: "two" in ctx.messages)
        overwrite(host, b"STATUS: one\nSTATUS: two\nSTATUS: three\nDONE\n")

    async with foreign() as host:
        result = await run_log_protocol_session(host, ctx, body=body)
    assert result.outcome == "done"
    assert [m for m in ctx.messages if m == "three"] == ["three"]


async def test_error_is_reported_while_the_body_lives(foreign, ctx):
    async def body(host, _):
        append(host, b"ERROR: no\n")
        await anyio.sleep_forever()

    async with foreign() as host:
        with pytest.raises(AgentReportedError, match="no"):
            await run_log_protocol_session(host, ctx, body=body)


async def test_shims_are_installed(foreign, ctx):
    opened = []

    async def body(host, hook):
        env = hook.browser_launch_env
        await host.run_command(f"{env['BROWSER']} https://a.example/x", env=dict(env))
        append(host, b"DONE\n")

    async def request_browser_open(url):
        opened.append(url)

    ctx.request_browser_open = request_browser_open
    async with foreign() as host:
        await run_log_protocol_session(
            host, ctx, body=body, protocol=get_protocol(browser="redirect")
        )
    assert opened == ["https://a.example/x"]


@pytest.mark.parametrize("kind", ["ssh"])
async def test_a_dropped_link_is_never_success(foreign, ctx, sshd, monkeypatch):
    monkeypatch.setattr("optio_agents.session.foreign_host._WITH_TAIL", 0.3)
    monkeypatch.setattr("optio_agents.session.foreign_host._PATIENCE", 1.0)

    async def body(host, _):
        append(host, b"STATUS: one\n")
        await ctx.until(lambda: "one" in ctx.messages)
        proxy.cut()
        proxy.refuse()
        await anyio.sleep_forever()

    async with FaultProxy(sshd.host, sshd.port) as proxy, foreign(proxy.port) as host:
        with pytest.raises(HostUnreachable, match="STATUS: one") as failure:
            await run_log_protocol_session(host, ctx, body=body, lost_after=1)
    assert failure.value.result.outcome == "unreachable"


@pytest.mark.parametrize("kind", ["ssh"])
async def test_a_link_that_comes_back_has_lost_nothing(foreign, ctx, sshd, monkeypatch):
    monkeypatch.setattr("optio_agents.session.foreign_host._WITH_TAIL", 0.3)
    monkeypatch.setattr("optio_agents.session.foreign_host._PATIENCE", 2.0)

    async def body(host, _):
        append(host, b"STATUS: one\n")
        await ctx.until(lambda: "one" in ctx.messages)
        proxy.cut()
        append(host, b"STATUS: two\n")
        await ctx.until(lambda: "two" in ctx.messages)
        append(host, b"DONE\n")

    async with FaultProxy(sshd.host, sshd.port) as proxy, foreign(proxy.port) as host:
        result = await run_log_protocol_session(host, ctx, body=body)
    assert result.outcome == "done"
    assert ctx.messages == ["one", "two"]


@pytest.mark.parametrize("kind", ["ssh"])
async def test_a_deliverable_announced_as_the_link_goes_is_fetched_when_it_is_back(
    foreign, ctx, sshd, monkeypatch
):
    monkeypatch.setattr("optio_agents.session.foreign_host._PATIENCE", 2.0)
    monkeypatch.setattr("optio_agents.session.foreign_host._PAUSE", 0.2)
    monkeypatch.setattr("optio_agents.session.deliverables._FETCHING", 2.0)  # less than it is away
    received, gone = [], anyio.Event()

    async def on_deliverable(_, path, text):
        received.append((path, text))
        if path == "a.txt":
            proxy.cut()
            proxy.refuse()
            gone.set()
            asyncio.get_running_loop().call_later(4, proxy.accept)

    async def body(host, _):
        hand_over(host, "a.txt", b"a.txt")
        hand_over(host, "b.txt", b"b.txt")
        append(host, b"DELIVERABLE: deliverables/a.txt\n")
        await gone.wait()
        append(host, b"DELIVERABLE: deliverables/b.txt\nDONE\n")

    async with FaultProxy(sshd.host, sshd.port) as proxy, foreign(proxy.port) as host:
        result = await run_log_protocol_session(host, ctx, body=body, on_deliverable=on_deliverable)
    assert result.outcome == "done"
    assert received == [("a.txt", "a.txt"), ("b.txt", "b.txt")]


async def test_a_tail_that_comes_late_repeats_nothing(ctx, tmp_path, monkeypatch):
    monkeypatch.setattr("optio_agents.session.foreign_host._WITH_TAIL", 0.1)
    looked = anyio.Event()

    class Late(optio_host.LocalHost):
        async def tail_file(self, absolute_path):
            await looked.wait()
            async for line in super().tail_file(absolute_path):
                yield line

    async def body(host, _):
        append(host, b"STATUS: one\nSTATUS: two\n")
        await ctx.until(lambda: "two" in ctx.messages)  # found by a look at the file
        looked.set()
        append(host, b"STATUS: three\n")
        await ctx.until(lambda: "three" in ctx.messages)
        await anyio.sleep(0.2)  # the tail comes to what it missed
        append(host, b"DONE\n")

    late = Late(str(tmp_path / "task"))
    with anyio.fail_after(BOUND):
        result = await run_log_protocol_session(late, ctx, body=body)
        await late.disconnect()  # what ends its tail
    assert result.outcome == "done"
    assert ctx.messages == ["one", "two", "three"]


async def test_a_file_that_is_swapped_while_it_is_fetched_is_not_handed_over(ctx, tmp_path):
    texts = []

    class Swapped(optio_host.LocalHost):
        async def fetch_bytes_from_host(self, absolute_path, **given):
            if absolute_path.endswith("a.txt"):
                swap(Path(absolute_path))
            return await super().fetch_bytes_from_host(absolute_path, **given)

    async def on_deliverable(_, path, text):
        texts.append(text)

    async def body(host, _):
        hand_over(host, "a.txt", b"content")
        append(host, b"DELIVERABLE: deliverables/a.txt\nDONE\n")

    swapped = Swapped(str(tmp_path / "task"))
    with anyio.fail_after(BOUND):
        result = await run_log_protocol_session(
            swapped, ctx, body=body, on_deliverable=on_deliverable
        )
        await swapped.disconnect()
    assert texts == []
    assert "not in deliverables/" in result.deliverables[0].reply


# What was delivered, against the file


@given(st.lists(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=6), max_size=5))
def test_appended_lines_are_delivered_once_and_all(parts):
    ledger, file, delivered = Ledger(), [], []
    for part in parts:
        file += part
        new = ledger.new_in(file)
        delivered += new
        ledger.batch(new)
    assert delivered == file
    assert ledger.generation == 0


@given(
    st.lists(st.sampled_from([b"a", b"b"]), max_size=6),
    st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=6),
)
def test_a_rewritten_file_repeats_no_front_and_loses_no_rest(before, after):
    ledger = Ledger()
    ledger.batch(ledger.new_in(before))
    new = ledger.new_in(after)
    front = after[: len(after) - len(new)]
    assert after == front + new
    assert before[: len(front)] == front or (front and before[-len(front) :] == front)
    assert ledger.batch(new).cursor.lines == len(after)


# The context of optio-core


def test_every_call_that_we_make_exists_there_with_that_signature():
    theirs = optio_core.context.ProcessContext
    for name in (
        "report_progress",
        "should_continue",
        "request_browser_open",
        "need_attention",
        "client_message",
    ):
        ours = inspect.signature(getattr(ProcessContext, name))
        real = inspect.signature(getattr(theirs, name))
        more = list(real.parameters.values())[len(ours.parameters) :]
        assert list(real.parameters)[: len(ours.parameters)] == list(ours.parameters), name
        assert all(one.default is not one.empty for one in more), name
        assert inspect.iscoroutinefunction(getattr(theirs, name)) == inspect.iscoroutinefunction(
            getattr(ProcessContext, name)
        )
    assert isinstance(theirs.cancellation_flag, property)
    assert "file_id" in inspect.signature(theirs.load_blob).parameters
    assert "task" in inspect.signature(theirs.run_child_task).parameters
    task = inspect.signature(optio_core.models.TaskInstance)
    assert list(task.parameters)[:4] == ["execute", "process_id", "name", "description"]


def real_context():
    """The class as it is, without a database behind it."""
    from bson import ObjectId

    oid = ObjectId()
    return optio_core.context.ProcessContext(
        process_oid=oid,
        process_id="p1",
        root_oid=oid,
        depth=0,
        params={"a": 1},
        services={},
        db=None,
        prefix="test",
        cancellation_flag=asyncio.Event(),
        child_counter={"next": 0},
    )


async def test_a_real_process_context_is_accepted_and_cancelled_at_once(sessions):
    ctx = real_context()
    assert HookContext(ctx, None).params == {"a": 1}

    async def body(host, hook):
        ctx.cancellation_flag.set()
        await anyio.sleep_forever()

    result = await sessions.run(ctx, body=body)
    assert result.outcome == "cancelled"


async def test_a_real_process_context_takes_what_it_is_told(sessions):
    ctx = real_context()
    written = []

    async def write_progress(progress, level=None):
        written.append((progress.percent, progress.message))

    ctx._write_progress = write_progress  # noqa: SLF001  # where the database would be

    async def body(host, hook):
        append(host, b"STATUS: 10% one\nSTATUS: 20% two\nDONE\n")

    result = await sessions.run(ctx, body=body)
    await ctx.flush_final_progress()
    assert (result.outcome, dict(result.troubles)) == ("done", {})
    assert written[-1] == (20, "two")
