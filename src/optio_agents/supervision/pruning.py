"""Forgetting sessions that are over: on their hosts, and then here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from optio_agents.agents.launch import Start
from optio_agents.errors import OptioAgentsError
from optio_agents.hosts.workdir import Worktree, end_worktree

from .sessions import Facts, host_of, known_start, owner_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optio_agents.store import Store
    from optio_agents.store.records import StoredSession


_PATIENCE = 60.0  # seconds for one host


@dataclass(frozen=True, slots=True)
class Pruned:
    """One session that was to go; why it is still there, or None: it is gone."""

    session: StoredSession
    trouble: str | None = None
    branch: str = ""  # that the agent committed to, in a work tree of its own: it stays


async def prune(
    store: Store,
    older_than: float,
    *,
    only: Sequence[str] | None = None,
    keep_history: bool = False,
) -> list[Pruned]:
    """Remove sessions that ended more than *older_than* seconds ago, never one that may run.

    Or *only* those of these ids, whenever they ended. With *keep_history* the journal keeps them.

    On its host goes the task directory, with our work directory in it; a directory of the user's
    keeps what was handed over, and a work tree what is not committed. What cannot be removed there
    is not forgotten here.
    """
    long_ago = time.time() - older_than
    return [
        await _prune(store, session, keep_history=keep_history)
        for session in await store.sessions()
        if (
            session.id in only
            if only is not None
            else session.over and session.ended_at is not None and session.ended_at <= long_ago
        )
    ]


async def _works_in(store: Store, session: StoredSession, tree: str) -> str | None:
    """Another session that does: who goes on where an earlier one was may be at work there."""
    for other in await store.sessions():
        cwd = f"{other.facts.get('cwd') or ''}/"
        if (other.host, other.over) == (session.host, False) and cwd.startswith(f"{tree}/"):
            return other.id
    return None


async def _prune(store: Store, session: StoredSession, *, keep_history: bool) -> Pruned:
    if not session.over:
        return Pruned(session, "it is not over")
    branch, facts = "", Facts.read(session.facts)
    worktree = Worktree(**facts.worktree) if facts.worktree else None
    if worktree is not None and (other := await _works_in(store, session, worktree.tree)):
        return Pruned(session, f"session {other} works in its work tree, and is not over")
    try:
        with store.claim(session.id, owner_name()), anyio.fail_after(_PATIENCE):
            start = await known_start(store, session.id) or Start(f"{session.id}.")
            async with host_of(session) as host:
                if worktree is not None:
                    await end_worktree(host, worktree, only_check=True)
                # refuses while anything of it lives
                await host.cleanup_taskdir(process=start.process, tag=start.session)
                if worktree is not None:
                    branch = await end_worktree(host, worktree)
            if not keep_history:
                await store.forget(session.id)
    except TimeoutError:
        return Pruned(session, f"{session.host} did not answer within {_PATIENCE:g} s")
    except (OptioAgentsError, OSError) as error:
        return Pruned(session, str(error))
    return Pruned(session, branch=branch)
