"""`optio-agents transcript`: what was said and done in a session, from the agent's own output.

The output is brought here as a file and read line by line, so its size is nobody's memory.
"""

from __future__ import annotations

import html
import posixpath
import re
import tempfile
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

import anyio
import click

from optio_agents.cli.options import session_argument
from optio_agents.cli.output import as_json, telling_how_far
from optio_agents.cli.screen.records import record
from optio_agents.cli.verbs.files import reached
from optio_agents.conversation.dialect import Passage
from optio_agents.display import Secrets, visible, visible_block
from optio_agents.errors import OptioAgentsError
from optio_agents.supervision.kinds.passages import (
    LINE,
    fetch_queue,
    read_output,
    read_queue,
    reader_of,
    session_directory,
    with_prompts,
)

if TYPE_CHECKING:
    from optio_agents.store import StoredSession


@click.command(epilog="Example:  optio-agents transcript 3f2a --format html >session.html")
@session_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "html", "json"]),
    default="text",
    show_default=True,
)
def transcript(session: str, form: str) -> None:
    """Print what was said and done in the session ID, as the agent's output on its host has it.

    Of a plain command, what it printed. It may be running, or over and not pruned.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as queue:
        stored, secrets = anyio.run(_bring, session, output, queue)
        show = {"text": _text, "markdown": _markdown, "html": _html, "json": _json}[form]
        title = f"{stored.id} {stored.facts.get('title') or ''}".strip()
        if form == "html":
            click.echo(_HEAD.format(title=html.escape(visible(title))))
        elif form == "markdown":
            click.echo(f"# {visible(title)}\n")
        prompts = read_queue(queue)
        passages = with_prompts(read_output(output, reader_of(stored)), prompts)
        waiting = (Passage("person", prompt) for prompt in prompts)
        for who, text, change in chain(passages, waiting):
            click.echo(show(Passage(who, secrets.hide(text), secrets.hide(change))))
        if form == "html":
            click.echo("</body></html>")


async def _bring(
    beginning: str, output: BinaryIO, queue: BinaryIO
) -> tuple[StoredSession, Secrets]:
    """The session, its output, and where the agent repeats none of that, what it was told.

    And its credentials, as far as anybody knows them still.
    """
    from optio_agents import agents
    from optio_agents.store import Store
    from optio_agents.supervision.credentials import credentials_of
    from optio_agents.supervision.sessions import Facts

    values: dict[str, str] = {}
    async with Store() as store:
        session = await store.session(beginning)
        async with reached(session) as host:
            directory = session_directory(host)
            said = posixpath.join(directory, "stdout")
            with telling_how_far("fetching its output") as progress:
                await host.fetch_file(said, output, root=directory, progress=progress)
            if not reader_of(session).has_prompts:
                await fetch_queue(host, queue)
            if hidden := Facts.read(session.facts).hidden:
                with suppress(OptioAgentsError):
                    async with agents.adopt(host) as agent:
                        agent.detach()
                        records = store.journal(session.id)
                        values = await credentials_of(host, agent, hidden, records)
    if unknown := sorted(set(hidden) - values.keys()):
        words = f"nobody knows these any more, so they may stand here: {', '.join(unknown)}"
        click.echo(f"optio-agents: {visible(words)}", err=True)
    return session, Secrets(values)


def _text(passage: Passage) -> str:
    indented = visible_block(passage.text, limit=LINE).replace("\n", "\n         ")
    return f"{passage.who:<8} {indented}"


def _json(passage: Passage) -> str:
    return as_json(record("passage", who=passage.who, text=passage.text))


def _markdown(passage: Passage) -> str:
    text = visible_block(passage.text, limit=LINE)
    if passage.who == "agent":  # it writes Markdown
        return f"{text}\n"
    if passage.who == "person":
        return "\n".join(f"> {line}" for line in text.split("\n")) + "\n"
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 0)
    return f"{fence}{passage.who}\n{text}\n{fence}\n"


_HEAD = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em }}
pre {{ white-space: pre-wrap; font: inherit; margin: .5em 0 }}
.tool, .result, .output, .turn {{ font: 13px/1.4 monospace; color: #666 }}
.person {{ border-left: 3px solid #48c; padding-left: 1em }}
</style></head><body><h1>{title}</h1>"""


def _html(passage: Passage) -> str:
    text = html.escape(visible_block(passage.text, limit=LINE))
    return f'<pre class="{passage.who}">{text}</pre>'
