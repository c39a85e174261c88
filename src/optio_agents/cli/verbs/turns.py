"""The turns of teams, as the journal has them: `team tree` and `cancel`, `sit`, `ls`, `attach`."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from optio_agents.cli import exits
from optio_agents.cli.options import refuse_inside_a_session
from optio_agents.cli.output import as_json
from optio_agents.cli.screen.keys import discard_typed, operator_name
from optio_agents.cli.screen.records import Record, record
from optio_agents.display import visible, visible_block
from optio_agents.team.errors import NoParticipant
from optio_agents.team.participants.human import console
from optio_agents.team.stores.journal import TurnJournal

if TYPE_CHECKING:
    from optio_agents.team.stores.journal import Question, StoredTurn


_LONG = 1 << 20  # characters of a question, or an answer


@click.command(epilog="Example:  optio-agents team tree -f report-7")
@click.argument("turn")
@click.option("-f", "--follow", is_flag=True, help="Go on until the turn is over.")
@click.option("--json", "as_lines", is_flag=True, help='One turn per line, `"v": 1`.')
def tree(turn: str, follow: bool, as_lines: bool) -> None:
    """Print TURN and all that was called below it, as the journal has it."""
    asyncio.run(_tree(turn, follow, as_lines))


async def _tree(beginning: str, follow: bool, as_lines: bool) -> None:
    async with TurnJournal() as journal:
        turn = await journal.find(beginning)
        if follow:
            await _follow(journal, turn, as_lines)
            return
        for depth, one in await journal.tree(turn):
            click.echo(as_json(of_turn(one)) if as_lines else "  " * depth + visible(one.line()))
        if not as_lines and (result := turn.status.text or turn.status.error):
            click.echo(f"\n{visible_block(result, limit=_LONG)}")


async def _follow(journal: TurnJournal, turn: StoredTurn, as_lines: bool) -> None:
    """A line for each turn that is new, or stands otherwise than before."""
    states: dict[str, str] = {}
    async for found in journal.watch(turn):
        for depth, one in found:
            if states.get(one.id) != one.row.state:
                states[one.id] = one.row.state
                line = f"{time.strftime('%H:%M:%S')} {'  ' * depth}{visible(one.line())}"
                click.echo(as_json(of_turn(one)) if as_lines else line)


@click.command(epilog="Example:  optio-agents team cancel report-7")
@click.argument("turn")
def cancel(turn: str) -> None:
    """End TURN and all that was called below it, with the agents that work on it."""
    refuse_inside_a_session()
    click.echo(asyncio.run(_cancel(turn)))


async def _cancel(beginning: str) -> str:
    async with TurnJournal() as journal:
        turn = await journal.find(beginning)
        ended = await journal.cancel(turn)
    if not ended:
        return f"{turn.id} is over: {turn.row.state}"
    below = len(ended) - 1
    return f"cancelled {turn.id}" + (f", and {below} below it" if below else "")


@click.command(epilog="Example:  optio-agents sit ana")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--once", is_flag=True, help="Answer what waits now, and leave.")
def sit(names: tuple[str, ...], once: bool) -> None:
    """Read what waits for the person NAME, or for anybody, and answer it; Ctrl-C leaves.

    An answer may have several lines: it ends with an empty one. Teams need not be at work: they
    find it when they are.
    """
    refuse_inside_a_session()
    wanted = {form for name in names for form in (name, f"[{name}]")}
    try:
        asyncio.run(_sit(wanted, once))
    except KeyboardInterrupt:
        click.echo("left", err=True)


async def _sit(names: set[str], once: bool) -> None:
    waited = False
    async with TurnJournal() as journal, aclosing(journal.changes()) as changes:
        async for _ in changes:
            while found := await journal.questions(names):
                await _ask(journal, found[0], len(found) - 1)
            if once:
                return
            if not waited:
                click.echo("nothing waits now; Ctrl-C leaves", err=True)
                waited = True


async def _ask(journal: TurnJournal, question: Question, more: int) -> None:
    turn, rest = question.turn, f" ({more} more wait)" if more else ""
    who = turn.row.name.strip("[]")
    asks = f"{turn.row.message['sender']} asks {who}, turn {turn.id}{rest}:"
    lines = visible_block(turn.text, limit=_LONG).split("\n")
    discard_typed()  # what was typed before this was on the screen did not mean it
    click.echo("\n".join([visible(asks), *(f"  {line}" for line in lines)]))  # it forges no line
    if question.refused:
        click.echo(f"the last answer does not fit: {visible(question.refused[-1])}")
    reading = asyncio.create_task(console.read())
    gone = asyncio.create_task(_until_gone(journal, question))
    try:
        await asyncio.wait({reading, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        reading.cancel()
    if not reading.done():
        click.echo("it was answered elsewhere, or is over", err=True)
        return
    if (text := reading.result()) is None:
        raise KeyboardInterrupt
    won = await journal.answer(question, text, by=operator_name())
    click.echo("answered" if won else "it was answered before, by somebody else", err=True)


async def _until_gone(journal: TurnJournal, question: Question) -> None:
    async with aclosing(journal.changes()) as changes:
        async for _ in changes:
            if question.key not in {one.key for one in await journal.questions({question.name})}:
                return


# What other verbs tell of turns.


def of_turn(turn: StoredTurn, *, waits: bool = False) -> Record:
    """A turn as `ls` lists it and a program is told of it."""
    status, over = turn.status, turn.over
    outcome = "done" if status.status == "completed" else status.status
    return record(
        "team_turn",
        at=status.created,
        turn=turn.id,
        team=turn.team,
        participant=status.name,
        parent=status.parent,
        agent=f"{turn.team}/{status.name}",
        host="local",
        state="waits for a person" if waits else status.status,
        over=over,
        waits=waits,
        outcome=outcome if over else None,
        text=turn.text,
        last=status.error or status.text or None,
        usd=status.used.get("usd"),
        used=dict(status.used),
        tools=turn.tools,
        started_at=status.started,
        ended_at=status.ended,
    )


async def listed_turns() -> list[Record]:
    """The turns that nobody in a team called."""
    async with TurnJournal() as journal:
        asked = {(one.turn.team, one.turn.row.root) for one in await journal.questions()}
        roots = await journal.turns(roots=True)
        return [of_turn(one, waits=(one.team, one.id) in asked) for one in roots]


async def team_of(session: str) -> str | None:
    """The team that the agent of *session* works for."""
    async with TurnJournal() as journal:
        return await journal.team_of(session)


async def attach_turn(beginning: str, *, as_lines: bool) -> int | None:
    """Show a turn to its end; None if there is no such turn."""
    async with TurnJournal() as journal:
        try:
            turn = await journal.find(beginning)
        except NoParticipant:
            return None
        await _follow(journal, turn, as_lines)
        status = (await journal.find(turn.id)).status
        if not as_lines:
            click.echo(visible_block(status.text or status.error, limit=_LONG))
    return exits.DONE if status.status == "completed" else exits.NOT_DONE
