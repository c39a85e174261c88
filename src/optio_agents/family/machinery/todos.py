"""An agent's own list of what it has to do, followed for a task of a deployment."""

from __future__ import annotations

import asyncio
import logging
import posixpath
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from optio_agents.checklist import (
    TODO_TOOL_NAMES,
    TodoFieldPatch,
    TodoItem,
    TodoProgress,
    TodoReport,
    TodoUpdate,
    normalize_tool_name,
    todo_update_from_payload,
)
from optio_agents.conversation.acp.plans import extract_acp_todo

__all__ = [
    "TODO_FILENAME",
    "TODO_TOOL_NAMES",
    "TodoFieldPatch",
    "TodoItem",
    "TodoProgress",
    "TodoReport",
    "TodoTracker",
    "TodoUpdate",
    "extract_acp_todo",
    "normalize_tool_name",
    "todo_update_from_payload",
]

TODO_FILENAME = ".optio-todo.json"  # in the work directory
Extract: TypeAlias = Callable[[Any], TodoUpdate | None]

_log = logging.getLogger(__name__)


class TodoTracker:
    """Reports each change of the list to *ctx*: percent and a sentence, the same one once.

    A context that has `set_widget_todos(items)` is given the whole list, too, the latest one
    last. Nothing that *extract* or the context raises goes any further.
    """

    def __init__(self, extract: Extract, ctx: Any) -> None:
        self._extract, self._ctx = extract, ctx
        self.progress = TodoProgress()
        self._known = False  # a list was seen, so there is one to save
        self._reported: tuple[int | None, str | None] = (None, None)
        self._replaying = self._correcting = False
        self._unsubscribe: Callable[[], None] | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._stale = False  # what was published is not the list any more

    def arm(self, conversation: Any) -> None:
        """Observe what *conversation* says. Twice is once."""
        if self._unsubscribe is None:
            self._unsubscribe = conversation.on_event(self.observe)

    def disarm(self) -> None:
        """Stop observing."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def observe(self, event: Mapping[str, Any]) -> None:
        """Take in what *event* says about the list."""
        try:
            update = self._extract(event)
        except Exception:
            _log.warning("a list of tasks could not be read", exc_info=True)
            return
        if update is None:
            return
        if self._replaying and self._correcting:
            self.progress.correct(update)
        else:
            self.progress.apply(update)
        self._changed()

    def begin_replay(self, *, reconcile: bool = False) -> None:
        """What comes now was said before: nothing of it is reported until `end_replay`.

        *reconcile*: a list that was restored keeps its rows, and only their state is corrected.
        """
        self._replaying, self._correcting = True, reconcile and bool(self.progress.items)
        self._reconcile = reconcile

    def end_replay(self) -> None:
        """Report the list as it stands."""
        self._replaying = self._correcting = False
        if self._known:
            self._changed()

    async def use_rebuilt(self, progress: TodoProgress) -> None:
        """Have *progress* in the place of what was known."""
        self.progress, self._known = progress, True
        self._report(clear=True)
        await self._publish()

    async def restore(self, host: Any) -> bool:
        """Go on from the list that `save` left in the work directory, if there is one."""
        path = posixpath.join(host.workdir, TODO_FILENAME)
        try:
            text = (await host.fetch_bytes_from_host(path)).decode()
        except Exception:  # hosts of all makes; mostly there is none
            _log.debug("no list of tasks was restored", exc_info=True)
            return False
        progress = TodoProgress.from_json(text)
        if progress is None:
            _log.warning("%s is no list of tasks", path)
            return False
        self.progress, self._known = progress, True
        if self._replaying:
            self._correcting = self._reconcile and bool(progress.items)
        else:
            self._report()
        await self._publish()
        return True

    async def save(self, host: Any) -> None:
        """Keep the list in the work directory; one that was never seen is not kept."""
        if self._known:
            await host.write_text(TODO_FILENAME, self.progress.to_json())

    def _changed(self) -> None:
        self._known = True
        if self._replaying:
            return
        self._report()
        self._stale = True
        if self._publishing is not None and not self._publishing.done():
            return
        try:
            self._publishing = asyncio.get_running_loop().create_task(self._publish())
        except RuntimeError:  # nobody can be told without a loop
            return

    def _report(self, *, clear: bool = False) -> None:
        report = self.progress.report()
        now = (None, None) if report is None else (report.percent, report.message)
        nothing_counts = report is None and bool(self.progress.items)
        if (now == self._reported or nothing_counts) and not clear:
            return
        self._reported = now
        try:
            self._ctx.report_progress(*now)
        except Exception:
            _log.warning("the context's report_progress raised", exc_info=True)

    async def _publish(self) -> None:
        """Until the context has the list as it is now: what came meanwhile is published, too."""
        publish = getattr(self._ctx, "set_widget_todos", None)
        self._stale = True
        while self._stale and publish is not None:
            self._stale = False
            try:
                await publish(self.progress.widget_items())
            except Exception:
                _log.warning("the list of tasks could not be published", exc_info=True)
