"""`watch` and `check`: any optio.log, without a session; followed, or what is wrong in it."""

from __future__ import annotations

import posixpath
import re
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import click

from optio_agents.cli import exits
from optio_agents.cli.options import host_key_option, notify_option, split_remote, ssh_of
from optio_agents.cli.output import as_json
from optio_agents.cli.screen.notify import Program, Service, target
from optio_agents.cli.screen.records import of_event, plain, record
from optio_agents.display import visible
from optio_agents.errors import OptioAgentsError
from optio_agents.framing.lines import LineSplitter
from optio_agents.protocol.events import DeliverableEvent, DoneEvent, ErrorEvent, UnknownLine
from optio_agents.protocol.features import EVERYTHING
from optio_agents.protocol.keywords import KEYWORDS
from optio_agents.protocol.parser import near_miss, parse_log_line
from optio_agents.protocol.paths import relativize_deliverable_path, validate_deliverable_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from optio_agents.cli.screen.records import Record
    from optio_agents.framing.batches import Batch
    from optio_agents.hosts.host import Host
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.protocol.events import LogEvent


_IS_DIRECTORY = 8
_NEEDED = ("attention", "done", "error")  # what a person is notified of
_WORD = re.compile(r"[A-Z_]+(?=[:\s]|$)")
_GRAMMAR = {row.name: row.grammar for row in KEYWORDS}
_CHUNK = 262_144
_WORDS = 2000  # characters of what is wrong
_LINE = 1 << 20  # bytes: what a follower reads of a line


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    ssh: SSHConfig | None
    path: str
    as_lines: bool
    program: Program | None
    notified: Program | Service | None
    save: Path | None
    keep: bool


@click.command(epilog="Example:  optio-agents watch me@box:work/optio.log --json")
@click.argument("path", metavar="[USER@BOX:]PATH")
@host_key_option
@click.option("--json", "as_lines", is_flag=True, help='One event per line, `"v": 1`.')
@click.option("--exec", "command", metavar="CMD", help="Run CMD per event, its JSON on stdin.")
@notify_option("Run CMD for ATTENTION, DONE and ERROR, likewise; or notify a target.")
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the deliverables that it announces in DIR.",
)
@click.option("--keep", is_flag=True, help="Go on behind DONE and ERROR.")
def watch(
    path: str,
    host_key: str,
    as_lines: bool,
    command: str | None,
    notify: str | None,
    save: Path | None,
    keep: bool,
) -> int:
    """Follow an optio.log, here or on a host, and show it from its first line on.

    PATH may be the directory that it is in. A file that is not there yet is waited for, and a line
    that is nearly an entry is said to be one. Ends with DONE (exit 0) or ERROR (exit 1). CMD gets
    one event after the other, 30 seconds for each.
    """
    where, path = split_remote(path)
    asked = _Watch(
        ssh=ssh_of(where, policy=host_key) if where else None,
        path=path,
        as_lines=as_lines,
        program=Program(command, _say) if command else None,
        notified=target(notify, _say) if notify else None,
        save=save,
        keep=keep,
    )
    return anyio.run(_watch, asked)


async def _watch(asked: _Watch) -> int:
    from optio_agents.hosts.host import make_host

    if not asked.path.strip("/"):
        raise click.BadParameter(f"{asked.path!r} is no log", param_hint="PATH")
    folder, name = posixpath.split(asked.path.rstrip("/"))
    if asked.ssh and not folder.startswith(("/", "~")):  # as scp has it: from the home directory
        folder = posixpath.join("~", folder)
    async with make_host(asked.ssh, taskdir=folder or ".") as host:
        host.machine.link.watch(partial(_tell_link, host.machine.name))
        log = posixpath.join(host.taskdir, name)
        there = await host.ask('[ ! -d "$1" ] || exit 8; [ -e "$1" ]', await host.path(log))
        if there.exit_code == _IS_DIRECTORY:
            log = posixpath.join(log, "optio.log")
        elif there.exit_code:
            _say(visible(f"waiting for {log}"))
        async with host.follow(log, ripe=lambda line: _ends(_parse(line))) as batches:
            async for batch in batches:
                if (ending := await _hand_over(asked, host, log, batch)) is not None:
                    return ending
    return exits.NOT_DONE


async def _hand_over(asked: _Watch, host: Host, log: str, batch: Batch) -> int | None:
    """Show each line, and run the program for it; the exit code if one of them is the end."""
    for line, end in zip(batch.lines, batch.ends, strict=True):
        event = _parse(line)
        where: Record = {
            "file": asked.path,
            "generation": batch.cursor.generation,
            "offset": end,
        }
        seen = record(**of_event(event), **where)
        click.echo(as_json(seen) if asked.as_lines else plain(seen))
        if isinstance(event, UnknownLine) and (wrong := explain_near_miss(event.text)):
            _say(visible(f"{event.text[:80]!r} is {wrong}", limit=1000))
        if asked.save and isinstance(event, DeliverableEvent):
            text = line.decode("utf-8", "replace")
            await _save(host, posixpath.dirname(log), text, event.path, asked.save)
        if asked.notified and seen["kind"] in _NEEDED:
            await asked.notified.run(seen)
        if asked.program:  # before the next line: the file is the queue
            await asked.program.run(seen)
        if _ends(event) and not asked.keep:
            return exits.DONE if isinstance(event, DoneEvent) else exits.AGENT_ERROR
    return None


