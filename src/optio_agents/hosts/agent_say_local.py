"""What say.sh does, without a process: for small messages to an agent on this machine."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SMALL = 1 << 16  # bytes: writing more could hold up the event loop


def say_here(directory: str, tag: str, name: str, data: bytes) -> bool:
    """Say *data* as *name*, and True. False, with nothing done, for whatever is out of line.

    The script is then asked, which is idempotent and knows how to tell what is wrong.
    """
    try:
        with _entered(directory, tag) as session:
            return _say(session, name, data)
    except OSError:
        return False


@contextmanager
def _entered(directory: str, tag: str) -> Iterator[int]:
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
    ours, place = f"in/.{secrets.token_hex(8)}", f"in/{name}"
    inode = _write(session, ours, data)
    try:
        os.link(ours, place, src_dir_fd=session, dst_dir_fd=session)
    finally:
        os.unlink(ours, dir_fd=session)
    said = _inode(session, f"said/{name}")
    if said is None and _inode(session, "closed"):
        with suppress(FileNotFoundError):
            os.unlink(place, dir_fd=session)
        return False
    _ring(session)
    return said in {None, inode}


def _inode(session: int, path: str) -> int | None:
    try:
        return os.stat(path, dir_fd=session, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


def _read(session: int, name: str) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=session), "rb") as file:
        return file.read(1000)


def _write(session: int, name: str, data: bytes) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    written = inode = -1
    with (
        suppress(OSError),
        os.fdopen(os.open(name, flags, 0o600, dir_fd=session), "wb", buffering=0) as file,
    ):
        inode = os.fstat(file.fileno()).st_ino
        written = file.write(data)
    if written != len(data):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=session)
        raise OSError("the disk is full")
    return inode


def _ring(session: int) -> None:
    # open for both, it never blocks; and a bell that is full rings already
    bell = os.open("bell", os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=session)
    try:
        if stat.S_ISFIFO(os.fstat(bell).st_mode):
            with suppress(BlockingIOError):
                os.write(bell, b"\n")
    finally:
        os.close(bell)
