"""The Agent Client Protocol as its own package (a test extra) has it: what is said fits its models.

Its models raise for a kind of update, of content or of option that they do not know. A client must
take those for what they are, news of an agent younger than itself, so they are no part of us.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from acp import schema
from pydantic import BaseModel, ValidationError

from optio_agents.conversation.acp import wire
from optio_agents.conversation.acp.dialect import AcpDialect, AcpSetup
from optio_agents.conversation.contract import Attachment, PermissionDecision, ToolServer
from optio_agents.conversation.dialect import PermissionAsked, ReplyOwed, TurnOver
from optio_agents.conversation.wire import OutputLines
from optio_agents.testing.transcript import Line, Transcript, names
from tests.support.agents.real_agents import AGENTS

SPEAKERS = [name for name in AGENTS if name not in {"claude", "codex"}]
ASKED: dict[str, type[BaseModel]] = {
    "initialize": schema.InitializeRequest,
    "session/new": schema.NewSessionRequest,
    "session/load": schema.LoadSessionRequest,
    "session/resume": schema.ResumeSessionRequest,
    "session/fork": schema.ForkSessionRequest,
    "session/set_mode": schema.SetSessionModeRequest,
    "session/set_config_option": schema.SetSessionConfigOptionSelectRequest,
    "session/prompt": schema.PromptRequest,
    "session/cancel": schema.CancelNotification,
    "session/update": schema.SessionNotification,
    "session/request_permission": schema.RequestPermissionRequest,
}
ANSWERED: dict[str, type[BaseModel]] = {
    "initialize": schema.InitializeResponse,
    "session/new": schema.NewSessionResponse,
    "session/set_mode": schema.SetSessionModeResponse,
    "session/prompt": schema.PromptResponse,
    "session/request_permission": schema.RequestPermissionResponse,
}
# What is no part of the protocol: words of one agent's own.
THEIR_OWN = {
    "_session/steering",
    "_auth/status_update",
    "craft/drainMidTurnQueue",
    "qwen/notify/session/mode-update",
}


Fitting = tuple[type[BaseModel] | None, Any]  # the model of a message, if there is one; its body


def model_of(message: dict[str, Any], asked: dict[Any, str]) -> Fitting:
    """*asked*: the requests of the other side, one of which *message* may answer."""
    if isinstance(method := message.get("method"), str):
        return ASKED.get(method), message.get("params")
    if "error" in message:
        return schema.Error, message["error"]
    return ANSWERED.get(asked[message["id"]]), message["result"]


def lines_of(name: str) -> list[tuple[Line, type[BaseModel] | None, Any]]:
    asked: dict[str, dict[Any, str]] = {"said": {}, "heard": {}}
    found = []
    for line in Transcript.named(name).entries:
        if line.who != "exited":
            if "method" in line.message:
                asked[line.who][line.message.get("id")] = line.message["method"]
            other = asked["heard" if line.who == "said" else "said"]
            found.append((line, *model_of(line.message, other)))
    return found


def fits(model: type[BaseModel], body: Any) -> bool:
    """It has all that it must, and nothing that the model does not know."""
    checked = model.model_validate(body)
    return checked.model_dump(mode="json", by_alias=True, exclude_unset=True) == body


@pytest.mark.parametrize("name", [name for agent in SPEAKERS for name in names(agent)])
def test_what_was_said_fits_both(name):
    dialect, heard, prompts = AcpDialect(AcpSetup("/home/agent/work")), 0, set[object]()
    for line, model, body in lines_of(name):
        message = line.message
        if model is None:
            assert {message.get("method", "_session/steering")} <= THEIR_OWN, line
        elif line.who == "said":
            assert fits(model, body), line
        else:
            model.model_validate(body)
        if model is schema.PromptRequest:
            dialect.sent(message["id"])
            prompts.add(message["id"])
        if line.who == "heard":
            data = json.dumps(message).encode()
            events, facts = dialect.read(OutputLines([data], len(data), (heard,), {}), 0.0)
            heard += 1
            kinds = {type(fact) for fact in facts}
            assert events == [message]
            assert (PermissionAsked in kinds) == (model is schema.RequestPermissionRequest)
            assert (TurnOver in kinds) == ("method" not in message and message["id"] in prompts)


# -- what we say today, also what no recording has

SESSION = {"sessionId": "s-1"}
SERVERS = (
    ToolServer("far", url="https://example.com/mcp", headers={"Authorization": "x"}),
    ToolServer("near", command=("serve", "--all"), env={"A": "b"}),
)
FILES = (
    Attachment("image/png", b"PNG"),
    Attachment("audio/wav", b"RIFF"),
    Attachment("text/plain", b"words", name="a b.txt"),
    Attachment("application/pdf", b"%PDF", name="c.pdf"),
    Attachment("text/html", url="https://example.com/", name="page"),
)


def sent(data: bytes, answers: str = "") -> Fitting:
    (line,) = data.splitlines()
    message = json.loads(line)
    return model_of(message, {message.get("id"): answers})


def request_of(*kinds: str) -> Any:
    options = [{"optionId": f"o-{kind}", "name": kind, "kind": kind} for kind in kinds]
    params = {**SESSION, "toolCall": {"toolCallId": "t-1"}, "options": options}
    event = {"jsonrpc": "2.0", "id": 0, "method": "session/request_permission", "params": params}
    assert fits(schema.RequestPermissionRequest, params)
    return wire.permission_request(event, 0, {}, 0)


def test_what_we_say_fits():
    able = {"image": True, "audio": True, "embeddedContext": True}
    for data in (
        wire.initialize(),
        wire.prompt("s-1", "u-1", "words"),
        wire.prompt("s-1", "u-1", "words", FILES, able),
        wire.cancel("s-1"),
        wire.setting("optio-1", "s-1", "mode", "ask"),
        wire.option("optio-1", "s-1", "model", "big"),
    ):
        model, body = sent(data)
        assert model is not None
        assert fits(model, body), data


@pytest.mark.parametrize("kinds", [("allow_once", "allow_always", "reject_once"), ()])
@pytest.mark.parametrize(
    "decision",
    [
        PermissionDecision("allow"),
        PermissionDecision("deny"),
        PermissionDecision("deny", message="no", interrupt=True),
        "what is none",
    ],
)
def test_our_answers_fit(kinds, decision):
    request = request_of(*kinds)
    for line in wire.permission_answer(request, decision).splitlines():
        model, body = sent(line, "session/request_permission")
        assert model is not None
        assert fits(model, body), line
    assert fits(*sent(wire.withdrawal(request), "session/request_permission"))


@pytest.mark.parametrize(
    ("continues", "fork", "able", "verb"),
    [
        (None, False, {}, "session/new"),
        ("s-0", False, {"loadSession": True}, "session/load"),
        ("s-0", False, {"sessionCapabilities": {"resume": {}}}, "session/resume"),
        ("s-0", True, {"sessionCapabilities": {"fork": {}}}, "session/fork"),
    ],
)
def test_our_handshake_fits(continues, fork, able, verb):
    setup = AcpSetup("/work", continues=continues, fork=fork, mcp_servers=SERVERS)
    greeting = {
        "protocolVersion": 1,
        "agentCapabilities": {"mcpCapabilities": {"http": True}, **able},
    }
    assert fits(schema.InitializeResponse, greeting)
    line = json.dumps({"jsonrpc": "2.0", "id": wire.INITIALIZE, "result": greeting}).encode()
    _, facts = AcpDialect(setup).read(OutputLines([line], len(line), (0,), {}), 0.0)
    (owed,) = facts
    assert isinstance(owed, ReplyOwed)
    assert json.loads(owed.data)["method"] == verb
    model, body = sent(owed.data)
    assert model is not None
    assert fits(model, body)


def update(**about: Any) -> dict[str, Any]:
    return {"method": "session/update", "params": {**SESSION, "update": about}}


CHUNK, CALL = "agent_message_chunk", {"sessionUpdate": "tool_call_update", "toolCallId": "t-1"}
ODD = {
    "a kind of update": update(sessionUpdate="dreams", content="of sheep"),
    "a kind of content": update(sessionUpdate=CHUNK, content={"type": "smell", "data": "x"}),
    "an answer without a kind": update(sessionUpdate=CHUNK, content={"text": "words"}),
    "a stop reason": {"id": "u-1", "result": {"stopReason": "bored"}},
    "a kind of option": {
        "id": 0,
        "method": "session/request_permission",
        "params": {
            **SESSION,
            "toolCall": {"toolCallId": "t-1"},
            "options": [{"optionId": "o", "name": "Perhaps", "kind": "perhaps"}],
        },
    },
}


@pytest.mark.parametrize("what", ODD)
def test_what_their_models_refuse_is_an_event_here(what):
    message = {"jsonrpc": "2.0", **ODD[what]}
    model, body = model_of(message, {"u-1": "session/prompt"})
    assert model is not None
    with pytest.raises(ValidationError):
        model.model_validate(body)
    dialect = AcpDialect(AcpSetup("/work"))
    dialect.sent("u-1")
    line = json.dumps(message).encode()
    events, facts = dialect.read(OutputLines([line], len(line), (0,), {}), 0.0)
    assert events == [message]
    if what == "a stop reason":
        assert [fact.turn.outcome for fact in facts if isinstance(fact, TurnOver)] == ["cut"]
    elif what == "a kind of option":  # nothing that it does not know is chosen: it denies
        (asked,) = facts
        assert isinstance(asked, PermissionAsked)
        answer = wire.permission_answer(asked.request, PermissionDecision("allow"))
        assert json.loads(answer)["result"] == {"outcome": {"outcome": "cancelled"}}
