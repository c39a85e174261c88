"""Which paths lie on a network file system, where changes by others ring no bell.

Sent to hosts as source: nothing newer than Python 3.7 here.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

# Whether a process is still the same one, and still there.
#
# Sent to hosts as source: nothing newer than Python 3.7 here.


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


_REMOTE = re.compile(
    rb"nfs|cifs|smb|9p|afs|ceph|gluster|lustre|gpfs|beegfs|orangefs|pvfs|ocfs|gfs2|virtiofs|"
    rb"vboxsf|vmhgfs|prl_fs|davfs|coda|fuse"
)
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_MOUNTS = b"/proc/self/mountinfo"


def is_remote(path: bytes, mounts: list[tuple[bytes, bytes]]) -> bool:
    """Others may change what lies there unheard. By name alone: asks no server that may hang."""
    best, kind = b"", b""
    for point, found in mounts:
        if len(point) >= len(best) and (path + b"/").startswith(point.rstrip(b"/") + b"/"):
            best, kind = point, found
    return bool(_REMOTE.match(kind))


def mount_table() -> list[tuple[bytes, bytes]]:
    """Where what kind of file system is mounted; later ones cover earlier ones."""
    try:
        with open(_MOUNTS, "rb") as table:  # noqa: PTH123
            lines = table.read().splitlines()
    except OSError:  # no /proc: nothing is known
        return []
    return [_mount(line) for line in lines]


def _mount(line: bytes) -> tuple[bytes, bytes]:
    where, _, what = line.partition(b" - ")
    point = _ESCAPED.sub(lambda found: bytes([int(found.group(1), 8)]), where.split()[4])
    return point, what.split()[0]
