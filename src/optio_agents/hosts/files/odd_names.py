"""Find a file by the name that a line of text has of it.

A line says a replacement character where a name is no UTF-8, and whoever reads it takes the blanks
at its end for the line's. So a file may be there whose name reads as the one that is not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from optio_agents.errors import FileRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from optio_agents.hosts.machine import Answer


_T = TypeVar("_T")

_NO_TEXT = "\ufffd"


def as_written(line: str, path: str) -> str:
    """The *path* that *line* ends in, with the blanks behind it."""
    line = line.removesuffix("\r")
    return path + line[len(line.rstrip()) :]


async def by_any_name(
    written: str,
    fetch: Callable[[str], Awaitable[_T]],
    *,
    ask: Callable[..., Awaitable[Answer]],
    directory: str,
) -> _T:
    """What *fetch* makes of the file *written*: with its blanks, without, or as no UTF-8.

    The last only below `deliverables/` in *directory*, which `ask` is asked for, and where one
    file alone reads so. Raises what *fetch* raised; FileRefused where there is none.
    """
    for name in dict.fromkeys((written, written.rstrip())):
        try:
            return await fetch(name)
        except FileRefused as error:
            if error.reason != "missing":
                raise
            missing = error
        if _NO_TEXT in name:
            path = name.removeprefix(f"{directory.rstrip('/')}/").removeprefix("./")
            pattern = re.sub(r"([*?\[\]\\])", r"\\\1", path).replace(_NO_TEXT, "*")
            answer = await ask("hosts/files/named.sh", directory, pattern)
            found = [
                one for one in answer.stdout.split(b"\0") if one.decode("utf-8", "replace") == path
            ]
            if len(found) == 1:
                return await fetch(found[0].decode("utf-8", "surrogateescape"))
    raise missing


def shown_name(path: str) -> str:
    """*path* as text: a byte that is no UTF-8 as `%E9`."""
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", path)
