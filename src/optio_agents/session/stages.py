"""The stages of a session, in their order, whatever fails in which of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from optio_agents.context import HookContext
from optio_agents.errors import EndSession, HostError, HostKeyRefused, OptioAgentsError, StoreError
from optio_agents.hosts.retrying import retrying
from optio_agents.store.records import Ended, SessionResult

from .deliverables import Deliverables
from .dispatch import Dispatch
from .foreign_code import Guests, ask_to_leave
from .foreign_host import adapted
from .messages import CallerMessages, Channel
from .outcome import (
    Cancelled,
    Decision,
    Done,
    Exited,
    Failed,
    Hooked,
    Interrupted,
    Reported,
    Unreachable,
    Verdict,
    ended,
    error_of,
    outcome_of,
)
from .progress import Progress
from .shared import Common, Marks, Workplace
from .watch import Absence, Cancellation, Hints, Silence, Watch

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from optio_agents.agents import Agent
    from optio_agents.context import AgentSender, HookContext, ProcessContext
    from optio_agents.framing.batches import Batches
    from optio_agents.hosts.host import Host
    from optio_agents.protocol.protocol import Protocol
    from optio_agents.store.records import Journal

    from .deliverables import Receiver
    from .messages import CallerMessageCallback, ReplySender


# What a session is to do.


Body: TypeAlias = "Callable[[Host, HookContext], Awaitable[Any]]"
HookCallback: TypeAlias = "Callable[[HookContext], Awaitable[None]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a session is to do; see `run_log_protocol_session`."""

    body: Body | None
    receiver: Receiver
    on_caller_message: CallerMessageCallback | None
    before_execute: HookCallback | None
    after_execute: HookCallback | None
    protocol: Protocol
    browser_url_rewrite: Callable[[str], str] | None
    agent_sender: AgentSender | None
    reply_sender: ReplySender | None
    prepare: Body | None
    keywords: bool
    stall_after: float | None
    lost_after: float | None
    body_grace: float
    callback_timeout: float
    agent: Agent | None
    resuming: bool
    busy: Callable[[], bool]
    deaf: bool


# The parts of one session, put together.


@dataclass(frozen=True, slots=True)
class Questions:
    """What a watcher may ask the host."""

    quiet_for: Callable[[], Awaitable[float]]
    other_log: Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Crew:
    """Everybody who works for one session."""

    common: Common
    marks: Marks
    channel: Channel
    hook: HookContext
    progress: Progress
    deliverables: Deliverables
    callers: CallerMessages
    dispatch: Dispatch
    watch: Watch


def hire(
    host: Host,
    ctx: ProcessContext,
    plan: Plan,
    marks: Marks,
    common: Common,
    questions: Questions,
) -> Crew:
    """The crew for *plan*."""
    channel = Channel(
        common,
        machine=getattr(host, "machine", None),
        agent=None if plan.deaf else plan.agent,
        reply_sender=None if plan.deaf else plan.reply_sender,
        agent_sender=plan.agent_sender,
    )
    hook = HookContext(ctx, host, agent_sender=None if channel.kind == "none" else channel.send)
    progress = Progress(ctx, common)
    deliverables = Deliverables(
        host, hook, plan.receiver, channel=channel, progress=progress, common=common
    )
    callers = CallerMessages(
        hook,
        plan.on_caller_message,
        seconds=plan.callback_timeout,
        channel=channel,
        common=common,
    )
    hints = Hints(channel, questions.other_log, common)
    link = getattr(getattr(host, "machine", None), "link", None)
    watch = Watch(
        Cancellation(ctx, common),
        Absence(link, plan.lost_after, common.decide),
        Silence(plan.stall_after, questions.quiet_for, common),
        hints,
        waiting=lambda: bool(deliverables.waiting or callers.waiting or plan.busy()),
    )
    dispatch = Dispatch(
        plan.protocol,
        progress,
        deliverables,
        callers,
        hints,
        rewrite=plan.browser_url_rewrite,
        common=common,
    )
    return Crew(common, marks, channel, hook, progress, deliverables, callers, dispatch, watch)


_log = logging.getLogger(__name__)

BOUND = 10.0  # seconds from failing or cancelled until foreign code is left behind
_LAST_CALLS = 2.0  # seconds of these that belong to cancelling what still answers then
_TELLING = 10.0  # seconds for what the context was not told yet, at a good end
_ASKING = 5.0  # seconds for a last look at the agent


