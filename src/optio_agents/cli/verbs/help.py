"""`optio-agents help`: the guide, which is part of the package, in the terminal."""

from __future__ import annotations

import shutil
import sys
from importlib.resources import files

import click

_FIRST = ("first-hour", "supervising", "hooks", "conversations", "hosts", "prompts")
_WIDTH = 100  # columns of prose that one likes to read


@click.command("help", epilog="Example:  optio-agents help first-hour")
@click.argument("topic", required=False)
@click.pass_context
def help(ctx: click.Context, topic: str | None) -> None:  # noqa: A001 - the name of the verb
    """Show the page TOPIC of the guide, or the help of a verb; without one, what there is."""
    pages = _pages()
    if topic is None:
        for name, text in pages.items():
            click.echo(f"  {name:<16} {text.partition(chr(10))[0].removeprefix('# ')}")
        click.echo("\n`optio-agents help TOPIC` shows a page, or what a verb takes.")
    elif topic in pages:
        _show(pages[topic])
    else:
        app = ctx.find_root()
        assert isinstance(app.command, click.Group)
        verb = app.command.get_command(app, topic)
        if verb is None:
            raise click.UsageError(f"there is no page {topic!r}: say one of {', '.join(pages)}")
        with click.Context(verb, info_name=topic, parent=app) as of_verb:
            click.echo(verb.get_help(of_verb))


def _pages() -> dict[str, str]:
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