async def _save(host: Host, folder: str, line: str, path: str, directory: Path) -> None:
    """Keep that file of the agent's; what is wrong with it is said, and stops nothing."""
    from optio_agents.hosts.files.atomic import save
    from optio_agents.hosts.files.odd_names import as_written, by_any_name

    try:
        with tempfile.TemporaryFile() as data:

            async def fetch(name: str) -> str:
                await host.fetch_file(posixpath.join(folder, name), data, root=folder)
                return name

            path = await by_any_name(as_written(line, path), fetch, ask=host.ask, directory=folder)
            data.seek(0)
            kept = await anyio.to_thread.run_sync(
                save, data, directory, path.removeprefix("deliverables/")
            )
    except (OptioAgentsError, OSError, ValueError) as error:
        _say(visible(f"{path} was not saved: {error}", limit=1000))
    else:
        _say(visible(f"{path} is kept as {kept}", limit=1000))


def _parse(line: bytes) -> LogEvent:
    return parse_log_line(line.decode("utf-8", "replace"), features=EVERYTHING)


def _ends(event: LogEvent) -> bool:
    return isinstance(event, DoneEvent | ErrorEvent)


def _tell_link(name: str, state: str, reason: str) -> None:
    if state not in ("new", "closed"):
        _say(visible(f"{name} is {state}{f': {reason}' if reason else ''}"))


def _say(text: str) -> None:
    click.echo(f"optio-agents: {text}", err=True)


# `optio-agents check`: what an agent did wrong, line by line.


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong; *line* counts from 1."""

    line: int
    text: str
    words: str


def find_faults(log: BinaryIO, root: Path) -> Iterator[Fault]:
    """Everything that is wrong with *log*, in order; *root* is the agent's work directory."""
    splitter, number, ended = LineSplitter(_LINE), 0, 0
    if log.read(2) in (b"\xff\xfe", b"\xfe\xff"):
        yield Fault(1, "", "the file is UTF-16, which nobody reads: write UTF-8")
        return
    log.seek(0)
    while chunk := log.read(_CHUNK):
        lines = splitter.feed(chunk)
        cut = splitter.cut
        for index, line in enumerate(lines):
            number += 1
            if index in cut:
                yield Fault(number, "", f"{cut[index]} bytes long: only {_LINE} of them are read")
            yield from _faults_of_line(number, line, root, ended)
            ended = ended or (number if _ends(_parse(line)) else 0)
    if rest := splitter.close():
        yield from _faults_of_line(number + 1, rest, root, ended)
        yield Fault(number + 1, _shown(rest), "no newline at its end: nobody reads it until then")


def _faults_of_line(number: int, line: bytes, root: Path, ended: int) -> Iterator[Fault]:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        yield Fault(number, _shown(line), "not UTF-8: the bad bytes are shown as \ufffd")
    event = _parse(line)
    if isinstance(event, UnknownLine):
        words = explain_near_miss(event.text)
    elif ended:
        words = f"stands behind the DONE or ERROR of line {ended}, which ended the session"
    elif isinstance(event, DeliverableEvent):
        words = _deliverable(event.path, root)
    else:
        words = None
    if words:
        yield Fault(number, _shown(line), words)


def explain_near_miss(text: str) -> str | None:
    """What is wrong with a line that is narration, and was most likely meant as an entry."""
    word = _WORD.match(text)
    if word and word[0] in _GRAMMAR:
        return f"not as the grammar has it: {_GRAMMAR[word[0]]}"
    if meant := near_miss(text):
        return f"nearly an entry: begin the line with {_GRAMMAR[meant]}"
    return None


def _deliverable(path: str, root: Path) -> str | None:
    try:
        absolute = Path(validate_deliverable_path(path, str(root)))
        relativize_deliverable_path(str(absolute), str(root))
        inside = absolute.resolve().is_relative_to(root.resolve() / "deliverables")
        regular = S_ISREG(absolute.stat().st_mode)
    except FileNotFoundError:
        return f"there is no such file below {root}"
    except (OSError, RuntimeError) as error:  # too long; links that lead in a circle
        return f"nobody can open it: {getattr(error, 'strerror', None) or error}"
    except ValueError as error:
        return str(error)
    if not inside:
        return "leads out of deliverables/"
    return None if regular else "not a regular file"


def _shown(line: bytes) -> str:
    return visible(line.decode("utf-8", "replace"), limit=100)


@click.command(epilog="Example:  optio-agents check ./optio.log")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the agent was started; without it, the directory of FILE.",
)
def check(file: Path, root: Path | None) -> int:
    """Report, line by line, what an agent did wrong in its log; exit 1 if anything."""
    found = 0
    with file.open("rb") as log:
        for fault in find_faults(log, root or file.parent):
            found += 1
            click.echo(visible(f"{file}:{fault.line}: {fault.words}", limit=_WORDS))
            if fault.text:
                click.echo(f"    {fault.text}")
    if not found:
        click.echo(f"{visible(str(file))}: nothing wrong")
    return exits.AGENT_ERROR if found else exits.DONE
