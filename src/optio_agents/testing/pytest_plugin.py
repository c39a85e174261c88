"""Fixtures for tests of hooks, agents and hosts; each hands out a factory.

`pytest_plugins = "optio_agents.testing.pytest_plugin"` offers them. The test itself enters what it
makes, in its own task.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from optio_agents.hosts.host import make_host

from .corpus import LOG_CORPUS
from .memory import MemoryContext, MemoryHost
from .proxy import FaultProxy
from .scripted import scripted_agent
from .transcript import Transcript, playing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from optio_agents.conversation.claude import ClaudeCodeConversation
    from optio_agents.hosts.host import Host

    from .corpus import Sample


@pytest.fixture
def optio_memory_host() -> type[MemoryHost]:
    """`optio_memory_host({"deliverables/a.md": "…"})`: a host in memory."""
    return MemoryHost


@pytest.fixture
def optio_context() -> type[MemoryContext]:
    """`optio_context(params={…})`: a process context that remembers what it was told."""
    return MemoryContext


@pytest.fixture
def optio_local_host(tmp_path: Path) -> Callable[[], Host]:
    """This machine, below the test's own directory: enter what it makes."""
    return lambda: make_host(taskdir=str(tmp_path / "optio-task"))


@pytest.fixture
def optio_agent() -> Callable[..., tuple[str, ...]]:
    """`optio_agent("STATUS: 5%", "DONE")`: the command line of an agent that does these steps."""
    return scripted_agent


@pytest.fixture
def optio_fault_proxy() -> type[FaultProxy]:
    """A network to *host* and *port* that breaks when it is told to: enter what it makes."""
    return FaultProxy


@pytest.fixture
def optio_transcript() -> Callable[[str], AbstractAsyncContextManager[ClaudeCodeConversation]]:
    """A recorded claude that plays its part, by name or path: enter the conversation."""

    @asynccontextmanager
    async def play(name: str) -> AsyncIterator[ClaudeCodeConversation]:
        path = Path(name)
        transcript = Transcript.load(path) if path.suffix else Transcript.named(name)
        async with playing(transcript) as conversation:
            yield conversation

    return play


@pytest.fixture
def optio_log_corpus() -> tuple[Sample, ...]:
    """Lines that agents write, and the event that each of them is."""
    return LOG_CORPUS
