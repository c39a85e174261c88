"""The claude CLI: taught by its system prompt, with a queue and rules of its own.

Its code is loaded when there is such an agent, not before.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

from . import Startup, complete_spec, say_once, setup_of
from .conversing import ConversationLink, ConversingKind
from .reaching import ConversationReach

if TYPE_CHECKING:
    from optio_agents.agents import Agent
    from optio_agents.conversation.approvals import Served
    from optio_agents.conversation.claude import PermissionMode
    from optio_agents.conversation.contract import (
        Attachment,
        PermissionRequest,
        ToolServer,
        Unconfirmed,
    )
    from optio_agents.conversation.dialect import Dialect, PassageReader
    from optio_agents.hosts.environment import EnvBase
    from optio_agents.hosts.host import Host


@dataclass(frozen=True, slots=True)
class Claude:
    """The claude CLI. It is told how to use the log by its system prompt.

    *attachments* go with its *prompt*. *continues* goes on with a session of its own, with *fork*
    in a copy of it. *options* are further arguments for it; never put a secret there. Values in
    *env* are not stored anywhere, and those whose names look like credentials are hidden from all
    we record.
    """

    kind: ClassVar[str] = "claude"
    prompt: str | None = None
    _: KW_ONLY
    model: str | None = None
    permission_mode: PermissionMode | None = None
    allowed_tools: Sequence[str] = ()
    continues: str | None = None
    fork: bool = False
    attachments: Sequence[Attachment] = ()
    partial_messages: bool = False  # let it tell what it says piece by piece
    mcp_servers: Sequence[ToolServer] = ()
    options: Sequence[str] = ()
    executable: str = "claude"
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_base: EnvBase = "login"

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str | None):
            raise TypeError(f"a prompt is text, and not {self.prompt!r}")
        if self.fork and self.continues is None:
            raise ValueError("say which session it continues, in a copy of it")
        complete_spec(self)
        if self.attachments:
            from optio_agents.conversation.claude.stream_json import user_message

            user_message("", "", attachments=self.attachments)  # refuses what it cannot be shown


class ClaudeReach(ConversationReach):
    """It has a queue of its own, and is interrupted by a request that names no turn."""

    async def send(
        self, name: str | None, text: str, attachments: Sequence[Attachment] = ()
    ) -> str:
        from optio_agents.conversation.claude.stream_json import user_message

        uuid = self._uuid(name) if name else str(uuid4())
        data = user_message(text, uuid, attachments=attachments)
        return await say_once(self._agent, name, data)

    async def steer(self, text: str) -> str:
        return await self.send(None, text)  # it takes it into its turn

    async def interrupt(self) -> None:
        from optio_agents.conversation.claude.stream_json import control_request

        await self._agent.say(control_request(f"optio-{secrets.token_hex(6)}", "interrupt"))

    async def set_control(self, control_id: str, value: str) -> None:
        name = f"optio-{secrets.token_hex(6)}"
        await self._agent.say(self._dialect().setting(name, control_id, value))


class ClaudeLink(ConversationLink):
    """The conversation of one session, as its owner has it."""

    send, steer = ClaudeReach.send, ClaudeReach.steer

    async def set_control(self, control_id: str, value: str) -> None:
        await self._conversation.set_control(control_id, value)

    async def say_queued(self) -> None:
        """Nothing is ever queued for it."""


class ClaudeKind(ConversingKind):
    """The CLI, and its words."""

    name = "claude"
    serves = True
    kept = ("subtype", "is_error", "result", "num_turns", "duration_ms", "total_cost_usd", "usage")
    specs = (Claude,)
    reach_of = ClaudeReach
    link_of = ClaudeLink

    async def plan(
        self,
        host: Host,
        spec: Claude,
        taught: str,
        *,
        logdirs: Sequence[str],
        served: Served | None,
    ) -> Startup:
        from optio_agents.conversation.claude.launch import (
            check_root,
            plan_launch,
            reporting_rules,
        )
        from optio_agents.conversation.claude.tools import listed

        launch = plan_launch(
            prompt=spec.prompt,
            attachments=spec.attachments,
            model=spec.model,
            permission_mode=spec.permission_mode,
            allowed_tools=[*spec.allowed_tools, *reporting_rules(*logdirs)],
            resume=spec.continues,
            fork=spec.fork,
            partial_messages=spec.partial_messages,
            mcp_servers=spec.mcp_servers,
            append_system_prompt=taught,
            env=spec.env,
            executable=spec.executable,
            arguments=spec.options,
            served=served,
        )
        await check_root(host, launch, env_base=spec.env_base)
        setup: dict[str, object] = {"tools": listed(served)} if served else {}
        if launch.resumed:
            setup["resumed"] = True  # so what its first turn costs cannot be known
        return Startup(launch.argv, launch.env, launch.first_input, meta=setup)

    def passages(self) -> PassageReader:
        from optio_agents.conversation.claude.stream_json import ClaudePassages

        return ClaudePassages()

    def login(self, agent: Agent) -> str:
        return (
            "log in on that host, with `claude` and then /login, or hand over a key, as with "
            "--env ANTHROPIC_API_KEY"
        )

    def dialect(self, agent: Agent, values: Mapping[str, str]) -> Dialect:
        from optio_agents.conversation.claude.dialect import ClaudeDialect

        setup = setup_of(agent)
        tools, resumed = setup.get("tools"), setup.get("resumed") is True
        return ClaudeDialect(
            resumed=resumed, echoes=True, tools=tools if isinstance(tools, list) else ()
        )

    def message_of(self, front: bytes) -> Unconfirmed | None:
        from optio_agents.conversation.claude.stream_json import message_of

        return message_of(front)

    def behavior_of(self, answer: bytes, request: PermissionRequest) -> str:
        from optio_agents.conversation.claude.stream_json import behavior_of

        return behavior_of(answer)

    def reports(self, agent: Agent, request: PermissionRequest) -> bool:
        return False  # rules of its own let it report

    def delivers(self, agent: Agent, request: PermissionRequest) -> Sequence[str]:
        return ()  # and deliver


KIND = ClaudeKind()
