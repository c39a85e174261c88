"""The work directory and the log channel of a session, ready for its start."""

from __future__ import annotations

import logging
import os
import posixpath
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from optio_agents.errors import HostError, HostLost, OptioAgentsError

from .host import EMPTYING, Host
from .retrying import over_a_cut
from .scripting import REFUSED, refusal, script

if TYPE_CHECKING:
    from typing import Literal

# ruff: noqa: PTH102, PTH110, PTH123, PTH208  # paths are text in this room
_log = logging.getLogger(__name__)


async def open_channel(host: Host, how: Literal["start", "resume"], *, set_up: bool = False) -> str:
    """Have an empty log and deliverables/ in its log directory, or what stands there to *resume*.

    With *set_up*, behind `Host.setup_workdir`, and in the same trip where that is ours. Returns
    where the directory really is. Raises WorkDirRefused, FileRefused, HostError.
    """
    if set_up and getattr(type(host), "setup_workdir", None) is Host.setup_workdir:
        if host.machine.is_local and host.own_workdir:
            real = await anyio.to_thread.run_sync(set_up_here, host.taskdir)
            if real is not None:
                return real
        args = [host.taskdir, "" if host.own_workdir else host.workdir, host.logdir]
        before = script("hosts/refuse", "hosts/workdir")
        setup, channel = script("hosts/workdir-setup"), script("hosts/channel")
        text = f'{before}\n({setup}\n) || exit\nset -- "$3" {how}\n{channel}'
        # nothing can run in there yet: what a cut left half done is begun again
        answer = await over_a_cut(lambda: host.machine.ask(text, args, seconds=EMPTYING))
        if answer.exit_code == REFUSED:
            raise refusal(answer, host.taskdir, "hosts/workdir-setup")
    else:
        if set_up:
            await host.setup_workdir()
        elif how == "resume" and host.machine.is_local:
            real = await anyio.to_thread.run_sync(_resume_here, host.logdir)
            if real is not None:
                return real
        answer = await over_a_cut(lambda: host.ask("hosts/channel.sh", logdir_of(host), how))
    if answer.exit_code == REFUSED:
        raise refusal(answer, logdir_of(host), "hosts/channel")
    if answer.exit_code:
        words = answer.stderr.decode(errors="replace").strip()
        raise HostError(f"{logdir_of(host)} cannot hold the log channel: {words}")
    return answer.stdout.decode(errors="surrogateescape").removesuffix("\n.\n")


async def ready_workdir(host: Host) -> None:
    """Have a work directory of ours where there is none yet; what one holds stays."""
    if host.own_workdir and (await host.ask('[ -d "$1" ]', host.workdir)).exit_code:
        await host.setup_workdir()


def logdir_of(host: Host) -> str:
    return getattr(host, "logdir", host.workdir)  # hosts of other makes have no other


# What the scripts do where nothing is out of line, without a process.


def _resume_here(logdir: str) -> str | None:
    """Where it really is. None where that is for the script to say."""
    here = Path(logdir)
    if here.is_symlink() or here.parent.is_symlink() or not here.is_dir():
        return None
    return os.path.realpath(here)


def set_up_here(taskdir: str) -> str | None:
    """Where the work directory is now. None, with nothing done, for whatever is out of line.

    The scripts are then run, which know how to tell what is wrong.
    """
    try:
        os.mkdir(taskdir, 0o700)  # from here on nobody else can have put anything there
    except OSError:
        return None
    try:
        if not _is_in_use(f"{taskdir}/workdir/optio.log"):
            os.close(os.open(f"{taskdir}/.optio-task", os.O_CREAT | os.O_EXCL, 0o600))
            os.mkdir(f"{taskdir}/workdir")
            os.mkdir(f"{taskdir}/workdir/deliverables")
            with open(f"{taskdir}/workdir/optio.log", "x"):
                return os.path.realpath(f"{taskdir}/workdir")
    except OSError:
        pass
    shutil.rmtree(taskdir, ignore_errors=True)
    return None


def _is_in_use(log: str) -> bool:
    """Whether an agent that was started in this place lives: its directory may have been removed.

    Raises OSError where the processes cannot be listed.
    """
    if not os.path.exists("/proc/self/stat"):
        return False  # no agent of ours runs on such a host
    mark = b"OPTIO_LOG=" + os.fsencode(log)
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/environ", "rb") as environ:
            if mark in environ.read():
                return True
    return False


# A git work tree of its own, beside the task directory, for an agent that shall not disturb what
# else happens in a project.


@dataclass(frozen=True, slots=True)
class Worktree:
    """Work tree *tree* of the project in *project*, with *branch* checked out.

    *base* is the commit where we made that branch; empty if it was there before.
    """

    project: str
    tree: str
    branch: str
    base: str


async def plan_worktree(host: Host, branch: str) -> tuple[Host, Worktree]:
    """The same host, with the work directory there where *host* has it in the project.

    Nothing is made yet. Raises WorkDirRefused: there can be no such tree.
    """
    if host.own_workdir:
        raise ValueError("a work tree is one of a project: say in which directory that is")
    said = await _ask_worktree(host, "plan", host.workdir, branch)
    base, _, below = said.removesuffix("\n").partition("\n")
    tree = f"{host.taskdir}.tree"
    workdir = posixpath.join(tree, below).rstrip("/")
    worktree = Worktree(host.workdir, tree, branch, base)
    return Host(host.machine, host.taskdir, workdir=workdir), worktree


@asynccontextmanager
async def new_worktree(host: Host, worktree: Worktree) -> AsyncIterator[None]:
    """Make it; where the block fails, and nothing can run there, it is gone again."""
    await _ask_worktree(host, "add", *_words(worktree))
    try:
        yield
    except HostLost:
        raise
    except Exception:
        try:
            await end_worktree(host, worktree)
        except OptioAgentsError:
            _log.warning("%s was not removed", worktree.tree, exc_info=True)
        raise


async def end_worktree(host: Host, worktree: Worktree, *, only_check: bool = False) -> str:
    """Remove it, and the branch unless it has commits of its own: then this is its name.

    Raises WorkDirRefused, and removes nothing, where something in it is committed nowhere.
    """
    return await _ask_worktree(host, "check" if only_check else "remove", *_words(worktree))


def _words(worktree: Worktree) -> tuple[str, ...]:
    return worktree.project, worktree.tree, worktree.branch, worktree.base


async def _ask_worktree(host: Host, *args: str) -> str:
    text = script("hosts/refuse", "hosts/git", "hosts/worktree")
    answer = await host.machine.ask(text, args, seconds=EMPTYING)
    if answer.exit_code:
        raise refusal(answer, host.workdir, "hosts/worktree")
    return answer.stdout.decode(errors="surrogateescape")
