"""Whether a process is still the same one, and still there.

Sent to hosts as source: nothing newer than Python 3.7 here.
"""

from __future__ import annotations

import os
from typing import NamedTuple

# ruff: noqa: PTH110 - each call here is one system call


_BOOT = "/proc/sys/kernel/random/boot_id"


class Named(NamedTuple):
    """A process for all time."""

    pid: int
    start: int  # clock ticks after boot
    boot: str


def gone(process: Named) -> bool:
    """It has ended: a zombie has, and so has a pid that is somebody else's by now."""
    try:
        if _read(_BOOT).strip() != process.boot:
            return True
        return not same(_read(f"/proc/{process.pid}/stat"), process.start)
    except (FileNotFoundError, ProcessLookupError):
        return os.path.exists(_BOOT) or not _answers(process.pid)
    except OSError:  # out of descriptors, say: ask again later
        return False


def same(stat: str, start: int) -> bool:
    """/proc/PID/stat tells of a living process that began at *start*."""
    words = stat.rpartition(")")[2].split()
    return len(words) > 19 and words[0] not in "ZX" and int(words[19]) == start


def _answers(pid: int) -> bool:  # no /proc: the pid is all there is
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
