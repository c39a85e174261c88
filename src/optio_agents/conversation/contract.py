"""What every conversation promises, whichever agent stands behind it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from optio_agents.errors import AgentError

Event: TypeAlias = dict[str, Any]  # the backend's own, unchanged; read-only


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a message: its bytes, or the address where they are."""

    media_type: str
    data: bytes | None = None
    url: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if (self.data is None) == (self.url is None):
            raise ValueError("an attachment has either data or a url")

    def dump(self) -> dict[str, Any]:
        """As JSON keeps it."""
        data = None if self.data is None else base64.b64encode(self.data).decode()
        return {"media_type": self.media_type, "data": data, "url": self.url, "name": self.name}

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> Attachment:
        """What `dump` gave."""
        data = None if kept["data"] is None else base64.b64decode(kept["data"])
        return cls(kept["media_type"], data, kept["url"], kept["name"])


NOBODY_ANSWERED = "Nobody answered this permission request in time, so it was denied."


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """The agent asks whether it may use a tool, and waits for the answer."""

    tool_name: str
    input: dict[str, Any]
    raw: Event  # the backend's whole request
    id: str = ""  # what people name it by; unique among those that are open
    place: int | None = None  # where it stands in the agent's output

    @property
    def names(self) -> tuple[str, ...]:
        """What its answer is kept under on the agent's host; a new answer under the first."""
        return answer_names(self.place, self.id)


def answer_names(place: int | None, request_id: str) -> tuple[str, ...]:
    """By its place in the output: ids of agents may begin again at 0 in every process of theirs.

    The id itself comes second: that is how versions up to 0.3 named the answer to a request.
    """
    ours = () if place is None else (f"at-{place}",)
    return (*ours, request_id) if request_id or not ours else ours


@dataclass(frozen=True, slots=True)
class PermissionDecision:
    """What the agent is told. Allowing without `updated_input` allows what was asked."""

    behavior: Literal["allow", "deny"]
    updated_input: dict[str, Any] | None = None
    message: str | None = None  # why not, for the agent to read
    interrupt: bool = False  # deny, and end the turn
    updated_permissions: Sequence[Mapping[str, Any]] = ()  # only those for the session pass


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The agent uses a tool of ours, or asks a hook of ours, and waits for what it gives.

    *id* is an idempotency key: whoever supervises the agent next is offered a call that is still
    open again, under the same id, so its function may run twice; it is answered once.
    """

    name: str
    input: dict[str, Any]
    id: str
    raw: Event  # the agent's whole request
    request_id: str
    place: int | None = None  # where it stands in the agent's output
    event: str | None = None  # what a hook is asked about, as "PreToolUse"; None: it is a tool

    @property
    def names(self) -> tuple[str, ...]:
        """As a permission request has them."""
        return answer_names(self.place, self.request_id)


@runtime_checkable
class AgentTool(Protocol):
    """A tool of ours that an agent can use; a typed function will do in its place.

    It gives text, an `Attachment` or a list of these, or any value that JSON can hold; what it
    raises is told to the agent as its failure.
    """

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON schema of its arguments, an object."""

    async def call(self, arguments: Mapping[str, Any], *, id: str) -> Any:  # noqa: A002
        """Do it; *arguments* are the model's, *id* is that of the `ToolCall`."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A function that is asked when something happens in the agent, which waits for it.

    It is given the `ToolCall`, whose `input` is all that the agent tells of the event. It gives
    None, what the agent's own hooks give (a mapping), or before the use of a tool a
    `PermissionDecision`. Where it raises or nobody answers within *timeout* seconds, the use of a
    tool is denied.
    """

    event: str  # the agent's own name of it, as "PreToolUse"
    function: Callable[[ToolCall], Any]
    matcher: str | None = None  # the tools it is about, as the agent matches them; None: all
    timeout: float = 900.0

    @property
    def name(self) -> str:
        """The same in every process that serves it."""
        return f"{self.event}:{getattr(self.function, '__name__', type(self.function).__name__)}"


