"""`optio-agents transcript`: what was said and done in a session, from the agent's own output.

The output is brought here as a file and read line by line, so its size is nobody's memory.
"""

from __future__ import annotations

import html
import json
import posixpath
import re
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import anyio
import click

from optio_agents.cli.options import session_argument
from optio_agents.cli.output import as_json
from optio_agents.cli.screen.records import gist, record
from optio_agents.display import visible, visible_block
from optio_agents.framing.lines import LineSplitter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optio_agents.store import StoredSession


_LINE = 16 << 20  # bytes of a line; of a longer one only the front could be read, so it is left out
_CHUNK = 1 << 18
_RESULT = 4000  # characters of what a tool gave


class Passage(NamedTuple):
    """One thing that was said or done, and by whom: person, agent, tool, result, turn, output."""

    who: str
    text: str
    change: str = ""  # to a file, that a tool is to make: lines that begin with - and +


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
    with tempfile.TemporaryFile() as output:
        stored = anyio.run(_bring, session, output)
        output.seek(0)
        show = {"text": _text, "markdown": _markdown, "html": _html, "json": _json}[form]
        title = f"{stored.id} {stored.facts.get('title') or ''}".strip()
        if form == "html":
            click.echo(_HEAD.format(title=html.escape(visible(title))))
        elif form == "markdown":
            click.echo(f"# {visible(title)}\n")
        for passage in read_output(output):
            click.echo(show(passage))
        if form == "html":
            click.echo("</body></html>")


async def _bring(beginning: str, output: BinaryIO) -> StoredSession:
    from optio_agents.store import Store
    from optio_agents.supervision.sessions import host_of

    async with Store() as store:
        session = await store.session(beginning)
    async with host_of(session) as host:
        directory = posixpath.join(session.taskdir, "session")
        await host.fetch_file(posixpath.join(directory, "stdout"), output, root=directory)
    return session


def read_output(output: BinaryIO) -> Iterator[Passage]:
    """What the lines of *output* say, in order."""
    splitter = LineSplitter(_LINE)
    while chunk := output.read(_CHUNK):
        lines = splitter.feed(chunk)
        cut = splitter.cut
        for index, line in enumerate(lines):
            if index in cut:
                yield Passage("output", f"(a line of {cut[index]} bytes is left out)")
            else:
                yield from read_line(line)
    if rest := splitter.close():
        yield from read_line(rest)


def read_line(line: bytes) -> Iterator[Passage]:
    """What one line of the output says."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    match event:
        case {"type": "user", "message": {"content": str(text)}}:
            yield Passage("person", text)
        case {"type": "user" | "assistant" as who, "message": {"content": list(blocks)}}:
            for block in blocks:
                yield from _read_block("person" if who == "user" else "agent", block)
        case {"type": "result", "subtype": str(how), **rest}:
            cost = rest.get("total_cost_usd")
            yield Passage(
                "turn", how + (f", ${cost:.4f} so far" if isinstance(cost, float) else "")
            )
        case {"type": str()} | {"jsonrpc": str()}:
            pass  # between the agent and whoever drives it
        case _:
            yield Passage("output", line.decode("utf-8", "replace").rstrip("\r\n"))


def _read_block(who: str, block: Any) -> Iterator[Passage]:
    match block:
        case {"type": "text", "text": str(text)}:
            yield Passage(who, text)
        case {"type": "tool_use", "name": str(tool), "input": dict(given)}:
            yield Passage("tool", f"{tool}: {gist(given)}", _change(given))
        case {"type": "tool_result", "content": content}:
            parts = content if isinstance(content, list) else [{"text": content}]
            texts = [part["text"] for part in parts if isinstance(part, dict) and "text" in part]
            yield Passage("result", "\n".join(map(str, texts))[:_RESULT])


def _change(given: Mapping[str, Any]) -> str:
    """What an edit takes out and puts in, without the lines that both have around it."""
    match given:
        case {"old_string": str(old), "new_string": str(new)}:
            pass
        case {"file_path": str(), "content": str(new)}:
            old = ""
        case _:
            return ""
    before, after = old.splitlines(), new.splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return "\n".join([*(f"-{line}" for line in before), *(f"+{line}" for line in after)])


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
