"""Whether the model's API turns the CLI away at present, as far as it says. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .contract import Event


@dataclass(frozen=True, slots=True)
class Limited:
    """Calls wait: until then (s since the epoch, None where nobody said), for this reason."""

    until: float | None
    reason: str


class Limits:
    """Feed it every event with the time it was read at; `now` says how things stand."""

    TYPES = frozenset({"rate_limit_event", "system", "assistant", "result"})

    __slots__ = ("now", "told")

    def __init__(self) -> None:
        self.now: Limited | None = None
        self.told: Event | None = None  # the account's limits

    def feed(self, event: Event, time: float) -> None:
        match event:
            case {"type": "rate_limit_event", "rate_limit_info": dict(info)}:
                self.told = info
                rejected = info.get("status") == "rejected"
                self.now = (
                    Limited(_number(info.get("resetsAt")), "usage limit") if rejected else None
                )
            case {"type": "system", "subtype": "api_retry", "error_status": 429}:
                delay = _number(event.get("retry_delay_ms"))
                until = None if delay is None else time + delay / 1000
                self.now = Limited(until, str(event.get("error") or "rate limit"))
            case {"type": "assistant" | "result"}:
                self.now = None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
