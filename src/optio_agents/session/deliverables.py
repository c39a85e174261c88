"""Files that the agent hands over: fetched a few at a time, answered one by one, in order.

Each announcement is fetched, saved, shown to the callbacks and answered, in `_fetch`, `_ask` and
`_answer`. Its reply is recorded once it is decided, before it is said: a supervisor that comes
after us says the same again and asks nobody a second time.
"""

from __future__ import annotations

import logging
import posixpath
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from optio_agents.display import visible
from optio_agents.errors import EndSession, FileRefused, TransferFailed
from optio_agents.hosts.files.atomic import save
from optio_agents.hosts.files.odd_names import as_written, by_any_name, shown_name
from optio_agents.hosts.retrying import retrying
from optio_agents.store.records import Delivery, Entry

from .foreign_code import ForeignExit
from .messages import Answers, may_pass
from .options import Deliverable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from optio_agents.context import HookContext
    from optio_agents.hosts.files.fetch import FetchedFile
    from optio_agents.hosts.host import Host
    from optio_agents.store.records import Resumed

    from .messages import Channel
    from .progress import Progress
    from .shared import Shared


_log = logging.getLogger(__name__)

DELIVERABLE_QUEUE_BOUND = 10_000  # open announcements; the next ones are refused
_FLOOD = 2 * DELIVERABLE_QUEUE_BOUND  # beyond this not even refused: the agent has run wild
_AT_ONCE = 4
_FETCHING = 600.0  # seconds that fetching may fail, over a link that is up, for what we can mend
_IN_THREAD = 1 << 20  # bytes above which reading leaves the event loop
_LONGEST = 32_768  # characters of a revision request

_REFUSED = {  # what is wrong, as people are shown it. And what the agent is to do about it.
    "missing": "there is no such file. Write it there, then announce it again.",
    "directory": "this is a directory. Pack it into one file and announce that.",
    "special": "this is not a regular file. Write a regular file and announce that.",
    "outside": "this file is not in deliverables/. Put it there, as a file of its own and not as "
    "a link, and announce it there.",
    "linked": "this file has other names (hard links), so it may be one of another directory. Copy "
    "it, and announce the copy.",
    "changed": "the file changed while it was being read. Announce it again once it is final.",
    "unreadable": "the file cannot be read. Make it readable and announce it again.",
    "too-large": "too large; at most {} bytes are taken. Make it smaller or split it, and "
    "announce that.",
    "not-text": "not text. Only UTF-8 text files are taken here; hand it over as text and "
    "announce it again.",
    "crowded": "refused, {} announcements are still waiting. Announce it again when some of them "
    "have been answered.",
}
_OUR_TROUBLE = "there was trouble on our side; your file is fine. Announce it again later."


@dataclass(slots=True, eq=False)
class _Announced:
    entry: Entry
    announced: str
    delivery: Delivery
    settled: anyio.Event = field(default_factory=anyio.Event)  # fetched or refused
    begun: bool = False
    file: Deliverable | None = None
    refusal: str | None = None


