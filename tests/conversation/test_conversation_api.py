"""What the model's API can do to a turn, and input of every size, with the real CLI."""

from __future__ import annotations

import json

import pytest

from optio_agents.conversation import TurnResult
from optio_agents.testing.model_server import scripted
from tests.support.claude.claude_cli import over_pipes


@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
async def test_a_failed_call_is_a_failed_turn_with_its_reason(status, tmp_path):
    async with over_pipes(tmp_path) as talk:
        messages = list[str]()
        talk.conversation.on_message(messages.append)
        result = await talk.conversation.ask(
            scripted({"error": status, "message": "so it is", "retry_after": 0})
        )
        assert (result.ok, result.is_error, result.text) == (False, True, "")
        assert result.api_error_status == status
        assert result.failure
        assert result.terminal_reason == "api_error"
        assert not talk.conversation.is_pending()
        retries = [one for one in talk.events if one.get("subtype") == "api_retry"]
        assert bool(retries) == (status != 400)
        assert (await talk.conversation.ask(scripted({"text": "fine"}))).text == "fine"
        await talk.conversation.close()
        assert messages == ["fine"]


async def test_a_prompt_that_a_hook_blocked_is_not_completed(tmp_path):
    hook = {"type": "command", "command": "grep -q FORBIDDEN && exit 2; exit 0"}
    hooks = json.dumps({"hooks": {"UserPromptSubmit": [{"hooks": [hook]}]}})
    async with over_pipes(tmp_path, "--settings", hooks) as talk:
        messages, turns = list[str](), list[TurnResult]()
        talk.conversation.on_message(messages.append)
        talk.conversation.on_turn(turns.append)
        result = await talk.conversation.ask("FORBIDDEN words")
        assert (result.ok, result.outcome, result.text) == (False, "cut", "")
        assert "blocked by hook" in (result.failure or "")
        assert "num_turns 0" in result.evidence
        assert (await talk.conversation.ask(scripted({"text": "fine"}))).outcome == "completed"
        await talk.conversation.close()
        assert [turn.outcome for turn in turns] == ["cut", "completed"]
        assert messages == ["fine"]


async def test_what_the_cli_carries_out_itself_is_an_answer_to_a_command_alone(tmp_path):
    async with over_pipes(tmp_path) as talk:
        result = await talk.conversation.ask("/context", command=True)
        assert (result.outcome, result.num_turns) == ("completed", 0)
        assert result.text


async def test_a_call_that_succeeds_on_its_second_try_is_an_answer(tmp_path):
    async with over_pipes(tmp_path) as talk:
        result = await talk.conversation.ask(scripted({"error": 529, "retries": 1, "text": "fine"}))
        assert result.text == "fine"


async def test_a_connection_that_always_breaks_is_a_failed_turn(tmp_path):
    async with over_pipes(tmp_path) as talk:
        result = await talk.conversation.ask(scripted({"abort": True}))
        assert (result.ok, result.api_error_status) == (False, None)
        assert result.failure


async def test_a_stream_that_breaks_off_is_asked_for_once_more_and_answered_whole(tmp_path):
    async with over_pipes(tmp_path) as talk:
        result = await talk.conversation.ask(scripted({"text": "half of it", "cut": True}))
        # the CLI then asks without a stream
        assert result.text == "half of it"
        assert [request.get("stream", False) for request in talk.api.requests][-1] is False


async def test_the_limits_of_an_account_are_told(tmp_path):
    headers = {
        "anthropic-ratelimit-unified-status": "allowed_warning",
        "anthropic-ratelimit-unified-reset": "1795210350",
        "anthropic-ratelimit-unified-5h-utilization": "0.93",
        "anthropic-ratelimit-unified-5h-reset": "1795210350",
        "anthropic-ratelimit-unified-5h-status": "allowed_warning",
    }
    env = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "dummy-token"}
    async with over_pipes(tmp_path, env=env, headers=headers) as talk:
        assert (await talk.conversation.ask(scripted({"text": "fine"}))).text == "fine"
        event = await talk.heard(lambda event: event["type"] == "rate_limit_event")
        assert event["rate_limit_info"]["status"].startswith("allowed")
        limit = talk.conversation.rate_limit
        assert limit is not None
        assert limit.resets_at == 1795210350
        assert talk.conversation.state.phase != "rate limited"


async def test_long_input_and_a_long_line_pass(tmp_path):
    content = "x" * (3 << 20)
    step = {"tool": "Write", "input": {"file_path": str(tmp_path / "work/big"), "content": content}}
    async with over_pipes(tmp_path, "--allowed-tools=Write") as talk:
        # the script of 3 MiB would be refused as a prompt, so the model reads it from a file
        talk.api.scripts["big"] = [step, {"text": "written"}]
        result = await talk.conversation.ask("y" * 400_000 + " @@big@@")
        assert result.text == "written"
        used = await talk.heard(lambda event: "tool_use" in str(event.get("message"))[:2000])
        assert used["message"]["content"][0]["input"]["content"] == content
        assert (tmp_path / "work/big").stat().st_size == len(content)


async def test_a_prompt_that_is_too_long_is_refused_and_the_conversation_goes_on(tmp_path):
    async with over_pipes(tmp_path) as talk:
        result = await talk.conversation.ask("y" * (5 << 20))
        assert "too long" in str(result.failure).lower()
        assert (await talk.conversation.ask(scripted({"text": "fine"}))).text == "fine"


async def test_a_retry_is_a_state(tmp_path):
    async with over_pipes(tmp_path) as talk:
        states = list[str]()
        talk.conversation.on_event(lambda _: states.append(talk.conversation.state.phase))
        await talk.conversation.ask(scripted({"error": 429, "retry_after": 0}))
        assert "rate limited" in states
