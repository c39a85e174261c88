"""One supervisor of one agent: the right to be it, its ears, and every way to leave."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.concurrency import task_group
from optio_agents.errors import (
    AgentExited,
    AlreadyOwned,
    FileRefused,
    HostError,
    HostUnreachable,
    OptioAgentsError,
    SessionFailed,
    StoreError,
)
from optio_agents.session.outcome import ended
from optio_agents.session.run import run_log_protocol_session
from optio_agents.store.records import SessionResult
from optio_agents.supervision.kinds.voices import line_voice

from .events import Finished, LinkChanged, Notice, StandaloneContext
from .sessions import owner_name, unseen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from optio_agents.agents import Agent
    from optio_agents.context import ProcessContext
    from optio_agents.conversation.contract import PermissionHandler
    from optio_agents.hosts.host import Host
    from optio_agents.protocol.protocol import Protocol
    from optio_agents.store import Store
    from optio_agents.supervision.kinds.voices import Voice

    from .events import Eyes, Leaving, ObservedJournal, Observer
    from .sessions import Facts


_log = logging.getLogger(__name__)
_STOPPING = 30.0  # seconds until an agent that does not end is somebody else's to stop
_LOOKING = 60.0  # seconds between two looks at the agent's disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What `supervise` was asked for, apart from host and agent."""

    hooks: Mapping[str, Any]  # as `run_log_protocol_session` takes them
    protocol: Protocol | None
    on_permission_request: PermissionHandler | None
    permission_timeout: float
    ctx: ProcessContext | None
    observer: Observer | None
    detach_when: anyio.Event | None
    cancel_when: anyio.Event | None
    take_over: bool


