"""From what the command line asks to one supervision in this terminal."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optio_agents.errors import AgentError

if TYPE_CHECKING:
    from pathlib import Path

    from optio_agents.cli.view import View
    from optio_agents.hosts.host import Host
    from optio_agents.hosts.ssh_config import SSHConfig
    from optio_agents.session.spec import AgentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line asks of one supervision."""

    spec: AgentSpec
    ssh: SSHConfig | None = None
    cwd: str | None = None
    title: str | None = None
    permission: str = "ask"
    detach: bool = False
    save: Path | None = None
    as_lines: bool = False
    notify: str | None = None
    stop_on_exit: bool = False
    stall_after: float | None = None
    lost_after: float | None = None


def view_of(as_lines: bool) -> View:
    """Live where a person watches, lines where a program does."""
    if as_lines or not (sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"):
        from optio_agents.cli.view import LinesView

        return LinesView(as_lines=as_lines)
    from optio_agents.cli.live import LiveView

    return LiveView()


async def supervise_wish(wish: Wish, **callbacks: Any) -> int:
    """Do what the command line asks; the exit code is the answer."""
    from optio_agents.cli.supervised import Manner, Supervised, supervised
    from optio_agents.hosts.host import make_host
    from optio_agents.session.supervise import new_session_id, supervise, task_directory
    from optio_agents.store import Store

    session = new_session_id()

    async def start(here: Supervised) -> Any:
        if wish.detach:
            here.detach.set()
        taskdir, workdir = task_directory(session), wish.cwd
        if wish.ssh and workdir and not workdir.startswith(("/", "~")):
            workdir = f"~/{workdir}"  # as scp has it: from the home directory there
        async with make_host(wish.ssh, taskdir=taskdir, workdir=workdir) as host:
            await _check_executable(host, wish.spec)
            return await supervise(
                host,
                wish.spec,
                store=manner.store,
                session=session,
                title=wish.title,
                on_permission_request=here.on_permission_request,
                save_deliverables_to=wish.save,
                observer=here.observe,
                stall_after=wish.stall_after,
                detach_when=here.detach,
                cancel_when=here.cancel,
                lost_after=wish.lost_after,
                **callbacks,
            )

    async with Store() as store:
        manner = Manner(
            view=view_of(wish.as_lines),
            store=store,
            stop_on_exit=wish.stop_on_exit,
            notify=wish.notify,
            permission=wish.permission,
        )
        return await supervised(manner, {session: start})


async def _check_executable(host: Host, spec: AgentSpec) -> None:
    """Raises AgentError where there is no claude."""
    from optio_agents.session.spec import Claude

    if not isinstance(spec, Claude):
        return
    path = {**await host.machine.login_environment(), **spec.env}.get("PATH", "")
    answer = await host.ask('PATH=$1; command -v "$2"', path, spec.executable)
    if answer.exit_code:
        where = "here" if host.machine.is_local else f"on {host.machine.name}"
        raise AgentError(
            f"claude is not installed {where}: npm install -g @anthropic-ai/claude-code, or see "
            "https://claude.com/claude-code"
        )
