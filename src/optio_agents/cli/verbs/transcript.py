"""`optio-agents transcript`: what was said and done in a session, from the agent's own output.

The output is brought here as a file and read line by line, so its size is nobody's memory.
"""

from __future__ import annotations

import html
import json
import posixpath
import re
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

import anyio
import click

from optio_agents.cli.options import session_argument
from optio_agents.cli.output import as_json
from optio_agents.cli.screen.records import record
from optio_agents.conversation.dialect import Passage
from optio_agents.display import Secrets, visible, visible_block
from optio_agents.errors import FileRefused, OptioAgentsError
from optio_agents.framing.lines import LineSplitter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from optio_agents.conversation.dialect import PassageReader
    from optio_agents.store import StoredSession


_LINE = 16 << 20  # bytes of a line; of a longer one only the front could be read, so it is left out
_CHUNK = 1 << 18
_RESULT = 4000  # characters of what a tool gave


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
        for who, text, change in with_prompts(
            read_output(output, reader_of(stored)), read_queue(queue)
        ):
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
    from optio_agents.supervision.sessions import Facts, host_of

    values: dict[str, str] = {}
    async with Store() as store:
        session = await store.session(beginning)
        async with host_of(session) as host:
            directory = posixpath.join(session.taskdir, "session")
            await host.fetch_file(posixpath.join(directory, "stdout"), output, root=directory)
            if not reader_of(session).has_prompts:
                with suppress(FileRefused):  # nothing was said
                    await host.fetch_file(posixpath.join(directory, "queue"), queue, root=directory)
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


def reader_of(session: StoredSession) -> PassageReader:
    """A reader of what such an agent writes."""
    from optio_agents.supervision.kinds import kind_named

    return kind_named(str(session.facts["agent"])).passages()


def read_output(output: BinaryIO, reader: PassageReader) -> Iterator[Passage]:
    """What the lines of *output* say, in order."""
    for line in _lines(output):
        if isinstance(line, int):
            yield Passage("output", f"(a line of {line} bytes is left out)")
        else:
            yield from read_line(line, reader)
    yield from reader.close()


def read_queue(queue: BinaryIO) -> Iterator[str]:
    """What was said to the agent, in order: each opened a turn."""
    names = set[str]()
    for line in _lines(queue):
        if isinstance(line, int):
            yield f"(a message of {line} bytes is left out)"
            continue
        with suppress(ValueError, RecursionError):  # the agent could write there
            match json.loads(line):
                case {"name": str(name), "text": str(text)} if name not in names:
                    names.add(name)  # it may stand there twice, and was said once
                    yield text


def with_prompts(passages: Iterable[Passage], prompts: Iterator[str]) -> Iterator[Passage]:
    """*passages*, in front of each turn what opened it."""
    opening = True
    for passage in passages:
        if opening and (prompt := next(prompts, None)) is not None:
            yield Passage("person", prompt)
        opening = passage.who == "turn"
        yield passage
    for prompt in prompts:
        yield Passage("person", prompt)


def _lines(file: BinaryIO) -> Iterator[bytes | int]:
    """Its lines; of one that is too long, its size."""
    file.seek(0)
    splitter = LineSplitter(_LINE)
    while chunk := file.read(_CHUNK):
        lines = splitter.feed(chunk)
        for index, line in enumerate(lines):
            yield splitter.cut.get(index, line)
    if rest := splitter.close():
        yield rest


def read_line(line: bytes, reader: PassageReader) -> Iterator[Passage]:
    """What one line of the output says, behind those that *reader* has had."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or reader.keys.isdisjoint(event):
        yield Passage("output", line.decode("utf-8", "replace").rstrip("\r\n"))
        return
    for passage in reader.feed(event):
        yield passage._replace(text=passage.text[:_RESULT]) if passage.who == "result" else passage


def _text(passage: Passage) -> str:
    indented = visible_block(passage.text, limit=_LINE).replace("\n", "\n         ")
    return f"{passage.who:<8} {indented}"


def _json(passage: Passage) -> str:
    return as_json(record("passage", who=passage.who, text=passage.text))


def _markdown(passage: Passage) -> str:
    text = visible_block(passage.text, limit=_LINE)
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
    text = html.escape(visible_block(passage.text, limit=_LINE))
    return f'<pre class="{passage.who}">{text}</pre>'
