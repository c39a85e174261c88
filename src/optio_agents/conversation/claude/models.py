"""What the CLI says, typed where it helps. Unknown fields pass, unusable values give defaults."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler
from pydantic.functional_validators import WrapValidator

from optio_agents.conversation.contract import Event
from optio_agents.errors import AgentError

from .stream_json import failure

T = TypeVar("T")


def _usable(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


Maybe = Annotated[T | None, WrapValidator(_usable)]  # None for what has another type


class _Said(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class TokenUsage(_Said):
    """Of one turn."""

    input_tokens: Maybe[int] = None
    output_tokens: Maybe[int] = None
    cache_read_input_tokens: Maybe[int] = None
    cache_creation_input_tokens: Maybe[int] = None


class TurnFailed(AgentError):
    """A turn ended without an answer; `result` has what the CLI said."""

    def __init__(self, result: TurnResult) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        return f"the turn failed: {self.result.failure}"


class TurnResult(_Said):
    """How a turn ended: with an answer (`ok`, `text`), or not (`failure`)."""

    subtype: Maybe[str] = None
    is_error: bool = False
    result: Maybe[str] = None
    structured_output: Any = None
    num_turns: Maybe[int] = None
    duration_ms: Maybe[float] = None
    total_cost_usd: Maybe[float] = None  # of the CLI session so far, never to be summed
    cost_usd: Maybe[float] = None  # of this turn; None where what was before is not known
    usage: Maybe[TokenUsage] = None
    permission_denials: Maybe[list[dict[str, Any]]] = None
    stop_reason: Maybe[str] = None
    terminal_reason: Maybe[str] = None
    api_error_status: Maybe[int] = None
    errors: Maybe[list[Any]] = None
    session_id: Maybe[str] = None
    answered: tuple[str, ...] = ()  # the uuids of our messages that it answers
    failure: str | None = None  # why there is no answer

    @property
    def ok(self) -> bool:
        return self.failure is None

    @property
    def text(self) -> str:
        """The answer. Empty where there is none: an API's error message is no answer."""
        return (self.result or "") if self.ok else ""

    def raise_unless_ok(self) -> TurnResult:
        """Itself, or TurnFailed."""
        if not self.ok:
            raise TurnFailed(self)
        return self

    @classmethod
    def of(
        cls, event: Event, *, answered: tuple[str, ...] = (), cost_usd: float | None = None
    ) -> TurnResult:
        ours = {"answered": answered, "cost_usd": cost_usd, "failure": failure(event)}
        return cls.model_validate({**event, "is_error": bool(event.get("is_error")), **ours})

    @classmethod
    def dropped(cls, uuid: str) -> TurnResult:
        """The CLI took a message out of its queue, or forgot it."""
        return cls(is_error=True, answered=(uuid,), failure="the message was dropped unanswered")


class McpServer(_Said):
    name: Maybe[str] = None
    status: Maybe[str] = None


class Init(_Said):
    """What the CLI says at the start of every turn."""

    session_id: Maybe[str] = None
    cwd: Maybe[str] = None
    model: Maybe[str] = None
    permission_mode: Maybe[str] = Field(default=None, alias="permissionMode")
    tools: Maybe[list[str]] = None
    mcp_servers: Maybe[list[McpServer]] = None
    slash_commands: Maybe[list[str]] = None
    claude_code_version: Maybe[str] = None
    capabilities: Maybe[list[str]] = None


class RateLimit(_Said):
    """The account's limits; only told to a CLI that is logged in."""

    status: Maybe[str] = None  # "allowed", "allowed_warning", "rejected"
    resets_at: Maybe[float] = Field(default=None, alias="resetsAt")  # s since the epoch
    kind: Maybe[str] = Field(default=None, alias="rateLimitType")


class ApiRetry(_Said):
    """A call to the model's API failed and is about to be tried again."""

    attempt: Maybe[int] = None
    max_retries: Maybe[int] = None
    retry_delay_ms: Maybe[float] = None
    error_status: Maybe[int] = None  # None: trouble with the connection
    error: Maybe[str] = None


class Usage(BaseModel):
    """Of the conversation so far."""

    model_config = ConfigDict(frozen=True)

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cost_usd: float | None = None  # of the CLI session, earlier processes included

    def plus(self, turn: TurnResult) -> Usage:
        used = turn.usage or TokenUsage()
        cost = self.cost_usd if turn.total_cost_usd is None else turn.total_cost_usd
        return Usage(
            turns=self.turns + 1,
            input_tokens=self.input_tokens + (used.input_tokens or 0),
            output_tokens=self.output_tokens + (used.output_tokens or 0),
            cache_read_input_tokens=self.cache_read_input_tokens
            + (used.cache_read_input_tokens or 0),
            cache_creation_input_tokens=self.cache_creation_input_tokens
            + (used.cache_creation_input_tokens or 0),
            cost_usd=cost,
        )