class Supervision:
    """What is known before the agent is; `run` it once, when there is one."""

    def __init__(
        self,
        host: Host,
        facts: Facts,
        protocol: Protocol,
        journal: ObservedJournal,
        eyes: Eyes,
        wishes: Wishes,
        store: Store | None,
    ) -> None:
        self._host, self._facts, self._protocol = host, facts, protocol
        self._journal, self._eyes, self._wishes, self._store = journal, eyes, wishes, store
        self._context = wishes.ctx or StandaloneContext(
            journal.session, eyes, metadata={"title": facts.title}
        )
        self._living = anyio.CancelScope()
        self._finished = False

    async def run(self, agent: Agent, *, ours: bool) -> SessionResult:
        """Own the session of *agent* and see it to its end; see `supervise`.

        Until we own it, it is stopped on the way out only if it is *ours*.
        """
        journal, take_over = self._facts.journal, self._wishes.take_over
        try:
            async with agent.own(owner_name(), journal=journal, take_over=take_over) as lease:
                ours = True
                async with await self._voice(agent) as voice, self._watching(agent, lease.lost):
                    self._journal.on_ending = voice.ending
                    return await self._driven(agent, voice)
        except HostError as error:
            agent.detach()  # it goes on, and can be found again when its host can
            if isinstance(error, FileRefused) and error.path == agent.directory:
                raise unseen(self._journal.session, self._host.machine.name, error) from error
            raise
        finally:
            if not ours:
                agent.detach()

    async def _voice(self, agent: Agent) -> AbstractAsyncContextManager[Voice]:
        if self._facts.agent == "command":
            return line_voice(agent)
        from optio_agents.supervision.kinds.claude import claude_voice

        return claude_voice(
            agent,
            self._journal,
            self._eyes,
            heard=await self._noted("heard") or {},  # what an earlier supervisor has shown
            handler=self._wishes.on_permission_request,
            permission_timeout=self._wishes.permission_timeout,
            by=owner_name(),
        )

    async def _noted(self, kind: str) -> Any:
        """What was kept last of that kind."""
        if self._store is None:
            return None
        notes = await self._store.notes(self._journal.session, kind)
        return notes[-1].value if notes else None

    # To its end

    async def _driven(self, agent: Agent, voice: Voice) -> SessionResult:
        with self._living:
            return self._told(await self._ended(agent, voice))
        if self._journal.leaving == "taken over":
            raise AlreadyOwned("another supervisor has taken this session over", owner="another")
        assert self._journal.result is not None
        return self._told(self._journal.result)

    async def _ended(self, agent: Agent, voice: Voice) -> SessionResult:
        try:
            result = await self._drive(agent, voice)
        except (HostUnreachable, StoreError):
            self._leave(agent, "cut off")  # it goes on, and can be found again
            if self._journal.result is not None:
                self._told(self._journal.result)
            raise
        except SessionFailed as failed:
            self._finished = True
            return await self._failed(agent, failed)
        except Exception:
            self._finished = True
            if self._journal.result is not None:
                self._told(self._journal.result)
            raise
        self._finished = True
        await voice.close()
        return await self._complete(agent, result)

    async def _failed(self, agent: Agent, failed: SessionFailed) -> SessionResult:
        """The result after all, where a person has stopped the agent elsewhere."""
        if not isinstance(failed.result, SessionResult):
            raise failed
        stop = await self._noted("stop") if isinstance(failed, AgentExited) else None
        if stop is not None:
            words = f"stopped by {stop['by']}"
            return await self._complete(
                agent, replace(failed.result, outcome="cancelled", summary=words)
            )
        result = await self._complete(agent, failed.result)
        if result.summary != failed.result.summary:
            failed.args = (f"{result.summary}; {failed}",)
        failed.result = self._told(result)
        raise failed

    def _told(self, result: SessionResult) -> SessionResult:
        self._eyes(Finished(result))
        return result

    async def _drive(self, agent: Agent, voice: Voice) -> SessionResult:
        return await run_log_protocol_session(
            self._host,
            self._context,
            body=voice.body,
            protocol=self._protocol,
            journal=self._journal,
            agent=agent,
            reply_sender=voice.reply,
            resuming=True,  # its place was prepared before the agent was started
            busy=voice.busy,
            deaf=self._facts.reads_to_end,
            **self._wishes.hooks,
        )

    async def _complete(self, agent: Agent, result: SessionResult) -> SessionResult:
        """Stop the agent now, so that *result* can tell how it ended."""
        try:
            with anyio.fail_after(_STOPPING):
                await agent.stop()
                if end := (await agent.status()).end():
                    result = replace(result, agent=ended(end))
                    if end.reason and result.outcome == "exited":
                        result = replace(result, summary=f"it was stopped: {end.reason}")
            await self._journal.end(result)
        except (OptioAgentsError, OSError) as error:
            _log.warning("the end of the agent is not recorded: %s", error)
        return result

    # Meanwhile

    @asynccontextmanager
    async def _watching(self, agent: Agent, lost: anyio.Event) -> AsyncIterator[None]:
        async def leave(when: anyio.Event, how: Leaving) -> None:
            await when.wait()
            self._leave(agent, how)

        async with task_group() as tasks:
            tasks.start_soon(leave, lost, "taken over")
            if self._wishes.detach_when is not None:
                tasks.start_soon(leave, self._wishes.detach_when, "detached")
            if self._wishes.cancel_when is not None:
                tasks.start_soon(self._cancel, self._wishes.cancel_when)
            tasks.start_soon(self._look_at_disk, agent)
            with self._link_shown():
                yield
            tasks.cancel_scope.cancel()

    def _leave(self, agent: Agent, how: Leaving) -> None:
        if not self._finished:
            self._finished = True
            self._journal.leaving = how
            agent.detach()
            if how != "cut off":
                self._living.cancel()

    async def _cancel(self, when: anyio.Event) -> None:
        await when.wait()
        if isinstance(self._context, StandaloneContext):
            self._context.cancellation_flag.set()

    async def _look_at_disk(self, agent: Agent) -> None:
        told: tuple[str, ...] = ()
        while True:
            await anyio.sleep(_LOOKING)
            notices = (await agent.status()).notices
            for notice in notices:
                if notice not in told:
                    self._eyes(Notice(notice))
            told = notices

    @contextmanager
    def _link_shown(self) -> Iterator[None]:
        def show(state: Any, reason: str) -> None:
            self._eyes(LinkChanged(state, reason))

        unwatch = self._host.machine.link.watch(show)
        try:
            yield
        finally:
            unwatch()
