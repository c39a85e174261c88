"""Where the journal's file is, who may read it, and on what kind of disk it lies."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

_NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "lustre", "ceph", "gluster", "fuse.sshfs")


def default_path() -> Path:
    """Where the journal of this user lives."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local/state"
    return base / "optio-agents" / "journal.sqlite3"


def make_directory(path: Path) -> None:
    """Make the directory of the file *path*, for our eyes only if it is the usual one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent == default_path().parent:
        path.parent.chmod(0o700)  # whoever made it; another directory is its user's own affair


def make_private(path: Path) -> None:
    """Let nobody else read the file. Raises OSError for what is no file of ours.

    It is not opened here: closing any descriptor of a file drops all locks that this process
    holds on it, also those of a database that another thread has open.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError("it is a link, or no file")
    path.chmod(0o600)  # SQLite gives its side files the mode of the main one


def on_network(path: Path) -> bool:
    """Whether *path* lies on a disk that several machines may share."""
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8", "surrogateescape")
    except OSError:
        return False
    return file_system(path.resolve(), mounts).startswith(_NETWORK)


def file_system(path: Path, mounts: str) -> str:
    """The kind of file system of the absolute *path*, in a table like /proc/self/mounts."""
    best, kind = Path("/"), ""
    for line in mounts.splitlines():
        _, point, its_kind, *_ = line.split(" ")
        where = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point))
        # The last of several mounts on one directory is the one that is seen.
        if path.is_relative_to(where) and where.is_relative_to(best):
            best, kind = where, its_kind
    return kind
