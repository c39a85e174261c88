"""Standard output: JSON lines, and what to do when nobody reads them any more."""

from __future__ import annotations

import json
import os
import stat
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


def as_json(record: Mapping[str, Any]) -> str:
    """One line; ASCII alone, so that no terminal is told anything by it."""
    return json.dumps(record, ensure_ascii=True, separators=(",", ":"), default=str)


def mute() -> None:
    """Whoever read us (`| head`) has seen enough: what is still buffered goes nowhere."""
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
