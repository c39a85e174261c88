"""The turns of all teams in a journal, for whoever looks on: no team has to run for that.

    async with TurnJournal() as journal:
        for turn in await journal.turns(running=True): ...
        async for tree in journal.watch(turn): ...

A question that waits for a person is a turn of theirs that is not over. Whoever answers puts the
answer into its mailbox; the first one counts, and the turn goes on where its team is at work, now
or later.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.team.errors import NoParticipant
from optio_agents.team.messages import Message
from optio_agents.team.turn import Status, line_of

from . import OVER, Row

if TYPE_CHECKING:
    from typing import Self

    from optio_agents.store import Store

# Each answer of a model is kept under such a key, with its usage.
_USED = """
SELECT t.id, count(*), sum(coalesce(json_extract(r.value, '$[0].usage.input_tokens'), 0)
    + coalesce(json_extract(r.value, '$[0].usage.output_tokens'), 0))
FROM turns t JOIN turn_records r ON r.turn=t.number
WHERE t.team=? AND t.root=? AND t.ended IS NULL AND r.key >= 'step:' AND r.key < 'step;'
GROUP BY t.id"""
# The session of an agent for each turn, where its name says another one.
_SESSIONS = """
SELECT t.team, t.id, json_extract(r.value, '$[0]')
FROM turns t LEFT JOIN turn_records r ON r.turn=t.number AND r.key='session'"""
_SOON = 2.0  # seconds until a change is seen that no bell has told of


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One turn of some team, as the journal has it."""

    team: str
    row: Row

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def over(self) -> bool:
        return self.row.state in OVER

    @property
    def text(self) -> str:
        """What was asked."""
        return str(self.row.message.get("text", ""))

    @property
    def tools(self) -> list[str]:
        """The tools that were used, once it is over."""
        return list((self.row.result or {}).get("tools", ()))

    @property
    def status(self) -> Status:
        return Status.of(self.row)

    def line(self) -> str:
        """Who, which turn, how far, how long, and with which tools."""
        return line_of(self.row, self.row.state, self.tools)