class Session:
    """One run, used once: prepare, live, wind up."""

    def __init__(self, host: Host, ctx: ProcessContext, plan: Plan, journal: Journal) -> None:
        self._given = host  # what hooks get: the very host they know
        self._host, self._ctx, self._plan, self._journal = adapted(host), ctx, plan, journal
        self.decision = Decision()
        self._guests = Guests(getattr(getattr(self._host, "machine", None), "link", None))
        self._started_at = time.time()
        self._body: asyncio.Task[Any] | None = None
        self._ended = Ended()
        self.interrupted = asyncio.get_running_loop().create_future()

    def interrupt(self) -> None:
        """Whoever waits for this session does not want to any more."""
        if not self.interrupted.done():
            self.interrupted.set_result(None)
        self.decision.decide(Interrupted())

    async def run(self) -> SessionResult:
        async with anyio.create_task_group() as workers:
            self._hire(workers)
            stop_watching = self._crew.watch.start()
            await self._while_healthy()
            stop_watching()
            if (failed_at := self.decision.failed_at) is not None:
                await self._last_calls(until=failed_at + BOUND - _LAST_CALLS)
            workers.cancel_scope.cancel()
        try:
            deadline = (self.decision.failed_at or anyio.current_time()) + BOUND
            await self._guests.leave(seconds=deadline - anyio.current_time())
            await self._after_execute()
        finally:
            self._crew.deliverables.close()
        return await self._conclude()

    def _hire(self, workers: TaskGroup) -> None:
        marks = Marks(self._journal, workers, failed=self._failed)
        common = Common(
            self._journal,
            self._guests,
            workers,
            self.decision.decide,
            marks.done,
            self._failed,
        )
        questions = Questions(self._quiet_for, self._other_log)
        self._crew = hire(self._host, self._ctx, self._plan, marks, common, questions)

    async def _while_healthy(self) -> None:
        try:
            with self.decision.while_healthy():
                await self._settle(self._prepare)
                if self.decision.verdict is None:
                    await self._settle(self._live)
        except asyncio.CancelledError:  # the loop is being shut down; the rest is bounded
            self.decision.decide(Interrupted())

    def _failed(self, error: Exception) -> None:
        match error:
            case EndSession(reason=reason):
                self.decision.decide(Hooked(reason))
            case HostKeyRefused():  # no waiting helps
                self.decision.decide(Unreachable(str(error)))
            case _:
                self.decision.decide(Failed(error))

    async def _settle(self, stage: Callable[[], Awaitable[None]]) -> None:
        """Run *stage*; what it raises becomes the verdict."""
        try:
            await stage()
        except Exception as error:
            self._failed(error)

    # Preparing

    async def _prepare(self) -> None:
        plan = self._plan
        self._resumed = await self._journal.start()
        if not plan.resuming:
            await self._host.setup_workdir()
            if plan.prepare is not None:
                await self._visit("prepare", partial(plan.prepare, self._given, self._crew.hook))
        self._workplace = await self._find_workplace()
        self._crew.deliverables.workplace = self._workplace
        if not plan.resuming:
            shims = await plan.protocol.prepare_browser_shims(self._given)
            self._crew.hook.browser_launch_env = shims
            if plan.before_execute is not None:
                await self._visit("before_execute", partial(plan.before_execute, self._crew.hook))

    async def _visit(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        """A hook takes as long as it needs: an installation may be in it."""
        await self._guests.call(name, call, seconds=float("inf"))

    async def _find_workplace(self) -> Workplace:
        workdir = self._host.workdir
        how = "resume" if self._plan.resuming else "start"
        answer = await self._host.ask("hosts/channel.sh", workdir, how)
        if answer.exit_code:
            words = answer.stderr.decode(errors="replace").strip()
            raise HostError(f"{workdir} cannot hold the log channel: {words}")
        real = answer.stdout.decode(errors="surrogateescape").removesuffix("\n.\n")
        return Workplace(workdir, real)

    # Living

    async def _live(self) -> None:
        self._crew.dispatch.resume(self._resumed)
        if not self._plan.keywords:
            await asyncio.wait({self._start_body()})
            self._judge_body(keywords=False)
            return
        async with self._follow() as batches, anyio.create_task_group() as reading:
            self._crew.watch.batches = batches
            reading.start_soon(self._read, batches)
            await self._until_over(self._start_body())
            batches.finish()
        self._crew.watch.batches = None
        if self._plan.agent is not None and _returned(self._body):
            await self._owed()  # its end is no emergency: nobody waits for us any more
        self._judge_body(keywords=True)
        await self._owed()
        await self._crew.progress.finish(_TELLING)

    async def _owed(self) -> None:
        """Hand over, and answer, all that the agent wrote."""
        await self._crew.deliverables.idle()
        await self._crew.callers.idle()

    def _follow(self) -> Any:
        known = self._resumed
        return self._host.follow(
            self._workplace.log,
            known.cursor,
            delivered=known.digests,
            ripe=self._crew.dispatch.reads_as_ending,
        )

    async def _read(self, batches: Batches) -> None:
        try:
            async for batch in batches:
                heard = self._crew.dispatch.read(batch)
                await self._journal.record(heard.entries, batch.cursor, batch.digests)
                self._crew.watch.silence.heard()
                self._crew.watch.lines = batch.cursor.lines
                self._crew.dispatch.hand_over(heard)
        except Exception as error:
            self._failed(error)

    def _start_body(self) -> asyncio.Task[Any]:
        plan, agent = self._plan, self._plan.agent
        if plan.body is not None:
            self._body = self._guests.invite(
                "body", partial(plan.body, self._given, self._crew.hook)
            )
        else:
            assert agent is not None
            self._body = self._guests.invite("the agent", agent.wait)
        return self._body

    async def _until_over(self, body: asyncio.Task[Any]) -> None:
        """Until the body has ended; after DONE it has its grace, then it is made to end."""
        over = self.decision.over
        await asyncio.wait({body, over}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({body}, timeout=self._plan.body_grace)
        await self._guests.leave([body], seconds=BOUND)

    def _judge_body(self, *, keywords: bool) -> None:
        body = self._body
        assert body is not None
        if body.done() and not body.cancelled():
            if (error := body.exception()) is not None:
                self._body_raised(error)
            else:
                self._ended = ended(body.result())
        self.decision.decide(Exited(self._ended) if keywords else Done(None))

    def _body_raised(self, error: BaseException) -> None:
        if isinstance(self.decision.verdict, Done):  # the agent's word counts
            self._crew.common.troubles["body"] += 1
            _log.warning("the body raised after DONE", exc_info=error)
        elif isinstance(error, Exception):
            self._failed(error)

    # Ending

    async def _last_calls(self, *, until: float) -> None:
        """What is still owed when the session has failed, as far as the time allows."""
        if self._body is not None:
            ask_to_leave(self._body)
        with anyio.move_on_after(until - anyio.current_time()):
            if isinstance(self.decision.verdict, Reported | Exited):
                await self._owed()
        await self._crew.progress.finish(_LAST_CALLS / 2)

    async def _after_execute(self) -> None:
        hook = self._plan.after_execute
        if hook is None:
            return
        task = self._guests.invite("after_execute", partial(hook, self._crew.hook))
        await asyncio.wait(
            {task, self.interrupted},
            timeout=self._plan.callback_timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self.interrupted.done():
            await asyncio.wait({task}, timeout=BOUND)
        try:
            await self._guests.finish(task, "after_execute")
        except Exception as error:
            if isinstance(self.decision.verdict, Done):
                self._failed(error)
            else:  # it must not hide why the session ended
                _log.warning("after_execute raised", exc_info=error)

    async def _conclude(self) -> SessionResult:
        verdict = self.decision.verdict
        assert verdict is not None
        result = self._result(verdict)
        try:
            await self._crew.marks.flush()
            await self._journal.end(result)
        except StoreError:
            if isinstance(verdict, Done | Cancelled):
                raise
            _log.exception("how the session ended could not be recorded")
        name = getattr(getattr(self._host, "machine", None), "name", "the host")
        error = error_of(verdict, result, host=name, stderr=await self._stderr(verdict))
        if error is not None:
            raise error
        return result

    def _result(self, verdict: Verdict) -> SessionResult:
        outcome, summary = outcome_of(verdict)
        return SessionResult(
            session=self._journal.session,
            outcome=outcome,
            summary=summary,
            started_at=self._started_at,
            ended_at=time.time(),
            deliverables=self._crew.deliverables.rows,
            replies=self._crew.channel.kind,
            statuses=self._crew.dispatch.statuses,
            agent=self._ended,
            cursor=self._crew.dispatch.cursor,
            last_lines=tuple(self._crew.dispatch.last_lines),
            abandoned=tuple(self._guests.abandoned),
            troubles=dict(self._crew.common.troubles),
            skipped=self._crew.progress.skipped,
        )

    # Asking the host

    async def _stderr(self, verdict: Verdict) -> str:
        """The agent's last words, where there is an agent and a way to it."""
        agent = self._plan.agent
        if agent is None or isinstance(verdict, Done | Cancelled | Unreachable):
            return ""
        try:
            with anyio.fail_after(_ASKING):
                return await agent.last_stderr()
        except (OptioAgentsError, OSError):
            return ""

    async def _quiet_for(self) -> float:
        answer = await self._host.ask("hosts/quiet.sh", self._workplace.workdir)
        quiet = float(answer.stdout)
        if self._plan.agent is not None:
            status = await self._plan.agent.status()
            quiet = min(quiet, status.quiet_for)
        return quiet

    async def _other_log(self) -> str:
        ask = partial(self._host.ask, "hosts/other-log.sh", self._workplace.workdir)
        answer = await retrying(self._host.machine, ask, seconds=_ASKING)
        return answer.stdout.decode(errors="replace").strip()


def _returned(body: asyncio.Task[Any] | None) -> bool:
    """It has ended by itself, and well."""
    return body is not None and body.done() and not body.cancelled() and body.exception() is None
