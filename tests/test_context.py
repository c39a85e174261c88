"""HookContext: the caller's context, with the host within reach."""

from __future__ import annotations

import copy
import pickle
import shutil
import sys
import threading
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

from optio_agents.context import HookContext, HookContextProtocol, HostCommandError, RunResult
from optio_agents.errors import TransferFailed
from optio_agents.hosts.files.download import DownloadFailed, shown_url
from tests.support.sessions.sessions import Context
from tests.support.timeouts import BOUND


@pytest.fixture
async def given(ctx, sessions):
    """A context on a host that is set up: entered by the test."""

    @asynccontextmanager
    async def enter():
        with anyio.fail_after(BOUND):
            async with sessions.host() as host:
                await host.setup_workdir()
                yield host, HookContext(ctx, host)

    return enter


def file_of(host, name):
    return Path(host.workdir, name).read_bytes()


# The wrapped context


def test_what_it_does_not_define_falls_through(ctx):
    hook = HookContext(ctx, SimpleNamespace())
    assert hook.params == {"answer": 42}
    assert hook.process_id == "p1"
    hook.report_progress(5, "x")
    assert ctx.told == [("progress", 5, "x")]
    assert isinstance(hook, HookContextProtocol)
    with pytest.raises(AttributeError):
        _ = hook.no_such_thing


class Plain:
    """A context that can be pickled."""

    def __init__(self):
        self.params = {"a": 1}


def test_copy_pickle_and_repr_do_not_recurse():
    hook = HookContext(Plain(), None)
    assert copy.copy(hook).params == {"a": 1}
    assert copy.deepcopy(hook).params == {"a": 1}
    assert pickle.loads(pickle.dumps(hook)).params == {"a": 1}
    assert repr(hook) == "<HookContext of Plain>"
    empty = object.__new__(HookContext)
    assert repr(empty) == "<HookContext of NoneType>"
    with pytest.raises(AttributeError):
        _ = empty.params


# Commands


async def test_what_a_command_printed_and_how_it_ended(given):
    async with given() as (host, hook):
        assert await hook.run_on_host("echo out; echo err >&2") == "out\n"
        assert await hook.run_on_host("echo out; echo err >&2", capture_stderr=True) == "out\nerr\n"
        result = await hook.run_on_host("echo out; exit 3", check=False)
        assert isinstance(result, RunResult)
        assert (result.stdout, result.exit_code) == ("out\n", 3)
        with pytest.raises(HostCommandError, match="exit 3: bad") as failure:
            await hook.run_on_host("echo bad >&2; exit 3")
        assert failure.value.exit_code == 3
        assert await hook.run_on_host("pwd -P", cwd="/") == "/\n"
        assert await hook.run_on_host("pwd") == host.workdir + "\n"


# Files


async def test_every_kind_of_source_is_copied(given, ctx, tmp_path):
    async def chunks():
        yield b"1"
        yield b"2"

    class Reader:
        left = b"from a blob"

        async def read(self, size=-1):
            data, self.left = self.left, b""
            return data

    @asynccontextmanager
    async def load_blob(blob):
        assert blob == 17
        yield Reader()

    ctx.load_blob = load_blob
    (tmp_path / "source").write_bytes(b"from a file")
    sources = {
        "a": tmp_path / "source",
        "b": str(tmp_path / "source"),
        "c": b"bytes",
        "d": bytearray(b"bytes"),
        "e": chunks(),
        "sub/dir/f": 17,
    }
    async with given() as (host, hook):
        for target, source in sources.items():
            await hook.copy_file(source, target)
        contents = [file_of(host, target) for target in sources]
    assert contents == [b"from a file"] * 2 + [b"bytes"] * 2 + [b"12", b"from a blob"]
    assert ctx.messages[-1] == "Copying f…"
    assert ctx.percents[-1] == 100


