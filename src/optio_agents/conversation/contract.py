"""What every conversation promises, whichever agent stands behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from optio_agents.errors import AgentError

Event: TypeAlias = dict[str, Any]  # the backend's own, unchanged; read-only


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """The agent asks whether it may use a tool, and waits for the answer."""

    tool_name: str
    input: dict[str, Any]
    raw: Event  # the backend's whole request

    @property
    def id(self) -> str:
        """What an answer names it by."""
        return str(self.raw.get("request_id", ""))


@dataclass(frozen=True, slots=True)
class PermissionDecision:
    """What the agent is told. Allowing without `updated_input` allows what was asked."""

    behavior: Literal["allow", "deny"]
    updated_input: dict[str, Any] | None = None
    message: str | None = None  # why not, for the agent to read
    interrupt: bool = False  # deny, and end the turn
    updated_permissions: Sequence[Mapping[str, Any]] = ()  # only those for the session pass


EventHandler: TypeAlias = Callable[[Event], Awaitable[None] | None]
MessageHandler: TypeAlias = Callable[[str], Awaitable[None] | None]
PermissionHandler: TypeAlias = Callable[
    [PermissionRequest], Awaitable[PermissionDecision] | PermissionDecision
]
Unsubscribe: TypeAlias = Callable[[], None]
Interrupted: TypeAlias = Literal["idle", "interrupted", "signalled", "stopped"]
Phase: TypeAlias = Literal[
    "starting", "idle", "working", "waiting for permission", "rate limited", "closed"
]


@dataclass(frozen=True, slots=True)
class ConversationState:
    """What the agent is doing, as far as it has said."""

    phase: Phase
    until: float | None = None  # seconds since the epoch: when the rate limit ends, if known
    reason: str = ""  # why it is closed or limited

    def __str__(self) -> str:
        return f"{self.phase}: {self.reason}" if self.reason else self.phase


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A message that was sent, and that the agent has not been heard to have read."""

    uuid: str
    text: str


@dataclass(frozen=True, slots=True)
class CloseReason:
    """How a conversation came to its end."""

    how: str  # one sentence
    asked: bool = False  # we asked for it
    exit_code: int | None = None  # None where nobody can know it
    signal: str | None = None
    stderr: str = ""  # the agent's last lines there
    last_result: Event | None = None  # of its last turn

    def __str__(self) -> str:
        last_words = self.stderr.strip()[-400:]
        return f"{self.how}: {last_words}" if last_words and not self.asked else self.how


class ConversationClosed(AgentError):
    """Nobody is there to talk to any more; `reason` says why."""

    def __init__(self, reason: CloseReason | str = "the conversation is closed") -> None:
        super().__init__(reason)
        self.reason = CloseReason(reason) if isinstance(reason, str) else reason

    def __str__(self) -> str:
        return str(self.reason)


@runtime_checkable
class Conversation(Protocol):
    """One live agent. Handlers may be plain or async; each unsubscribe may be called twice.

    Events come in order and complete to each subscriber; one that raises is logged and served
    on, one that dawdles makes the reading wait.
    """

    @property
    def closed(self) -> bool:
        """Nothing more will come, and nothing can be said."""

    async def send(self, text: str) -> Any:
        """Say *text* to the agent. Returns when it is kept for it. Raises ConversationClosed."""

    def on_event(self, handler: EventHandler) -> Unsubscribe:
        """Call *handler* with every event from now on."""

    def on_message(self, handler: MessageHandler) -> Unsubscribe:
        """Call *handler* with the final text of each completed turn."""

    def on_permission_request(self, handler: PermissionHandler) -> Unsubscribe:
        """Let *handler* decide, also about requests that wait already. A later one replaces it."""

    def is_pending(self) -> bool:
        """The agent works, or has yet to answer something that was sent."""

    async def interrupt(self) -> Any:
        """End the turn that runs, if any. Returns when it has ended."""

    async def close(self) -> None:
        """End the agent, within a bound. Twice is fine."""
