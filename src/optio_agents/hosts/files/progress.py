"""How far a copy is, told every tenth of a second."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import anyio

from optio_agents.concurrency import task_group

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes done and, where it is known, the whole size."""

PercentCallback: TypeAlias = Callable[[float | None, str | None], None]
"""The published form: percent, where the size is known, and no message."""

_EVERY = 0.08  # seconds


@dataclass(slots=True)
class Meter:
    """Moved by the copy, read by whoever tells of it."""

    total: int | None = None
    done: int = 0


@asynccontextmanager
async def reporting(meter: Meter, progress: Progress | None) -> AsyncIterator[None]:
    """Tell *progress* of *meter* while the block lasts, and once more when it ends well."""
    if progress is None:
        yield
        return
    async with task_group() as tasks:
        tasks.start_soon(_tell, meter, progress)
        yield
        tasks.cancel_scope.cancel()
    progress(meter.done, meter.done)


async def _tell(meter: Meter, progress: Progress) -> None:
    while True:
        await anyio.sleep(_EVERY)
        progress(meter.done, meter.total)


def as_percent(callback: PercentCallback | None) -> Progress | None:
    """*callback* as we call it."""
    if callback is None:
        return None

    def progress(done: int, total: int | None) -> None:
        callback(None if total is None else 100.0 * done / total if total else 100.0, None)

    return progress
