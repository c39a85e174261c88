"""One supervisor for each session of a journal: a lock that the kernel drops with its holder."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from optio_agents.errors import AlreadyOwned, StoreError

from .records import is_session_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_OWNER = 4096  # bytes that are read of whoever holds it


@contextmanager
def claimed(locks: Path, session: str, owner: str) -> Iterator[None]:
    """Hold the lock of *session* in the directory *locks* while the block lasts.

    Raises AlreadyOwned, which names the other, and StoreError, also where *session* is no plain
    name: what it names is emptied and removed here.
    """
    if not is_session_id(session):
        raise StoreError(f"{session[:80]!r} cannot be the id of a session")
    path = locks / session
    with _told(path):
        descriptor = _locked(path)
    try:
        with _told(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, owner.encode()[:_OWNER], 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: whoever comes looks whether it is still it
        os.close(descriptor)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"the lock {path} failed: {error}") from error


def _locked(path: Path) -> int:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _still(descriptor, path):
                return descriptor
        except BlockingIOError:
            owner = os.pread(descriptor, _OWNER, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise AlreadyOwned(f"{owner} supervises this session", owner=owner) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed between our two looks


def _still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
