"""What is said to an agent: whole messages, each of them once, from any number of senders."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from optio_agents.hosts.files.atomic import temporary

# What say.sh and answer.sh do, without a process: for small messages to an agent on this machine.


SMALL = 1 << 16  # bytes: writing more could hold up the event loop


def say_here(directory: str, tag: str, name: str, data: bytes, fence: str = "") -> bool:
    """Say *data* as *name*, and True. False, with nothing done, for whatever is out of line.

    The script is then asked, which is idempotent and knows how to tell what is wrong.
    """
    try:
        with _enter(directory, tag) as session:
            return not (fence and _inode(session, fence)) and _say(session, name, data)
    except OSError:
        return False


def answer_here(
    directory: str, tag: str, request: str, whole: bytes, data: bytes, fence: str = ""
) -> bool:
    """Give *data* as the one answer to *request*, kept as *whole*: answer.sh, likewise.

    False, perhaps with the answer kept and not said, for whatever is out of line, such as an
    earlier one: the script says what was kept.
    """
    answer = f"answers/{request}"
    try:
        with _enter(directory, tag) as session:
            if any(_inode(session, file) for file in (fence, "exit", "closed", answer) if file):
                return False
            _link(session, whole, answer)
            return _say(session, f"answer-{request}", data)
    except OSError:
        return False


@contextmanager
def _enter(directory: str, tag: str) -> Iterator[int]:
    """The session directory of *tag*; no link is followed in its last two names, as in enter()."""
    task, _, last = directory.rpartition("/")
    above, _, middle = task.rpartition("/")
    opened = [os.open(above or "/", os.O_PATH | os.O_DIRECTORY)]
    try:
        for part in middle, last:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            opened.append(os.open(part, flags, dir_fd=opened[-1]))
            if os.fstat(opened[-1]).st_uid != os.geteuid():
                raise PermissionError(part)
        if _read(opened[-1], "tag") != f"{tag}\n".encode():
            raise FileNotFoundError(tag)
        yield opened[-1]
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _say(session: int, name: str, data: bytes) -> bool:
    if any(_inode(session, file) for file in ("exit", "closed", f"said/{name}")):
        return False
    place = f"in/{name}"
    inode = _link(session, data, place)
    said = _inode(session, f"said/{name}")
    if said is None and _inode(session, "closed"):
        with suppress(FileNotFoundError):
            os.unlink(place, dir_fd=session)
        return False
    _ring(session)
    return said in {None, inode}


def _link(session: int, data: bytes, place: str) -> int:
    """The inode of *data* at *place*, where nothing may be yet."""
    with temporary(os.path.dirname(place), within=session) as (file, ours):  # noqa: PTH120
        if file.write(data) != len(data):
            raise OSError("the disk is full")
        os.link(ours, place, src_dir_fd=session, dst_dir_fd=session)
        return os.fstat(file.fileno()).st_ino


def _inode(session: int, path: str) -> int | None:
    try:
        return os.stat(path, dir_fd=session, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


def _read(session: int, name: str) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=session), "rb") as file:
        return file.read(1000)


def _ring(session: int) -> None:
    # open for both, it never blocks; and a bell that is full rings already
    bell = os.open("bell", os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=session)
    try:
        if stat.S_ISFIFO(os.fstat(bell).st_mode):
            with suppress(BlockingIOError):
                os.write(bell, b"\n")
    finally:
        os.close(bell)


END = "~end.eof"  # sorts behind all other names
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,149}")
_BY = 200  # characters of the name of whoever answered: the agent can write it as well
_last = 0


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """Whose answer the agent got, and what it was; `won` when it was ours."""

    won: bool
    by: str
    data: bytes


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """An answer that somebody gave, and the *reason* of a denial that its *data* cannot tell."""

    by: str
    data: bytes
    reason: str = ""

    def dump(self) -> bytes:
        """As a file keeps it, which is there all at once: so no answer is without its reason."""
        who: object = {"by": self.by, "reason": self.reason} if self.reason else self.by
        return f"{len(self.data)} {json.dumps(who)}\n".encode() + self.data

    @classmethod
    def load(cls, written: bytes) -> GivenAnswer:
        """What was dumped; of what is none, what can be said."""
        header, _, data = written.partition(b"\n")
        by: object = None
        reason: object = ""
        with suppress(ValueError, RecursionError):
            match json.loads(header.partition(b" ")[2]):
                case {"by": by, "reason": reason}:
                    pass
                case by:
                    pass
        who = by[:_BY] if by and isinstance(by, str) else "somebody"
        return cls(who, data, reason if isinstance(reason, str) else "")


def next_name() -> str:
    """A name behind all that this process gave out, and that no other process gives out."""
    global _last
    _last = max(time.time_ns(), _last + 1)
    return f"{_last:020d}-{secrets.token_hex(4)}"


def check_name(name: str) -> str:
    """*name*, if a message may have it. Raises ValueError."""
    if not _NAME.fullmatch(name) or name.endswith(".eof"):
        raise ValueError(f"{name!r} cannot be the name of a message")
    return name


def request_name(request: str) -> str:
    """*request*, which the agent chose, as the name of a file."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", request):
        return request
    return "x" + hashlib.sha256(request.encode("utf-8", "surrogatepass")).hexdigest()
