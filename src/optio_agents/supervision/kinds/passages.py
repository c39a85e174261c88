"""What was said and done in a session, for a person: read once more from what its agent wrote.

Some agents repeat none of what they were told. That lies in the queue beside their output, and each
message in it has opened a turn.
"""

from __future__ import annotations

import json
import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from optio_agents.conversation.dialect import Passage
from optio_agents.errors import FileRefused
from optio_agents.framing.lines import LineSplitter

from . import kind_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from optio_agents.conversation.dialect import PassageReader
    from optio_agents.hosts.host import Host
    from optio_agents.store import StoredSession


LINE = 16 << 20  # bytes of a line; of a longer one only the front could be read, so it is left out
_CHUNK = 1 << 18
_RESULT = 4000  # characters of what a tool gave


def reader_of(session: StoredSession) -> PassageReader:
    """A reader of what such an agent writes."""
    return kind_named(str(session.facts["agent"])).passages()


def session_directory(host: Host) -> str:
    """Where on *host* the output of its agent lies."""
    return posixpath.join(host.taskdir, "session")


async def fetch_queue(host: Host, into: BinaryIO) -> None:
    """Bring what was kept for the agent to be told. Waits and raises as `fetch_file` does."""
    root = session_directory(host)
    with suppress(FileRefused):  # nothing was said
        await host.fetch_file(posixpath.join(root, "queue"), into, root=root)


def read_output(output: BinaryIO, reader: PassageReader) -> Iterator[Passage]:
    """What the lines of *output* say, in order."""
    for line in _lines(output):
        if isinstance(line, int):
            yield cut_line(line)
        else:
            yield from read_line(line, reader)
    yield from reader.close()


def read_line(line: bytes, reader: PassageReader) -> Iterator[Passage]:
    """What one line of the output says, behind those that *reader* has had."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or reader.keys.isdisjoint(event):
        yield Passage("output", line.decode("utf-8", "replace").rstrip("\r\n"))
        return
    for passage in reader.feed(event):
        yield passage._replace(text=passage.text[:_RESULT]) if passage.who == "result" else passage


def cut_line(size: int) -> Passage:
    """In place of a line of the output that is too long."""
    return Passage("output", f"(a line of {size} bytes is left out)")


def read_queue(queue: BinaryIO) -> Iterator[str]:
    """What was said to the agent, in order: each opened a turn."""
    names = set[str]()
    for line in _lines(queue):
        if isinstance(line, int):
            yield f"(a message of {line} bytes is left out)"
            continue
        with suppress(ValueError, RecursionError):  # the agent could write there
            match json.loads(line):
                case {"name": str(name), "text": str(text)} if name not in names:
                    names.add(name)  # it may stand there twice, and was said once
                    yield text


def with_prompts(
    passages: Iterable[Passage], prompts: Iterator[str], *, opening: bool = True
) -> Iterator[Passage]:
    """*passages*, in front of each turn what opened it; the rest of *prompts* waits.

    *opening*: the first of them is the first of a turn.
    """
    for passage in passages:
        if opening and (prompt := next(prompts, None)) is not None:
            yield Passage("person", prompt)
        opening = passage.who == "turn"
        yield passage


def _lines(file: BinaryIO) -> Iterator[bytes | int]:
    """Its lines; of one that is too long, its size."""
    file.seek(0)
    splitter = LineSplitter(LINE)
    while chunk := file.read(_CHUNK):
        lines = splitter.feed(chunk)
        for index, line in enumerate(lines):
            yield splitter.cut.get(index, line)
    if rest := splitter.close():
        yield rest
