"""The real claude CLI on a model of ours, in surroundings made from nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import anyio

from optio_agents.conversation import ClaudeCodeConversation
from optio_agents.conversation.claude import claude_code
from optio_agents.conversation.claude.launch import ARGUMENTS, ENVIRONMENT
from optio_agents.hosts.host import Host
from optio_agents.testing.model_server import ModelServer
from optio_agents.testing.transcript import Recorder, Transcript, playing
from tests.support.components import CLAUDE, needs
from tests.support.timeouts import BOUND

# nothing of the machine's own configuration is read
OFF = ("--strict-mcp-config", "--setting-sources=")


def executable(version: str = CLAUDE) -> str:
    return str(needs(f"claude {version}"))


def surroundings(root: Path, api: ModelServer, **more: str) -> dict[str, str]:
    """An environment with a HOME and a TMPDIR below *root*, a dummy key and our API."""
    home, temporary = root / "home", root / "tmp"
    home.mkdir(parents=True, exist_ok=True)
    temporary.mkdir(exist_ok=True)
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "TMPDIR": str(temporary),
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "dummy-key",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "1",
        **ENVIRONMENT,
        **more,
    }


Event: TypeAlias = dict[str, Any]


@dataclass
class Talk:
    """A conversation, all that was heard in it, and what a test may do to the world behind it."""

    conversation: ClaudeCodeConversation
    api: ModelServer | None = None  # None: a transcript plays
    work: Path = field(default_factory=Path)
    handle: Any = None
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._came = anyio.Event()
        self.conversation.on_event(self._hear)

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self._came.set()
        self._came = anyio.Event()

    async def heard(self, matches: Callable[[Event], object], *, count: int = 1) -> Event:
        """Wait until *count* events have come that match; gives the last of them."""
        while len(found := [event for event in self.events if matches(event)]) < count:
            await self._came.wait()
        return found[count - 1]

    @property
    def real(self) -> bool:
        return self.api is not None

    async def held(self, name: str) -> None:
        """The model stands in mid-turn at the step held as *name*."""
        if self.api is not None:
            await self.api.held(name)

    def release(self, name: str) -> None:
        if self.api is not None:
            self.api.release(name)


@asynccontextmanager
async def over_pipes(
    root: Path,
    *arguments: str,
    version: str = CLAUDE,
    env: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    record: list[Recorder] | None = None,
    **options: Any,
) -> AsyncIterator[Talk]:
    """The CLI as a child of ours, attached as any caller would attach it."""
    work = root / "work"
    work.mkdir(parents=True, exist_ok=True)
    async with ModelServer(headers).serve() as api:
        handle: Any = await asyncio.create_subprocess_exec(
            executable(version),
            *ARGUMENTS,
            *OFF,
            *arguments,
            cwd=work,
            env={**surroundings(root, api), **(env or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=64 << 20,
        )
        if record is not None:
            handle = Recorder(handle)
            record.append(handle)
        conversation = ClaudeCodeConversation(**options)
        conversation.attach(handle)
        with anyio.fail_after(BOUND):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(conversation.run_reader)
                try:
                    yield Talk(conversation, api, work, handle)
                finally:
                    await conversation.close()


@asynccontextmanager
async def from_transcript(name: str, **options: Any) -> AsyncIterator[Talk]:
    async with playing(Transcript.named(name), **options) as conversation:
        yield Talk(conversation)


@asynccontextmanager
async def journaled(
    host: Host,
    root: Path,
    api: ModelServer,
    *,
    version: str = CLAUDE,
    env: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    **options: Any,
) -> AsyncIterator[Talk]:
    """The CLI as a detached agent on *host*, with its HOME and TMPDIR below *root*."""
    async with claude_code(
        host,
        executable=executable(version),
        env={**surroundings(root, api), **(env or {})},
        env_base="empty",
        arguments=[*OFF, *arguments],
        **options,
    ) as conversation:
        yield Talk(conversation, api, Path(host.workdir))
