"""The standalone way in: start an agent, or find it again, and see it to its true end."""

from __future__ import annotations

import hashlib
import time
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from optio_agents import agents
from optio_agents.display import Secrets
from optio_agents.errors import AgentExited, AlreadyOwned, FileRefused, HostLost, StoreError
from optio_agents.hosts.environment import looks_like_credential
from optio_agents.hosts.host import Host
from optio_agents.protocol.protocol import get_protocol
from optio_agents.store.memory import MemoryJournal
from optio_agents.store.records import Ended, SessionResult, StoredSession, is_session_id
from optio_agents.supervision.kinds.start import credentials_of, started

from .events import Began, Eyes, Finished, ObservedJournal
from .sessions import (
    TASKS,
    Facts,
    host_of,
    known_start,
    never_started,
    new_session_id,
    note_process,
    note_tag,
    owner_name,
    stored_of,
    task_directory,
    unseen,
)
from .supervisor import Supervision, Wishes

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator

    import anyio

    from optio_agents.agents import Agent
    from optio_agents.context import ProcessContext
    from optio_agents.conversation.contract import PermissionHandler
    from optio_agents.protocol.protocol import Protocol
    from optio_agents.session.options import (
        CallerMessageCallback,
        DeliverableCallback,
        DeliverableFileCallback,
    )
    from optio_agents.store import Store
    from optio_agents.supervision.kinds.spec import AgentSpec

    from .events import Observer


__all__ = ["TASKS", "host_of", "new_session_id", "supervise", "task_directory"]


async def supervise(
    host: Host | None,
    agent: AgentSpec | None = None,
    *,
    store: Store | None = None,
    resume: str | None = None,
    session: str | None = None,
    title: str | None = None,
    on_deliverable: DeliverableCallback | None = None,
    on_deliverable_file: DeliverableFileCallback | None = None,
    on_caller_message: CallerMessageCallback | None = None,
    save_deliverables_to: str | os.PathLike[str] | None = None,
    on_permission_request: PermissionHandler | None = None,
    permission_timeout: float = 900.0,
    protocol: Protocol | None = None,
    ctx: ProcessContext | None = None,
    observer: Observer | None = None,
    stall_after: float | None = None,
    lost_after: float | None = None,
    journal_limit: int | None = None,
    detach_when: anyio.Event | None = None,
    cancel_when: anyio.Event | None = None,
    take_over: bool = False,
) -> SessionResult:
    """Run *agent* on *host*, which its caller has entered, to one true end.

    Or *resume* a session, by (the beginning of) its id in *store*, on its own host where *host*
    is None; or, with the journal lost, by its task directory on *host*. Lines that had no turn
    yet are handed over again; replies are said once all the same.

    The agent works in the work directory of *host*. It is detached and journaled: when our
    process dies or the host fails us, it goes on, and `resume` finds it. *detach_when* leaves it
    so on purpose (outcome `detached`); *cancel_when* stops it (`cancelled`). Leaving in any other
    way, by cancellation too, stops the agent. A lost host is waited for, unless *lost_after*.

    Raises:
        SessionFailed: as `run_log_protocol_session` does.
        AlreadyOwned: somebody else supervises this session; *take_over* pushes them aside,
            where their journal is another one.
        StoreError: the journal cannot be used; the agent goes on.
        ValueError: a session that is over cannot be resumed.
        WorkDirRefused, AgentError, HostError: it could not be started.
    """
    wishes = Wishes(
        hooks={
            "on_deliverable": on_deliverable,
            "on_deliverable_file": on_deliverable_file,
            "on_caller_message": on_caller_message,
            "save_deliverables_to": save_deliverables_to,
            "stall_after": stall_after,
            "lost_after": lost_after,
        },
        on_permission_request=on_permission_request,
        permission_timeout=permission_timeout,
        protocol=protocol,
        ctx=ctx,
        observer=observer,
        detach_when=detach_when,
        cancel_when=cancel_when,
        take_over=take_over,
    )
    if resume is not None:
        if agent is not None:
            raise ValueError("a session that is resumed has its agent already")
        return await _resumed(host, resume, store, wishes)
    if host is None or agent is None:
        raise ValueError("say on which host, and what to run there")
    return await _begun(
        host,
        agent,
        store,
        wishes,
        session=session or new_session_id(),
        title=title or "",
        journal_limit=journal_limit,
    )


async def _begun(
    host: Host,
    spec: AgentSpec,
    store: Store | None,
    wishes: Wishes,
    *,
    session: str,
    title: str,
    journal_limit: int | None,
) -> SessionResult:
    protocol = _checked(wishes.protocol or get_protocol(), wishes)
    if not is_session_id(session):
        raise ValueError(f"{session!r} cannot be the id of a session")
    if store is not None and session in {known.id for known in await store.sessions()}:
        raise ValueError(f"there is a session {session} already: resume it, or name another")
    facts = Facts.of(host, spec, title=title, features=protocol.features)
    stored = StoredSession(session, time.time(), host.machine.name, host.taskdir, facts.to_json())
    hidden = {name: value for name, value in spec.env.items() if looks_like_credential(name)}
    async with AsyncExitStack() as stack:
        kept = _kept(store, stored, Secrets(hidden), wishes)
        journal, eyes = await stack.enter_async_context(kept)
        eyes(Began(stored, resumed=False))
        meta = {"id": session, "created_at": stored.created_at, **facts.for_the_host()}
        start = started(
            host,
            spec,
            protocol,
            name=session,
            meta=meta,
            journal_limit=journal_limit,
            before_launch=note_tag(journal),
        )
        try:
            agent = await stack.enter_async_context(start)
        except HostLost:
            raise  # it may run there
        except Exception:
            if store is not None:
                await store.forget(session)
            raise
        try:
            await note_process(journal, agent)
        except StoreError:
            agent.detach()  # it goes on, and can be found again
            raise
        supervision = Supervision(host, facts, protocol, journal, eyes, wishes, store)
        return await supervision.run(agent, ours=True)


