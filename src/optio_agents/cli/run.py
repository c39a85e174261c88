"""`optio-agents run`: start an agent and supervise it to its end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click
from click.core import ParameterSource

from optio_agents.cli.environment import named_environment
from optio_agents.cli.places import host_options, ssh_of
from optio_agents.cli.wish import Wish, supervise_wish

if TYPE_CHECKING:
    from collections.abc import Callable

    from optio_agents.session.spec import AgentSpec

_TITLE = 200  # characters
_SAID = {ParameterSource.COMMANDLINE}  # settings may well have a model, for claude
_COMMAND = "optio_agents.command"  # where in the context a command line behind `--` is kept


class RunVerb(click.Command):
    """A verb whose arguments behind `--` are the agent's command line, untouched."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND] = tuple(args[at + 1 :])
            args = args[:at]
            if not ctx.meta[_COMMAND]:
                raise click.UsageError("no command stands behind --", ctx)
        return super().parse_args(ctx, args)


def supervision_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give *verb* what `run`, `demo` and `attach` share."""
    options = (
        click.option(
            "--save",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help="Keep deliverables in DIR.",
        ),
        click.option("--json", "as_lines", is_flag=True, help='One record per line, `"v": 1`.'),
        click.option(
            "--notify",
            metavar="CMD",
            envvar="OPTIO_AGENTS_NOTIFY",
            help="Run CMD when you are needed, and at the end; JSON on stdin.",
        ),
        click.option("--stop-on-exit", is_flag=True, help="Leaving stops the agent."),
        click.option(
            "--stall-after",
            type=click.FloatRange(min=0, min_open=True),
            metavar="S",
            envvar="OPTIO_AGENTS_STALL_AFTER",
            help="End it after S seconds without a sign of life.",
        ),
        click.option(
            "--lost-after",
            type=click.FloatRange(min=0, min_open=True),
            metavar="S",
            envvar="OPTIO_AGENTS_LOST_AFTER",
            help="Give up a host that stayed away for S seconds; else it is waited for.",
        ),
    )
    for option in reversed(options):
        verb = option(verb)
    return verb


@click.command(
    cls=RunVerb,
    context_settings={"auto_envvar_prefix": "OPTIO_AGENTS_RUN"},
    epilog="Example:  optio-agents run --host me@box --cwd project 'Fix the failing tests'",
)
@host_options
@click.option("--agent", type=click.Choice(["claude"]), default="claude", show_default=True)
@click.option("--cwd", metavar="DIR", help="Your own directory for the agent to work in.")
@click.option("--model", help="The agent's model.")
@click.option(
    "--permission",
    type=click.Choice(["ask", "deny", "allow-listed"]),
    default="ask",
    show_default=True,
    help="What the agent may do: ask you, nothing that needs asking, or what --allow lists.",
)
@click.option("--allow", multiple=True, metavar="TOOL", help="A tool to allow unasked.")
@click.option("--env", multiple=True, metavar="NAME", help="Hand over this variable of ours.")
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="F",
    help="Hand over the NAME=VALUE lines of F.",
)
@click.option(
    "--end-input",
    is_flag=True,
    help="Close a command's input behind PROMPT, for one that reads it to its end.",
)
@click.option("--title", help="What to call the session.")
@click.option("--detach", is_flag=True, help="Start it, and come back with `attach`.")
@supervision_options
@click.argument("prompt", nargs=-1)
@click.pass_context
def run(
    ctx: click.Context,
    /,
    prompt: tuple[str, ...],
    host: str | None,
    host_key: str,
    agent: str,
    cwd: str | None,
    model: str | None,
    permission: str,
    allow: tuple[str, ...],
    env: tuple[str, ...],
    env_file: Path | None,
    end_input: bool,
    title: str | None,
    **rest: Any,
) -> int:
    """Start claude with PROMPT and supervise it to its end.

    Any program can be the agent: `run [PROMPT] -- COMMAND…`; PROMPT, with how to use the log in
    front of it, is then its first input.
    """
    from optio_agents.session.spec import Claude, Command

    command: tuple[str, ...] = ctx.meta.get(_COMMAND, ())
    text = " ".join(prompt) or None
    given = named_environment(env, env_file, os.environ)
    spec: AgentSpec
    if command:
        if {ctx.get_parameter_source(name) for name in ("model", "allow")} & _SAID:
            raise click.UsageError("--model and --allow are claude's, not a command's")
        spec = Command(command, prompt=text, reads_to_end=end_input, env=given)
    elif text is None:
        raise click.UsageError("say what to do: run PROMPT, or run -- COMMAND")
    elif permission == "deny" and allow:
        raise click.UsageError("--permission deny allows nothing: say allow-listed for --allow")
    else:
        spec = Claude(text, model=model, allowed_tools=allow, env=given)
    wish = Wish(
        spec=spec,
        ssh=ssh_of(host, policy=host_key) if host else None,
        cwd=cwd,
        title=(title or text or " ".join(command)).strip().partition("\n")[0][:_TITLE],
        permission=permission,
        **rest,
    )
    return anyio.run(supervise_wish, wish)
