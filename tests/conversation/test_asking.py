"""What is asked of an agent beyond a text: a typed answer, files, pieces, its context."""

# ruff: noqa: ASYNC110  # nobody else needs the loop

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from optio_agents.conversation import AnswerUnfit, Attachment
from optio_agents.hosts.host import LocalHost
from optio_agents.schemas import AnswerShape
from optio_agents.testing.model_server import ModelServer, scripted
from tests.support.agents.real_agents import AGENTS, over_pipes
from tests.support.claude import claude_cli
from tests.support.components import CLAUDE, OLDER_CLAUDE
from tests.support.timeouts import BOUND

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0"
    "000003010100c9fe92ef0000000049454e44ae426082"
)


class City(BaseModel):
    name: str
    people: int


FITS = '{"name": "Oslo", "people": 700000}'


async def test_an_answer_that_does_not_fit_is_asked_for_again(tmp_path):
    steps = {"text": "It is Oslo."}, {"text": '{"name": "Oslo"}'}, {"text": f"Here:\n{FITS}"}
    with anyio.fail_after(BOUND):
        async with over_pipes(AGENTS["claude"], tmp_path) as talk:
            turn = await talk.conversation.ask(scripted(*steps), returns=City)
            assert turn.value == City(name="Oslo", people=700000)
            assert "people" in str(talk.api.requests), "what was wrong is told"
            with pytest.raises(AnswerUnfit, match="it is no JSON"):
                await talk.conversation.ask(
                    scripted({"text": "no"}, {"text": "no"}), returns=City, tries=2
                )


@pytest.mark.parametrize("version", [CLAUDE, OLDER_CLAUDE])
async def test_claude_sees_itself_to_the_answer_that_it_is_started_for(version, tmp_path):
    """What does not fit it refuses by itself; a model that gives none at all is asked again."""
    wrong = {"tool": "StructuredOutput", "input": {"name": "Oslo"}}
    right = {"tool": "StructuredOutput", "input": json.loads(FITS)}
    with anyio.fail_after(BOUND):
        async with (
            ModelServer().serve() as api,
            LocalHost(str(tmp_path / "task")) as host,
            claude_cli.journaled(host, tmp_path, api, version=version, returns=City) as talk,
        ):
            turn = await talk.conversation.ask(scripted(wrong, right, {"text": "so it is"}))
            assert turn.value == json.loads(FITS)
            asked = scripted({"text": "no"}, right, {"text": "so it is"})
            turn = await talk.conversation.ask(asked, returns=City)
            assert turn.value == City(name="Oslo", people=700000)


async def test_a_turn_that_failed_is_no_answer_and_is_not_asked_again(tmp_path):
    with anyio.fail_after(BOUND):
        async with over_pipes(AGENTS["claude"], tmp_path) as talk:
            asked = scripted({"error": 400, "message": "no"}, {"text": FITS})
            turn = await talk.conversation.ask(asked, returns=City)
            assert (turn.outcome, turn.value) == ("failed", None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (FITS, 700000),
        (f"```json\n{FITS}\n```", 700000),
        (f"First {{x}}, then\n```\n{FITS}\n``` as asked", 700000),
        (f"Well: {FITS}. That is all.", 700000),
    ],
)
def test_words_around_a_value_are_forgiven(text, value):
    assert AnswerShape(City).read(text).people == value


def test_a_json_schema_is_checked_as_well():
    shape = AnswerShape({"type": "object", "required": ["n"], "properties": {"n": {"minimum": 2}}})
    assert shape.read('{"n": 3}') == {"n": 3}
    with pytest.raises(ValueError, match=r"\$\.n: 1 is less than the minimum of 2"):
        shape.read('{"n": 1}')
    with pytest.raises(ValueError, match="this is no JSON schema"):
        AnswerShape({"type": "thing"})
    assert AnswerShape(list[int]).read("[1, 2]") == [1, 2]


@pytest.mark.parametrize("agent", ["claude", "codex"])
async def test_an_image_is_shown(agent, tmp_path):
    with anyio.fail_after(BOUND):
        async with over_pipes(AGENTS[agent], tmp_path) as talk:
            attached = [Attachment("image/png", PNG, name="dot.png")]
            turn = await talk.conversation.ask(scripted({"text": "seen"}), attachments=attached)
            assert turn.text == "seen"
            assert "iVBORw0KGgo" in json.dumps(talk.api.requests)
            with pytest.raises(ValueError, match="cannot be shown a file of type x/odd"):
                await talk.conversation.send("?", attachments=[Attachment("x/odd", b"?")])
            assert (await talk.conversation.ask(scripted({"text": "on"}))).text == "on"


async def test_a_text_is_shown_and_no_image_is_dropped_beside_it(tmp_path):
    with anyio.fail_after(BOUND):
        async with over_pipes(AGENTS["gemini"], tmp_path) as talk:
            attached = [Attachment("text/plain", b"swordfish", name="word.txt")]
            turn = await talk.conversation.ask(scripted({"text": "seen"}), attachments=attached)
            assert turn.text == "seen"
            assert "swordfish" in json.dumps(talk.api.requests)
            attached.append(Attachment("image/png", PNG, name="dot.png"))
            with pytest.raises(ValueError, match="drops an image beside another file"):
                await talk.conversation.send("both", attachments=attached)


@pytest.mark.parametrize("agent", ["claude", "kimi"])
async def test_it_tells_piece_by_piece_what_it_says(agent, tmp_path):
    pieces = list[str]()

    async def ask(talk: Any) -> str:
        talk.conversation.on_text(pieces.append)
        asked = scripted({"text": "one two three four", "chunks": 4})
        return (await talk.conversation.ask(asked)).text

    with anyio.fail_after(BOUND):
        if agent == "claude":
            talking = claude_cli.over_pipes(tmp_path, "--include-partial-messages")
        else:
            talking = over_pipes(AGENTS[agent], tmp_path)
        async with talking as talk:
            assert await ask(talk) == "one two three four"
            # one says so behind its turn
            while (usage := await talk.conversation.context_usage()) is None:
                await anyio.sleep(0.02)
            await talk.conversation.close()
    assert "".join(pieces) == "one two three four"
    assert len(pieces) > 1
    assert usage.used > 0
