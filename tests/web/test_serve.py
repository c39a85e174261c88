"""The verb: it prints a link, serves until it is told to end, and says what is wrong."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.cli.screen.notify import Notifier, Program
from tests.support.terminal import Desk
from tests.support.timeouts import BOUND


@contextmanager
def serving(desk: Desk, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with desk.running("serve", "--listen", "127.0.0.1:0", *words) as (child, lines):
        assert "lets in one browser" in lines.readline()
        try:
            yield child, lines.readline().strip()
        finally:
            child.terminate()
            child.wait(BOUND)


def test_it_prints_a_link_and_serves_until_it_is_told_to_end(desk: Desk) -> None:
    with serving(desk) as (child, link):
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#/enter/[\w-]{32}", link)
        assert found, link
        with urllib.request.urlopen(found[1], timeout=BOUND) as page:
            assert b'<script type="module" src="/app.js">' in page.read()
        child.send_signal(signal.SIGINT)
        assert child.wait(BOUND) == 0


def test_a_program_reads_events_with_the_token_of_the_file(desk: Desk) -> None:
    """As the guide has it."""
    desk.run("run", "--name", "mine", "--", "agent", "STATUS: 50% half", "DONE: all")
    token = ".config/optio-agents/token"  # in a directory that is not there yet
    with serving(desk, "--token-file", token) as (_, link):
        script = (
            f"""printf 'Authorization: Bearer %s' "$(cat {token})" |"""
            f" curl -sN -H @- {link.partition('/#')[0]}/api/sessions/mine/events"
        )
        ran = subprocess.run(
            ["sh", "-c", script], cwd=desk.home, capture_output=True, text=True, timeout=BOUND
        )
    numbers = [int(n) for n in re.findall(r"^id: (\d+)$", ran.stdout, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert '"words":"50% half"' in ran.stdout
    assert ran.stdout.endswith("event: over\ndata: {}\n\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--listen", "8787"), "say ADDRESS:PORT"),
        (("--listen", "127.0.0.1:99999"), "say ADDRESS:PORT"),
        (("--url", "box.example"), "with http:// or https://"),
        (("--token-file", "open"), "others can read"),
    ],
)
def test_what_cannot_be_is_told(desk: Desk, words: tuple[str, ...], says: str) -> None:
    (desk.home / "open").write_text("x" * 40)
    (desk.home / "open").chmod(0o644)
    ran = desk.run("serve", *words)
    assert (ran.returncode, says in ran.stderr) == (2, True)


def test_an_agent_serves_no_page(desk: Desk) -> None:
    ran = desk.run("serve", env={"OPTIO_SESSION": "x"})
    assert (ran.returncode, "does not run inside one" in ran.stderr) == (2, True)


def test_a_missing_extra_is_named(desk: Desk, tmp_path: Path) -> None:
    code = "import sys; sys.modules['starlette'] = None; sys.modules['uvicorn'] = None;"
    code += "from optio_agents.cli import main; sys.argv[1:] = ['serve']; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=desk.env, cwd=tmp_path, capture_output=True, text=True
    )
    assert (ran.returncode, "pip install '.[web]'" in ran.stderr) == (2, True)


async def test_a_notification_leads_to_what_it_is_about(desk: Desk) -> None:
    page = {"OPTIO_AGENTS_PAGE": "https://box.example/"}
    await desk.runs("run", "--notify", "cat >>notes", "--", "agent", "DONE", env=page)
    note = json.loads((desk.home / "notes").read_text())
    assert note["page"] == f"https://box.example/#/sessions/{note['session']}"
    send, queued = anyio.create_memory_object_stream[Any](1)
    with send, queued:
        asked = {"kind": "permission", "session": "s1", "request": "a/b"}
        Notifier(Program("", print), send, "https://box.example").queue(asked)
        record = queued.receive_nowait()
    assert record["page"] == "https://box.example/#/sessions/s1/requests/a%2Fb"
