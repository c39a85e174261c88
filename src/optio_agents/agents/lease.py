"""Who dispatches for a session: one at a time, by a lease on the agent's own host.

The owner renews it every 20 s (a heartbeat); after 60 s of silence another may claim it. Epochs
only grow, so what carries a stale one can be refused.
"""

from __future__ import annotations

import json
import re
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from optio_agents.concurrency import task_group
from optio_agents.errors import AgentError, AlreadyOwned, HostError, NameTaken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .directory import Directory


_RENEWED = 20.0  # seconds between two touches; 60 s of silence end a lease
_LONGEST = 200  # characters of an owner's name
_RELEASING = 5.0  # seconds that giving it back may take


class Lease:
    """The right to dispatch. `lost` is set once somebody else has taken it."""

    def __init__(self, epoch: int, directory: Directory, session: str) -> None:
        self.epoch, self.lost = epoch, anyio.Event()
        self._directory, self._session = directory, session

    async def confirm(self) -> None:
        """Still be the owner, and let others see it.

        Raises AlreadyOwned when a later epoch is claimed, HostLost, ConnectError.
        """
        try:
            await self._ask("touch")
        except AlreadyOwned:
            self.lost.set()
            raise

    async def release(self) -> None:
        await self._ask("release")

    async def keep(self) -> None:
        """Renew until it is lost; a host out of reach is asked again and again."""
        while not self.lost.is_set():
            await anyio.sleep(_RENEWED)
            try:
                await self.confirm()
            except (AlreadyOwned, HostError):
                continue

    async def _ask(self, verb: str) -> None:
        await _ask(self._directory, self._session, verb, f"{self.epoch:010d}")


@asynccontextmanager
async def lease(
    directory: Directory, session: str, owner: str, journal: str, *, take_over: bool
) -> AsyncIterator[Lease]:
    """See `Agent.own`."""
    verb = "take" if take_over else "claim"
    who = json.dumps(owner), journal.encode().hex() or secrets.token_hex(8)
    epoch = await _ask(directory, session, verb, "-", *who)
    if not re.fullmatch(rb"[0-9]{10}\n?", epoch):
        raise AgentError(f"{directory.path}: the lease has no number")
    lease = Lease(int(epoch), directory, session)
    async with task_group() as tasks:
        tasks.start_soon(lease.keep)
        try:
            yield lease
        finally:
            tasks.cancel_scope.cancel()
            with anyio.move_on_after(_RELEASING, shield=True):
                await _give_back(lease)


async def _give_back(lease: Lease) -> None:
    try:
        await lease.release()
    except (AlreadyOwned, HostError):
        return  # another has it, or gets it after a minute of our silence


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
