"""A conversation with the claude CLI: the machinery, and what only this agent can be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optio_agents.conversation.approvals import Served
from optio_agents.conversation.contract import (
    AgentTool,
    Attachment,
    ContextUsage,
    Hook,
)
from optio_agents.conversation.exchange import ControlRefused as ControlRefused
from optio_agents.conversation.machinery import AgentConversation

from .dialect import ClaudeDialect, PermissionMode as PermissionMode
from .models import ClaudeTurnResult, Init, RateLimit, Usage
from .stream_json import control_request
from .tools import listed


class ClaudeCodeConversation(AgentConversation):
    """One live claude CLI. Attach it to a process and run the reader while it lasts.

    `claude_code` starts the CLI and does both. A CLI launched by hand should have
    `--replay-user-messages`: only then a 2.1.197 tells which message its turns answer.
    """

    _dialect: ClaudeDialect

    def __init__(
        self,
        *,
        agent_label: str = "claude",
        permission_timeout: float = 900.0,
        interrupt_timeout: float = 10.0,
        close_timeout: float = 5.0,
        by: str = "the conversation",
        tools: Sequence[AgentTool | Callable[..., Any]] = (),
        hooks: Sequence[Hook] = (),
        resumed: bool = False,
        echoes: bool = False,
    ) -> None:
        """Times are in seconds; *by* is who other terminals hear has answered a request.

        The rest is how the CLI was started: with *tools* and *hooks*, which its `initialize`
        names; *resumed*: it has a past; *echoes*: it echoes our messages, so a turn that names
        none answers none.
        """
        served = Served.of(tools, hooks)
        super().__init__(
            ClaudeDialect(resumed=resumed, echoes=echoes, tools=listed(served)),
            agent_label=agent_label,
            permission_timeout=permission_timeout,
            interrupt_timeout=interrupt_timeout,
            close_timeout=close_timeout,
            by=by,
        )
        if served:
            self.on_tool_call(served.call)

    async def ask(
        self,
        text: str,
        *,
        command: bool = False,
        attachments: Sequence[Attachment] = (),
        returns: Any = None,
        tries: int = 3,
    ) -> ClaudeTurnResult:
        """Say *text* and wait for the turn that answers it, which may have failed.

        As of every agent, with all that the CLI says of the turn.
        """
        turn = await super().ask(
            text, command=command, attachments=attachments, returns=returns, tries=tries
        )
        assert isinstance(turn, ClaudeTurnResult)
        return turn

    async def set_model(self, model: str) -> None:
        """From the next call of the model's API on. Raises ControlRefused."""
        await self.set_control("model", model)

    async def set_permission_mode(self, mode: PermissionMode) -> None:
        """From the next tool on. Raises ControlRefused, ValueError."""
        await self.set_control("permission_mode", mode)

    async def context_usage(self) -> ContextUsage | None:
        """How full the model's context is, by asking the CLI. Raises ControlRefused."""
        what = "get_context_usage"
        told = await self.control(what, lambda id_: control_request(id_, what, detail="summary"))
        used, size = told.get("totalTokens"), told.get("maxTokens")
        if type(used) is not int:
            return None
        return ContextUsage(used, size if type(size) is int else None)

    @property
    def init(self) -> Init | None:
        """What the CLI said of itself at the start of the latest turn."""
        return self._dialect.init

    @property
    def usage(self) -> Usage:
        return self._dialect.usage

    @property
    def rate_limit(self) -> RateLimit | None:
        """The limits of the account, as last told to a CLI that is logged in."""
        return self._dialect.rate_limit
