"""The way in: one call, one true outcome."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from optio_agents.protocol.protocol import get_protocol
from optio_agents.store.memory import MemoryJournal

from .deliverables import Receiver
from .stages import Plan, Session

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from optio_agents.agents import Agent
    from optio_agents.context import AgentSender, ProcessContext
    from optio_agents.hosts.host import Host
    from optio_agents.protocol.protocol import Protocol
    from optio_agents.store.records import Journal, SessionResult

    from .deliverables import DeliverableCallback, DeliverableFileCallback
    from .messages import CallerMessageCallback, ReplySender
    from .stages import Body, HookCallback


_log = logging.getLogger(__name__)


async def run_log_protocol_session(
    host: Host,
    ctx: ProcessContext,
    *,
    body: Body | None = None,
    on_deliverable: DeliverableCallback | None = None,
    on_deliverable_file: DeliverableFileCallback | None = None,
    on_caller_message: CallerMessageCallback | None = None,
    before_execute: HookCallback | None = None,
    after_execute: HookCallback | None = None,
    protocol: Protocol | None = None,
    browser_url_rewrite: Callable[[str], str] | None = None,
    agent_sender: AgentSender | None = None,
    prepare: Body | None = None,
    keywords: bool = True,
    stall_after: float | None = None,
    lost_after: float | None = 900.0,
    body_grace: float = 5.0,
    callback_timeout: float = 600.0,
    save_deliverables_to: str | os.PathLike[str] | None = None,
    max_deliverable_bytes: int = 100 << 20,
    journal: Journal | None = None,
    agent: Agent | None = None,
    reply_sender: ReplySender | None = None,
    resuming: bool = False,
    busy: Callable[[], bool] = lambda: False,
    deaf: bool = False,
) -> SessionResult:
    """Supervise what *body* does on *host* by the log it writes, to one true end.

    Prepares the work directory, runs *body* and follows `optio.log` and what it announces until
    the body has ended, or has had *body_grace* seconds after DONE. With an *agent* (detached and
    journaled, and at work in a prepared directory) the body may be left out: the agent's end is
    its end. *resuming* goes on from *journal*; neither prepares anything. *busy* says that the
    agent waits for a person: no stall. A *deaf* agent takes nothing that it is told.

    Code that blocks the event loop cannot be bounded; everything else of yours is cancelled when
    the session fails, awaited for 10 s, and then left behind and named in the result.

    Returns only when the agent wrote DONE and every deliverable has its reply (`done`), or when
    *ctx* said to stop (`cancelled`).

    Raises:
        AgentReportedError: the agent wrote ERROR.
        AgentExited: the body ended, and there was no DONE in the log.
        AgentStalled: nothing was heard for *stall_after* seconds.
        EndedByHook: a callback raised EndSession.
        HostUnreachable: the host stayed away for *lost_after* seconds.
        Exception: what *prepare*, a hook or the body raised, as it is; and StoreError or
            HostError where the journal or the log could not be used.
    """
    if body is None and agent is None:
        raise ValueError("a session needs a body or an agent")
    protocol = protocol or get_protocol()
    if protocol.features.caller_messages != (on_caller_message is not None):
        raise ValueError(
            "on_caller_message and a protocol with caller_messages belong together: "
            "give both or none"
        )
    plan = Plan(
        body=body,
        receiver=Receiver(
            on_text=on_deliverable,
            on_file=on_deliverable_file,
            save_to=None if save_deliverables_to is None else Path(save_deliverables_to),
            max_bytes=max_deliverable_bytes,
            seconds=callback_timeout,
        ),
        on_caller_message=on_caller_message,
        before_execute=before_execute,
        after_execute=after_execute,
        protocol=protocol,
        browser_url_rewrite=browser_url_rewrite,
        agent_sender=agent_sender,
        reply_sender=reply_sender,
        prepare=prepare,
        keywords=keywords,
        stall_after=stall_after,
        lost_after=lost_after,
        body_grace=body_grace,
        callback_timeout=callback_timeout,
        agent=agent,
        resuming=resuming or agent is not None,
        busy=busy,
        deaf=deaf,
    )
    session = Session(host, ctx, plan, journal or MemoryJournal())
    return await _to_its_end(session)


async def _to_its_end(session: Session) -> SessionResult:
    """Run it in a task that only it ends: a cancellation interrupts, a second hurries nobody."""
    running = asyncio.create_task(session.run(), name="optio session")
    try:
        await asyncio.wait({running})
    except asyncio.CancelledError:
        session.interrupt()
        with anyio.CancelScope(shield=True):
            while not running.done():
                try:
                    await asyncio.wait({running})
                except asyncio.CancelledError:
                    continue
        if not running.cancelled() and (error := running.exception()):
            _log.debug("the interrupted session ended with", exc_info=error)
        raise
    return running.result()
