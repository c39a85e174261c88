"""The live view of a team; apart from its lines, for rich takes a while to load."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text

from optio_agents.team.observing.events import Called, Concluded, Consulted, Slept, Stepped, Woke

from .live import LiveRow, LiveView
from .team import kind_of, words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optio_agents.team.observing.events import TeamEvent


_STYLES = {"concluded": "green", "consulted": "yellow", "sent": "cyan"}


class TeamLive(LiveView):
    """A line for each turn, those that it called below it."""

    def __init__(self, people: Iterable[str], top: str) -> None:
        self._people, self._top = frozenset(people), top
        self._below: dict[str, list[str]] = {}
        self._depth: dict[str, int] = {}
        super().__init__()  # which draws once

    def see(self, event: TeamEvent) -> None:
        row = self._rows.setdefault(event.turn, LiveRow(event.name))
        row.title = row.title if event.turn != self._top else event.name
        match event:
            case Called(turn=turn, to=to, child=child):
                if row.state == "starting":
                    row.state = "running"
                depth = self._depth[child] = self._depth.get(turn, 0) + 1
                self._below.setdefault(turn, []).append(child)
                self._rows[child] = called = LiveRow("  " * depth + to, state="running")
                if to in self._people:
                    called.state, called.waits = "asked", True
                    who = to.strip("[]")
                    self.say(f"{who} is asked, and may answer by: optio-agents sit {who}")
            case Concluded(status=status):
                row.state, row.over, row.waits = status, time.time(), False
                row.percent = 100 if status == "completed" else row.percent
            case Slept():
                row.state = "sleeping"
            case Woke():
                row.state = "running"
            case Consulted(allowed=allowed):
                row.state, row.waits = ("asks", True) if allowed is None else ("running", False)
            case Stepped(step=step, tokens=tokens):
                row.state = f"step {step}, {tokens} tokens"
        if line := words(event):
            failed = isinstance(event, Concluded) and event.status != "completed"
            style = "bold red" if failed else _STYLES.get(kind_of(event), "dim")
            shown = self._hanging(Text(line, style), f"{time.strftime('%H:%M:%S')} ")
            row.recent.append(shown)
            self._console.print(shown)
        self._redraw()

    def _ordered(self) -> list[str]:
        if self._chosen not in self._rows:
            self._chosen = next(iter(self._rows), "")
        found, waiting = list[str](), [self._top]
        while waiting:
            turn = waiting.pop()
            found.append(turn)
            waiting += reversed(self._below.get(turn, []))
        return [turn for turn in found if turn in self._rows]
