"""What our journal knows of an agent's start: a host may show nothing of it for a while.

Before anything of an agent can run, its tag is noted, and then the process that it became. So
"never started" can be proved, and nothing else that cannot be seen is taken for an end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optio_agents.errors import AgentUnseen, FileRefused
from optio_agents.hosts.agent_launch import Start
from optio_agents.hosts.machine import ProcessId

from .facts import Facts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from optio_agents.hosts.agents import Agent
    from optio_agents.store import Store
    from optio_agents.store_values import StoredSession

    from .observed import ObservedJournal

_KIND = "start"


def note_tag(journal: ObservedJournal) -> Callable[[str], Awaitable[None]]:
    """What is to be awaited just before a start."""

    async def note(tag: str) -> None:
        await journal.note(_KIND, "", {"tag": tag, "process": ""})

    return note


async def note_process(journal: ObservedJournal, agent: Agent) -> None:
    """Keep which process *agent* is."""
    await journal.note(_KIND, "", {"tag": agent.session, "process": str(agent.process or "")})


async def known_start(store: Store, session: str) -> Start | None:
    """The start that was noted last, if any was."""
    notes = await store.notes(session, _KIND)
    if not notes:
        return None
    process = notes[-1].value["process"]
    return Start(notes[-1].value["tag"], ProcessId.parse(process) if process else None)


async def never_started(store: Store, session: StoredSession) -> bool:
    """Whether nothing of it was ever started; ask while nobody else can start it."""
    return (
        Facts.read(session.facts).notes_start
        and await known_start(store, session.id) is None
        and not await store.events(session.id, most=1)
    )


def unseen(session: str, host: str, error: FileRefused) -> AgentUnseen:
    """What to raise where the directory of *session* is not there, and nothing is over."""
    return AgentUnseen(
        f"{host}: the agent of session {session} cannot be seen now ({error}); it may be at work "
        "all the same, and the session stays open: resume it later"
    )
