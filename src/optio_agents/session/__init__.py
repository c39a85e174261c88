"""One run of a session: lines of the log become records, calls and answers, to one true end.

Nothing but DONE, with every deliverable answered, is a success; what fails on our side meanwhile is
reported where people look, and counted in the result.

*Record, hand over, mark done*, always in this order. A line is recorded with the cursor behind it,
in one transaction: from then on no supervisor reads it again, and none can lose it. Only then is it
handed over, to a callback, the context or the agent; and only when that had its turn, whatever came
of it, the line is marked done. So a crash between the first two steps loses nothing, since the next
run begins with what is recorded and not done; a crash between the last two repeats an effect, under
the same id, which is the least that can happen to effects outside of us (at least once). Answers to
the agent are one step better: a reply is recorded before it is said, and said under the name of its
line, and a name that exists in the agent's input was said already. Handing over never waits in the
reader: each kind has a queue of its own, in order, so a slow callback delays no STATUS, and no
ERROR waits behind ten thousand deliverables. What the queues hold is bounded and what exceeds them
counted; the log itself is the rest of the queue.

*One end.* The first ending counts; only DONE gives way, to what breaks one of its promises. From a
failure on, foreign code has 10 s, then it is left behind by name; `after_execute` runs in every
case.

The way in is below. Read `options` (what it is given), `run` (the stages in their order), `shared`
(what its parts have in common), `dispatch` (lines to whoever they are for), `deliverables`,
`messages` and `progress` (who they are for), `watch` (what is noticed without being said),
`outcome` (which of several endings counts); `foreign_code` and `foreign_host` run what is not ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optio_agents.protocol.protocol import get_protocol
from optio_agents.store.memory import MemoryJournal
from optio_agents.store.records import Delivery, Ended, Entry, Journal, Resumed, SessionResult

from .deliverables import DELIVERABLE_QUEUE_BOUND, fetch_deliverable_text
from .messages import CALLER_MESSAGE_QUEUE_BOUND
from .options import (
    CallerMessageCallback,
    Deliverable,
    DeliverableCallback,
    DeliverableFileCallback,
    DoneCallback,
    HookCallback,
    Options,
)
from .run import run_session

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from optio_agents.agents import Agent
    from optio_agents.context import AgentSender, ProcessContext
    from optio_agents.hosts.host import Host
    from optio_agents.protocol.protocol import Protocol

    from .options import Body, ReplySender

__all__ = [
    "CALLER_MESSAGE_QUEUE_BOUND",
    "DELIVERABLE_QUEUE_BOUND",
    "CallerMessageCallback",
    "Deliverable",
    "DeliverableCallback",
    "DeliverableFileCallback",
    "Delivery",
    "DoneCallback",
    "Ended",
    "Entry",
    "HookCallback",
    "Journal",
    "MemoryJournal",
    "Resumed",
    "SessionResult",
    "fetch_deliverable_text",
    "run_log_protocol_session",
]


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
    on_done: DoneCallback | None = None,
    verify_tries: int = 3,
) -> SessionResult:
    """Supervise what *body* does on *host* by the log it writes, to one true end.

    Prepares the work directory, runs *body* and follows `optio.log` and what it announces until
    the body has ended. DONE ends it: at once, or, while something that it announced waits for an
    answer, after *body_grace* seconds. With an *agent* (detached and journaled, and at work in a
    prepared directory) the body may be left out: the agent's end is its end, with its grace after
    DONE in any case. *resuming* goes on from *journal*; neither prepares anything. *busy* says
    that the agent waits for a person: no stall. A *deaf* agent takes nothing that it is told.

    *on_done(hook_ctx, summary)* decides whether DONE holds, once its deliverables are answered:
    None, or what is to be mended, which the agent is told, and that this was not the end. After
    *verify_tries* of these, or at the first where nobody takes messages, the session fails.

    Code that blocks the event loop cannot be bounded; everything else of yours is cancelled when
    the session fails, awaited for 10 s, and then left behind and named in the result.

    Returns only when the agent wrote DONE and every deliverable has its reply (`done`), or when
    *ctx* said to stop (`cancelled`).

    Raises:
        AgentReportedError: the agent wrote ERROR.
        AgentExited: the body ended, and there was no DONE in the log.
        AgentStalled: nothing was heard for *stall_after* seconds.
        DoneRefused: *on_done* did not accept DONE.
        EndedByHook: a callback raised EndSession.
        HostUnreachable: the host stayed away for *lost_after* seconds.
        ValueError: a callback has the wrong shape; nothing was begun.
        BaseException: what *prepare*, a hook or the body raised, as it is, and what a callback
            raised that is no Exception; and StoreError or HostError where the journal or the log
            could not be used.
    """
    options = Options(
        body=body,
        on_deliverable=on_deliverable,
        on_deliverable_file=on_deliverable_file,
        on_caller_message=on_caller_message,
        before_execute=before_execute,
        after_execute=after_execute,
        protocol=protocol or get_protocol(),
        browser_url_rewrite=browser_url_rewrite,
        agent_sender=agent_sender,
        prepare=prepare,
        keywords=keywords,
        stall_after=stall_after,
        lost_after=lost_after,
        body_grace=body_grace,
        callback_timeout=callback_timeout,
        save_deliverables_to=save_deliverables_to,
        max_deliverable_bytes=max_deliverable_bytes,
        agent=agent,
        reply_sender=reply_sender,
        resuming=resuming or agent is not None,
        busy=busy,
        deaf=deaf,
        on_done=on_done,
        verify_tries=verify_tries,
    )
    return await run_session(host, ctx, options, journal)
