"""One suite of behaviours: on the real CLI, and in milliseconds on what it once said."""

from __future__ import annotations

import anyio
import pytest

from optio_agents.conversation import ClaudeCodeConversation, Conversation
from optio_agents.testing.transcript import names
from tests.behaviours import BEHAVIOURS
from tests.claude_cli import from_transcript, over_pipes


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_transcript(name):
    with anyio.fail_after(5):
        async with from_transcript(name) as talk:
            await BEHAVIOURS[name].play(talk)


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_real_cli(name, tmp_path):
    with anyio.fail_after(20):
        async with over_pipes(tmp_path, *BEHAVIOURS[name].arguments) as talk:
            await BEHAVIOURS[name].play(talk)


def test_every_behaviour_is_recorded_and_nothing_else():
    assert names() == sorted(BEHAVIOURS)


def test_it_is_a_conversation():
    assert isinstance(ClaudeCodeConversation(), Conversation)
