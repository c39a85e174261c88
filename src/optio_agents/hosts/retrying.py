"""The one policy for trying again: the machine waits for the link, nobody above it does.

What fails is tried again with growing pauses. How long it may fail is counted only while the
link is up: an attempt during which the link was away is no attempt, and its time is no time. A
link that stalls looks like a slow host until its keepalive has found it out, so a time-out is
followed by the smallest question there is: what comes of that tells the two apart.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import anyio

from optio_agents.errors import CommandTimedOut, ConnectError, HostError, HostKeyRefused, HostLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .machine import Machine


_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds between attempts; the last one stays


def is_lost(error: Exception) -> bool:
    """The way to the host, or the host's patience, ended; not what was asked of it."""
    lost = HostLost | ConnectError | CommandTimedOut
    return isinstance(error, lost) and not isinstance(error, HostKeyRefused)


async def retrying(
    machine: Machine | None,
    attempt: Callable[[], Awaitable[_T]],
    *,
    seconds: float = float("inf"),
    passes: Callable[[Exception], bool] = is_lost,
    progress: Callable[[], object] | None = None,
    failing: Callable[[Exception], None] = lambda _: None,
) -> _T:
    """Repeat *attempt*, which must be safe to repeat, until it succeeds.

    Raises at once what does not *pass* by itself, and anything once attempts have failed for
    *seconds* in a row while the link was up and *progress* gave the same; *failing* is told of
    each of these. An absence of the host is waited for however long it lasts: cancel it to give
    up. A host that was never reached, or that was let go of, is not waited for.
    """
    failed_for = 0.0
    before: object = None
    counted = lost = 0  # attempts in a row
    while True:
        link, began = _link_of(machine), anyio.current_time()
        try:
            return await attempt()
        except Exception as error:
            if not passes(error) or (link[0] == "new" and isinstance(error, ConnectError)):
                raise
            if isinstance(error, CommandTimedOut) and machine is not None:
                with suppress(HostError):
                    await machine.ask("true")
            now = _link_of(machine)
            if now[0] == "closed":
                raise
            if progress is not None and (come := progress()) != before:
                before, failed_for, counted = come, 0.0, 0
            if now == link and now[0] == "up":
                counted, lost = counted + 1, 0
                failed_for += anyio.current_time() - began
                failing(error)
                if failed_for >= seconds:
                    raise
            else:
                lost += 1
            _log.info("%s: trying again: %s", machine.name if machine else "here", error)
        if machine is not None and machine.link.state != "up":
            await reach(machine)
        pause = _PAUSES[min(counted, len(_PAUSES) - 1)] if counted else min(1.0, 0.1 * lost)
        await anyio.sleep(pause)
        failed_for += pause if counted else 0.0


async def over_a_cut(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Repeat *attempt* over a link that turns out to be dead only now.

    Raises ConnectError where no other can be made, HostLost where they keep breaking.
    """
    for _ in range(3):
        with suppress(HostLost):
            return await attempt()
    return await attempt()


async def reach(machine: Machine) -> None:
    """Return when the link is up; the machine paces its attempts. Cancel it to give up.

    Raises HostKeyRefused, and what a machine says that was let go of.
    """
    while True:
        try:
            return await machine.connect()
        except HostKeyRefused:
            raise
        except (ConnectError, HostLost):
            if machine.link.state == "closed":
                raise
        await anyio.sleep(_PAUSES[0])


def _link_of(machine: Machine | None) -> tuple[str, float]:
    """Its state and since when: the same before and after means that nothing happened to it."""
    return (machine.link.state, machine.link.since) if machine is not None else ("up", 0.0)
