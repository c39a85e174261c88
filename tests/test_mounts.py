"""One list of the file systems that several machines share, for whoever has to know."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from optio_agents.mounts import mount_table, on_network
from optio_agents.store import Store

SHARED = """nfs nfs4 cifs smb3 9p afs ceph glusterfs lustre gpfs beegfs orangefs pvfs2 ocfs2 gfs2
    virtiofs vboxsf vmhgfs prl_fs davfs coda fuse.sshfs fuse.rclone fuse.glusterfs"""
TABLE = """\
22 1 253:1 / / rw - ext4 /dev/vda rw
30 22 253:2 / /home rw,relatime shared:5 - ext4 /dev/vdb rw
31 30 0:40 / /home/me/with\\040space rw shared:9 master:2 - nfs4 srv:/x rw
32 31 0:41 / /home/me/with\\040space/fast rw - xfs /dev/vdc rw
33 22 0:42 / /mnt/a rw - fuse.sshfs me@box: rw
34 22 0:43 / /mnt/over rw - nfs srv:/y rw
35 34 0:44 / /mnt/over rw - tmpfs none rw
"""


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        ("/home/me/.local/state", False),
        ("/home/me/with space/x", True),
        ("/home/me/with space/fast/x", False),
        ("/home/me/with spaces", False),
        ("/mnt/a/b", True),
        ("/mnt/over/x", False),  # the last of several mounts on one directory is the one seen
        ("/mnt", False),
        ("/", False),
    ],
)
def test_a_path_lies_where_the_innermost_mount_is(tmp_path: Path, path: str, shared: bool) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert on_network(os.fsencode(path), mount_table(str(table))) == shared


@pytest.mark.parametrize("kind", SHARED.split())
def test_a_file_system_that_others_share_is_known(kind: str) -> None:
    assert on_network(b"/srv/x", [(b"/", b"ext4"), (b"/srv", kind.encode())])


def test_the_mounts_of_this_machine_can_be_read() -> None:
    assert b"/" in dict(mount_table())
    assert mount_table("/no/such/table") == []


@pytest.mark.parametrize(("kind", "mode"), [("virtiofs", "delete"), ("ext4", "wal")])
async def test_a_journal_that_machines_share_has_no_write_ahead_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, mode: str
) -> None:
    table = [(b"/", kind.encode())]
    monkeypatch.setattr("optio_agents.store.sqlite.mount_table", lambda: table)
    async with Store(tmp_path / "journal") as store:
        await store.sessions()
    with closing(sqlite3.connect(tmp_path / "journal")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == (mode,)
