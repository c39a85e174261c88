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
from optio_agents.concurrency import task_group
from optio_agents.errors import AlreadyOwned, NoSuchSession

from .run import supervision_options, view_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optio_agents.cli.screen.supervised import Manner, Start, Supervised
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.store.records import SessionResult
    from optio_agents.supervision.events import SessionEvent


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
        return await here.goes_on(supervise(host, resume=directory, **_shared(here), **wishes))


async def _own_or_watch(
    session: str, wishes: Mapping[str, Any], here: Supervised
) -> SessionResult | int:
    """Supervise it; while somebody else does, show what they write down."""
    from optio_agents.supervision import SessionEnded, find_session, supervise

    store, after, said = here.manner.store, 0, False

    def observe(event: SessionEvent) -> None:
        if (event.number or after + 1) > after:  # else it was shown while another owned it
            here.observe(event)

    while True:
        try:
            shared = {**_shared(here), "observer": observe}
            return await here.goes_on(supervise(None, resume=session, **shared, **wishes))
        except AlreadyOwned as owned:
            if not said:
                here.manner.view.say(f"{owned}; this is what it wrote down")
                said = True
        async with find_session(session, store=store) as here.live, task_group() as tasks:
            tasks.start_soon(_until_left, here, tasks.cancel_scope)
            with anyio.move_on_after(_OWN_AGAIN):
                async for event in here.live.events(after):
                    here.observe(event)
                    after = event.number or after
                    if isinstance(event, SessionEnded):
                        break
            tasks.cancel_scope.cancel()
        here.live = None
        if here.detach.is_set() or here.cancel.is_set():
            return exits.DETACHED
        known = await store.session(session)
        if known.over and known.outcome is not None:
            return exits.OUTCOMES[known.outcome]


async def _until_left(here: Supervised, watching: anyio.CancelScope) -> None:
    async with task_group() as tasks:
        for leaving in here.detach, here.cancel:
            tasks.start_soon(_then_cancel, leaving, tasks.cancel_scope)
    watching.cancel()


async def _then_cancel(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _shared(here: Supervised) -> dict[str, Any]:
    return {
        "store": here.manner.store,
        "on_permission_request": here.on_permission_request,
        "observer": here.observe,
        "detach_when": here.detach,
        "cancel_when": here.cancel,
    }
