"""One suite of behaviours: on the real CLI, and in milliseconds on what it once said."""

from __future__ import annotations

import shlex

import anyio
import pytest

from optio_agents.conversation import ClaudeCodeConversation, Conversation
from optio_agents.conversation.claude.launch import ARGUMENTS
from optio_agents.hosts.host import LocalHost
from optio_agents.testing.model_server import ModelServer, scripted
from optio_agents.testing.transcript import names
from tests.support.claude.behaviours import BEHAVIOURS
from tests.support.claude.claude_cli import (
    OFF,
    executable,
    from_transcript,
    over_pipes,
    surroundings,
)
from tests.support.timeouts import BOUND


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_transcript(name):
    with anyio.fail_after(BOUND):
        async with from_transcript(name) as talk:
            await BEHAVIOURS[name].play(talk)


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_real_cli(name, tmp_path):
    with anyio.fail_after(BOUND):
        async with over_pipes(tmp_path, *BEHAVIOURS[name].arguments) as talk:
            await BEHAVIOURS[name].play(talk)


def test_every_behaviour_is_recorded_and_nothing_else():
    assert names() == sorted(BEHAVIOURS)


def test_it_is_a_conversation():
    assert isinstance(ClaudeCodeConversation(), Conversation)


async def test_it_is_attached_to_what_a_host_has_launched(tmp_path):
    quiet = " ".join([*ARGUMENTS, *OFF])
    async with ModelServer().serve() as api, LocalHost(str(tmp_path / "task")) as host:
        await host.setup_workdir()
        handle = await host.launch_subprocess(
            f"env -i {shlex.join(f'{k}={v}' for k, v in surroundings(tmp_path, api).items())} "
            f"{executable()} {quiet}",
            stdin=True,
            merge_stderr=False,
        )
        conversation = ClaudeCodeConversation(close_timeout=1.0)
        conversation.attach(handle)
        with anyio.fail_after(BOUND):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(conversation.run_reader)
                result = await conversation.ask(scripted({"text": "hello"}))
                assert result.text == "hello"
                await conversation.close()
        assert handle.ended or await handle.wait() == 0
