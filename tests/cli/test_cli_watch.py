"""Following a log from the command, and handing what it says to a program of the user's."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.cli.screen import notify as tell
from optio_agents.cli.screen.notify import Program, notifier
from tests.support.proc import processes, wait_until
from tests.support.terminal import Desk
from tests.support.timeouts import BOUND

LOG = """\
STATUS: 40% parser works
npm warn \x1b[31mdeprecated
DELIVERABLE: deliverables/a.txt
ATTENTION: look
BROWSER: "https://example.org/x"
CLIENT_MESSAGE: panel {"open": true}
CALLER_MESSAGE: ask {"n": 1}
"""


def test_every_line_is_shown_and_done_ends_it(desk: Desk) -> None:
    (desk.home / "optio.log").write_text(f"{LOG}DONE: all\nSTATUS: later\n")
    ran = desk.run("watch", "optio.log")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [line[9:] for line in ran.stdout.splitlines()] == [
        "status 40% parser works",
        r"narration npm warn \x1b[31mdeprecated",
        "deliverable deliverables/a.txt",
        "attention look",
        "browser https://example.org/x",
        'client_message panel {"open": true}',
        'caller_message ask {"n": 1}',
        "done all",
    ]


def test_a_directory_is_watched_and_what_is_nearly_an_entry_is_said(desk: Desk) -> None:
    folder = desk.home / "work" / "deliverables"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("hello")
    (desk.home / "secret").write_text("no")
    (folder / os.fsdecode(b"caf\xe9 ")).write_text("odd")
    names = b"deliverables/a.txt", b"../secret", b"deliverables/caf\xe9 "
    files = b"".join(b"DELIVERABLE: %s\n" % name for name in names)
    log = b"Done: nearly\n%sATTENTION: look\nDONE\n" % files
    (folder.parent / "optio.log").write_bytes(log)
    ran = desk.run("watch", "work", "--save", "kept", "--notify", "cat >>told")
    assert ran.returncode == 0, ran.stderr
    assert "'Done: nearly' is nearly an entry: begin the line with DONE" in ran.stderr
    assert (desk.home / "kept/a.txt").read_text() == "hello"
    assert (desk.home / "kept/caf%E9 ").read_text() == "odd"
    assert "../secret was not saved" in ran.stderr
    told = [json.loads(line)["kind"] for line in (desk.home / "told").read_text().splitlines()]
    assert told == ["attention", "done"]


async def test_what_is_waited_for_is_said(desk: Desk) -> None:
    argv = ["optio-agents", "watch", "work/optio.log"]
    (desk.home / "work").mkdir()
    async with await anyio.open_process(argv, env=desk.env, cwd=desk.home) as watching:
        assert watching.stderr
        with anyio.fail_after(BOUND):
            assert b"waiting for " in await watching.stderr.receive()
            (desk.home / "work/optio.log").write_text("DONE\n")
            assert await watching.wait() == 0


def test_json_gives_one_event_a_line_with_its_place(desk: Desk) -> None:
    (desk.home / "optio.log").write_text(f"{LOG}ERROR: no\n")
    ran = desk.run("watch", "optio.log", "--json")
    assert ran.returncode == 1
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.stdout.isascii()
    line = {"v", "kind", "at", "file", "generation", "offset"}
    assert [one.keys() - line for one in told] == [
        {"percent", "text"},
        {"text"},
        {"path"},
        {"text"},
        {"url"},
        {"keyword", "data"},
        {"keyword", "data"},
        {"text"},
    ]
    assert (told[0]["offset"], told[-1]["text"]) == (25, "no")
    assert told[5]["data"] == {"open": True}


def test_a_program_gets_each_event_on_its_input_one_after_the_other(desk: Desk) -> None:
    (desk.home / "optio.log").write_text("STATUS: $(touch oops) `id`\nDONE\n")
    ran = desk.run("watch", "optio.log", "--exec", "sleep 0.1; cat >>told; date +%s%N >>times")
    assert ran.returncode == 0
    told = [json.loads(line) for line in (desk.home / "told").read_text().splitlines()]
    assert [one["kind"] for one in told] == ["status", "done"]
    assert told[0]["text"] == "$(touch oops) `id`"
    first, second = map(int, (desk.home / "times").read_text().split())
    assert second - first >= 100_000_000
    assert not (desk.home / "oops").exists()


async def test_a_log_that_comes_later_and_is_written_slowly_is_waited_for(desk: Desk) -> None:
    argv = ["optio-agents", "watch", "later/optio.log", "--keep"]
    log = desk.home / "later" / "optio.log"
    async with await anyio.open_process(argv, env=desk.env, cwd=desk.home) as watching:
        assert watching.stdout
        with anyio.fail_after(BOUND):
            log.parent.mkdir()
            log.write_text("DONE: not yet\nSTATUS: half a")
            assert b"done not yet" in await watching.stdout.receive()
            with log.open("a") as file:
                file.write(" line\n")
            assert b"status half a line" in await watching.stdout.receive()
            watching.send_signal(2)
            assert await watching.wait() == 130


# The programs that are told


@pytest.fixture
def said() -> list[str]:
    return []


async def test_a_program_that_takes_too_long_is_killed_with_all_it_started(
    said: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tell, "PATIENCE", 0.3)
    nap = tmp_path / f"nap-{secrets.token_hex(4)}"  # of whose name the kernel keeps 15 bytes
    nap.write_text("#!/bin/sh\nwhile :; do sleep 0.1; done\n")
    nap.chmod(0o755)
    with anyio.fail_after(BOUND):
        await Program(f"{nap} & {nap}", said.append).run({"v": 1})
    assert len(said) == 1
    assert "took longer than" in said[0]
    wait_until(lambda: not [one for one in processes() if one.name == nap.name])


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("exit 3", ["exit 3: exited with 3"]),
        ("exec 0<&-; exit 0", []),  # reads nothing
        ("cat >/dev/null", []),
    ],
)
async def test_what_a_program_did_wrong_is_said_and_stops_nothing(
    command: str, told: list[str], said: list[str]
) -> None:
    await Program(command, said.append).run({"text": "x" * 1_000_000})
    assert said == told


async def test_a_program_that_cannot_be_started_is_said(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(anyio, "open_process", refused)
    await Program("true", said.append).run({})
    assert said == ["true: cannot be started: [Errno 11] Resource temporarily unavailable"]


async def test_notifications_wait_their_turn_and_whoever_notifies_does_not(
    said: list[str], tmp_path: Path
) -> None:
    program = Program(f"cat >>{tmp_path}/told", said.append)
    records: list[Mapping[str, Any]] = [{"n": number} for number in range(5)]
    async with notifier(program) as notify:
        for record in records:
            notify.queue(record)
        assert not (tmp_path / "told").exists()
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert told == records


async def test_what_finds_no_room_is_counted_and_leaving_is_bounded(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tell, "_LEAVING", 0.2)
    with anyio.fail_after(BOUND):
        async with notifier(Program("sleep 60", said.append)) as notify:
            for number in range(1000):
                notify.queue({"n": number})
    monkeypatch.setattr(tell, "_WAITING", 1)
    async with notifier(Program("true", said.append)) as notify:
        for number in range(10):
            notify.queue({"n": number})
    assert said == ["9 notifications were skipped: the program is slow"]
