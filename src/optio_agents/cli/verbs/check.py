"""`optio-agents check`: what an agent did wrong in its log, line by line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

import click

from optio_agents.cli import exits
from optio_agents.display import visible
from optio_agents.framing.lines import LineSplitter
from optio_agents.protocol.events import DeliverableEvent, DoneEvent, ErrorEvent, UnknownLine
from optio_agents.protocol.features import EVERYTHING
from optio_agents.protocol.keywords import KEYWORDS
from optio_agents.protocol.parser import near_miss, parse_log_line
from optio_agents.protocol.paths import relativize_deliverable_path, validate_deliverable_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


_WORD = re.compile(r"[A-Z_]+(?=[:\s]|$)")
_GRAMMAR = {row.name: row.grammar for row in KEYWORDS}
_CHUNK = 262_144
_SHOWN = 2000  # characters of what is wrong
_LINE = 1 << 20  # bytes: what a follower reads of a line


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong; *line* counts from 1."""

    line: int
    text: str
    words: str


def find_faults(log: BinaryIO, root: Path) -> Iterator[Fault]:
    """Everything that is wrong with *log*, in order; *root* is the agent's work directory."""
    splitter, number, ended = LineSplitter(_LINE), 0, 0
    if log.read(2) in (b"\xff\xfe", b"\xfe\xff"):
        yield Fault(1, "", "the file is UTF-16, which nobody reads: write UTF-8")
        return
    log.seek(0)
    while chunk := log.read(_CHUNK):
        lines = splitter.feed(chunk)
        cut = splitter.cut
        for index, line in enumerate(lines):
            number += 1
            if index in cut:
                yield Fault(number, "", f"{cut[index]} bytes long: only {_LINE} of them are read")
            yield from _faults_of_line(number, line, root, ended)
            ended = ended or (number if _is_ending(line) else 0)
    if rest := splitter.close():
        yield from _faults_of_line(number + 1, rest, root, ended)
        yield Fault(number + 1, _shown(rest), "no newline at its end: nobody reads it until then")


def _faults_of_line(number: int, line: bytes, root: Path, ended: int) -> Iterator[Fault]:
    text = line.decode("utf-8", "replace")
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        yield Fault(number, _shown(line), "not UTF-8: the bad bytes are shown as \ufffd")
    event = parse_log_line(text, features=EVERYTHING)
    if isinstance(event, UnknownLine):
        words = explain_near_miss(text)
    elif ended:
        words = f"stands behind the DONE or ERROR of line {ended}, which ended the session"
    elif isinstance(event, DeliverableEvent):
        words = _deliverable(event.path, root)
    else:
        words = None
    if words:
        yield Fault(number, _shown(line), words)


def explain_near_miss(text: str) -> str | None:
    """What is wrong with a line that is narration, and was most likely meant as an entry."""
    word = _WORD.match(text)
    if word and word[0] in _GRAMMAR:
        return f"not as the grammar has it: {_GRAMMAR[word[0]]}"
    if meant := near_miss(text):
        return f"nearly an entry: begin the line with {_GRAMMAR[meant]}"
    return None


def _deliverable(path: str, root: Path) -> str | None:
    try:
        absolute = Path(validate_deliverable_path(path, str(root)))
        relativize_deliverable_path(str(absolute), str(root))
        inside = absolute.resolve().is_relative_to(root.resolve() / "deliverables")
        regular = S_ISREG(absolute.stat().st_mode)
    except FileNotFoundError:
        return f"there is no such file below {root}"
    except (OSError, RuntimeError) as error:  # too long; links that lead in a circle
        return f"nobody can open it: {getattr(error, 'strerror', None) or error}"
    except ValueError as error:
        return str(error)
    if not inside:
        return "leads out of deliverables/"
    return None if regular else "not a regular file"


def _is_ending(line: bytes) -> bool:
    return isinstance(parse_log_line(line.decode("utf-8", "replace")), DoneEvent | ErrorEvent)


def _shown(line: bytes) -> str:
    return visible(line.decode("utf-8", "replace"), limit=100)


@click.command(epilog="Example:  optio-agents check ./optio.log")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the agent was started; without it, the directory of FILE.",
)
def check(file: Path, root: Path | None) -> int:
    """Report, line by line, what an agent did wrong in its log; exit 1 if anything."""
    found = 0
    with file.open("rb") as log:
        for fault in find_faults(log, root or file.parent):
            found += 1
            click.echo(visible(f"{file}:{fault.line}: {fault.words}", limit=_SHOWN))
            if fault.text:
                click.echo(f"    {fault.text}")
    if not found:
        click.echo(f"{visible(str(file))}: nothing wrong")
    return exits.AGENT_ERROR if found else exits.DONE
