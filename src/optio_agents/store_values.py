"""What the journal tells about sessions, as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optio_agents.session.journal import Entry

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
RESUMABLE = (None, "unreachable", "failed", "detached")  # outcomes that another run may follow


def is_session_id(text: object) -> TypeGuard[str]:
    """Whether *text* can be the id of a session: a plain name, since files are named by it."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class StoredSession:
    """One session as the journal knows it."""

    id: str
    created_at: float
    host: str  # as its user would say it
    taskdir: str
    facts: Mapping[str, Any]  # what is needed to find it again: see `session.facts`
    ended_at: float | None = None
    outcome: str | None = None
    summary: str | None = None
    result: Mapping[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Nothing more will come of it."""
        return self.outcome not in RESUMABLE


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One recorded line, with when it was recorded and whether it had its turn."""

    number: int
    at: float
    entry: Entry
    done: bool


@dataclass(frozen=True, slots=True)
class Note:
    """Something else worth keeping: a turn's result, a request, an answer, a message sent."""

    kind: str
    key: str
    value: Any
    at: float  # when it was last replaced
    number: int  # by when it was first made
