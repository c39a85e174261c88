"""`team`: that of a Python file at work in this process; `turns` has what is kept of any."""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optio_agents.cli import exits
from optio_agents.cli.options import refuse_inside_a_session
from optio_agents.cli.output import noticing_silence
from optio_agents.cli.screen.keys import can_be_drawn_on, can_be_read, ended_by_signals
from optio_agents.cli.screen.team import TeamLines
from optio_agents.display import visible_block
from optio_agents.team import CallFailed, Team
from optio_agents.team.observing.telemetry import export_spans

from .turns import cancel, tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optio_agents.cli.screen.team_live import TeamLive
    from optio_agents.team import Turn


_ENDINGS = {"cancelled": exits.CANCELLED, "limit": exits.NOT_DONE, "timeout": exits.NOT_DONE}
_file = click.argument("file", metavar="FILE.py[:TEAM]")


@click.group(epilog="Example:  optio-agents team run crew.py writer 'A haiku'")
def team() -> None:
    """Work with the team of a Python file: agents, models, people and functions."""


team.add_command(tree)
team.add_command(cancel)


def load_team(words: str) -> Team:
    """The team in a file, or that of the name behind `:`, with its turns in a journal.

    Without a store of its own it has the journal of this user, under the name of the file.
    Raises click.UsageError.
    """
    name, _, wanted = words.partition(":")
    path = Path(name)
    if not path.is_file():
        raise click.UsageError(f"there is no file {name}")
    own = path.stem if path.stem not in sys.modules else f"team_{path.stem}"
    spec = importlib.util.spec_from_file_location(own, path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[own] = module  # what is pickled or subclassed there is found again
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    found = {key: one for key, one in vars(module).items() if isinstance(one, Team)}
    if wanted:
        found = {key: one for key, one in found.items() if key == wanted}
    if len({id(one) for one in found.values()}) != 1:
        known = f": say {name}:NAME, of {', '.join(found)}" if found else f" {wanted}".rstrip()
        raise click.UsageError(f"{name} has {'several teams' if found else 'no team'}{known}")
    export_spans()
    only: Team = next(iter(found.values()))
    if not only.store.durable:
        only.keep_in_journal(path.stem)
    return only


@team.command(epilog="Example:  optio-agents team run crew.py writer 'A haiku about files'")
@_file
@click.argument("name")
@click.argument("text", nargs=-1)
@click.option("--id", "ident", metavar="ID", help="The same ID is the same turn, also later.")
@click.option("--json", "as_lines", is_flag=True, help='One event per line, `"v": 1`.')
def run(file: str, name: str, text: tuple[str, ...], ident: str | None, as_lines: bool) -> int:
    """Give TEXT to the participant NAME of the team in FILE, and see it to its end.

    `-` as TEXT reads standard input. Ctrl-C leaves; the turn goes on wherever its team is served,
    or when it is run again with its ID.
    """
    refuse_inside_a_session()
    whole = sys.stdin.read() if text == ("-",) else " ".join(text)
    return asyncio.run(_run(load_team(file), name, whole, ident, as_lines))


async def _run(team: Team, name: str, text: str, ident: str | None, as_lines: bool) -> int:
    ident = ident or f"{name}-{secrets.token_hex(4)}"
    talks = can_be_read() and any(one.asks for one in team.people.values())
    view = _view(ident, as_lines=as_lines, people=team.people, talks=talks)
    for one in team.people.values():
        one.console = talks and not as_lines
    left = asyncio.Event()
    async with team:
        turn = team.call(name, text, id=ident)
        leave = left.set
        with view.shown([turn.id], leave), ended_by_signals(leave), noticing_silence(leave):
            seeing = asyncio.create_task(_see(turn, view))
            leaving = asyncio.create_task(left.wait())
            await asyncio.wait({seeing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            seeing.cancel()
        if not turn.over:
            view.say(f"left; it goes on by: optio-agents team run … --id {turn.id}")
            return exits.DETACHED
        try:
            answer = await turn
        except CallFailed as failed:
            view.say(str(failed))
            return _ENDINGS.get(failed.status, exits.AGENT_ERROR)
    if not as_lines:
        click.echo(visible_block(str(answer), limit=1 << 20))
    return exits.DONE


def _view(turn: str, *, as_lines: bool, people: Iterable[str], talks: bool) -> TeamLines | TeamLive:
    """Live where a person watches who is not asked here as well, else lines."""
    if can_be_drawn_on() and not as_lines and not talks:
        from optio_agents.cli.screen.team_live import TeamLive

        return TeamLive(people, turn)
    return TeamLines(as_lines=as_lines)


async def _see(turn: Turn, view: TeamLines | TeamLive) -> None:
    async for event in turn.events():
        view.see(event)


@team.command(epilog="Example:  optio-agents team serve crew.py")
@_file
def serve(file: str) -> int:
    """Work on whatever anybody gives to the team in FILE, until Ctrl-C."""
    refuse_inside_a_session()
    served = load_team(file)
    for one in served.people.values():
        one.console = False  # whoever serves is not asked: they may sit anywhere
    return asyncio.run(_serve(served))


async def _serve(team: Team) -> int:
    left = asyncio.Event()
    with ended_by_signals(left.set):
        async with team:
            click.echo(f"serving {', '.join(team.participants)}; Ctrl-C ends that", err=True)
            await left.wait()
    click.echo("\nleft; what is open is kept", err=True)
    return exits.DONE