async def _resumed(
    host: Host | None, resume: str, store: Store | None, wishes: Wishes
) -> SessionResult:
    stored = await _known(store, host, resume)
    async with AsyncExitStack() as stack:
        if stored is not None:
            there = host_of(stored, host.machine if host else None)
        elif host is not None:
            there = Host(host.machine, await host.path(resume))
        else:
            raise ValueError("without a journal, say on which host the session is")
        if host is None:
            await stack.enter_async_context(there)
        try:
            start = await known_start(store, stored.id) if store and stored else None
            agent = await stack.enter_async_context(agents.adopt(there, start=start))
        except FileRefused as error:
            if store is None or stored is None or error.reason != "missing":
                raise
            return await _not_seen(stored, store, wishes, error)
        return await _taken_up(there, agent, stored, store, wishes)


async def _taken_up(
    host: Host, agent: Agent, stored: StoredSession | None, store: Store | None, wishes: Wishes
) -> SessionResult:
    in_good_hands = False
    try:
        if stored is None:
            stored = await _apart(store, stored_of(host, agent.meta))
            host = host_of(stored, host.machine)
        facts = Facts.read(stored.facts)
        taught = wishes.protocol or get_protocol(**(facts.features or {}))
        protocol = _checked(taught, wishes)
        secrets = Secrets(await credentials_of(host, agent, facts.hidden))
        async with _kept(store, stored, secrets, wishes) as (journal, eyes):
            eyes(Began(stored, resumed=True))
            await note_process(journal, agent)
            supervision = Supervision(host, facts, protocol, journal, eyes, wishes, store)
            in_good_hands = True
            return await supervision.run(agent, ours=False)
    finally:
        if not in_good_hands:
            agent.detach()


async def _apart(store: Store | None, stored: StoredSession) -> StoredSession:
    """*stored*, whose id its host says, under another id where that one is another session's."""
    for known in await store.sessions() if store is not None else []:
        if known.id == stored.id and _place(known) != _place(stored):
            place = hashlib.sha256("\0".join(_place(stored)).encode("utf-8", "surrogateescape"))
            return replace(stored, id=f"{stored.id[:40]}-{place.hexdigest()[:12]}")
    return stored


def _place(session: StoredSession) -> tuple[str, str]:
    return session.host, session.taskdir


def _checked(protocol: Protocol, wishes: Wishes) -> Protocol:
    if protocol.features.caller_messages != (wishes.hooks["on_caller_message"] is not None):
        raise ValueError("on_caller_message and a protocol with caller_messages belong together")
    return protocol


async def _not_seen(
    stored: StoredSession, store: Store, wishes: Wishes, error: FileRefused
) -> SessionResult:
    """There is no session directory: only what our own journal proves is an end."""
    with store.claim(stored.id, owner_name()):
        if not await never_started(store, stored):
            raise unseen(stored.id, stored.host, error) from error
        summary = "the agent was never started: its supervisor died before"
        now = time.time()
        end = Ended(how="never-started")
        result = SessionResult(stored.id, "exited", summary, now, now, agent=end)
        await store.journal(stored.id).end(result)
    Eyes(wishes.observer, Secrets())(Finished(result))
    raise AgentExited(summary, result=result)


async def _known(store: Store | None, host: Host | None, resume: str) -> StoredSession | None:
    """The session in our journal, if it is there. Raises StoreError, ValueError (it is over)."""
    stored = None
    if store is not None and "/" not in resume:
        stored = await store.session(resume)
    elif store is not None and host is not None:
        where = host.machine.name, await host.path(resume)
        known = [s for s in await store.sessions() if (s.host, s.taskdir) == where]
        stored = known[-1] if known else None
    if stored is not None and stored.over:
        raise ValueError(f"session {stored.id} is over: {stored.outcome}")
    return stored


@asynccontextmanager
async def _kept(
    store: Store | None, stored: StoredSession, secrets: Secrets, wishes: Wishes
) -> AsyncIterator[tuple[ObservedJournal, Eyes]]:
    """The journal of a session that nobody else on this machine supervises."""
    eyes = Eyes(wishes.observer, secrets)
    with store.claim(stored.id, owner_name()) if store is not None else nullcontext():
        if store is None:
            yield ObservedJournal(MemoryJournal(stored.id), eyes), eyes
            return
        for known in await store.sessions():
            if known.id == stored.id and _place(known) != _place(stored):  # it came just now
                raise AlreadyOwned(f"the id {stored.id} is another session's", owner="another")
        await store.add(stored)
        yield ObservedJournal(store.journal(stored.id, secrets), eyes), eyes
