"""Which session the agent of a turn works in.

A turn names a session of its own; where a turn of another team reads the same, the later one gets a
name that is written. The turns of a shared agent go on in one session, each behind the last event
of those before it; which one, and behind what, is written when a turn begins.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optio_agents.store import Store
    from optio_agents.supervision import Session
    from optio_agents.team.context import TurnContext

_ENDS = 10.0  # seconds in which a turn that is interrupted ends, if it is one


def session_of(turn: str, team: str = "team") -> str:
    """The id of the session of a turn: its own, where that can be one, behind a team's own name."""
    plain = re.sub(r"[^A-Za-z0-9-]", "_", turn if team == "team" else f"{team}.{turn}")
    return plain if len(plain) <= 64 else hashlib.sha256(f"{team}.{turn}".encode()).hexdigest()[:40]


def is_own(session: str, turn: str, team: str) -> bool:
    """Whether it is the session of this turn alone, and of no shared agent."""
    name = session_of(turn, team)
    return session == name or session.startswith(f"{name[:57]}-")


def shared_of(name: str, team: str) -> str:
    """What the ids of the sessions of a shared agent begin with; their numbers follow."""
    return f"{session_of(f'shared.{name}', team)}_"


async def own_session(context: TurnContext, store: Store | None) -> str:
    """The session of this turn alone."""
    name, kept = session_of(context.id, context.kernel.team), context.claim.records.get("session")
    if kept is None and context.claim.epoch == 1 and store and await store.find(name):
        kept = await context.record("session", [f"{name[:57]}-{secrets.token_hex(3)}"])
    return name if kept is None else str(kept[0])


async def shared_session(context: TurnContext, store: Store) -> tuple[str, int]:
    """The session of this turn, and the number of the event behind which the turn begins."""
    if "session" not in context.claim.records:
        prefix = shared_of(context.name, context.kernel.team)
        ours = [one for one in await store.sessions() if one.id.startswith(prefix)]
        if ours and not ours[-1].over:
            number = await _last_event(store, ours[-1].id)
            await context.record("session", [ours[-1].id, number])
        else:
            apart = secrets.token_hex(3)  # from those of teams with other journals
            await context.record("session", [f"{prefix}{len(ours) + 1}-{apart}", 0])
    name, number = context.claim.records["session"]
    return name, number


async def leave_shared(session: Session, store: Store) -> None:
    """End what a shared agent does for a turn, and leave it to those that come.

    That this was ended is written first: the next turn is not to hear of it.
    """
    from anyio import move_on_after

    from optio_agents.supervision import TurnEnded

    number = await _last_event(store, session.id)
    await session.interrupt()
    with move_on_after(_ENDS):
        async for event in session.events(number):
            if isinstance(event, TurnEnded):
                break
    await session.detach()


async def _last_event(store: Store, session: str) -> int:
    number = 0
    while rows := await store.events(session, after=number):
        number = rows[-1].number
    return number
