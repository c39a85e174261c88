"""Agents by name on the command line: which there are, where they are installed, what they take."""

from __future__ import annotations

import mimetypes
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from optio_agents.display import visible

if TYPE_CHECKING:
    from optio_agents.conversation.contract import Attachment
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.supervision.kinds import AgentSpec
    from optio_agents.supervision.sessions import PastSession


LIST = "list"
ACP = "acp:"  # in front of a command that speaks the protocol


class AgentName(click.types.StringParamType):
    """The name of an agent, `acp:COMMAND` for another one, or `list`."""

    name = "agent"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from optio_agents.supervision.kinds.named import ROWS

        if value in ROWS or value == LIST:
            return value
        if value.startswith(ACP):
            try:
                if shlex.split(value.removeprefix(ACP)):
                    return value
            except ValueError:
                pass
        known = ", ".join(ROWS)
        return self.fail(
            f"{value!r} is no agent that is known by name: {known}; acp:COMMAND is any that speaks "
            "ACP, `-- COMMAND` any other program",
            param,
            ctx,
        )

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from optio_agents.supervision.kinds.named import ROWS

        return [CompletionItem(name) for name in (*ROWS, LIST) if name.startswith(incomplete)]


def check_permission(agent: str, permission: str, allow: Sequence[str], *, chosen: bool) -> None:
    """Raises click.UsageError where *agent*, not claude, is not bound by what was *chosen*."""
    if permission == "accept-edits" or allow:
        raise click.UsageError("--permission accept-edits and --allow are claude's alone")
    if chosen and _acts_unasked(agent):
        raise click.UsageError(f"{agent} asks for nothing: --permission does not bind it")


def _acts_unasked(agent: str) -> bool:
    from optio_agents.supervision.kinds.named import ROWS

    return agent in ROWS and ROWS[agent].acts_unasked


def agent_of(past: PastSession) -> str:
    """The name of the agent that had *past*. Raises click.UsageError where it has none."""
    from optio_agents.supervision.kinds.named import ROWS

    for row in ROWS.values():
        if row.kind == past.agent and row.name == past.program.rpartition("/")[2]:
            return row.name
    raise click.UsageError(f"say which agent it was: --agent 'acp:{past.program} …'")


def other_spec(
    agent: str, prompt: str, model: str | None, env: Mapping[str, str], **past: Any
) -> AgentSpec:
    """What `--agent` names, if it is not claude. Raises click.UsageError."""
    from optio_agents.supervision import Acp, Codex, Command
    from optio_agents.supervision.kinds.acp import NAMED

    if agent == "codex":
        return Codex(prompt, model=model, env=env, **past)
    if agent.startswith(ACP):
        if model:
            raise click.UsageError(f"{agent} is given its model in its own command")
        return Acp(shlex.split(agent.removeprefix(ACP)), prompt, env=env, **past)
    if _acts_unasked(agent) and past:
        text_alone = "is told text alone: put the file on its host, and name it in PROMPT"
        why = text_alone if "attachments" in past else "has no conversation that could go on"
        raise click.UsageError(f"{agent} {why}")
    with usage_errors():
        if _acts_unasked(agent):
            return Command.named(agent, prompt, model=model, env=env)
        return NAMED[agent](prompt, model=model, env=env, **past)


@contextmanager
def usage_errors() -> Iterator[None]:
    """What an agent refuses to be made of is a mistake of the command line's."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def read_files(paths: Sequence[Path]) -> dict[str, list[Attachment]]:
    """What a spec has of files, if there are any: their types by their names, or else text."""
    from optio_agents.conversation.contract import Attachment

    found = []
    for path in paths:
        data, (kind, _) = path.read_bytes(), mimetypes.guess_type(path.name)
        if kind is None:
            kind = "application/octet-stream" if b"\0" in data else "text/plain"
        found.append(Attachment(kind, data, name=path.name))
    return {"attachments": found} if found else {}


async def list_agents(ssh: SSHConfig | None) -> int:
    """Show every agent that is known by name, and whether it is installed there."""
    from optio_agents.agents.launch import widened
    from optio_agents.hosts.host import make_host
    from optio_agents.supervision.kinds.named import ROWS

    async with make_host(ssh, taskdir="~") as host:
        login = (await host.machine.login_environment()).get("PATH", "")
        path = await widened(host.machine, login)  # as a start would look for it
        find = 'PATH=$1; shift; for name; do command -v "$name" || echo; done'
        answer = await host.ask(find, path, *ROWS)
    places = answer.stdout.decode("utf-8", "replace").split("\n")
    for row, place in zip(ROWS.values(), places, strict=False):
        click.echo(f"{row.name:<12} {visible(place) or f'not installed: {row.install}'}")
        if row.keys:
            click.echo(f"{'':<12} --env {' or '.join(row.keys)}, or its own login there")
        if row.acts_unasked:
            click.echo(f"{'':<12} acts unasked, and hears no messages")
    return 0
