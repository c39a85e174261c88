"""How a session may end, and which of several endings counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio

from .result import Ended


@dataclass(frozen=True, slots=True)
class Done:
    summary: str | None


@dataclass(frozen=True, slots=True)
class Reported:
    message: str | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The context said so."""


@dataclass(frozen=True, slots=True)
class Exited:
    agent: Ended


@dataclass(frozen=True, slots=True)
class Stalled:
    seconds: float


@dataclass(frozen=True, slots=True)
class Hooked:
    reason: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A hook, the body, the journal or the host raised."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Whoever awaits the session was cancelled."""


Verdict: TypeAlias = (
    Done | Reported | Cancelled | Exited | Stalled | Hooked | Unreachable | Failed | Interrupted
)


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class Decision:
    """The first verdict counts; only Done gives way, as long as its promises are being kept."""

    verdict: Verdict | None = None
    failed_at: float | None = None  # anyio.current_time() of the verdict that is not Done
    over: asyncio.Future[None] = field(default_factory=_future)  # done once there is a verdict
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def decide(self, verdict: Verdict) -> None:
        """This is how it ends, unless that was settled before."""
        if not self._may_become(verdict):
            return
        self.verdict = verdict
        if not self.over.done():
            self.over.set_result(None)
        if not isinstance(verdict, Done):
            self.failed_at = anyio.current_time()
            self._scope.cancel()

    def _may_become(self, verdict: Verdict) -> bool:
        match self.verdict:
            case None:
                return True
            case Done():
                return not isinstance(verdict, Done | Reported | Exited | Stalled)
            case _:
                return False

    @contextmanager
    def while_healthy(self) -> Iterator[None]:
        """Run the block until there is a verdict that is not Done. For one block."""
        with self._scope:
            yield


Decide: TypeAlias = Callable[[Verdict], None]
