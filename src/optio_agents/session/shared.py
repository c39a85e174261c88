"""What the parts of one run have in common, so that they need not know each other."""

from __future__ import annotations

import logging
import posixpath
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optio_agents.concurrency import OnDemand
from optio_agents.errors import EndSession, HostKeyRefused
from optio_agents.hosts.workdir import logdir_of

from .foreign_code import ForeignCode, ForeignExit, describe
from .outcome import Ending, failed

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from optio_agents.hosts.host import Host
    from optio_agents.store.records import Entry, Journal

    from .options import Options
    from .outcome import Decision


_log = logging.getLogger(__name__)


class Shared:
    """Where a part finds the host and the journal, and says what came of its work."""

    def __init__(
        self,
        options: Options,
        host: Host,
        journal: Journal,
        decision: Decision,
        workers: TaskGroup,
    ) -> None:
        self.options, self.host, self.journal, self.decision = options, host, journal, decision
        self.workers = workers  # for work that ends with the run
        self.machine = host.machine
        self.foreign = ForeignCode(host.machine.link, options.permit)
        logdir = logdir_of(host)
        self.workplace = Workplace(host.workdir, logdir, logdir)  # until the host has resolved it
        self.troubles = Counter[str]()  # what raised, and how often
        self._done: list[Entry] = []
        self._marker = OnDemand(workers, self.flush, failed=self.fail)

    def mark_done(self, entry: Entry) -> None:
        """*entry* was handed over, or never will be. Written down in bunches."""
        self._done.append(entry)
        self._marker.wake()

    async def flush(self) -> None:
        """Write down all that is done by now; none is lost, whoever is cancelled meanwhile."""
        while some := tuple(self._done):
            await self.journal.mark_done(some)
            del self._done[: len(some)]

    def fail(self, error: BaseException) -> None:
        """The run cannot go on."""
        match error:
            case EndSession(reason=reason):
                self.decision.decide(Ending("ended by hook", reason))
            case HostKeyRefused():  # no waiting helps
                self.decision.decide(Ending("unreachable", str(error)))
            case ForeignExit(error=foreign):
                self.decision.decide(failed(foreign))
            case _:
                self.decision.decide(failed(error))

    def note_trouble(self, name: str, error: Exception) -> None:
        """*name* raised. That is counted and ends nothing, unless it was meant to."""
        if isinstance(error, EndSession | ForeignExit):
            self.fail(error)
            return
        self.troubles[name] += 1
        if self.troubles[name] == 1:
            _log.warning("%s raised: %s", name, describe(error), exc_info=error)
        else:
            _log.debug("%s raised again: %s", name, describe(error))


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where an agent works, and what a path that it names means there.

    Names only: whether a path stays inside is judged on the host, when it is opened.
    """

    workdir: str
    logdir: str  # as we name it; holds the log and deliverables/
    real: str  # as the host resolves it

    @property
    def log(self) -> str:
        return posixpath.join(self.logdir, "optio.log")

    @property
    def deliverables(self) -> str:
        return posixpath.join(self.logdir, "deliverables")

    @property
    def apart(self) -> bool:
        """The log is not where the agent works: there may be one for somebody else, too."""
        return self.logdir != self.workdir

    def absolute(self, announced: str) -> str:
        """The path to open; its `..` are left for the host, which knows its links."""
        here = posixpath.normpath(announced).partition("/")[0] == "deliverables"
        return posixpath.join(self.logdir if here else self.workdir, announced)

    def relative(self, announced: str, *, real: str | None = None) -> str:
        """How people call the file: relative to deliverables/, or as announced.

        *real* is where the host found it, in case the agent went there by another way.
        """
        named = posixpath.normpath(self.absolute(announced))
        for path in (named, real and posixpath.normpath(real)):
            for base in (self.logdir, self.real):
                root = posixpath.join(posixpath.normpath(base), "deliverables", "")
                if path and path.startswith(root):
                    return path[len(root) :]
        return announced
