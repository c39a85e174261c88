"""`optio-agents prompt`: the words that teach an agent the log channel."""

from __future__ import annotations

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
