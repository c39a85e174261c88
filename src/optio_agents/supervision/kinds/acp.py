"""Agents that speak the Agent Client Protocol: by name, or any by its command line.

None of them has a common way to be taught: so how to use the log stands in front of the first
prompt. It is loaded when there is such an agent, not before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from optio_agents.conversation.contract import ToolServer
from optio_agents.hosts.environment import credentials_in

from . import Startup, complete_spec, first_message, setup_of, text_in
from .conversing import ConversingKind
from .deciding import delivered_to, is_report
from .named import ROWS, AgentRow

if TYPE_CHECKING:
    from optio_agents.agents import Agent
    from optio_agents.conversation.approvals import Served
    from optio_agents.conversation.contract import Attachment, PermissionRequest, Unconfirmed
    from optio_agents.conversation.dialect import Dialect, PassageReader
    from optio_agents.hosts.environment import EnvBase
    from optio_agents.hosts.host import Host


@dataclass(frozen=True, slots=True)
class Acp:
    """Any agent that speaks ACP over its standard input and output, as *argv* starts it.

    It is put into a mode that asks before it does something, or into *mode*. *attachments* go with
    its *prompt*: a session whose agent cannot be shown them fails. *continues* goes on
    with a session of the agent's own, with *fork* in a copy of it, where it can make one. Values in
    *env* are not stored anywhere, and those whose names look like credentials are hidden from all
    we record.
    """

    kind: ClassVar[str] = "acp"
    argv: Sequence[str]
    prompt: str | None = None
    _: KW_ONLY
    mode: str | None = None
    continues: str | None = None
    fork: bool = False
    attachments: Sequence[Attachment] = ()
    mcp_servers: Sequence[ToolServer] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_base: EnvBase = "login"

    def __post_init__(self) -> None:
        if isinstance(self.argv, str) or not self.argv:
            raise ValueError("argv is a list of at least one argument")
        complete_spec(self)

    @property
    def row(self) -> AgentRow | None:
        return None

    @property
    def variables(self) -> Mapping[str, str]:
        return self.env


@dataclass(frozen=True, slots=True)
class _NamedAcp:
    kind: ClassVar[str] = "acp"
    name: ClassVar[str]
    prompt: str | None = None
    _: KW_ONLY
    model: str | None = None
    mode: str | None = None
    continues: str | None = None
    fork: bool = False
    attachments: Sequence[Attachment] = ()
    mcp_servers: Sequence[ToolServer] = ()
    options: Sequence[str] = ()
    executable: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_base: EnvBase = "login"

    def __post_init__(self) -> None:
        self.row.argv(self.executable, self.model, self.options)  # refuses what it does not take
        complete_spec(self)

    @property
    def row(self) -> AgentRow:
        return ROWS[self.name]

    @property
    def argv(self) -> Sequence[str]:
        return self.row.argv(self.executable, self.model, self.options)

    @property
    def variables(self) -> Mapping[str, str]:
        return {**self.row.variables(self.model), **self.env}


class Gemini(_NamedAcp):
    """Google's Gemini CLI."""

    name = "gemini"


class OpenCode(_NamedAcp):
    """OpenCode. Its model is that of its own settings."""

    name = "opencode"


class Qwen(_NamedAcp):
    """Qwen Code."""

    name = "qwen"


class Kimi(_NamedAcp):
    """Kimi Code. Its model is that of its own settings."""

    name = "kimi"


class Copilot(_NamedAcp):
    """GitHub's Copilot CLI."""

    name = "copilot"


NAMED = {one.name: one for one in (Gemini, OpenCode, Qwen, Kimi, Copilot)}


class AcpKind(ConversingKind):
    """Agents that speak ACP, and its words."""

    name = "acp"
    specs = (Acp, *NAMED.values())

    def row(self, spec: Acp | _NamedAcp) -> AgentRow | None:
        return spec.row

    def program(self, spec: Acp | _NamedAcp) -> str:
        return spec.argv[0]

    async def plan(
        self,
        host: Host,
        spec: Acp | _NamedAcp,
        taught: str,
        *,
        logdirs: Sequence[str],
        served: Served | None,
    ) -> Startup:
        from optio_agents.conversation.acp.wire import FIRST_INPUT

        setup = {
            "label": spec.row.name if spec.row is not None else spec.argv[0].rpartition("/")[2],
            "mode": spec.mode,
            "continues": spec.continues,
            "fork": spec.fork,
            "mcp": list(map(_without_secrets, spec.mcp_servers)),
            "logs": [f"{logdir}/optio.log" for logdir in logdirs],
        }
        first = f"{taught}\n\n{spec.prompt}" if spec.prompt is not None else None
        return Startup(
            tuple(spec.argv),
            spec.variables,
            FIRST_INPUT,
            queued=first_message(first, spec.attachments),
            meta=setup,
        )

    def passages(self) -> PassageReader:
        from optio_agents.conversation.acp.turns import AcpPassages

        return AcpPassages()

    def label(self, agent: Agent) -> str:
        return text_in(setup_of(agent), "label") or "the agent"

    def login(self, agent: Agent) -> str:
        row = ROWS.get(self.label(agent))
        keys = " or ".join(row.keys) if row is not None else ""
        by_key = f", or hand over a key, as with --env {keys}" if keys else ""
        return f"log in on that host with its own command{by_key}"

    def dialect(self, agent: Agent, values: Mapping[str, str]) -> Dialect:
        from optio_agents.conversation.acp.dialect import AcpDialect, AcpSetup

        setup = setup_of(agent)
        return AcpDialect(
            AcpSetup(
                agent.cwd,
                continues=text_in(setup, "continues"),
                fork=setup.get("fork") is True,
                mode=text_in(setup, "mode"),
                mcp_servers=list(_servers(setup.get("mcp"), values)),
            )
        )

    def message_of(self, front: bytes) -> Unconfirmed | None:
        from optio_agents.conversation.acp.wire import message_of

        return message_of(front)

    def behavior_of(self, answer: bytes, request: PermissionRequest) -> str:
        from optio_agents.conversation.acp.wire import behavior_of

        return behavior_of(answer, request)

    def reports(self, agent: Agent, request: PermissionRequest) -> bool:
        return is_report(agent, request.input.get("command"))

    def delivers(self, agent: Agent, request: PermissionRequest) -> Sequence[str]:
        return delivered_to(agent, request.input) if request.tool_name == "edit" else ()


def _without_secrets(server: ToolServer) -> dict[str, Any]:
    """What is kept on its host: of each header the variable, of a credential no value."""
    secret = credentials_in(server.env)
    env = {name: None if name in secret else value for name, value in server.env.items()}
    return {**asdict(server), "headers": server.header_variables, "env": env}


def _servers(kept: object, values: Mapping[str, str]) -> Iterator[ToolServer]:
    """What `plan` has kept of them, with their values put in."""
    for one in kept if isinstance(kept, list) else ():
        # the agent could write there, too
        with suppress(TypeError, ValueError, AttributeError, KeyError):
            headers = {name: values.get(known, "") for name, known in one["headers"].items()}
            env = {n: values.get(n, "") if v is None else str(v) for n, v in one["env"].items()}
            yield ToolServer(**{**one, "headers": headers, "env": env})


KIND = AcpKind()
