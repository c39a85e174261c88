"""`optio-agents watch`: follow any optio.log and show it."""

from __future__ import annotations

import posixpath
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
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
from optio_agents.protocol.events import DeliverableEvent, DoneEvent, ErrorEvent, UnknownLine
from optio_agents.protocol.features import EVERYTHING
from optio_agents.protocol.parser import parse_log_line

from .check import explain_near_miss

if TYPE_CHECKING:
    from optio_agents.cli.screen.records import Record
    from optio_agents.framing.batches import Batch
    from optio_agents.hosts.host import Host
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.protocol.events import LogEvent


_IS_DIRECTORY = 8
_NEEDED = ("attention", "done", "error")  # what a person is notified of


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
