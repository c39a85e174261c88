"""The connections to one host under one identity, and the count of their channels.

*Whose it is.* All of one event loop who log in alike share one `Pool`: `join` and `leave` count,
and whoever leaves last closes it. A jump host is a pool as well, joined by the one that goes
through it. The pool owns no task: it lives on asyncssh's callbacks and the loop's timers, so no
user's cancellation can take it from the others.

*Who opens.* Whoever needs a connection and finds none opens it, under a lock; those who come
meanwhile wait for that attempt, and a failure of it is theirs, too. Attempts are paced by
`Attempts` for all together: back-off with jitter, close together in the first seconds of an
outage, 5 s apart later, 60 s after a refused login (a server may lock us out), at once when a
person says so. This is the only place that paces attempts at a host; what lies above waits for the
link (`hosts.retrying`).

*How many.* sshd allows ten sessions a connection and counts one until it has seen it close, so a
channel counts from when it is asked for until then, and the tenth goes over another connection. A
server that refuses earlier teaches a lower limit; a spare connection is closed when it was idle.

*When it is dead.* Keepalive finds a dead link (three questions, 5 s apart). After a sleep of this
computer all links are asked at once, with a second's patience (`Waking`). A changed host key is
final.

*What an end means.* A link that breaks ends every channel with HostLost: the outcome of what ran
is unknown, and nothing is repeated here. A connection that we tear down ourselves says "torn",
since asyncssh tells its channels of no error then.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from contextvars import ContextVar
from operator import sub
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import anyio
import asyncssh

from optio_agents.concurrency import name_library
from optio_agents.display import visible
from optio_agents.errors import ConnectError, HostError, HostKeyRefused, HostLost, LoginRefused

from .errors import ClosedEarly
from .login import log_in
from .process import SshConnection
from .route import jump_config, route

if TYPE_CHECKING:
    from collections.abc import Callable

    from optio_agents.hosts.machine import LinkState, LinkStatus

    from .config import SSHConfig
    from .process import SshProcess
    from .route import Route


# Notice that this computer slept: its clocks ran on while the monotonic one stood still.


SLEPT = 5.0  # seconds that a clock must have run ahead
_EVERY = 2.0  # seconds between looks


class Waking:
    """Calls *woke* on the loop, soon after every sleep, until it is stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, woke: Callable[[], None]) -> None:
        self._loop, self._woke, self._seen = loop, woke, _lead()
        self._timer = loop.call_later(_EVERY, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(_EVERY, self._look)
        seen, self._seen = self._seen, _lead()
        if max(map(sub, self._seen, seen)) >= SLEPT:
            self._woke()


def _lead() -> tuple[float, ...]:
    """By how much the clocks that go on in sleep are ahead of the monotonic one."""
    here = time.monotonic()
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    running = () if boot is None else (time.clock_gettime(boot) - here,)
    return (time.time() - here, *running)


# When to try again to reach a host.


_FIRST, _LONGEST = 0.1, 5.0  # seconds between attempts
_EARLY, _EARLY_LONGEST = 12.0, 1.0  # in the first seconds of an outage they stay close together
_LOGIN = 60.0  # seconds between attempts that the server refuses: it may lock us out


class Attempts:
    """Paces the attempts at one host; the pauses after a failure grow, with jitter."""

    def __init__(self) -> None:
        self.failures = 0  # ever
        self.error: ConnectError | None = None  # of the last attempt, if that failed
        self._in_a_row = 0
        self._down_since = 0.0
        self._until = 0.0
        self._retry = anyio.Event()

    def failed(self, error: ConnectError) -> None:
        now = time.monotonic()
        if not self._in_a_row:
            self._down_since = now
        longest = _EARLY_LONGEST if now - self._down_since < _EARLY else _LONGEST
        pause = min(longest, _FIRST * 2.0 ** min(self._in_a_row, 10)) * random.uniform(0.5, 1)
        self._until = now + (_LOGIN if isinstance(error, LoginRefused) else pause)
        self._in_a_row += 1
        self.failures += 1
        self.error = error

    def succeeded(self) -> None:
        self._in_a_row, self._until, self.error = 0, 0.0, None

    def retry_now(self) -> None:
        self._until = 0.0
        self._retry.set()
        self._retry = anyio.Event()

    @property
    def pause(self) -> float:
        """Seconds until the next attempt."""
        return max(0.0, self._until - time.monotonic())

    async def turn(self) -> None:
        """Wait until the pause is over, or somebody says that it is."""
        if pause := self.pause:
            with anyio.move_on_after(pause):
                await self._retry.wait()


_SPARE = 10.0  # seconds that an idle connection beyond the first stays
_REDIAL = 3.5  # seconds for TCP to a host that was there before: its second SYN has had time
_CLOSING = 2.0  # seconds for a connection to say goodbye
_DROPPED = 3  # more attempts where the server hangs up before the login: MaxStartups is full
_PROBE = 1.0  # seconds between the questions after a sleep; two without an answer are enough
_OPEN_FAILED = 2  # what sshd says beyond MaxSessions

_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[SSHConfig, Pool]] = WeakKeyDictionary()
_on_the_way: ContextVar[tuple[SSHConfig, ...]] = ContextVar("on_the_way", default=())


