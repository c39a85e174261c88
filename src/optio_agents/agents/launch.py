"""Start an agent: what it is told stands in no command line, and in no file once it runs."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from optio_agents.errors import AgentError, CommandTimedOut
from optio_agents.hosts.environment import check_names, inheritable
from optio_agents.hosts.machine import ProcessId
from optio_agents.hosts.retrying import over_a_cut
from optio_agents.hosts.scripting import new_mark, os_bytes, quote, refusal, script

from .directory import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optio_agents.hosts.environment import EnvBase
    from optio_agents.hosts.host import Host
    from optio_agents.hosts.machine import Answer, Machine

    from .directory import Directory


_PATH = 4096  # bytes
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_TAG = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,149}")


def is_tag(text: object) -> bool:
    """Whether *text* can name a start: it is looked for in the environment of processes."""
    return isinstance(text, str) and _TAG.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class StartPlan:
    """What is to be started. `session` is unique to this start, so that repeating it is safe."""

    session: str
    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    meta: Mapping[str, object]
    journal_limit: int | None
    login: bool = False  # its PATH is that of a login shell there

    def launch_text(self, *, path: str | None = None, otherwise: str = "") -> str:
        """Shell text that becomes the agent's surroundings and arguments.

        With *path* for its PATH; what to do *otherwise* is for when there is no such program.
        """
        env = self.env if path is None else {**self.env, "PATH": path}
        return "".join(
            [
                "unset PATH\n",
                *(f"export {name}={quote(value)}\n" for name, value in env.items()),
                f"cd {quote(self.cwd)} || exit 126\n",
                "unset OLDPWD SHLVL _\n",
                " ".join(["set --", *map(quote, self.argv)]),
                "\n",
                otherwise,
            ]
        )


@dataclass(frozen=True, slots=True)
class Start:
    """One start of an agent, as somebody remembers it: its tag, and which process it became."""

    session: str
    process: ProcessId | None = None


async def plan_start(
    host: Host,
    argv: Sequence[str],
    cwd: str | None,
    env: Mapping[str, str],
    env_base: EnvBase,
    *,
    name: str | None,
    limit: int | None,
    meta: Mapping[str, object],
) -> StartPlan:
    """Decide everything about a start before anything happens on the host. Raises ValueError."""
    if isinstance(argv, str) or not argv:
        raise ValueError("argv is a list of at least one argument")
    if name is not None and not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be part of a session's tag")
    check_names(env)
    session = f"{name or 'agent'}.{secrets.token_hex(6)}"
    where = await host.path(cwd or host.workdir)
    logdir = host.logdir if cwd is None else where
    ours = {
        "OPTIO_SESSION": session,
        "OPTIO_LOG": f"{logdir}/optio.log",
        "OPTIO_DELIVERABLES": f"{logdir}/deliverables",
    }
    base = inheritable(await host.machine.login_environment()) if env_base == "login" else {}
    known = {
        "v": 1,
        "session": session,
        "argv": list(argv),
        "cwd": where,
        "log": ours["OPTIO_LOG"],
        "deliverables": ours["OPTIO_DELIVERABLES"],
        "meta": dict(meta),
    }
    whole = {**base, **env, **ours}
    # Shims may stand in front of it.
    login = bool(base) and whole.get("PATH", "").endswith(base.get("PATH", ""))
    return StartPlan(session, tuple(argv), where, whole, known, limit, login)


def read_meta(text: bytes) -> Mapping[str, Any]:
    """What a session directory says of its start, as `plan_start` wrote it. Raises AgentError.

    The agent can write there, too, so this is where it is looked at: what comes out has the types
    that it should have, and the tag and the paths can be used as such.
    """
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        raise AgentError("the session's meta cannot be read")
    if not is_tag(meta.get("session")):
        raise AgentError("the session's meta names no session")
    for name in "cwd", "log", "deliverables":
        if not _is_path(meta.get(name)):
            raise AgentError(f"the session's meta has no path for {name}")
    if not isinstance(meta.get("meta"), dict):
        raise AgentError("the session's meta says nothing of its supervisor")
    return meta


def _is_path(value: object) -> bool:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        return False
    try:
        return len(os_bytes(value)) <= _PATH
    except UnicodeEncodeError:
        return False


async def prepare(directory: Directory, plan: StartPlan) -> None:
    """Make the session directory. Raises WorkDirRefused when it is another's."""
    texts = [json.dumps(plan.meta), script("agents/launcher")]
    if plan.journal_limit is not None:
        texts += [str(plan.journal_limit), script("hosts/stop")]
    args = plan.session, plan.cwd, *texts
    if directory.machine.is_local:
        here = Path(directory.path)
        if await anyio.to_thread.run_sync(_prepare_here, here, plan.cwd, plan.session, texts):
            return
    await over_a_cut(lambda: directory.run_once("state prepare", *args))


