"""Everything between a wish and a running agent: its place, what it is taught, its first words."""

from __future__ import annotations

import shlex
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optio_agents import agents
from optio_agents.errors import AgentError, HostError
from optio_agents.protocol.prompt import build_log_channel_prompt, compose_agents_md

from .spec import Claude, Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from optio_agents.agents import Agent
    from optio_agents.hosts.host import Host
    from optio_agents.protocol.protocol import Protocol

    from .spec import AgentSpec


_LAUNCH = 16 << 20  # bytes
_FIRST = "0" * 20  # sorts in front of every message that is named by the clock


@dataclass(frozen=True, slots=True)
class _Start:
    argv: Sequence[str]
    env: Mapping[str, str]
    first_input: Sequence[tuple[str, bytes]]


@asynccontextmanager
async def started(
    host: Host,
    spec: AgentSpec,
    protocol: Protocol,
    *,
    name: str,
    meta: Mapping[str, object],
    journal_limit: int | None,
    before_launch: Callable[[str], Awaitable[None]],
) -> AsyncIterator[Agent]:
    """Prepare a clean work directory and run *spec* there while the block lasts."""
    real = await _prepare(host, spec, protocol)
    start = await _planned(host, spec, protocol, real)
    shims = await protocol.prepare_browser_shims(host) or {}
    async with agents.start(
        host,
        start.argv,
        env={**shims, **start.env},
        env_base=spec.env_base,
        name=name,
        journal_limit=journal_limit,
        first_input=start.first_input,
        meta=meta,
        before_launch=before_launch,
    ) as agent:
        if isinstance(spec, Command) and spec.reads_to_end:
            await agent.end_input()
        yield agent


async def _prepare(host: Host, spec: AgentSpec, protocol: Protocol) -> str:
    """Make its place; returns where the log and the deliverables really are."""
    await host.setup_workdir()
    answer = await host.ask("hosts/channel.sh", host.workdir, "start")
    if answer.exit_code:
        words = answer.stderr.decode(errors="replace").strip()
        raise HostError(f"{host.workdir} cannot hold the log channel: {words}")
    if host.own_workdir and isinstance(spec, Command):  # claude does not read it
        taught = compose_agents_md(spec.prompt or "", documentation=_taught(host, spec, protocol))
        await host.write_text("AGENTS.md", taught)
    return answer.stdout.decode(errors="surrogateescape").removesuffix("\n.\n")


async def _planned(host: Host, spec: AgentSpec, protocol: Protocol, real: str) -> _Start:
    match spec:
        case Command(argv, prompt=prompt, env=env):
            said = f"{_taught(host, spec, protocol)}\n{prompt}\n" if prompt is not None else ""
            first = [(f"{_FIRST}-prompt", said.encode())] if said else []
            return _Start(tuple(argv), env, first)
        case Claude():
            from optio_agents.conversation.claude.launch import (
                check_root,
                plan_launch,
                reporting_rules,
            )

            launch = plan_launch(
                prompt=spec.prompt,
                model=spec.model,
                permission_mode=spec.permission_mode,
                allowed_tools=[*spec.allowed_tools, *reporting_rules(host.workdir, real)],
                append_system_prompt=_taught(host, spec, protocol),
                env=spec.env,
                executable=spec.executable,
                arguments=spec.options,
            )
            await check_root(host, launch, env_base=spec.env_base)
            return _Start(launch.argv, launch.env, launch.first_input)


def _taught(host: Host, spec: AgentSpec, protocol: Protocol) -> str:
    replies = not (isinstance(spec, Command) and spec.reads_to_end)
    if protocol.documentation != build_log_channel_prompt(protocol.features):
        return protocol.documentation  # words of the caller's own
    return build_log_channel_prompt(protocol.features, replies=replies, logdir=host.workdir)


async def credentials_of(host: Host, agent: Agent, names: Sequence[str]) -> dict[str, str]:
    """The values of *names* that *agent* was started with: its host keeps them, nobody else."""
    if not names:
        return {}
    text = await host.fetch_bytes_from_host(f"{agent.directory}/launch", max_bytes=_LAUNCH)
    try:
        words = shlex.split(text.decode("utf-8", "surrogateescape"))
    except ValueError as error:  # the agent can write there, too
        raise AgentError(f"{agent.directory}/launch was damaged: {error}") from error
    pairs = (word.partition("=") for word in words)
    return {name: value for name, equals, value in pairs if equals and name in names}
