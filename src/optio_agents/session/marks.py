"""Entries that had their turn, written to the journal in bunches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .on_demand import OnDemand

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from .journal import Entry, Journal


class Marks:
    """Collects what is done; never loses one, whoever is cancelled meanwhile."""

    def __init__(
        self, journal: Journal, tasks: TaskGroup, *, failed: Callable[[Exception], None]
    ) -> None:
        self._journal = journal
        self._done: list[Entry] = []
        self._worker = OnDemand(tasks, self.flush, failed=failed)

    def done(self, entry: Entry) -> None:
        """This entry was handed over, or never will be."""
        self._done.append(entry)
        self._worker.wake()

    async def flush(self) -> None:
        """Write down all that is done by now."""
        while some := tuple(self._done):
            await self._journal.mark_done(some)
            del self._done[: len(some)]
