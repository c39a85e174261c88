"""Files that the agent hands over: fetched a few at a time, answered one by one, in order."""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import anyio
import anyio.to_thread

from optio_agents.concurrency import OnDemand
from optio_agents.display import visible
from optio_agents.errors import EndSession, FileRefused, HostError, HostKeyRefused, TransferFailed
from optio_agents.hosts.files.atomic import save
from optio_agents.hosts.retrying import retrying
from optio_agents.store.records import Delivery, Entry

if TYPE_CHECKING:
    from optio_agents.context import HookContext
    from optio_agents.errors import FileRefused
    from optio_agents.hosts.host import Host

    from .messages import Channel
    from .progress import Progress
    from .shared import Common, Workplace


# What the agent is told about a file that it announced.


_LONGEST = 32_768  # characters of a revision request

_TO_MEND = {
    "missing": "there is no such file. Write it there, then announce it again.",
    "directory": "this is a directory. Pack it into one file and announce that.",
    "special": "this is not a regular file. Write a regular file and announce that.",
    "outside": "this file is not in deliverables/. Put it there, as a file of its own and not as "
    "a link, and announce it there.",
    "changed": "the file changed while it was being read. Announce it again once it is final.",
    "unreadable": "the file cannot be read. Make it readable and announce it again.",
}


def reply_to(path: str, revision: object) -> str:
    """*revision* is what a callback returned: what to change, or nothing."""
    if isinstance(revision, str) and revision:
        return f"deliverable {path}: {revision[:_LONGEST]}"
    return f"deliverable {path}: accepted."


def reply_refused(path: str, error: FileRefused, max_bytes: int) -> str:
    """What to mend where the host would not open the file."""
    if error.reason == "too-large":
        return (
            f"deliverable {path}: too large; at most {max_bytes} bytes are taken. "
            "Make it smaller or split it, and announce that."
        )
    return f"deliverable {path}: {_TO_MEND.get(error.reason, visible(str(error)))}"


def reply_not_text(path: str) -> str:
    return (
        f"deliverable {path}: not text. Only UTF-8 text files are taken here; "
        "hand it over as text and announce it again."
    )


def reply_trouble(path: str) -> str:
    return (
        f"deliverable {path}: there was trouble on our side; your file is fine. "
        "Announce it again later."
    )


def reply_crowded(path: str, bound: int) -> str:
    return (
        f"deliverable {path}: refused, {bound} announcements are still waiting. "
        "Announce it again when some of them have been answered."
    )


def reply_ended(path: str, reason: str) -> str:
    return f"deliverable {path}: the session ends here. {visible(reason)}".rstrip()


_log = logging.getLogger(__name__)

DELIVERABLE_QUEUE_BOUND = 10_000  # open announcements; the next ones are refused
_DEAF = 2 * DELIVERABLE_QUEUE_BOUND  # beyond this not even refused: the agent has run wild
_AT_ONCE = 4
_FETCHING = 600.0  # seconds that fetching may fail, over a link that is up, for what we can mend
_IN_THREAD = 1 << 20  # bytes above which decoding leaves the event loop


@dataclass(frozen=True, slots=True)
class Deliverable:
    """A file that the agent handed over, here on our side."""

    id: str  # the same when it is handed over again after a crash
    path: str  # relative to deliverables/, with slashes
    local_path: Path  # gone after the callback unless it was saved
    size: int
    sha256: str

    def read_bytes(self) -> bytes:
        return self.local_path.read_bytes()

    def text(self) -> str:
        """Raises UnicodeDecodeError where it is not UTF-8."""
        return self.read_bytes().decode()


DeliverableCallback: TypeAlias = "Callable[[HookContext, str, str], Awaitable[str | None]]"
DeliverableFileCallback: TypeAlias = "Callable[[HookContext, Deliverable], Awaitable[str | None]]"


@dataclass(frozen=True, slots=True)
class Receiver:
    """What is done with deliverables on our side."""

    on_text: DeliverableCallback | None = None
    on_file: DeliverableFileCallback | None = None
    save_to: Path | None = None
    max_bytes: int = 100 << 20
    seconds: float = 600.0  # for one callback


@dataclass(slots=True, eq=False)
class _Announced:
    entry: Entry
    announced: str
    delivery: Delivery
    settled: anyio.Event = field(default_factory=anyio.Event)
    fetching: bool = False
    troubled: bool = False  # and that was shown
    file: Deliverable | None = None
    refusal: str | None = None


