"""`fetch`, `diff`, `put`, `transcript`: what lies on an agent's host, now and afterwards."""

from __future__ import annotations

import html
import posixpath
import re
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import anyio
import click

from optio_agents.cli.options import refuse_inside_a_session, session_argument
from optio_agents.cli.output import as_json, telling_how_far, telling_if_slow
from optio_agents.cli.screen.records import record
from optio_agents.conversation.dialect import Passage
from optio_agents.display import Secrets, visible, visible_block
from optio_agents.errors import AgentError, OptioAgentsError
from optio_agents.store import Store
from optio_agents.supervision.kinds.passages import (
    LINE,
    fetch_queue,
    read_output,
    read_queue,
    reader_of,
    session_directory,
    with_prompts,
)
from optio_agents.supervision.sessions import Facts, host_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from optio_agents.hosts.files.progress import PercentCallback, Progress
    from optio_agents.hosts.files.put import Readable
    from optio_agents.hosts.host import Host
    from optio_agents.store import StoredSession


_MOST = 4 << 20  # bytes of a diff


@asynccontextmanager
async def reached(session: StoredSession) -> AsyncIterator[Host]:
    """The host of *session*, for a person who looks on."""
    async with AsyncExitStack() as stack:
        with telling_if_slow():
            host = await stack.enter_async_context(host_of(session))
        yield host


@click.command(epilog="Example:  optio-agents fetch 3f2a report.md --to results")
@session_argument
@click.argument("name", required=False)
@click.option(
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where to put it; without it, here.",
)
def fetch(session: str, name: str | None, directory: Path) -> None:
    """Bring the deliverables of the session ID here, or the one of that NAME.

    NAME may also be any file in the agent's directory. A file that is here already is replaced.
    """
    anyio.run(_fetch, session, name, directory)


async def _fetch(beginning: str, name: str | None, directory: Path) -> None:
    from optio_agents.hosts.files.atomic import save

    async with Store() as store:
        session = await store.session(beginning)
        wanted = await announced_in(store, session.id)
        if name is not None:
            wanted = {name: wanted.get(name, name)}
        if not wanted:
            raise AgentError(f"session {session.id} has announced no deliverable; name a file")
        async with reached(session) as host:
            for path, announced in wanted.items():
                with (
                    tempfile.TemporaryFile() as data,
                    telling_how_far(f"fetching {visible(path)}") as progress,
                ):
                    await fetch_announced(host, announced, data, progress)
                    data.seek(0)
                    kept = await anyio.to_thread.run_sync(save, data, directory, path)
                click.echo(visible(str(kept)))


async def announced_in(store: Store, session: str) -> dict[str, str]:
    """The deliverables by the names that people use, each as the agent has announced it."""
    from optio_agents.hosts.files.odd_names import as_written
    from optio_agents.protocol.events import DeliverableEvent
    from optio_agents.protocol.parser import parse_log_line

    found = {}
    for one in await store.deliveries(session):
        event = parse_log_line(one.entry.line)
        if isinstance(event, DeliverableEvent):
            found[one.path] = as_written(one.entry.line, event.path)
    return found


async def fetch_announced(
    host: Host, announced: str, data: BinaryIO, progress: Progress | None = None
) -> None:
    """Bring the file that the agent has announced so, and none from outside its directories."""
    from optio_agents.hosts.files.odd_names import by_any_name

    async def fetch(name: str) -> None:
        here = posixpath.normpath(name).partition("/")[0] == "deliverables"
        root = host.logdir if here else host.workdir
        await host.fetch_file(posixpath.join(root, name), data, root=root, progress=progress)

    await by_any_name(announced, fetch, ask=host.ask, directory=host.logdir)


@click.command(epilog="Example:  optio-agents put 3f2a notes.md")
@session_argument
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def put(session: str, file: Path) -> None:
    """Bring FILE to where the agent of the session ID works, into `uploads/` there.

    It is there whole or not at all, and replaces one of the same name. Tell the agent of it.
    """
    click.echo(visible(anyio.run(_put, session, file, file.stat().st_size)))


async def _put(beginning: str, file: Path, size: int) -> str:
    refuse_inside_a_session()
    async with Store() as store:
        session = await store.session(beginning)
    if session.over:
        raise AgentError(f"session {session.id} is over: nobody would read it")
    async with reached(session) as host:
        with telling_how_far(f"sending {visible(file.name)}") as tell:

            def progress(done: float | None, _: str | None = None) -> None:
                tell(int(size * (done or 0) / 100), size)

            return await hand_over(host, file, f"uploads/{file.name}", progress)


async def hand_over(
    host: Host, source: Readable, name: str, progress: PercentCallback | None = None
) -> str:
    """Put *source* below the directory of the agent's log. Raises ValueError for a link there."""
    from optio_agents.context import refuse_links

    target = posixpath.join(await host.path(host.logdir), name)
    await refuse_links(host, await host.path(host.workdir), target)
    await host.put_file_to_host(source, target, progress_cb=progress)
    return target


@click.command(epilog="Example:  optio-agents diff 3f2a | less")
@session_argument
def diff(session: str) -> int:
    """Show what changed in the git tree where the session ID works, since it began.

    Commits of the agent's count, and so do files that git does not know yet; and whatever anybody
    else has changed there meanwhile.
    """
    return anyio.run(_diff, session)


async def _diff(beginning: str) -> int:
    async with Store() as store:
        session = await store.session(beginning)
    with telling_if_slow():
        data, cut = await changes_in(session)
    if sys.stdout.isatty():
        text = data.decode("utf-8", "replace")
        click.echo(visible_block(text, limit=10 * _MOST), nl=False)
    else:  # `git apply` wants it as it is
        click.echo(data, nl=False)
    if cut:
        click.echo(f"(cut at {_MOST >> 20} MiB)", err=True)
    return 0


async def changes_in(session: StoredSession) -> tuple[bytes, bool]:
    """The diff, and whether there was more of it. Raises AgentError where there is none."""
    from optio_agents.hosts.scripting import script

    # git counts in whole seconds: what was committed in the first one is the agent's
    began = time.gmtime(session.created_at - 1)
    since = time.strftime("%Y-%m-%d %H:%M:%S +0000", began)
    async with host_of(session) as host:
        where = await host.path(host.workdir)
        answer = await host.ask(script("hosts/git", "cli/diff"), where, since, str(_MOST))
    if answer.exit_code:
        raise AgentError(answer.stderr.decode("utf-8", "replace").strip() or f"no diff of {where}")
    return answer.stdout, len(answer.stdout) == _MOST


# `optio-agents transcript`: what was said and done, from the agent's own output.


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

    And its credentials, as far as anybody knows them still. The output is brought here as a file
    and read line by line, so its size is nobody's memory.
    """
    from optio_agents import agents
    from optio_agents.supervision.credentials import credentials_of

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
