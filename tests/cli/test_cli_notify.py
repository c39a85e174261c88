"""Telling a person who is away by a URL, which is a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.support.terminal import Desk

STEPS = ("--", "agent", "STATUS: 1%", "ATTENTION: look", "DONE: all")


@contextmanager
def service(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A service on loopback: its URL, and what it was told."""
    told: list[dict[str, Any]] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.append({"path": self.path, **said})
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Taking)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"json://127.0.0.1:{server.server_port}/hush", told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def settings(desk: Desk, text: str) -> None:
    place = desk.home / ".config/optio-agents"
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.toml").write_text(text)


def test_a_url_of_the_environment_is_told_what_a_person_should_know(desk: Desk) -> None:
    with service() as (url, told):
        ran = desk.run("run", *STEPS, env={"OPTIO_AGENTS_NOTIFY": url})
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [(one["path"], one["message"]) for one in told] == [
        ("/hush", "look"),
        ("/hush", "done: all"),
    ]
    assert told[0]["title"].endswith(": attention")


def test_a_target_of_the_settings_is_named_in_the_command_line(desk: Desk) -> None:
    with service() as (url, told):
        settings(desk, f'[targets]\nphone = "{url}"\ndesk = "cat >>told"\n')
        assert desk.run("run", "--notify", "phone", *STEPS).returncode == 0
        assert desk.run("run", "--notify", "desk", *STEPS).returncode == 0
        log = desk.home / "optio.log"
        log.write_text("ERROR: it broke\n")
        assert desk.run("watch", str(log), "--notify", "phone").returncode == 1
    assert [one["message"] for one in told] == ["look", "done: all", "it broke"]
    assert len((desk.home / "told").read_text().splitlines()) == 2


def test_what_a_phone_is_told_links_to_the_page_of_the_settings(desk: Desk) -> None:
    with service() as (url, told):
        settings(desk, '[page]\nurl = "https://box.example"\n')
        assert desk.run("run", *STEPS, env={"OPTIO_AGENTS_NOTIFY": url}).returncode == 0
    session = told[0]["title"].split(": ")[1]
    assert told[0]["message"] == f"look\nhttps://box.example/#/sessions/{session}"


@pytest.mark.parametrize("verb", [("run", *STEPS), ("attach",), ("watch", "optio.log")])
def test_a_url_in_the_command_line_is_refused(desk: Desk, verb: tuple[str, ...]) -> None:
    ran = desk.run(verb[0], "--notify", "json://127.0.0.1/hush", *verb[1:])
    assert ran.returncode == 2
    assert "everybody here can read a command line" in ran.stderr
    assert "hush" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("url", "why"),
    [(None, "did not take it"), ("hush://127.0.0.1/hush", "has a URL that is none of apprise's")],
)
def test_what_is_wrong_is_said_and_the_url_is_nowhere(
    desk: Desk, url: str | None, why: str
) -> None:
    with service(500) as (refusing, _):
        ran = desk.run("run", "--json", *STEPS, env={"OPTIO_AGENTS_NOTIFY": url or refusing})
    assert ran.returncode == 0
    assert f"the service to notify {why}" in " ".join(ran.stderr.split())
    assert "hush" not in ran.stdout + ran.stderr
    kept = [path.read_bytes() for path in desk.home.rglob("*") if path.is_file()]
    assert not [text for text in kept if b"hush" in text]


def test_without_its_extra_it_says_how_to_get_it(desk: Desk) -> None:
    blocked = desk.home / "blocked"
    blocked.mkdir()
    (blocked / "apprise.py").write_text("raise ImportError('apprise')\n")
    env = {"OPTIO_AGENTS_NOTIFY": "json://127.0.0.1/x", "PYTHONPATH": str(blocked)}
    ran = desk.run("run", *STEPS, env=env)
    assert ran.returncode == 0
    assert "pip install '.[notify]'" in ran.stderr
    assert "./NAME.whl[notify]" in ran.stderr
