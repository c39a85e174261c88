"""What the tests of the engines expect of a `conftest` that their distributions leave out.

A pytest plugin, loaded in an environment without us; the database is an in-memory stand-in.
"""

from __future__ import annotations

import os
import pathlib
import tempfile

import motor.motor_asyncio
import pytest
from mongomock_motor import AsyncMongoMockClient, enabled_gridfs_integration

# Kept referenced: once it is collected, its GridFS is the real one again, which refuses it.
_GRIDFS = enabled_gridfs_integration()
_GRIDFS.__enter__() if hasattr(_GRIDFS, "__enter__") else None
motor.motor_asyncio.AsyncIOMotorClient = AsyncMongoMockClient

ENGINES = ("CLAUDECODE", "CODEX", "OPENCODE", "CURSOR", "GROK", "KIMICODE", "ANTIGRAVITY")


@pytest.fixture
def mongo_db():
    return AsyncMongoMockClient()["optio_test"]


@pytest.fixture
def task_root(monkeypatch):
    """A short one: sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="o", dir="/tmp", ignore_cleanup_errors=True) as root:
        for engine in ENGINES:
            monkeypatch.setenv(f"OPTIO_{engine}_TASK_ROOT", root)
        yield pathlib.Path(root)


@pytest.fixture
def tmp_workdir(tmp_path):
    return os.fspath(tmp_path)


def pytest_configure(config):
    for marker in "serial", "freshness_probe":
        config.addinivalue_line("markers", f"{marker}: of theirs")
