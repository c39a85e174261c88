"""What a person, or a program, sees of the sessions that this process supervises."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import click

from optio_agents.cli.output import as_json, mute
from optio_agents.conversation.contract import gist
from optio_agents.display import visible_block

from .records import plain, records_of, words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from optio_agents.conversation import PermissionDecision, PermissionRequest
    from optio_agents.store import StoredSession
    from optio_agents.supervision.events import SessionEvent

    from .records import Record

    Ask: TypeAlias = Callable[[str, PermissionRequest], Awaitable[PermissionDecision]]


_GIST = 200  # characters of what a decision was about
_TOO_MUCH = {"agent", "phase"}  # kinds that only a program wants to see each of


class View(Protocol):
    """Where observations go. Any number of sessions may share one."""

    @property
    def ask(self) -> Ask | None:
        """Puts a question to whoever sits here, if anybody; cancelled when answered elsewhere."""

    @property
    def known(self) -> dict[str, StoredSession]:
        """How the journal has sessions, by their ids; whoever has read it puts them there."""

    @property
    def spoiled(self) -> bool:
        """Something could not be shown."""

    def shown(
        self, sessions: Iterable[str], leave: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Show these while the block lasts; *leave* when asked to. Entered on the event loop."""

    def observe(self, session: str, event: SessionEvent) -> None:
        """Show what was seen, at once. Raises BrokenPipeError when nobody looks any more."""

    def say(self, text: str) -> None:
        """Tell the operator a sentence, safe to print whatever it quotes."""


class ForPerson:
    """What a person is told of records, by what was told before."""

    def __init__(self) -> None:
        self._words: dict[Any, str] = {}
        self._asked: dict[str, str] = {}  # by the ids of requests, which tell nobody anything

    def read(self, records: Iterable[Record]) -> Iterator[Record]:
        """*records* without steps of a delivery whose words stood there; decisions say of what."""
        for record in records:
            match record:
                case {"kind": "delivery", "session": session, "path": path}:
                    text = words(record)
                    before, self._words[session, path] = self._words.get((session, path)), text
                    if before == text:
                        continue
                case {"kind": "permission", "request": request, "tool": tool, "input": given}:
                    self._asked[request] = f"{tool} `{gist(given)[:_GIST]}`"
                case {"kind": "question", "request": request}:
                    self._asked[request] = "its question"
                case {"kind": "decision", "request": request} if request in self._asked:
                    record["asked"] = self._asked.pop(request)
            yield record


class LinesView:
    """Plain lines, or JSON ones: the contract of `records`."""

    ask = None

    def __init__(self, *, as_lines: bool) -> None:
        self._json, self._for_person = as_lines, ForPerson()
        self.spoiled = False
        self.known: dict[str, StoredSession] = {}

    def shown(
        self, sessions: Iterable[str], leave: Callable[[], None]
    ) -> AbstractContextManager[None]:
        return nullcontext()

    def observe(self, session: str, event: SessionEvent) -> None:
        records = records_of(event, session)
        if self._json:
            for record in records:
                self._write(as_json(record))
            return
        for record in self._for_person.read(records):
            if record["kind"] not in _TOO_MUCH:
                self._write(plain(record))

    def _write(self, line: str) -> None:
        try:
            click.echo(line)
        except BrokenPipeError:
            raise
        except OSError as error:  # a full disk
            mute()
            self.spoiled = True
            self.say(f"what is seen cannot be written ({error}); the session goes on")

    def say(self, text: str) -> None:
        lines = visible_block(text).replace("\n", "\n  ")  # or one might pass for ours
        click.echo(f"optio-agents: {lines}", err=True)
