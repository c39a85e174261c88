"""The verbs, each loaded when it is asked for, and the one place where an error becomes words."""

from __future__ import annotations

import os
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optio_agents.cli import exits
from optio_agents.errors import OptioAgentsError

from .exits import sentence
from .output import mute, warnings

if TYPE_CHECKING:
    from collections.abc import Sequence


# verb: (module, what the overview says); `--help` of the whole need not load a single verb
VERBS = {
    "run": ("run", "Start an agent and supervise it to its end."),
    "demo": ("run", "Watch a scripted agent do all that an agent may do."),
    "watch": ("watch", "Follow an optio.log, here or on a host."),
    "ls": ("sessions", "List the sessions of the journal, or of a host."),
    "show": ("sessions", "Tell what happened in a session."),
    "logs": ("sessions", "Print the log of a session."),
    "fetch": ("files", "Bring what an agent has made here."),
    "diff": ("files", "Show what changed in the agent's git tree."),
    "transcript": ("files", "Print what was said and done in a session."),
    "prune": ("sessions", "Remove ended sessions, here and on their hosts."),
    "attach": ("attach", "See a running session, or all of them, and own it."),
    "send": ("act", "Say something to an agent."),
    "set": ("act", "Set an agent's model, its mode or the like."),
    "put": ("files", "Hand a file to an agent."),
    "interrupt": ("act", "End the agent's turn."),
    "approve": ("act", "Let the agent do what it asks for."),
    "deny": ("act", "Do not let it."),
    "answer": ("act", "Answer the agent's question."),
    "stop": ("act", "End an agent and all its processes."),
    "serve": ("optio_agents.web.verb", "Show all sessions on a page, for browsers."),
    "team": ("teams", "Work with agents, models, people and functions that call one another."),
    "sit": ("turns", "Answer what a team asks a person."),
    "prompt": ("prompt", "Print the words that teach an agent the log channel."),
    "check": ("watch", "Report what an agent did wrong in its log."),
    "help": ("prompt", "Read the guide, a page for each topic."),
    "doctor": ("doctor", "Check this machine, or a host, and say how to mend it."),
}


# the verbs that have settings
CONFIGURED = ("run", "demo", "attach", "watch", "ls", "doctor", "serve")


class Verbs(click.Group):
    """The overview, and the way to each verb."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        home = VERBS[cmd_name][0]
        module = import_module(home if "." in home else f"optio_agents.cli.verbs.{home}")
        found = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, words) for verb, (_, words) in VERBS.items()])


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example:  optio-agents demo",
)
@click.version_option(package_name="optio-agents")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Supervise coding agents, here and behind SSH, and know the truth about them."""
    if os.environ.get("HOME") == "":  # what is kept would be kept below /
        raise ValueError("HOME is empty: set it to your home directory")
    if ctx.invoked_subcommand in CONFIGURED:
        ctx.default_map = _defaults()


def _defaults() -> dict[str, dict[str, Any]]:
    """What the user's `config.toml` says, verb by verb. Raises ValueError with file and line."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    path = Path(base) / "optio-agents" / "config.toml"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    from .settings import read_settings  # only where there is something to read

    settings = read_settings(text, path)
    return {verb: settings.of(verb) for verb in CONFIGURED}


def run_command(argv: Sequence[str]) -> int:
    """Run the command line *argv*; the exit code is the answer."""
    at = argv.index("--") if "--" in argv else len(argv)  # what stands behind is somebody else's
    debug = "--debug" in argv[:at]  # wherever a person adds it
    words = [*(word for word in argv[:at] if word != "--debug"), *argv[at:]]
    with warnings.telling(whole=debug):
        return _run(words, debug=debug)


def _run(words: list[str], *, debug: bool) -> int:
    try:
        code = app.main(args=words, prog_name="optio-agents", standalone_mode=False)
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.Abort:
        return exits.CANCELLED
    except click.ClickException as misuse:
        misuse.show()
        return exits.USAGE
    except BrokenPipeError:
        mute()
        return exits.DONE
    except (KeyboardInterrupt, OptioAgentsError, ValueError, OSError) as error:
        return _report(error, debug=debug)
    except Exception as error:
        return _report(error, debug=debug, ours=True)
    return code if isinstance(code, int) else exits.DONE


def _report(error: BaseException, *, debug: bool, ours: bool = False) -> int:
    if debug:
        whole = "".join(traceback.format_exception(error))
        click.echo(warnings.hidden(whole), err=True, nl=False)
    elif not isinstance(error, KeyboardInterrupt):
        kind = f"a fault of ours, {type(error).__name__}: " if ours else ""
        after = " (--debug shows where; please report it)" if ours else ""
        click.echo(f"optio-agents: {kind}{warnings.hidden(sentence(error))}{after}", err=True)
    return exits.OUR_FAULT if ours else exits.exit_code(error)
