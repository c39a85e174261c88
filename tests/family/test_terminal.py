"""A person's words in an agent's terminal, and the terminal's last lines in its log."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import pytest

from optio_agents import input_listener, pane_surfacing
from optio_agents.hosts.host import LocalHost
from optio_agents.protocol import UnknownLine, parse_log_line
from optio_agents.tmux_input import send_key_to_tmux, send_text_to_tmux
from tests.support.components import unavailable
from tests.support.hosts.agent_ground import until
from tests.support.timeouts import BOUND


@pytest.fixture
def terminal(tmp_path):
    """A program that notes what it is typed, in a real tmux: (host, tmux, socket, its notes)."""
    tmux = shutil.which("tmux")
    if tmux is None:
        unavailable("tmux is not installed; ./tests/run installs it")

    @asynccontextmanager
    async def enter(shows="cat > notes"):
        socket = f"{tmp_path}/s"
        async with LocalHost(str(tmp_path / "task")) as host:
            await host.setup_workdir()
            start = [tmux, "-S", socket, "-f", "/dev/null", "new-session", "-d", "-s", "it is"]
            await anyio.run_process([*start, "-c", host.workdir, "sh", "-c", shows])
            try:
                with anyio.fail_after(BOUND):
                    yield host, tmux, socket, Path(host.workdir, "notes")
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.run_process([tmux, "-S", socket, "kill-server"], check=False)

    return enter


def read(path: Path) -> str:
    return path.read_bytes().decode() if path.exists() else ""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def noted(notes: Path, what: str) -> str:
    await until(lambda: what in read(notes))
    return read(notes)


async def test_a_text_arrives_as_it_is_and_is_entered(terminal):
    async with terminal() as (host, tmux, socket, notes):
        text = 'it\'s $HOME; `id` "quoted" -- \\ ünï'
        await send_text_to_tmux(host, tmux, socket, "it is", text, submit_settle="0")
        assert await noted(notes, "\n") == f"{text}\n"


async def test_lines_are_one_paste_and_control_characters_press_no_keys(terminal):
    shows = "printf '\\033[?2004h'; stty raw -echo; touch ready; cat > notes"
    async with terminal(shows) as (host, tmux, socket, notes):
        await until(lambda: (notes.parent / "ready").exists())
        text = "one\ntwo\x1b[201~\x03three"
        await send_text_to_tmux(host, tmux, socket, "it is", text, submit_settle="0")
        typed = (await noted(notes, "three\x1b[201~\r")).encode()
    assert typed == b"\x1b[200~one\rtwo[201~three\x1b[201~\r"


async def test_a_key_is_pressed_and_no_other_word_is_taken_for_one(terminal):
    async with terminal("stty raw -echo; touch ready; cat > notes") as (host, tmux, socket, notes):
        await until(lambda: (notes.parent / "ready").exists())
        await send_key_to_tmux(host, tmux, socket, "it is", "Up")
        assert await noted(notes, "A") in {"\x1b[A", "\x1bOA"}
        with pytest.raises(ValueError, match="none of the keys"):
            await send_key_to_tmux(host, tmux, socket, "it is", "C-c; rm")


async def test_a_failure_does_not_repeat_what_was_typed(terminal):
    async with terminal() as (host, tmux, socket, _):
        with pytest.raises(RuntimeError, match="could not be typed") as failed:
            await send_text_to_tmux(host, tmux, f"{socket}-no", "it is", "hunter2")
        assert "hunter2" not in str(failed.value)


async def test_the_last_lines_of_a_terminal_reach_the_log_and_end_nothing(terminal, tmp_path):
    pane = pane_surfacing.pane_log_path(
        f"{tmp_path}/task/workdir", "it's 5%H #S", default_root=f"{tmp_path}/p"
    )
    shows = "read x; printf '\\033[31mNo login\\033[0m\\nDONE\\nERROR: x\\n'; read x"
    async with terminal(shows) as (host, tmux, socket, _):
        made = await host.run_command(pane_surfacing.mkdir_pane_dir_cmd(pane))
        assert made.exit_code == 0, made.stderr
        await host.run_command(pane_surfacing.pipe_pane_cmd(tmux, socket, "it is", pane))
        await send_key_to_tmux(host, tmux, socket, "it is", "Enter")
        await noted(Path(pane), "ERROR")
        log = Path(host.workdir, "an optio.log")
        snippet = pane_surfacing.error_tail_snippet(str(log), pane, "it's", lines=9)
        await host.run_command(f"{snippet}true")
    assert [mode(path) for path in (Path(pane), Path(pane).parent)] == [0o600, 0o700]
    lines = read(log).splitlines()
    assert [line for line in lines if line.endswith("| No login")]
    assert "it's" in lines[0]
    assert all(line.isprintable() for line in lines)
    assert {type(parse_log_line(line)) for line in lines} == {UnknownLine}


async def test_a_directory_that_somebody_else_has_made_is_not_written_to(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "panes").symlink_to(tmp_path / "theirs")
    pane = pane_surfacing.pane_log_path("/a/task/workdir", "x", default_root=f"{tmp_path}/panes")
    done = await anyio.run_process(
        ["sh", "-c", pane_surfacing.mkdir_pane_dir_cmd(pane)], check=False
    )
    assert done.returncode != 0


def test_tasks_of_one_name_have_terminals_of_their_own(monkeypatch):
    monkeypatch.setenv("PANES", "/elsewhere")
    paths = {pane_surfacing.pane_log_path(f"/{place}/task/workdir", "x") for place in "ab"}
    assert len(paths) == 2
    assert pane_surfacing.pane_log_path("/a/t/w", "x", root_env="PANES").startswith("/elsewhere/t-")


# Over HTTP


@asynccontextmanager
async def listening(on_input, on_key=None):
    runner, port = await input_listener.start_input_listener(
        bind_iface="127.0.0.1", on_input=on_input, on_key=on_key
    )

    async def post(body, **headers):
        url = f"http://127.0.0.1:{port}/input"
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            client.post(
                url, **({"data": body} if isinstance(body, str) else {"json": body})
            ) as reply,
        ):
            return reply.status, await reply.json()

    try:
        yield post
    finally:
        await runner.cleanup()


async def test_what_is_posted_is_typed():
    typed, pressed = [], []

    async def on_input(text):
        typed.append(text)

    async def on_key(key):
        pressed.append(key)

    async with listening(on_input, on_key) as post:
        assert await post({"text": "hello"}) == (200, {"ok": True})
        assert await post({"key": "Up"}) == (200, {"ok": True})
        assert (await post({"key": "rm -rf"}))[1]["reason"] == "bad-key"
        assert (await post({"text": ""}))[0] == 400
        assert (await post("no json"))[1]["reason"] == "bad-json"
        assert (await post([]))[0] == 400
        assert (await post({"text": "x"}, **{"Sec-Fetch-Site": "cross-site"}))[0] == 403
    assert (typed, pressed) == (["hello"], ["Up"])


async def test_what_does_not_arrive_is_an_answer_and_in_no_log(caplog):
    async def on_input(text):
        raise RuntimeError(f"tmux: {text}")

    async with listening(on_input) as post:
        assert await post({"text": "hunter2"}) == (502, {"ok": False, "reason": "send-failed"})
    assert "hunter2" not in caplog.text


async def test_two_texts_are_never_typed_at_once():
    most = active = 0

    async def type_it(text):
        nonlocal most, active
        active += 1
        most = max(most, active)
        await asyncio.sleep(0)
        active -= 1

    alone = input_listener.serialized(asyncio.Lock(), type_it)
    await asyncio.gather(*(alone(str(number)) for number in range(5)))
    assert most == 1


def test_nobody_needs_the_server_who_does_not_start_it():
    code = "import optio_agents.input_listener, sys; print('aiohttp' in sys.modules)"
    done = subprocess.run(
        [os.sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout == "False\n"