@dataclass(frozen=True, slots=True)
class Question:
    """What waits for a person's answer; *refused* says what was wrong with the last one."""

    turn: StoredTurn
    refused: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Whom it is for."""
        return self.turn.row.name

    @property
    def key(self) -> tuple[str, str, int]:
        """The same while it waits for the same answer."""
        return self.turn.team, self.turn.id, len(self.refused)


class TurnJournal:
    """Reads the turns in a journal, cancels, answers for people. Everything raises StoreError."""

    def __init__(self, store: Store | str | os.PathLike[str] | None = None) -> None:
        from optio_agents.store.sqlite import StoreFile, default_path

        self.path = Path(getattr(store, "path", None) or store or default_path())  # type: ignore[arg-type]
        self._file = StoreFile(self.path)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._file.close()

    async def latest(self) -> list[StoredTurn]:
        """The last 200 turns that nobody in a team called, the latest first."""
        return await self._select("parent IS NULL", order="number DESC LIMIT 200")

    async def family(self, team: str, root: str) -> list[StoredTurn]:
        """The turns below *root*, and it, the oldest first; of very many the first 5000."""
        return await self._select("team=? AND root=?", team, root, order="number LIMIT 5000")

    async def used(self, team: str, root: str) -> dict[str, dict[str, float]]:
        """What the turns of models below *root* that are not over have used until now, by turn."""
        found = await self._read(_USED, team, root)
        return {turn: {"steps": steps, "tokens": tokens} for turn, steps, tokens in found}

    async def turns(self, *, running: bool = False, roots: bool = False) -> list[StoredTurn]:
        """All of them, the oldest first; only those not over, or those nobody else called."""
        terms = ["ended IS NULL"] * running + ["parent IS NULL"] * roots
        return await self._select(" AND ".join(terms) or "1")

    async def find(self, beginning: str) -> StoredTurn:
        """The one turn whose id begins so. Raises NoParticipant for none, and for several."""
        found = await self._select("substr(id, 1, ?)=?", len(beginning), beginning)
        exact = [one for one in found if one.id == beginning]
        roots = [one for one in found if one.row.parent is None]
        for one in (exact, found, roots):
            if len(one) == 1 and beginning:
                return one[0]
        several = ", ".join(one.id for one in (roots or found)[:5])
        raise NoParticipant(
            f"{beginning!r} may be any of {several}: say more of it"
            if several
            else f"no turn {beginning!r} in the journal {self.path}",
            turn=beginning,
        )

    async def team_of(self, session: str) -> str | None:
        """The team for which the agent of *session* works; it answers what the agent asks."""
        from optio_agents.team.participants.agent_sessions import session_of, shared_of

        for team, turn, kept in await self._read(f"{_SESSIONS} WHERE t.ended IS NULL"):
            if (kept or session_of(turn, team)) == session:
                return str(team)
        for team, name in await self._read("SELECT DISTINCT team, name FROM turns"):
            if session.startswith(shared_of(name, team)):
                return str(team)
        return None

    async def tree(self, turn: StoredTurn) -> list[tuple[int, StoredTurn]]:
        """*turn* and all below it, callers before those they called, each with its depth."""
        family = await self.family(turn.team, turn.row.root)
        below: dict[str | None, list[StoredTurn]] = {}
        for one in family:
            below.setdefault(one.row.parent, []).append(one)
        found: list[tuple[int, StoredTurn]] = []
        waiting = [(0, one) for one in family if one.id == turn.id]
        while waiting:
            depth, one = waiting.pop()
            found.append((depth, one))
            waiting += [(depth + 1, child) for child in reversed(below.get(one.id, []))]
        return found

    async def changes(self) -> AsyncGenerator[None]:
        """Now, and whenever something may have changed."""
        from optio_agents.supervision.recording import Bell, ringing

        bell = Bell()
        with ringing(bell, self.path):
            while True:
                news = bell.next
                yield
                with anyio.move_on_after(_SOON):
                    await news.wait()
                if not news.is_set():
                    bell.ring()

    async def watch(self, turn: StoredTurn) -> AsyncIterator[list[tuple[int, StoredTurn]]]:
        """Its tree, now and after each change, until the turn is over."""
        before: list[tuple[int, StoredTurn]] = []
        async with aclosing(self.changes()) as changes:
            async for _ in changes:
                tree = await self.tree(turn)
                if tree != before:
                    yield tree
                before = tree
                if not tree or tree[0][1].over:
                    return

    async def questions(self, names: Collection[str] = ()) -> list[Question]:
        """What waits for people, or for those of *names*, the oldest first."""
        asked = await self._select("ended IS NULL AND json_extract(options, '$.person')")
        found = []
        for turn in asked:
            if not names or turn.row.name in names:
                items = await self._mail(turn)
                refused = tuple(item["refused"] for item in items if "refused" in item)
                if sum("answer" in item for item in items) == len(refused):
                    found.append(Question(turn, refused))
        return found

    async def answer(self, question: Question, text: str, *, by: str = "") -> bool:
        """Answer for the person; whether this was the first answer. Raises for what is over."""
        from .sqlite import SqliteTurns

        turn = question.turn
        store = SqliteTurns(self.path, team=turn.team)
        await store.open()
        try:
            if (await store.look(id=turn.id))[0].state in OVER:
                raise NoParticipant(f"turn {turn.id} is over: nobody waits for an answer")
            item = {"answer": Message(text, "return", turn.row.name).dump(), "by": by}
            number = await store.post(turn.id, item, key=f"answer:{len(question.refused)}")
            kept = (await store.mailbox(turn.id))[number - 1]
            return all(kept[name] == value for name, value in item.items())
        finally:
            await store.close()

    async def cancel(self, turn: StoredTurn) -> list[str]:
        """End a turn and all below it; their ids.

        Whatever team is at work on them ends its part; an agent that no team has is stopped here,
        and a shared one is interrupted. Raises HostError where it cannot be reached.
        """
        from optio_agents.store import Store
        from optio_agents.supervision import find_session, supervise
        from optio_agents.team.participants.agent_sessions import is_own, leave_shared

        from .sqlite import SqliteTurns

        turns = SqliteTurns(self.path, team=turn.team)
        await turns.open()
        try:
            ended = await turns.cancel(turn.id)
        finally:
            await turns.close()
        sessions = await self._sessions(turn.team, ended)
        async with Store(self.path) as store:
            for one in ended:
                known = await store.find(sessions[one])
                if known is not None and not known.over and store.owner(known.id) is None:
                    if not is_own(known.id, one, turn.team):
                        # others will go on with it: it is to be told when
                        async with supervise(None, resume=known.id, store=store) as session:
                            await leave_shared(session, store)
                        continue
                    async with find_session(known.id, store=store) as session:
                        await session.stop()
        return ended

    async def _sessions(self, team: str, turns: Sequence[str]) -> dict[str, str]:
        from optio_agents.team.participants.agent_sessions import session_of

        those = "WHERE t.team=? AND t.id IN (SELECT value FROM json_each(?))"
        found = await self._read(f"{_SESSIONS} {those}", team, json.dumps(turns))
        return {turn: kept or session_of(turn, team) for _, turn, kept in found}

    async def _select(self, terms: str, *values: Any, order: str = "number") -> list[StoredTurn]:
        from .table import FIELDS, row_of

        query = f"SELECT {FIELDS}, team FROM turns WHERE {terms} ORDER BY {order}"
        rows = await self._read(query, *values)
        return [StoredTurn(team, row_of(tuple(rest))) for *rest, team in rows]

    async def _mail(self, turn: StoredTurn) -> list[dict[str, Any]]:
        rows = await self._read(
            "SELECT item FROM turn_mail m JOIN turns t ON m.turn=t.number"
            " WHERE t.team=? AND t.id=? ORDER BY m.number",
            turn.team,
            turn.id,
        )
        return [json.loads(item) for (item,) in rows]

    async def _read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return await self._file.read(lambda database: database.execute(query, values).fetchall())
