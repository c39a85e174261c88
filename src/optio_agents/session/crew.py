"""The parts of one session, put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optio_agents.context import HookContext

from .callers import CallerMessages
from .deliverables import Deliverables
from .dispatch import Dispatch
from .progress import Progress
from .replies import Channel
from .watch import Absence, Cancellation, Hints, Silence, Watch

if TYPE_CHECKING:
    from optio_agents.context import ProcessContext
    from optio_agents.hosts.host import Host

    from .common import Common
    from .marks import Marks
    from .plan import Plan


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
