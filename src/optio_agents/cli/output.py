"""Standard output and error: JSON lines, and what to do when they lead nowhere.

What goes wrong inside a library is a line on standard error, and whole, with its traceback, in
`warnings.log` beside the journal: a person who supervises is told, and not shouted at.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import sys
import time
from contextlib import contextmanager, suppress
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from optio_agents.display import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from optio_agents.display import Secrets
    from optio_agents.hosts.files.progress import Progress


_SLOW = 1.0  # seconds until a person is told what is waited for
_LOG = 1 << 20  # bytes; a file that has grown to this is begun anew, the old one kept beside it


def as_json(record: Mapping[str, Any]) -> str:
    """One line; ASCII alone, so that no terminal is told anything by it; never NaN."""
    try:
        return _dumps(record)
    except ValueError:  # what an agent wrote may hold it, and JSON cannot
        from optio_agents.protocol.strict_json import finite

        return _dumps(finite(record))


def _dumps(record: Any) -> str:
    return json.dumps(
        record, ensure_ascii=True, separators=(",", ":"), default=str, allow_nan=False
    )


def folded(text: str, *, indent: int = 4) -> str:
    """*text*, on a terminal with its long lines going on behind *indent* blanks.

    So no part of what an agent wrote, where the terminal folds it, passes for a line of ours.
    """
    if not sys.stdout.isatty():
        return text
    width = max(20, shutil.get_terminal_size().columns)
    return "\n".join(_fold(line, width, indent) for line in text.split("\n"))


def _fold(line: str, width: int, indent: int) -> str:
    room = width if line.isascii() else width // 2  # a wide letter takes two columns
    if len(line) <= room:
        return line
    return "\n".join(wrap(line, room, subsequent_indent=" " * indent, break_on_hyphens=False))


@contextmanager
def telling_if_slow(
    words: str = "waiting for its host …",
    *,
    say: Callable[[str], None] | None = None,
    unless: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Say *words* to a person who looks on, where the block takes longer than a second.

    *say* is how, where something is drawn there, and *unless* asked when it is time.
    """
    import asyncio  # `prompt` does without

    if not sys.stderr.isatty():
        yield
        return

    def tell() -> None:
        if not unless():
            say(words) if say else click.echo(words, err=True)

    timer = asyncio.get_running_loop().call_later(_SLOW, tell)
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def telling_how_far(words: str) -> Iterator[Progress]:
    """Keep a line for a person who looks on that says how far a copy is, while there is one."""
    began, shown = time.monotonic(), ""

    def tell(done: int, total: int | None) -> None:
        nonlocal shown
        if not sys.stderr.isatty() or time.monotonic() - began < _SLOW:
            return
        of = "" if total is None else f" of {_mebibytes(total)}"
        now = f"{words}: {_mebibytes(done)}{of}"
        click.echo(f"\r{now:<{len(shown)}}", err=True, nl=False)
        shown = now

    try:
        yield tell
    finally:
        if shown:
            click.echo(f"\r{'':<{len(shown)}}\r", err=True, nl=False)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def open_closed() -> None:
    """Lead to nowhere what is closed of our three streams (`>&-`).

    The next file that is opened, the journal even, would get its number and our words.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def mute() -> None:
    """Nobody reads us any more (`| head`), or can (a full disk): what is still buffered is lost."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def noticing_silence(gone: Callable[[], None]) -> Iterator[None]:
    """Call *gone* as soon as whoever reads us through a pipe has left, before the next line."""
    import asyncio  # `prompt` does without

    loop, output = asyncio.get_running_loop(), sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(output).st_mode):
        yield
        return

    def left() -> None:
        loop.remove_reader(output)
        mute()
        gone()

    loop.add_reader(output, left)  # an end to write to is readable once it leads nowhere
    try:
        yield
    finally:
        loop.remove_reader(output)


class Warnings(logging.Handler):
    """One line for each warning; the whole of it in the file, and here where that is asked for."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._whole = False
        self._last = ""  # said again and again, as by a library whose link has just broken
        self._secrets: list[Secrets] = []

    def hide(self, secrets: Secrets) -> None:
        """Keep these values, too, out of what is told from now on."""
        self._secrets.append(secrets)

    def hidden(self, text: str) -> str:
        """*text* without them."""
        for secrets in self._secrets:
            text = secrets.hide(text)
        return text

    @contextmanager
    def telling(self, *, whole: bool) -> Iterator[None]:
        """Tell what libraries warn of while the block lasts."""
        self._whole, self._last, self._secrets = whole, "", []
        logging.getLogger().addHandler(self)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            told = self.hidden(self.format(record))
            line = f"optio-agents: {self._line(record)}{_kept(told)}"
            if self._whole or line != self._last:
                click.echo(told if self._whole else line, err=True)
            self._last = line
        except Exception:
            self.handleError(record)

    def _line(self, record: logging.LogRecord) -> str:
        words, error = record.getMessage(), record.exc_info and record.exc_info[1]
        if error:
            words += f": {type(error).__name__} {error}".rstrip()
        return visible(self.hidden(words))


warnings = Warnings()


def _kept(text: str) -> str:
    """Write *text* to the end of the file of warnings; says where, if that was possible."""
    from optio_agents.store import default_path  # not before something is wrong

    path = default_path().with_name("warnings.log")
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _LOG:
            path.replace(path.with_suffix(".old"))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "a", errors="backslashreplace") as log:
            log.write(f"{text}\n")
        return f" (whole in {visible(str(path))})"
    return ""
