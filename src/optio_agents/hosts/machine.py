"""The one thin seam to a machine: run a script, follow a file, tunnel a port."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from optio_agents.framing.batches import Batches, FollowOptions
    from optio_agents.framing.cursor import Cursor


_log = logging.getLogger(__name__)
_PROCESS = re.compile(r"([0-9]{1,10}) ([0-9]{1,20}) ([0-9a-fA-F-]{1,64})")

LinkState: TypeAlias = Literal["new", "up", "down", "waiting for your login", "refused", "closed"]
_AWAY = frozenset[LinkState]({"down", "waiting for your login"})

GRACE = 2.0  # seconds between TERM and KILL for what is left of a script's tree
STOPPING = 13.0  # seconds that stopping it may take besides


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process for all time: a pid alone is reused, with start time and boot it is not."""

    pid: int
    start: int  # clock ticks after boot: field 22 of /proc/PID/stat
    boot: str

    def __str__(self) -> str:
        return f"{self.pid} {self.start} {self.boot}"

    @classmethod
    def parse(cls, text: str) -> ProcessId:
        """Read what `str` wrote. Raises ValueError."""
        found = _PROCESS.fullmatch(text)
        if found is None:
            raise ValueError(f"{text[:80]!r} names no process")
        return cls(int(found[1]), int(found[2]), found[3])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a small script answered."""

    exit_code: int
    stdout: bytes
    stderr: bytes = b""


class Process(Protocol):
    """A script that runs on the machine. Leaving its block ends its whole tree."""

    pid: int  # of its /bin/sh on the machine, a process-group leader
    grace: float  # seconds between TERM and KILL for what is left when its block is left early

    async def write(self, data: bytes) -> None:
        """Give it input, waiting while it does not read. Raises HostLost, BrokenPipeError."""

    async def close_input(self) -> None:
        """End its input. Twice is fine."""

    async def read(self, limit: int = 262_144) -> bytes:
        """Some bytes of its stdout, none at the end. Raises HostLost, never a false end."""

    async def read_pieces(self, limit: int = 262_144) -> list[bytes]:
        """The same bytes as they came: joining big ones costs more than moving them."""

    def divert(self, sink: Callable[[bytes], None]) -> None:
        """Give *sink*, which must not raise, its stdout as it comes; `read` waits for the end."""

    async def read_error(self, limit: int = 262_144) -> bytes:
        """Some bytes of its stderr, none at the end."""

    async def wait(self) -> int:
        """Its exit code, 128 + n if signal n ended it. Raises HostLost."""


class LinkStatus:
    """How the way to the machine is, for whoever shows it or waits for it."""

    def __init__(self, retry: Callable[[], None] = lambda: None) -> None:
        self.state: LinkState = "new"
        self.since = time.monotonic()  # anyio.current_time() of the last change
        self.reason = ""  # one sentence, empty while up
        self.retry_now = retry  # and do not wait for the back-off, or for a login to be allowed
        self._away = 0.0
        self._watchers: dict[object, Callable[[LinkState, str], None]] = {}

    def watch(self, told: Callable[[LinkState, str], None]) -> Callable[[], None]:
        """Call *told* at every change, on the loop; returns how to stop that."""
        key = object()
        self._watchers[key] = told

        def stop() -> None:
            self._watchers.pop(key, None)

        return stop

    @property
    def away(self) -> float:
        """Seconds, in all, that the machine could not be reached: no time for any bound."""
        now = time.monotonic() if self.state in _AWAY else self.since
        return self._away + now - self.since

    def become(self, state: LinkState, reason: str = "") -> None:
        """Change, which is for the machine's adapter to do; a watcher that raises harms nobody."""
        if (state, reason) == (self.state, self.reason):
            return
        self._away = self.away
        self.state, self.reason, self.since = state, reason, time.monotonic()
        for told in list(self._watchers.values()):
            try:
                told(state, reason)
            except Exception:
                _log.exception("a watcher of the link raised")


class Machine(Protocol):
    """Here, or behind SSH. All paths are paths on that machine."""

    is_local: bool  # this process reaches its files and ports itself, without a script

    @property
    def name(self) -> str:
        """As its user would say it: "local", "me@box:2222"."""

    @property
    def link(self) -> LinkStatus: ...

    async def connect(self) -> None:
        """Be reachable, or raise the ConnectError that says why not. Twice is fine."""

    async def close(self) -> None:
        """Let go. Agents stay, scripts end. Twice is fine."""

    def shell(
        self,
        script: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        bulk: bool = False,
    ) -> AbstractAsyncContextManager[Process]:
        """Run POSIX sh *script* with "$@" = *args* and *env* added to the environment.

        Nothing of it stands in a command line. *bulk* opens a wide receive window.
        Connects first where needed; raises ConnectError, HostLost.
        """

    async def ask(
        self, script: str, args: Sequence[str] = (), *, data: bytes = b"", seconds: float = 30.0
    ) -> Answer:
        """Run a short script with *data* as its stdin in the warm shell: one round trip.

        For small answers (at most 1 MiB). Scripts of one host may run one after the other,
        so they must not wait for things. Connects first where needed, and raises ConnectError
        if that fails; then HostLost when the link breaks meanwhile (outcome unknown; never
        repeated by us), CommandTimedOut after *seconds*, which begin with the connection.
        """

    def follow(
        self, path: str, cursor: Cursor | None, options: FollowOptions
    ) -> AbstractAsyncContextManager[Batches]:
        """Follow a file from *cursor*; outlives any number of lost links."""

    def tunnel(
        self, port: int, *, host: str = "127.0.0.1", local_port: int = 0
    ) -> AbstractAsyncContextManager[int]:
        """A port on our loopback that leads to *host*:*port* as the machine sees it."""

    async def login_environment(self) -> Mapping[str, str]:
        """The environment that its user gets at login there: taken once, bounded."""
