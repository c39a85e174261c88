"""Which paths lie on a file system that several machines may share.

There nobody tells of what the others change, and no memory is shared: files that grow are polled,
a database does without its write-ahead log.

Sent to hosts as source: nothing newer than Python 3.7 here.
"""

from __future__ import annotations

import re

_NETWORK = re.compile(
    rb"nfs|cifs|smb|9p|afs|ceph|gluster|lustre|gpfs|beegfs|orangefs|pvfs|ocfs|gfs2|virtiofs|"
    rb"vboxsf|vmhgfs|prl_fs|davfs|coda|fuse"
)
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def on_network(path: bytes, mounts: list[tuple[bytes, bytes]]) -> bool:
    """Whether others may change what lies there. By name alone: asks no server that may hang."""
    best, kind = b"", b""
    for point, found in mounts:
        if len(point) >= len(best) and (path + b"/").startswith(point.rstrip(b"/") + b"/"):
            best, kind = point, found
    return bool(_NETWORK.match(kind))


def mount_table(source: str = "/proc/self/mountinfo") -> list[tuple[bytes, bytes]]:
    """Where what kind of file system is mounted; later ones cover earlier ones."""
    try:
        with open(source, "rb") as table:  # noqa: PTH123
            lines = table.read().splitlines()
    except OSError:  # no /proc: nothing is known
        return []
    return [_mount(line) for line in lines]


def _mount(line: bytes) -> tuple[bytes, bytes]:
    where, _, what = line.partition(b" - ")
    point = _ESCAPED.sub(lambda found: bytes([int(found.group(1), 8)]), where.split()[4])
    return point, what.split()[0]
