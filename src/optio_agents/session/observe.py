"""What whoever watches a session live gets to see."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from optio_agents.conversation import ConversationState, PermissionRequest
    from optio_agents.hosts.machine import LinkState
    from optio_agents.protocol.secrets import Secrets
    from optio_agents.store_values import StoredSession

    from .journal import Delivery, Entry
    from .result import SessionResult

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Began:
    """The session is about to run, or to run again."""

    session: StoredSession
    resumed: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """Lines of the log that are now in the journal."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far the agent is; None leaves the percent as it was."""

    percent: float | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """One more step of an announced file: fetched, judged, answered."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Spoke:
    """An event of the conversation, the agent's own; read-only."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """The final text of a turn."""

    text: str


@dataclass(frozen=True, slots=True)
class Phase:
    """What the agent is doing, as far as it has said."""

    state: ConversationState


@dataclass(frozen=True, slots=True)
class Asked:
    """The agent wants to use a tool and waits; *digest* stands for what is shown here."""

    request: PermissionRequest
    digest: str


@dataclass(frozen=True, slots=True)
class Decided:
    """A request is not open any more."""

    request: str  # its id
    behavior: str  # "allow", "deny", or "settled": elsewhere, or by the agent itself
    by: str


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The way to the host is another than before."""

    state: LinkState
    reason: str


@dataclass(frozen=True, slots=True)
class NeedsYou:
    """The agent calls for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class OpenBrowser:
    """The agent wants an address to be shown. Untrusted: never open it unasked."""

    url: str


@dataclass(frozen=True, slots=True)
class FromAgent:
    """Data for the user interface."""

    keyword: str
    data: Any


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for the operator."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """How the session ended."""

    result: SessionResult


Observation: TypeAlias = (
    Began
    | Recorded
    | Progressed
    | Delivered
    | Spoke
    | Answered
    | Phase
    | Asked
    | Decided
    | LinkChanged
    | NeedsYou
    | OpenBrowser
    | FromAgent
    | Notice
    | Finished
)
Observer: TypeAlias = Callable[[Observation], None]
"""Called on the event loop, in order, and must not block. What it raises harms nobody."""


class Eyes:
    """Shows things to an observer, if there is one, without the values of *secrets*."""

    def __init__(self, observer: Observer | None, secrets: Secrets) -> None:
        self._observer, self._secrets = observer, secrets

    def __call__(self, observation: Observation) -> None:
        if self._observer is None:
            return
        try:
            self._observer(self._hidden(observation) if self._secrets else observation)
        except Exception:
            _log.exception("an observer raised")

    def _hidden(self, value: Any) -> Any:
        """*value* in the same shape, with every text in it treated."""
        match value:
            case str():
                return self._secrets.hide(value)
            case tuple() | list():
                return type(value)(map(self._hidden, value))
            case Mapping():
                return {key: self._hidden(inner) for key, inner in value.items()}
            case _ if is_dataclass(value) and not isinstance(value, type):
                told = {f.name: self._hidden(getattr(value, f.name)) for f in fields(value)}
                return replace(value, **told)
        return value
