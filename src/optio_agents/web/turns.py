"""Teams: who called whom, as a tree of turns that grows while one looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.cli.output import as_json
from optio_agents.display import visible, visible_block
from optio_agents.team.stores import OVER

from .acting import text_of, who
from .streams import message, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optio_agents.team.stores import Row
    from optio_agents.team.stores.journal import TurnJournal

    from .hub import Hub
    from .streams import Write


_QUESTION = 1 << 20  # characters of what a person is asked
_TEXT = 4000  # characters of what was said
_GATHERING = 0.1  # seconds in which changes become one look


def of_turn(row: Row, team: str, used: Mapping[str, float] | None = None) -> dict[str, Any]:
    """One turn, as the page shows it; *used*: until now, where it is not over."""
    result: Mapping[str, Any] = row.result or {}
    said = "\n\n".join(str(one.get("text") or "") for one in result.get("messages") or ())
    error = result.get("error") or {}
    why = f"{error.get('kind', '')}: {error.get('text', '')}" if error else ""
    return {
        "team": visible(team),
        "turn": row.id,
        "name": visible(row.name),
        "parent": row.parent,
        "state": row.state,
        "over": row.state in OVER,
        "created": row.created,
        "started": row.started,
        "ended": row.ended,
        "until": row.until,
        "used": result.get("used") or used or {},
        "asked": visible_block(str(row.message.get("text") or ""), limit=_TEXT),
        "said": visible_block(said or why, limit=_TEXT),
    }


async def roots(reader: TurnJournal) -> list[dict[str, Any]]:
    """What was asked of teams, the latest first."""
    return [of_turn(one.row, one.team) for one in await reader.latest()]


async def questions(reader: TurnJournal) -> list[dict[str, Any]]:
    """What waits for people, the oldest first; *number* tells an answer from the one before."""
    return [
        {
            "team": one.turn.team,
            "turn": one.turn.id,
            "number": len(one.refused),
            "name": visible(one.name.strip("[]")),
            "sender": visible(str(one.turn.row.message.get("sender") or "")),
            "words": visible_block(one.turn.text, limit=_QUESTION),
            "refused": visible(one.refused[-1]) if one.refused else "",
        }
        for one in await reader.questions()
    ]


async def answer(
    reader: TurnJournal, team: str, turn: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Answer for a person; the first answer counts, and whether this was it is told."""
    text, key = text_of(given, "text"), (team, turn, given.get("number"))
    found = [one for one in await reader.questions() if one.key == key]
    won = bool(found) and await reader.answer(found[0], text, by=who(given))
    return {"receipt": "answered" if won else "late"}


async def tree(hub: Hub, reader: TurnJournal, team: str, root: str, write: Write) -> None:
    """The turns below *root*, and each of them again when it changes."""
    known: dict[str, str] = {}
    while True:
        news = hub.journal.next
        rows = [one.row for one in await reader.family(team, root)]
        used = await reader.used(team, root)
        found = {row.id: as_json(of_turn(row, team, used.get(row.id))) for row in rows}
        if changed := [text for turn, text in found.items() if known.get(turn) != text]:
            known = found
            await write(message(f'{{"v":1,"turns":[{",".join(changed)}]}}'))
        if not rows or all(row.state in OVER for row in rows):
            return await write(message("{}", event="over"))
        await until(news, write)
        await anyio.sleep(_GATHERING)
