"""`optio-agents prompt` and `help`: texts that come with the package, to pipe and to read."""

from __future__ import annotations

import shutil
import sys
from importlib.resources import files
from typing import TYPE_CHECKING

import click

from optio_agents.protocol.features import ProtocolFeatures
from optio_agents.protocol.prompt import build_log_channel_prompt, compose_agents_md

if TYPE_CHECKING:
    from typing import TextIO

    from optio_agents.protocol.features import BrowserMode


@click.command(epilog="Example:  optio-agents prompt --no-replies >> CLAUDE.md")
@click.option(
    "--browser",
    type=click.Choice(["ignore", "redirect", "suppress"]),
    default="ignore",
    show_default=True,
    help="Teach BROWSER entries, or that there is no browser.",
)
@click.option("--client-messages", is_flag=True, help="Teach CLIENT_MESSAGE entries.")
@click.option("--caller-messages", is_flag=True, help="Teach CALLER_MESSAGE entries.")
@click.option("--no-replies", is_flag=True, help="For an agent that nobody answers.")
@click.option(
    "--compose",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help="Put the prompt behind your own instructions: a whole AGENTS.md. `-` reads them from "
    "standard input.",
)
def prompt(
    browser: BrowserMode,
    client_messages: bool,
    caller_messages: bool,
    no_replies: bool,
    compose: TextIO | None,
) -> None:
    """Print the words that teach an agent the log channel, ready to pipe."""
    features = ProtocolFeatures(
        browser=browser, client_messages=client_messages, caller_messages=caller_messages
    )
    text = build_log_channel_prompt(features, replies=not no_replies)
    if compose is not None:
        text = compose_agents_md(compose.read(), documentation=text)
    click.echo(text, nl=False)


# The guide, which is part of the package.


_FIRST = ("first-hour", "supervising", "hooks", "conversations", "hosts", "prompts")
_WIDTH = 100  # columns of prose that one likes to read


@click.command("help", epilog="Example:  optio-agents help first-hour")
@click.argument("topic", required=False)
@click.pass_context
def help(ctx: click.Context, topic: str | None) -> None:  # noqa: A001 - the name of the verb
    """Show the page TOPIC of the guide, or the help of a verb; without one, what there is."""
    known = pages()
    if topic is None:
        for name, text in known.items():
            click.echo(f"  {name:<16} {text.partition(chr(10))[0].removeprefix('# ')}")
        click.echo("\n`optio-agents help TOPIC` shows a page, or what a verb takes.")
    elif topic in known:
        _show(known[topic])
    else:
        app = ctx.find_root()
        assert isinstance(app.command, click.Group)
        verb = app.command.get_command(app, topic)
        if verb is None:
            raise click.UsageError(f"there is no page {topic!r}: say one of {', '.join(known)}")
        with click.Context(verb, info_name=topic, parent=app) as of_verb:
            click.echo(verb.get_help(of_verb))


def pages() -> dict[str, str]:
    """The text of each page by its name, in the order to read them."""
    found = {
        page.name.removesuffix(".md"): page.read_text("utf-8")
        for page in (files("optio_agents") / "guide").iterdir()
        if page.name.endswith(".md")
    }
    order = [*(name for name in _FIRST if name in found), *sorted(found.keys() - set(_FIRST))]
    return {name: found[name] for name in order}


def _show(text: str) -> None:
    """Rendered where a person reads, as it is where a program does."""
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.console import Console  # it takes a while
    from rich.markdown import Markdown

    width = min(_WIDTH, shutil.get_terminal_size().columns)
    Console(width=width).print(Markdown(text, hyperlinks=False))
