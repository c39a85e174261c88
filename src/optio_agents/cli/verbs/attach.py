"""`optio-agents attach`: see running sessions, and own those that nobody owns."""

from __future__ import annotations

import functools
import posixpath
from typing import TYPE_CHECKING, Any

import anyio
import click

from optio_agents.cli import exits
from optio_agents.cli.options import (
    SessionId,
    host_key_option,
    refuse_inside_a_session,
    split_remote,
    ssh_of,
)
from optio_agents.errors import AlreadyOwned, NoSuchSession

from .run import supervision_options, view_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optio_agents.cli.screen.supervised import Manner, Start, Supervised
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.store.records import SessionResult


_POLL = 0.5  # seconds between looks at the journal of a session that somebody else owns
_OWN_AGAIN = 10.0  # seconds between attempts to become the owner of it


@click.command(epilog="Example:  optio-agents attach 3f2a")
@click.argument("session", required=False, metavar="[ID | USER@BOX:ID]", type=SessionId())
@host_key_option
@click.option("--take-over", is_flag=True, help="Own it although somebody else seems to.")
@supervision_options
def attach(
    session: str | None,
    host_key: str,
    as_lines: bool,
    notify: str | None,
    stop_on_exit: bool,
    **wishes: Any,
) -> int:
    """See the session ID to its end, and own it; without an ID, all that run.

    `user@box:ID` finds a session on its host when the journal here does not know it.
    """
    refuse_inside_a_session()

    async def attached() -> int:
        from optio_agents.cli.screen.supervised import Manner
        from optio_agents.store import Store

        async with Store() as store:
            manner = Manner(
                view=view_of(as_lines), store=store, stop_on_exit=stop_on_exit, notify=notify
            )
            wishes["save_deliverables_to"] = wishes.pop("save")
            return await _attached(manner, session, host_key, wishes)

    return anyio.run(attached)


async def _attached(
    manner: Manner, name: str | None, host_key: str, wishes: Mapping[str, Any]
) -> int:
    from optio_agents.cli.screen.supervised import supervised

    starts: dict[str, Start] = {}
    where, beginning = split_remote(name) if name else (None, "")
    if where:
        ssh = ssh_of(where, policy=host_key)
        session, directory = await _lost(ssh, beginning)
        starts[session] = functools.partial(_on_host, ssh, directory, wishes)
    else:
        for session in await _ours(manner, beginning):
            starts[session] = functools.partial(_own_or_watch, session, wishes)
    if not starts:
        click.echo("no session is open; `optio-agents ls` shows those that ended", err=True)
        return exits.DONE
    return await supervised(manner, starts)


async def _ours(manner: Manner, beginning: str) -> list[str]:
    """The session of that name in the journal, or all that are not over."""
    if beginning:
        return [(await manner.store.session(beginning)).id]
    return [one.id for one in await manner.store.sessions() if not one.over]


async def _lost(ssh: SSHConfig, beginning: str) -> tuple[str, str]:
    """Id and task directory of a session that only its host knows. Raises NoSuchSession."""
    from optio_agents.agents import find_sessions
    from optio_agents.hosts.host import make_host
    from optio_agents.supervision.supervise import TASKS

    async with make_host(ssh, taskdir=TASKS) as host:
        directories = [posixpath.dirname(one.directory) for one in await find_sessions(host, TASKS)]
    named = {posixpath.basename(path): path for path in directories}
    found = [name for name in named if name == beginning or name.startswith(beginning)]
    if len(found) != 1:
        ids = ", ".join(found or named) or "none"
        raise NoSuchSession(f"no one session {beginning!r} on {ssh.name}; there are: {ids}")
    return found[0], named[found[0]]


async def _on_host(
    ssh: SSHConfig, directory: str, wishes: Mapping[str, Any], here: Supervised
) -> SessionResult | int:
    from optio_agents.hosts.host import make_host
    from optio_agents.supervision.supervise import supervise

    async with make_host(ssh, taskdir=directory) as host:
        return await supervise(host, resume=directory, **_shared(here), **wishes)


async def _own_or_watch(
    session: str, wishes: Mapping[str, Any], here: Supervised
) -> SessionResult | int:
    """Supervise it; while somebody else does, show what they write down."""
    from optio_agents.cli.screen.onlooker import Onlooker
    from optio_agents.supervision.supervise import supervise

    onlooker = Onlooker(here.manner.store, session, here.observe)
    told = False
    while True:
        try:
            return await supervise(None, resume=session, **_shared(here), **wishes)
        except AlreadyOwned as owned:
            if not told:
                here.manner.view.say(f"{owned}; this is what it wrote down")
                told = True
        with anyio.move_on_after(_OWN_AGAIN):
            while True:
                seen = await onlooker.look()
                if seen.over and seen.outcome is not None:
                    return exits.OUTCOMES[seen.outcome]
                if here.detach.is_set() or here.cancel.is_set():
                    return exits.DETACHED
                await anyio.sleep(_POLL)
                if seen.outcome is not None:  # its owner has left it
                    break


def _shared(here: Supervised) -> dict[str, Any]:
    return {
        "store": here.manner.store,
        "on_permission_request": here.on_permission_request,
        "observer": here.observe,
        "detach_when": here.detach,
        "cancel_when": here.cancel,
    }
