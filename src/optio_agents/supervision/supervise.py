"""The standalone way in: start an agent, or find it again, and see it to its true end.

What `supervise` gives is awaited for the result, or entered for the live session, as its owner has
it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.concurrency import task_group
from optio_agents.hosts.host import Host, check_host
from optio_agents.protocol.protocol import get_protocol
from optio_agents.store import Store
from optio_agents.store.records import SessionResult

from .kinds import PermissionPolicy, kind_named
from .live import OwnedSession, Session
from .sessions import RULES
from .supervisor import SupervisionOptions
from .way_in import WayIn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from optio_agents.context import HookContext, ProcessContext
    from optio_agents.conversation.contract import AgentTool, Hook, PermissionHandler
    from optio_agents.protocol.protocol import Protocol
    from optio_agents.session.options import (
        CallerMessageCallback,
        DeliverableCallback,
        DeliverableFileCallback,
        DoneCallback,
    )

    from .events import Observer
    from .kinds import AgentSpec
    from .limits import AtUsageLimit


def supervise(
    host: Host | None,
    agent: AgentSpec | None = None,
    *,
    store: Store | str | os.PathLike[str] | None = None,
    resume: str | None = None,
    session: str | None = None,
    title: str | None = None,
    name: str | None = None,
    worktree: str | bool = False,
    on_deliverable: DeliverableCallback | None = None,
    on_deliverable_file: DeliverableFileCallback | None = None,
    on_caller_message: CallerMessageCallback | None = None,
    save_deliverables_to: str | os.PathLike[str] | None = None,
    on_permission_request: PermissionHandler | None = None,
    permission_timeout: float = 900.0,
    tools: Sequence[AgentTool | Callable[..., Any]] = (),
    hooks: Sequence[Hook] = (),
    protocol: Protocol | None = None,
    ctx: ProcessContext | None = None,
    observer: Observer | None = None,
    stall_after: float | None = None,
    lost_after: float | None = None,
    journal_limit: int | None = None,
    detach_when: anyio.Event | None = None,
    cancel_when: anyio.Event | None = None,
    take_over: bool = False,
    verify: str | DoneCallback | None = None,
    verify_tries: int | None = None,
    verify_timeout: float | None = None,
    restart: int | None = None,
    max_usd: float | None = None,
    max_turns: int | None = None,
    max_time: float | None = None,
    at_limit: AtUsageLimit | None = None,
) -> Supervising:
    """Run *agent* on *host*, which its caller has entered, to one true end.

    Await it for the result, or enter it for a live `Session`:

        async with supervise(host, Claude("Fix the tests"), store=store) as session:
            async for event in session.events(): ...

    Or *resume* a session, by (the beginning of) its id in *store*, on its own host where *host*
    is None; or, with the journal lost, by its task directory on *host*. Lines that had no turn
    yet are handed over again; replies are said once all the same.

    A *name* may stand for the id, and is free again when the session is over; *title* says what
    it is about. The agent works in the work directory of *host*. It is detached and journaled: when
    our process dies or the host fails us, it goes on, and `resume` finds it. *detach_when* leaves
    it so on purpose (outcome `detached`); *cancel_when* stops it (`cancelled`). Leaving in any
    other way, by cancellation too, stops the agent. A lost host is waited for, unless *lost_after*.

    *verify* decides whether DONE holds, once its deliverables are answered: a command, run where
    the agent works for at most *verify_timeout* seconds (900), whose exit code 0 says so; or
    `async verify(hook_ctx, summary)`, which gives None or what is to be mended. The agent is told
    what it found, and that this DONE was not the end; *verify_tries* (3) of these end the
    session. A command is kept with the session, for who resumes it.

    An agent that died (no DONE, no ERROR, and nobody stopped it) is started again at most
    *restart* times, with growing pauses, and told so; claude goes on in its own conversation.

    *max_usd*, *max_turns* and *max_time* (seconds since it began) are what the session may use,
    however often it is resumed; it is stopped there unless it is done. What a turn costs is known
    when it has ended, and of claude only. At a usage limit of the agent's account the session
    waits, and goes on when that is over; *at_limit* "stop" ends it there.

    The rest, all of it optional:
        store: the journal, or where its file is; without one what happened is known to this
            process alone.
        session: the id to use; without one it is made up.
        worktree: the branch that a git work tree of its own has, made where it is missing at what
            the work directory of *host*, a project, has checked out; True: `optio/ID`. Pruning
            removes the tree if all is committed, and a branch that we made if nothing was.
        on_deliverable, on_deliverable_file, on_caller_message, protocol, ctx: as for
            `run_log_protocol_session`; without *ctx* only events tell.
        save_deliverables_to: a directory of ours that keeps what is handed over.
        on_permission_request: decides what the agent asks for; without it, whoever answers.
        permission_timeout: seconds until what nobody decided is denied (900).
        tools, hooks: functions of ours that the agent calls over its own stream (claude only);
            whoever resumes the session gives them again, and is offered what waits for them.
        observer: called with each event; `session.events()` gives the same.
        stall_after: seconds without a sign of life that end the session; None: never.
        lost_after: seconds for which a lost host is waited for; None: for ever.
        journal_limit: bytes of output at which the agent is stopped on its host; None: no limit.

    Raises:
        SessionFailed: as `run_log_protocol_session` does; DoneRefused where *verify* never agreed,
            SessionLimitReached where it was not done within its limits.
        AlreadyOwned: somebody else supervises this session; *take_over* pushes them aside,
            where their journal is another one.
        StoreError: the journal cannot be used; the agent goes on.
        ValueError: a session that is over cannot be resumed.
        WorkDirRefused, AgentError, HostError: it could not be started.
    """
    command, on_done = (verify, None) if isinstance(verify, str) else (None, verify)
    given = {
        "verify": command,
        "verify_tries": verify_tries,
        "verify_timeout": verify_timeout,
        "restart": restart or None,
        "max_usd": max_usd,
        "max_turns": max_turns,
        "max_time": max_time,
        "at_limit": at_limit,
    }
    rules = {name: value for name, value in given.items() if value is not None}

    def options(features: Mapping[str, Any], kept: Mapping[str, Any]) -> SupervisionOptions:
        taught = protocol or get_protocol(**features)
        untaken = protocol is None and on_caller_message is None  # and yet it may say some
        return SupervisionOptions(
            on_deliverable=on_deliverable,
            on_deliverable_file=on_deliverable_file,
            on_caller_message=_nobody
            if untaken and taught.features.caller_messages
            else on_caller_message,
            save_deliverables_to=save_deliverables_to,
            asking=asking,
            protocol=taught,
            ctx=ctx,
            observer=observer,
            stall_after=stall_after,
            lost_after=lost_after,
            journal_limit=journal_limit,
            detach_when=detach_when,
            cancel_when=cancel_when,
            take_over=take_over,
            on_done=on_done,
            **{**kept, **rules},
        )

    _check(host, agent, store)
    for rule, value in rules.items():
        if not RULES[rule](value):
            raise ValueError(f"{rule} cannot be {value!r}")
    served = None
    if tools or hooks:
        from optio_agents.conversation.approvals import Served

        served = Served.of(tools, hooks)
    asking = PermissionPolicy(on_permission_request, permission_timeout, served)
    if served and agent is not None and not kind_named(agent.kind).serves:
        raise ValueError(f"{type(agent).__name__} cannot call functions of ours: Claude can")
    live = OwnedSession()

    async def run() -> SessionResult:
        opening = Store(store) if isinstance(store, str | os.PathLike) else nullcontext(store)
        async with opening as journal:
            way_in = WayIn(journal, live, options, rules)
            if resume is not None:
                return await way_in.resume(host, agent, resume)
            named = {"title": title or "", "name": name or ""}
            return await way_in.begin(host, agent, session=session, branch=worktree, **named)

    return Supervising(run(), live)


async def _nobody(hook_ctx: HookContext, keyword: str, data: object) -> str:
    """For an agent that was taught to speak to its caller, whom this supervisor is not."""
    return f"Message {keyword}: nobody takes it now. Say it again later, under another name."


def _check(host: object, agent: object, store: object) -> None:
    """Raises TypeError for what is mixed up most easily, in a sentence."""
    if host is not None:
        check_host(host)
    if agent is not None and not isinstance(getattr(agent, "kind", None), str):
        raise TypeError(f"an agent is Claude('…') or Command(['…']), and not {agent!r}")
    if not isinstance(store, Store | str | os.PathLike | None):
        raise TypeError(f"a store is a Store, or where its file is, and not {store!r}")


class Supervising(Coroutine[Any, Any, SessionResult]):
    """A supervision that is awaited for its result, or entered for a live session.

    A block that is left stops the agent, unless it was detached, or is over; and it raises what
    the supervision failed with, unless somebody asked for its `result`.
    """

    def __init__(self, running: Coroutine[Any, Any, SessionResult], live: OwnedSession) -> None:
        self._running, self._live = running, live
        self._block: AbstractAsyncContextManager[Session] | None = None

    def send(self, value: Any) -> Any:
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        return self._running.throw(*error)

    def close(self) -> None:
        self._running.close()

    def __await__(self) -> Generator[Any, Any, SessionResult]:
        return self._running.__await__()

    async def __aenter__(self) -> Session:
        self._block = _entered(self._running, self._live)
        return await self._block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        assert self._block is not None
        return await self._block.__aexit__(kind, error, trace)


@asynccontextmanager
async def _entered(
    running: Coroutine[Any, Any, SessionResult], session: OwnedSession
) -> AsyncIterator[Session]:
    async def run() -> None:
        outcome: SessionResult | Exception | None = None
        try:
            outcome = await running
        except Exception as error:
            outcome = error
        finally:
            session.end(outcome)

    async with task_group() as tasks:
        tasks.start_soon(run)
        await session.began.wait()
        if session.has_begun:
            yield session
        if not (session.detaching.is_set() or session.over.is_set()):
            tasks.cancel_scope.cancel()
    if session.error is not None and not session.was_asked:
        raise session.error
