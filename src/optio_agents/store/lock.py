"""One supervisor for each session of a journal: a lock that the kernel drops with its holder."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from optio_agents.errors import AlreadyOwned, StoreError

from .records import is_session_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_OWNER = 4096  # bytes that are read of whoever holds it
_ATTEMPTS, _PAUSE = 4, 0.003  # seconds: asking who holds it takes a moment, holding it does not


@contextmanager
def claimed(locks: Path, session: str, owner: str) -> Iterator[None]:
    """Hold the lock of *session* in the directory *locks* while the block lasts.

    Raises AlreadyOwned, which names the other, and StoreError, also where *session* is no plain
    name: what it names is emptied and removed here.
    """
    if not is_session_id(session):
        raise StoreError(f"{session[:80]!r} cannot be the id of a session")
    path = locks / session
    with _translated(path):
        descriptor = _locked(path)
    try:
        with _translated(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, owner.encode()[:_OWNER], 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: whoever comes looks whether it is still it
        os.close(descriptor)


def holder(locks: Path, session: str) -> str | None:
    """Who holds the lock of *session* in the directory *locks*; None if nobody does."""
    if not is_session_id(session):
        return None
    try:
        descriptor = os.open(locks / session, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        # Shared: many may ask at once, and whoever wants it meets us for a moment only.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _owner(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _owner(descriptor: int) -> str:
    return os.pread(descriptor, _OWNER, 0).decode(errors="replace") or "another process"


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"the lock {path} failed: {error}") from error


def _locked(path: Path) -> int:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    attempts = _ATTEMPTS
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _still(descriptor, path):
                return descriptor
        except BlockingIOError:
            owner, attempts = _owner(descriptor), attempts - 1
            os.close(descriptor)
            if attempts:  # somebody may just have asked who holds it
                time.sleep(_PAUSE)
                continue
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
