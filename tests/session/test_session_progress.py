"""What a context is told: in order, bounded, apart from reading, whatever it does."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from pathlib import Path

import anyio
import pytest

from optio_agents.errors import AgentReportedError
from optio_agents.session.foreign_code import LoopCall
from optio_agents.session.options import Options
from optio_agents.session.outcome import Decision
from optio_agents.session.progress import WAITING, Progress
from optio_agents.session.shared import Shared
from optio_agents.store.memory import MemoryJournal
from optio_agents.store.records import Entry
from optio_agents.testing.memory import MemoryHost
from tests.support.hosts.agent_ground import started
from tests.support.sessions.sessions import Context, hand_over, says, says_and_stays, write
from tests.support.timeouts import BOUND


class Desk:
    """A queue to a context, its workers, and the entries that had their turn."""

    def __init__(self, ctx):
        self.ctx, self.done = ctx, []

    async def __aenter__(self):
        self._group = anyio.create_task_group()
        workers = await self._group.__aenter__()
        self.decision = Decision()
        host, journal = MemoryHost(), MemoryJournal()
        self.shared = Shared(Options(), host, journal, self.decision, workers)
        self.shared.mark_done = self.done.append
        self.progress = Progress(self.ctx, self.shared)
        return self.progress, self

    async def __aexit__(self, *error):
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(*error)


async def test_percents_with_messages_come_as_they_are_up_to_ten_a_second(ctx):
    async with Desk(ctx) as (progress, _):
        for n in range(10):
            progress.report(n, f"step {n}")
        await progress.finish(5)
    assert ctx.told == [("progress", n, f"step {n}") for n in range(10)]


async def test_above_ten_a_second_the_latest_percent_wins_and_all_messages_stay(ctx):
    async with Desk(ctx) as (progress, _):
        for n in range(100):
            progress.report(n, f"step {n}")
        await ctx.until(lambda: len(ctx.messages) == 100)
        assert len(ctx.percents) == 10
        await ctx.until(lambda: 99 in ctx.percents)
    assert ctx.messages == [f"step {n}" for n in range(100)]
    assert ctx.percents == [*range(10), 99]
    assert ctx.told[-1] == ("progress", 99, None)


async def test_bare_percents_do_not_pile_up(ctx):
    async with Desk(ctx) as (progress, _):
        for n in range(5000):
            progress.report(n / 50, None)
        progress.report(None, "")  # `STATUS:` alone takes nothing back
        await progress.finish(5)
    assert ctx.percents == [4999 / 50]
    assert progress.skipped == 0


async def test_a_thousand_may_wait_then_one_note_stands_for_the_rest(ctx):
    entries = [Entry("optio.log", 0, n, "x") for n in range(WAITING + 50)]
    async with Desk(ctx) as (progress, desk):
        for n, entry in enumerate(entries):
            progress.report(n, f"{n}", entry)
        await progress.finish(5)
    assert ctx.messages == [*map(str, range(WAITING)), "50 skipped"]
    assert ctx.percents[-1] == WAITING + 49
    assert progress.skipped == 50
    assert sorted(desk.done, key=lambda entry: entry.offset) == entries


async def test_calls_and_reports_keep_their_order(ctx):
    async with Desk(ctx) as (progress, _):
        progress.report(None, "one")
        progress.call("need_attention", "two")
        progress.report(None, "three")
        progress.call("client_message", "k", {"n": 4})
        await progress.finish(5)
    assert [told[0] for told in ctx.told] == ["progress", "attention", "progress", "client"]


async def test_what_raises_is_counted_and_the_rest_goes_on(ctx):
    class Broken(Context):
        def report_progress(self, percent, message=None):
            raise OSError("database away")

    broken = Broken()
    async with Desk(broken) as (progress, desk):
        for n in range(3):
            progress.report(None, f"{n}")
        progress.call("need_attention", "still there")
        await progress.finish(5)
    assert desk.shared.troubles == {"report_progress": 3}
    assert broken.told == [("attention", "still there")]
    assert desk.decision.ending is None


async def test_a_message_of_any_size_and_content_is_short_and_visible(ctx):
    async with Desk(ctx) as (progress, _):
        progress.report(None, "\x1b[31m" + "x" * 50_000_000)
        await progress.finish(5)
    assert len(ctx.messages[0]) == 500
    assert ctx.messages[0].startswith("\\x1b[31m")


async def test_narration_that_nobody_will_see_is_not_made_visible(ctx, monkeypatch):
    """That is most of what it costs, and most of a flood is never shown."""
    made_visible = []

    def count(text):
        made_visible.append(text)
        return text

    monkeypatch.setattr("optio_agents.session.progress.visible", count)
    async with Desk(ctx) as (progress, _):
        for n in range(5 * WAITING):
            progress.report(None, f"{n}")
        await progress.finish(60)
    assert progress.skipped == 4 * WAITING
    assert len(made_visible) == WAITING


# Plain functions, on the loop


async def test_a_plain_function_is_called_where_its_author_expects_the_loop():
    where = []

    def tell(n):
        asyncio.get_running_loop()
        where.append(threading.current_thread())
        time.sleep(0.03)
        return n

    call = LoopCall("tell", tell)
    assert [call(n) for n in range(3)] == [0, 1, 2]
    assert set(where) == {threading.main_thread()}


async def test_a_function_that_blocks_is_said_to_once(caplog):
    call = LoopCall("report_progress", lambda: time.sleep(0.03))
    for _ in range(3):
        call()
    assert caplog.text.count("report_progress of the context blocks the event loop") == 1


async def test_behind_a_call_that_blocks_the_loop_belongs_to_others_for_as_long(ctx):
    class Blocking(Context):
        def report_progress(self, percent, message=None):
            time.sleep(0.1)
            turns.append(0)

    async def others():
        while True:
            await asyncio.sleep(0)
            if turns:
                turns[-1] += 1

    turns = []
    async with Desk(Blocking()) as (progress, desk):
        desk.shared.workers.start_soon(others)
        for n in range(5):
            progress.report(None, f"{n}")
        await progress.finish(30)
    assert max(turns[:4]) > 100  # one each, where a call follows the other


async def test_a_context_that_blocks_when_asked_is_asked_less_often(sessions):
    class Blocking(Context):
        def should_continue(self):
            asked.append(time.monotonic())
            time.sleep(0.5)
            return True

    async def body(host, _):
        await anyio.sleep(2.5)
        write(host, "DONE")

    asked = []
    await sessions.run(Blocking(), body=body)
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert min(gaps) >= 1  # half of the time is for everybody else


async def test_a_lease_is_renewed_beside_a_context_that_blocks(sessions, monkeypatch):
    """What renews it takes many turns of the loop, and at one per blocking call comes too late."""
    monkeypatch.setattr("optio_agents.agents.lease._RENEWED", 0.05)
    async with sessions.host() as host:
        await host.setup_workdir()

        class Blocking(Context):
            def report_progress(self, percent, message=None):
                (owner,) = Path(host.taskdir, "session/owner").iterdir()
                touched.append(owner.stat().st_mtime_ns)
                time.sleep(0.3)

        touched = []
        with anyio.fail_after(BOUND):
            async with (
                started(host, "sleep 60") as agent,
                agent.own("me", journal="j"),
                Desk(Blocking()) as (progress, _),
            ):
                for n in range(6):
                    progress.report(None, f"{n}")
                await progress.finish(30)
    assert len(set(touched)) >= 5


# Latency


async def test_error_is_noticed_at_once_behind_a_thousand_slow_deliverables(sessions, monkeypatch):
    monkeypatch.setattr("optio_agents.session.run.BOUND", 2.5)

    class Slow(Context):
        def report_progress(self, percent, message=None):
            time.sleep(0.1)

    async def on_deliverable(*_):
        await anyio.sleep(0.5)

    noticed = []

    async def body(host, _):
        hand_over(host, "a.txt", announce=False)
        write(host, *["DELIVERABLE: deliverables/a.txt"] * 1000)
        await anyio.sleep(1)  # they are queued, and the context is known to be slow
        write(host, "ERROR: now")
        start = time.monotonic()
        try:
            await anyio.sleep_forever()
        finally:
            noticed.append(time.monotonic() - start)

    with pytest.raises(AgentReportedError) as failure:
        await sessions.run(Slow(), body=body, on_deliverable=on_deliverable)
    answered = [d for d in failure.value.result.deliverables if d.reply is not None]
    assert len(answered) < 10  # what the bound had room for
    assert noticed[0] < 60  # and not minutes later; the benchmark holds the bar of 50 ms


async def test_an_async_method_that_hangs_is_bounded(ctx, monkeypatch):
    monkeypatch.setattr("optio_agents.session.progress._CALL", 0.1)

    class Hanging(Context):
        async def need_attention(self, reason):
            await anyio.sleep_forever()

    hanging = Hanging()
    async with Desk(hanging) as (progress, desk):
        progress.call("need_attention", "x")
        progress.report(None, "after it")
        await progress.finish(5)
    assert hanging.messages == ["after it"]
    assert desk.shared.troubles == {"need_attention": 1}


async def test_the_end_is_not_held_up_by_an_agent_that_floods(sessions, ctx):
    with pytest.raises(AgentReportedError):
        await sessions.run(ctx, body=says_and_stays(*["chatter"] * 20_000, "ERROR: x"))


async def test_narration_that_nobody_will_see_is_written_down_once(sessions):
    class Silent(Context):
        silent = True

    marked = []

    class Journal(MemoryJournal):
        async def mark_done(self, entries):
            marked.extend(entry.kind for entry in entries)
            await super().mark_done(entries)

    journal, lines = Journal(), ["chatter", "STATUS: 5% on"] * 500
    await sessions.run(Silent(), body=says(*lines, "ATTENTION: x", "DONE"), journal=journal)
    assert sorted(marked) == ["attention", "done"]
    assert len(await journal.events(0, 5000)) == 1002
    assert not (await journal.start()).pending
