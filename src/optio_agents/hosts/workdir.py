"""The task directory and the work directory in it: made, emptied and removed by scripts there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optio_agents.errors import CommandFailed, WorkDirRefused

from .bootstrap import script
from .commands import run_script

if TYPE_CHECKING:
    from .agent_launch import Start
    from .host import Host

_REFUSED = 66  # the script refused, and said why on stdout


async def setup(host: Host) -> None:
    """See `Host.setup_workdir`."""
    await _run(host, "workdir-setup")


async def clean(host: Host, *, start: Start | None = None) -> None:
    """See `Host.cleanup_taskdir`. *start* is known to have been made there, whatever lies there."""
    known = [str(start.process or ""), start.session] if start else []
    await _run(host, "workdir-clean", *known)


async def _run(host: Host, name: str, *known: str) -> None:
    args = [host.taskdir, "" if host.own_workdir else host.workdir, *known]
    answer = await run_script(host.machine, script("workdir") + script(name), args)
    if answer.exit_code == _REFUSED:
        raise WorkDirRefused(answer.stdout.decode(errors="replace").strip())
    if answer.exit_code:
        raise CommandFailed(name, answer.exit_code, stderr=answer.stderr.decode(errors="replace"))
