"""What a person, or a program, sees of the sessions that this process supervises."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import click

from optio_agents.cli.output import as_json, mute
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


class Repeats:
    """Steps of a delivery that a person need not see, since the words are the same."""

    def __init__(self) -> None:
        self._words: dict[Any, str] = {}

    def drop(self, records: Iterable[Record]) -> Iterator[Record]:
        """*records* without those whose words stood there just before."""
        for record in records:
            if record["kind"] == "delivery":
                name, text = (record["session"], record["path"]), words(record)
                before, self._words[name] = self._words.get(name), text
                if before == text:
                    continue
            yield record


class LinesView:
    """Plain lines, or JSON ones: the contract of `records`."""

    ask = None

    def __init__(self, *, as_lines: bool) -> None:
        self._json, self._repeats = as_lines, Repeats()
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
        for record in self._repeats.drop(records):
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
