"""A host fetches an address by itself."""

from __future__ import annotations

import codecs
import posixpath
import re
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import anyio

from optio_agents.display import visible
from optio_agents.errors import TransferFailed
from optio_agents.hosts.scripting import quote, script

if TYPE_CHECKING:
    from optio_agents.hosts.host import Host

    from .progress import PercentCallback


_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)%")
_BAR = re.compile(r"[#=O\-\s]*")  # of curl, where the size is unknown
_ADDRESS = re.compile(r"(https?://)(?:[^\s/@]*@)?([^\s?#]*)(?:[?#]\S*)?")
_WORDS = 10  # last lines of the program that an error quotes
_LINE = 2000  # characters of a line that are kept
_CLEANUP = 10.0  # seconds


class DownloadFailed(TransferFailed):
    """The host could not fetch an address; the target is untouched."""

    def __init__(self, url: str, exit_code: int | None, stderr: str) -> None:
        super().__init__(url, exit_code, stderr)  # what pickle and copy rebuild from
        self.url, self.exit_code, self.stderr = url, exit_code, stderr

    def __str__(self) -> str:
        ended = "did not end" if self.exit_code is None else f"exited with {self.exit_code}"
        words = visible(self.stderr.strip().replace("\n", " | "), limit=_LINE)
        return f"downloading {self.url} {ended}: {words or 'nothing on stderr'}"


@dataclass
class ChildTask:
    """What `run_child_task` runs: the shape of optio's own task."""

    execute: Callable[[Any], Awaitable[None]]
    process_id: str
    name: str
    description: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


async def download(
    host: Host,
    url: str,
    target: str,
    *,
    report: PercentCallback,
    parent: str,
    run_child_task: Callable[[Any], Awaitable[Any]] | None = None,
    description: str | None = None,
    cleanup_on_fail: bool = True,
) -> None:
    """See `HookContext.download_file`; *target* is absolute.

    With *run_child_task* it runs as a child of the process *parent*, and reports as that.
    """
    name = posixpath.basename(target)
    shown = shown_url(url)

    async def fetch(report: PercentCallback) -> None:
        report(None, visible(f"Downloading {name}"))
        fetching = _Fetching(report, shown)
        await fetching.run(host, url, target, "clean" if cleanup_on_fail else "keep")

    async def execute(context: Any) -> None:
        await fetch(context.report_progress)

    if run_child_task is None:
        await fetch(report)
        return
    process_id = f"{parent}-download-{secrets.token_hex(4)}"
    try:
        await run_child_task(_task(execute, process_id, f"download {name}", description))
    except Exception as error:
        if isinstance(error.__cause__, DownloadFailed):
            raise error.__cause__ from error
        raise


def shown_url(url: str) -> str:
    """*url* without user and query. Raises ValueError unless it is http or https."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise ValueError("only http and https addresses can be downloaded")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _task(
    execute: Callable[[Any], Awaitable[None]],
    process_id: str,
    name: str,
    description: str | None,
) -> Any:
    try:
        from optio_core.models import TaskInstance  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return ChildTask(execute, process_id, name, description)
    return TaskInstance(execute, process_id, name, description)


class _Fetching:
    """One run of download.sh: its percents to whoever shows them, its last words for an error."""

    def __init__(self, report: PercentCallback, shown: str) -> None:
        self._report, self._shown = report, shown
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._percent = -1
        self._exit_code: int | None = None
        self._words: deque[str] = deque(maxlen=_WORDS)

    async def run(self, host: Host, url: str, target: str, on_fail: str) -> None:
        given = f"url={quote(url)} target={quote(target)} on_fail={on_fail}"
        handle = await host.launch_subprocess(f"{given}\n{script('hosts/files/download')}")
        ended = False
        try:
            async for data in handle.stdout:
                self._feed(self._decoder.decode(data))
            self._feed("\n")
            ended = self._exit_code is not None
        finally:
            if not ended:
                with anyio.move_on_after(_CLEANUP, shield=True):
                    await host.terminate_subprocess(handle, aggressive=False)
        if self._exit_code != 0:
            raise DownloadFailed(self._shown, self._exit_code, "\n".join(self._words))

    def _feed(self, text: str) -> None:
        # A progress bar redraws its line with \r.
        *lines, rest = re.split(r"[\r\n]+", self._rest + text)
        self._rest = rest[-_LINE:]
        for line in lines:
            self._read(line)

    def _read(self, line: str) -> None:
        if line.startswith("exit ") and line[5:].isdigit():
            self._exit_code = int(line[5:])
        elif percents := _PERCENT.findall(line):
            self._show(min(float(percents[-1]), 100.0))
        elif not _BAR.fullmatch(line):
            self._words.append(_ADDRESS.sub(r"\1\2", line))  # a query may be a secret

    def _show(self, percent: float) -> None:
        if int(percent) != self._percent:
            self._percent = int(percent)
            self._report(percent, None)
