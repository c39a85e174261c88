"""Entries that had their turn, written to the journal in bunches."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optio_agents.concurrency import OnDemand

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from optio_agents.store.records import Entry, Journal

    from .foreign_code import Guests
    from .outcome import Decide


# Where an agent works, and what a path that it names means there.


@dataclass(frozen=True, slots=True)
class Workplace:
    """Names only: whether a path stays inside is judged on the host, when it is opened."""

    workdir: str  # as we name it
    real: str  # as the host resolves it

    @property
    def log(self) -> str:
        return posixpath.join(self.workdir, "optio.log")

    @property
    def deliverables(self) -> str:
        return posixpath.join(self.workdir, "deliverables")

    def absolute(self, announced: str) -> str:
        """The path to open; its `..` are left for the host, which knows its links."""
        return posixpath.join(self.workdir, announced)

    def relative(self, announced: str, *, real: str | None = None) -> str:
        """How people call the file: relative to deliverables/, or as announced.

        *real* is where the host found it, in case the agent went there by another way.
        """
        named = posixpath.normpath(self.absolute(announced))
        for path in (named, real and posixpath.normpath(real)):
            for base in (self.workdir, self.real):
                root = posixpath.join(posixpath.normpath(base), "deliverables", "")
                if path and path.startswith(root):
                    return path[len(root) :]
        return announced


# What the parts of one session share.


@dataclass(frozen=True, slots=True)
class Common:
    """Handed to each part, so that they need not know each other."""

    journal: Journal
    guests: Guests
    workers: TaskGroup  # for work that ends with the session
    decide: Decide
    done: Callable[[Entry], None]  # this entry had its turn
    failed: Callable[[Exception], None]  # the session cannot go on
    troubles: Counter[str] = field(default_factory=Counter)  # what raised, and how often


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
