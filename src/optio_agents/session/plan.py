"""What a session is to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from optio_agents.context import AgentSender, HookContext
    from optio_agents.hosts.agents import Agent
    from optio_agents.hosts.host import Host
    from optio_agents.protocol.protocol import Protocol

    from .callers import CallerMessageCallback
    from .deliverables import Receiver
    from .replies import ReplySender

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
