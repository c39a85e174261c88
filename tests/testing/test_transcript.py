"""A transcript as a test double: recorded once, played as often as wanted, strict where it ends."""

from __future__ import annotations

import anyio
import pytest

from optio_agents.conversation import ClaudeCodeConversation, ConversationClosed, PermissionDecision
from optio_agents.testing.transcript import (
    Line,
    Recorder,
    Transcript,
    TranscriptPlayer,
    names,
    playing,
)
from tests.support.timeouts import BOUND

HELLO = {"type": "user", "uuid": "u1", "message": {"role": "user", "content": "hello"}}
RESULT = {"type": "result", "subtype": "success", "is_error": False, "result": "hi"}
ANSWERED = {**RESULT, "user_message_uuids": ["u1"]}


async def test_my_own_handler_is_tested_without_a_cli():
    """What a user's test looks like."""
    asked = list[str]()

    def allow(request):
        asked.append(request.input["command"])
        return PermissionDecision("allow")

    with anyio.fail_after(BOUND):
        async with playing(Transcript.named("permission-allowed")) as conversation:
            conversation.on_permission_request(allow)
            result = await conversation.ask("do it")
    assert (result.text, asked) == ("touched", ["touch made"])


async def test_ids_of_the_recording_become_those_of_the_moment():
    transcript = Transcript([Line("said", HELLO), Line("heard", ANSWERED)])
    with anyio.fail_after(BOUND):
        async with playing(transcript) as conversation:
            result = await conversation.ask("something else")
            assert result.text == "hi"
            assert len(result.answered) == 1
            assert result.answered != ("u1",)


async def test_it_ends_as_it_ended():
    transcript = Transcript(
        [Line("said", HELLO), Line("exited", {"code": 3, "stderr": "went wrong"})]
    )
    with anyio.fail_after(BOUND):
        async with playing(transcript) as conversation:
            with pytest.raises(ConversationClosed, match="exited with 3: went wrong"):
                await conversation.ask("hello")


async def test_a_message_without_a_place_ends_it_and_says_so():
    with anyio.fail_after(BOUND):
        async with playing(Transcript([Line("said", HELLO)])) as conversation:
            with pytest.raises(ConversationClosed, match="no place for"):
                await conversation.set_model("x")


async def test_what_is_said_early_waits_for_its_place():
    ready = {"type": "system", "subtype": "status"}
    again = {**HELLO, "uuid": "u2"}
    transcript = Transcript(
        [
            Line("heard", ready),
            Line("said", HELLO),
            Line("heard", ANSWERED),
            Line("said", again),
            Line("heard", {**RESULT, "user_message_uuids": ["u2"], "result": "two"}),
        ]
    )
    results = list[str]()
    with anyio.fail_after(BOUND):
        async with playing(transcript) as conversation, anyio.create_task_group() as tasks:

            async def ask() -> None:
                results.append((await conversation.ask("x")).text)

            tasks.start_soon(ask)
            tasks.start_soon(ask)
    assert results == ["hi", "two"]


async def test_recorded_saved_loaded_and_played_again(tmp_path):
    secret = {"type": "system", "subtype": "init", "cwd": "/home/somebody/work"}
    source = Transcript([Line("heard", secret), Line("said", HELLO), Line("heard", ANSWERED)])
    recorder = Recorder(TranscriptPlayer(source))
    conversation = ClaudeCodeConversation()
    conversation.attach(recorder)
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(conversation.run_reader)
            assert (await conversation.ask("hello")).text == "hi"
            await conversation.close()
    path = tmp_path / "mine.jsonl"
    recorder.transcript().save(path, replace={"/home/somebody": "/home/agent"})
    assert "somebody" not in path.read_text()
    again = Transcript.load(path)
    assert sorted(entry.who for entry in again.entries) == ["heard", "heard", "said", "said"]
    async with playing(again) as conversation:
        with anyio.fail_after(BOUND):
            assert (await conversation.ask("hello")).text == "hi"
            assert conversation.init is not None
            assert conversation.init.cwd == "/home/agent/work"


def test_a_file_that_is_no_transcript_is_refused(tmp_path):
    path = tmp_path / "no"
    path.write_text('{"whispered": {}}\n')
    with pytest.raises(ValueError, match="no line of a transcript"):
        Transcript.load(path)


def test_ours_hold_nothing_of_the_machine_that_recorded_them():
    assert names()
    for name in names():
        text = str(Transcript.named(name).entries)
        assert "/tmp" not in text.replace("/home/agent/tmp", "")
        assert "/root" not in text