class Deliverables(Answers[_Announced]):
    """All announcements of one run."""

    def __init__(
        self, shared: Shared, hook: HookContext, channel: Channel, progress: Progress
    ) -> None:
        super().__init__(shared, hook, channel, progress)
        self._rows: dict[tuple[str, int, int], Delivery] = {}
        self._spool: tempfile.TemporaryDirectory[str] | None = None

    @property
    def rows(self) -> tuple[Delivery, ...]:
        """Every announcement, as far as it has come."""
        return tuple(self._rows.values())

    def remember(self, resumed: Resumed) -> None:
        self._rows = {row.entry.key: row for row in resumed.deliveries}

    def announce(self, entry: Entry, path: str) -> None:
        """The agent named *path*. Fetched as the file is when its turn comes."""
        row = self._rows.get(entry.key) or Delivery(entry, self._shared.workplace.relative(path))
        if len(self._open) >= _FLOOD:
            self._shared.troubles["announcements ignored"] += 1
            self._shared.mark_done(entry)
            return
        item = _Announced(entry, path, row)
        if row.reply is None and len(self._open) >= DELIVERABLE_QUEUE_BOUND:
            item.refusal = _REFUSED["crowded"].format(DELIVERABLE_QUEUE_BOUND)
        self._rows[entry.key] = row
        self._open.append(item)
        self._worker.wake()

    def close(self) -> None:
        """Remove what was fetched and not saved."""
        if self._spool is not None:
            with suppress(OSError):
                self._spool.cleanup()

    async def _work(self) -> None:
        while self._open:
            for item in islice(self._open, _AT_ONCE):
                if item.begun:
                    continue
                item.begun = True
                if item.refusal is None and item.delivery.reply is None:
                    self._shared.workers.start_soon(self._fetch, item)
                else:
                    item.settled.set()
            first = self._open[0]
            await first.settled.wait()
            try:
                await self._answer(first)
            finally:
                if first.file is not None:
                    self._spooled(first.entry).unlink(missing_ok=True)
            self._open.popleft()
            self._shared.mark_done(first.entry)

    async def _fetch(self, item: _Announced) -> None:
        """Have its file, or the reason of its own for which it is refused.

        Anything else is ours to mend, and is tried again: nobody may take for handed over what
        never came. After ten minutes of that, not counting those without a link, the session
        fails, and the announcement is still open for the next supervisor.
        """
        shared, place = self._shared, self._shared.workplace
        attempt = partial(
            by_any_name,  # or else the one whose name reads so
            as_written(item.entry.line, item.announced),
            partial(self._fetch_as, item),
            ask=shared.host.ask,
            directory=place.logdir,
        )
        shown = False

        def show(error: Exception) -> None:
            nonlocal shown
            if not shown:
                shown = True
                words = f"{item.delivery.path} cannot be fetched, trying again: {error}"
                self._progress.report(None, words)
                _log.warning("fetching a deliverable: %s", error, exc_info=error)

        try:
            fetched = await retrying(
                shared.host.machine,
                attempt,
                seconds=_FETCHING,
                passes=may_pass,
                failing=show,
            )
        except FileRefused as error:
            words = _REFUSED.get(error.reason, visible(str(error)))
            item.refusal = words.format(shared.options.max_deliverable_bytes)
            if place.apart:
                item.refusal += f" Here deliverables/ is {visible(place.deliverables)}."
        except Exception as error:
            shared.fail(self._not_fetched(item, error) if may_pass(error) else error)
            return
        else:
            path = shown_name(place.relative(item.announced, real=fetched.real_path))
            name = f"{shared.journal.session}/{item.entry.name}"
            size, sha256 = fetched.size, fetched.sha256
            item.delivery = replace(item.delivery, path=path, size=size, sha256=sha256)
            item.file = Deliverable(name, path, self._spooled(item.entry), size, sha256)
        item.settled.set()

    async def _fetch_as(self, item: _Announced, name: str) -> FetchedFile:
        place, local = self._shared.workplace, self._spooled(item.entry)
        path, most = place.absolute(name), self._shared.options.max_deliverable_bytes
        fetched = await self._shared.host.fetch_file(
            path, local, max_bytes=most, root=place.deliverables
        )
        # What leads to the directory may have become a link since the session began.
        where = posixpath.join(place.real, "deliverables", "")
        if fetched.real_path and not fetched.real_path.startswith(where):
            local.unlink(missing_ok=True)
            raise FileRefused(path, "outside", f"leads out of {where}")
        item.announced = name
        return fetched

    def _not_fetched(self, item: _Announced, error: Exception) -> TransferFailed:
        failed = TransferFailed(
            f"the deliverable {visible(item.delivery.path, limit=200)} was not fetched: {error}. "
            f"It still lies on {self._shared.host.machine.name}: mend that, then resume session "
            f"{self._shared.journal.session}"
        )
        failed.__cause__ = error
        return failed

    async def _answer(self, item: _Announced) -> None:
        """Decide on a reply, unless an earlier supervisor did, and say it."""
        if item.delivery.reply is None:
            words = await self._ask(item) if item.refusal is None else item.refusal
            if item.refusal is not None:
                why, _, _ = item.refusal.partition(". ")
                self._progress.report(None, f"Deliverable refused: {item.delivery.path}: {why}")
            reply = f"deliverable {item.delivery.path}: {words}"
            await self._record(item, replace(item.delivery, reply=reply))
        assert item.delivery.reply is not None
        taken = await self._channel.reply(f"reply-{item.entry.name}", item.delivery.reply)
        await self._record(item, replace(item.delivery, taken=taken))

    async def _record(self, item: _Announced, delivery: Delivery) -> None:
        item.delivery = self._rows[item.entry.key] = delivery
        await self._shared.journal.deliver(delivery)

    async def _ask(self, item: _Announced) -> str:
        """Save its file and show it to the callbacks; what to tell the agent."""
        options, file = self._shared.options, item.file
        on_text, on_file = options.on_deliverable, options.on_deliverable_file
        assert file is not None
        text = None if on_text is None else await _text_of(file)
        if on_text and text is None and not (on_file or options.save_deliverables_to):
            item.refusal = _REFUSED["not-text"]
            return item.refusal
        self._progress.report(None, f"Deliverable: {file.path}")
        calls: list[tuple[str, Callable[[], Awaitable[object]]]] = []
        revisions: list[str] = []
        doing, about = "saving", f"Deliverable {file.path}"
        try:
            if options.save_deliverables_to is not None:
                to = Path(options.save_deliverables_to)
                copy = partial(_copy, file.local_path, to, file.path)
                saved = await anyio.to_thread.run_sync(copy)
                item.delivery = replace(item.delivery, saved=str(saved))
                file = replace(file, local_path=saved)
            if on_text is not None and text is not None:
                calls.append(("on_deliverable", partial(on_text, self._hook, file.path, text)))
            if on_file is not None:
                calls.append(("on_deliverable_file", partial(on_file, self._hook, file)))
            for doing, call in calls:
                if words := await self._call(about, doing, call):
                    revisions.append(words)
        except Exception as error:
            how = "could not be saved" if doing == "saving" else ""
            self._report_trouble(about, doing, error, how=how)
            if isinstance(error, EndSession | ForeignExit):
                return f"the session ends here. {visible(str(error))}".rstrip()
            return _OUR_TROUBLE
        return "\n".join(revisions)[:_LONGEST] or "accepted."

    def _spooled(self, entry: Entry) -> Path:
        """Where the file of *entry* lies on our side until it is answered."""
        if self._spool is None:
            self._spool = tempfile.TemporaryDirectory(prefix="optio-", ignore_cleanup_errors=True)
        return Path(self._spool.name, entry.name)


async def _text_of(file: Deliverable) -> str | None:
    """None where it is not UTF-8."""
    read = file.local_path.read_bytes
    data = await anyio.to_thread.run_sync(read) if file.size > _IN_THREAD else read()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


async def fetch_deliverable_text(host: Host, absolute_path: str) -> str:
    """A UTF-8 file of the host, whole. Raises UnicodeDecodeError for another."""
    return (await host.fetch_bytes_from_host(absolute_path)).decode()


def _copy(source: Path, directory: Path, path: str) -> Path:
    with source.open("rb") as data:
        return save(data, directory, path)
