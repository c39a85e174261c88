"""ACP as a dialect: what the journal alone tells, and what speaks against `end_turn`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from optio_agents.conversation import PermissionDecision, ToolServer
from optio_agents.conversation.acp import wire
from optio_agents.conversation.acp.dialect import AcpDialect, AcpSetup
from optio_agents.conversation.dialect import (
    ControlAnswered,
    Limit,
    LimitChanged,
    MessageRead,
    PermissionAsked,
    PermissionSettled,
    Ready,
    ReplyOwed,
    TurnOver,
    Unusable,
)
from tests.support.agents.fed import FedDialect

MODES = {"currentModeId": "auto", "availableModes": [{"id": "auto"}, {"id": "default"}]}
OPTIONS = [
    {"optionId": "always", "kind": "allow_always", "name": "Allow once"},
    {"optionId": "once", "kind": "allow_once", "name": "Never"},
    {"optionId": "once-too", "kind": "allow_once"},
    {"optionId": "no", "kind": "reject_once"},
]


class Ear(FedDialect):
    def __init__(self, **setup):
        super().__init__(AcpDialect(AcpSetup("/work", **setup)))

    def greet(self, name="nobody", *, modes=None, **able):
        hello = {"protocolVersion": 1, "agentInfo": {"name": name}, "agentCapabilities": able}
        facts = self.hear(answer(wire.INITIALIZE, hello))
        entered = {"sessionId": "s1", **({"modes": modes} if modes else {})}
        return facts + self.hear(answer(wire.SESSION, entered))


def answer(request_id, result):
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def update(sort, /, **fields):
    params = {"sessionId": "s1", "update": {"sessionUpdate": sort, **fields}}
    return {"jsonrpc": "2.0", "method": "session/update", "params": params}


def chunk(text, message=None):
    named = {"messageId": message} if message else {}
    return update("agent_message_chunk", content={"type": "text", "text": text}, **named)


def ask(number, *, options=OPTIONS, **call):
    params = {"sessionId": "s1", "toolCall": {"toolCallId": "t1", **call}, "options": options}
    method = "session/request_permission"
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def owed(facts):
    return [json.loads(fact.data) for fact in facts if isinstance(fact, ReplyOwed)]


def turn_of(*events, agent="nobody", end="end_turn", **ended):
    ear = Ear()
    ear.greet(agent, modes={"availableModes": [{"id": "default"}], "currentModeId": "default"})
    ear.dialect.sent("u1")
    facts = ear.hear(*events, answer("u1", {"stopReason": end, **ended}))
    (over,) = [fact for fact in facts if isinstance(fact, TurnOver)]
    assert over.answered == ("u1",)
    return over.turn


# -- limits


def test_a_failure_that_tells_of_a_limit_holds_until_a_turn_goes_well():
    ear = Ear()
    ear.greet()
    ear.dialect.sent("u1")
    error = {"code": 429, "message": "Resource exhausted: try later"}
    limited, _, end = sorted(
        ear.hear({"jsonrpc": "2.0", "id": "u1", "error": error}), key=lambda fact: repr(type(fact))
    )
    assert limited == LimitChanged(Limit(None, "usage limit"))
    assert end.turn.outcome == "failed"
    ear.dialect.sent("u2")
    facts = ear.hear(chunk("fine"), answer("u2", {"stopReason": "end_turn"}))
    assert LimitChanged(None) in facts


# -- the handshake


def test_each_step_of_the_handshake_is_a_reply_that_is_owed_once():
    ear = Ear()
    facts = ear.greet("qwen-code", modes=MODES)
    session, mode = owed(facts)
    assert (session["method"], session["params"]["cwd"]) == ("session/new", "/work")
    assert (mode["method"], mode["params"]["modeId"]) == ("session/set_mode", "default")
    assert not ear.dialect.ready
    assert ear.hear(answer(wire.MODE, {})) == [Ready()]
    assert ear.dialect.ready
    assert ear.dialect.session_id == "s1"


@pytest.mark.parametrize("able", [{"sessionCapabilities": {"resume": {}}}, {"loadSession": True}])
def test_a_session_that_is_gone_on_with_is_put_into_the_mode_that_asks_as_well(able):
    _, mode = owed(Ear(continues="s1").greet("qwen-code", modes=MODES, **able))
    assert (mode["method"], mode["params"]["modeId"]) == ("session/set_mode", "default")


def test_a_mode_is_set_by_a_request_whose_answer_ends_no_turn():
    ear = Ear()
    ear.greet()
    words = json.loads(ear.dialect.setting("optio-7", "mode", "plan"))
    assert (words["method"], words["params"]["modeId"]) == ("session/set_mode", "plan")
    words = json.loads(ear.dialect.setting("optio-8", "model", "big"))
    assert (words["method"], words["params"]["modelId"]) == ("session/set_model", "big")
    assert ear.hear(answer("optio-7", {})) == [ControlAnswered("optio-7", {})]
    refused = {"jsonrpc": "2.0", "id": "optio-8", "error": {"code": 1, "message": "no"}}
    assert ear.hear(refused) == [ControlAnswered("optio-8", {}, "no")]
    with pytest.raises(ValueError, match="set to a word"):
        ear.dialect.setting("optio-9", "mode", True)


def test_a_model_that_is_an_option_of_the_session_is_set_as_one():
    ear = Ear()
    ear.greet()
    ear.hear(answer(wire.SESSION, {"sessionId": "s1", "configOptions": [3, {"id": "model"}]}))
    words = json.loads(ear.dialect.setting("optio-8", "model", "big"))
    assert words["method"] == "session/set_config_option"
    assert words["params"] == {"sessionId": "s1", "configId": "model", "value": "big"}
    words = json.loads(ear.dialect.setting("optio-7", "mode", "plan"))
    assert words["method"] == "session/set_mode"


def test_an_agent_that_asks_already_is_left_in_its_mode():
    assert Ready() in Ear().greet("gemini-cli", modes={**MODES, "currentModeId": "default"})


def test_a_mode_that_asks_and_cannot_be_set_refuses_the_agent():
    ear = Ear()
    ear.greet("qwen-code", modes=MODES)
    (fact,) = ear.hear({"id": wire.MODE, "error": {"code": 1, "message": "no"}})
    assert isinstance(fact, Unusable)
    (*_, fact) = Ear().greet("qwen-code", modes={"availableModes": [{"id": "yolo"}]})
    assert isinstance(fact, Unusable)


def test_an_agent_that_wants_a_login_is_refused_with_its_words():
    ear = Ear()
    ear.hear(answer(wire.INITIALIZE, {"protocolVersion": 1}))
    error = {"code": -32000, "message": "Authentication required"}
    (fact,) = ear.hear({"jsonrpc": "2.0", "id": wire.SESSION, "error": error})
    assert isinstance(fact, Unusable)
    assert "Authentication required" in fact.why


@pytest.mark.parametrize(
    ("able", "verb"),
    [
        ({"sessionCapabilities": {"resume": {}}, "loadSession": True}, "session/resume"),
        ({"loadSession": True}, "session/load"),
    ],
)
def test_resume_is_preferred_to_load(able, verb):
    (first, *_) = owed(Ear(continues="s1").greet(**able))
    assert (first["method"], first["params"]["sessionId"]) == (verb, "s1")


def test_an_agent_that_cannot_make_a_copy_says_so():
    ear = Ear(continues="old", fork=True)
    refused = ear.greet(sessionCapabilities={"resume": {}})[0]
    assert isinstance(refused, Unusable)
    assert "cannot make a copy" in refused.why
    (owed_one,) = owed(Ear(continues="old", fork=True).greet(sessionCapabilities={"fork": {}}))
    assert owed_one["method"] == "session/fork"


def test_a_server_that_it_cannot_use_is_left_out_or_the_end():
    http = {"mcpCapabilities": {"http": True}}
    optional = ToolServer("far", url="http://127.0.0.1:1/mcp", optional=True)
    wanted = ToolServer("far", url="http://127.0.0.1:1/mcp")
    for server, able, listed in (optional, http, 1), (optional, {}, 0), (wanted, http, 1):
        (owed_one,) = owed(Ear(mcp_servers=[server]).greet(**able))
        assert len(owed_one["params"]["mcpServers"]) == listed
    refused = Ear(mcp_servers=[wanted]).greet()[0]
    assert isinstance(refused, Unusable)
    assert "no MCP servers over HTTP" in refused.why


def test_replayed_history_is_not_news():
    ear = Ear(continues="s1")
    ear.hear(
        answer(wire.INITIALIZE, {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}})
    )
    ear.dialect.sent("u1")  # before: it is in the input of a process that is read again
    assert ear.hear(update("user_message_chunk"), chunk("old")) == []
    ear.hear(answer(wire.SESSION, {}))
    *_, over = ear.hear(chunk("new"), answer("u1", {"stopReason": "end_turn"}))
    assert over.turn.text == "new"


def test_history_that_is_told_behind_the_answer_of_a_load_is_not_news_either():
    ear = Ear(continues="s1")
    ear.greet("gemini-cli", modes={**MODES, "currentModeId": "default"}, loadSession=True)
    assert ear.hear(chunk("old")) == []
    ear.dialect.sent("u1")
    *_, over = ear.hear(answer("u1", {"stopReason": "end_turn"}))
    assert over.turn.outcome == "empty"


def test_no_message_is_said_while_a_turn_runs():
    ear = Ear()
    ear.greet()
    assert ear.dialect.ready
    ear.dialect.sent("u1")
    ear.hear(chunk("half"))
    assert not ear.dialect.ready
    ear.hear(answer("u1", {"stopReason": "end_turn"}))
    assert ear.dialect.ready


# -- requests


def test_the_id_zero_is_an_id_and_stays_a_number():
    ear = Ear()
    ear.greet()
    ear.dialect.sent("u1")
    (asked,) = ear.hear(ask(0, kind="execute", rawInput={"command": "ls"}))
    assert asked.request.id == "0"
    said = json.loads(ear.dialect.permission_answer(asked.request, PermissionDecision("allow")))
    assert said["id"] == 0
    assert type(said["id"]) is int


def request(**call):
    ear = Ear()
    ear.greet()
    (asked,) = ear.hear(ask(0, **call))
    return asked.request


@pytest.mark.parametrize(
    ("decision", "option"),
    [
        (PermissionDecision("allow"), "once"),
        (PermissionDecision("deny"), "no"),
        ("nonsense", "no"),
    ],
)
def test_the_first_option_of_a_kind(decision, option):
    said = json.loads(wire.permission_answer(request(), decision))
    assert said["result"]["outcome"] == {"outcome": "selected", "optionId": option}


@pytest.mark.parametrize("behavior", ["allow", "deny"])
def test_no_option_of_that_kind_denies(behavior):
    asked = request(options=OPTIONS[:1])
    said = json.loads(wire.permission_answer(asked, PermissionDecision(behavior)))
    assert said["result"]["outcome"] == {"outcome": "cancelled"}
    assert wire.behavior_of(json.dumps(said).encode(), asked) == "deny"


def test_a_changed_input_and_a_lasting_grant_are_refused():
    asked = request(rawInput={"command": "ls"})
    for decision in (
        PermissionDecision("allow", {"command": "rm"}),
        PermissionDecision("allow", updated_permissions=[{}]),
    ):
        with pytest.raises(ValueError, match="allowed what it asked"):
            wire.permission_answer(asked, decision)
    assert wire.permission_answer(asked, PermissionDecision("allow", {"command": "ls"}))


def test_the_title_is_never_shown_without_the_command():
    shown = request(kind="execute", title="List files", rawInput={"command": "rm -rf ."}).input
    assert shown == {"command": "rm -rf .", "title": "List files"}


def test_a_request_without_input_shows_what_there_is():
    assert request(kind="execute", title="touch made").input == {"command": "touch made"}


def test_the_input_that_was_told_before_is_shown():
    ear = Ear()
    ear.greet()
    ear.dialect.sent("u1")
    text = {"type": "text", "text": '{"command": "touch made"}'}
    content = [{"type": "content", "content": text}]
    ear.hear(update("tool_call", toolCallId="t1", title="Bash", kind="execute", content=content))
    (asked,) = ear.hear(ask(0, title="Bash"))
    assert asked.request.input["command"] == "touch made"
    assert asked.request.tool_name == "execute"


def test_a_file_change_shows_its_text():
    diff = {"type": "diff", "path": "/a", "oldText": "x", "newText": "y"}
    shown = request(kind="edit", title="Edit a", content=[diff, diff]).input
    assert shown["changes"] == [{"path": "/a", "old": "x", "new": "y"}]


def test_an_unknown_request_is_refused_and_nothing_else_happens():
    ear = Ear()
    ear.greet()
    unknown = {"jsonrpc": "2.0", "id": 1, "method": "craft/drain", "params": {}}
    (said,) = owed(ear.hear(unknown))
    assert (said["id"], said["error"]["code"]) == (1, -32601)


def test_a_withdrawn_request_and_the_end_of_a_turn_settle():
    ear = Ear()
    ear.greet()
    ear.dialect.sent("u1")
    ear.hear(ask(0), ask(1))
    gone = {"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": 1}}
    assert ear.hear(gone) == [PermissionSettled("1")]
    facts = ear.hear(answer("u1", {"stopReason": "cancelled"}))
    assert PermissionSettled("0") in facts


def test_what_is_open_is_found_behind_the_end_of_any_turn():
    ear = Ear()  # which has neither heard the handshake nor sent a thing
    facts = ear.hear(ask(0), answer("u1", {"stopReason": "end_turn"}), ask(0))
    kinds = [PermissionAsked, PermissionSettled, TurnOver, PermissionAsked]
    assert [type(fact) for fact in facts] == kinds


def test_a_tool_that_says_it_runs_while_it_waits_is_decided():
    """OpenCode says so behind its question at times."""
    ear = Ear()
    ear.greet()
    ear.hear(ask(0), update("tool_call_update", toolCallId="t1", status="in_progress"))
    done = update("tool_call_update", toolCallId="t1", status="completed")
    assert ear.hear(done) == [PermissionSettled("0")]


def test_an_answer_by_somebody_else_settles():
    ear = Ear()
    ear.greet()
    ear.dialect.sent("u1")
    facts = ear.hear(ask(0), update("tool_call_update", toolCallId="t1", status="completed"))
    assert [type(fact) for fact in facts] == [PermissionAsked, MessageRead, PermissionSettled]


# -- the truth of a turn


def test_text_behind_the_last_tool_of_the_last_message_is_the_answer():
    turn = turn_of(
        chunk("I begin", "a"),
        update("tool_call", toolCallId="t"),
        chunk("still", "b"),
        chunk("do", "c"),
        chunk("ne", "c"),
    )
    assert (turn.outcome, turn.text) == ("completed", "done")
    assert turn.evidence == "stopReason end_turn only"


@pytest.mark.parametrize(
    ("end", "outcome"),
    [("refusal", "refused"), ("max_tokens", "cut"), ("something new", "cut"), (None, "cut")],
)
def test_no_other_stop_reason_is_completed(end, outcome):
    turn = turn_of(chunk("half"), end=end)
    assert (turn.outcome, turn.text) == (outcome, "")


def test_an_end_without_a_word_is_empty_and_a_deed_is_enough():
    assert turn_of().outcome == "empty"
    failed = update("tool_call_update", toolCallId="t", status="failed")
    assert turn_of(failed).outcome == "empty"
    done = update("tool_call_update", toolCallId="t", status="completed")
    assert turn_of(done).outcome == "completed"


def test_a_cancel_that_nobody_asked_for_is_not_done():
    turn = turn_of(chunk("half"), end="cancelled")
    assert (turn.outcome, turn.failure) == ("cancelled", "cancelled by the agent itself")


def test_a_cancelled_retry_that_says_end_turn_is_cancelled():
    ear = Ear()
    ear.greet()
    ear.dialect.sent("u1")
    ear.hear(chunk("text"))
    ear.dialect.interruption("i")
    *_, over = ear.hear(answer("u1", {"stopReason": "end_turn"}))
    assert over.turn.outcome == "cancelled"


def test_an_api_error_told_as_text_is_no_answer():
    codex = turn_of(chunk("stream error"), agent="@agentclientprotocol/codex-acp", usage=None)
    assert (codex.outcome, codex.failure) == ("failed", "stream error")
    copilot = turn_of(chunk("Error: 500"), agent="Copilot", usage={"totalTokens": 0})
    assert (copilot.outcome, copilot.failure) == ("failed", "Error: 500")
    opencode = turn_of(chunk("hm"), agent="OpenCode", usage={"inputTokens": 0})
    assert opencode.outcome == "failed"


def test_cumulative_usage_that_has_not_grown_is_no_answer():
    ear = Ear()
    ear.greet("Copilot")
    outcomes = []
    for uuid, total in ("u1", 10), ("u2", 10), ("u3", 20):
        ear.dialect.sent(uuid)
        end = answer(uuid, {"stopReason": "end_turn", "usage": {"totalTokens": total}})
        *_, over = ear.hear(chunk("text"), end)
        outcomes.append(over.turn.outcome)
    assert outcomes == ["completed", "failed", "completed"]


def test_a_notice_is_not_the_answer():
    turn = turn_of(chunk("Info: Retrying"), chunk("yes"), agent="Copilot", usage={"totalTokens": 1})
    assert turn.text == "yes"


def test_a_successor_learns_the_end_of_a_turn_it_did_not_start():
    front = wire.prompt("s1", "u-1", 'say "hi" \u2028 \U0001f600 and more')[:-20]
    message = wire.message_of(front)
    assert message is not None
    assert message.uuid == "u-1"
    assert message.text.startswith('say "hi"')
    assert wire.message_of(wire.initialize()) is None
    assert wire.message_of(wire.cancel("s1")) is None


# -- whatever it writes

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.text("ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "method",
                    "params",
                    "result",
                    "error",
                    "update",
                    "sessionUpdate",
                    "toolCall",
                    "content",
                    "toolCallId",
                    "status",
                    "sessionId",
                    "modes",
                    "availableModes",
                    "options",
                    "agentInfo",
                    "usage",
                    "stopReason",
                    "requestId",
                ]
            ),
            inner
            | st.sampled_from(
                [
                    "u1",
                    0,
                    "session/update",
                    "session/request_permission",
                    "$/cancel_request",
                    wire.INITIALIZE,
                    wire.SESSION,
                    wire.MODE,
                    "tool_call",
                    "agent_message_chunk",
                    "end_turn",
                ]
            ),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=6))
def test_nothing_that_it_writes_raises(events):
    ear = Ear()
    ear.greet()
    ear.dialect.sent("u1")
    ear.hear(*events, ask(0), *events)
