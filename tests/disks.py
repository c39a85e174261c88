"""A disk that is soon full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.components import unavailable


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk of 1 MiB. Only root may make one."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(where)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        unavailable("a small disk needs the rights to mount one")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)
