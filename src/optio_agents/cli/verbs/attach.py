"""`optio-agents attach`: see running sessions, and own those that nobody owns."""

from __future__ import annotations

import posixpath
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import click

from optio_agents.cli import exits
from optio_agents.cli.options import (
    CommandOptions,
    SessionId,
    host_key_option,
    refuse_inside_a_session,
    split_remote,
    ssh_of,
    supervision_options,
)
from optio_agents.concurrency import task_group
from optio_agents.display import visible
from optio_agents.errors import AlreadyOwned, NoSuchSession

if TYPE_CHECKING:
    from optio_agents.cli.screen.supervised import Run, ShownSession, Terminal
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.store.records import SessionResult
    from optio_agents.supervision.events import SessionEvent


_OWN_AGAIN = 10.0  # seconds between attempts to become the owner of it


@click.command(epilog="Example:  optio-agents attach 3f2a")
@click.argument("session", required=False, metavar="[ID | USER@BOX:ID]", type=SessionId())
@host_key_option
@click.option("--take-over", is_flag=True, help="Own it although somebody else seems to.")
@click.option("--all", "everything", is_flag=True, help="All that run, as without an ID.")
@click.option("--keep", is_flag=True, help="Without an ID: stay, and own what begins later, too.")
@supervision_options
def attach(session: str | None, host_key: str, everything: bool, keep: bool, **rest: Any) -> int:
    """See the session ID to its end, and own it; without an ID, all that run.

    `user@box:ID` finds a session on its host when the journal here does not know it.
    """
    refuse_inside_a_session()
    if session and (keep or everything):
        raise click.UsageError("--keep and --all are for all sessions: leave out the ID")
    try:
        return anyio.run(_attach, session, host_key, keep, CommandOptions(**rest))
    except NoSuchSession:
        from .turns import attach_turn

        code = anyio.run(partial(attach_turn, session or "", as_lines=rest["as_lines"]))
        if code is None:
            raise
        return code


async def _attach(name: str | None, host_key: str, keep: bool, options: CommandOptions) -> int:
    from optio_agents.cli.screen.supervised import open_terminal

    where, beginning = split_remote(name) if name else (None, "")
    runs: dict[str, Run] = {}
    host = ""
    async with open_terminal(options) as terminal:
        if where:
            ssh = ssh_of(where, policy=host_key)
            session, directory = await _lost(ssh, beginning)
            runs[session] = partial(_on_host, ssh, directory)
            host = ssh.name
        elif beginning:
            known = await terminal.store.session(beginning)
            if known.over:
                raise ValueError(
                    f"session {beginning} is over: {known.outcome}; "
                    f"optio-agents show {beginning} tells more"
                )
            terminal.view.known[known.id] = known
            runs[known.id] = _own_or_watch
            host = "" if known.host == "local" else visible(known.host)
        else:
            runs = await _open(terminal)
        if runs or keep:
            return await terminal.show(runs, more=_open if keep else None, where=host)
    click.echo("no session is open; `optio-agents ls` shows those that ended", err=True)
    return exits.DONE


async def _open(terminal: Terminal) -> dict[str, Run]:
    """The sessions that are not over."""
    found = [one for one in await terminal.store.sessions() if not one.over]
    terminal.view.known.update({one.id: one for one in found})
    return {one.id: _own_or_watch for one in found}


async def _lost(ssh: SSHConfig, beginning: str) -> tuple[str, str]:
    """Id and task directory of a session that only its host knows. Raises NoSuchSession."""
    from optio_agents.agents import find_sessions
    from optio_agents.hosts.host import make_host
    from optio_agents.supervision.sessions import TASKS

    async with make_host(ssh, taskdir=TASKS) as host:
        directories = [posixpath.dirname(one.directory) for one in await find_sessions(host, TASKS)]
    named = {posixpath.basename(path): path for path in directories}
    begun = [name for name in named if name.startswith(beginning)]
    found = [beginning] if beginning in named else begun
    if len(found) != 1:
        ids = ", ".join(found or named) or "none"
        raise NoSuchSession(f"no one session {beginning!r} on {ssh.name}; there are: {ids}")
    return found[0], named[found[0]]


async def _on_host(ssh: SSHConfig, directory: str, shown: ShownSession) -> SessionResult:
    from optio_agents.hosts.host import make_host

    async with make_host(ssh, taskdir=directory) as host:
        return await shown.supervise(host, resume=directory)


async def _own_or_watch(shown: ShownSession) -> SessionResult | int:
    """Supervise it; while somebody else does, show what they write down."""
    terminal, session = shown.terminal, shown.session
    after, said = 0, ""

    def observe(event: SessionEvent) -> None:
        if (event.number or after + 1) > after:  # else it was shown while another owned it
            shown.observe(event)

    while True:
        why = await _left_to_its_team(shown)
        if why is None:
            try:
                return await shown.supervise(None, resume=session, observer=observe)
            except AlreadyOwned as owned:
                why = f"{owned}; this is what it wrote down"
        if why and why != said:
            terminal.view.say(why)
        said = why
        after, result = await _look_on(shown, after)
        if terminal.left.is_set():
            return exits.DETACHED
        known = await terminal.store.session(session)
        if known.complete and known.outcome is not None:
            return exits.outcome_code(result) if result else exits.OUTCOMES[known.outcome]


async def _left_to_its_team(shown: ShownSession) -> str | None:
    """What there is to say of a session that is a team's, and so not ours; None: it is nobody's."""
    from .turns import team_of

    team = await team_of(shown.session)
    if team is None or shown.terminal.store.owner(shown.session) is not None:
        return None if team is None else ""
    return (
        f"it works for the team {team}, which is not at work: what it asks and hands over "
        "waits for that, by: optio-agents team serve FILE.py"
    )


async def _look_on(shown: ShownSession, after: int) -> tuple[int, SessionResult | None]:
    """Show for a while what is written down behind the event *after*: the last, and the end."""
    from optio_agents.supervision import SessionEnded, find_session

    shown.looks_on = True
    store, result = shown.terminal.store, None
    async with find_session(shown.session, store=store) as shown.live, task_group() as tasks:
        tasks.start_soon(_until_left, shown, tasks.cancel_scope)
        with anyio.move_on_after(_OWN_AGAIN):
            async for event in shown.live.events(after):
                shown.observe(event)
                after = event.number or after
                if isinstance(event, SessionEnded):
                    result = event.result
                    break
        tasks.cancel_scope.cancel()
    shown.live, shown.looks_on = None, False
    return after, result


async def _until_left(shown: ShownSession, watching: anyio.CancelScope) -> None:
    await shown.terminal.left.wait()
    watching.cancel()
