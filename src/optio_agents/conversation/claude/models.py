"""What the CLI says, typed where it helps. Unknown fields pass, unusable values give defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler
from pydantic.functional_validators import WrapValidator

from optio_agents.conversation.contract import Event, TokenUsage, TurnResult, UsageWindow
from optio_agents.conversation.json_lines import as_dict
from optio_agents.errors import AgentError

from .turns import TurnEnd, judge

T = TypeVar("T")


def _usable(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


Maybe = Annotated[T | None, WrapValidator(_usable)]  # None for what has another type


class _Spoken(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class TurnFailed(AgentError):
    """A turn ended without an answer; `result` has what the CLI said."""

    def __init__(self, result: ClaudeTurnResult) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        return f"the turn failed: {self.result.failure}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeTurnResult(TurnResult):
    """How a turn ended, with all that the CLI says of it; further fields of its are attributes."""

    subtype: str | None = None
    is_error: bool = False
    result: str | None = None
    structured_output: Any = None
    num_turns: int | None = None
    duration_ms: float | None = None
    total_cost_usd: float | None = None  # of the CLI session so far, never to be summed
    permission_denials: list[dict[str, Any]] | None = None
    stop_reason: str | None = None
    terminal_reason: str | None = None
    api_error_status: int | None = None
    errors: list[Any] | None = None
    session_id: str | None = None
    answered: tuple[str, ...] = ()  # the uuids of our messages that it answers

    @property
    def cost_usd(self) -> float | None:
        """Of this turn; None where what was before is not known."""
        return self.cost

    def raise_unless_ok(self) -> ClaudeTurnResult:
        """Itself, or TurnFailed."""
        if not self.ok:
            raise TurnFailed(self)
        return self

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("_") and name != "raw" and self.raw and name in self.raw:
                return self.raw[name]
            raise AttributeError(name)

    @classmethod
    def of(
        cls,
        event: Event,
        *,
        answered: tuple[str, ...] = (),
        cost: float | None = None,
        command: bool = False,
    ) -> ClaudeTurnResult:
        outcome, failure, evidence = judge(event, command=command)
        text, denials = _typed(event, "result", str), _typed(event, "permission_denials", list)
        return cls(
            outcome=outcome,
            text=(text or "") if outcome == "completed" else "",
            failure=failure,
            usage=_usage(event),
            cost=cost,
            evidence=evidence,
            raw=event,
            value=event.get("structured_output"),
            subtype=_typed(event, "subtype", str),
            is_error=bool(event.get("is_error")),
            result=text,
            structured_output=event.get("structured_output"),
            num_turns=_typed(event, "num_turns", int),
            duration_ms=number(event.get("duration_ms")),
            total_cost_usd=number(event.get("total_cost_usd")),
            permission_denials=None
            if denials is None
            else [one for one in denials if isinstance(one, dict)],
            stop_reason=_typed(event, "stop_reason", str),
            terminal_reason=_typed(event, "terminal_reason", str),
            api_error_status=_typed(event, "api_error_status", int),
            errors=_typed(event, "errors", list),
            session_id=_typed(event, "session_id", str),
            answered=answered,
        )

    @classmethod
    def dropped(cls, end: TurnEnd) -> ClaudeTurnResult:
        """The CLI took a message out of its queue, or forgot it."""
        return cls(
            outcome=end.outcome,
            is_error=True,
            answered=end.answered,
            failure="the message was dropped unanswered",
            evidence=end.why,
        )


def _typed(event: Event, name: str, kind: type[T]) -> T | None:
    value = event.get(name)
    return value if type(value) is kind else None


def number(value: object) -> float | None:
    """*value* as a finite number, if it is one."""
    if type(value) not in (int, float):
        return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return None
    return found if isfinite(found) else None


def _usage(event: Event) -> TokenUsage | None:
    if not isinstance(used := event.get("usage"), dict):
        return None
    return TokenUsage(
        _typed(used, "input_tokens", int),
        _typed(used, "output_tokens", int),
        _typed(used, "cache_read_input_tokens", int),
        _typed(used, "cache_creation_input_tokens", int),
    )


class ConnectedServer(_Spoken):
    name: Maybe[str] = None
    status: Maybe[str] = None


class Init(_Spoken):
    """What the CLI says at the start of every turn."""

    session_id: Maybe[str] = None
    cwd: Maybe[str] = None
    model: Maybe[str] = None
    permission_mode: Maybe[str] = Field(default=None, alias="permissionMode")
    tools: Maybe[list[str]] = None
    mcp_servers: Maybe[list[ConnectedServer]] = None
    slash_commands: Maybe[list[str]] = None
    claude_code_version: Maybe[str] = None
    capabilities: Maybe[list[str]] = None


class RateLimit(_Spoken):
    """The account's limits; only told to a CLI that is logged in."""

    status: Maybe[str] = None  # "allowed", "allowed_warning", "rejected"
    resets_at: Maybe[float] = Field(default=None, alias="resetsAt")  # s since the epoch
    kind: Maybe[str] = Field(default=None, alias="rateLimitType")


def windows_of(info: Mapping[str, Any]) -> list[UsageWindow]:
    """What a rate limit event tells of the account's windows; they are named as the CLI does."""
    windows, kind = as_dict(info.get("unifiedWindows")), info.get("rateLimitType")
    if not windows and isinstance(kind, str):
        used = 1.0 if info.get("status") == "rejected" else info.get("utilization")
        windows = {kind: {**info, "utilization": used}}
    return [
        UsageWindow.until(str(name)[:40], round(100 * used, 1), window.get("resetsAt"))
        for name, window in windows.items()
        if (used := number(as_dict(window).get("utilization"))) is not None
    ]


class Usage(BaseModel):
    """Of the conversation so far."""

    model_config = ConfigDict(frozen=True)

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cost_usd: float | None = None  # of the CLI session, earlier processes included

    def plus(self, turn: ClaudeTurnResult) -> Usage:
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
