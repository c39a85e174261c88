"""Start the claude CLI as a detached, journaled agent, or take up one that runs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack
from uuid import uuid4

from optio_agents import agents
from optio_agents.concurrency import task_group
from optio_agents.conversation.approvals import Served
from optio_agents.conversation.contract import (
    AgentTool,
    Attachment,
    Hook,
    ToolServer,
    Unconfirmed,
    tool_servers,
    variables_of,
)
from optio_agents.conversation.json_lines import LINE_LIMIT
from optio_agents.conversation.machinery import ConversationOptions
from optio_agents.conversation.wire_agent import AgentWire, sent_before
from optio_agents.errors import AgentError
from optio_agents.hosts.host import check_host
from optio_agents.hosts.workdir import ready_workdir
from optio_agents.schemas import AnswerShape

from .conversation import ClaudeCodeConversation, PermissionMode
from .stream_json import control_request, message_of, user_message
from .tools import initialize_fields, mcp_config, rules_for

if TYPE_CHECKING:
    from optio_agents.agents import Agent
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.environment import EnvBase
    from optio_agents.hosts.host import Host


ARGUMENTS = (
    "-p",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--verbose",  # without it stream-json output is refused
    "--replay-user-messages",  # what confirms our messages
    "--permission-prompt-tool=stdio",  # what would ask is denied without
)
ENVIRONMENT = {
    "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",  # tells when nothing waits any more
    "DISABLE_AUTOUPDATER": "1",
}
_FIRST = "0" * 20  # sorts in front of every message that is named by the clock


class ClaudeOptions(ConversationOptions, total=False):
    """What may be chosen about the conversation with a claude CLI."""

    tools: Sequence[AgentTool | Callable[..., Any]]  # of ours, for it to use
    hooks: Sequence[Hook]


class RootRefused(AgentError):
    """As root the CLI bypasses permissions only where it is told that it stands in a sandbox."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start the CLI. No prompt and no secret is in `argv`."""

    argv: tuple[str, ...]
    env: dict[str, str]
    first_input: tuple[tuple[str, bytes], ...]  # named messages
    sent: tuple[Unconfirmed, ...] = ()  # of the user's, among them
    resumed: bool = False


_PLAIN = re.compile(r"/[\w/.,@%+=:~' -]*")  # what a rule takes for itself, and the CLI for no glob


def reporting_rules(*logdirs: str) -> list[str]:
    """What lets the CLI write `optio.log` and `deliverables/` in *logdirs*, and nothing else.

    It asks about a file unless rules allow it under the name that it was given and under its real
    one, so name both. A directory whose name could mean more than itself gets no rule: there the
    CLI asks.
    """
    return [
        f"Edit(/{logdir}/{name})"  # two slashes: from the root of the file system
        for logdir in dict.fromkeys(logdirs)
        if _PLAIN.fullmatch(logdir)
        for name in ("optio.log", "deliverables/**")
    ]


def plan_launch(
    *,
    prompt: str | None = None,
    attachments: Sequence[Attachment] = (),
    model: str | None = None,
    permission_mode: PermissionMode | None = None,
    allowed_tools: Sequence[str] | None = None,
    resume: str | None = None,
    fork: bool = False,
    append_system_prompt: str | None = None,
    env: Mapping[str, str] | None = None,
    executable: str = "claude",
    arguments: Sequence[str] = (),
    served: Served | None = None,
    partial_messages: bool = False,
    max_usd: float | None = None,
    mcp_servers: Sequence[ToolServer] = (),
    returns: Any = None,
) -> Launch:
    """Decide everything about a start; *arguments* are further ones for the CLI."""
    served, mcp_servers = served or Served(), tool_servers(mcp_servers)
    allowed = [*(allowed_tools or ()), *rules_for(served)]
    options = {
        "model": model,
        "permission-mode": permission_mode,
        "allowed-tools": ",".join(allowed) if allowed else None,
        "resume": resume,  # never --session-id: one that was used is refused
        "max-budget-usd": max_usd,
        "mcp-config": mcp_config(mcp_servers) if mcp_servers else None,
    }
    # the = form: a value that begins with a dash is no option
    named = [f"--{name}={value}" for name, value in options.items() if value is not None]
    named += ["--fork-session"] if fork else []
    named += ["--include-partial-messages"] if partial_messages else []
    fields = initialize_fields(served)
    if returns is not None:
        fields["jsonSchema"] = AnswerShape(returns).schema
    if append_system_prompt:
        fields["appendSystemPrompt"] = append_system_prompt
    first = [(f"{_FIRST}-a", control_request("optio-initialize", "initialize", **fields))]
    sent = (Unconfirmed(str(uuid4()), prompt),) if prompt is not None else ()
    for one in sent:
        said = user_message(one.text, one.uuid, attachments=attachments)
        first.append((f"{_FIRST}-b", said))
    return Launch(
        (executable, *ARGUMENTS, *named, *arguments),
        {**ENVIRONMENT, **variables_of(mcp_servers), **(env or {})},
        tuple(first),
        sent,
        resume is not None,
    )


