"""What hooks and callbacks are given: the caller's context, and the host within reach."""

from __future__ import annotations

import hashlib
import logging
import os
import posixpath
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    TypeAlias,
    overload,
    runtime_checkable,
)

from optio_agents.hosts.commands import RunResult
from optio_agents.hosts.scripting import LEAVES, script

from .display import visible
from .errors import CommandFailed as HostCommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optio_agents.hosts.host import Host


__all__ = [
    "SYSTEM_MESSAGE_PREFIX",
    "AgentSender",
    "HookContext",
    "HookContextProtocol",
    "HostCommandError",
    "ProcessContext",
    "RunResult",
]

SYSTEM_MESSAGE_PREFIX = "System: "  # tells the harness's words from a person's
AgentSender: TypeAlias = Callable[[str], Awaitable[None]]

_log = logging.getLogger(__name__)
_CHUNK = 262_144


class ProcessContext(Protocol):
    """What a session needs of whoever started it.

    It may also offer `cancellation_flag` (an asyncio.Event), `load_blob(id)` and
    `run_child_task(task)`. Plain methods are called on the loop's own thread, and must not block:
    one that does holds up everything on that loop, and is called at half the time at most.
    """

    @property
    def process_id(self) -> str: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...

    def report_progress(self, percent: float | None, message: str | None = None) -> None:
        """Show how far it is and what it does; None where nothing is known."""

    def should_continue(self) -> bool:
        """False once the session is to be cancelled."""

    async def request_browser_open(self, url: str) -> Any:
        """Show the user an address."""

    async def need_attention(self, reason: str) -> Any:
        """Call for a person."""

    async def client_message(self, keyword: str, data: Any) -> Any:
        """Hand data to the user interface."""


@runtime_checkable
class HookContextProtocol(Protocol):
    """What a hook may rely on."""

    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...
    def report_progress(self, percent: float | None, message: str | None = None) -> None: ...
    def should_continue(self) -> bool: ...
    @overload
    async def run_on_host(
        self,
        command: str,
        *,
        check: Literal[True] = True,
        capture_stderr: bool = False,
        cwd: str | None = None,
    ) -> str: ...
    @overload
    async def run_on_host(
        self,
        command: str,
        *,
        check: Literal[False],
        capture_stderr: bool = False,
        cwd: str | None = None,
    ) -> RunResult: ...
    @overload
    async def run_on_host(
        self,
        command: str,
        *,
        check: bool,
        capture_stderr: bool = False,
        cwd: str | None = None,
    ) -> str | RunResult: ...
    async def copy_file(
        self, source: Any, target: str, *, skip_if_unchanged: bool = False
    ) -> None: ...
    async def read_from_host(self, path: str, *, silent: bool = False) -> bytes: ...
    async def read_text_from_host(self, path: str, *, silent: bool = False) -> str: ...
    async def download_file(
        self,
        url: str,
        target: str,
        *,
        description: str | None = None,
        cleanup_on_fail: bool = True,
    ) -> None: ...
    async def send_to_agent(self, message: str) -> bool: ...


