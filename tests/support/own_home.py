"""A HOME of the tests' own: nothing of whoever runs them is read, or changed."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress

import pytest

from tests.support.components import cache

KEPT = "OPTIO_TESTS_HOME"  # worker processes share the one of the first


def move_in() -> None:
    """Live in an empty HOME from here on; twice is fine."""
    if KEPT in os.environ:
        return
    os.environ["OPTIO_AGENTS_CACHE"] = str(cache())  # downloads stay where they are
    made = tempfile.mkdtemp(prefix=f"optio-tests-home-{os.getpid()}-")
    os.environ["HOME"] = os.environ[KEPT] = made
    for name in "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME":
        os.environ.pop(name, None)


def move_out() -> None:
    """Remove it, if we made it: a run inside of a run did not."""
    if f"-{os.getpid()}-" in os.environ[KEPT]:
        with suppress(OSError):
            shutil.rmtree(os.environ[KEPT])


def pytest_configure(config: pytest.Config) -> None:
    move_in()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        move_out()