async def check_root(host: Host, launch: Launch, *, env_base: EnvBase = "login") -> None:
    """Raises RootRefused for what the CLI would refuse with nothing but a line on stderr."""
    if not any("bypassPermissions" in arg or "skip-permissions" in arg for arg in launch.argv):
        return
    login = await host.machine.login_environment() if env_base == "login" else {}
    if {**login, **launch.env}.get("IS_SANDBOX") in {"1", "true"}:
        return
    if (await host.ask("id -u")).stdout.strip() == b"0":
        raise RootRefused(
            f"claude does not bypass permissions as root on {host.machine.name}: "
            "run it as another user, or in a sandbox with IS_SANDBOX=1 in its environment"
        )


@asynccontextmanager
async def claude_code(
    host: Host,
    *,
    prompt: str | None = None,
    cwd: str | None = None,
    model: str | None = None,
    permission_mode: PermissionMode | None = None,
    allowed_tools: Sequence[str] | None = None,
    resume: str | None = None,
    fork: bool = False,
    append_system_prompt: str | None = None,
    env: Mapping[str, str] | None = None,
    env_base: EnvBase = "login",
    executable: str = "claude",
    arguments: Sequence[str] = (),
    partial_messages: bool = False,
    max_usd: float | None = None,
    mcp_servers: Sequence[ToolServer] = (),
    returns: Any = None,
    session_dir: str | None = None,
    meta: Mapping[str, object] | None = None,
    **options: Unpack[ClaudeOptions],
) -> AsyncIterator[ClaudeCodeConversation]:
    """Converse with a new claude CLI on *host*, in *cwd*; leaving the block ends it.

    Without *cwd* it works in the work directory of *host*, which is made where it is missing.
    *resume* continues a CLI session (`conversation.session_id`), with *fork* in a copy of it. Only
    `detach` leaves it running, for `claude_code_adopt`. *options* are those of
    `ClaudeCodeConversation`; its *tools* are functions of ours, which the CLI calls over its own
    stream. *partial_messages* lets it tell what it says piece by piece (`on_text`), *max_usd* is
    what it may cost until it ends by that.
    *returns* has the CLI itself see to it that its model answers with such a value, which is each
    turn's `value` then.
    Raises RootRefused and what `agents.start` raises.
    """
    check_host(host)
    launch = plan_launch(
        prompt=prompt,
        model=model,
        permission_mode=permission_mode,
        allowed_tools=allowed_tools,
        resume=resume,
        fork=fork,
        append_system_prompt=append_system_prompt,
        env=env,
        executable=executable,
        arguments=arguments,
        served=Served.of(options.get("tools", ()), options.get("hooks", ())),
        partial_messages=partial_messages,
        max_usd=max_usd,
        mcp_servers=mcp_servers,
        returns=returns,
    )
    await check_root(host, launch, env_base=env_base)
    if cwd is None:
        await ready_workdir(host)
    async with (
        agents.start(
            host,
            launch.argv,
            cwd=cwd,
            env=launch.env,
            env_base=env_base,
            session_dir=session_dir,
            name="claude",
            first_input=launch.first_input,
            meta=meta,
        ) as agent,
        _conversing(agent, sent=launch.sent, resumed=launch.resumed, **options) as conversation,
        conversation.leaving(),
    ):
        yield conversation


@asynccontextmanager
async def claude_code_adopt(
    agent: Agent, *, cursor: Cursor | None = None, **options: Unpack[ClaudeOptions]
) -> AsyncIterator[ClaudeCodeConversation]:
    """Take up the conversation with a CLI that `claude_code` started, from its journal.

    Events behind *cursor* are handed over, all of them without one; what stands before it only
    tells what is open. Open permission requests and calls of *tools* are offered again, answered
    ones are not.
    Leaving the block leaves the CLI as it is: it belongs to the block of *agent*.
    """
    sent = await sent_before(agent, message_of)
    async with _conversing(agent, cursor=cursor, sent=sent, **options) as conversation:
        yield conversation


@asynccontextmanager
async def _conversing(
    agent: Agent,
    *,
    cursor: Cursor | None = None,
    sent: Sequence[Unconfirmed],
    resumed: bool = False,
    **options: Unpack[ClaudeOptions],
) -> AsyncIterator[ClaudeCodeConversation]:
    """Converse with the CLI that *agent* is, while the block lasts; leaving it ends nothing."""
    conversation = ClaudeCodeConversation(**options, resumed=resumed, echoes=True)
    conversation.attach_wire(AgentWire(agent, cursor, line_limit=LINE_LIMIT), sent=sent)
    async with task_group() as tasks:
        tasks.start_soon(conversation.run_reader)
        yield conversation
        tasks.cancel_scope.cancel()
