"""Asking the person at the terminal: one question at a time, decided by single keys.

A single key decides, so it must be sure that the person meant this question with it. Keys come from
elsewhere, too: letters typed for the shell while the question came up, a key that is held down and
answers the next question as well, a pasted text, the three bytes of an arrow key, a terminal that
was stopped meanwhile. Hence:

- A question is decided only by a key that comes alone and after a moment in which it stood on the
  screen and no key came. Any key before, or one that means nothing, makes the moment begin anew. It
  is longer than what a keyboard waits before it repeats a key. The keys are listed when they count.
- Allowing and choosing take a question that stood there whole; what does not fit is shown, whole,
  by `m`, and that begins the moment anew. Denying what one did not read does no harm.
- Always is offered where something can be granted, and what that is belongs to the question.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.text import Text

from optio_agents.cli.screen import questions
from optio_agents.conversation.claude.permissions import answer_questions, grants
from optio_agents.display import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType

    from optio_agents.conversation import PermissionDecision, PermissionRequest


MOMENT = 1.0  # seconds


@dataclass(slots=True, eq=False)
class _Question:
    title: str
    request: PermissionRequest
    answer: asyncio.Future[PermissionDecision]
    text: str = ""  # what is shown of it; it may be a megabyte, so it is made once
    readable: bool = True
    quiet_since: float | None = None  # on the screen, and no key came
    whole: bool = False  # nothing of it is hidden, or `m` has shown all
    read: bool = False  # by `m`
    answers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.readable = questions.readable(self.request)
        self.text = self._text()

    @property
    def choice(self) -> tuple[str, list[str]] | None:
        """What is still to be chosen, of a question to the user."""
        asked = questions.questions(self.request)
        return next((one for one in asked if one[0] not in self.answers), None)

    def counts(self, now: float) -> bool:
        """Whether a key decides by now."""
        return self.quiet_since is not None and now - self.quiet_since >= MOMENT

    def _text(self) -> str:
        if self.choice is None:
            return questions.body(self.request)
        text, labels = self.choice
        options = (f"  {number} {visible(label)}" for number, label in enumerate(labels, 1))
        return "\n".join([visible(text), *options])

    def keys(self) -> str:
        """Those that decide it."""
        rest = "" if self.whole else " · m shows all of it"
        if self.choice is not None:
            return ("a number answers · n does not" if self.whole else "n does not answer") + rest
        if not self.readable:
            return f"too long to be approved · n deny{rest}"
        always = " · a always (until this session ends)" if grants(self.request) else ""
        return f"y allow{always} · n deny" if self.whole else f"n deny{rest}, and then y allows"

    def decision(self, key: str) -> PermissionDecision | None:
        """What *key* decides, if anything."""
        if key == "n":
            return questions.deny()
        if not self.whole:
            return None
        if self.choice is not None:
            text, labels = self.choice
            if key.isdecimal() and 1 <= int(key) <= len(labels):
                self.answers[text] = labels[int(key) - 1]
                self.read, self.text = False, self._text()
            return answer_questions(self.request, self.answers) if self.choice is None else None
        if self.readable and (key == "y" or (key == "a" and grants(self.request))):
            return questions.allow(self.request, always=key == "a")
        return None


class Asking:
    """The questions that are open, in the order they came; the first one is shown."""

    def __init__(self, console: Console, redraw: Callable[[], None]) -> None:
        self._open: list[_Question] = []
        self._console, self._redraw = console, redraw
        self._soon: asyncio.TimerHandle | None = None

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

    def pressed(self, keys: str) -> None:
        """What came from the keyboard at once; nothing, when it was somebody else's till now."""
        waiting = [one for one in self._open if not one.answer.done()]
        if not waiting or waiting[0].quiet_since is None:
            return
        question, now = waiting[0], asyncio.get_running_loop().time()
        counts = question.counts(now)
        self._begin_moment(question, now)
        if keys == "m":
            question.read = True
            whole = questions.block(question.text, self._console.width)
            self._console.out(whole, highlight=False)
        elif len(keys) == 1 and counts and (decision := question.decision(keys)) is not None:
            question.answer.set_result(decision)
        self._redraw()

    def draw(self, room: int) -> Iterator[RenderableType]:
        """The first question, on at most *room* lines, or the least that tells it."""
        if not self._open:
            return
        question, now = self._open[0], asyncio.get_running_loop().time()
        more = f" ({len(self._open) - 1} more wait)" if len(self._open) > 1 else ""
        title = visible(question.title, limit=60)
        heading = Text(f"{title} asks: {questions.heading(question.request)}{more}", "bold yellow")
        above = heading.wrap(self._console, self._console.width)
        room -= len(above) + 2  # the keys may take two lines
        shown, fits = self._first_lines(question.text, room)
        if question.quiet_since is None or question.whole != (fits or question.read):
            self._begin_moment(question, now)
        question.whole = fits or question.read
        yield from above
        yield from shown
        if question.counts(now):
            yield Text(question.keys(), "yellow")
        else:
            yield Text("a moment, then a key decides", "dim")

    def _begin_moment(self, question: _Question, now: float) -> None:
        question.quiet_since = now
        if self._soon:
            self._soon.cancel()
        self._soon = asyncio.get_running_loop().call_later(MOMENT, self._redraw)

    def _first_lines(self, text: str, room: int) -> tuple[list[Text], bool]:
        """As many lines of *text* as there is *room* for, and whether these are all of it."""
        width, shown = max(10, self._console.width - questions.INDENT), list[Text]()
        for line in text.split("\n"):
            # No more is wrapped than is shown: it may be a megabyte, several times a second.
            most = (room + 1 - len(shown)) * width
            shown += Text(line[:most]).wrap(self._console, width) or [Text("")]
            if len(shown) > room or len(line) > most:
                return [_indented(one) for one in shown[: max(room, 0)]], False
        return [_indented(one) for one in shown], True


def _indented(line: Text) -> Text:
    return Text(" " * questions.INDENT).append_text(line)