async def test_a_relative_target_does_not_leave_over_a_link(given, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    async with given() as (host, hook):
        await host.run_command(f"mkdir inner; ln -s inner ours; ln -s {foreign} out; ln -s no gone")
        await hook.copy_file(b"fine", "ours/a/b.txt")
        assert file_of(host, "inner/a/b.txt") == b"fine"
        for target in "out/x", "ours/../out/x", "out/deeper/x", "inner/../out/a/x":
            with pytest.raises(ValueError, match="leaves the work directory"):
                await hook.copy_file(b"foreign", target)
        with pytest.raises(ValueError, match="over a link"):
            await hook.download_file("http://127.0.0.1:9/", "out/x")
        with pytest.raises(TransferFailed):
            await hook.copy_file(b"foreign", "gone/x")
        await hook.copy_file(b"meant", f"{foreign}/absolute")  # whoever says so means it
    assert [path.name for path in foreign.iterdir()] == ["absolute"]


async def test_what_is_there_already_is_not_copied_again(given, ctx):
    async with given() as (_, hook):
        await hook.copy_file(b"one", "a.txt", skip_if_unchanged=True)
        await hook.copy_file(b"one", "a.txt", skip_if_unchanged=True)
        await hook.copy_file(b"two", "a.txt", skip_if_unchanged=True)
    assert ctx.messages == [
        "Verifying a.txt…",
        "Copying a.txt…",
        "Verifying a.txt…",
        "Already up to date: a.txt",
        "Verifying a.txt…",
        "Copying a.txt…",
    ]


@pytest.mark.parametrize("target", ["../a", "a/../../b", "", ".", "a/.."])
async def test_a_relative_target_may_not_leave_the_work_directory(given, target):
    async with given() as (_, hook):
        with pytest.raises(ValueError, match="leaves the work directory"):
            await hook.copy_file(b"x", target)


async def test_absolute_and_home_targets_may_be_anywhere(given, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    async with given() as (_, hook):
        await hook.copy_file(b"x", str(tmp_path / "absolute"))
        await hook.copy_file(b"y", "~/home")
        assert await hook.read_text_from_host("~/home", silent=True) == "y"
    assert (tmp_path / "absolute").read_bytes() == b"x"
    assert (tmp_path / "home").read_bytes() == b"y"


async def test_reading_says_so_unless_silent(given, ctx):
    async with given() as (_, hook):
        await hook.copy_file(b"\xff\x00", "a.bin")
        ctx.told.clear()
        assert await hook.read_from_host("a.bin", silent=True) == b"\xff\x00"
        assert ctx.told == []
        assert await hook.read_from_host("a.bin") == b"\xff\x00"
        assert ctx.messages == ["Reading a.bin…"]
        with pytest.raises(UnicodeDecodeError):
            await hook.read_text_from_host("a.bin")


async def test_a_context_that_raises_stops_no_copy(given, ctx):
    def broken(*_):
        raise OSError("database away")

    ctx.report_progress = broken
    async with given() as (host, hook):
        await hook.copy_file(b"x", "a")
        assert file_of(host, "a") == b"x"


# Messages


async def test_messages_carry_the_prefix_and_never_raise(ctx):
    sent = []

    async def sender(text):
        if "bad" in text:
            raise ConnectionError
        sent.append(text)

    assert await HookContext(ctx, None).send_to_agent("x") is False
    hook = HookContext(ctx, None, agent_sender=sender)
    assert await hook.send_to_agent("hello") is True
    assert await hook.send_to_agent("bad") is False
    assert sent == ["System: hello"]


# Downloads


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        if self.path.startswith("/file"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        data = b"x" * 500_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: 1000 if self.path.startswith("/cut") else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


TOOLS = ["curl", "wget", "python3"]


@pytest.fixture(params=TOOLS)
def tool(request, tmp_path, monkeypatch):
    """A host that has only this one to fetch with."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in (
        request.param,
        "sh",
        "sed",
        "mkdir",
        "dirname",
        "rm",
        "mv",
        "cat",
        "find",
        "ls",
        "chmod",
        "stat",
        "id",
        "sleep",
        "tr",
        "dd",
        "rmdir",
        "grep",
        "tail",
        "head",
    ):
        found = sys.executable if name == "python3" else shutil.which(name)
        (tools / name).symlink_to(Path(found).resolve())
    monkeypatch.setenv("PATH", str(tools))
    return request.param


async def test_the_host_fetches_with_what_it_has(given, ctx, web, tool):
    async with given() as (host, hook):
        await hook.download_file(f"http://user:pw@{web}/x?token=1", "sub/a.bin")
        assert len(file_of(host, "sub/a.bin")) == 500_000
    assert ctx.messages == ["Downloading a.bin"]
    assert ctx.percents[-1] == 100


@pytest.mark.parametrize("path", ["missing", "cut", "file"])
async def test_a_failed_download_says_what_and_leaves_nothing(given, web, tool, path):
    async with given() as (host, hook):
        with pytest.raises(DownloadFailed) as failure:
            await hook.download_file(f"http://me:secret@{web}/{path}?token=hidden", "a.bin")
        assert (await host.run_command("ls -A")).stdout == ""
    assert f"http://{web}/{path} exited with" in str(failure.value)
    assert failure.value.exit_code not in (0, None)
    assert "secret" not in str(failure.value)
    assert "hidden" not in str(failure.value)
    if path == "missing":
        assert "404" in failure.value.stderr


async def test_what_came_of_it_stays_where_that_is_wanted(given, web):
    async with given() as (host, hook):
        with pytest.raises(DownloadFailed):
            await hook.download_file(f"http://{web}/cut", "a.bin", cleanup_on_fail=False)
        assert len(file_of(host, "a.bin")) == 1000


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a/b", "http://", "x", "http://a/\nb", "javascript:x"]
)
async def test_only_web_addresses_are_fetched(given, url):
    async with given() as (_, hook):
        with pytest.raises(ValueError, match="http"):
            await hook.download_file(url, "a")


async def test_the_address_stands_in_no_command_line(given, web):
    async with given() as (_, hook):
        release, seen = threading.Event(), []

        def look(handler):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.append(path.read_bytes())
                except OSError:
                    continue
            release.set()
            handler.send_error(404)

        original, Handler.do_GET = Handler.do_GET, look
        try:
            with pytest.raises(DownloadFailed):
                await hook.download_file(f"http://{web}/x?token=unmistakable", "a")
        finally:
            Handler.do_GET = original
        assert release.is_set()
    assert not any(b"unmistakable" in line for line in seen)


async def test_a_cancelled_download_leaves_no_program_and_no_file(given, web):
    async with given() as (host, hook):
        asked, release = threading.Event(), threading.Event()

        def hang(handler):
            asked.set()
            release.wait(15)

        original, Handler.do_GET = Handler.do_GET, hang
        try:
            async with anyio.create_task_group() as tasks:

                async def fetch():
                    await hook.download_file(f"http://{web}/x", "a")

                tasks.start_soon(fetch)
                await anyio.to_thread.run_sync(asked.wait)
                tasks.cancel_scope.cancel()
        finally:
            Handler.do_GET = original
            release.set()
        assert (await host.run_command("ls -A")).stdout == ""


async def test_a_context_that_runs_child_tasks_gets_one(given, ctx, web):
    tasks = []

    async def run_child_task(task, **_):
        tasks.append((task.process_id, task.name, task.description))
        try:
            await task.execute(child)
        except Exception as error:
            raise RuntimeError("child failed") from error

    child = Context()
    ctx.run_child_task = run_child_task
    async with given() as (_, hook):
        await hook.download_file(f"http://{web}/x", "a.bin", description="the data")
        with pytest.raises(DownloadFailed, match="exited with"):
            await hook.download_file(f"http://{web}/missing", "b.bin")
    process_id, name, description = tasks[0]
    assert process_id.startswith("p1-download-")
    assert (name, description) == ("download a.bin", "the data")
    assert child.messages == ["Downloading a.bin", "Downloading b.bin"]
    assert ctx.told == []


def test_an_address_is_shown_without_user_and_query():
    assert shown_url("https://me:pw@a.example:8080/x/y?z#f") == "https://a.example:8080/x/y"
