"""Whose login an agent uses, and how much of its allowance is used up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optio_agents.conversation.contract import UsageWindow

__all__ = [
    "EMPTY",
    "AccountInfo",
    "UsageWindow",
    "account_dicts_from_metadata",
    "accounts_from_metadata",
    "accounts_to_metadata",
    "any_usable",
    "is_limited",
]


@dataclass(frozen=True)
class AccountInfo:
    """What is known of an account; `EMPTY` is nothing."""

    name: str | None = None
    email: str | None = None
    plan: str | None = None
    account_id: str | None = None
    provider: str | None = None  # only where one login has several
    windows: tuple[UsageWindow, ...] = ()
    raw: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", tuple(self.windows))

    @property
    def summary(self) -> str | None:
        """One line for people; None where neither a plan nor a provider is known."""
        words = None
        if self.plan:
            who = " ".join(filter(None, (self.name, self.email and f"<{self.email}>")))
            words = f"Plan: {self.plan} for {who}" if who else f"Plan: {self.plan}"
        if not self.provider:
            return words
        return f"{self.provider} · {words or 'unknown account'}"

    def next_reset(self) -> datetime | None:
        """When the first of the used up windows begins again."""
        resets = [w.resets_at for w in self.windows if w.used_up and w.resets_at]
        return min(resets, default=None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "email": self.email,
            "plan": self.plan,
            "account_id": self.account_id,
            "provider": self.provider,
            "windows": [window.to_dict() for window in self.windows],
            "raw": self.raw,
            "summary": self.summary,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AccountInfo:
        return cls(
            **{name: data.get(name) for name in ("name", "email", "plan", "account_id")},
            provider=data.get("provider"),
            windows=tuple(map(UsageWindow.from_dict, data.get("windows") or ())),
            raw=data.get("raw") or {},
        )


EMPTY = AccountInfo()


def is_limited(info: AccountInfo, now: datetime, models: Iterable[str] = ()) -> bool:
    """Whether a window of all models, or of one of *models*, is used up and not over yet."""
    concerned = {None, *models}
    return any(
        window.used_up
        and window.model in concerned
        and (window.resets_at is None or window.resets_at > now)
        for window in info.windows
    )


def any_usable(accounts: Iterable[AccountInfo], now: datetime, models: Iterable[str] = ()) -> bool:
    """Whether one of *accounts* is not limited."""
    needed = tuple(models)
    return any(not is_limited(info, now, needed) for info in accounts)


def accounts_to_metadata(accounts: Iterable[AccountInfo]) -> list[dict[str, Any]]:
    """What a seed's metadata keeps under `accounts`."""
    return [info.to_dict() for info in accounts]


def account_dicts_from_metadata(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a seed's metadata keeps, as it is; older ones have a single `account`."""
    if accounts := metadata.get("accounts"):
        return list(accounts)
    account = metadata.get("account")
    return [account] if account else []


def accounts_from_metadata(metadata: Mapping[str, Any]) -> list[AccountInfo]:
    """The accounts that a seed's metadata tells of."""
    return [AccountInfo.from_dict(data) for data in account_dicts_from_metadata(metadata)]