class HookContext:
    """A `ProcessContext` with a host: what is not defined here falls through to the context.

    Paths are the host's: absolute, `~/…`, or relative to the work directory. A target that is
    relative may not leave it: ValueError.
    """

    browser_launch_env: dict[str, str] | None = None

    # What else the protocol names falls through, too; but since Python 3.12 `isinstance` with a
    # protocol does not ask __getattr__.
    params = property(attrgetter("_ctx.params"))
    metadata = property(attrgetter("_ctx.metadata"))
    report_progress = property(attrgetter("_ctx.report_progress"))
    should_continue = property(attrgetter("_ctx.should_continue"))

    def __init__(
        self, ctx: ProcessContext, host: Host, *, agent_sender: AgentSender | None = None
    ) -> None:
        self._ctx, self._host, self._agent_sender = ctx, host, agent_sender

    def __getattr__(self, name: str) -> Any:
        # Before __init__ has run (copy, pickle) there is nothing to fall through to.
        if name.startswith("__") or name == "_ctx":
            raise AttributeError(name)
        return getattr(self._ctx, name)

    def __repr__(self) -> str:
        return f"<HookContext of {type(self.__dict__.get('_ctx')).__name__}>"

    @overload
    async def run_on_host(
        self,
        command: str,
        *,
        check: Literal[True] = True,
        capture_stderr: bool = False,
        cwd: str | None = None,
    ) -> str: ...
    @overload
    async def run_on_host(
        self,
        command: str,
        *,
        check: Literal[False],
        capture_stderr: bool = False,
        cwd: str | None = None,
    ) -> RunResult: ...
    @overload
    async def run_on_host(
        self,
        command: str,
        *,
        check: bool,
        capture_stderr: bool = False,
        cwd: str | None = None,
    ) -> str | RunResult: ...
    async def run_on_host(
        self,
        command: str,
        *,
        check: bool = True,
        capture_stderr: bool = False,
        cwd: str | None = None,
    ) -> str | RunResult:
        """What *command* printed; with `check=False` how it ended, whatever that was.

        *capture_stderr* mixes its stderr into its stdout. It starts in the work directory.

        Raises:
            HostCommandError: it exited non-zero.
        """
        told = f"exec 2>&1\n{command}" if capture_stderr else command
        result = await self._host.run_command(told, cwd=cwd)
        if not check:
            return result
        if result.exit_code:
            raise HostCommandError(command, result.exit_code, result.stdout, result.stderr)
        return result.stdout + result.stderr if capture_stderr else result.stdout

    async def copy_file(self, source: Any, target: str, *, skip_if_unchanged: bool = False) -> None:
        """Put *source* on the host, whole or not at all.

        It is a path here, bytes, an async iterator of bytes, or anything else: then the id of a
        blob, which the context's `load_blob` opens.
        """
        where, name = await self._target(target), posixpath.basename(target)
        digest = await self._digest(source) if skip_if_unchanged else {}
        if digest is None:
            skip_if_unchanged, digest = False, {}
        self._tell(f"Verifying {name}…" if skip_if_unchanged else f"Copying {name}…")
        copied = _Copied(self._report, name, announced=not skip_if_unchanged)
        async with self._open(source) as data:
            await self._host.put_file_to_host(
                data, where, skip_if_unchanged=skip_if_unchanged, progress_cb=copied, **digest
            )
        if not copied.begun:
            self._tell(f"Already up to date: {name}")

    async def _digest(self, source: Any) -> dict[str, str] | None:
        """What a host of another make must know to skip *source*, a stream; None: it cannot."""
        from optio_agents.hosts.host import Host  # ours compares what it was given

        if isinstance(self._host, Host) or _is_whole(source):
            return {}
        if hasattr(source, "__aiter__"):
            return None  # it can be read only once
        digest = hashlib.sha256()
        async with self._open(source) as data:
            async for chunk in data:
                digest.update(chunk)
        return {"expected_sha256": digest.hexdigest()}

    @asynccontextmanager
    async def _open(self, source: Any) -> AsyncIterator[Any]:
        if isinstance(source, (bytearray, memoryview)):
            yield bytes(source)
        elif _is_whole(source) or hasattr(source, "__aiter__"):
            yield source
        else:
            async with self._ctx.load_blob(source) as reader:  # type: ignore[attr-defined]
                yield _chunks(reader)

    async def read_from_host(self, path: str, *, silent: bool = False) -> bytes:
        """All of a file on the host."""
        if not silent:
            self._tell(f"Reading {posixpath.basename(path)}…")
        report = None if silent else self._report
        return await self._host.fetch_bytes_from_host(await self._path(path), progress_cb=report)

    async def read_text_from_host(self, path: str, *, silent: bool = False) -> str:
        """All of a UTF-8 file on the host. Raises UnicodeDecodeError for another."""
        return (await self.read_from_host(path, silent=silent)).decode()

    async def download_file(
        self,
        url: str,
        target: str,
        *,
        description: str | None = None,
        cleanup_on_fail: bool = True,
    ) -> None:
        """Let the host fetch *url* (http or https) with what it has: curl, wget or python3.

        A child task where the context can run one. The target appears whole; with
        `cleanup_on_fail=False` what came of it stays.

        Raises:
            DownloadFailed: it names the address without user and query, the exit code and the
                last words of the program.
        """
        from optio_agents.hosts.files.download import download

        where = await self._target(target)
        await download(
            self._host,
            url,
            where,
            report=self._ctx.report_progress,
            parent=self._ctx.process_id,
            run_child_task=getattr(self._ctx, "run_child_task", None),
            description=description,
            cleanup_on_fail=cleanup_on_fail,
        )

    async def send_to_agent(self, message: str) -> bool:
        """Say *message* to the live agent, as best we can; whether it was taken. Never raises."""
        if self._agent_sender is None:
            self._tell("A message to the agent was not sent: no channel (it has no input channel)")
            return False
        try:
            await self._agent_sender(SYSTEM_MESSAGE_PREFIX + message)
        except Exception as error:
            _log.warning("a message to the agent was not taken", exc_info=True)
            self._tell(f"send_to_agent failed: its input channel did not take a message: {error}")
            return False
        return True

    async def _target(self, target: str) -> str:
        relative = not target.startswith(("/", "~"))
        if relative and (".." in target.split("/") or not target.strip("/.")):
            raise ValueError(f"{target!r} leaves the work directory")
        where = await self._path(target)
        if relative and "/" in target:
            await refuse_links(self._host, self._host.workdir, where)
        return where

    async def _path(self, path: str) -> str:
        if path == "~" or path.startswith("~/"):
            return posixpath.join(await self._host.resolve_host_home(), path[2:])
        return posixpath.normpath(posixpath.join(self._host.workdir, path))

    def _tell(self, message: str) -> None:
        self._report(None, visible(message))

    def _report(self, percent: float | None, message: str | None = None) -> None:
        try:
            self._ctx.report_progress(percent, message)
        except Exception:  # what is shown must not stop what is done
            _log.warning("the context's report_progress raised", exc_info=True)


_SKIPPED = "already up to date"  # what hosts of other makes report of a copy not made


def _is_whole(source: Any) -> bool:
    """It is a file here, or bytes; not a stream."""
    return isinstance(source, str | os.PathLike | bytes | bytearray | memoryview)


async def refuse_links(host: Host, top: str, target: str) -> None:
    """Raise ValueError where a directory on the way to *target* is a link that leaves *top*."""
    args = shlex.join((top, posixpath.dirname(target)))
    command = f"set -- {args}\n{script('hosts/below')}"  # it may be a host of another make
    if (await host.run_command(command, cwd="/")).exit_code == LEAVES:
        raise ValueError(f"{target!r} leaves the work directory over a link")


async def _chunks(reader: Any) -> AsyncIterator[bytes]:
    while data := await reader.read(_CHUNK):
        yield data


class _Copied:
    """Progress of a copy, which says when it turned out that there is something to copy."""

    def __init__(self, report: Callable[..., None], name: str, *, announced: bool) -> None:
        self._report, self._name, self.begun = report, name, announced

    def __call__(self, percent: float | None, message: str | None = None) -> None:
        if not self.begun and message == _SKIPPED:
            return
        if not self.begun:
            self.begun = True
            self._report(None, visible(f"Copying {self._name}…"))
        self._report(percent, message)
