"""`sit`: a person reads what waits for them in any team, and answers, in their own terminal."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from optio_agents.cli.options import refuse_inside_a_session
from optio_agents.cli.screen.keys import discard_typed, operator_name
from optio_agents.display import visible, visible_block
from optio_agents.team.participants.human import console

if TYPE_CHECKING:
    from optio_agents.team.stores.journal import Question, TurnJournal


_LONG = 1 << 20  # characters of a question


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
    from optio_agents.team.stores.journal import TurnJournal

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
