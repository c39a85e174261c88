"""What is said to an agent: whole messages, each of them once, from any number of senders."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .agent_say_local import SMALL, say_here
from .local import LocalMachine

if TYPE_CHECKING:
    from .agent_directory import Directory

END = "~end.eof"  # sorts behind all other names
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,149}")
_BY = 200  # characters of the name of whoever answered: the agent can write it as well
_last = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """Whose answer the agent got, and what it was; `won` when it was ours."""

    won: bool
    by: str
    data: bytes


class Input:
    """The input of one agent, as a directory of messages on its host."""

    def __init__(self, directory: Directory, session: str) -> None:
        self._directory, self._session = directory, session

    async def say(self, data: bytes, name: str | None) -> str:
        name = next_name() if name is None else checked(name)
        await self._say(name, data)
        return name

    async def end(self) -> None:
        await self._say(END, b"")

    async def _say(self, name: str, data: bytes) -> None:
        # a subclass of the machine has other tools, and is there to try the scripts
        here = type(self._directory.machine) is LocalMachine and len(data) <= SMALL
        if here and say_here(self._directory.path, self._session, name, data):
            return
        args = self._session, name, str(len(data)), secrets.token_hex(8)
        await self._directory.run("say", *args, data=data)

    async def answer(self, request: str, data: bytes, by: str) -> Answered:
        whole = f"{len(data)} {json.dumps(by)}\n".encode() + data
        args = self._session, request_name(request), str(len(whole)), secrets.token_hex(8)
        said = await self._directory.run("answer", *args, data=whole)
        outcome, _, rest = said.partition(b"\n")
        who, theirs = _answer(rest)
        # An unsure answer that was repeated meets itself.
        return Answered(outcome == b"won" or (who, theirs) == (by, data), who, theirs)

    async def answered(self, request: str) -> tuple[str, bytes] | None:
        said = await self._directory.run("answered", self._session, request_name(request))
        return _answer(said) if said else None


def _answer(written: bytes) -> tuple[str, bytes]:
    """Who gave it, and what it was."""
    header, _, data = written.partition(b"\n")
    try:
        by = json.loads(header.partition(b" ")[2])
    except (ValueError, RecursionError):
        by = None
    return by[:_BY] if by and isinstance(by, str) else "somebody", data


def next_name() -> str:
    """A name behind all that this process gave out, and that no other process gives out."""
    global _last
    _last = max(time.time_ns(), _last + 1)
    return f"{_last:020d}-{secrets.token_hex(4)}"


def checked(name: str) -> str:
    """*name*, if a message may have it. Raises ValueError."""
    if not _NAME.fullmatch(name) or name.endswith(".eof"):
        raise ValueError(f"{name!r} cannot be the name of a message")
    return name


def request_name(request: str) -> str:
    """*request*, which the agent chose, as the name of a file."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", request):
        return request
    return "x" + hashlib.sha256(request.encode("utf-8", "surrogatepass")).hexdigest()
