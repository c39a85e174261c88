"""One run of a session: the way in, and its stages in their order, whatever fails in which."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.concurrency import name_library
from optio_agents.context import HookContext
from optio_agents.display import visible
from optio_agents.errors import OptioAgentsError, StoreError
from optio_agents.hosts.retrying import retrying
from optio_agents.hosts.workdir import open_channel
from optio_agents.store.memory import MemoryJournal
from optio_agents.store.records import Ended, SessionResult

from .deliverables import Deliverables
from .dispatch import Dispatch
from .foreign_code import cancel_once, describe
from .foreign_host import adapt
from .messages import CallerMessages, Channel, DoneCheck
from .outcome import Decision, Ending, end_of, error_of, exited
from .progress import Progress
from .shared import Shared
from .watch import Hints, Watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from optio_agents.context import ProcessContext
    from optio_agents.framing.batches import Batches
    from optio_agents.hosts.host import Host
    from optio_agents.store.records import Journal

    from .options import Options


_log = logging.getLogger(__name__)

BOUND = 10.0  # seconds from failing or cancelled until foreign code is left behind
_LAST_CALLS = 2.0  # seconds of these that belong to cancelling what still answers then
_REPORTING = 10.0  # seconds for what the context does not know yet, at a good end
_ASKING = 5.0  # seconds for a last question to the agent
_NOT_RUN = 126, 127  # exit codes of a shell that could not run what it should
_INTERRUPTED = Ending("cancelled", "whoever waited for the session was cancelled")


async def run_session(
    host: Host, ctx: ProcessContext, options: Options, journal: Journal | None = None
) -> SessionResult:
    """`run_log_protocol_session`, for who has its keywords as one value.

    It runs in a task that only it ends: a cancellation interrupts it, a second hurries nobody.
    """
    name_library()
    if options.body is None and options.agent is None:
        raise ValueError("a session needs a body or an agent")
    run = Run(host, ctx, options, journal or MemoryJournal())
    running = asyncio.create_task(run.run(), name="optio session")
    try:
        await asyncio.wait({running})
    except asyncio.CancelledError:
        run.interrupt()
        with anyio.CancelScope(shield=True):
            while not running.done():
                try:
                    await asyncio.wait({running})
                except asyncio.CancelledError:
                    continue
        if not running.cancelled() and (error := running.exception()):
            _log.debug("the interrupted session ended with", exc_info=error)
        raise
    result, error = running.result()
    if error is not None:
        raise error
    return result


class Run:
    """One run of a session, used once: prepare, live, wind up."""

    def __init__(self, host: Host, ctx: ProcessContext, options: Options, journal: Journal) -> None:
        self._given = host  # what hooks get: the very host they know
        self.host, self.ctx, self.options, self.journal = adapt(host), ctx, options, journal
        self.decision = Decision()
        self.decision.over.add_done_callback(lambda _: options.on_over())
        self._started_at = time.time()
        self._body: asyncio.Task[Any] | None = None
        self._ended = Ended()
        self._interrupted = asyncio.get_running_loop().create_future()

    def _assemble(self, workers: TaskGroup) -> None:
        options, journal = self.options, self.journal
        self.shared = Shared(options, self.host, journal, self.decision, workers)
        self.foreign = self.shared.foreign
        self.progress = Progress(self.ctx, self.shared)
        self.channel = Channel(self.shared, self.progress)
        sender = None if self.channel.kind == "none" else self.channel.send
        self.hook = HookContext(self.ctx, self.host, agent_sender=sender)
        answering = self.shared, self.hook, self.channel, self.progress
        self.deliverables, self.callers = Deliverables(*answering), CallerMessages(*answering)
        self.check = DoneCheck(*answering, self._answer_all)
        answers = self.deliverables, self.callers, self.check
        self.hints = Hints(self.shared, self.channel, self.progress)
        self.watch = Watch(self.shared, self.ctx, self.hints, answers)
        self.dispatch = Dispatch(self.shared, self.progress, self.hints, *answers)

    def interrupt(self) -> None:
        """Whoever waits for this run does not want to any more."""
        if not self._interrupted.done():
            self._interrupted.set_result(None)
        self.decision.decide(_INTERRUPTED)

    async def run(self) -> tuple[SessionResult, BaseException | None]:
        """How it ended, and what is to be raised for that."""
        async with anyio.create_task_group() as workers:
            self._assemble(workers)
            stop_watching = self.watch.start()
            try:
                with self.decision.healthy:
                    await self._settle(self._prepare)
                    if self.decision.ending is None:
                        await self._settle(self._live)
            except asyncio.CancelledError:  # the loop is being shut down; the rest is bounded
                self.decision.decide(_INTERRUPTED)
            stop_watching()
            if (failed_at := self.decision.failed_at) is not None:
                await self._answer_what_is_left(until=failed_at + BOUND - _LAST_CALLS)
            workers.cancel_scope.cancel()
        try:
            deadline = (self.decision.failed_at or anyio.current_time()) + BOUND
            await self.foreign.end(seconds=deadline - anyio.current_time())
            await self._after_execute()
        finally:
            self.deliverables.close()
        return await self._conclude()

    async def _settle(self, stage: Callable[[], Awaitable[None]]) -> None:
        """Run *stage*; what it raises becomes the ending."""
        try:
            await stage()
        except Exception as error:
            self.shared.fail(error)

    # Preparing

    async def _prepare(self) -> None:
        options, place = self.options, self.shared.workplace
        self._resumed = await self.journal.start()
        set_up = not options.resuming
        if set_up and options.prepare is not None:
            await self.host.setup_workdir()
            await self._call("prepare", partial(options.prepare, self._given, self.hook))
            set_up = False
        if options.resuming:  # an agent may be at work there: its host is waited for from now on
            real = await retrying(self.host.machine, lambda: open_channel(self.host, "resume"))
        else:
            real = await open_channel(self.host, "start", set_up=set_up)
        self.shared.workplace = replace(place, real=real)
        if not options.resuming:
            shims = await options.protocol.prepare_browser_shims(self._given)
            self.hook.browser_launch_env = shims
            if options.before_execute is not None:
                await self._call("before_execute", partial(options.before_execute, self.hook))

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        """A hook takes as long as it needs: an installation may be in it."""
        await self.foreign.call(name, call, seconds=float("inf"))

    # Living

    async def _live(self) -> None:
        self.dispatch.resume(self._resumed)
        if not self.options.keywords:
            await asyncio.wait({self._start_body()})
            self._judge_body(keywords=False)
            return
        known = self._resumed
        following = self.host.follow(
            self.shared.workplace.log,
            known.cursor,
            delivered=known.digests,
            root=self.shared.workplace.real,
            ripe=self.dispatch.reads_as_ending,
        )
        async with following as batches, anyio.create_task_group() as reading:
            self.watch.batches = batches
            reading.start_soon(self._read, batches)
            async with anyio.create_task_group() as beside:
                beside.start_soon(self.hints.watch_other_log)
                await self._until_over(self._start_body())
                beside.cancel_scope.cancel()
            batches.finish()
        self.watch.batches = None
        await self.check.idle()
        body = self._body
        returned = body and body.done() and not body.cancelled() and body.exception() is None
        if self.options.agent is not None and returned:
            await self._answer_all()  # its end is no emergency: nobody waits for us any more
        self._judge_body(keywords=True)
        await self._answer_all()
        await self.progress.finish(_REPORTING)

    async def _read(self, batches: Batches) -> None:
        """Record, hand over; what is handed over marks itself done once it had its turn."""
        try:
            async for batch in batches:
                entries, events = self.dispatch.read(batch)
                await self.journal.record(entries, batch.cursor, batch.digests)
                self.watch.note_lines(batch.cursor.lines)
                if (permit := self.options.permit) is not None:
                    await permit()
                self.dispatch.hand_over(entries, events, batch.cut)
        except Exception as error:
            self.shared.fail(error)

    async def _answer_all(self) -> None:
        """Hand over, and answer, all that the agent wrote."""
        await self.deliverables.idle()
        await self.callers.idle()

    def _start_body(self) -> asyncio.Task[Any]:
        options = self.options
        if options.body is not None:
            body = partial(options.body, self._given, self.hook)
            self._body = self.foreign.start("body", body)
        else:
            assert options.agent is not None
            self._body = self.foreign.start("the agent", options.agent.wait)
        return self._body

    async def _until_over(self, body: asyncio.Task[Any]) -> None:
        """Until the body has ended.

        After DONE it is made to: at once, its cancellation being its notice, or after its grace
        while an answer is owed to it. An agent's process, which nobody can cancel, has its grace
        in any case: what it says of its end is worth more than a few seconds.
        """
        over = self.decision.over
        await asyncio.wait({body, over}, return_when=asyncio.FIRST_COMPLETED)
        with anyio.move_on_after(self.options.body_grace) as grace:
            async with anyio.create_task_group() as waiting:

                async def until_answered() -> None:
                    await self._answer_all()
                    grace.cancel()

                if self.options.agent is None:
                    waiting.start_soon(until_answered)
                await asyncio.wait({body})
                waiting.cancel_scope.cancel()
        await self.foreign.end([body], seconds=BOUND)

    def _judge_body(self, *, keywords: bool) -> None:
        body = self._body
        assert body is not None
        returned: object = None
        if body.done() and not body.cancelled():
            error = body.exception()
            if error is None:
                returned = body.result()
                self._ended = end_of(returned)
            elif isinstance(error, Exception):
                if self.decision.is_done:  # the agent's word counts
                    self.shared.note_trouble("body", error)
                else:
                    self.shared.fail(error)
        if isinstance(returned, Ending):
            self.decision.decide(returned)
        end = self._ended
        crashed = end.signal is not None or end.exit_code or end.how in ("lost", "rebooted")
        if self.check.refusal is not None and not crashed:
            words = f"the agent ended. {self.check.refusal}"
            self.decision.decide(Ending("refused", words))
        self.decision.decide(exited(self._ended) if keywords else Ending("done"))

    # Ending

    async def _answer_what_is_left(self, *, until: float) -> None:
        """What is still owed when the session has failed, as far as the time allows."""
        if self._body is not None:
            cancel_once(self._body)
        with anyio.move_on_after(until - anyio.current_time()):
            ending = self.decision.ending
            if ending is not None and ending.outcome in ("error", "exited"):
                await self._answer_all()
        await self.progress.finish(_LAST_CALLS / 2)

    async def _after_execute(self) -> None:
        hook = self.options.after_execute
        if hook is None:
            return
        name = "after_execute"
        task = self.foreign.start(name, partial(hook, self.hook))
        await asyncio.wait(
            {task, self._interrupted},
            timeout=self.options.callback_timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self._interrupted.done():
            await asyncio.wait({task}, timeout=BOUND)
        try:
            await self.foreign.finish(task, name)
        except Exception as error:
            self.progress.report_now(f"{name} callback raised: {describe(error)}")
            if self.decision.is_done:
                self.shared.fail(error)
            else:  # it must not hide why the session ended
                self.shared.note_trouble(name, error)

    async def _conclude(self) -> tuple[SessionResult, BaseException | None]:
        ending = self.decision.ending
        assert ending is not None
        outcome, summary = ending.outcome, ending.words
        stderr, agent, hide = "", self.options.agent, self.options.secrets.hide
        if agent is not None and outcome not in ("done", "cancelled", "unreachable"):
            try:
                with anyio.fail_after(_ASKING):
                    stderr = hide(await agent.last_stderr())
            except (OptioAgentsError, OSError):
                _log.debug("the agent's last words cannot be had", exc_info=True)
        if outcome == "exited":
            if agent is None:
                summary = f"body returned before DONE: {summary}"
            if self._ended.exit_code in _NOT_RUN and stderr:
                summary = f"{summary}: {visible(stderr.splitlines()[-1], limit=200)}"
            if other := await self.hints.find_other_log():
                summary = f"{summary}; it wrote to {other}, which nobody reads"
        result = SessionResult(
            session=self.journal.session,
            outcome=outcome,
            summary=summary and hide(summary),
            started_at=self._started_at,
            ended_at=time.time(),
            deliverables=self.deliverables.rows,
            replies=self.channel.kind,
            statuses=self.dispatch.statuses,
            agent=self._ended,
            cursor=self.dispatch.cursor,
            last_lines=tuple(self.dispatch.last_lines),
            abandoned=tuple(self.foreign.abandoned),
            troubles=dict(self.shared.troubles),
            skipped=self.progress.skipped,
            verified=ending.verified,
            error=None if ending.error is None else type(ending.error).__name__,
        )
        try:
            await self.shared.flush()
            await self.journal.end(result)
        except StoreError:
            if outcome in ("done", "cancelled") and not self._interrupted.done():
                raise
            how = logging.DEBUG if isinstance(ending.error, StoreError) else logging.ERROR
            _log.log(how, "how the session ended could not be recorded", exc_info=True)
        return result, error_of(ending, result, host=self.host.machine.name, stderr=stderr)
