"""Forgetting sessions that are over: on their hosts, and then here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from optio_agents.errors import OptioAgentsError
from optio_agents.hosts.agent_launch import Start
from optio_agents.hosts.workdir import clean

from .facts import host_of
from .starts import known_start
from .supervision import owner_name

if TYPE_CHECKING:
    from optio_agents.store import Store
    from optio_agents.store_values import StoredSession

_PATIENCE = 60.0  # seconds for one host


@dataclass(frozen=True, slots=True)
class Pruned:
    """One session that was to go; why it is still there, or None: it is gone."""

    session: StoredSession
    trouble: str | None = None


async def prune(store: Store, older_than: float) -> list[Pruned]:
    """Remove sessions that ended more than *older_than* seconds ago, never one that may run.

    On its host goes the task directory, with our work directory in it; a directory of the user's
    keeps what was handed over. What cannot be removed there is not forgotten here.
    """
    long_ago = time.time() - older_than
    return [
        Pruned(session, await _removed(store, session))
        for session in await store.sessions()
        if session.over and session.ended_at is not None and session.ended_at <= long_ago
    ]


async def _removed(store: Store, session: StoredSession) -> str | None:
    try:
        with store.claim(session.id, owner_name()), anyio.fail_after(_PATIENCE):
            start = await known_start(store, session.id) or Start(f"{session.id}.")
            async with host_of(session) as host:
                await clean(host, start=start)  # refuses while anything of it lives
            await store.forget(session.id)
    except TimeoutError:
        return f"{session.host} did not answer within {_PATIENCE:g} s"
    except (OptioAgentsError, OSError) as error:
        return str(error)
    return None