def join(config: SSHConfig) -> Pool:
    """The pool of this loop for *config*: a host to work on, or to go through. `leave` it."""
    here = _pools.setdefault(asyncio.get_running_loop(), {})
    pool = here.get(config) or here.setdefault(config, Pool(config))
    pool.users += 1
    return pool


class Pool:
    """Opens connections as channels are needed, and tells the links how they are."""

    def __init__(self, config: SSHConfig) -> None:
        self.config, self.name = config, config.name
        self.state: LinkState = "new"
        self.reason = ""
        self.users = 0
        self.links: list[LinkStatus] = []
        self.attempts = Attempts()
        self._connections: list[SshConnection] = []
        self._opening = anyio.Lock()
        self._jump: Pool | None = None
        self._waking: Waking | None = None
        self._checking: asyncio.TimerHandle | None = None
        self._was_up = self._closed = False

    async def connection(self, *, patient: bool = False, roomy: bool = False) -> SshConnection:
        """A live connection, *roomy* if it takes one more channel, opened where there is none.

        The *patient* wait for their turn while the login is refused; others are told at once.
        Raises ConnectError.
        """
        if found := self._find(roomy=roomy):
            return found
        if self._closed:
            raise HostError(f"{self.name} was let go of")
        if not patient and self.state in {"waiting for your login", "refused"}:
            self._raise_last()
        failures = self.attempts.failures
        async with self._opening:
            if found := self._find(roomy=roomy):
                return found
            if self.attempts.failures != failures and self.attempts.error:
                self._raise_last()  # the attempt that we waited for was ours, too
            return await self._open()

    async def run(self, command: str, mark: str, *, window: int) -> SshProcess:
        """Start *command*, which will say *mark*, on a channel of its own.

        Raises ConnectError, HostLost, HostError.
        """
        while True:
            connection = await self.connection(roomy=True)
            try:
                return await connection.open_channel(self.name, command, mark, window=window)
            except asyncssh.ChannelOpenError as error:
                if connection.ssh.is_closed():
                    raise HostLost(f"the link to {self.name} broke") from error
                if error.code != _OPEN_FAILED or not connection.taken:
                    said = visible(error.reason)
                    raise HostError(f"{self.name} opens no session: {said}") from error
                connection.limit = connection.taken  # a lower MaxSessions than most
            except TimeoutError:
                raise HostLost(f"{self.name} opened no channel in time") from None
            except (asyncssh.Error, OSError) as error:  # the link broke between two of its steps
                said = visible(str(error))
                raise HostLost(f"the link to {self.name} broke: {said}") from error

    def retry_now(self) -> None:
        """Whoever waits for its turn has it."""
        self.attempts.retry_now()
        if self._jump:
            self._jump.retry_now()

    def check(self) -> None:
        """Ask all servers at once whether they are there: a dead link is found in two seconds."""
        for connection in self._connections:
            connection.ssh.set_keepalive(_PROBE, 1)
        if self._checking:
            self._checking.cancel()
        self._checking = asyncio.get_running_loop().call_later(3 * _PROBE, self._checked)

    async def leave(self) -> None:
        """Whoever leaves last closes the connections."""
        self.users -= 1
        if self.users:
            return
        self._closed = True
        here = _pools.get(asyncio.get_running_loop(), {})
        if here.get(self.config) is self:
            del here[self.config]
        going = list(self._connections)
        for connection in going:
            self._tear(connection)
        for connection in going:
            with anyio.move_on_after(_CLOSING):
                await connection.ssh.wait_closed()
        if self._jump:
            await self._jump.leave()

    def _find(self, *, roomy: bool) -> SshConnection | None:
        for connection in self._connections:
            if not roomy or connection.free:
                return connection
        return None

    def _raise_last(self) -> None:
        assert self.attempts.error
        raise self.attempts.error.with_traceback(None)

    # Opening

    async def _open(self) -> SshConnection:
        for patience in range(_DROPPED, -1, -1):
            await self.attempts.turn()
            try:
                connection = await self._connect()
                break
            except ConnectError as error:
                self.attempts.failed(error)
                if patience and isinstance(error, ClosedEarly):
                    continue
                if not self._connections:  # else one more was wanted, and the link is up
                    self._become(_state_after(error), str(error))
                raise
        self.attempts.succeeded()
        self._connections.append(connection)
        self._was_up = True
        if not self._waking:
            self._waking = Waking(asyncio.get_running_loop(), self.check)
        self._become("up")
        return connection

    async def _connect(self) -> SshConnection:
        name_library()  # the connection outlives the task that opens it
        way = await route(self.config)
        self.name = way.name
        ended: list[Exception | None] = []
        made: list[SshConnection] = []

        def lost(error: Exception | None) -> None:
            ended.append(error)
            if made:
                self._lost(made[0], error)

        ssh = await log_in(
            self.config,
            way,
            tunnel=await self._tunnel(way),
            lost=lost,
            dial_timeout=min(_REDIAL, self.config.connect_timeout)
            if self._was_up
            else self.config.connect_timeout,
        )
        if self._closed:
            ssh.abort()
            raise HostError(f"{self.name} was let go of")
        if ended:
            raise ClosedEarly(f"{self.name}: the connection was closed at once")
        made.append(SshConnection(ssh, self._emptied))
        return made[0]

    async def _tunnel(self, way: Route) -> asyncssh.SSHClientConnection | None:
        jump = jump_config(self.config, way)
        if jump is None:
            return None
        if self._closed:
            raise HostError(f"{self.name} was let go of")
        passed = (*_on_the_way.get(), self.config)
        if jump in passed:
            raise ConnectError(f"the jump hosts of {self.name} lead back to {jump.name}")
        if self._jump is None or self._jump.config != jump:
            before, self._jump = self._jump, join(jump)
            if before:
                await before.leave()
        token = _on_the_way.set(passed)
        try:
            return (await self._jump.connection(patient=True)).ssh
        finally:
            _on_the_way.reset(token)

    # Ending

    def _lost(self, connection: SshConnection, error: Exception | None) -> None:
        with suppress(ValueError):
            self._connections.remove(connection)
        if self._connections:
            return
        if self._waking:
            self._waking.stop()
            self._waking = None
        if not connection.torn:
            self._become("down", f"the link to {self.name} broke: {visible(str(error))}")

    def _emptied(self, connection: SshConnection) -> None:
        if connection in self._connections[1:]:
            asyncio.get_running_loop().call_later(_SPARE, self._retire, connection)

    def _retire(self, connection: SshConnection) -> None:
        if not connection.taken and connection in self._connections[1:]:
            self._tear(connection)

    def _tear(self, connection: SshConnection) -> None:
        connection.torn = True
        self._connections.remove(connection)
        connection.ssh.close()

    def _checked(self) -> None:
        for connection in self._connections:
            connection.ssh.set_keepalive(self.config.keepalive, self.config.keepalive_count)

    def _become(self, state: LinkState, reason: str = "") -> None:
        self.state, self.reason = state, reason
        for link in list(self.links):
            link.become(state, reason)


def _state_after(error: ConnectError) -> LinkState:
    match error:
        case LoginRefused():
            return "waiting for your login"
        case HostKeyRefused():
            return "refused"
        case _:
            return "down"
