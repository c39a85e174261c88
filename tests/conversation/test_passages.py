"""What a person reads of what an agent wrote: who said and did what."""

from __future__ import annotations

import json
import tracemalloc
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, strategies as st

from optio_agents.conversation.acp.turns import AcpPassages
from optio_agents.conversation.claude.stream_json import ClaudePassages
from optio_agents.conversation.codex.wire import CodexPassages
from optio_agents.conversation.dialect import PassageReader
from optio_agents.supervision.kinds.passages import read_queue, with_prompts
from optio_agents.testing.transcript import Transcript

READERS: dict[str, type[Any]] = {
    "": ClaudePassages,
    "codex/": CodexPassages,
    "gemini/": AcpPassages,
    "kimi/": AcpPassages,
}


def read(reader: PassageReader, *events: Any) -> list[tuple[str, str]]:
    told = [passage for event in events for passage in reader.feed(event)]
    return [(one.who, one.text) for one in (*told, *reader.close())]


def heard(name: str) -> list[Any]:
    return [one.message for one in Transcript.named(name).entries if one.who == "heard"]


@pytest.mark.parametrize("agent", READERS)
def test_a_tool_and_the_answer_are_told_in_order(agent: str) -> None:
    told = read(READERS[agent](), *heard(f"{agent}permission-allowed"))
    (tool,) = [text for who, text in told if who == "tool"]
    assert "touch made" in tool
    assert told.index(("tool", tool)) < told.index(("agent", "touched"))
    assert told[-1][0] == "turn"


@pytest.mark.parametrize("agent", READERS)
def test_chunks_are_one_message_and_turns_have_their_ends(agent: str) -> None:
    told = read(READERS[agent](), *heard(f"{agent}two-turns" if agent else "merged-messages"))
    assert [who for who, _ in told if who in ("agent", "turn")] == ["agent", "turn"] * 2


@pytest.mark.parametrize("agent", list(READERS)[1:])
def test_what_a_person_said_stands_in_front_of_the_turn_that_it_opened(agent: str) -> None:
    reader: PassageReader = READERS[agent]()
    passages = (one for event in heard(f"{agent}two-turns") for one in reader.feed(event))
    lines = [{"name": name, "text": name} for name in ("a", "a", "b", "c")]  # one of them twice
    lines.insert(1, {"name": "set", "set": {"model": "other"}})
    queue = BytesIO("".join(json.dumps(line) + "\n" for line in lines).encode())
    prompts = read_queue(queue)
    told = [*passages] if reader.has_prompts else [*with_prompts(passages, prompts)]
    assert [one.who for one in told][:6] == ["person", "agent", "turn"] * 2
    if not reader.has_prompts:
        persons = [one.text for one in told if one.who == "person"]
        assert (persons, [*prompts]) == (["a", "b"], ["c"])  # the last waits


@pytest.mark.parametrize("agent", list(READERS)[1:])
def test_a_turn_that_failed_says_why(agent: str) -> None:
    told = read(READERS[agent](), *heard(f"{agent}not-logged-in"))
    assert told[-1][0] == "turn"
    assert "401" in told[-1][1]


def test_a_message_without_an_end_is_told_in_pieces() -> None:
    update = {"sessionUpdate": "agent_message_chunk", "content": {"text": "x" * 1000}}
    line = json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": {"update": update}})
    reader, size = AcpPassages(), 0
    tracemalloc.start()
    try:
        for _ in range(20_000):
            size += sum(len(one.text) for one in reader.feed(json.loads(line)))
        size += sum(len(one.text) for one in reader.close())
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert size == 20_000_000


def test_a_block_that_nobody_knows_is_passed_over() -> None:
    assert (
        read(ClaudePassages(), {"type": "assistant", "message": {"content": [{"type": 3}]}}) == []
    )


WORDS = st.sampled_from(
    [
        *("session/update", "agent_message_chunk", "tool_call", "tool_call_update", "completed"),
        *("item/completed", "turn/completed", "userMessage", "agentMessage", "commandExecution"),
        *("fileChange", "mcpToolCall", "user", "assistant", "result", "text", "tool_use"),
    ]
)
KEYS = st.sampled_from(
    [
        *("method", "params", "update", "sessionUpdate", "content", "text", "toolCallId", "status"),
        *("item", "type", "turn", "error", "id", "changes", "message", "input", "name", "rawInput"),
        *("result", "stopReason", "title", "command", "arguments", "tool", "subtype"),
    ]
)
JSON = st.recursive(
    st.none() | st.integers(-3, 3) | st.text("ab", max_size=3) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)


@pytest.mark.parametrize("reader", [ClaudePassages, CodexPassages, AcpPassages])
@given(events=st.lists(st.dictionaries(KEYS, JSON, max_size=5), max_size=5))
def test_whatever_is_written_can_be_read(reader: type[Any], events: list[Any]) -> None:
    assert all(isinstance(text, str) for _, text in read(reader(), *events))
