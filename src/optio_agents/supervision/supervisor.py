"""One supervisor of one agent: the right to be it, what is watched meanwhile, and every way out."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.concurrency import task_group
from optio_agents.errors import (
    AgentError,
    AgentExited,
    AlreadyOwned,
    HostError,
    HostUnreachable,
    OptioAgentsError,
    SessionFailed,
    StoreError,
)
from optio_agents.session.options import Options
from optio_agents.session.outcome import end_of
from optio_agents.session.run import run_session
from optio_agents.store.records import SessionResult

from .events import AgentRestarted, Notice
from .kinds import PermissionPolicy, kind_named
from .limits import SessionMeter
from .sessions import is_hidden, unseen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from optio_agents.agents import Agent, Lease
    from optio_agents.context import ProcessContext
    from optio_agents.hosts.host import Host

    from .events import Observer
    from .kinds import AgentLink
    from .limits import AtUsageLimit
    from .live import OwnedSession
    from .recording import Leaving, Recording
    from .sessions import Facts


_log = logging.getLogger(__name__)
_STOPPING = 30.0  # seconds until an agent that does not end is somebody else's to stop
_LATER = "who resumes the session starts it again"
_PAUSE, _LONGEST_PAUSE = 1.0, 300.0  # seconds until a dead agent is started again
_BEGINNING = 30.0  # seconds until an agent that was not told its prompt is left all the same
_UNTOLD = "it was not told its prompt yet: that waits until somebody attaches"
_LOOKING = 60.0  # seconds between two looks at the agent's disk


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisionOptions(Options):
    """What `supervise` is asked for, apart from host and agent: it takes the same."""

    lost_after: float | None = None
    asking: PermissionPolicy = field(default_factory=PermissionPolicy)
    ctx: ProcessContext | None = None
    observer: Observer | None = None
    journal_limit: int | None = None
    detach_when: anyio.Event | None = None
    cancel_when: anyio.Event | None = None
    take_over: bool = False
    restart: int = 0
    max_usd: float | None = None
    max_turns: int | None = None
    max_time: float | None = None  # seconds
    at_limit: AtUsageLimit = "wait"


class StandaloneContext:
    """A `ProcessContext` for sessions that no deployment started: their stream of events tells."""

    silent = True  # progress need not be reported to it

    def __init__(self, recording: Recording, *, metadata: Mapping[str, Any]) -> None:
        self.process_id = recording.session
        self._recording = recording
        self.params: Mapping[str, Any] = {}
        self.metadata = metadata
        self.cancellation_flag = asyncio.Event()

    def report_progress(self, percent: float | None, message: str | None = None) -> None:
        """The line that says so is an event."""

    def should_continue(self) -> bool:
        return not self.cancellation_flag.is_set()

    async def request_browser_open(self, url: str) -> None:
        """Likewise. Untrusted: never open it unasked."""

    async def need_attention(self, reason: str) -> None:
        """Likewise."""

    async def client_message(self, keyword: str, data: Any) -> None:
        """Likewise."""

    async def notice(self, text: str) -> None:
        """No line says so."""
        self._recording.post(Notice(text))


class AgentDied(Exception):
    """Why: it is to be started again, which was recorded."""


class Supervision:
    """What is known before the agent is; `run` it once, when there is one."""

    def __init__(
        self,
        host: Host,
        facts: Facts,
        recording: Recording,
        options: SupervisionOptions,
        live: OwnedSession,
    ) -> None:
        self.host, self._facts, self.recording = host, facts, recording
        self.options, self._live = options, live
        self._context = options.ctx or StandaloneContext(recording, metadata={"title": facts.title})
        self._finished = self._recalled = self._stopped = False
        self._living = anyio.CancelScope()
        self._restarts = 0  # by whichever supervisor
        self._meter = recording.meter = SessionMeter(
            max_usd=options.max_usd,
            max_turns=options.max_turns,
            max_time=options.max_time,
            at_limit=options.at_limit,
        )

    async def run(self, agent: Agent, *, ours: bool) -> SessionResult:
        """Own the session of *agent* and see it to its end; see `supervise`.

        Until we own it, it is stopped on the way out only if it is *ours*. Raises AgentDied.
        """
        self._finished, self._living = False, anyio.CancelScope()
        options = self.options
        kind = kind_named(self._facts.agent)
        owning = agent.own(
            self.recording.by, journal=self._facts.journal, take_over=options.take_over
        )
        try:
            if not self._recalled:
                self._restarts = await self._meter.recall(self.recording.records)
                self._recalled = True
            self.recording.may_go_on = self._may_restart
            async with owning as lease:
                ours = True
                async with (
                    kind.connect(agent, self.recording, options.asking) as link,
                    self._watching(agent, link, lease.lost),
                ):
                    self._live.connect(agent, link)
                    return await self._driven(agent, link, lease)
        except OptioAgentsError as error:
            hidden = self.recording.unseen or is_hidden(agent, error)
            if hidden or isinstance(error, HostError):
                agent.detach()  # it goes on, and can be found again when its host can
            if hidden:
                raise unseen(self.recording.session, self.host.machine.name, error) from error
            raise
        finally:
            if not ours:
                agent.detach()

    # To its end

    async def _driven(self, agent: Agent, link: AgentLink, lease: Lease) -> SessionResult:
        with self._living:
            result = await self._to_its_end(agent, link, lease)
            await self.recording.finish(result)
            return result
        if self.recording.leaving == "taken over":
            raise AlreadyOwned("another supervisor has taken this session over", owner="another")
        left = self.recording.result
        assert left is not None
        if self.recording.leaving is None:  # `cancel_when` says so
            left = replace(left, outcome="cancelled", summary="it was told to stop")
            left = await self._complete(agent, left)
            await self.recording.finish(left)
            return left
        if left.outcome == "exited":  # it was about to be started again
            left = replace(left, outcome="detached", summary=f"{left.summary}; {_LATER}")
            await self.recording.finish(left)
        return left

    async def _to_its_end(self, agent: Agent, link: AgentLink, lease: Lease) -> SessionResult:
        async def body(host: Any, hook: Any) -> object:
            return await self._meter.within(lambda: link.body(host, hook))

        def settle() -> None:
            self.recording.settle()
            link.on_ending()

        options = replace(
            self.options,
            body=body,
            agent=agent,
            reply_sender=link.send,
            resuming=True,  # its place was prepared before the agent was started
            busy=link.busy,
            deaf=self._facts.reads_to_end,
            permit=lease.hold,
            on_check=self.recording.check,
            on_over=settle,
            secrets=self.recording.secrets,
        )
        try:
            result = await run_session(self.host, self._context, options, self.recording)
        except (HostUnreachable, StoreError):
            self._leave(agent, "cut off")  # it goes on, and can be found again
            raise
        except SessionFailed as failed:
            self._finished = True
            return await self._failed(agent, link, failed)
        except Exception as error:
            self._finished = True
            its_own = isinstance(error, AgentError) and not isinstance(error, AlreadyOwned)
            seen = not (self.recording.unseen or is_hidden(agent, error))
            if its_own and seen and (ended := self.recording.result):  # nothing comes of it now
                self.recording.result = await self._complete(agent, ended)
            raise
        self._finished = True
        await link.close()
        return await self._complete(agent, result)

    async def _failed(self, agent: Agent, link: AgentLink, failed: SessionFailed) -> SessionResult:
        """The result after all, where a person has stopped the agent elsewhere."""
        if not isinstance(failed.result, SessionResult):
            raise failed
        exited = isinstance(failed, AgentExited)
        stop = await self.recording.records.noted("stop") if exited else None
        if stop is not None:
            words = f"stopped by {stop['by']}"
            return await self._complete(
                agent, replace(failed.result, outcome="cancelled", summary=words)
            )
        result = await self._complete(agent, failed.result)
        if exited and not self._stopped and self._may_restart(result):
            return await self._restart(result)
        if exited and link.trouble:
            words = f"{result.summary}; its last turn failed: {link.trouble}"
            result = replace(result, summary=words)
        if result.summary != failed.result.summary:
            failed.args = (f"{result.summary}; {failed}",)
        failed.result = result
        await self.recording.finish(result)
        raise failed

    def _may_restart(self, result: SessionResult) -> bool:
        """It died, as far as is known yet, and may be started once more."""
        return (
            result.outcome == "exited"
            and self._restarts < self.options.restart
            and self.recording.leaving is None
        )

    async def _restart(self, result: SessionResult) -> SessionResult:
        """Have it started again, after a while; unless somebody does not want that any more."""
        self._finished = False
        self._restarts += 1
        why = result.summary or "it ended without DONE"
        await self.recording.add(AgentRestarted(self._restarts, self.options.restart, why))
        self.recording.stand("starting")
        flag = getattr(self._context, "cancellation_flag", None)
        cancelled = flag if isinstance(flag, asyncio.Event) else asyncio.Event()
        with anyio.move_on_after(min(_PAUSE * 4 ** (self._restarts - 1), _LONGEST_PAUSE)):
            await cancelled.wait()
        self._finished = True
        if cancelled.is_set():
            return replace(result, outcome="cancelled", summary="the context said to stop")
        raise AgentDied(why)

    async def _complete(self, agent: Agent, result: SessionResult) -> SessionResult:
        """Stop the agent now, so that *result* can tell how it ended."""
        try:
            with anyio.fail_after(_STOPPING):
                await agent.stop()
                if end := await agent.end():
                    result = replace(result, agent=end_of(end))
                    self._stopped = bool(end.reason)
                    if end.reason and result.outcome == "exited":
                        result = replace(result, summary=f"it was stopped: {end.reason}")
        except AlreadyOwned:  # how it ends is another's to say
            raise
        except (OptioAgentsError, OSError) as error:
            _log.warning("the end of the agent is not recorded: %s", error)
        return result

    # Meanwhile

    @asynccontextmanager
    async def _watching(
        self, agent: Agent, link: AgentLink, lost: anyio.Event
    ) -> AsyncIterator[None]:
        async def leave(when: anyio.Event | asyncio.Event, how: Leaving) -> None:
            await when.wait()
            if how == "detached":
                with anyio.move_on_after(_BEGINNING) as patience:
                    await link.underway()
                if patience.cancelled_caught:
                    self.recording.post(Notice(_UNTOLD))
            self._leave(agent, how)

        async with task_group() as tasks:
            tasks.start_soon(leave, lost, "taken over")
            tasks.start_soon(leave, self._live.detaching, "detached")
            if self.options.detach_when is not None:
                tasks.start_soon(leave, self.options.detach_when, "detached")
            if self.options.cancel_when is not None:
                tasks.start_soon(self._cancel, self.options.cancel_when)
            tasks.start_soon(self._look_at_disk, agent)
            unwatch = self.host.machine.link.watch(self.recording.link)
            try:
                yield
            finally:
                unwatch()
            tasks.cancel_scope.cancel()

    def _leave(self, agent: Agent, how: Leaving) -> None:
        if not self._finished:
            self._finished = True
            self.recording.leaving = how
            agent.detach()
            if how != "cut off":
                self._living.cancel()

    async def _cancel(self, when: anyio.Event) -> None:
        await when.wait()
        if isinstance(self._context, StandaloneContext):
            self._context.cancellation_flag.set()
        elif not self._finished:  # its flag is its owner's to set
            self._finished = True
            self._living.cancel()

    async def _look_at_disk(self, agent: Agent) -> None:
        known: tuple[str, ...] = ()
        while True:
            await anyio.sleep(_LOOKING)
            try:
                notices = (await agent.status()).notices
            except AlreadyOwned:  # the lease tells, too
                return
            except OptioAgentsError as error:  # it cannot be seen, which is not its end
                self.recording.unseen = str(error)
                self._leave(agent, "cut off")
                raise
            for notice in notices:
                if notice not in known:
                    self.recording.post(Notice(notice))
            known = notices
