"""The model on loopback: one script, in the words of four APIs."""

import json
import urllib.error
import urllib.request

import anyio
import anyio.to_thread
import pytest

from optio_agents.testing.model_server import ModelServer, scripted

SCHEMA = {
    "type": "object",
    "properties": {"command": {"type": "string"}, "description": {"type": "string"}},
    "required": ["command", "description"],
}


def messages(text, *, tools=True):
    offered = [{"name": "Bash", "input_schema": SCHEMA}] if tools else []
    return "/v1/messages", {
        "model": "m",
        "messages": [{"role": "user", "content": text}],
        "tools": offered,
    }


def responses(text, *, tools=True):
    offered = [{"type": "function", "name": "bash", "parameters": SCHEMA}] if tools else []
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    return "/v1/responses", {"model": "m", "input": [said], "tools": offered}


def chat(text, *, tools=True):
    tool = {"type": "function", "function": {"name": "Bash", "parameters": SCHEMA}}
    said = [{"role": "user", "content": text}]
    return "/v1/chat/completions", {
        "model": "m",
        "messages": said,
        "tools": [tool] if tools else [],
    }


def gemini(text, *, tools=True):
    tool = {"functionDeclarations": [{"name": "run_shell_command", "parameters": SCHEMA}]}
    return "/v1beta/models/m:generateContent", {
        "contents": [{"role": "user", "parts": [{"text": text}]}],
        "tools": [tool] if tools else [],
    }


SHAPES = [messages, responses, chat, gemini]


async def post(server, path, body):
    def fetch():
        request = urllib.request.Request(
            server.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await anyio.to_thread.run_sync(fetch)


@pytest.mark.parametrize("shape", SHAPES)
async def test_it_uses_the_agents_own_tool_for_commands(shape):
    async with ModelServer().serve() as server:
        status, answer = await post(server, *shape(scripted({"shell": "touch made"})))
    assert status == 200
    assert "touch made" in answer
    assert "scripted" in answer  # the description, which is required


@pytest.mark.parametrize("shape", SHAPES)
async def test_it_fails_as_the_script_says(shape):
    async with ModelServer().serve() as server:
        failing = shape(scripted({"error": 429, "message": "not now", "retries": 1}))
        assert (await post(server, *failing))[0] == 429
        assert (await post(server, *failing))[0] == 200


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_asked_on_the_side_plays_no_script(shape):
    async with ModelServer().serve() as server:
        _, answer = await post(server, *shape(scripted({"text": "secret"}), tools=False))
    assert "secret" not in answer


@pytest.mark.parametrize("shape", [messages, responses, chat])
async def test_it_streams_the_same(shape):
    path, body = shape(scripted({"text": "hello there", "chunks": 3}))
    async with ModelServer().serve() as server:
        _, whole = await post(server, path, body)
        _, streamed = await post(server, path, {**body, "stream": True})
    assert "hello there" in whole
    assert streamed.count("data: ") > 5
    assert all(piece in streamed for piece in ("hell", "o th", "ere"))


async def test_gemini_streams_by_another_path():
    path, body = gemini(scripted({"text": "hello there"}))
    async with ModelServer().serve() as server:
        _, streamed = await post(server, path.replace(":g", ":streamG"), body)
    assert "hello " in streamed
    assert "STOP" in streamed