@dataclass(frozen=True)
class UsageWindow:
    """A span of time in which so much may be used; of one model, or of all."""

    label: str
    pct: float | None
    resets_at: datetime | None
    model: str | None = None

    @classmethod
    def until(cls, label: str, pct: float, resets_at: object) -> UsageWindow:
        """*resets_at*: seconds since the epoch, as an agent has written them."""
        if isinstance(resets_at, int | float) and 0 < resets_at < 1e11:
            return cls(label, pct, datetime.fromtimestamp(resets_at, UTC))
        return cls(label, pct, None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "pct": self.pct,
            "resets_at": self.resets_at and self.resets_at.isoformat(),
            "model": self.model,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> UsageWindow:
        at = data.get("resets_at")
        return cls(
            data["label"],
            data.get("pct"),
            datetime.fromisoformat(at) if isinstance(at, str) else at,
            data.get("model"),
        )

    @property
    def used_up(self) -> bool:
        return self.pct is not None and self.pct >= 100.0


TurnOutcome: TypeAlias = Literal[
    "completed",  # the agent did what it was to do: never without positive evidence
    "cancelled",  # it was told to stop, by us or by somebody at its side
    "refused",  # the model would not
    "cut",  # a limit, a hook or the like ended it before the agent had
    "empty",  # it ended well, and without a word or a deed
    "failed",  # the model's API, the login, the agent itself
    "lost",  # its end was never told: the process went, or the message was dropped
]


@dataclass(frozen=True, slots=True)
class ToolServer:
    """An MCP server that the agent uses by itself: at *url*, or *command* on its host.

    Values of *headers* and *env* reach the agent by its environment, where it has a way to take
    them from there, and stand in no command line. One use may take *timeout* seconds, where the
    agent can be told that. An agent that cannot use it at all goes on where it is *optional*.
    """

    name: str
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        if (self.url is None) == (not self.command) or isinstance(self.command, str):
            raise ValueError("an MCP server has either a url or a command, a list")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.name):
            raise ValueError(f"no MCP server can have the name {self.name!r}")

    @property
    def header_variables(self) -> dict[str, str]:
        """For each header, the variable that its value is in."""
        name = self.name.upper().replace("-", "_")
        return {one: f"OPTIO_MCP_{name}_{n}_TOKEN" for n, one in enumerate(self.headers)}

    @property
    def variables(self) -> dict[str, str]:
        """All values that it needs in the agent's environment."""
        given = {self.header_variables[one]: value for one, value in self.headers.items()}
        return {**self.env, **given}


def tool_servers(given: Sequence[Any]) -> tuple[ToolServer, ...]:
    """Each of *given* as one of ours: a `ToolServer`, its fields, or whatever has name and url."""
    return tuple(
        one
        if isinstance(one, ToolServer)
        else ToolServer(**one)
        if isinstance(one, Mapping)
        else ToolServer(one.name, one.url, one.headers)
        for one in given
    )


def variables_of(servers: Sequence[ToolServer]) -> dict[str, str]:
    """What *servers* need in an agent's environment. Raises ValueError where two differ in it."""
    found = dict[str, str]()
    for server in servers:
        for name, value in server.variables.items():
            if found.setdefault(name, value) != value:
                raise ValueError(f"two MCP servers want different values of {name}")
    return found


@dataclass(frozen=True, slots=True)
class ContextUsage:
    """How full the model's context is, in tokens."""

    used: int
    size: int | None = None  # of all of it, where it is known


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Of one turn; None where the agent does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResult:
    """How a turn ended; `evidence` says what `outcome` rests on."""

    outcome: TurnOutcome
    text: str = ""  # the answer; empty unless completed: an error message is no answer
    failure: str | None = None  # why there is no answer, in words; None if completed
    usage: TokenUsage | None = None
    cost: float | None = None  # of this turn, in US dollars; None where nobody can know it
    evidence: str = ""
    raw: Event | None = None  # the backend's own end of the turn; None where it never told one
    value: Any = None  # what `ask(returns=…)` wanted, checked; or what the agent gives as a value

    @property
    def ok(self) -> bool:
        """It was completed."""
        return self.outcome == "completed"


EventHandler: TypeAlias = Callable[[Event], Awaitable[None] | None]
MessageHandler: TypeAlias = Callable[[str], Awaitable[None] | None]
TurnHandler: TypeAlias = Callable[[TurnResult], Awaitable[None] | None]
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


def gist(given: Mapping[str, Any]) -> str:
    """What a tool is to do, in the argument that tells it best."""
    known = ("command", "file_path", "path", "pattern", "url", "query", "description", "prompt")
    return next((str(given[name]) for name in known if name in given), json.dumps(given))


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


class AnswerUnfit(AgentError):
    """The agent has answered, and never with the value that it was asked for."""


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

    async def send(self, text: str, *, uuid: str | None = None) -> Any:
        """Say *text* to the agent, once for each *uuid*. Returns when it is kept for it.

        Raises ConversationClosed.
        """

    async def set_control(self, control_id: str, value: str | bool) -> Any:
        """Change its model, its mode or the like while it runs; an unknown id does nothing."""

    def on_event(self, handler: EventHandler) -> Unsubscribe:
        """Call *handler* with every event from now on."""

    def on_message(self, handler: MessageHandler) -> Unsubscribe:
        """Call *handler* with the final text of each completed turn, and of no other."""

    def on_permission_request(self, handler: PermissionHandler) -> Unsubscribe:
        """Let *handler* decide, also about requests that wait already. A later one replaces it."""

    def is_pending(self) -> bool:
        """The agent works, or has yet to answer something that was sent."""

    async def interrupt(self) -> Any:
        """End the turn that runs, if any. Returns when it has ended."""

    async def close(self) -> None:
        """End the agent, within a bound. Twice is fine."""
