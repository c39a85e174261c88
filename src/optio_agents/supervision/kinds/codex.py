"""Codex, by its own app-server: taught by its instructions, kept by its sandbox.

It is loaded when there is such an agent, not before.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar, cast, get_args

from . import Startup, complete_spec, first_message, setup_of, text_in
from .conversing import ConversingKind
from .deciding import delivered_to, is_report

if TYPE_CHECKING:
    from optio_agents.agents import Agent
    from optio_agents.conversation.approvals import Served
    from optio_agents.conversation.codex.wire import Sandbox
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
class Codex:
    """OpenAI's Codex. It asks for what its *sandbox* would not let it do.

    *attachments* go with its *prompt*. *continues* goes on with a thread of its own, with *fork* in
    a copy of it. *options* are further arguments for it; never put a secret there. Values in *env*
    are not stored anywhere, and those whose names look like credentials are hidden from all we
    record.
    """

    kind: ClassVar[str] = "codex"
    prompt: str | None = None
    _: KW_ONLY
    model: str | None = None
    sandbox: Sandbox = "workspace-write"
    continues: str | None = None
    fork: bool = False
    attachments: Sequence[Attachment] = ()
    mcp_servers: Sequence[ToolServer] = ()
    options: Sequence[str] = ()
    executable: str = "codex"
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_base: EnvBase = "login"

    def __post_init__(self) -> None:
        if self.fork and self.continues is None:
            raise ValueError("say which thread it continues, in a copy of it")
        complete_spec(self)


class CodexKind(ConversingKind):
    """The app-server, and its words."""

    name = "codex"
    specs = (Codex,)

    async def plan(
        self,
        host: Host,
        spec: Codex,
        taught: str,
        *,
        logdirs: Sequence[str],
        served: Served | None,
    ) -> Startup:
        from optio_agents.conversation.codex.wire import FIRST_INPUT, mcp_options

        setup = {
            "model": spec.model,
            "sandbox": spec.sandbox,
            "continues": spec.continues,
            "fork": spec.fork,
            "instructions": taught,
            "logs": [f"{logdir}/optio.log" for logdir in logdirs],
        }
        return Startup(
            (spec.executable, *spec.options, *mcp_options(spec.mcp_servers), "app-server"),
            spec.env,
            FIRST_INPUT,
            queued=first_message(spec.prompt, spec.attachments),
            meta=setup,
        )

    def passages(self) -> PassageReader:
        from optio_agents.conversation.codex.wire import CodexPassages

        return CodexPassages()

    def login(self, agent: Agent) -> str:
        return "log in on that host with `codex login`, or hand over a key: --env OPENAI_API_KEY"

    def dialect(self, agent: Agent, values: Mapping[str, str]) -> Dialect:
        from optio_agents.conversation.codex import wire
        from optio_agents.conversation.codex.dialect import CodexDialect, CodexSetup

        setup = setup_of(agent)
        sandbox = text_in(setup, "sandbox")
        known = sandbox in get_args(wire.Sandbox)
        return CodexDialect(
            CodexSetup(
                agent.cwd,
                continues=text_in(setup, "continues"),
                fork=setup.get("fork") is True,
                model=text_in(setup, "model"),
                sandbox=cast("Sandbox", sandbox) if known else "workspace-write",
                instructions=text_in(setup, "instructions"),
            )
        )

    def message_of(self, front: bytes) -> Unconfirmed | None:
        from optio_agents.conversation.codex.wire import message_of

        return message_of(front)

    def behavior_of(self, answer: bytes, request: PermissionRequest) -> str:
        from optio_agents.conversation.codex.wire import behavior_of

        return behavior_of(answer)

    def reports(self, agent: Agent, request: PermissionRequest) -> bool:
        command = request.input.get("command")
        with suppress(ValueError):
            match shlex.split(command) if isinstance(command, str) else []:
                case ["/bin/bash" | "bash" | "/bin/sh", "-lc" | "-c", inner]:
                    return is_report(agent, inner)
        return is_report(agent, command)

    def delivers(self, agent: Agent, request: PermissionRequest) -> Sequence[str]:
        changes = request.input.get("changes") or ()
        if request.tool_name != "file change" or any(map(_moves, changes)):
            return ()
        return delivered_to(agent, request.input)


def _moves(change: object) -> bool:
    """It does more than to write the file at its path."""
    kind = change.get("kind") if isinstance(change, dict) else None
    match kind:
        case {"type": "add"} | {"type": "update", "move_path": None} | "add":
            return False
    return True


KIND = CodexKind()
