"""`optio-agents watch`: follow any optio.log and show it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from optio_agents.cli import exits
from optio_agents.cli.options import host_key_option, split_remote, ssh_of
from optio_agents.cli.output import as_json
from optio_agents.cli.screen.notify import Program
from optio_agents.cli.screen.records import of_event, plain, record
from optio_agents.display import visible
from optio_agents.protocol.events import DoneEvent, ErrorEvent
from optio_agents.protocol.features import EVERYTHING
from optio_agents.protocol.parser import parse_log_line

if TYPE_CHECKING:
    from optio_agents.cli.screen.records import Record
    from optio_agents.framing.batches import Batch
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.protocol.events import LogEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    ssh: SSHConfig | None
    path: str
    as_lines: bool
    program: Program | None
    keep: bool


@click.command(epilog="Example:  optio-agents watch me@box:work/optio.log --json")
@click.argument("path", metavar="[USER@BOX:]PATH")
@host_key_option
@click.option("--json", "as_lines", is_flag=True, help='One event per line, `"v": 1`.')
@click.option("--exec", "command", metavar="CMD", help="Run CMD per event, its JSON on stdin.")
@click.option("--keep", is_flag=True, help="Go on behind DONE and ERROR.")
def watch(path: str, host_key: str, as_lines: bool, command: str | None, keep: bool) -> int:
    """Follow an optio.log, here or on a host, and show it from its first line on.

    A file that is not there yet is waited for. Ends with DONE (exit 0) or ERROR (exit 1). CMD gets
    one event after the other, 30 seconds for each.
    """
    where, path = split_remote(path)
    asked = _Watch(
        ssh=ssh_of(where, policy=host_key) if where else None,
        path=path,
        as_lines=as_lines,
        program=Program(command, _say) if command else None,
        keep=keep,
    )
    return anyio.run(_watch, asked)


async def _watch(asked: _Watch) -> int:
    from optio_agents.hosts.host import make_host

    folder, name = posixpath.split(asked.path)
    if asked.ssh and not folder.startswith(("/", "~")):  # as scp has it: from the home directory
        folder = posixpath.join("~", folder)
    async with make_host(asked.ssh, taskdir=folder or ".") as host:
        host.machine.link.watch(partial(_tell_link, host.machine.name))
        log = posixpath.join(host.taskdir, name)
        async with host.follow(log, ripe=lambda line: _ends(_parse(line))) as batches:
            async for batch in batches:
                if (ending := await _hand_over(asked, batch)) is not None:
                    return ending
    return exits.NOT_DONE


async def _hand_over(asked: _Watch, batch: Batch) -> int | None:
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
        if asked.program:  # before the next line: the file is the queue
            await asked.program.run(seen)
        if _ends(event) and not asked.keep:
            return exits.DONE if isinstance(event, DoneEvent) else exits.AGENT_ERROR
    return None


def _parse(line: bytes) -> LogEvent:
    return parse_log_line(line.decode("utf-8", "replace"), features=EVERYTHING)


def _ends(event: LogEvent) -> bool:
    return isinstance(event, DoneEvent | ErrorEvent)


def _tell_link(name: str, state: str, reason: str) -> None:
    if state not in ("new", "closed"):
        _say(visible(f"{name} is {state}{f': {reason}' if reason else ''}"))


def _say(text: str) -> None:
    click.echo(f"optio-agents: {text}", err=True)
