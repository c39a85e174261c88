"""The stress suite in small: a few sessions, everything breaks once, and the books balance."""

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

_ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(1200)  # it gives up by itself, and says what on, after fifteen minutes
async def test_the_books_balance() -> None:
    done = await anyio.run_process(
        [sys.executable, "-m", "tests.stress", "--quick"],
        check=False,
        cwd=_ROOT,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout.decode()