class _NotText(Exception):
    """Nobody here takes a file that is not text."""


class Deliverables:
    """All announcements of one session."""

    def __init__(
        self,
        host: Host,
        hook: HookContext,
        receiver: Receiver,
        *,
        channel: Channel,
        progress: Progress,
        common: Common,
    ) -> None:
        self._host, self._hook, self._receiver = host, hook, receiver
        self._channel, self._progress, self._common = channel, progress, common
        self._worker = OnDemand(common.workers, self._work, failed=common.failed)
        self._open: deque[_Announced] = deque()
        self._rows: dict[tuple[str, int, int], Delivery] = {}
        self._spool: tempfile.TemporaryDirectory[str] | None = None
        self.workplace: Workplace | None = None

    @property
    def rows(self) -> tuple[Delivery, ...]:
        """Every announcement, as far as it has come."""
        return tuple(self._rows.values())

    @property
    def waiting(self) -> int:
        """Announcements that the agent has no reply to yet."""
        return len(self._open)

    def remember(self, rows: tuple[Delivery, ...]) -> None:
        """What an earlier supervisor did."""
        self._rows = {row.entry.key: row for row in rows}

    def announce(self, entry: Entry, path: str) -> None:
        """The agent named *path*. Fetched as the file is when its turn comes."""
        assert self.workplace is not None
        known = self._rows.get(entry.key)
        row = known or Delivery(entry, self.workplace.relative(path))
        if len(self._open) >= _DEAF:
            self._common.troubles["announcements ignored"] += 1
            self._common.done(entry)
            return
        item = _Announced(entry, path, row)
        if row.reply is None and len(self._open) >= DELIVERABLE_QUEUE_BOUND:
            item.refusal = reply_crowded(row.path, DELIVERABLE_QUEUE_BOUND)
        self._rows[entry.key] = row
        self._open.append(item)
        self._worker.wake()

    async def idle(self) -> None:
        """Return once every announcement so far has its reply."""
        await self._worker.idle()

    def close(self) -> None:
        """Remove what was fetched and not saved."""
        if self._spool is not None:
            with suppress(OSError):
                self._spool.cleanup()

    async def _work(self) -> None:
        while self._open:
            for item in islice(self._open, _AT_ONCE):
                self._start(item)
            first = self._open[0]
            await first.settled.wait()
            try:
                await self._answer(first)
            finally:
                self._drop(first)
            self._open.popleft()
            self._common.done(first.entry)

    def _start(self, item: _Announced) -> None:
        if item.fetching:
            return
        item.fetching = True
        if item.refusal is not None or item.delivery.reply is not None:
            item.settled.set()
        else:
            self._common.workers.start_soon(self._fetch, item)

    async def _fetch(self, item: _Announced) -> None:
        """Have its file, or the reason of its own for which it is refused.

        Anything else is ours to mend, and is tried again: nobody may take for handed over what
        never came. After ten minutes of that, not counting those without a link, the session
        fails, and the announcement is still open for the next supervisor.
        """
        try:
            item.file = await retrying(
                self._host.machine,
                partial(self._fetch_once, item),
                seconds=_FETCHING,
                passes=_is_ours_to_mend,
                failing=partial(self._tell, item),
            )
        except FileRefused as error:
            item.refusal = reply_refused(item.delivery.path, error, self._receiver.max_bytes)
        except Exception as error:
            ours = _is_ours_to_mend(error)
            self._common.failed(self._not_fetched(item, error) if ours else error)
            return
        item.settled.set()

    def _tell(self, item: _Announced, error: Exception) -> None:
        if item.troubled:
            return
        item.troubled = True
        _log.warning("fetching %s: %s", visible(item.announced), error, exc_info=error)
        name = visible(item.delivery.path, limit=200)
        self._progress.report(None, f"{name} cannot be fetched, trying again: {error}")

    def _not_fetched(self, item: _Announced, error: Exception) -> TransferFailed:
        failed = TransferFailed(
            f"the deliverable {visible(item.delivery.path, limit=200)} was not fetched: {error}. "
            f"It still lies on {self._host.machine.name}: mend that, then resume session "
            f"{self._common.journal.session}"
        )
        failed.__cause__ = error
        return failed

    async def _fetch_once(self, item: _Announced) -> Deliverable:
        assert self.workplace is not None
        local = self._new_file(item)
        fetched = await self._host.fetch_file(
            self.workplace.absolute(item.announced),
            local,
            max_bytes=self._receiver.max_bytes,
            root=self.workplace.deliverables,
        )
        path = self.workplace.relative(item.announced, real=fetched.real_path)
        item.delivery = replace(item.delivery, path=path, size=fetched.size, sha256=fetched.sha256)
        name = f"{self._common.journal.session}/{item.entry.name}"
        return Deliverable(name, path, local, fetched.size, fetched.sha256)

    def _new_file(self, item: _Announced) -> Path:
        if self._spool is None:
            self._spool = tempfile.TemporaryDirectory(prefix="optio-", ignore_cleanup_errors=True)
        return Path(self._spool.name, item.entry.name)

    def _drop(self, item: _Announced) -> None:
        if item.file is not None and self._spool is not None:
            Path(self._spool.name, item.entry.name).unlink(missing_ok=True)

    async def _answer(self, item: _Announced) -> None:
        reply = item.delivery.reply
        if reply is None:
            reply = item.refusal or await self._judged(item)
            item.delivery = replace(item.delivery, reply=reply)
            await self._keep(item)
        taken = await self._channel.reply(f"reply-{item.entry.name}", reply)
        item.delivery = replace(item.delivery, taken=taken)
        await self._keep(item)

    async def _keep(self, item: _Announced) -> None:
        self._rows[item.entry.key] = item.delivery
        await self._common.journal.deliver(item.delivery)

    async def _judged(self, item: _Announced) -> str:
        """The reply to a file that was fetched: saved, shown to the callbacks."""
        assert item.file is not None
        path = item.delivery.path
        try:
            item.file = await self._saved(item)
            return reply_to(path, await self._shown(item.file))
        except _NotText:
            return reply_not_text(path)
        except EndSession as end:
            self._common.failed(end)
            return reply_ended(path, end.reason)
        except Exception as error:
            self._trouble("on_deliverable", error)
            return reply_trouble(path)

    async def _saved(self, item: _Announced) -> Deliverable:
        assert item.file is not None
        if self._receiver.save_to is None:
            return item.file
        copy = partial(_copy, item.file.local_path, self._receiver.save_to, item.file.path)
        saved = await anyio.to_thread.run_sync(copy)
        item.delivery = replace(item.delivery, saved=str(saved))
        return replace(item.file, local_path=saved)

    async def _shown(self, file: Deliverable) -> str | None:
        on_text, on_file = self._receiver.on_text, self._receiver.on_file
        ask = partial(self._common.guests.call, seconds=self._receiver.seconds)
        revisions: list[str | None] = []
        if on_text is not None and (text := await self._text_for(file)) is not None:
            call = partial(on_text, self._hook, file.path, text)
            revisions.append(await ask("on_deliverable", call))
        if on_file is not None:
            show = partial(on_file, self._hook, file)
            revisions.append(await ask("on_deliverable_file", show))
        return "\n".join(filter(None, revisions)) or None

    async def _text_for(self, file: Deliverable) -> str | None:
        """Its text; None for a file that is none, if somebody else takes it as it is."""
        try:
            if file.size > _IN_THREAD:
                return await anyio.to_thread.run_sync(file.text)
            return file.text()
        except UnicodeDecodeError:
            if self._receiver.on_file is None and self._receiver.save_to is None:
                raise _NotText from None
            return None

    def _trouble(self, name: str, error: Exception) -> None:
        self._common.troubles[name] += 1
        _log.warning("%s raised: %s", name, error, exc_info=error)


def _is_ours_to_mend(error: Exception) -> bool:
    """A full disk of ours, a transfer that breaks, a host that takes its time; nothing final."""
    final = FileRefused | HostKeyRefused
    return isinstance(error, HostError | OSError) and not isinstance(error, final)


async def fetch_deliverable_text(host: Host, absolute_path: str) -> str:
    """A UTF-8 file of the host, whole. Raises UnicodeDecodeError for another."""
    return (await host.fetch_bytes_from_host(absolute_path)).decode()


def _copy(source: Path, directory: Path, path: str) -> Path:
    with source.open("rb") as data:
        return save(data, directory, path)
