"""`optio-agents run` and `demo`: start an agent and supervise it to its end."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click
from click.core import ParameterSource

from optio_agents.cli import exits
from optio_agents.cli.options import (
    CommandOptions,
    SessionId,
    host_options,
    named_environment,
    ssh_of,
    supervision_options,
)
from optio_agents.cli.output import warnings
from optio_agents.cli.verbs.agents import (
    LIST,
    AgentName,
    agent_of,
    check_permission,
    list_agents,
    other_spec,
    read_files,
    usage_errors,
)
from optio_agents.display import Secrets
from optio_agents.hosts.environment import credentials_in

if TYPE_CHECKING:
    from optio_agents.cli.screen.supervised import ShownSession
    from optio_agents.context import HookContext
    from optio_agents.conversation.claude import PermissionMode
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.session.options import Deliverable
    from optio_agents.store.records import SessionResult
    from optio_agents.supervision.kinds import AgentSpec
    from optio_agents.supervision.sessions import PastSession


async def start_session(
    options: CommandOptions,
    agent: AgentSpec,
    *,
    ssh: SSHConfig | None,
    cwd: str | None = None,
    **more: Any,
) -> int:
    """Start *agent*, and supervise it in this terminal; the exit code is the answer.

    *more* is what `supervise` takes besides.
    """
    from optio_agents.cli.screen.supervised import open_terminal
    from optio_agents.hosts.host import make_host
    from optio_agents.supervision.sessions import new_session_id, task_directory

    if ssh and cwd and not cwd.startswith(("/", "~")):
        cwd = f"~/{cwd}"  # as scp has it: from the home directory there

    async def run(shown: ShownSession) -> SessionResult:
        async with make_host(ssh, taskdir=task_directory(shown.session), workdir=cwd) as host:
            return await shown.supervise(host, agent, session=shown.session, **more)

    async with open_terminal(options) as terminal:
        code = await terminal.show({new_session_id(): run}, where=ssh.name if ssh else "")
    return exits.DONE if options.detach and code == exits.DETACHED else code


_TITLE = 200  # characters
OWN_BRANCH = "optio/ID"  # no branch has this name but where nobody gives one
_GIVEN = {ParameterSource.COMMANDLINE}  # settings may well have a model, for claude
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


@click.command(
    cls=RunVerb,
    context_settings={"auto_envvar_prefix": "OPTIO_AGENTS_RUN"},
    epilog="Example:  optio-agents run --host me@box --cwd project 'Fix the failing tests'",
)
@host_options
@click.option(
    "--agent",
    type=AgentName(),
    default="claude",
    show_default=True,
    help="Which agent: claude, codex, gemini, opencode, qwen, kimi, copilot; acp:COMMAND for any "
    "other that speaks ACP; aider, amp, crush, cursor-agent, droid and goose, which act unasked; "
    "list shows where they are installed.",
)
@click.option(
    "--cwd",
    metavar="DIR",
    help="Your own directory to work in; of ours, it gets only .optio/ID/.",
)
@click.option(
    "--worktree",
    is_flag=False,
    flag_value=OWN_BRANCH,
    metavar="[BRANCH]",
    help="Work in a git work tree of its own of the project in --cwd, on BRANCH, or else optio/ID.",
)
@click.option("--model", help="The agent's model.")
@click.option(
    "--permission",
    type=click.Choice(["ask", "accept-edits", "deny", "allow-listed"]),
    default="ask",
    show_default=True,
    help="What the agent may do: ask you, edit in its directory and ask for the rest, nothing "
    "that needs asking, or what --allow lists.",
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
@click.option(
    "--continue",
    "continues",
    metavar="ID",
    type=SessionId(),
    help="Go on with what a session of yours that is over has said and done, where it was.",
)
@click.option("--fork", is_flag=True, help="--continue in a copy, where the agent can make one.")
@click.option(
    "--attach",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Show the agent this file of ours with PROMPT: an image, or what else it can be shown.",
)
@click.option("--title", help="What the session is about.")
@click.option("--name", help="What to call it, wherever an ID is asked for.")
@click.option("--detach", is_flag=True, help="Start it, and come back with `attach`.")
@click.option(
    "--verify",
    metavar="CMD",
    help="At DONE run CMD where the agent works: it is done when that exits 0, and is told "
    "what to mend when not.",
)
@click.option(
    "--verify-tries",
    type=click.IntRange(min=1),
    metavar="N",
    help="End the session at the Nth DONE that CMD refuses.  [default: 3]",
)
@click.option(
    "--verify-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="End CMD after S seconds; it has refused DONE then.  [default: 900]",
)
@click.option(
    "--restart",
    type=click.IntRange(min=0),
    metavar="N",
    help="Start an agent that died again, at most N times.",
)
@click.option(
    "--max-usd",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="End it when its turns have cost $N.",
)
@click.option(
    "--max-turns",
    type=click.IntRange(min=1),
    metavar="N",
    help="End it when N turns have ended without DONE.",
)
@click.option(
    "--max-time",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="End it when it is not done S seconds after it began.",
)
@click.option(
    "--at-limit",
    type=click.Choice(["wait", "stop"]),
    help="At a usage limit of the agent's account, wait and go on, or end it.  [default: wait]",
)
@click.option(
    "--journal-limit",
    type=click.IntRange(min=1),
    metavar="BYTES",
    help="End it when its output has grown beyond BYTES.",
)
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
    worktree: str | None,
    model: str | None,
    permission: str,
    allow: tuple[str, ...],
    env: tuple[str, ...],
    env_file: Path | None,
    end_input: bool,
    continues: str | None,
    fork: bool,
    attach: tuple[Path, ...],
    title: str | None,
    name: str | None,
    **rest: Any,
) -> int:
    """Start an agent with PROMPT and supervise it to its end.

    Any program can be the agent: `run [PROMPT] -- COMMAND…`; PROMPT, with how to use the log in
    front of it, is then its first input.
    """
    from optio_agents.supervision import Command
    from optio_agents.supervision.sessions import RULES

    command: tuple[str, ...] = ctx.meta.get(_COMMAND, ())
    if worktree:
        rest["worktree"], prompt = _branch(worktree, prompt, command, cwd)
    text = " ".join(prompt) or None
    given = named_environment(env, env_file, os.environ)
    ended = _past(continues, fork=fork, elsewhere=bool(host or cwd or command))
    ssh = ended.ssh if ended else ssh_of(host, policy=host_key) if host else None
    cwd = ended.cwd if ended else cwd
    more: dict[str, Any] = {"continues": ended.conversation, "fork": fork} if ended else {}
    more |= read_files(attach)
    named = ctx.get_parameter_source("agent") in _GIVEN
    agent = agent_of(ended) if ended and not named else agent
    secrets = Secrets(credentials_in(given))
    warnings.hide(secrets)
    spec: AgentSpec
    if command:
        if {ctx.get_parameter_source(name) for name in ("model", "allow", "attach")} & _GIVEN:
            raise click.UsageError("--model, --allow and --attach are claude's, not a command's")
        spec = Command(command, prompt=text, reads_to_end=end_input, env=given)
    elif agent == LIST:
        return anyio.run(list_agents, ssh)
    elif text is None:
        raise click.UsageError("say what to do: run PROMPT, or run -- COMMAND")
    elif permission == "deny" and allow:
        raise click.UsageError("--permission deny allows nothing: say allow-listed for --allow")
    elif agent != "claude":
        chosen = ctx.get_parameter_source("permission") in _GIVEN
        check_permission(agent, permission, allow, chosen=chosen)
        ours = ctx.get_parameter_source("model") in _GIVEN
        spec = other_spec(agent, text, model if ours else None, given, **more)
    else:
        from optio_agents.supervision import Claude

        mode: PermissionMode | None = None
        if permission == "accept-edits":
            mode, permission = "acceptEdits", "ask"
        with usage_errors():
            spec = Claude(
                text, model=model, permission_mode=mode, allowed_tools=allow, env=given, **more
            )
    rules = {
        name: value
        for name in (*RULES, "journal_limit", "worktree")
        if (value := rest.pop(name, None))  # `--verify ''` and `--restart 0` unset a setting
    }
    title = secrets.hide(title or text or " ".join(command)).strip().partition("\n")[0][:_TITLE]
    options = CommandOptions(permission=permission, **rest)
    more = {"ssh": ssh, "cwd": cwd, "title": title, "name": name, **rules}
    return anyio.run(partial(start_session, options, spec, **more))


def _branch(
    word: str, prompt: tuple[str, ...], command: tuple[str, ...], cwd: str | None
) -> tuple[str | bool, tuple[str, ...]]:
    """The branch that `--worktree` names, and the prompt: what it is followed by may be that."""
    if not cwd:
        raise click.UsageError("--worktree is one of a project: say which, with --cwd DIR")
    if word == OWN_BRANCH:
        return True, prompt
    if " " in word or not (prompt or command):
        return True, (word, *prompt)
    return word, prompt


def _past(session: str | None, *, fork: bool, elsewhere: bool) -> PastSession | None:
    """The session that `--continue` names, if it names one. Raises click.UsageError."""
    from optio_agents.store import Store
    from optio_agents.supervision.sessions import past_session

    if session is None and fork:
        raise click.UsageError("--fork is for --continue")
    if session is None:
        return None
    if elsewhere:
        raise click.UsageError("--continue goes on where the session was, with its agent")

    async def find(beginning: str) -> PastSession:
        async with Store() as store:
            return await past_session(store, beginning)

    return anyio.run(find, session)


# `optio-agents demo`: a scripted agent does all that an agent may do, supervised for real.


_STEPS = (
    "STATUS: 5% reading the task",
    "sleep 1",
    "STATUS: 15% writing a poem about log files",
    "sleep 1.5",
    "write poem.md Append, append: the file will never bend",
    "DELIVERABLE: deliverables/poem.md",
    "hear",
    "STATUS: 40% the poem needs an end, it was said",
    "sleep 1.5",
    "write poem-2.md Append, append: the file will never bend. What starts with STATUS has a DONE.",
    "DELIVERABLE: deliverables/poem-2.md",
    "hear",
    "STATUS: 65% measuring silence, for something that is not text",
    "sleep 1.5",
    "binary silence.wav 65536",
    "DELIVERABLE: deliverables/silence.wav",
    "hear",
    "STATUS: 90% tidying up",
    "sleep 1",
    "DONE: a poem on the second attempt, and 64 KiB of silence",
)


async def _review(_: HookContext, deliverable: Deliverable) -> str | None:
    """What a task hook would do: accept, or say what to change."""
    if deliverable.path == "poem.md":
        return "It has no end. Please write one, and hand it over as poem-2.md."
    return None


@click.command(epilog="Example:  optio-agents demo --host me@box")
@host_options
@supervision_options
def demo(host: str | None, host_key: str, save: Path | None, **rest: Any) -> int:
    """Watch a scripted agent work, here or on a host: about ten seconds, nothing to set up.

    It is a real process, supervised as any other: statuses, a text that has to be revised, a
    binary file, DONE. The files are kept in ./optio-demo, or where --save says.
    """
    from optio_agents.supervision import Command
    from optio_agents.testing.scripted import scripted_agent

    options = CommandOptions(save=save or Path("optio-demo"), **rest)
    ssh = ssh_of(host, policy=host_key) if host else None
    show = partial(start_session, ssh=ssh, title="demo", on_deliverable_file=_review)
    return anyio.run(show, options, Command(scripted_agent(*_STEPS)))
