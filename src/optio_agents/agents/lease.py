"""Who dispatches for a session: one at a time, by a lease on the agent's own host.

The owner renews it every 20 s (a heartbeat); after 60 s of silence, or by force, another may
claim the next epoch: a file of that name comes to be. Whoever had the lease learns of it in three
ways. That file is followed, so the host pushes the news within milliseconds. All that an owner
says to its agent is fenced: scripts refuse it once that file is there. And nothing is handed over
to anybody before `Lease.hold` has returned, which looks for the file where it is at hand, and
where the last renewal is too long ago waits for another: a link that is down brings no news.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio

from optio_agents.concurrency import task_group, uptime
from optio_agents.errors import AgentError, AlreadyOwned, NameTaken, OptioAgentsError
from optio_agents.framing.batches import FollowOptions
from optio_agents.hosts.retrying import over_a_cut, retrying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .directory import Directory


_RENEWED = 20.0  # seconds between two touches; 60 s of silence end a lease
_TRUSTED = 40.0  # seconds behind a renewal in which nobody can have claimed it but by force
_LONGEST = 200  # characters of an owner's name
_RELEASING = 5.0  # seconds that giving it back may take


class Lease:
    """The right to dispatch. `lost` is set once somebody else has taken it."""

    def __init__(self, epoch: int, directory: Directory, session: str) -> None:
        self.epoch, self.lost = epoch, anyio.Event()
        self.successor = f"owner/{epoch + 1:010d}"  # comes to be when another claims the lease
        self._directory, self._session = directory, session
        self._confirmed = uptime()

    async def hold(self) -> None:
        """Return if we may dispatch now; never, once another does: cancel it then.

        Waits for the host, however long, when the last renewal is older than 40 s.
        """
        if self._directory.machine.is_local and self._is_taken_here():
            self.lost.set()
        elif uptime() - self._confirmed > _TRUSTED:
            await self._renew()
        if self.lost.is_set():
            await anyio.sleep_forever()

    def _is_taken_here(self) -> bool:
        return os.path.lexists(f"{self._directory.path}/{self.successor}")

    async def confirm(self) -> None:
        """Still be the owner, and let others see it.

        Raises AlreadyOwned when a later epoch is claimed, HostLost, ConnectError.
        """
        before = uptime()
        try:
            await _ask(self._directory, self._session, "touch", f"{self.epoch:010d}")
        except AlreadyOwned:
            self.lost.set()
            raise
        self._confirmed = before

    async def release(self) -> None:
        await _ask(self._directory, self._session, "release", f"{self.epoch:010d}")

    async def keep(self) -> None:
        """Renew until it is lost, as soon as a host that was away is back."""
        while not self.lost.is_set():
            await anyio.sleep(_RENEWED)
            await self._renew()

    async def watch(self) -> None:
        """Have the host say at once that another has claimed it."""
        path = f"{self._directory.path}/{self.successor}"
        with suppress(OptioAgentsError):  # a renewal finds out, too
            async with self._directory.machine.follow(path, None, FollowOptions()) as batches:
                async for _ in batches:
                    self.lost.set()
                    return

    async def _renew(self) -> None:
        with suppress(OptioAgentsError):  # what is wrong there is not for us to tell
            await retrying(self._directory.machine, self.confirm)


@asynccontextmanager
async def lease(
    directory: Directory, session: str, owner: str, journal: str, *, take_over: bool
) -> AsyncIterator[Lease]:
    """See `Agent.own`."""
    verb = "take" if take_over else "claim"
    who = json.dumps(owner), journal.encode().hex() or secrets.token_hex(8)
    # the same journal may claim it again: of a claim whose answer was lost, it has the next epoch
    epoch = await over_a_cut(lambda: _ask(directory, session, verb, "-", *who))
    if not re.fullmatch(rb"[0-9]{10}\n?", epoch):
        raise AgentError(f"{directory.path}: the lease has no number")
    lease = Lease(int(epoch), directory, session)
    async with task_group() as tasks:
        tasks.start_soon(lease.keep)
        tasks.start_soon(lease.watch)
        try:
            yield lease
        finally:
            tasks.cancel_scope.cancel()
            # another has it else, or gets it after a minute of our silence
            with anyio.move_on_after(_RELEASING, shield=True), suppress(OptioAgentsError):
                await lease.release()


async def _ask(
    directory: Directory, session: str, verb: str, epoch: str, owner: str = "-", journal: str = "-"
) -> bytes:
    try:
        nonce = secrets.token_hex(8)
        return await directory.run_once("owner", session, verb, epoch, owner, journal, nonce)
    except NameTaken as error:
        name = _name_in(str(error))
        raise AlreadyOwned(f"{name} supervises this session", owner=name) from None


def _name_in(written: str) -> str:
    """Who the owner says to be, in a file that the agent can write as well."""
    try:
        name = json.loads(written)
    except (ValueError, RecursionError):
        name = None
    return name[:_LONGEST] if name and isinstance(name, str) else "somebody"
