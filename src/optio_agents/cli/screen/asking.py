"""Asking the person at the terminal: one question at a time, answered by single keys."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.text import Text

from optio_agents.cli.screen import questions
from optio_agents.display import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType

    from optio_agents.conversation import PermissionDecision, PermissionRequest


_KEYS = "y allow · a always (until this session ends) · n deny"
_LEAST = 3  # lines of what is asked that are shown however small the terminal is


@dataclass(slots=True, eq=False)
class _Question:
    title: str
    request: PermissionRequest
    answer: asyncio.Future[PermissionDecision]
    shown: bool = False  # a key pressed before that was meant for something else
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def choice(self) -> tuple[str, list[str]] | None:
        """What is still to be chosen, of a question to the user."""
        asked = questions.questions(self.request)
        return next((one for one in asked if one[0] not in self.answers), None)


class Asking:
    """The questions that are open, in the order they came; the first one is shown."""

    def __init__(self, redraw: Callable[[], None], show: Callable[[RenderableType], None]) -> None:
        self._open: list[_Question] = []
        self._redraw, self._show = redraw, show

    async def ask(self, title: str, request: PermissionRequest) -> PermissionDecision:
        """Wait for the keys that answer it. Cancelled, it disappears."""
        question = _Question(title, request, asyncio.get_running_loop().create_future())
        self._open.append(question)
        self._redraw()
        try:
            return await question.answer
        finally:
            self._open.remove(question)
            self._redraw()

    def pressed(self, key: str) -> None:
        """A key; one that means nothing is ignored."""
        waiting = [one for one in self._open if not one.answer.done()]
        if not waiting or not waiting[0].shown:
            return
        question = waiting[0]
        if key == "n":
            question.answer.set_result(questions.deny())
        elif key == "m":
            self._show(Text(questions.asked(question.request)))
        elif question.choice is not None:
            _choose(question, key)
        elif key in ("y", "a"):
            question.answer.set_result(questions.allow(question.request, always=key == "a"))
        self._redraw()

    def draw(self, console: Console, lines: int) -> Iterator[RenderableType]:
        """The first question, on about *lines* lines."""
        if not self._open:
            return
        question = self._open[0]
        question.shown = True
        more = f" ({len(self._open) - 1} more wait)" if len(self._open) > 1 else ""
        title = visible(question.title, limit=60)
        yield Text(f"{title} asks: {questions.heading(question.request)}{more}", "bold yellow")
        if question.choice is not None:
            yield from _choices(*question.choice)
            return
        whole = Text(questions.asked(question.request)).wrap(console, max(10, console.width - 2))
        room = max(_LEAST, lines - 2)
        for line in whole[:room]:
            yield Text("  ").append_text(line)
        hidden = len(whole) - room
        rest = f" · m shows {hidden} more lines" if hidden > 0 else ""
        yield Text(_KEYS + rest, "yellow")


def _choose(question: _Question, key: str) -> None:
    assert question.choice is not None
    text, labels = question.choice
    if key.isdecimal() and 1 <= int(key) <= len(labels):
        question.answers[text] = labels[int(key) - 1]
    if question.choice is None:
        question.answer.set_result(questions.reply(question.request, question.answers))


def _choices(text: str, labels: list[str]) -> Iterator[RenderableType]:
    yield Text(visible(text))
    for number, label in enumerate(labels, 1):
        yield Text(f"  {number} {visible(label)}")
    yield Text("a number answers · n does not", "yellow")
