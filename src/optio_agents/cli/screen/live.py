"""The live view: a line per session below, what they say scrolling above, questions in between.

Of several sessions it is an overview: what scrolls is what a person should know of any of them, and
all that one of them says once it was opened.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from optio_agents.conversation.contract import gist
from optio_agents.display import visible, visible_block
from optio_agents.protocol.events import StatusEvent
from optio_agents.protocol.strict_json import finite
from optio_agents.supervision import events

from .asking import Asking
from .keys import can_be_read, keys, operator_name
from .records import ForPerson, records_of, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import RenderableType

    from optio_agents.conversation import PermissionDecision, PermissionRequest
    from optio_agents.store import StoredSession

    from .records import Ask, Record


_TICK = 0.5  # seconds between redraws while nothing happens
_SOON = 0.05  # seconds that observations are gathered for one redraw
_STYLES = {
    "status": "",
    "deliverable": "cyan",
    "delivery": "cyan",
    "done": "bold green",
    "error": "bold red",
    "attention": "bold yellow",
    "permission": "yellow",
    "question": "yellow",
    "decision": "yellow",
    "link": "magenta",
    "answer": "green",
    "turn": "bold red",
}
_INDENT = 2
_QUIET = {"agent", "phase", "finished"}
_URGENT = {"attention", "done", "error", "turn", "permission", "question", "decision", "notice"}
_SAID = 2000  # characters of what an agent says on its way
_RECENT = 20  # lines of a session that are shown when it is opened
_KEYS = {"\x1b[A": -1, "\x1bOA": -1, "k": -1, "\x1b[B": 1, "\x1bOB": 1, "j": 1}
_MOVES = re.compile("|".join([*map(re.escape, _KEYS), r"\x1b(?![\[O])", r"[\r\n]"]))


@dataclass(slots=True)
class LiveRow:
    """One session's line."""

    title: str
    began: float = field(default_factory=time.time)
    percent: int | None = None
    state: str = "starting"
    cost: float | None = None
    over: float | None = None  # when it ended
    waits: bool = False  # for a person
    unsaid: str = ""  # text of the agent that may be its last words, which the turn tells
    recent: deque[RenderableType] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def see(self, event: events.SessionEvent) -> None:
        match event:
            case events.SessionBegan(title=title, at=at, resumed=resumed):
                self.title = title or self.title
                self.began, self.over = self.began if resumed else at, None
            case events.LogLine(StatusEvent(int(percent))):
                self.percent = percent
            case events.StateChanged(state):
                self.state, self.waits = str(state), state.needs_person
                self.percent = self.percent if state.percent is None else state.percent
            case events.AgentEvent({"type": "result", "total_cost_usd": float() | int() as cost}):
                self.cost = finite(cost)
            case events.SessionEnded(result):
                self.state, self.over, self.waits = result.outcome, time.time(), False
                if result.outcome == "detached":
                    self.state = "goes on"
                self.percent = 100 if result.outcome == "done" else self.percent

    def doing(self, event: events.SessionEvent) -> Iterator[tuple[str, str]]:
        """What the agent says on its way, and the tools it takes, each with what to do."""
        match event:
            case events.AgentEvent({"type": "assistant", "message": {"content": list(blocks)}}):
                for block in blocks:
                    match block:
                        case {"type": "text", "text": str(text)}:
                            self.unsaid = visible(text, limit=_SAID)
                        case {"type": "tool_use", "name": str(tool), "input": dict(given)}:
                            if self.unsaid:
                                yield "agent", self.unsaid
                            self.unsaid = ""
                            yield tool, visible(gist(given), limit=200)
            case events.TurnEnded():
                self.unsaid = ""

    @property
    def elapsed(self) -> str:
        minutes, seconds = divmod(max(0, int((self.over or time.time()) - self.began)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

    def cells(self) -> Iterator[RenderableType]:
        yield Text(visible(self.title, limit=200), "bold")
        yield ProgressBar(total=100, completed=self.percent or 0)
        yield Text("" if self.percent is None else f"{self.percent}%", "bold")
        yield Text(self.elapsed)
        yield Text(visible(self.state, limit=60), "yellow" if self.waits else "cyan")
        yield Text("" if self.cost is None else f"${self.cost:.2f}", "dim")


class LiveView:
    """Drawn with rich, for a person at a terminal."""

    spoiled = False

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False)
        self._rows: dict[str, LiveRow] = {}
        self.known: dict[str, StoredSession] = {}
        self._chosen = self._opened = ""  # sessions; of several
        self._leave: Callable[[], None] | None = None
        self._for_person = ForPerson()
        self._asking = Asking(self._console, self._redraw)
        self._drawing: asyncio.TimerHandle | None = None
        self._me = operator_name()
        self.ask: Ask | None = self._ask if can_be_read() else None
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            get_renderable=self._draw,
        )

    @contextmanager
    def shown(self, sessions: Iterable[str], leave: Callable[[], None]) -> Iterator[None]:
        self._rows = {session: self._row(session) for session in sessions}
        self._leave, self._chosen = leave, next(iter(self._rows), "")
        with self._live, keys(self._pressed):
            self._tick()
            try:
                yield
            finally:
                if self._drawing:
                    self._drawing.cancel()
                self._live.refresh()

    def observe(self, session: str, event: events.SessionEvent) -> None:
        if session not in self._rows:
            self._rows[session] = self._row(session)
        self._rows[session].see(event)
        for record in self._for_person.read(records_of(event, session)):
            if not self._seen_otherwise(record):
                style = _STYLES.get(record["kind"], "dim")
                if record.get("by") == self._me:
                    record["by"] = "you"
                self._narrate(session, record["at"], record["kind"], words(record), style)
        for who, text in self._rows[session].doing(event):
            self._narrate(session, time.time(), who, text, "" if who == "agent" else "dim")
        self._redraw()

    def _pressed(self, typed: str) -> None:
        """What came from the keyboard at once: it moves, opens, leaves, or decides a question."""
        if typed == "q" and self._leave is not None:
            self._leave()
        # Who presses quickly, or while we are busy, sends several keys at once.
        for key in _MOVES.findall(typed) if len(self._rows) > 1 else ():
            self._move(key)
        self._asking.pressed(typed)
        self._redraw()

    def _move(self, key: str) -> None:
        order = self._ordered()
        if key in _KEYS:
            at = order.index(self._chosen) + _KEYS[key]
            self._chosen = order[max(0, min(at, len(order) - 1))]
        elif key == "\x1b":
            self._opened = ""
        else:
            self._opened = self._chosen
            for line in self._rows[self._opened].recent:
                self._console.print(line)

    def _ordered(self) -> list[str]:
        """The sessions, those that wait for a person first."""
        if self._chosen not in self._rows:
            self._chosen = next(iter(self._rows), "")
        return sorted(self._rows, key=lambda session: not self._rows[session].waits)

    def _seen_otherwise(self, record: Record) -> bool:
        """The session's own line, or the question below, says it."""
        asked = self.ask is not None and record["kind"] in ("permission", "question")
        own = record["kind"] == "notice" and record["text"].startswith(self._me)
        return asked or own or record["kind"] in _QUIET

    def say(self, text: str) -> None:
        self._console.print(self._hanging(Text(visible_block(text), "italic")))

    async def _ask(self, session: str, request: PermissionRequest) -> PermissionDecision:
        return await self._asking.ask(self._rows[session].title, request)

    def _narrate(self, session: str, at: float, kind: str, text: str, style: str) -> None:
        whose = f"{self._called(session)} " if len(self._rows) > 1 else ""
        when = time.strftime("%H:%M:%S", time.localtime(at))
        front = f"{when} {whose}{visible(kind, limit=12):<12} "
        line = self._hanging(Text(text, style), front)
        self._rows[session].recent.append(line)
        if len(self._rows) == 1 or session == self._opened or kind in _URGENT:
            self._console.print(line)

    def _hanging(self, text: Text, front: str = "") -> Text:
        """*text* behind *front*; where it goes on below it is indented, so it forges no line."""
        width = self._console.width
        beside = cell_len(front) if cell_len(front) <= width // 2 else 0
        indent = " " * (beside or _INDENT)
        lines = text.wrap(self._console, max(10, width - len(indent)))
        head = Text(front if beside or not front else f"{front}\n{indent}", "dim")
        return head.append_text(Text(f"\n{indent}").join(lines))

    def _redraw(self) -> None:
        loop = asyncio.get_running_loop()
        if self._drawing and self._drawing.when() <= loop.time() + _SOON:
            return
        if self._drawing:
            self._drawing.cancel()
        self._drawing = loop.call_later(_SOON, self._tick)

    def _tick(self) -> None:
        self._drawing = asyncio.get_running_loop().call_later(_TICK, self._tick)
        self._live.refresh()

    def _draw(self) -> RenderableType:
        width, height = self._console.size
        table = Table.grid(padding=(0, 1), expand=True)
        many = len(self._rows) > 1
        if many:
            table.add_column(max_width=12, style="dim", no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(width=max(6, width // 8))
        for least in (4, 7):
            table.add_column(width=least, justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(width=7, justify="right", no_wrap=True)
        order = self._ordered()
        most = max(1, height // 2)
        first = (
            max(0, min(order.index(self._chosen) - most // 2, len(order) - most)) if order else 0
        )
        for session in order[first : first + most]:
            row = self._rows[session]
            style = "reverse" if many and session == self._chosen else ""
            table.add_row(*([self._called(session)] if many else []), *row.cells(), style=style)
        below = [Text(self._hint(len(order) - most), "dim")] if many else []
        shown = min(most, len(order)) + len(below)
        return Group(*self._asking.draw(height - shown - 3), table, *below)

    def _called(self, session: str) -> str:
        known = self.known.get(session)
        return visible((known and known.facts.get("name")) or session, limit=24)

    def _row(self, session: str) -> LiveRow:
        """How it stands by the journal, until something is heard of it."""
        if (known := self.known.get(session)) is None:
            return LiveRow(session)
        title, state = str(known.facts.get("title") or session), known.state
        return LiveRow(title, known.created_at, state.percent, str(state), waits=state.needs_person)

    def _hint(self, hidden: int) -> str:
        more = f"{hidden} more · " if hidden > 0 else ""
        back = "Esc closes it · " if self._opened else ""
        keys = f"↑ ↓ choose · Enter opens · {back}q leaves"
        return more + (keys if self.ask is not None else "Ctrl-C twice leaves")