def _prepare_here(directory: Path, cwd: str, tag: str, texts: Sequence[str]) -> bool:
    """What prepare.sh does where nothing is there yet, without a process.

    False for whatever is out of line: the script is then asked, which goes on from anywhere.
    """
    try:
        task = directory.parent.lstat()
        ours = S_ISDIR(task.st_mode) and task.st_uid == os.geteuid() and not task.st_mode & 0o022
        if not (ours and Path(cwd).is_dir() and Path("/proc/self/stat").exists()):
            return False
        if not all(map(shutil.which, ("setsid", "env", "mkfifo"))):
            return False
        directory.mkdir(0o700)  # from here on nobody else has put anything there, but a start
        _write(directory / f".tag.{tag}", f"{tag}\n")
        os.link(directory / f".tag.{tag}", directory / "tag")  # one of them wins
        (directory / f".tag.{tag}").unlink()
        for name in "in", "said", "answers", "owner":
            (directory / name).mkdir(0o700)
        os.mkfifo(directory / "bell", 0o600)
        meta, run, *limit = texts
        for name in "stdout", "stderr":
            _write(directory / name, "")
        for name, text in zip(("run", "limit", "stop"), (run, *limit), strict=False):
            _write(directory / name, f"{text}\n")
        _write(directory / "meta.new", f"{meta}\n")
        (directory / "meta.new").rename(directory / "meta")
    except OSError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    with FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        if file.write(os_bytes(text)) != len(os_bytes(text)):
            raise OSError("the disk is full")


async def launch(directory: Directory, plan: StartPlan) -> ProcessId | None:
    """Start the agent, once however often this is repeated; its identity, if it is told.

    A program that no login shell finds is looked for on the PATH of a terminal, too: what people
    install for themselves often stands in what only an interactive shell reads.
    """
    answer = await _launch(directory, plan, plan.launch_text())
    if answer.stdout == b"absent\n":
        path, words = None, "not found"
        if plan.login and "/" not in plan.argv[0]:
            path = await widened(directory.machine, plan.env.get("PATH", ""))
            words = f"not found, {SEARCHED}"
        said = quote(f"{plan.argv[0]}: {words}")
        missing = f"command -v \"$1\" >/dev/null || {{ printf '%s\\n' {said} >&2; exit 127; }}\n"
        answer = await _launch(directory, plan, plan.launch_text(path=path, otherwise=missing))
    match answer.stdout.split():
        case [pid, start, boot]:
            return ProcessId(int(pid), int(start), boot.decode())
        case [b"taken"]:
            return None
    why = refusal(answer, directory.path, "launch") if answer.exit_code else "it said no name"
    raise AgentError(f"{directory.machine.name}: the agent could not be started: {why}")


async def _launch(directory: Directory, plan: StartPlan, text: str) -> Answer:
    args = [directory.path, plan.session, text]
    return await directory.machine.ask(text_of("launch"), args)


SEARCHED = "neither on the PATH of a login shell nor on that of a terminal"
_PATIENCE = 10.0  # seconds that an interactive shell may take to begin


async def finds(host: Host, program: str, env: Mapping[str, str]) -> bool:
    """Whether a start of *program* with the login environment and *env* would find it."""
    path = {**await host.machine.login_environment(), **env}.get("PATH", "")
    find = 'PATH=$1; command -v "$2"'
    if (await host.ask(find, path, program)).exit_code:
        path = await widened(host.machine, path)
        return not (await host.ask(find, path, program)).exit_code
    return True


async def widened(machine: Machine, path: str) -> str:
    """*path*, and behind it what a terminal of the same user on *machine* has on its own."""
    mark, terminals = new_mark(), [os.environ.get("PATH", "")] if machine.is_local else []
    with suppress(CommandTimedOut):
        answer = await machine.ask(script("agents/terminal"), [mark], seconds=_PATIENCE)
        _, _, rest = answer.stdout.decode("utf-8", "surrogateescape").partition(f"<{mark}>")
        terminals.append(rest.partition(f"</{mark}>")[0].strip("\n"))
    directories = [one for whole in (path, *terminals) for one in whole.split(":") if one]
    return ":".join(dict.fromkeys(directories))
