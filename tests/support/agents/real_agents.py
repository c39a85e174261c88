"""Real agents of several makes on a model of ours, in surroundings made from nothing.

One row each: how it is started, what it needs in its HOME, which dialect it speaks.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from optio_agents.conversation import ClaudeCodeConversation
from optio_agents.conversation.acp.dialect import AcpDialect, AcpSetup
from optio_agents.conversation.acp.wire import FIRST_INPUT as ACP_FIRST
from optio_agents.conversation.claude.launch import ARGUMENTS
from optio_agents.conversation.codex.dialect import CodexDialect, CodexSetup
from optio_agents.conversation.codex.wire import FIRST_INPUT as CODEX_FIRST
from optio_agents.conversation.machinery import AgentConversation
from optio_agents.testing.model_server import ModelServer
from optio_agents.testing.transcript import Recorder, Transcript, TranscriptPlayer
from tests.support.claude import claude_cli
from tests.support.claude.claude_cli import Talk
from tests.support.components import installed_agent
from tests.support.timeouts import BOUND


@dataclass(frozen=True)
class RealAgent:
    """One make. *settle* writes what it wants in its HOME, and gives what it wants in env."""

    name: str
    program: str
    arguments: tuple[str, ...]
    settle: Callable[[Path, str], Mapping[str, str]]
    converse: Callable[[str], AgentConversation]
    first: bytes = b""
    traits: frozenset[str] = field(default_factory=frozenset)

    def argv(self) -> list[str]:
        if self.name == "claude":
            return [claude_cli.executable(), *ARGUMENTS, *claude_cli.OFF]
        return [str(installed_agent(self.name, self.program)), *self.arguments]

    def surroundings(self, root: Path, model: ModelServer) -> dict[str, str]:
        if self.name == "claude":
            return claude_cli.surroundings(root, model)
        home, temporary = root / "home", root / "tmp"
        home.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(exist_ok=True)
        bin_of = installed_agent(self.name, self.program).parent
        path = f"{bin_of}:{bin_of.parent / 'node' / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        usual = {"PATH": path, "HOME": str(home), "TMPDIR": str(temporary)}
        return {**usual, **self.settle(home, model.url)}


def _file(home: Path, name: str, text: str) -> None:
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).write_text(text)


def _codex(home: Path, url: str) -> Mapping[str, str]:
    settings = (
        'model = "gpt-5"\nmodel_provider = "x"\n[model_providers.x]\nname = "x"\n'
        f'base_url = "{url}/v1"\nenv_key = "X_KEY"\nwire_api = "responses"\n'
        "request_max_retries = 1\nstream_max_retries = 1\n"
    )
    _file(home, ".codex/config.toml", settings)
    return {"X_KEY": "dummy-key"}


def _gemini(home: Path, url: str) -> Mapping[str, str]:
    settings = {"security": {"auth": {"selectedType": "gemini-api-key"}}}
    _file(home, ".gemini/settings.json", json.dumps(settings))
    return {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": "dummy-key"}


def _kimi(home: Path, url: str) -> Mapping[str, str]:
    settings = (
        'default_model = "y"\n[providers.x]\ntype = "openai"\n'
        f'base_url = "{url}/v1"\napi_key = "dummy-key"\n'
        '[models.y]\nprovider = "x"\nmodel = "gpt-5"\nmax_context_size = 100000\n'
    )
    _file(home, ".kimi-code/config.toml", settings)
    return {}


def _qwen(home: Path, url: str) -> Mapping[str, str]:
    _file(home, ".qwen/settings.json", '{"security": {"auth": {"selectedType": "openai"}}}')
    keys = {"OPENAI_API_KEY": "dummy-key", "OPENAI_MODEL": "gpt-5"}
    return {"OPENAI_BASE_URL": f"{url}/v1", **keys}


def _opencode(home: Path, url: str) -> Mapping[str, str]:
    settings = {
        "provider": {"anthropic": {"options": {"baseURL": f"{url}/v1", "apiKey": "dummy-key"}}},
        "model": "anthropic/claude-sonnet-4-5",
        "permission": {"bash": "ask", "edit": "ask"},
        "autoupdate": False,
    }
    _file(home, ".config/opencode/opencode.json", json.dumps(settings))
    return {"OPENCODE_DISABLE_MODELS_FETCH": "1"}


def _copilot(home: Path, url: str) -> Mapping[str, str]:
    return {
        "COPILOT_PROVIDER_BASE_URL": f"{url}/v1",
        "COPILOT_PROVIDER_API_KEY": "dummy-key",
        "COPILOT_MODEL": "gpt-5",
        "COPILOT_OFFLINE": "true",
    }


def _claude(home: Path, url: str) -> Mapping[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "dummy-key",
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "1",
    }


def _acp(label: str) -> Callable[[str], AgentConversation]:
    return lambda work: AgentConversation(AcpDialect(AcpSetup(work)), agent_label=label)


def _speaks_codex(work: str) -> AgentConversation:
    return AgentConversation(CodexDialect(CodexSetup(work)), agent_label="codex")


_ACP = ACP_FIRST[0][1]
AGENTS = {
    one.name: one
    for one in (
        RealAgent("claude", "claude", (), lambda *_: {}, lambda _: ClaudeCodeConversation()),
        RealAgent("codex", "codex", ("app-server",), _codex, _speaks_codex, CODEX_FIRST[0][1]),
        RealAgent("gemini", "gemini", ("--acp",), _gemini, _acp("gemini"), _ACP),
        RealAgent("kimi", "kimi", ("acp",), _kimi, _acp("kimi"), _ACP),
        RealAgent("opencode", "opencode", ("acp",), _opencode, _acp("opencode"), _ACP),
        RealAgent("qwen", "qwen", ("--acp",), _qwen, _acp("qwen"), _ACP),
        RealAgent("copilot", "copilot", ("--acp",), _copilot, _acp("copilot"), _ACP),
        RealAgent(
            "claude-agent-acp", "claude-agent-acp", (), _claude, _acp("claude-agent-acp"), _ACP
        ),
    )
}


@asynccontextmanager
async def over_pipes(
    agent: RealAgent, root: Path, *, record: list[Recorder] | None = None
) -> AsyncIterator[Talk]:
    """The agent as a child of ours, attached as any caller would attach it."""
    work = root / "work"
    work.mkdir(parents=True, exist_ok=True)
    async with ModelServer().serve() as model:
        with (root / "stderr").open("wb") as errors:
            handle: Any = await asyncio.create_subprocess_exec(
                *agent.argv(),
                cwd=work,
                env=agent.surroundings(root, model),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                limit=64 << 20,
            )
        if record is not None:
            record.append(Recorder(handle))
        async with _talking(agent, record[-1] if record else handle, str(work)) as conversation:
            try:
                yield Talk(conversation, model, work, handle)
            finally:
                if record:  # whose group nobody knows: some are started by a wrapper
                    with suppress(ProcessLookupError):
                        os.killpg(handle.pid, signal.SIGKILL)


@asynccontextmanager
async def from_transcript(agent: RealAgent, name: str) -> AsyncIterator[Talk]:
    """What it said when it was recorded."""
    handle = TranscriptPlayer(Transcript.named(f"{agent.name}/{name}"))
    async with _talking(agent, handle, "/home/agent/work") as conversation:
        yield Talk(conversation)


@asynccontextmanager
async def _talking(agent: RealAgent, handle: Any, work: str) -> AsyncIterator[Any]:
    conversation = agent.converse(work)
    conversation.attach(handle)
    if agent.first:
        (handle.stdin if hasattr(handle, "stdin") else handle).write(agent.first)
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(conversation.run_reader)
            try:
                yield conversation
            finally:
                await conversation.close()
