"""`optio-agents attach`: see running sessions, and own those that nobody owns."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import anyio
import click

from optio_agents.cli import exits
from optio_agents.cli.places import host_key_option, split_remote, ssh_of
from optio_agents.cli.run import supervision_options, view_of
from optio_agents.errors import AlreadyOwned
from optio_agents.protocol.display import visible

if TYPE_CHECKING:
    from pathlib import Path

    from optio_agents.cli.supervised import Manner, Supervised
    from optio_agents.session.result import SessionResult
    from optio_agents.store import Store

_POLL = 0.5  # seconds between looks at the journal of a session that somebody else owns
_OWN_AGAIN = 20.0  # seconds between attempts to become the owner of it


@click.command(epilog="Example:  optio-agents attach 3f2a")
@click.argument("id", required=False, metavar="[ID | USER@BOX:ID]")
@host_key_option
@click.option("--take-over", is_flag=True, help="Own it although somebody else seems to.")
@supervision_options
def attach(
    id: str | None,  # noqa: A002 - the argument's name in the help
    host_key: str,
    take_over: bool,
    save: Path | None,
    as_lines: bool,
    notify: str | None,
    stop_on_exit: bool,
    **patience: float | None,
) -> int:
    """See the session ID to its end, and own it; without an ID, all that run.

    `user@box:ID` finds a session on its host when the journal here does not know it.
    """

    async def attached() -> int:
        from optio_agents.cli.supervised import Manner
        from optio_agents.store import Store

        async with Store() as store:
            manner = Manner(
                view=view_of(as_lines), store=store, stop_on_exit=stop_on_exit, notify=notify
            )
            wishes: dict[str, Any] = {k: v for k, v in patience.items() if v is not None}
            wishes |= {"save_deliverables_to": save, "take_over": take_over}
            return await _attached(manner, id, host_key, wishes)

    return anyio.run(attached)


async def _attached(manner: Manner, name: str | None, host_key: str, wishes: dict[str, Any]) -> int:
    from optio_agents.cli.supervised import supervised

    where, beginning = split_remote(name) if name else (None, "")
    if where:
        start = functools.partial(_on_host, where, host_key, beginning, wishes)
        return await supervised(manner, {beginning: start})
    if beginning:
        ids = [(await manner.store.session(beginning)).id]
    else:
        ids = [one.id for one in await manner.store.sessions() if not one.over]
    if not ids:
        click.echo("no session is open; `optio-agents ls` shows those that ended", err=True)
        return exits.DONE
    starts = {one: functools.partial(_own_or_watch, one, wishes) for one in ids}
    return await supervised(manner, starts)


async def _on_host(
    where: str, host_key: str, session: str, wishes: dict[str, Any], here: Supervised
) -> SessionResult | int:
    from optio_agents.hosts.host import make_host
    from optio_agents.session.supervise import supervise, task_directory

    taskdir = task_directory(session)
    async with make_host(ssh_of(where, policy=host_key), taskdir=taskdir) as host:
        return await supervise(host, resume=host.taskdir, **_shared(here), **wishes)


async def _own_or_watch(
    session: str, wishes: dict[str, Any], here: Supervised
) -> SessionResult | int:
    """Supervise it; while somebody else does, show what they write down."""
    from optio_agents.session.supervise import supervise

    store, after = here.manner.store, 0
    while True:
        try:
            return await supervise(None, resume=session, **_shared(here), **wishes)
        except AlreadyOwned as owned:
            if not after:
                here.manner.view.say(f"{visible(str(owned))}; this is what it wrote down")
        with anyio.move_on_after(_OWN_AGAIN):
            while True:
                # Asked before the events are read, or the last of them are not shown.
                outcome = (await store.session(session)).outcome
                after = await _show_new(store, session, after, here)
                if here.detach.is_set():
                    return exits.DETACHED
                if outcome is not None:
                    return exits.OUTCOMES[outcome]
                await anyio.sleep(_POLL)


async def _show_new(store: Store, session: str, after: int, here: Supervised) -> int:
    from optio_agents.session.observe import Recorded

    while events := await store.events(session, after=after):
        after = events[-1].number
        here.observe(Recorded(tuple(event.entry for event in events)))
    return after


def _shared(here: Supervised) -> dict[str, Any]:
    return {
        "store": here.manner.store,
        "on_permission_request": here.on_permission_request,
        "observer": here.observe,
        "detach_when": here.detach,
        "cancel_when": here.cancel,
    }
