"""The small parts of a session: names made safe, hints, shared timers, foreign code."""

from __future__ import annotations

import asyncio
import io
import logging

import anyio
import pytest
from hypothesis import given, strategies as st

from optio_agents.concurrency import QUICK, OnDemand, SharedTimer, every
from optio_agents.hosts.files.atomic import safe_name, safe_parts, save
from optio_agents.hosts.machine import LinkStatus
from optio_agents.protocol.parser import near_miss
from optio_agents.session.foreign_code import ForeignCode
from optio_agents.session.shared import Workplace
from tests.support.sessions.sessions import Context, write
from tests.support.timeouts import BOUND

# Names


@given(st.text(min_size=1).filter(lambda name: "/" not in name and name not in (".", "..")))
def test_a_safe_name_is_printable_short_and_stays_where_it_is(name):
    safe = safe_name(name)
    assert safe.isprintable()
    assert 0 < len(safe.encode()) <= 255
    assert "/" not in safe
    assert not safe.startswith("-")
    assert safe.casefold().rstrip(". ") != ".git"


@pytest.mark.parametrize("name", ["report.md", "Ärger 10:30.txt", ".github", "a.tar.gz", "x" * 200])
def test_a_usual_name_stays_as_it_is(name):
    assert safe_name(name) == name


def test_long_names_that_differ_stay_different():
    assert safe_name("x" * 300 + ".pdf") != safe_name("x" * 301 + ".pdf")
    assert safe_name("x" * 300 + ".pdf").endswith(".pdf")


@pytest.mark.parametrize("path", ["/etc/passwd", "../a", "a/../../b", "", "."])
def test_a_path_that_leads_elsewhere_is_refused(path):
    with pytest.raises(ValueError, match="below a directory"):
        safe_parts(path)


def test_saving_replaces_whole_files_and_leaves_nothing_behind(tmp_path):
    save(io.BytesIO(b"old"), tmp_path, "a/b.txt")
    assert save(io.BytesIO(b"new"), tmp_path, "a/b.txt").read_bytes() == b"new"

    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        save(Broken(), tmp_path, "a/b.txt")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
    assert (tmp_path / "a/b.txt").read_bytes() == b"new"


# Hints


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("**DONE**", "DONE"),
        ("Done.", "DONE"),
        ("- STATUS: x", "STATUS"),
        ("`DELIVERABLE: a`", "DELIVERABLE"),
        ("1. Error: bad", "ERROR"),
        ("> **Status:** 50%", "STATUS"),
        ("## DONE: yes", "DONE"),
        ("done with the first part", None),
        ("the status: unknown", None),
        ("Status quo", None),
        ("attention", None),
        ("", None),
        ("x" * 1000, None),
    ],
)
def test_a_near_miss_is_seen(line, word):
    assert near_miss(line) == word


async def test_each_hint_is_given_once(sessions):
    ctx, sent = Context(), []

    async def agent_sender(text):
        sent.append(text)
        if "narration" in text:
            heard.set()
        if "newline" in text:
            told.set()

    heard, told = anyio.Event(), anyio.Event()

    async def body(host, _):
        write(host, "**DONE**", "Done.", "- STATUS: x")
        await heard.wait()
        write(host, "STATUS: no newline", end="")
        await told.wait()
        write(host, "", "DONE")

    result = await sessions.run(ctx, body=body, agent_sender=agent_sender)
    assert result.outcome == "done"
    assert len(sent) == 2
    assert all(text.startswith("System: ") for text in sent)
    assert "'**DONE**'" in sent[0]


async def test_a_log_in_a_directory_below_is_pointed_out(sessions, monkeypatch):
    monkeypatch.setattr("optio_agents.session.watch._OTHER_LOG", (0.3,))
    ctx, sent = Context(), []

    async def agent_sender(text):
        sent.append(text)
        told.set()

    told = anyio.Event()

    async def body(host, _):
        await host.run_command("mkdir -p sub/dir && echo STATUS: x >sub/dir/optio.log")
        await told.wait()
        write(host, "DONE")

    await sessions.run(ctx, body=body, agent_sender=agent_sender)
    assert "/workdir/sub/dir/optio.log, which nobody reads" in sent[0]


# Timers


async def test_all_sessions_share_one_timer(monkeypatch):
    calls, all_called, armed = [], anyio.Event(), []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def count(delay, callback, *args, **more):
        armed.append(callback)
        return call_later(delay, callback, *args, **more)

    def call(seconds):
        calls.append(seconds)
        if len(calls) == 100:
            all_called.set()

    monkeypatch.setattr(loop, "call_later", count)
    stops = [every(QUICK, call) for _ in range(100)]
    assert len(armed) == 1
    with anyio.fail_after(BOUND):
        await all_called.wait()
    for stop in stops:
        stop()
    count = len(calls)
    await anyio.sleep(2 * QUICK)
    assert len(calls) == count


async def test_time_in_which_we_did_not_run_is_not_counted():
    class Clock:
        now = 0.0

        def time(self):
            return self.now

        def call_later(self, delay, tick):
            self.tick = tick
            return asyncio.get_running_loop().call_later(1000, tick)

    clock, ticks = Clock(), []
    stop = SharedTimer(clock, QUICK).add(ticks.append)
    for now in (0.2, 0.4, 60.4, 60.6):  # stopped for a minute
        clock.now = now
        clock.tick()
    stop()
    assert [round(tick, 3) for tick in ticks] == [0.2, 0.2, QUICK, 0.2]


# Foreign code


async def test_code_that_cancels_itself_has_raised():
    async def odd():
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="cancelled itself"):
        await ForeignCode(LinkStatus()).call("odd", odd, seconds=5)


async def test_code_that_stays_is_named_and_its_end_is_logged(caplog):
    foreign, release = ForeignCode(LinkStatus()), asyncio.Event()

    async def deaf():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    foreign.start("a deaf one", deaf)
    await asyncio.sleep(0)
    await foreign.end(seconds=0.05)
    assert foreign.abandoned == ["a deaf one"]
    with caplog.at_level(logging.INFO):
        release.set()
        await asyncio.sleep(0.01)
    assert "a deaf one has ended after all" in caplog.text


async def test_work_that_raises_is_told_and_not_waited_for_in_vain():
    async def broken():
        raise OSError("disk")

    failed = []
    async with anyio.create_task_group() as tasks:
        work = OnDemand(tasks, broken, failed=failed.append)
        work.wake()
        await anyio.wait_all_tasks_blocked()
        assert isinstance(failed[0], OSError)
        with anyio.move_on_after(0.01) as waiting:
            await work.idle()
        assert waiting.cancelled_caught  # not idle: what was asked for is not done


# Paths


@pytest.mark.parametrize(
    ("announced", "real", "relative"),
    [
        ("deliverables/a.txt", None, "a.txt"),
        ("./deliverables/x/../a.txt", None, "a.txt"),
        ("/way/deliverables/a.txt", None, "a.txt"),
        ("/real/deliverables/a.txt", None, "a.txt"),
        ("a.txt", None, "a.txt"),
        ("deliverables", None, "deliverables"),
        ("deliverables/../../b", None, "deliverables/../../b"),
        ("/third/a.txt", "/real/deliverables/sub/a.txt", "sub/a.txt"),
    ],
)
def test_a_path_is_called_as_people_call_it(announced, real, relative):
    apart = Workplace("/other", "/way", "/real")
    assert announced == "a.txt" or apart.relative(announced, real=real) == relative
    assert Workplace("/way", "/way", "/real").relative(announced, real=real) == relative
